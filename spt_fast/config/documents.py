"""Files that people write -> plain values: the one door for their YAML and JSON. Nothing in them is run, and nothing grows.

YAML is read event by event: a bomb of aliases, a tag, a nest without end is refused where it stands, with its line.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import yaml

from spt_fast.config.ranges import in_words
from spt_fast.errors import ConfigError, shortened

MOST_BYTES = 16 << 20
"""Of a file that a person writes."""
MOST_VALUES = 300_000
"""Values of a YAML file; what an alias stands for counts each time."""
MOST_DEPTH = 64
"""Lists and mappings inside each other."""
MOST_DIGITS = 1000
"""Of a whole number."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
"""What steers a terminal, or is half a character."""
_HALF = re.compile("[\ud800-\udfff]")


def read_text(path: str | PathLike[str], *, most: int = MOST_BYTES, missing: str = "no such file") -> str:
    """The text of a file: UTF-8, with or without a mark of the byte order.

    Args:
        path: a file, or what another command writes (`<(command)`).
        most: bytes.
        missing: what is said where there is none.

    Raises:
        ConfigError: one sentence, with the path.
    """
    file = Path(path)
    try:
        return read_bytes(file, most=most).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{file}: {missing}") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: is a folder; name the file in it") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not text (UTF-8)") from None
    except OSError as e:
        raise ConfigError(f"{file}: cannot be read: {e.strerror or e}") from None


def read_bytes(file: Path, *, most: int = MOST_BYTES) -> bytes:
    """What a file holds.

    Raises:
        OSError: it cannot be read, is a pipe that nobody may ever write, or holds more than `most` bytes.
    """
    mode = file.stat().st_mode
    if stat.S_ISFIFO(mode) and not str(file).startswith(("/dev/", "/proc/")):
        raise OSError(0, "it is a pipe; give a file")
    with file.open("rb") as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise OSError(0, f"it holds more than {most >> 20} MB")
    return data


_MENDS = {
    "mapping values are not allowed": "put text that has a colon in it in quotes, or indent the line as its neighbours are",
    "',' or ']'": "close the bracket of the list",
    "',' or '}'": "close the brace of the mapping",
    "expected key": "indent the line as its neighbours are",
    "expected '-' indicator": "begin the line with - as its neighbours do, or indent it as they are",
    "unexpected end of stream": "close the quotes",
}
"""Part of what libyaml says -> what mends it."""
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def _mend(text: str, error: yaml.MarkedYAMLError) -> str:
    """The end of a sentence about text that is no YAML; empty where what mends it is not known."""
    said, mark = error.problem or "", error.problem_mark
    line = "" if mark is None else "".join(_LINE_BREAK.split(text)[mark.line : mark.line + 1])
    wrong = "" if mark is None else line[mark.column : mark.column + 1]
    if wrong == "\t" or "tab character" in said:
        return "; indent with spaces, not with a tab"
    if wrong and "cannot start any token" in said:
        return f"; put text that begins with {wrong!a} in quotes"
    if wrong and wrong in "]}":
        return f"; nothing is open that {wrong!r} closes"
    return next((f"; {mend}" for part, mend in _MENDS.items() if part in said), "")


def plain_values(text: str) -> Any:
    """YAML, which JSON is too, as None, bool, int, float, str, list and dict with keys of text.

    Raises:
        ConfigError: it is no YAML, or has in it what is not read; with the line.
    """
    if text.lstrip()[:1] in tuple("{[-0123456789"):
        try:
            return json_values(text)
        except _NotJsonError:
            pass  # a list or a mapping as YAML writes it
    try:
        return _Document(text).value()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where}not YAML: {e.problem or e.context}{_mend(text, e)}") from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise ConfigError(f"line {line}: not YAML: the character {chr(_code(e))!a} is no text") from None
    except UnicodeEncodeError:
        raise ConfigError("not YAML: it has half a character in it") from None
    except yaml.YAMLError as e:
        raise ConfigError(f"not YAML: {str(e).splitlines()[0] if str(e) else type(e).__name__}") from None


def json_values(text: str, *, data: bool = False) -> Any:
    """JSON as None, bool, int, float, str, list and dict.

    Args:
        text: of the file.
        data: a program wrote it, with names that may have control characters; half characters are refused there, too.

    Raises:
        ConfigError: it is none, or has in it what is not read.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as e:
        raise _NotJsonError(f"line {e.lineno}, column {e.colno}: not JSON: {e.msg}") from None
    except RecursionError:
        raise ConfigError(f"has more than {MOST_DEPTH} lists and mappings inside each other") from None
    except ConfigError:
        raise
    except ValueError:  # what Python says of int("1" * 5000)
        raise ConfigError(f"has a number of more than {MOST_DIGITS} digits") from None
    _refuse_unreadable(value, _HALF if data else _CONTROL)
    return value


class _NotJsonError(ConfigError):
    """It may be YAML."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ConfigError(f"key {shortened(twice)} appears twice")
    return found


def _refuse_unreadable(value: Any, unreadable: re.Pattern[str]) -> None:
    """Of JSON: what YAML is refused for."""
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _refuse_control(item, unreadable=unreadable)
            elif isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise ConfigError(f"has more than {MOST_DEPTH} lists and mappings inside each other")


def _refuse_control(text: str, event: Any = None, unreadable: re.Pattern[str] = _CONTROL) -> None:
    if found := unreadable.search(text):
        half = "\ud800" <= found[0] <= "\udfff"
        what = "half a character" if half else "a control character"
        where = "" if event is None else _place(event)
        raise ConfigError(f"{where}text with {what} in it ({found[0]!a}); leave that out")


def _code(error: yaml.reader.ReaderError) -> int:
    """The character: the two parsers of PyYAML tell it differently."""
    return error.character if isinstance(error.character, int) else ord(error.character)


_TEXT = ("!", "tag:yaml.org,2002:str")
_NAMES = "tag:yaml.org,2002:"
_RESOLVERS: dict[str | None, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TRUE = ("yes", "true", "on")


class _Merge:
    """The key `<<`."""


class _Document:
    """One document, while its events come."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_PARSER))
        self._anchors: dict[str, tuple[Any, int]] = {}
        """Name -> the value, and how many values it is made of."""
        self._values = 0

    def value(self) -> Any:
        """All of it; None where there is nothing."""
        found = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _refuse(event, "a second document begins here (---); a file holds one")
            elif isinstance(event, yaml.NodeEvent):
                found = _no_merge(event, self._node(event, 0))
        return found

    def _node(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._values
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        else:
            if depth == MOST_DEPTH:
                _refuse(event, f"has more than {MOST_DEPTH} lists and mappings inside each other")
            if event.tag not in (None, "!", f"{_NAMES}seq", f"{_NAMES}map"):
                _refuse_tag(event)
            value = self._list(depth + 1) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._values - before
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            _refuse(event, f"*{event.anchor} stands for nothing: there is no &{event.anchor} that ends above it")
        value, size = self._anchors[event.anchor]
        self._count(event, size)
        return value

    def _count(self, event: Any, more: int) -> None:
        self._values += more
        if self._values > MOST_VALUES:
            _refuse(event, f"has more than {in_words(MOST_VALUES)} values, with what aliases stand for")

    def _list(self, depth: int) -> list[Any]:
        found = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(_no_merge(event, self._node(event, depth)))
        return found

    def _mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            value_event = next(self._events)
            value = _no_merge(value_event, self._node(value_event, depth))
            if key is _Merge:
                self._merge(value_event, value, merged)
            elif key in own:
                _refuse(event, f"key {shortened(key)} appears twice")
            else:
                own[key] = value
        return {**merged, **own}

    def _key(self, event: Any) -> Any:
        if not isinstance(event, yaml.ScalarEvent):
            _refuse(event, "a key must be text, and not a list, a mapping or an alias")
        key = self._node(event, 0)
        if not isinstance(key, str) and key is not _Merge:
            _refuse(event, f"key {shortened(event.value)} must be text; write it in quotation marks")
        return key

    def _merge(self, event: Any, value: Any, into: dict[str, Any]) -> None:
        """What `<<` brings: the earlier of several wins."""
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                _refuse(event, "<< takes a mapping, or a list of them")
            self._count(event, len(each))
            for key, inner in each.items():
                into.setdefault(key, inner)


def _no_merge(event: Any, value: Any) -> Any:
    return event.value if value is _Merge else value


def _scalar(event: Any) -> Any:
    text: str = event.value
    _refuse_control(text, event)
    if event.tag is not None:
        if event.tag not in _TEXT:
            _refuse_tag(event)
        return text
    if not event.implicit[0]:  # in quotation marks
        return text
    kind = next((tag for tag, pattern in _RESOLVERS.get(text[:1], ()) if pattern.match(text)), "")
    return _plain(event, kind.removeprefix(_NAMES), text)


def _plain(event: Any, kind: str, text: str) -> Any:
    """What is written without quotation marks: text, or what YAML 1.1 takes it for."""
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in _TRUE
    if kind in ("int", "float"):
        return _number(event, kind, text.replace("_", ""))
    if kind == "merge":
        return _Merge
    if kind == "timestamp":
        _refuse(event, f"{shortened(text)} is a date to YAML; write it in quotation marks")
    return text


def _number(event: Any, kind: str, text: str) -> int | float:
    if len(text) > MOST_DIGITS:
        _refuse(event, f"has a number of more than {MOST_DIGITS} digits")
    if not any(map(str.isalnum, text[2:] if text[:2].lower() in ("0b", "0x") else text)):
        _refuse(event, f"{shortened(event.value)} is a number without digits to YAML; write it in quotation marks")
    if ":" in text:
        _refuse(event, f"{shortened(text)} is a number of minutes to YAML; write it in quotation marks")
    digits = text.lstrip("+-").lower()
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if len(digits) > 1 and digits[0] == "0" and digits[1] not in "xb":
        _refuse(event, f"{shortened(text)} is {int(text, 8)} to YAML, which counts by eights behind a 0; leave the 0 out")
    return int(text, 0)


def _refuse_tag(event: Any) -> NoReturn:
    tag = event.tag.replace(_NAMES, "!!")
    _refuse(event, f"not YAML that is read here: it has the tag {shortened(tag)}; leave that out")


def _refuse(event: Any, what: str) -> NoReturn:
    raise ConfigError(f"{_place(event)}{what}")


def _place(event: Any) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: "
