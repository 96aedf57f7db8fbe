"""What the sections of a report are made of: paragraphs, tables, figures. Nothing here knows how they look.

`html/parts.html` draws them for a browser, `markdown.py` for a log or a pull request, `tables.py` for a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias
from urllib.parse import urlencode

from spt_fast.report.cells import SeedGroup
from spt_fast.report.means import Mean
from spt_fast.report.words import Number
from spt_fast.scoring.metrics import MetricSpec


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
    grouped: str = "model"
    """What the titles of the groups are, where a medium has them in a column."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with what stands below it. Its numbers stand in a table beside it, for media that have no figures."""

    drawing: str
    """Which of html/figures/*.json."""
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    """What it shows, with the fields that the drawing names; `tip` is said on hover."""
    label: str
    """What a screen reader is told."""
    x: Mapping[str, Mapping[str, Any]] | None = None
    """Put over the drawing's `encoding.x`: {"scale": {"type": "log"}, "axis": {"values": [1, 10]}}."""
    caption: str = ""
    note: str = ""
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A line of a legend."""

    glyph: str
    colour: int
    """1 to 8; 0: that of what is bad."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures beside each other, as many as fit, with one legend."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]
    title: str = ""
    legend: Sequence[Key] = ()


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Metrics of every model, task and protocol. Each medium has its own layout: a page tasks beside each other, a terminal
    protocols, Markdown a line each."""

    kind: ClassVar[str] = "scores"
    caption: str
    models: Sequence[tuple[str, str]]
    """Name, and what tables call it."""
    fit: int
    """So many of them fit on a page."""
    tasks: Sequence[str]
    protocols: Sequence[str]
    """Labels."""
    metrics: Sequence[MetricSpec]
    """The first two are the claim: media with little room show these."""
    at: Mapping[tuple[SeedGroup, str], Cell] = field(repr=False)
    """(place, metric) -> its number; where there is none, how the cell stands."""
    note: str = ""
    """How to read the numbers."""
    means: Mapping[tuple[str, str, str, str], Mean] = field(default_factory=dict, repr=False)
    """(suite, model, protocol, metric) -> the mean over its tasks: below these in a terminal, a section by itself elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Prose:
    """A paragraph."""

    kind: ClassVar[str] = "prose"
    text: str
    of_figures: bool = False
    """It says how to read figures: left out where there are none."""


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


Part: TypeAlias = Scores | Table | Figures | Prose | Facts | Failures | Beside


@dataclass(frozen=True, kw_only=True)
class Section:
    """What stands behind one entry of the page's navigation, and under one heading elsewhere."""

    id: str
    """Its anchor on the page."""
    title: str
    parts: Sequence[Part]


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], *, headers: int = 1) -> Table:
    """A table of rows without titles."""
    return Table(caption=caption, head=head, groups=[Group(title="", rows=rows)], headers=headers)


COLOURS = 8
"""The page has as many, `--c1` and on: after Okabe and Ito (2008), told apart by colour-blind readers."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
GLYPHS = {
    "circle": "\u25cf",
    "square": "\u25a0",
    "triangle-up": "\u25b2",
    "diamond": "\u25c6",
    "cross": "\u271a",
    "triangle-down": "\u25bc",
    "triangle-right": "\u25b6",
    "triangle-left": "\u25c0",
}
"""The shapes as characters, for legends."""


def look(i: int) -> dict[str, str]:
    """Colour and shape of the `i`-th of many: 64 of them before one comes again."""
    return {"colour": colour(i % COLOURS + 1), "shape": SHAPES[(i + i // COLOURS) % len(SHAPES)]}


def colour(i: int) -> str:
    """A colour of the page as figures name it, counted as in `Key`."""
    return f"var(--c{i})" if i else "var(--bad)"


def legend(metrics: Sequence[MetricSpec]) -> list[Key]:
    """What colours and shapes of metrics stand for, where several stand in one figure."""
    return [Key(glyph=GLYPHS[each.shape], colour=each.colour, text=each.words) for each in metrics]


def samples_link(**filters: str | None) -> str:
    """Where the page shows the samples that pass these filters: "#samples?model=m&task=t"."""
    return "#samples?" + urlencode({name: value for name, value in filters.items() if value})
