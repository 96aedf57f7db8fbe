"""Which implementation of an operation runs."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Impl: TypeAlias = Literal["auto", "reference"]
"""`reference`: the definition, in plain PyTorch. `auto`: the fastest there is;
today that is the reference."""


def resolve(impl: Impl) -> Literal["reference"]:
    """The implementation that `impl` stands for.

    Raises:
        ValueError: there is no such implementation.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {', '.join(get_args(Impl))}, not {impl!r}")
    return "reference"
