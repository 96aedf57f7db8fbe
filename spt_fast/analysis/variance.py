"""Where the uncertainty of a score comes from: which rows were asked, and which seed vectors were learnt with, kept apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from spt_fast.analysis.resampling import Floats
from spt_fast.scoring.clusters import variance_of_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreError:
    """How far the mean over `S` seeds and `N` rows may be from what other seeds and other rows would give."""

    value: float
    """The mean."""
    sampling: float
    """Standard error that comes of the choice of rows, clusters of them as a whole. NaN for one cluster."""
    between_seeds: float
    """Standard deviation over seeds, free of what the rows do: how far another seed's score lies. NaN for one seed."""
    seeds: int
    clusters: int

    @property
    def total(self) -> float:
        """Standard error of the mean over other rows and other seeds. With one seed, what seeds do is not in it."""
        more = 0.0 if math.isnan(self.between_seeds) else self.between_seeds**2 / self.seeds
        return math.sqrt(self.sampling**2 + more)

    @property
    def one_seed(self) -> float:
        """Standard error of the score that a single seed gives."""
        more = 0.0 if math.isnan(self.between_seeds) else self.between_seeds**2
        return math.sqrt(self.sampling**2 + more)

    @property
    def degrees_of_freedom(self) -> float:
        """Of `total`: Satterthwaite (1946), Biometrics Bulletin 2, 110-114."""
        if math.isnan(self.between_seeds) or self.between_seeds == 0:
            return self.clusters - 1
        rows, seeds = self.sampling**2, self.between_seeds**2 / self.seeds
        return (rows + seeds) ** 2 / (rows**2 / (self.clusters - 1) + seeds**2 / (self.seeds - 1))


def clustered_stderr(values: Sequence[float] | Floats, clusters: NDArray[np.int64] | None = None) -> float:
    """Standard error of a mean whose rows share passages or subjects.

    The root of `variance_of_mean`. Where every row is a cluster of its own this is s / sqrt(N).

    Args:
        values: `[N]`.
        clusters: `[N]` the cluster of each row, from 0; None: each its own.

    Returns:
        NaN for fewer than two clusters.
    """
    x = np.asarray(values, np.float64)
    return math.sqrt(variance_of_mean(x, np.arange(len(x)) if clusters is None else clusters))


def score_error(values: Floats, clusters: NDArray[np.int64]) -> ScoreError:
    """The error of a mean over seeds and rows, in its two parts.

    Rows and seeds are crossed random effects: y = mean + row + seed + rest (Searle, Casella and McCulloch, Variance Components,
    1992, chapter 4). What seeds do is the variance of their means less the share of it that is the rest's, and never below 0.

    Args:
        values: `[S, N]` the score of each row under each seed.
        clusters: `[N]` the cluster of each row, from 0.
    """
    seeds = len(values)
    by_row, by_seed = values.mean(0), values.mean(1)
    between = math.nan
    if seeds > 1:
        rest = values - by_row - by_seed[:, None] + values.mean()
        noise = np.mean([variance_of_mean(each, clusters) for each in rest]) * seeds / (seeds - 1)
        between = math.sqrt(max(0.0, float(by_seed.var(ddof=1) - noise)))
    return ScoreError(
        value=float(values.mean()),
        sampling=math.sqrt(variance_of_mean(by_row, clusters)),
        between_seeds=between,
        seeds=seeds,
        clusters=int(clusters.max()) + 1 if clusters.size else 0,
    )


def detectable(stderr: float, *, alpha: float = 0.05, power: float = 0.8, sided: int = 2) -> float:
    """The smallest true difference that a test finds with probability `power`: (z(1 - alpha / sided) + z(power)) * stderr.

    Bloom (1995), Evaluation Review 19, 547-556. In the unit of `stderr`.
    """
    return float((stats.norm.isf(alpha / sided) + stats.norm.isf(1 - power)) * stderr)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalToNoise:
    """How well a task tells models apart: Heineman et al. (2025), arXiv 2508.13144, whose noise is that of checkpoints."""

    signal: float
    """Best score less worst: the largest difference of two models."""
    noise: float
    """Root mean square, over models, of the standard error of a score: rows and seeds."""
    models: int

    @property
    def ratio(self) -> float:
        """Signal over noise. Both would be divided by the mean score, so that it falls out. NaN without noise."""
        return self.signal / self.noise if self.noise > 0 else math.nan

    @property
    def by_chance(self) -> float:
        """What the ratio would be on average if all models were equal and noise alone spread them: the mean range of n standard
        normal numbers, Tippett (1925), Biometrika 17, 364-387."""
        return mean_range(self.models)


def signal_to_noise(scores: Sequence[float], stderrs: Sequence[float]) -> SignalToNoise:
    """Signal and noise of a task from the `n` scores of its models and their standard errors.

    NaN errors (one row, one cluster) are left out of the noise.
    """
    known = [error**2 for error in stderrs if not math.isnan(error)]
    return SignalToNoise(
        signal=max(scores) - min(scores),
        noise=math.sqrt(sum(known) / len(known)) if known else math.nan,
        models=len(scores),
    )


def mean_range(n: int) -> float:
    """Mean of the largest less the smallest of `n` standard normal numbers: 1.128 for two, 2.704 for seven."""
    x = np.linspace(-9, 9, 4001)
    below = stats.norm.cdf(x)
    return float(np.trapezoid(1 - below**n - (1 - below) ** n, x))
