"""Where results go, as a user says it: a folder or a URL, with `{date}` and `{name}` in it."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TypeAlias

from spt_fast.errors import ConfigError

Location: TypeAlias = Path | str
"""A folder of this machine, or the URL of one elsewhere (`s3://bucket/runs/x`), without a slash at its end."""

DATE, NAME = "{date}", "{name}"

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_URL_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_DAY = r"(?P<date>\d{4}-\d{2}-\d{2})"


def location(where: Location) -> Location:
    """A `Path` for what is on this machine (`file://` too), the text as it is for any other URL.

    Raises:
        ConfigError: a URL that `Path` has mangled, one inside another, or one that reads as a pattern.
    """
    text = str(where)
    if isinstance(where, Path):
        if _URL_AS_PATH.match(text):
            raise ConfigError(f"{text}: is a URL that went through pathlib.Path, which takes a slash away; give it as text")
        return where
    if "::" in text and _URL.search(text):
        raise ConfigError(f"{text}: is a URL inside another; name the place itself, as in s3://bucket/runs/x")
    found = _URL.match(text)
    if found is None:
        return at_home(text)
    if any(character in text for character in "*?["):
        raise ConfigError(f"{text}: has one of * ? [ in it, which would be taken for a pattern; choose another name")
    if found["scheme"] in ("file", "local"):
        return Path(text[found.end() :])
    return text[: found.end()] + text[found.end() :].rstrip("/")


def at_home(path: str) -> Path:
    """A path, with `~` as the home of its user; as it is where there is no such user, so that it is found missing."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def joined(where: Location, name: str) -> str:
    """What is called `name` there, as a person is told of it."""
    return f"{where}/{name}" if isinstance(where, str) else str(where / name)


def check(pattern: Location) -> None:
    """Refuse what cannot be filled in.

    Raises:
        ConfigError: a placeholder that there is not, or a date in the name of a bucket.
    """
    for found in _BRACES.findall(str(pattern)):
        if found not in (DATE, NAME):
            raise ConfigError(f"{pattern} has {found!r} in it; there are {DATE} (the day of the start) and {NAME}")
    if isinstance(pattern, str) and "{" in pattern.split("://", 1)[1].split("/", 1)[0]:
        raise ConfigError(f"{pattern} has a placeholder in the name of the bucket; put it after the bucket")


def folder_on(day: date | str, pattern: Location, *, name: str) -> Location:
    """The run folder of one day.

    Args:
        day: when the run starts, in local time; YYYY-MM-DD.
        pattern: as `output:` has it.
        name: of the grid.
    """
    text = str(pattern).replace(NAME, name).replace(DATE, str(day))
    return text if isinstance(pattern, str) else Path(text)


def parent(pattern: Location, *, name: str) -> Location | None:
    """The folder in which each day has one of its own, or None where the pattern has no date."""
    text = str(folder_on(DATE, pattern, name=name))
    if DATE not in text:
        return None
    above = text[: text.index(DATE)].rpartition("/")[0]
    return above if isinstance(pattern, str) else Path(above or ("/" if text.startswith("/") else "."))


def day_of(entry: str, pattern: Location, *, name: str) -> str | None:
    """Which day (YYYY-MM-DD) an entry of `parent` is the folder of, or begins; None: it is something else."""
    text = str(folder_on(DATE, pattern, name=name))
    begin = text[: text.index(DATE)].rpartition("/")[0]
    component = text[len(begin) :].lstrip("/").partition("/")[0]
    first, *rest = (re.escape(part) for part in component.split(DATE))
    found = re.fullmatch(first + _DAY + "(?P=date)".join(rest), entry)
    try:
        return None if found is None else str(date.fromisoformat(found["date"]))
    except ValueError:
        return None
