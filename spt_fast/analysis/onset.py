"""When a fault began: the first checkpoint of a series from which a metric has fallen and stays down.

The checkpoints are looked at one after the other, as they come. Each is held against the last healthy one, on the same rows:

* **healthy**: a fall of `allowed` or more is ruled out (one-sided, level 0.05). It becomes the one that the next are held
  against. A rise is healthy, and so is a fall from which the metric has come back.
* **fallen**: the newest checkpoint, or the mean of all since the last healthy one, is significantly below that, and by at least
  `least`.
* **undecided**: anything else.

The level holds over all looks together: look t spends 10 / ((t + 9) (t + 10)) of it, which sums to 1 however long the series
becomes (Bonferroni's inequality over looks, as the spending functions of Lan and DeMets (1983), Biometrika 70, 659-663), and a
look's share is divided by its tests. So a series in which nothing falls is taken for one with a fault with probability `ALPHA`
at most. What checkpoints do to a metric beside what their rows tell (another start, another order of the corpus) is learnt
from the series (`checkpoint_noise`), and added to what rows do; each test since the last healthy checkpoint is made again when
more is known of it. Where a checkpoint was stopped early, or looked at, two are held against each other on the rows that both
were asked, by what holds at every look (`watched`). In simulation, with twelve checkpoints and four tasks of 500 rows of which
6 % flip by chance: a fall of 3 points is found, at the right checkpoint, in 98 % of series; where nothing falls, something is
said to have fallen in 1 % (`benchmarks/series/alarms.py`, with noise too).

Where it began is then the step function that fits best from the last healthy checkpoint on (least squares).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from spt_fast.analysis.checkpoint_noise import Noise, noise_of
from spt_fast.analysis.paired import PairedDifference, paired_difference
from spt_fast.analysis.pooled import Pooled
from spt_fast.analysis.resampling import Floats
from spt_fast.analysis.watched import END, WatchedChange, change_of, in_order
from spt_fast.scoring.sequential import LOOKS
from spt_fast.scoring.stopping import Asked

ALPHA = 0.05
"""Probability that anything is said to have fallen in a series in which nothing has."""
LEAST, ALLOWED = 0.01, 0.02
"""Of knowledge: the smallest fall that is a fault, one point, and the one that must be ruled out of a healthy checkpoint."""
_HEALTHY = 0.05

State: TypeAlias = Literal["healthy", "fell", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How the rows of one task were asked along a series of which checkpoints were stopped early, or looked at."""

    rows: tuple[str, ...]
    """`[N]` their keys."""
    task: str
    groups: tuple[str, ...]
    """`[N]` rows that share a passage or subject share a group; empty: none."""
    in_all: tuple[int, int, int] | None
    """Rows, units, and rows of the largest unit, of all that the task has; None: these are all."""
    stopped: tuple[int | None, ...]
    """`[T]` after how many rows each checkpoint was stopped; None: it was asked all."""
    looked: tuple[bool, ...]
    """`[T]` whether it was looked, while rows were asked, if they were enough: of each that was stopped, and some others."""

    @property
    def is_watched(self) -> bool:
        """Whether any checkpoint was stopped, or looked at."""
        return any(self.looked)

    @cached_property
    def asked(self) -> Asked:
        """The rows in the order in which they are asked."""
        return Asked.of_keys(self.task, self.rows, self.groups, self.in_all)

    def rows_at(self, checkpoint: int) -> int:
        """That a checkpoint was asked."""
        n = self.stopped[checkpoint]
        return self.asked.sizes[0] if n is None else n

    def between(self, before: int, after: Sequence[int]) -> tuple[bool, bool]:
        """Whether a change is watched (a side was stopped, or the later one looked at), and whether all rows were asked."""
        whole = all(self.stopped[i] is None for i in (before, *after))
        return not whole or any(self.looked[i] for i in after), whole


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One metric, from 0 to 1, along a series: of each task the same rows at every checkpoint."""

    values: Sequence[Floats] = field(repr=False)
    """A task each: `[T, S, N]`, checkpoints x seeds x rows; higher is better. NaN: not asked at that checkpoint."""
    clusters: Sequence[NDArray[np.int64]] = field(repr=False)
    """A task each: `[N]` which rows share a passage or subject."""
    asking: Sequence[Asking] = field(default=(), repr=False)
    """A task each, where any checkpoint was stopped, or looked at: what is said then holds at every look. Else none."""
    least: float = LEAST
    """The smallest fall that is a fault."""
    allowed: float = ALLOWED
    """A checkpoint is healthy where a fall as large as this is ruled out."""

    def __len__(self) -> int:
        return len(self.values[0]) if self.values else 0

    def change(self, before: int, after: Sequence[int]) -> Pooled:
        """The mean of some checkpoints against one, over tasks, on the rows that all of these were asked."""
        return change_of(self.by_task(before, after), self.allowed)

    def by_task(self, before: int, after: Sequence[int]) -> list[PairedDifference]:
        """The same of each task."""
        if self.asking:
            return [self._in_order(task, before, list(after)) for task in range(len(self.values))]
        return [
            paired_difference(values[before], values[list(after)].mean(0), clusters, resamples=0)
            for values, clusters in zip(self.values, self.clusters, strict=True)
        ]

    def _in_order(self, task: int, before: int, after: list[int]) -> PairedDifference:
        asking, values = self.asking[task], self.values[task]
        there = np.flatnonzero(~np.isnan(values[[before, *after]]).any((0, 1)))
        clusters = np.unique(self.clusters[task][there], return_inverse=True)[1]
        old, new = values[before][:, there], values[after].mean(0)[:, there]
        watched, whole = asking.between(before, after)
        return in_order(
            paired_difference(old, new, clusters, resamples=0),
            asking.asked,
            [asking.rows[i] for i in there],
            (old, new),
            watched=watched,
            whole=whole,
        )


@dataclass(frozen=True, kw_only=True)
class Dip:
    """A fall from which the metric has come back."""

    first: int
    back: int
    """The first checkpoint that is healthy again."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What has become of one metric by the last checkpoint."""

    state: State
    """Of the last checkpoint."""
    reference: int
    """The last healthy checkpoint."""
    first: int | None = None
    """Where it began to be fallen or undecided; None: the last checkpoint is healthy."""
    dips: Sequence[Dip] = ()

    def tail(self, checkpoints: int) -> list[int]:
        """From where it began to the last checkpoint."""
        return [] if self.first is None else list(range(self.first, checkpoints))


def share_of_look(look: int) -> float:
    """Of the level: 1 for the second checkpoint of a series, 2 for the third; all shares together are 1."""
    return 10 / ((look + 9) * (look + 10))


def follow(trajectory: Trajectory, *, alpha: float = ALPHA) -> Course:
    """What has become of a metric by the last checkpoint, looked at one checkpoint after the other.

    Args:
        trajectory: of one checkpoint at least.
        alpha: of this metric: that of all that is followed, divided by how many these are.
    """
    follower = _Follower(trajectory, alpha)
    for look in range(1, len(trajectory)):
        follower.look(look)
    return follower.course()


def alarms(trajectory: Trajectory, *, alpha: float = ALPHA) -> list[int]:
    """The checkpoints at which something was taken for fallen when they were the last, be it for a while.

    Args:
        trajectory: of one checkpoint at least.
        alpha: as `follow` has it.
    """
    follower, found = _Follower(trajectory, alpha), []
    for look in range(1, len(trajectory)):
        follower.look(look)
        found += [look] * follower.fallen
    return found


class _Follower:
    """What is known after some looks."""

    def __init__(self, trajectory: Trajectory, alpha: float) -> None:
        self._of = trajectory
        self._alpha = alpha
        self._last = 0
        self._reference = 0
        self.fallen = False
        self._quiet: list[Pooled] = []
        """Changes between healthy checkpoints, and those that it came back from without being taken for a fault."""
        self._dips: list[Dip] = []
        self._changes: dict[tuple[int, int], Pooled] = {}
        """From the reference to the mean of some checkpoints: the first, the last."""

    def look(self, now: int) -> None:
        """Take the next checkpoint in."""
        self._last = now
        if self._change(now, now).limits(1 - 2 * _HEALTHY).low > -self._of.allowed:
            self._accept(now)
        else:  # earlier looks, too, for more is known by now of how much checkpoints differ by
            noise = self._noise
            self.fallen = any(self._fell(look, noise) for look in self._tail)

    def course(self) -> Course:
        """What has become of it."""
        state: State = "fell" if self.fallen else "undecided" if self._tail else "healthy"
        first = self._began(self._tail) if self._tail else None
        return Course(state=state, reference=self._reference, first=first, dips=tuple(self._dips))

    @property
    def _tail(self) -> range:
        """Checkpoints since the last healthy one."""
        return range(self._reference + 1, self._last + 1)

    def _change(self, first: int, last: int) -> Pooled:
        if (first, last) not in self._changes:
            self._changes[first, last] = self._of.change(self._reference, range(first, last + 1))
        return self._changes[first, last]

    def _accept(self, now: int) -> None:
        if self.fallen:
            self._dips.append(Dip(first=self._began(self._tail[:-1]), back=now))
        else:
            self._quiet += [self._change(each, each) for each in self._tail]
        self._reference, self.fallen, self._changes = now, False, {}

    def _fell(self, look: int, noise: Noise) -> bool:
        lengths = {1, look - self._reference}
        share = self._alpha * share_of_look(look) / len(lengths)
        changes = ((self._change(look - length + 1, look), noise.times((1 + 1 / length) / 2)) for length in lengths)
        return any(change.change <= -self._of.least and _is_fall(change, known, share) for change, known in changes)

    @property
    def _noise(self) -> Noise:
        """What is known of it by now."""
        tail = self._tail
        began = self._began(tail)
        falls = [*self._quiet, *(self._change(each, each) for each in range(tail.start, began))]
        low = [self._change(each, each) for each in range(began, tail.stop)]
        return noise_of(falls, low)

    def _began(self, tail: range) -> int:
        """The first checkpoint of the lower step, of the two-step function that fits best since the last healthy one."""
        drops = np.array([self._change(each, each).change for each in tail])
        fits = [float((drops[:i] ** 2).sum() + ((drops[i:] - drops[i:].mean()) ** 2).sum()) for i in range(len(drops))]
        return tail[int(np.argmin(fits))]


def _is_fall(change: Pooled, noise: Noise, alpha: float) -> bool:
    """Whether a metric has fallen, at this level, by more than the noise of checkpoints explains."""
    if not isinstance(change, WatchedChange):
        return _p(change, noise) <= alpha
    # No bet knows of noise: half of the level is for that it is larger than this, half for that rows say more than it.
    most = float(stats.t.isf(alpha / 2, noise.degrees_of_freedom)) * math.sqrt(noise.variance)
    drop = change.drop
    return drop.p_at_most(most) <= LOOKS * alpha / 2 or (drop.whole and _p(drop.fixed, noise) <= END * alpha)


def _p(change: Pooled, noise: Noise) -> float:
    """One-sided p-value of "it did not fall", with the noise of checkpoints in it."""
    if not noise.variance > 0 or change.one_passage:
        return change.p_drop
    variance = change.stderr**2 + noise.variance
    shares = change.stderr**4 / change.degrees_of_freedom + noise.variance**2 / noise.degrees_of_freedom
    return float(stats.t.cdf(change.change / math.sqrt(variance), variance**2 / shares if shares else math.inf))
