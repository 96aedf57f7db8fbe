"""What a comparison of two runs says: what was held against what, what moved, and what could not be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from spt_fast.analysis.paired import PairedDifference
from spt_fast.scoring.metrics import spec


class Pair(NamedTuple):
    """What is held against what."""

    task: str
    a_model: str
    b_model: str
    a_protocol: str
    b_protocol: str

    @property
    def model(self) -> str:
        """As a person reads it: one name, or both."""
        return _both(self.a_model, self.b_model)

    @property
    def protocol(self) -> str:
        """As a person reads it: one label, or both."""
        return _both(self.a_protocol, self.b_protocol)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of one pair."""

    pair: Pair
    metric: str
    difference: PairedDifference
    p_holm: float = 1.0
    """Two-sided p-value after Holm's correction for all comparisons."""
    gained_rows: int = 0
    """Rows that were wrong and are right, or are better than they were, counted under each seed."""
    lost_rows: int = 0
    """Rows that were right and are wrong, or are worse than they were, counted under each seed."""
    methods: tuple[str, str] | None = None
    """`knowledge_best`, closed-ended tasks: the scoring method that A and that B chose on tuning rows; of several seeds all."""

    @property
    def better(self) -> PairedDifference:
        """The difference as it is good: above 0 where B is better, also in a metric whose lower values are."""
        return self.difference if spec(self.metric).higher_is_better else self.difference.reversed()


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """What A has and was not compared."""

    pair: Pair
    metric: str
    why: str
    """A sentence."""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A row that was judged differently."""

    example: str
    gained: bool
    """False: it was right and is wrong."""
    before: str
    """The completion in A. Hostile text."""
    after: str
    """The completion in B. Hostile text."""
    target: str
    by_likelihood: bool = False
    """It is judged by the likelihoods of its options, and not by the completion."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two runs, compared."""

    a: str
    b: str
    alpha: float
    comparisons: tuple[Comparison, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    """Differences of the runs that a reader should know of, in sentences."""

    @property
    def moved(self) -> tuple[Comparison, ...]:
        """Those that differ significantly, after Holm's correction."""
        return tuple(each for each in self.comparisons if each.p_holm <= self.alpha)


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first} -> {second}"
