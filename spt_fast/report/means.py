"""Means over the tasks of a suite, or of a group of lm-eval's: a number with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from spt_fast.analysis.cells import RunCell


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Of one metric, over tasks."""

    value: float
    low: float
    high: float
    tasks: int
    """That have the metric."""


def mean_over(
    cells: Mapping[str, Sequence[RunCell]], metric: str, weights: Mapping[str, float], *, by_rows: bool = False
) -> Mean | None:
    """A weighted mean over tasks, with an interval that is put together from theirs.

    Its ends are as far from the mean as the weighted distances of the tasks' own ends are, squared, summed and rooted (MOVER:
    Zou and Donner (2008), Statistics in Medicine 27, 1693-1702), so that a share of nought has an interval too. Seeds answer
    the same rows, so their mean is no surer than one of them.

    Args:
        cells: task -> its done cells, which differ in their seed alone.
        metric: its name.
        weights: task -> weight.
        by_rows: weigh each task by its rows as well.

    Returns:
        None where a task of the suite is not done; tasks that have no such metric are left out, as where it is not defined.
    """
    found = []
    for task, weight in weights.items():
        if not cells.get(task):
            return None
        own = [each for cell in cells[task] if (each := cell.metric(metric)) is not None and not math.isnan(each.value)]
        if own:
            value = fmean(each.value for each in own)
            below = fmean(_distance(each.value, each.ci_low) for each in own)
            above = fmean(_distance(each.ci_high, each.value) for each in own)
            found.append((weight * (own[0].n if by_rows else 1), value, below, above))
    total = sum(weight for weight, *_ in found)
    if not total:
        return None
    mean = sum(weight * value for weight, value, _, _ in found) / total
    below, above = (math.sqrt(sum((each[0] * each[i]) ** 2 for each in found)) / total for i in (2, 3))
    return Mean(value=mean, low=mean - below, high=mean + above, tasks=len(found))


def _distance(high: float, low: float) -> float:
    """Nought where an end is not known."""
    return 0.0 if math.isnan(high - low) else high - low
