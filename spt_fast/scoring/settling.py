"""How many updates it takes until format following has settled: a distance of the model from the form that is asked for.

It has settled at the first evaluated number of updates from which on it stays within its own 95 % interval at the last one
(`saturation_step`). What is left of chance is the choice of test rows, so the interval is that of a bootstrap over rows, and
over the groups that rows share: each draw has its own curve, its own interval at the end, and its own answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from spt_fast.scoring.clusters import MOST_DRAWN, clusters, drawn, with_clusters
from spt_fast.scoring.metrics import STEPS_TO_FORMAT
from spt_fast.scoring.statistics import Z_95, proportion, saturation_step
from spt_fast.types import Metric, Sample

OUTSIDE = 0.025
"""Of the draws, the part that lies beyond each end of the interval."""


def steps_to_format(verdicts: Mapping[int, Sequence[bool]], groups: Sequence[str]) -> Metric | None:
    """Updates until format following has settled, with the percentile interval of a bootstrap (Efron, 1979) over clusters.

    An end of the interval is an evaluated number of updates: what lies between two of them was not seen.

    Args:
        verdicts: updates -> of each row, in one order, whether its answer had the form.
        groups: `[N]` rows that share a passage share a group; empty: none.

    Returns:
        None where there is one number of updates only, or no row.
    """
    steps, n = sorted(verdicts), len(groups)
    if len(steps) < 2 or not n:
        return None
    curve = {step: _share(verdicts[step], groups) for step in steps}
    value = saturation_step(curve)
    assert value is not None
    rows_NS = np.array([verdicts[step] for step in steps], np.float64).T
    of_row = clusters(groups)
    count = int(of_row.max()) + 1
    if count == 1:  # one passage says nothing of others
        return Metric(name=STEPS_TO_FORMAT, value=value, n=n, stderr=math.nan, ci_low=steps[0], ci_high=steps[-1])
    found = np.sort(np.array(steps)[_settled(*_draws(rows_NS, of_row), *_worth(curve[steps[-1]], n, count))])
    outside = math.floor(OUTSIDE * len(found))
    low, high = float(found[outside]), float(found[-1 - outside])
    return Metric(
        name=STEPS_TO_FORMAT,
        value=value,
        n=n,
        stderr=float(found.std(ddof=1)),
        ci_low=min(low, value),
        ci_high=max(high, value),
    )


def of_samples(samples: Sequence[Sample], costs: Mapping[str, float]) -> Metric | None:
    """The same of a cell's samples at all steps, which have the same rows in the same order.

    Args:
        samples: of all steps.
        costs: of the cell: a training that stopped early has taken fewer updates than its last step says (`steps_taken`).
    """
    by_step: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.step is None:
            return None
        by_step.setdefault(sample.step, []).append(sample)
    taken = costs.get("steps_taken", math.inf)
    verdicts = {int(min(step, taken)): [sample.format_ok for sample in rows] for step, rows in sorted(by_step.items())}
    return steps_to_format(verdicts, [sample.group for sample in next(iter(by_step.values()), ())])


def of_checks(told: str) -> Metric | None:
    """The same of held-out tuning rows, as a soft prompt tells of them (`held_out_checks`): {updates: "0110"}."""
    try:
        checks = {int(updates): [each == "1" for each in rows] for updates, rows in json.loads(told).items()}
    except (ValueError, AttributeError):
        return None
    return steps_to_format(checks, [""] * len(next(iter(checks.values()), ())))


def _share(verdicts: Sequence[bool], groups: Sequence[str]) -> Metric:
    """Format following, as it is everywhere."""
    return with_clusters(proportion("", verdicts), [float(each) for each in verdicts], groups, share=True)


def _draws(rows_NS: NDArray[np.float64], of_row: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve of each draw, `[R, S]`, and its rows, `[R]`."""
    of_row = of_row % MOST_DRAWN  # of so many clusters, several together are as good
    sums_GS = np.stack([np.bincount(of_row, column) for column in rows_NS.T], axis=1)
    often_RG = drawn(len(sums_GS))
    rows_R = often_RG @ np.bincount(of_row).astype(np.float64)
    return often_RG @ sums_GS / rows_R[:, None], rows_R


def _worth(last: Metric, n: int, count: int) -> tuple[float, float]:
    """How many independent rows a row is worth at the last step, and the quantile of its interval, as in `with_clusters`."""
    if count == n:
        return 1.0, Z_95
    alone = last.value * (1 - last.value) / n
    return alone / last.stderr**2 if last.stderr > 0 else count / n, float(stats.t.isf(0.025, count - 1))


def _settled(curve_RS: NDArray[np.float64], rows_R: NDArray[np.float64], worth: float, quantile: float) -> NDArray[np.int64]:
    """The place of the step at which each draw has settled, `[R]`."""
    m, p, z2 = rows_R * worth, curve_RS[:, -1], quantile**2
    centre = (p + z2 / (2 * m)) / (1 + z2 / m)
    half = quantile / (1 + z2 / m) * np.sqrt(p * (1 - p) / m + z2 / (4 * m * m))
    low, high = np.minimum(p, centre - half), np.maximum(p, centre + half)
    outside_RS = (curve_RS < low[:, None]) | (curve_RS > high[:, None])
    # Behind the last step that lies outside; the last of all never does.
    return np.where(outside_RS.any(axis=1), curve_RS.shape[1] - np.argmax(outside_RS[:, ::-1], axis=1), 0)
