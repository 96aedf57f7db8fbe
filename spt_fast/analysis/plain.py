"""What an analysis came to, as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def plain_values(value: Any) -> Any:
    """Dataclasses and named tuples as mappings, their public properties included; what is no finite number is None.

    Args:
        value: anything that this package returns.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_values(each) for key, each in value.items()}
    if is_dataclass(value):
        names = [f.name for f in fields(value)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        names = list(value._fields)
    else:
        return [plain_values(each) for each in value]
    names += [
        name for name in dir(type(value)) if not name.startswith("_") and isinstance(getattr(type(value), name), property)
    ]
    return {name: plain_values(getattr(value, name)) for name in names}
