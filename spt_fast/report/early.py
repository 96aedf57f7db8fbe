"""Numbers of checkpoints that were stopped early, as a series shows them: never the mean of other rows beside that of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from spt_fast.analysis.cells import OverSeeds, RunCell, over_seeds
from spt_fast.report.cells import SeedGroup
from spt_fast.report.grid import Grid
from spt_fast.scoring.stopping import refusal

if TYPE_CHECKING:  # they compute with scipy
    from spt_fast.analysis.levels import Level, Levels


def is_early(cells: Sequence[RunCell]) -> bool:
    """Whether any seed of a place was stopped early."""
    return any(cell.status == "stopped" for cell in cells)


def as_measured(cell: RunCell) -> RunCell:
    """A cell as if it were done: of one that was stopped, the metrics whose intervals hold."""
    if cell.stopped is None:
        return cell
    metrics = {
        step: [metric for metric in found if not refusal(metric.name)] for step, found in cell.stopped.result.metrics.items()
    }
    return replace(cell, status="done", metrics=metrics)


def asked(cells: Sequence[RunCell]) -> tuple[int, int]:
    """Rows that the stopped cells of one place were asked, and that there are."""
    found = [cell.stopped.stopped for cell in cells if cell.stopped is not None]
    return min(each.n for each in found), max(each.of for each in found)


def standing(grid: Grid, levels: Levels | None, place: SeedGroup, metric: str) -> OverSeeds | None:
    """A metric of a stopped place: held against a checkpoint that was asked all rows; where there is none, its own mean."""
    level = None if levels is None else levels.at(*place, metric)
    if level is None:
        return over_seeds([as_measured(cell) for cell in grid.at[place]], metric)
    base = over_seeds(grid.at.get(place._replace(model=level.base), ()), metric)
    return None if base is None else _above(base, level)


def _above(base: OverSeeds, level: Level) -> OverSeeds:
    """As far above another as the change says; its interval from both: Zou and Donner (2008), Statistics in Medicine 27,
    1693-1702."""
    change, limits = level.change.change, level.change.limits(0.95)
    value = min(1.0, max(0.0, base.value + change))
    return OverSeeds(
        value=value,
        low=max(0.0, value - math.hypot(base.value - base.low, change - limits.low)),
        high=min(1.0, value + math.hypot(base.high - base.value, limits.high - change)),
        seeds=base.seeds,
        between=math.nan,
        sampling=math.hypot(base.sampling, level.change.stderr),
    )
