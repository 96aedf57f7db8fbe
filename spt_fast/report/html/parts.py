"""What a section of report.html is made of. page.html knows how each part looks; nothing here does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias
from urllib.parse import urlencode

from spt_fast.report.html.words import Number


@dataclass(frozen=True, kw_only=True)
class Linked:
    """A number that leads to the samples behind it."""

    number: Number
    href: str


Cell: TypeAlias = str | Number | Linked


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of a table under a title of their own."""

    title: str
    """Empty: none."""
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; numbers stand right, the first columns are the headers of their rows."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    groups: Sequence[Group]
    over: Sequence[tuple[str, int]] = ()
    """A row above the head: titles, and how many columns each spans."""
    headers: int = 1
    """So many columns at the left are headers."""
    folded: bool = False
    """Behind a line that opens it: the numbers of a figure."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with what stands below it."""

    svg: str
    caption: str = ""
    note: str = ""
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A line of a legend."""

    glyph: str
    colour: int
    """1 to 8."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures beside each other, as many as fit, with one legend."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]
    title: str = ""
    legend: Sequence[Key] = ()


@dataclass(frozen=True, kw_only=True)
class Prose:
    """A paragraph."""

    kind: ClassVar[str] = "prose"
    text: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Terms and what stands for them."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Failures:
    """What failed, and why."""

    kind: ClassVar[str] = "failures"
    title: str
    failures: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Parts that stand beside each other where there is room."""

    kind: ClassVar[str] = "beside"
    parts: Sequence[Figures | Prose]


Part: TypeAlias = Table | Figures | Prose | Facts | Failures | Beside


@dataclass(frozen=True, kw_only=True)
class Section:
    """What stands behind one entry of the page's navigation."""

    id: str
    title: str
    parts: Sequence[Part]


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], *, headers: int = 1) -> Table:
    """A table of rows without titles."""
    return Table(caption=caption, head=head, groups=[Group(title="", rows=rows)], headers=headers)


def samples_link(**filters: str | None) -> str:
    """Where the page shows the samples that pass these filters: "#samples?model=m&task=t"."""
    return "#samples?" + urlencode({name: value for name, value in filters.items() if value})
