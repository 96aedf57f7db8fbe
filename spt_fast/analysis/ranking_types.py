"""What a ranking says: orders of models, how far they agree with a ground truth, and how well tasks tell models apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from spt_fast.analysis.agreement import Agreement, Chance
from spt_fast.analysis.resampling import Interval
from spt_fast.analysis.variance import SignalToNoise

Kind: TypeAlias = Literal["rows", "seeds", "models", "all"]
KINDS: tuple[Kind, ...] = ("rows", "seeds", "models", "all")
"""What a bootstrap draws again: test rows (whole clusters), tuning seeds, models (with their partners), or all three."""
Intervals: TypeAlias = Mapping[Kind, Interval]

ALL_TASKS = "all tasks"
"""Stands for a task: the order by the mean score over tasks."""
MEAN = "mean of tasks"
"""Stands for a task: the mean of what the tasks give."""
PLANTED = "given"
"""The ground truth that `truth` gives."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A model's place in an order."""

    place: int
    """1 for the best; models of equal score share a place."""
    model: str
    score: float
    stderr: float
    """Over rows and seeds; NaN where it is not known."""
    sampling: float
    """The part of it that rows have; NaN where it is not known."""
    between_seeds: float
    """Standard deviation over seeds; NaN for one seed, and over all tasks, which have each their own."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Models by their score."""

    task: str
    protocol: str
    models: tuple[Ranked, ...]
    """Best first; equal ones as they stand in the grid, sharing their place."""


@dataclass(frozen=True, kw_only=True)
class RankAgreement:
    """How far base models stand in the order of a ground truth."""

    task: str
    """A task, `ALL_TASKS` or `MEAN`."""
    protocol: str
    truth: str
    """"post-trained, soft_prompt", "post-trained, zero_shot", or `PLANTED`."""
    models: tuple[str, ...]
    """The base models that have both scores."""
    agreement: Agreement
    """Of `MEAN`: the means of its numbers; ties summed."""
    intervals: Mapping[str, Intervals]
    """Measure (`distance`, `tau_b`, `spearman`, `decision_accuracy`) -> 95 % interval by what is drawn again. One without width
    says that no draw moved anything, which with a handful of models in perfect order is no proof: see `chance`."""
    chance: Chance | None
    """None for `MEAN`."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """By how much one protocol's order agrees better than another's, under the same draws."""

    task: str
    truth: str
    protocol: str
    over: str
    """The other protocol."""
    tau_b: float
    """Difference of the two tau-b; above 0: `protocol` agrees better."""
    intervals: Intervals


@dataclass(frozen=True, kw_only=True)
class BetweenTasks:
    """How far tasks agree among themselves on the order of models."""

    protocol: str
    tasks: tuple[str, ...]
    models: int
    tau_b: float
    """Mean over all pairs of tasks."""
    intervals: Intervals
    pairs: int
    """Pairs of tasks."""
    higher_than: Mapping[str, int]
    """Other protocol -> on how many pairs of tasks tau-b is higher here, over the tasks that both have."""


@dataclass(frozen=True, kw_only=True)
class TaskSignal:
    """How well a task tells the base models apart under a protocol."""

    task: str
    protocol: str
    signal: SignalToNoise
    sampling: float
    """Root mean square over models of the standard error that rows make; NaN where it is not known."""
    between_seeds: float
    """Root mean square over models of the standard deviation over seeds; NaN where no model has several."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """All there is to say about orders of models."""

    source: str
    metric: str
    """What the orders go by; where tasks differ in it, all of them, separated by commas."""
    metrics: Mapping[str, str]
    """Task -> its metric."""
    models: tuple[str, ...]
    """That are ranked: nobody's post-trained counterpart."""
    partners: Mapping[str, str]
    """Base model -> post-trained counterpart."""
    suites: tuple[str, ...]
    """Of the grid, in the place of a task: the mean over theirs, as they weigh them."""
    truth: Mapping[str, Mapping[str, float]]
    """Task ("" for all) -> base model -> its reference score."""
    orders: tuple[Order, ...]
    agreements: tuple[RankAgreement, ...]
    gains: tuple[Gain, ...]
    between_tasks: tuple[BetweenTasks, ...]
    signals: tuple[TaskSignal, ...]
    notes: tuple[str, ...]
    """What was left out, and why, in sentences."""

    @property
    def tasks_by(self) -> dict[str, list[str]]:
        """Metric -> the tasks that are ordered by it."""
        found: dict[str, list[str]] = {}
        for task, metric in self.metrics.items():
            found.setdefault(metric, []).append(task)
        return found
