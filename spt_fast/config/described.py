"""What stands in the source beside each field of a config class: its type, range, default and help.

The JSON Schema of grid.yaml (`schema`) and the reference pages of the documentation are made of this, so neither can differ
from what the reader takes.
"""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any

from spt_fast.config.ranges import Allowed, range_of
from spt_fast.config.strict import hints, key_of


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of a mapping in YAML."""

    name: str
    """As YAML has it."""
    field: str
    """As the dataclass has it."""
    kind: Any
    """Its type."""
    allowed: Allowed | None
    """The values that it may have, beyond its type."""
    default: Any
    """What it is where it is left out; `dataclasses.MISSING`: it must be given."""
    meaning: str
    """Its help, in Markdown, on one line."""
    goes_with: tuple[str, tuple[Any, ...]] | None
    """It has a meaning only where the field of this name has one of these values; none: where it is not null."""

    @property
    def needed(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING


def keys(cls: type[Any]) -> tuple[Key, ...]:
    """The keys of a config class, in the order of its source."""
    meant = _meanings(cls)
    return tuple(
        Key(
            name=key_of(f),
            field=f.name,
            kind=hints(cls)[f.name],
            allowed=range_of(f),
            default=f.default_factory() if f.default_factory is not MISSING else f.default,
            meaning=meant.get(f.name, ""),
            goes_with=f.metadata.get("goes_with"),
        )
        for f in fields(cls)
    )


_MEANINGS: dict[type[Any], dict[str, str]] = {}


def _meanings(cls: type[Any]) -> dict[str, str]:
    """The docstring of each field, with that of its type where that one has a name and a docstring of its own.

    Of a class whose source is not there, typed in a notebook for one, there are none.
    """
    if cls in _MEANINGS:
        return _MEANINGS[cls]
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__[:-1]):
        try:
            module = ast.parse(inspect.getsource(sys.modules[each.__module__]))
        except (OSError, TypeError):
            continue
        types = _documented(module.body)
        body = next(node for node in ast.walk(module) if isinstance(node, ast.ClassDef) and node.name == each.__name__).body
        for name, (annotation, text) in _documented(body).items():
            found[name] = " ".join([text, *(said for alias, (_, said) in types.items() if alias == annotation)])
    return _MEANINGS.setdefault(cls, found)


def _documented(body: list[ast.stmt]) -> dict[str, tuple[str, str]]:
    """Name -> (annotation, docstring on one line), of the statements that a string follows."""
    return {
        statement.target.id: (ast.unparse(statement.annotation), " ".join(inspect.cleandoc(text.value.value).split()))
        for statement, text in pairwise(body)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
