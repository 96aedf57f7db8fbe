"""The same rows scored twice: by how much the mean changed, and how sure that is.

One interval serves all cases. For one seed and independent rows it is Tango's score interval of a difference of paired
proportions, which holds its level where few rows or none have changed; there the bootstrap and the t interval say with
certainty that nothing can have changed. Rows that share a passage, and seeds, change how much the rows are worth: the counts
are divided by the design effect, as Rao and Scott (1992), Biometrics 48, 577-585, do for clustered proportions.

What is not from 0 to 1 (bits per byte) has the t test and the t interval of the paired differences, clustered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from spt_fast.analysis.resampling import RESAMPLES, Floats, Interval, percentile_interval
from spt_fast.analysis.variance import ScoreError, clustered_stderr, detectable, score_error
from spt_fast.scoring.statistics import mcnemar_exact


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """Scores of the same rows before and after."""

    rows: int
    clusters: int
    """Groups of rows that share a passage or subject; as many as rows where none do."""
    seeds: int
    before: float
    after: float
    gained: float
    """What rows gained, summed: for verdicts of one seed, the rows that were wrong and are right. Of several seeds, their mean
    counts."""
    lost: float
    """What rows lost, summed."""
    error: ScoreError = field(repr=False)
    """Of the change: what rows do and what seeds do, apart."""
    bootstrap: Interval
    """Percentile interval over resampled clusters and seeds."""
    test: Literal["McNemar", "score", "t"]
    """`McNemar`: exact, for verdicts of one seed on independent rows; `score`: Tango's, with the design effect; `t`: Student's,
    for what is not from 0 to 1."""

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    def reversed(self) -> Self:
        """The same with before and after exchanged: of what is better the lower it is, a rise is then a fall."""
        return replace(
            self,
            before=self.after,
            after=self.before,
            gained=self.lost,
            lost=self.gained,
            bootstrap=Interval(low=-self.bootstrap.high, high=-self.bootstrap.low, level=self.bootstrap.level),
        )

    @property
    def stderr(self) -> float:
        """Of the change, over rows and seeds."""
        return self.error.total

    @property
    def design_effect(self) -> float:
        """Variance of the change over what verdicts of independent rows under one seed would have. 1 for those."""
        naive = self.gained + self.lost - (self.gained - self.lost) ** 2 / self.rows
        if naive <= 0 or not self.stderr > 0:  # nothing moved, or all alike: as if the rows of a cluster were one row
            return self.rows / self.clusters
        return self.stderr**2 * self.rows**2 / (naive * self.clusters / (self.clusters - 1))

    @property
    def degrees_of_freedom(self) -> float:
        """Of the standard error; without end for independent rows of one seed, whose score interval needs no estimate of it."""
        independent = self.clusters == self.rows and self.seeds == 1 and self.test != "t"
        return math.inf if independent else self.error.degrees_of_freedom

    @property
    def interval(self) -> Interval:
        """95 %."""
        return self.limits(0.95)

    def limits(self, level: float) -> Interval:
        """Two-sided interval of the change; each end alone is a one-sided bound of level (1 + level) / 2."""
        if self.test == "t":
            if self.clusters < 2:
                return Interval(low=-math.inf, high=math.inf, level=level)
            reach = float(stats.t.isf((1 - level) / 2, self.error.degrees_of_freedom)) * self.stderr
            return Interval(low=self.change - reach, high=self.change + reach, level=level)
        if self.clusters < 2:
            return Interval(low=-1.0, high=1.0, level=level)  # one passage says nothing of others
        effect = self.design_effect
        quantile = float(stats.t.isf((1 - level) / 2, self.degrees_of_freedom))
        low, high = score_limits(self.gained / effect, self.lost / effect, self.rows / effect, quantile)
        return Interval(low=low, high=high, level=level)

    @property
    def p(self) -> float:
        """Two-sided p-value of no change."""
        if self.test == "McNemar":
            return mcnemar_exact(round(self.gained), round(self.lost))
        if self.clusters < 2:
            return 1.0
        return float(2 * stats.t.sf(abs(self._statistic), self.degrees_of_freedom))

    @property
    def p_drop(self) -> float:
        """One-sided p-value of "it did not fall"; below alpha exactly where the upper limit of level 1 - 2 alpha is below 0."""
        if self.clusters < 2:
            return 1.0
        return float(stats.t.cdf(self._statistic, self.degrees_of_freedom))

    @property
    def _statistic(self) -> float:
        """Of the test of no change, above 0 where it rose; 0 where nothing moved."""
        if self.test == "t":
            return (
                self.change / self.stderr if self.stderr > 0 else math.copysign(math.inf, self.change) if self.change else 0.0
            )
        return _statistic(self.gained, self.lost, self.design_effect)

    def detectable(self, *, alpha: float = 0.05, power: float = 0.8, sided: int = 2) -> float:
        """The smallest true change that so many rows, differing so often, show with probability `power`; NaN if none differ."""
        if not self.stderr > 0:
            return math.nan
        return detectable(self.stderr, alpha=alpha, power=power, sided=sided)


def paired_difference(
    before: Floats,
    after: Floats,
    clusters: NDArray[np.int64] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    of_one: bool = True,
) -> PairedDifference:
    """Compare scores of the same rows under the same seeds.

    Args:
        before: `[S, N]` scores, or `[N]` for one seed.
        after: the same shape: seed and row stand where they stand in `before`.
        clusters: `[N]` which rows share a passage or subject, from 0; None: none do.
        resamples: of the bootstrap; 0: none, and its interval is NaN.
        seed: of the bootstrap.
        of_one: the scores are from 0 to 1 (verdicts: 0 or 1).

    Raises:
        ValueError: the shapes differ, or there is no row.
    """
    first, second = np.atleast_2d(np.asarray(before, np.float64)), np.atleast_2d(np.asarray(after, np.float64))
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise ValueError(f"before and after must have the same shape, [S, N] with N > 0, not {first.shape} and {second.shape}")
    change = second - first
    of_row = np.arange(change.shape[1]) if clusters is None else clusters
    error = score_error(change, of_row)
    # By luck few clusters may seem to vary less than their rows do; but a passage never makes its rows worth more.
    alone = clustered_stderr(change.mean(0))
    if error.clusters > 1 and alone > error.sampling:
        error = replace(error, sampling=alone)
    by_row = change.mean(0)
    gained, lost = float(by_row[by_row > 0].sum()), float(-by_row[by_row < 0].sum())
    verdicts = of_one and bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    exact = verdicts and len(change) == 1 and error.clusters == change.shape[1]
    return PairedDifference(
        rows=change.shape[1],
        clusters=error.clusters,
        seeds=len(change),
        before=float(first.mean()),
        after=float(second.mean()),
        gained=gained,
        lost=lost,
        error=error,
        bootstrap=percentile_interval(bootstrap(change, of_row, resamples=resamples, seed=seed)),
        test="McNemar" if exact else "score" if of_one else "t",
    )


def bootstrap(change: Floats, clusters: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Mean change under each of `R` resamples of clusters and seeds: `[R]`.

    Clusters that are alike (same size, same sums under each seed) are drawn together, as one multinomial number: the same
    distribution, and verdicts have few that differ.

    Args:
        change: `[S, N]`.
        clusters: `[N]`, from 0.
    """
    if not resamples:
        return np.zeros(0)
    generator = np.random.default_rng(seed)
    sums = np.stack([np.bincount(clusters, each) for each in (*change, np.ones(change.shape[1]))])  # [S + 1, G]
    kinds, often = np.unique(np.round(sums, 9), axis=1, return_counts=True)
    counts = generator.multinomial(often.sum(), often / often.sum(), size=resamples) @ kinds.T  # [R, S + 1]
    seeds = len(change)
    weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    found: Floats = (counts[:, :-1] * weights).sum(1) / (seeds * counts[:, -1])
    return found


def score_limits(gained: float, lost: float, n: float, z: float) -> tuple[float, float]:
    """Interval of (gained - lost) / n by inverting the score test: Tango (1998), Statistics in Medicine 17, 891-908.

    Args:
        gained: pairs that changed from 0 to 1; need not be whole.
        lost: pairs that changed from 1 to 0.
        n: all pairs.
        z: quantile, 1.96 for 95 %.
    """
    estimate = (gained - lost) / n
    ends = []
    for side in (-1.0, 1.0):
        inside, outside = estimate, side
        for _ in range(54):  # as close as a float can tell
            middle = (inside + outside) / 2
            if abs(_score(gained, lost, n, middle)) < z:
                inside = middle
            else:
                outside = middle
        ends.append(inside)
    return ends[0], ends[1]


def _score(gained: float, lost: float, n: float, difference: float) -> float:
    """Tango's statistic against a true `difference`, with the constrained maximum-likelihood share of losses."""
    b = (2 * n - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    over = gained - lost - n * difference
    if variance <= 0:
        return math.inf if over else 0.0
    return over / math.sqrt(variance)


def _statistic(gained: float, lost: float, effect: float) -> float:
    """Of the score test of no change; 0 where nothing moved."""
    moved = gained + lost
    return (gained - lost) / math.sqrt(moved * effect) if moved > 0 and effect > 0 else 0.0
