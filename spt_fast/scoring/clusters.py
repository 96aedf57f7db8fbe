"""Rows that share a passage or subject: how much less sure a mean is for that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from spt_fast.scoring.statistics import wilson
from spt_fast.types import Metric

RESAMPLES = 1000
"""How often the bootstrap draws."""
MOST_DRAWN = 10_000
"""Clusters from which on a mean is as good as normal, and nothing is drawn."""


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


def with_clusters(
    metric: Metric,
    values: Sequence[float],
    groups: Sequence[str],
    *,
    share: bool,
    least: float = 0.0,
    most: float = 1.0,
) -> Metric:
    """A mean over rows with the standard error and the interval that the groups of the rows leave it.

    The interval of a share is Wilson's, of as many independent rows as these are worth (N over the design effect), with the
    quantile of Student's t for the groups: Franco et al. (2019), Journal of Survey Statistics and Methodology 7, 334-364, after
    Korn and Graubard (1998), Survey Methodology 24, 193-201. A group never makes its rows worth more; where all rows are alike,
    a group counts as one row.

    Args:
        metric: of these values, as if they were independent.
        values: `[N]` in `least` to `most`.
        groups: `[N]` rows that share a passage share a group; empty: none.
        share: the values are verdicts, 0 or 1.
        least: what a value can be at least.
        most: and at most.
    """
    n, of_row = len(values), clusters(groups)
    count = int(of_row.max(initial=-1)) + 1
    if n < 2 or count == n:
        return metric
    if count < 2:  # one passage says nothing of others
        return replace(metric, stderr=math.nan, ci_low=least, ci_high=most)
    alone = metric.stderr**2
    stderr = math.sqrt(max(variance_of_mean(np.asarray(values, np.float64), of_row), alone))
    quantile = float(stats.t.isf(0.025, count - 1))
    if share:
        worth = n * alone / stderr**2 if stderr > 0 else float(count)
        low, high = wilson(metric.value * worth, worth, quantile)
        return replace(metric, stderr=stderr, ci_low=min(low, metric.value), ci_high=max(high, metric.value))
    reach = quantile * stderr
    return replace(metric, stderr=stderr, ci_low=max(least, metric.value - reach), ci_high=min(most, metric.value + reach))


def bootstrapped(name: str, values: Sequence[float], groups: Sequence[str]) -> Metric:
    """The mean of values that have no ends, with its clustered standard error and the interval of a bootstrap over clusters.

    The percentile interval of Efron (1979), Annals of Statistics 7, 1-26, which follows skewed values, with its percentiles
    moved outwards for few clusters as Hesterberg (2015), The American Statistician 69, 371-386, section 5.3 has it: by
    Phi(-sqrt(G / (G - 1)) t), with the quantile t of Student's distribution. The draws are the same for all values of as many
    clusters. Of one cluster nothing is known but its mean.

    Args:
        name: of the metric.
        values: `[N]`.
        groups: `[N]` rows that share a passage share a group; empty: none.
    """
    x, n = np.asarray(values, np.float64), len(values)
    if not n:
        return Metric(name=name, value=math.nan, n=0, stderr=math.nan, ci_low=math.nan, ci_high=math.nan)
    of_row = clusters(groups)
    sizes, sums = np.bincount(of_row).astype(np.float64), np.bincount(of_row, x)
    value, count = float(x.mean()), len(sizes)
    if count < 2:
        return Metric(name=name, value=value, n=n, stderr=math.nan, ci_low=math.nan, ci_high=math.nan)
    stderr = math.sqrt(variance_of_mean(x, of_row))
    reach = math.sqrt(count / (count - 1)) * float(stats.t.isf(0.025, count - 1))
    low, high = value - reach * stderr, value + reach * stderr
    if count <= MOST_DRAWN:
        often, outside = drawn(count), float(stats.norm.cdf(-reach))
        low, high = (float(end) for end in np.quantile((often @ sums) / (often @ sizes), [outside, 1 - outside]))
    return Metric(name=name, value=value, n=n, stderr=stderr, ci_low=min(low, value), ci_high=max(high, value))


@lru_cache(maxsize=1)
def drawn(count: int) -> NDArray[np.float64]:
    """How often each cluster is drawn: `[R, G]`."""
    generator = np.random.default_rng(0)
    places = [np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(RESAMPLES)]
    return np.stack(places).astype(np.float64)
