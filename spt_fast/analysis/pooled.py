"""Paired differences of several tasks as one: the change of the mean over tasks, with its bounds and its test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats  # type: ignore[import-untyped]

from spt_fast.analysis.paired import PairedDifference
from spt_fast.analysis.resampling import Interval


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """The change of the mean over tasks, each of which weighs the same."""

    parts: Sequence[PairedDifference]
    """One a task; none where nothing could be compared."""

    @property
    def change(self) -> float:
        """After less before; NaN where nothing could be compared."""
        return sum(part.change for part in self.parts) / len(self.parts) if self.parts else math.nan

    @property
    def rows(self) -> int:
        """Of all tasks."""
        return sum(part.rows for part in self.parts)

    @property
    def stderr(self) -> float:
        """Of the change, over rows and seeds; NaN where nothing could be compared."""
        return math.sqrt(sum(part.stderr**2 for part in self.parts)) / len(self.parts) if self.parts else math.nan

    @property
    def one_passage(self) -> bool:
        """Whether all rows of a task share a passage, which says nothing of others."""
        return any(part.clusters < 2 for part in self.parts)

    @property
    def degrees_of_freedom(self) -> float:
        """Of the standard error: Satterthwaite (1946), Biometrics Bulletin 2, 110-114."""
        variances = [part.stderr**2 for part in self.parts]
        shares = sum(v**2 / part.degrees_of_freedom for v, part in zip(variances, self.parts, strict=True))
        return sum(variances) ** 2 / shares if shares else math.inf

    @property
    def p_drop(self) -> float:
        """One-sided p-value of "it did not fall"."""
        if len(self.parts) == 1:
            return self.parts[0].p_drop
        if self.one_passage or not self.stderr > 0:
            return 1.0
        return float(stats.t.cdf(self.change / self.stderr, self.degrees_of_freedom))

    def limits(self, level: float) -> Interval:
        """Two-sided interval of the change; each end alone is a one-sided bound of level (1 + level) / 2.

        From the tasks' intervals by the method of variance estimates recovery: Zou and Donner (2008), Statistics in Medicine
        27, 1693-1702.
        """
        if not self.parts:
            return Interval(low=math.nan, high=math.nan, level=level)
        ends = [(part.change, part.limits(level)) for part in self.parts]
        down = math.sqrt(sum((change - limit.low) ** 2 for change, limit in ends)) / len(ends)
        up = math.sqrt(sum((limit.high - change) ** 2 for change, limit in ends)) / len(ends)
        return Interval(low=self.change - down, high=self.change + up, level=level)
