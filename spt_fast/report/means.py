"""Means over the tasks of a suite, or of a group of lm-eval's: a number with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from spt_fast.analysis.cells import RunCell


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Of one metric, over tasks."""

    value: float
    low: float
    high: float
    tasks: int
    """That have the metric."""
    rows: int = 0
    """Of them all."""


@dataclass(frozen=True, kw_only=True)
class SuiteMean:
    """Of one metric, model and protocol, over the tasks of a suite."""

    suite: str
    model: str
    protocol: str
    metric: str
    mean: Mean


def suite_means(grid: Mapping[str, Any], cells: Iterable[RunCell]) -> list[SuiteMean]:
    """Of every suite and group of a grid, where all its tasks are done: suite by suite, model by model.

    Args:
        grid: grid.yaml, as resolved.
        cells: of the run.
    """
    done: dict[tuple[str, str], dict[str, list[RunCell]]] = {}
    for cell in cells:
        if cell.status == "done":
            done.setdefault((cell.model, cell.protocol), {}).setdefault(cell.task, []).append(cell)
    return [
        each for suite in suites_of(grid) for (model, protocol), of in done.items() for each in _of(suite, model, protocol, of)
    ]


def suites_of(grid: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Suites and groups of a grid: `name`, `tasks` (name -> weight), `by_rows`, `metrics`."""
    return [each for each in grid.get("means") or () if isinstance(each, Mapping)]


def _of(suite: Mapping[str, Any], model: str, protocol: str, cells: Mapping[str, Sequence[RunCell]]) -> Iterator[SuiteMean]:
    """A mean of each metric that a cell of the suite's tasks has at its last step."""
    there = (metric for task in suite["tasks"] for cell in cells.get(task, ()) for metric in cell.last_metrics)
    for metric in dict.fromkeys(there):
        mean = mean_over(cells, metric, suite["tasks"], by_rows=suite["by_rows"])
        if mean is not None:
            yield SuiteMean(suite=suite["name"], model=model, protocol=protocol, metric=metric, mean=mean)


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
    found, rows = [], 0
    for task, weight in weights.items():
        if not cells.get(task):
            return None
        own = [each for cell in cells[task] if (each := cell.metric(metric)) is not None and not math.isnan(each.value)]
        if own:
            value = fmean(each.value for each in own)
            below = fmean(_distance(each.value, each.ci_low) for each in own)
            above = fmean(_distance(each.ci_high, each.value) for each in own)
            found.append((weight * (own[0].n if by_rows else 1), value, below, above))
            rows += own[0].n
    total = sum(weight for weight, *_ in found)
    if not total:
        return None
    mean = sum(weight * value for weight, value, _, _ in found) / total
    below, above = (math.sqrt(sum((each[0] * each[i]) ** 2 for each in found)) / total for i in (2, 3))
    return Mean(value=mean, low=mean - below, high=mean + above, tasks=len(found), rows=rows)


def _distance(high: float, low: float) -> float:
    """Nought where an end is not known."""
    return 0.0 if math.isnan(high - low) else high - low
