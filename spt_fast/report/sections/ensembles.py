"""Ensembles beside the mean and the best of their members."""

from __future__ import annotations

from collections.abc import Sequence

from spt_fast.analysis.cells import RunCell
from spt_fast.report.parts import Cell, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import Number, span, visible
from spt_fast.scoring.metrics import HEADLINE, spec


def section(recorded: Recorded) -> Section | None:
    """None where there are none."""
    grid = recorded.by_place
    groups = grid.groups(
        lambda model: [
            row
            for place in grid.places(model=model)
            for cell in grid.at[place]
            if cell.status == "done"
            for row in _together(cell)
        ]
    )
    if not groups:
        return None
    intro = (
        "The soft prompts of several seeds answer the same rows together. The best member is chosen by these very rows, so it "
        "looks better than it is; the mean member does not."
    )
    head = ["task", "protocol", "metric", "mean member", "best member", "together"]
    table = Table(caption="Ensembles", head=head, groups=groups, headers=3)
    return Section(id="ensembles", title="Ensembles", parts=[Prose(text=intro), table])


def _together(cell: RunCell) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for known in map(spec, HEADLINE):
        names = (f"{known.name}_member_mean", f"{known.name}_member_best", known.name)
        found = [cell.metric(name) for name in names]
        if all(metric is not None for metric in found):
            numbers: Sequence[Cell] = [
                Number(
                    text=f"{metric.value:.2f}",
                    interval=span(metric.ci_low, metric.ci_high),
                    tip=f"{known.words} {metric.value:.3f}, n = {metric.n}",
                    tint=round(10 * metric.value),
                )
                for metric in found
                if metric is not None
            ]
            seed = "" if cell.seed is None else f" \u00b7 seed {cell.seed}"
            rows.append([visible(cell.task), visible(cell.protocol) + seed, known.words, *numbers])
    return rows
