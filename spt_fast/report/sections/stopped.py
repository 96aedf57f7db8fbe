"""Cells that were asked no further than was needed: by themselves, for their numbers are of fewer rows than those of others."""

from __future__ import annotations

from collections.abc import Sequence

from spt_fast.analysis.cells import RunCell
from spt_fast.report.parts import Cell, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, Number, span, visible
from spt_fast.scoring.metrics import HEADLINE, spec

INTRO = (
    "These cells were asked row by row in a random order, until what was to be known was known (stop in the grid). Their "
    "intervals hold at every look, and so are wider than those of other tables for as many rows. They are about all rows "
    "like these, of which the task's are a sample, and not about the rows that were not asked, so a bound may lie beyond what "
    "those could still come to. Where a width was asked for, the interval is the one that was as narrow. No mean, figure or "
    "test of this report has their numbers among those of cells that are done, but for the section Series, which marks them. "
    "A run without stop asks the rest."
)


def section(recorded: Recorded) -> Section | None:
    """None where there are none."""
    grid = recorded.by_place
    groups = grid.groups(
        lambda model: [_row(cell) for place in grid.places(model=model) for cell in grid.at[place] if cell.stopped is not None]
    )
    if not groups:
        return None
    head = ["task", "protocol", "rows", *(spec(name).head for name in HEADLINE), "what is known"]
    table = Table(caption="Cells that were stopped", head=head, groups=groups, headers=2)
    return Section(id="stopped", title="Stopped", parts=[Prose(text=INTRO), table])


def _row(cell: RunCell) -> Sequence[Cell]:
    assert cell.stopped is not None
    stopped = cell.stopped.stopped
    seed = "" if cell.seed is None else f" \u00b7 seed {cell.seed}"
    return [
        visible(cell.task),
        visible(cell.protocol) + seed,
        f"{stopped.n:,} of {stopped.of:,}",
        *(_number(cell, name) for name in HEADLINE),
        visible(stopped.why, 500),
    ]


def _number(cell: RunCell, name: str) -> Cell:
    assert cell.stopped is not None
    result = cell.stopped.result
    metric = next((each for each in result.metrics[result.last_step] if each.name == name), None)
    if metric is None:
        return ABSENT
    return Number(
        text=f"{metric.value:.2f}",
        interval=span(metric.ci_low, metric.ci_high),
        tip=f"{spec(name).words} {metric.value:.3f}, n = {metric.n} of {cell.stopped.stopped.of}",
        tint=round(10 * metric.value),
    )
