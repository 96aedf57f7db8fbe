"""Bootstrap: other rows, other seeds, other models, drawn from those that are there, and what a number would then have been."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.float32]

RESAMPLES = 1000
"""How often the bootstrap draws, unless it is told otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Where a number lies."""

    low: float
    high: float
    level: float = 0.95
    """Probability that the method's intervals hold the value."""

    def __str__(self) -> str:
        return f"[{self.low:.3f}, {self.high:.3f}]"


def percentile_interval(draws: Floats, level: float = 0.95) -> Interval:
    """The middle `level` of what a bootstrap drew: Efron (1979), Annals of Statistics 7, 1-26. NaN draws are left out.

    Args:
        draws: `[R]` the number under each resample.
        level: 0.95 leaves 2.5 % outside at each end.
    """
    found = draws[~np.isnan(draws)]
    if not found.size:
        return Interval(low=math.nan, high=math.nan, level=level)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def centred_interval(draws: Floats, estimate: float, least: float, most: float, level: float = 0.95) -> Interval:
    """The percentile interval moved so that the draws have their mean at the estimate, and cut at what the number can be.

    For agreement of orders: a resample adds its own noise to scores that are noisy already, so orders agree less in resamples
    than in what they are drawn from, and with many models the percentile interval does not even hold the estimate. What is left
    after the move is how far other rows, seeds or models take the number from what as many of them give on average: in
    simulation it holds that in 92 to 98 % of cases, for 7 and for 61 models. Orders without noise would agree better.

    Args:
        draws: `[R]` the number under each resample; NaN is left out. Fewer than two: nothing is known, and the ends are NaN.
        estimate: the number itself.
        least: the smallest it can be.
        most: the largest.
        level: 0.95 leaves 2.5 % outside at each end.
    """
    found = draws[~np.isnan(draws)]
    if found.size < 2 or math.isnan(estimate):  # there was nothing to draw from
        return Interval(low=math.nan, high=math.nan, level=level)
    plain = percentile_interval(found, level)
    move = estimate - float(found.mean())
    low, high = min(estimate, plain.low + move), max(estimate, plain.high + move)
    return Interval(low=max(least, low), high=min(most, high), level=level)


def drawn(n: int, resamples: int, generator: np.random.Generator) -> Counts:
    """How often each of `n` things is in a resample of `n`, drawn with replacement: `[R, n]`."""
    places = generator.integers(0, n, size=(resamples, n), dtype=np.int32)
    places += np.arange(resamples, dtype=np.int32)[:, None] * np.int32(n)
    return np.bincount(places.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float32)
