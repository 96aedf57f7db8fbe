"""Plain values, from YAML, to frozen dataclasses, strictly: an unknown key, a wrong type is one error that names its place.

What grid.yaml, a policy and a user's task file are read with. What values a field may have is declared beside it (`ranges`).
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from spt_fast.config.ranges import FINITE, Allowed, Range, range_of, require
from spt_fast.errors import MOST_TOLD, ConfigError, shortened

T = TypeVar("T")


class Mistakes:
    """What is wrong with parts that do not depend on one another, to be told together."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, each once."""
        return tuple(self._found)

    @contextmanager
    def part(self, place: str = "") -> Iterator[None]:
        """What is done inside may find a mistake, and what comes after it is done all the same.

        Args:
            place: to stand in front of it.
        """
        try:
            yield
        except ConfigError as e:
            self.add(*(e.within(place) if place else e).sentences)

    def add(self, *sentences: str) -> None:
        """Take these too."""
        self._found |= dict.fromkeys(sentences)

    def of(self, items: Iterable[Any], read: Callable[[int, Any], T]) -> dict[int, T]:
        """What reading each item gives, as far as it can be read; of very many mistakes, the first will do.

        Args:
            items: a list.
            read: the place of an item in the list, and the item -> what it is.

        Returns:
            By place in the list.
        """
        found = {}
        for i, item in enumerate(items):
            if len(self._found) >= MOST_TOLD:
                break
            with self.part():
                found[i] = read(i, item)
        return found

    def tell(self) -> None:
        """
        Raises:
            ConfigError: all that was found, if anything was.
        """
        if self._found:
            raise ConfigError(*self._found)


def read(cls: type[T], mapping: Mapping[Any, Any], place: str) -> T:
    """Build a config dataclass from a mapping: known keys only, each of its declared type.

    Raises:
        ConfigError: all that is wrong with single keys; or else how they do not go together.
    """
    mistakes, types_of, values = Mistakes(), hints(cls), {}
    known = {key_of(f): f for f in fields(cls)}  # type: ignore[arg-type]
    needed = [key for key, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    with mistakes.part():
        known_keys(mapping, cls, place)
    mistakes.add(*(f"{place}.{key}: is missing" for key in missing(mapping, needed, known)))
    for key, value in mapping.items():
        if key in known:
            with mistakes.part():
                values[known[key].name] = _value(types_of[known[key].name], value, f"{place}.{key}", range_of(known[key]))
    mistakes.tell()
    try:
        return cls(**values)
    except ConfigError as e:
        raise e.reworded(lambda sentence: _inside(place, sentence)) from None


def _inside(place: str, sentence: str) -> str:
    """What a class says of itself, behind the place of the mapping: a protocol's own sentences begin with its name."""
    outer, _, last = place.rpartition(".")
    return f"{outer or place}.{sentence}" if sentence.startswith(last) else f"{place}.{sentence}"


def value_of(cls: type[Any], key: str, value: Any, place: str) -> Any:
    """One value of a config dataclass, of its declared type and in its range, whatever stands beside it."""
    (f,) = (f for f in fields(cls) if key_of(f) == key)
    return _value(hints(cls)[f.name], value, f"{place}.{key}", range_of(f))


_HINTS: dict[type[Any], dict[str, Any]] = {}


def hints(cls: type[Any]) -> dict[str, Any]:
    """The types of a class's fields, by name; looked up once, because a sweep builds thousands of one class."""
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


def is_list(kind: Any) -> bool:
    """Whether a type is a list in YAML."""
    return get_origin(kind) is tuple


def key_of(f: Field[Any]) -> str:
    """What YAML calls a field: its name, or `from`, which Python keeps for itself."""
    key: str = f.metadata.get("key", f.name)
    return key


def _value(hint: Any, value: Any, place: str, allowed: Allowed | None) -> Any:
    """`value` as the declared type `hint` and in its range, or an error; no guess beyond 1 -> 1.0 and "1e-3" -> 0.001."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of_types(args, value, place, allowed)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{place}: must be {' or '.join(map(str, args))}, not {shortened(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{place}: must be a list, {not_this(value)}{_as_list(value, place)}")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise ConfigError(f"{place}: must have {len(args)} values, not {len(value)}")
        return tuple(_value(args[0], item, f"{place}[{i}]", allowed) for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        return dict(mapping_of(value, place))
    return scalar(hint, value, place, allowed)


def _one_of_types(kinds: Sequence[Any], value: Any, place: str, allowed: Allowed | None) -> Any:
    """Null, a word that is declared, or the one other type; of several other types, what the caller is to look at."""
    if value is None and type(None) in kinds:
        return None
    words = [word for hint in kinds if get_origin(hint) is Literal for word in get_args(hint)]
    if isinstance(value, str) and value in words:
        return value
    rest = [hint for hint in kinds if hint is not type(None) and not (words and get_origin(hint) is Literal)]
    if words and not rest:
        raise ConfigError(f"{place}: must be {' or '.join(map(str, words))}, not {shortened(value)}")
    return _value(rest[0], value, place, allowed) if len(rest) == 1 else value


def scalar(kind: type[T], value: Any, place: str, allowed: Allowed | None = None) -> T:
    """A number, text, or true or false, of the kind that is wanted, and in its range; without one, a number is finite.

    1 is 1.0 and "1e-3" 0.001, which YAML 1.1 reads as text; nothing else is changed.
    """
    if kind is float and isinstance(value, str) and re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)[eE][+-]?\d+", value):
        value = float(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not ((isinstance(value, kind) and (kind is bool or not isinstance(value, bool))) or (kind is float and number)):
        words: dict[type[Any], str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        beside = "".join(f" or {word}" for word in allowed.words) if isinstance(allowed, Range) else ""
        wanted = words.get(kind, kind.__name__) + beside
        raise ConfigError(f"{place}: must be {wanted}, {not_this(value)}")
    if allowed is not None or number:
        require(FINITE if allowed is None else allowed, value, place)
    # What is large enough to overflow has no range to be in; and there is one zero, because a cell's key would know of two.
    return float(value) + 0.0 if kind is float else value  # type: ignore[return-value]


def mapping_of(value: Any, place: str, what: str = "a mapping") -> Mapping[Any, Any]:
    """The value, if it is a mapping."""
    if isinstance(value, Mapping):
        return value
    raise ConfigError(f"{place}: must be {what}, {not_this(value)}{_as_mapping(place) if what == 'a mapping' else ''}")


_DOCUMENTS = ("grid", "file", "policy")
"""Places that are a whole file, and have no key."""


def _as_mapping(place: str) -> str:
    """The end of a sentence about something else where a mapping belongs: how one is written."""
    key = place.rpartition(".")[2]
    return f"; write {key}: {{key: value}}" if key.isidentifier() and key not in _DOCUMENTS else ""


def _as_list(value: Any, place: str) -> str:
    """The end of a sentence about one value where a list belongs: how it is written; empty where that says nothing."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"; write {place.rpartition('.')[2]}: [{value}]"
    if not isinstance(value, str | dict) or not value:
        return ""
    plain = isinstance(value, str) and re.fullmatch(r"\w[\w./-]{0,60}", value)
    return f"; write {place.rpartition('.')[2]}: [{value if plain else '...'}]"


def filled(value: Any, place: str) -> list[Any]:
    """The value, if it is a list with something in it."""
    if not isinstance(value, list):
        raise ConfigError(f"{place}: must be a list, {not_this(value)}{_as_list(value, place)}")
    if not value:
        raise ConfigError(f"{place}: is empty; name at least one")
    return value


@dataclass(frozen=True)
class Home:
    """Where keys are at home: the class that has a field for each, or the names alone."""

    of: str
    """What has them, to stand behind "of": a task."""
    call: str
    """What one of them is: "a setting of soft_prompt"."""
    where: str
    """How it is written there, with {key}: `written` fills it in."""
    keys: tuple[str, ...]
    cls: type[Any] | None = None
    """The class, where there is one."""

    def written(self, key: str) -> str:
        """How a key is written there; the key that names the rest stands there once."""
        return self.where.format(key=key).replace(f"{key}: ..., {key}: ...", f"{key}: ...")


_HOMES: dict[str, Home] = {}


def home(keys: type[Any] | Iterable[str], *, of: str, call: str = "", where: str) -> None:
    """Tell where keys belong, for those who write one elsewhere. The first that has a key is named first.

    Args:
        keys: a dataclass, or names.
        of: what has them: "a task".
        call: what one of them is; empty: "a key of " and that.
        where: how one is written, with {key}: "tasks: [{{task: ..., {key}: ...}}]".
    """
    cls = keys if isinstance(keys, type) else None
    names = tuple(key_of(f) for f in fields(keys)) if isinstance(keys, type) else tuple(keys)
    _HOMES[of] = Home(of, call or f"a key of {of}", where, names, cls)


def belongs(key: str, there: Iterable[str] = ()) -> str:
    """The end of a sentence about a key that is known elsewhere; empty where it is nowhere.

    Args:
        key: the key.
        there: the keys that are known where it stands.
    """
    homes = [each for each in _HOMES.values() if key in each.keys and set(each.keys) != set(there)]
    if not homes:
        return ""
    first, *others = homes
    also = next((f", and {each.call} ({each.written(key)})" for each in others if _differs(first, each)), "")
    return f"; it is {first.call} ({first.written(key)}){also}"


def _differs(first: Home, other: Home) -> bool:
    """Whether it is worth naming both: not where both are protocols."""
    return first.call.partition(" of ")[0] != other.call.partition(" of ")[0] or not first.call.startswith("a setting")


def known_keys(mapping: Mapping[Any, Any], cls: type[Any], place: str) -> None:
    """Refuse keys that the dataclass has no field for, and say where each belongs."""
    names = [key_of(f) for f in fields(cls)]
    unknown = [key for key in mapping if key not in names][:MOST_TOLD]
    if unknown:
        raise ConfigError(*(_unknown(key, names, cls, place) for key in unknown))


def _unknown(key: Any, names: Sequence[str], cls: type[Any], place: str) -> str:
    """What is wrong with a key that the dataclass has no field for."""
    where = f"{place}: " if place != "grid" else ""
    of = next((f" of {each.of}" for each in _HOMES.values() if each.cls is cls), "")
    elsewhere = belongs(str(key), names)
    # What is at home elsewhere is no slip, unless it is one letter from what is here.
    close = did_you_mean(str(key), names, 0.85 if elsewhere else 0.6)
    if close and elsewhere:
        elsewhere = f" Or{elsewhere.removeprefix(';')}"
    there = "" if elsewhere or close else f"; choose from {', '.join(names)}"
    return f"{where}unknown key {shortened(key)}{of if elsewhere else ''}{close}{elsewhere}{there}"


def missing(mapping: Mapping[Any, Any], needed: Iterable[str], known: Iterable[str]) -> list[str]:
    """The needed keys that are not there, but for those that an unknown key is probably meant to be."""
    names = list(known)
    unknown = [str(key) for key in mapping if key not in names][:MOST_TOLD]
    meant = {_closest(key, names, 0.6) for key in unknown}
    return [key for key in needed if key not in mapping and key not in meant]


OTHER_NAMES = {
    "vectors": "length",
    "num_virtual_tokens": "length",
    "num_vectors": "length",
    "prompt_length": "length",
    "learning_rate": "lr",
    "train_steps": "steps",
    "max_steps": "steps",
    "bs": "batch_size",
    "num_fewshot": "shots",
    "n_shots": "shots",
    "k": "shots",
    "max_samples": "limit",
    "num_samples": "limit",
    "seed": "seeds",
    "model": "models",
    "gpu_memory": "gpu_memory_utilization",
}
"""What other tools, and our own texts, call a key."""


def did_you_mean(word: str, words: Iterable[str], least: float = 0.6) -> str:
    """The end of a sentence about a word that is none of `words`; empty where none is close, `least` of 1 or more alike."""
    close = _closest(word, list(words), least)
    return "" if close is None else f"; did you mean {close!r}?"


def _closest(word: str, known: Sequence[str], least: float) -> str | None:
    """The one of the known words that is meant, probably."""
    if OTHER_NAMES.get(word) in known:
        return OTHER_NAMES[word]
    return next(iter(difflib.get_close_matches(word[:200], known, 1, least)), None)


def not_this(value: Any) -> str:
    """The end of a sentence about a value of the wrong type: "not text ('many')"."""
    kinds: dict[type[Any], str] = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        type(None): "nothing",
        int: "a whole number",
        float: "a number",
    }
    given = f" ({shortened(value)})" if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    return f"not {kinds.get(type(value), type(value).__name__)}{given}"
