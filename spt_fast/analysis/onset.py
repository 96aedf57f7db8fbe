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
at at most. What checkpoints do to a metric beside what their rows tell (another start, another order of the corpus) shows in
falls from which a series came back unnoticed: their variance in excess of their rows', as DerSimonian and Laird (1986),
Controlled Clinical Trials 7, 177-188, estimate it, is added to that of each later test; before there are any, half a point is
taken for it. In simulation, with twelve checkpoints and four tasks of 500 rows of which 6 % flip by chance: a fall of 3 points
is found, at the right checkpoint, in 98 % of series; where nothing falls, something is said to have fallen in 1 %.

Where it began is then the step function that fits best from the last healthy checkpoint on (least squares).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from spt_fast.analysis.paired import PairedDifference, paired_difference
from spt_fast.analysis.pooled import Pooled
from spt_fast.analysis.resampling import Floats

ALPHA = 0.05
"""Probability that anything is said to have fallen in a series in which nothing has."""
LEAST, ALLOWED = 0.01, 0.02
"""Of knowledge: the smallest fall that is a fault, one point, and the one that must be ruled out of a healthy checkpoint."""
_HEALTHY = 0.05
_NOISE, _SHRINKAGE = 0.005, 2.0
"""What two checkpoints are taken to differ by beside what their rows tell before anything is known of it, and how many falls
without excess its estimate begins with."""

State: TypeAlias = Literal["healthy", "fell", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One metric, from 0 to 1, along a series: of each task the same rows at every checkpoint."""

    values: Sequence[Floats] = field(repr=False)
    """A task each: `[T, S, N]`, checkpoints x seeds x rows; higher is better."""
    clusters: Sequence[NDArray[np.int64]] = field(repr=False)
    """A task each: `[N]` which rows share a passage or subject."""
    least: float = LEAST
    """The smallest fall that is a fault."""
    allowed: float = ALLOWED
    """A checkpoint is healthy where a fall as large as this is ruled out."""

    def __len__(self) -> int:
        return len(self.values[0]) if self.values else 0

    def change(self, before: int, after: Sequence[int]) -> Pooled:
        """The mean of some checkpoints against one, over tasks."""
        return Pooled(parts=self.by_task(before, after))

    def by_task(self, before: int, after: Sequence[int]) -> list[PairedDifference]:
        """The same of each task."""
        return [
            paired_difference(values[before], values[list(after)].mean(0), clusters, resamples=0)
            for values, clusters in zip(self.values, self.clusters, strict=True)
        ]


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

    def look(self, now: int) -> None:
        """Take the next checkpoint in."""
        self._last = now
        if self._of.change(self._reference, [now]).limits(1 - 2 * _HEALTHY).low > -self._of.allowed:
            self._accept(now)
        elif not self.fallen:
            lengths = {1, now - self._reference}
            share = self._alpha * share_of_look(now) / len(lengths)
            self.fallen = any(self._fell(now, length, share) for length in lengths)

    def course(self) -> Course:
        """What has become of it."""
        tail = range(self._reference + 1, self._last + 1)
        state: State = "fell" if self.fallen else "undecided" if tail else "healthy"
        return Course(state=state, reference=self._reference, first=self._began() if tail else None, dips=tuple(self._dips))

    def _accept(self, now: int) -> None:
        if self.fallen:
            self._dips.append(Dip(first=self._began(without_last=True), back=now))
        else:
            since = (self._of.change(self._reference, [each]) for each in range(self._reference + 1, now + 1))
            self._quiet += since
        self._reference, self.fallen = now, False

    def _fell(self, now: int, length: int, alpha: float) -> bool:
        change = self._of.change(self._reference, range(now - length + 1, now + 1))
        return change.change <= -self._of.least and _p(change, self._noise * (1 + 1 / length) / 2) <= alpha

    @property
    def _noise(self) -> float:
        """Variance of the difference of two checkpoints, beside what their rows tell."""
        falls = [each for each in self._quiet if each.change < 0]
        of_tasks = [part for each in self._quiet for part in each.parts if part.change < 0]
        tasks = len(self._of.values)
        return max(_NOISE**2 / (1 + len(of_tasks) / tasks), _excess(falls), _excess(of_tasks) / tasks)

    def _began(self, *, without_last: bool = False) -> int:
        """The first checkpoint of the lower step, of the two-step function that fits best since the last healthy one."""
        tail = range(self._reference + 1, self._last + (not without_last))
        drops = np.array([self._of.change(self._reference, [each]).change for each in tail])
        fits = [float((drops[:i] ** 2).sum() + ((drops[i:] - drops[i:].mean()) ** 2).sum()) for i in range(len(drops))]
        return tail[int(np.argmin(fits))] if fits else self._last


def _excess(falls: Sequence[Pooled | PairedDifference]) -> float:
    """Variance of falls in excess of their rows', shrunk towards none; of tasks, which check each other, it is a task's."""
    return max(0.0, sum(each.change**2 - each.stderr**2 for each in falls) / (len(falls) + _SHRINKAGE))


def _p(change: Pooled, noise: float) -> float:
    """One-sided p-value of "it did not fall", with the noise of checkpoints in it."""
    if not noise > 0 or change.one_passage:
        return change.p_drop
    return float(stats.t.cdf(change.change / math.sqrt(change.stderr**2 + noise), change.degrees_of_freedom))
