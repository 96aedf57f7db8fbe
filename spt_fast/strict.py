"""Plain values, from YAML, to frozen dataclasses, strictly: an unknown key, a wrong type is one error that names its place.

What grid.yaml and a user's task file are read with.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from datetime import date
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from spt_fast.errors import ConfigError

T = TypeVar("T")


def safe_yaml(text: str) -> Any:
    """YAML as plain values; no tag runs code, and no key is there twice.

    Raises:
        ConfigError: with line and column.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _no_repeated_keys(node)
        return yaml.safe_load(text)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where}not YAML: {e.problem or e.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise ConfigError(f"not YAML: {str(e).splitlines()[0] if str(e) else type(e).__name__}") from None


def _no_repeated_keys(node: yaml.Node) -> None:
    """YAML itself lets the later of two equal keys win, silently."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConfigError(f"line {key.start_mark.line + 1}: key {key.value!r} is there twice")
                seen.add(key.value)
            _no_repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _no_repeated_keys(item)


def read(cls: type[T], mapping: Mapping[Any, Any], place: str) -> T:
    """Build a config dataclass from a mapping: known keys only, each of its declared type."""
    known_keys(mapping, cls, place)
    hints = get_type_hints(cls)
    known = {key_of(f): f for f in fields(cls)}  # type: ignore[arg-type]
    for key, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and key not in mapping:
            raise ConfigError(f"{place}.{key}: is missing")
    values = {known[key].name: _value(hints[known[key].name], value, f"{place}.{key}") for key, value in mapping.items()}
    try:
        return cls(**values)
    except ConfigError as e:
        raise ConfigError(f"{place.rsplit('.', 1)[0] if str(e).startswith(place.rsplit('.', 1)[-1]) else place}.{e}") from None


def key_of(f: Field[Any]) -> str:
    """What YAML calls a field: its name, or `from`, which Python keeps for itself."""
    key: str = f.metadata.get("key", f.name)
    return key


def _value(hint: Any, value: Any, place: str) -> Any:
    """`value` as the declared type `hint`, or an error; never a guess beyond 1 -> 1.0 and "1e-3" -> 0.001."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        rest = [arg for arg in args if arg is not type(None)]
        if len(rest) == 1:
            return _value(rest[0], value, place)
        words = [word for arg in rest if get_origin(arg) is Literal for word in get_args(arg)]
        if words and len(rest) == 2:
            return _or_word(rest[0], words, value, place)
        return value  # checked by the caller: data_files
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{place}: must be {' or '.join(map(str, args))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{place}: must be a list, {not_this(value)}")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise ConfigError(f"{place}: must have {len(args)} values, not {len(value)}")
        return tuple(_value(args[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        return dict(mapping_of(value, place))
    return scalar(hint, value, place)


def _or_word(kind: type[T], words: Sequence[str], value: Any, place: str) -> T | str:
    """A number, or one of some words in its place (`lr: auto`)."""
    if isinstance(value, str) and value in words:
        return value
    try:
        return scalar(kind, value, place)
    except ConfigError as e:
        raise ConfigError(str(e).replace(", not ", f" or {' or '.join(words)}, not ", 1)) from None


def scalar(kind: type[T], value: Any, place: str) -> T:
    """A number, text, or true or false, of the kind that is wanted. 1 is 1.0 and "1e-3" 0.001; nothing else is changed."""
    if kind is float and not isinstance(value, bool):
        if isinstance(value, int | float):
            return float(value)  # type: ignore[return-value]
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
            return float(value)  # type: ignore[return-value]  # YAML 1.1 reads 1e-3 as text
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if kind is str and isinstance(value, date):
        raise ConfigError(f'{place}: must be text; put the day in quotes: "{value}"')
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ConfigError(f"{place}: must be {words.get(kind, kind.__name__)}, {not_this(value)}")


def mapping_of(value: Any, place: str, what: str = "a mapping") -> Mapping[Any, Any]:
    """The value, if it is a mapping."""
    if isinstance(value, Mapping):
        return value
    raise ConfigError(f"{place}: must be {what}, {not_this(value)}")


def filled(value: Any, place: str) -> list[Any]:
    """The value, if it is a list with something in it."""
    if not isinstance(value, list):
        raise ConfigError(f"{place}: must be a list, {not_this(value)}")
    if not value:
        raise ConfigError(f"{place}: is empty; name at least one")
    return value


def known_keys(mapping: Mapping[Any, Any], cls: type[Any], place: str) -> None:
    """Refuse a key that the dataclass has no field for."""
    names = [key_of(f) for f in fields(cls)]
    for key in mapping:
        if key not in names:
            where = f"{place}: " if place != "grid" else ""
            close = did_you_mean(str(key), names) or f"; there are {', '.join(names)}"
            raise ConfigError(f"{where}unknown key {key!r}{close}")


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a sentence about a word that is none of `words`; empty where none is close."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def not_this(value: Any) -> str:
    """The end of a sentence about a value of the wrong type: "not text ('many')"."""
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    shown = f" ({value!r})" if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    return f"not {kinds.get(type(value), type(value).__name__)}{shown}"
