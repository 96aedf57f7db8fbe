"""Suites, and groups of lm-eval's: means over their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spt_fast.report.cells import SeedGroup
from spt_fast.report.means import Mean, mean_over
from spt_fast.report.parts import Cell, Group, Part, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, number, span, visible
from spt_fast.scoring.metrics import ANSWER, HEADLINE, spec

LM_EVAL_METRIC = "lm_eval/"


def section(recorded: Recorded) -> Section | None:
    """A table a suite; None where the grid has none."""
    suites = [each for each in recorded.grid.get("means", ()) if isinstance(each, Mapping)]
    tables = [found for suite in suites if (found := _table(recorded, suite)) is not None]
    if not tables:
        return None
    intro = (
        "Weighted means over the tasks of each suite, where all of them are done, with the interval of independent tasks. A "
        "group of lm-eval's is weighted as its config has it, mostly by rows."
    )
    parts: list[Part] = [Prose(text=intro), *tables]
    return Section(id="means", title="Suites and groups", parts=parts)


def _table(recorded: Recorded, suite: Mapping[str, Any]) -> Table | None:
    grid = recorded.by_place
    names = [*HEADLINE, *_likelihoods(recorded, suite), *_own(recorded, suite)]
    groups = []
    for model in grid.models:
        rows: list[list[Cell]] = []
        for label in grid.protocols:
            cells = {task: _done(recorded, SeedGroup(model, task, label)) for task in suite["tasks"]}
            found = [mean_over(cells, name, suite["tasks"], by_rows=suite["by_rows"]) for name in names]
            if any(found):
                rows.append([visible(label), *map(_shown, found, names)])
        if rows:
            groups.append(Group(title=grid.name(model), rows=rows))
    if not groups:
        return None
    head = ["protocol", *(spec(name).head if name in (*HEADLINE, *ANSWER) else visible(name) for name in names)]
    return Table(caption=f"{suite['name']}: {len(suite['tasks'])} tasks", head=head, groups=groups, grouped="model")


def _own(recorded: Recorded, suite: Mapping[str, Any]) -> list[str]:
    """The metrics of a group of lm-eval's, by our names of them, whatever the filter."""
    there = dict.fromkeys(
        metric.name
        for cell in recorded.cells
        if cell.task in suite["tasks"]
        for of_step in cell.metrics.values()
        for metric in of_step
        if metric.name.startswith(LM_EVAL_METRIC)
    )
    return [name for name in there if name.split("/")[1] in suite["metrics"]]


def _done(recorded: Recorded, place: SeedGroup) -> list[Any]:
    return [cell for cell in recorded.by_place.at.get(place, ()) if cell.status == "done"]


def _likelihoods(recorded: Recorded, suite: Mapping[str, Any]) -> list[str]:
    """Bits per byte, where all of its cells have it: those of earlier versions have not."""
    cells = [cell for cell in recorded.cells if cell.task in suite["tasks"] and cell.status == "done"]
    return [name for name in ANSWER[:1] if cells and all(cell.metric(name) is not None for cell in cells)]


def _shown(found: Mean | None, name: str) -> str:
    digits = spec(name).digits
    return ABSENT if found is None else f"{number(found.value, digits)} ({span(found.low, found.high, digits)})"
