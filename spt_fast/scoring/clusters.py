"""Rows that share a passage or subject: how much less sure a mean is for that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from spt_fast.scoring.statistics import wilson
from spt_fast.types import Metric


def clusters(groups: Sequence[str]) -> NDArray[np.int64]:
    """The cluster of each row, counted from 0: rows of a group share one, a row without a group is one of its own. `[N]`"""
    if not any(groups):
        return np.arange(len(groups))
    labels = [group or f"\0{i}" for i, group in enumerate(groups)]
    return np.unique(np.array(labels, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)


def variance_of_mean(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Variance of the mean of values whose rows share clusters.

    G / (G - 1) * sum over clusters of (sum of the cluster's deviations)^2 / N^2: Miller (2024), arXiv 2411.00640, section 2.2,
    with the correction for few clusters of Cameron and Miller (2015), Journal of Human Resources 50, 317-372.

    Args:
        values: `[N]`.
        clusters: `[N]` the cluster of each row, from 0.

    Returns:
        NaN for fewer than two clusters.
    """
    n = len(values)
    sums = np.bincount(clusters, values - values.mean()) if n else np.zeros(0)
    groups = len(sums)
    return float(groups / (groups - 1) * (sums**2).sum() / n**2) if groups > 1 else math.nan


def with_clusters(metric: Metric, values: Sequence[float], groups: Sequence[str], *, share: bool) -> Metric:
    """A mean over rows with the standard error and the interval that the groups of the rows leave it.

    The interval of a share is Wilson's, of as many independent rows as these are worth (N over the design effect), with the
    quantile of Student's t for the groups: Franco et al. (2019), Journal of Survey Statistics and Methodology 7, 334-364, after
    Korn and Graubard (1998), Survey Methodology 24, 193-201. A group never makes its rows worth more; where all rows are alike,
    a group counts as one row.

    Args:
        metric: of these values, as if they were independent.
        values: `[N]` in 0 to 1.
        groups: `[N]` rows that share a passage share a group; empty: none.
        share: the values are verdicts, 0 or 1.
    """
    n, of_row = len(values), clusters(groups)
    count = int(of_row.max(initial=-1)) + 1
    if n < 2 or count == n:
        return metric
    if count < 2:  # one passage says nothing of others
        return replace(metric, stderr=math.nan, ci_low=0.0, ci_high=1.0)
    alone = metric.stderr**2
    stderr = math.sqrt(max(variance_of_mean(np.asarray(values, np.float64), of_row), alone))
    quantile = float(stats.t.isf(0.025, count - 1))
    if share:
        worth = n * alone / stderr**2 if stderr > 0 else float(count)
        low, high = wilson(metric.value * worth, worth, quantile)
        return replace(metric, stderr=stderr, ci_low=min(low, metric.value), ci_high=max(high, metric.value))
    reach = quantile * stderr
    return replace(metric, stderr=stderr, ci_low=max(0.0, metric.value - reach), ci_high=min(1.0, metric.value + reach))
