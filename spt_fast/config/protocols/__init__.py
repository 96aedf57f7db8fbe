"""Protocols: the ways of asking that a grid can name. Frozen values, checked when built; no torch, nothing heavy.

A field's docstring is its help; beside it stand the values that it may have (`ranges`), which are checked whoever builds it.
A protocol is one class and one line below; other packages add theirs by an entry point of the group `spt_fast.protocols`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin

from spt_fast.config import plugins
from spt_fast.config.protocols.base import AUTO, Protocol, is_unused
from spt_fast.config.protocols.learning import OPTIMIZERS, RATE, Learning, Schedule
from spt_fast.config.protocols.lora import Lora
from spt_fast.config.protocols.plain import FewShot, ZeroShot
from spt_fast.config.protocols.soft_prompt import (
    COLD_STEPS,
    ENCODER_RATE,
    PAPER,
    PRESETS,
    PREVIOUS,
    STARTS_FROM,
    Encoder,
    Ensemble,
    Init,
    PatienceOn,
    Place,
    RandomVectors,
    ShuffledLabels,
    SoftPromptConfig,
    Transfer,
    Vectors,
    with_preset,
    with_start,
)
from spt_fast.config.strict import hints
from spt_fast.errors import ConfigError, SptError, in_words

__all__ = [
    "AUTO",
    "COLD_STEPS",
    "ENCODER_RATE",
    "OPTIMIZERS",
    "PAPER",
    "PRESETS",
    "PREVIOUS",
    "PROTOCOLS",
    "RATE",
    "STARTS_FROM",
    "Encoder",
    "Ensemble",
    "FewShot",
    "Init",
    "Learning",
    "Lora",
    "PatienceOn",
    "Place",
    "Protocol",
    "RandomVectors",
    "Schedule",
    "ShuffledLabels",
    "SoftPromptConfig",
    "Transfer",
    "Vectors",
    "ZeroShot",
    "is_unused",
    "protocol_of",
    "with_preset",
    "with_start",
]


def _checked(name: str, found: Any) -> type[Protocol]:
    if not (isinstance(found, type) and issubclass(found, Protocol)):
        raise ConfigError("is no protocol; derive a class from spt_fast.config.Protocol")
    if not (is_dataclass(found) and "__dataclass_fields__" in vars(found) and found.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise ConfigError("is no frozen dataclass; write @dataclass(frozen=True, kw_only=True) above the class")
    for base, does in (
        (Vectors, found.attaches == "soft_prompt"),
        (Lora, found.attaches == "adapter"),
        (Learning, found.learns),
    ):
        if does and not issubclass(found, base):
            raise ConfigError(f"learns or attaches something, and is not derived from {base.__name__}")
    if issubclass(found, Learning) and not issubclass(found, SoftPromptConfig | Lora):
        raise ConfigError("learns; derive it from SoftPromptConfig or Lora, which know what")
    _check_settings(found)
    if found.name != name:
        raise ConfigError(f"its name is {found.name!r}; the entry point and the protocol have one name")
    return found


def _check_settings(cls: type[Protocol]) -> None:
    try:
        types_of = hints(cls)
    except Exception as e:
        raise ConfigError(f"the types of its settings cannot be read ({in_words(e)})") from None
    for f in fields(cls):
        if _changes_in_place(types_of[f.name]):
            raise ConfigError(f"its setting {f.name} is of a type that changes in place; declare a list as tuple[str, ...]")


def _changes_in_place(kind: Any) -> bool:
    """Whether values of a type may be without a hash: protocols are compared and kept by theirs."""
    return (get_origin(kind) or kind) in (list, dict, set) or any(_changes_in_place(each) for each in get_args(kind))


PROTOCOLS: plugins.Plugins[type[Protocol]] = plugins.Plugins(
    plugins.PROTOCOLS,
    "protocol",
    {p.name: p for p in (ZeroShot, FewShot, SoftPromptConfig, Ensemble, ShuffledLabels, RandomVectors, Transfer, Lora)},
    _checked,
)
"""By name, in the order in which they are listed."""


def protocol_of(label: str) -> type[Protocol]:
    """The protocol of a label, for its traits: `soft_prompt[length=5]` is of `SoftPromptConfig`.

    A run folder may name one of a package that is not installed here: of that the name is known, and nothing else.
    """
    name = label.partition("[")[0]
    try:
        return PROTOCOLS[name]
    except (KeyError, SptError):
        return _unknown(name)


@cache
def _unknown(name: str) -> type[Protocol]:
    return type("Unknown", (Protocol,), {"name": name})
