"""What values a field may have, declared beside the field (`metadata=whole(least=1, most=100)`) and checked by one function.

The declaration is plain data: what checks a value, what says in an error which values there are, a schema and the docs read it
there (`range_of`). A number is finite and in its range; a text is not longer than what it names can be.
"""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, TypeAlias

from spt_fast.errors import ConfigError, shortened


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a field may have. Without bounds: all that are finite."""

    least: float | None = None
    """The smallest; `above`: all are larger."""
    above: float | None = None
    most: float | None = None
    """The largest; `below`: all are smaller."""
    below: float | None = None
    whole: bool = False
    """Whole numbers only."""
    words: tuple[str, ...] = ()
    """What may stand in place of a number: auto."""
    note: str = ""
    """What the number is, where its name does not tell: "a share (0.01 is one point)"."""

    def has(self, value: object) -> bool:
        """Whether it is one of them; true, false, NaN and the infinite are not."""
        if isinstance(value, str):
            return value in self.words
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        number: Any = value
        if not self.whole and abs(number) > sys.float_info.max:  # an integer that is no float
            return False
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        """ "a number above 0 and at most 1000", to stand behind "must be"."""
        kind = "a whole number" if self.whole else "a number" if self._bounds else "a finite number"
        bounds = f" {self._bounds}" if self._bounds else ""
        words = "".join(f" or {word}" for word in self.words)
        return f"{kind}{bounds}{words}{f', {self.note}' if self.note else ''}"

    @property
    def _bounds(self) -> str:
        if self.least is not None and self.most is not None:
            return f"from {_plain(self.least)} to {_plain(self.most)}"
        if self.above is not None and self.below is not None:
            return f"between {_plain(self.above)} and {_plain(self.below)}"
        if self.least is not None and self.below is not None:
            return f"from {_plain(self.least)} to below {_plain(self.below)}"
        parts = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        return " and ".join(f"{word} {_plain(bound)}" for word, bound in parts if bound is not None)


@dataclass(frozen=True, kw_only=True)
class Text:
    """The texts that a field may have: a name, or with `path` what may be one of a file, a folder or a URL."""

    most: int
    """Characters."""
    path: bool = False
    """No part between two slashes is longer than file systems take, and no character of it ends a line."""
    empty: bool = False
    """Whether it may be empty."""

    def has(self, value: object) -> bool:
        """Whether it is one of them."""
        if isinstance(value, PurePath):
            value = str(value)
        # What is no text is for the reader to refuse: a field may have either.
        return not isinstance(value, str) or not self._wrong(value)

    def __str__(self) -> str:
        """To stand behind "must be"."""
        if not self.path:
            return f"text of at most {self.most} characters"
        if self.most <= PART:
            return f"one line of at most {self.most} bytes"
        return f"a path of at most {self.most} bytes, with at most {PART} from slash to slash, on one line"

    def _wrong(self, value: str) -> bool:
        if not self.empty and not value.strip():
            return True
        if not self.path:
            return len(value) > self.most
        encoded = value.encode(errors="replace")
        return len(encoded) > self.most or max(map(len, encoded.split(b"/"))) > PART or any(map(is_control, value))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The words that a field may have, and no other value."""

    words: Collection[str]

    def has(self, value: object) -> bool:
        """Whether it is one of them."""
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        """To stand behind "must be"."""
        return f"one of {', '.join(self.words)}"


PART = 255
"""Bytes of one part of a path; what Linux's file systems take."""

Allowed: TypeAlias = Range | Text | Choice
FINITE = Range()
SEED = Range(least=-(2**53) + 1, most=2**53 - 1, whole=True)
"""Whole numbers that every reader of JSON keeps as they are."""
SCORE = Range(least=-1e15, most=1e15)
"""What a benchmark may come to, a perplexity too; sums of squares of these are finite."""
ANY_NUMBER = Range(least=-(2**63), most=2**63 - 1)
"""Of settings that others read: what their integers can hold."""


def number(
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    words: tuple[str, ...] = (),
    note: str = "",
) -> dict[str, Any]:
    """Metadata of a field that is a number, or one of some words."""
    return {"range": Range(least=least, above=above, most=most, below=below, words=words, note=note)}


def whole(*, least: int, most: int, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Metadata of a field that is a whole number."""
    return {"range": Range(least=least, most=most, whole=True, words=words)}


def one_of(*words: str) -> dict[str, Any]:
    """Metadata of a field that is one of some words."""
    return {"range": Choice(words=words)}


def name_in(table: Collection[str]) -> dict[str, Any]:
    """Metadata of a field that is a name in a table, which packages may add to (`plugins.Plugins`)."""
    return {"range": Choice(words=table)}


def text(most: int, *, empty: bool = False) -> dict[str, Any]:
    """Metadata of a field that is a text of at most so many characters."""
    return {"range": Text(most=most, empty=empty)}


def path(most: int = 4000, *, empty: bool = False) -> dict[str, Any]:
    """Metadata of a field that may name a file, a folder or a URL."""
    return {"range": Text(most=most, path=True, empty=empty)}


def range_of(f: Field[Any]) -> Allowed | None:
    """What is declared beside a field; of a list or a mapping, of each of its values."""
    found: Allowed | None = f.metadata.get("range")
    return found


def check(values: Any, place: str = "") -> None:
    """Refuse a dataclass of which a field has a value that is not in its range. Null stands for a value that is not given.

    Raises:
        ConfigError: "soft_prompt.lr: must be a number above 0 and at most 1000, not inf".
    """
    wrong = []
    for f in fields(values):
        allowed = range_of(f)
        if allowed is not None:
            name = f"{place}{f.metadata.get('key', f.name)}"
            wrong += [refusal(allowed, value, name + suffix) for suffix, value in _each(getattr(values, f.name))]
    if any(wrong):
        raise ConfigError(*filter(None, wrong))


def require(allowed: Allowed, value: object, place: str) -> None:
    """Refuse a value that is not in a range.

    Raises:
        ConfigError: it is not.
    """
    if wrong := refusal(allowed, value, place):
        raise ConfigError(wrong)


def refusal(allowed: Allowed, value: object, place: str) -> str:
    """What is wrong with a value; empty where nothing is."""
    if allowed.has(value):
        return ""
    if isinstance(allowed, Text) and not str(value).strip():
        return f"{place}: must not be empty"
    return f"{place}: must be {allowed}, not {shortened(value)}"


def require_plain(value: object, place: str) -> None:
    """Refuse what JSON cannot hold, or a number that no other program could: settings that are passed on as they are.

    Raises:
        ConfigError: with the place inside the value.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{place}: key {shortened(key)} must be text; write it in quotation marks")
            require_plain(inner, f"{place}.{part_of_place(key)}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            require_plain(inner, f"{place}[{i}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        require(ANY_NUMBER, value, place)
    elif not (value is None or isinstance(value, str | bool)):
        raise ConfigError(f"{place}: must be a number, text, a list or a mapping, not {type(value).__name__}")


def _each(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((f".{part_of_place(str(key))}", item) for key, item in value.items())
    elif value is not None:
        yield "", value


def is_control(character: str) -> bool:
    """Whether a character steers a terminal, or is half of one: no text that a person writes has it, lines and tabs apart."""
    return unicodedata.category(character) in ("Cc", "Cs")


def part_of_place(key: str) -> str:
    """A key as a part of a place: a long one is cut."""
    return key if len(key) <= 60 and key.isprintable() else shortened(key, 60)


_GREAT = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"))


def in_words(count: int) -> str:
    """A count as a person says it: 1.2 billion, 10 million, 9,500."""
    for size, name in _GREAT:
        if count >= size:
            return f"{_plain(round(count / size, 1))} {name}" if count < 10**15 else f"10^{len(str(count)) - 1}"
    return f"{count:,}"


def _plain(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else re.sub(r"\.0$", "", f"{bound:.10g}")
