"""Format x knowledge: the 2 x 2 table of each cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spt_fast.report.cells import over_seeds
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Figure, Figures, Key, Part, Prose, Section, Table, colour
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import measured, visible
from spt_fast.scoring.metrics import EXACT_MATCH, QUADRANTS, spec

_FILTERS = {
    "format_and_knowledge": "form-knows",
    "format_only": "form-not-knows",
    "knowledge_only": "not-form-knows",
    "neither": "neither",
}
"""Quadrant -> the filter of the page's browser that shows it."""


def section(recorded: Recorded) -> Section | None:
    """None where nothing is done."""
    if not recorded.any_done:
        return None
    grid = recorded.by_place
    known = [spec(name) for name in QUADRANTS]
    legend = [Key(glyph="\u25a0", colour=each.colour, text=each.words) for each in known]
    intro = (
        "Every completion has the form asked for or not, and the model knows the answer or not: by the scoring method that is "
        "best on tuning rows (knowledge_best)."
    )
    bar = Prose(text="A bar is one cell, cut into the four; over several seeds their means.", of_figures=True)
    figures = [figure for task in grid.tasks if (figure := _bars(grid, task)).rows]
    parts: list[Part] = [Prose(text=intro), bar, Figures(figures=[], legend=legend), Figures(figures=figures)]
    parts += [each for task in grid.tasks if (each := _table(grid, task)) is not None]
    return Section(id="map", title="Format \u00d7 knowledge", parts=parts)


def _bars(grid: Grid, task: str) -> Figure:
    rows: list[dict[str, Any]] = []
    for place in grid.places(task=task):
        for i, name in enumerate(QUADRANTS):
            found = measured(grid.at[place], name, grid.said(place))
            if found is not None:
                own = {"model": grid.short[place.model], "protocol": visible(place.protocol), "rank": i}
                mean = over_seeds(grid.at[place], name)
                value = 0.0 if mean is None else mean.value
                rows.append({**own, "share": value, "colour": colour(spec(name).colour), "tip": found.tip})
    label = f"{visible(task)}: shares of format x knowledge by model and protocol"
    return Figure(drawing="map", rows=rows, label=label, caption=visible(task))


def _table(grid: Grid, task: str) -> Table | None:
    """A line a cell."""

    def rows(model: str) -> Iterator[list[Cell]]:
        for place in grid.places(task=task, model=model):
            if any(cell.status == "done" for cell in grid.at[place]):
                quadrants = [grid.linked(place, name, verdict=verdict) for name, verdict in _FILTERS.items()]
                exact = [grid.number(place, name) for name in ("exact_match_given_format", EXACT_MATCH)]
                yield [visible(place.protocol), *quadrants, *exact]

    groups = grid.groups(rows)
    if not groups:
        return None
    return Table(
        caption=f"{visible(task)}: format x knowledge",
        over=[("", 1), ("format followed", 2), ("format not followed", 2), ("", 2)],
        head=[
            "protocol",
            "knows",
            "does not",
            "knows",
            "does not",
            spec("exact_match_given_format").head,
            spec(EXACT_MATCH).head,
        ],
        groups=groups,
        folded=True,
    )
