"""Tests and intervals that hold at every look: rows may be asked until the answer is known, and no longer.

A test of a fixed number of rows is wrong with probability alpha if it is made once. Made again and again while rows come in,
it is wrong far more often. What is here is wrong with probability alpha at most over *all* looks together, whenever one stops,
and whatever one stops for.

**Betting.** Against "the mean is at most m" one bets, row by row, that it is more: a stake of 1 becomes

    W = product over rows of 1 + bet * (value - m),    each bet chosen before its row is seen, and never so large that W ends.

If the mean is at most m, W is a nonnegative supermartingale: it reaches 1 / alpha with probability alpha at most (Ville 1939).
So 1 / max W is a p-value at every look, and the means whose W stayed below 1 / alpha are a confidence sequence: Waudby-Smith
and Ramdas (2024), Journal of the Royal Statistical Society B 86, 1-27, which is tighter for verdicts than the
empirical-Bernstein sequence of the same paper (`benchmarks/series/stopping.py` has both). A bet is d / (variance + d^2), what
grows fastest where the mean is d from m, with the variance of the rows before (their predictable plug-in). d is what one wants
to tell apart, a largest drop, and as the true one is not known the stake is divided over several d: a mixture of
supermartingales is one, and W falls in m, so that intervals are intervals.

**Units.** Rows that share a passage come one behind the other and are one unit: the sum over its rows, divided by the mean
size of all passages. So each row weighs the same, as in the mean over rows, and no independence of rows is claimed. Of several
seeds, the mean over the seeds of a row is its value, so what is said is said of these seeds.

**Means over tasks.** Tasks are asked in rounds, in each of which every task has its share of its units. Within a round the bet
is the same for all tasks, divided by the units of the task. By 1 + x <= exp(x) the expected product of a round is at most
exp(bet * the sum over tasks of (mean - m)): at most 1 where the mean over tasks is at most m, whatever the single ones are. So
W counts at the ends of rounds.

What is said is said of the rows that these are a sample of, as in the fixed test.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

LOOKS = 0.75
"""Share of alpha for the looks. The rest is for the test of a fixed number of rows, where all were asked undecided."""
PASSES = (0.75, 0.5, 0.25)
"""The same for a pass: where there are twice as many units as it usually takes, as many, or fewer; then looks decide little."""
MOST_STAKED = 0.8
"""Greatest share of W that a row may cost."""
PRIOR_ROWS = 25.0
"""So many rows count as seen before the first, with `Stream.variance`."""
PASS, FAIL, BEYOND = (0.7, 1.4), (1.0, 2.5), (0.5, 1.5)
"""What is bet on, in largest drops: that there is no drop as large; that there is one; that it is larger than is allowed."""
ANY = (0.01, 0.03, 0.1, 0.3)
"""The same where nothing is known: differences of so much."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The units of one task in the order in which they are asked, as far as they are."""

    values: Floats
    """`[G]` of each unit, with the mean that is asked for: see `of_rows`."""
    units: int
    """That there are in all."""
    low: float
    """The least that a unit can be."""
    high: float
    """The most."""
    variance: float
    """What it is taken to be before a row is seen."""


def asking_order(units: Sequence[str], task: str) -> list[int]:
    """The order in which rows are asked: random, but the same for every model, and units as a whole.

    Args:
        units: of each row its group, or where it has none its key.
        task: whose rows; another one has another order, so that tasks about the same facts do not ask them at the same time.
    """
    places = {unit: hashlib.sha256(f"{task} is asked in this order: {unit}".encode()).digest() for unit in units}
    return sorted(range(len(units)), key=lambda i: places[units[i]])


def of_rows(values: Floats, units: Sequence[str], *, rows: int, in_all: int, largest: int, paired: bool) -> Stream:
    """The units of rows.

    Args:
        values: `[N]` in the order in which they are asked: shares, 0 to 1, or differences of two.
        units: `[N]` of each row: those of one stand together.
        rows: that there are in all, asked or not.
        in_all: units that there are in all.
        largest: rows of the largest of them.
        paired: differences, -1 to 1.
    """
    size = rows / in_all
    middle, reach, variance = (0.0, 1.0, 0.08) if paired else (0.5, 0.5, 0.2)
    if largest > 1:
        first = [i for i, unit in enumerate(units) if not i or unit != units[i - 1]]
        sums = np.add.reduceat(values - middle, first) if first else np.zeros(0)
        values = middle + sums / size  # about the middle, so that a large passage is not a high one
        reach *= largest / size
    return Stream(values=values, units=in_all, low=middle - reach, high=middle + reach, variance=variance)


class Walk:
    """The mean over tasks, watched while rows come in: what can be said of it at any time."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        """`streams`: one a task."""
        self.streams = tuple(streams)
        in_all = min(stream.units for stream in streams)
        ends = [np.arange(in_all + 1) * stream.units // in_all for stream in streams]
        self.rounds = min(
            int(np.searchsorted(end, len(stream.values), "right")) - 1 for end, stream in zip(ends, streams, strict=True)
        )
        """That are whole."""
        counts = [np.diff(end[: self.rounds + 1]) for end in ends]
        self._round = np.concatenate([np.repeat(np.arange(self.rounds), count) for count in counts])
        self._share = np.concatenate([np.repeat(1.0 / count, count) for count in counts])
        self._values = np.concatenate([stream.values[: end[self.rounds]] for end, stream in zip(ends, streams, strict=True)])
        self._least, self._most = min(s.low for s in streams), max(s.high for s in streams)

    @property
    def mean(self) -> float:
        """Over tasks, of all that was asked."""
        return float(np.mean([stream.values.mean() if len(stream.values) else math.nan for stream in self.streams]))

    @cached_property
    def _variance(self) -> Floats:
        """`[R]` of a round's mean over tasks, times the tasks, by the rounds before it."""
        if not self.rounds:
            return np.zeros(0)
        tasks = len(self.streams)
        prior, before = PRIOR_ROWS / tasks, np.arange(self.rounds)
        middle = (self._least + self._most) / 2
        sums = np.bincount(self._round, self._share * self._values, self.rounds) / tasks
        means = (prior * middle + np.cumsum(sums) - sums) / (prior + before)
        squares = np.bincount(self._round, (self._share * (self._values - means[self._round])) ** 2, self.rounds) / tasks
        guess = float(np.mean([stream.variance for stream in self.streams]))
        found: Floats = (prior * guess + np.cumsum(squares) - squares) / (prior + before)
        return found

    def log_wealth(self, null: float, distances: Sequence[float], *, above: bool) -> Floats:
        """`[R]` the largest logarithm of W so far at the end of each round, betting that the mean is above (or below) `null`.

        Args:
            null: the mean that is bet against.
            distances: what the mean may be from it, each with the same part of the stake; infinity stakes all that may be.
            above: the side.
        """
        if not self.rounds:
            return np.zeros(0)
        sign, least = (1.0, null - self._least) if above else (-1.0, self._most - null)
        gains = sign * (self._values - null) * self._share
        most = MOST_STAKED / max(least, 1e-9)
        parts = []
        for distance in distances:
            bet = distance / (self._variance + distance**2) if math.isfinite(distance) else math.inf
            bets = np.minimum(np.broadcast_to(bet, self.rounds), most)
            parts.append(np.cumsum(np.bincount(self._round, np.log1p(bets[self._round] * gains), self.rounds)))
        whole: Floats = np.logaddexp.reduce(np.stack(parts)) - math.log(len(parts))
        return np.maximum.accumulate(whole)

    def p(self, null: float, distances: Sequence[float], *, above: bool) -> float:
        """P-value, at every look, of "the mean is not above (or below) `null`"."""
        wealth = self.log_wealth(null, distances, above=above)
        return float(math.exp(-max(0.0, wealth[-1]))) if len(wealth) else 1.0

    def bound(self, alpha: float, distances: Sequence[float], *, above: bool) -> float:
        """One-sided bound of the mean that holds at every look with probability 1 - alpha: it is above (or below) it."""
        out, inside = (self._least, self._most) if above else (self._most, self._least)
        if self.p(out, distances, above=above) > alpha:
            return out
        for _ in range(40):
            middle = (out + inside) / 2
            if self.p(middle, distances, above=above) <= alpha:
                out = middle
            else:
                inside = middle
        return out


@dataclass(frozen=True, kw_only=True)
class Drop:
    """By how much B is worse than A, where `largest` is allowed: what the rows so far say of it at every look."""

    walk: Walk
    """Of A less B."""
    largest: float

    @property
    def p_of_more(self) -> float:
        """P-value of "it dropped by `largest` or more"."""
        return self.walk.p(self.largest, self._times(PASS), above=False)

    @property
    def p_of_none(self) -> float:
        """P-value of "it did not drop"."""
        return self.p_at_most(0.0)

    def p_at_most(self, size: float) -> float:
        """P-value of "it dropped by `size` at most"."""
        return self.walk.p(size, self._times(FAIL), above=True)

    @property
    def p_of_less(self) -> float:
        """P-value of "it dropped by `largest` at most"."""
        return self.walk.p(self.largest, self._times(BEYOND), above=True)

    @property
    def passes(self) -> float:
        """Share of alpha that looks for a pass have: of `PASSES`, known before a row is asked.

        A drop of m is ruled out after about 2 * 3 * variance / m^2 units, the logarithm of 1 / alpha being 3, and 0.06 a usual
        variance: of verdicts, the share that flips.
        """
        units, usual = sum(stream.units for stream in self.walk.streams), 0.36 / self.largest**2
        return PASSES[0 if units >= 2 * usual else 1 if units >= usual else 2]

    def low(self, alpha: float) -> float:
        """Lower bound of level 1 - alpha."""
        return self.walk.bound(alpha, self._times(FAIL), above=True)

    def high(self, alpha: float) -> float:
        """Upper bound of level 1 - alpha."""
        return self.walk.bound(alpha, self._times(PASS), above=False)

    def _times(self, parts: Sequence[float]) -> tuple[float, ...]:
        return tuple(part * self.largest for part in parts)


@dataclass(frozen=True, kw_only=True)
class Change:
    """By how much B is better than A, where nothing is known of how much that may be."""

    walk: Walk
    """Of B less A."""

    @property
    def p(self) -> float:
        """Two-sided p-value of no change."""
        return min(1.0, 2 * min(self.p_rise, self.p_drop))

    @property
    def p_rise(self) -> float:
        """Of "it did not rise"."""
        return self.walk.p(0.0, ANY, above=True)

    @property
    def p_drop(self) -> float:
        """Of "it did not drop"."""
        return self.walk.p(0.0, ANY, above=False)

    def limits(self, level: float) -> tuple[float, float]:
        """Two-sided interval of such a level."""
        alpha = (1 - level) / 2
        return self.walk.bound(alpha, ANY, above=True), self.walk.bound(alpha, ANY, above=False)
