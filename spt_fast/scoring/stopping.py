"""When a cell has been asked enough: what is to be known of it, and whether it is known.

The driver makes `Stopping` for each cell, with all that a worker needs for it: what the rows of the baseline came to, and of
cells that belong to the same question and are done, what theirs did. The worker looks (`Question.answer`) after each block of
rows. What is decided here only says when to stop. What a stopped cell says is read by `analysis.gate`, from bounds that hold
whenever one stops.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np

from spt_fast.scoring.metrics import MetricSpec, spec, value_of
from spt_fast.scoring.sequential import LOOKS, Change, Drop, Stream, Walk, asking_order, of_rows
from spt_fast.types import Example, Metric, Sample

Scores: TypeAlias = Mapping[str, float]
"""Key of a row -> what it counts in a metric."""


@dataclass(frozen=True)
class Asked:
    """The rows of a task in the order in which they are asked."""

    examples: tuple[str, ...]
    """Their keys."""
    units: tuple[str, ...]
    """Of each its group, or where it has none its key."""
    order: tuple[int, ...]
    """Of each its number among the test rows."""
    in_all: tuple[int, int, int] | None = None
    """Rows, units, and rows of the largest unit, where these are only some of the rows."""

    @classmethod
    def of(cls, task: str, examples: Sequence[Example]) -> Asked:
        """The test rows of a task."""
        return cls.of_keys(task, [example.key for example in examples], [example.group for example in examples])

    @classmethod
    def of_keys(
        cls, task: str, keys: Sequence[str], groups: Sequence[str], in_all: tuple[int, int, int] | None = None
    ) -> Asked:
        """Rows of a task by their keys and groups."""
        units = [group or key for key, group in zip(keys, groups, strict=True)]
        order = asking_order(units, task)
        return cls(tuple(keys[i] for i in order), tuple(units[i] for i in order), tuple(order), in_all)

    @cached_property
    def ends(self) -> list[int]:
        """Where each unit ends, in rows; the first number is 0."""
        last = [i + 1 for i, unit in enumerate(self.units) if self.units[i + 1 : i + 2] != (unit,)]
        return [0, *last]

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Rows, units, and rows of the largest unit, of all that the task has."""
        largest = max((end - start for start, end in pairwise(self.ends)), default=1)
        return self.in_all or (len(self.examples), len(self.ends) - 1, largest)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One task of a question."""

    task: str
    cells: tuple[str, ...]
    """Keys of those that ask it: one a seed."""
    against: Scores | None = field(default=None, repr=False)
    """What the rows of the baseline came to, the mean over its seeds; None: there is none, the mean itself is asked for."""
    done: Mapping[str, Scores] = field(default_factory=dict, repr=False)
    """Of these cells those that nobody has to ask any more -> what their rows came to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """Something that is to be known: of one task, or of the mean over several."""

    kind: Literal["drop", "order", "width"]
    """Whether a metric has dropped by less than is allowed, or by more; whether it is above or below that of another model;
    or it itself."""
    metric: str
    parts: tuple[Part, ...]
    size: float = 0.0
    """Largest allowed drop; or how wide its interval may be."""
    alpha: float = 0.05
    among: int = 1
    """Questions that are asked together: what is called a drop, or an order, must be one among so many."""
    other: str = ""
    """The other model."""

    @property
    def cells(self) -> frozenset[str]:
        """Keys of all that it is about."""
        return frozenset(key for part in self.parts for key in part.cells)

    def answer(self, rows: Callable[[str], Scores | None], asked: Mapping[str, Asked]) -> str:
        """What is known by now, in words; empty: too little.

        Args:
            rows: of the key of a cell, what its rows so far came to; None: it is not there.
            asked: the rows of each task.
        """
        streams = [self._stream(part, rows, asked[part.task]) for part in self.parts]
        if not all(streams):
            return ""
        walk = Walk([stream for stream in streams if stream is not None])
        return {"drop": self._drop, "order": self._order, "width": self._width}[self.kind](walk)

    def _stream(self, part: Part, rows: Callable[[str], Scores | None], asked: Asked) -> Stream | None:
        """What this part has so far: a row as far as all its cells have been asked."""
        found = [part.done[key] if key in part.done else rows(key) for key in part.cells]
        # Seeds that another worker asks are not there: more seeds would only make it surer.
        scores = [each for each in found if each is not None]
        return paired_stream(asked, scores, part.against, spec(self.metric).sign) if scores else None

    def _drop(self, walk: Walk) -> str:
        drop, level, known = Drop(walk=walk, largest=self.size), LOOKS * self.alpha, spec(self.metric)
        fell = "drop" if known.higher_is_better else "rise"
        if drop.p_of_more <= drop.passes * self.alpha:
            return f"{self._named}: a {fell} of {told(self.size, known)} or more is ruled out"
        if drop.p_of_none * self.among <= level and drop.p_of_less <= LOOKS / 2:
            return f"{self._named}: a {fell} of {told(walk.mean, known)}, and {told(self.size, known)} is allowed"
        return ""

    def _order(self, walk: Walk) -> str:
        change, level, known = Change(walk=walk), LOOKS * self.alpha / 2, spec(self.metric)
        for p, word in ((change.p_drop, "above"), (change.p_rise, "below")):  # the walk is of the other less this one
            if p * self.among <= level:
                return f"{self._named}: {told(abs(walk.mean), known)} {word} {self.other}"
        return ""

    def _width(self, walk: Walk) -> str:
        low, high = self.interval(walk)
        if high - low > self.size:
            return ""
        return f"{self._named}: between {low:.3f} and {high:.3f}, which is at most {told(self.size, spec(self.metric))} wide"

    def interval(self, walk: Walk) -> tuple[float, float]:
        """Of a width: the interval of level 1 - `alpha` that is to be so narrow."""
        return _between(walk, self.alpha, (0.35 * self.size, 0.7 * self.size))

    @property
    def _named(self) -> str:
        over = f", mean of {len(self.parts)} tasks" if len(self.parts) > 1 else ""
        return f"{spec(self.metric).words}{over}"


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When one cell has been asked enough."""

    questions: tuple[Question, ...]
    """All that it has a part in: each must be answered."""
    together: str
    """Cells with the same text here are asked in turns: they share questions."""
    rule: str
    """`rule` of the grid."""
    block: int
    """Rows between two looks, those of cells that share a question counted together."""
    least: int
    """Rows before the first look, counted in the same way."""


def paired_stream(asked: Asked, scores: Sequence[Scores], against: Scores | None, sign: float = 1.0) -> Stream:
    """The units of one task that all of some cells have been asked, in the order in which they are.

    Args:
        asked: the rows of the task.
        scores: of the rows of each cell, one a seed.
        against: of the rows of the baseline, which need not have all; None: there is none.
        sign: -1 where less is better.
    """
    kept: list[int] = []
    for start, end in pairwise(asked.ends):
        rows = [i for i in range(start, end) if against is None or asked.examples[i] in against]
        if not all(asked.examples[i] in each for i in rows for each in scores):
            break  # what stands behind it may be there, but who was answered first is no sample
        kept += rows
    keys = [asked.examples[i] for i in kept]
    values = np.array([[each[key] for key in keys] for each in scores], np.float64).reshape(len(scores), -1).mean(0)
    if against is not None:
        values = sign * (np.array([against[key] for key in keys], np.float64) - values)
    rows_in_all, units, largest = asked.sizes
    return of_rows(
        values,
        [asked.units[i] for i in kept],
        rows=rows_in_all,
        in_all=units,
        largest=largest,
        paired=against is not None,
    )


WIDE = (0.03, 0.1, 0.3, math.inf)
"""How far from their ends the means of a stopped cell are taken to be, to give them intervals. The last is for few rows and a
mean near 0 or 1: of 10 rows that are all right the lower bound is 0.57, and without it 0.42."""


def at_every_look(
    metrics: Sequence[Metric], samples: Sequence[Sample], asked: Asked, questions: Sequence[Question] = ()
) -> tuple[Metric, ...]:
    """The metrics of a stopped cell with intervals that hold whatever it was stopped for; NaN where there are none.

    Args:
        metrics: of these samples.
        samples: of one step.
        asked: all rows of the task.
        questions: that the cell was stopped for. A metric that was to have a width has the interval that was found to be as
            narrow, of level 1 - alpha; all others have one of 95 %.
    """
    widths = {question.metric: question for question in questions if question.kind == "width"}
    return tuple(_at_every_look(metric, samples, asked, widths.get(metric.name)) for metric in metrics)


def _at_every_look(metric: Metric, samples: Sequence[Sample], asked: Asked, width: Question | None) -> Metric:
    known = spec(metric.name)
    values = {sample.example: value for sample in samples if (value := value_of(metric.name, sample)) is not None}
    if not known.in_points or known.some_rows or len(values) < len(samples):
        return replace(metric, ci_low=math.nan, ci_high=math.nan)
    walk = Walk([paired_stream(asked, [values], None)])
    low, high = _between(walk, 0.05, WIDE) if width is None else width.interval(walk)
    return replace(metric, ci_low=min(low, metric.value), ci_high=max(high, metric.value))


def _between(walk: Walk, alpha: float, distances: Sequence[float]) -> tuple[float, float]:
    low, high = (walk.bound(alpha / 2, distances, above=above) for above in (True, False))
    return low, high


def told(size: float, known: MetricSpec) -> str:
    """ "1.5 points", "0.02 bits per byte"."""
    number = f"{known.in_change_unit(size):.3g}"
    return f"{number} point" if known.in_points and number == "1" else f"{number} {known.change_unit}".strip()


def refusal(metric: str) -> str:
    """Why one cannot look again and again at a metric, in words; empty: one can."""
    known = spec(metric)
    if not known.in_points:
        return f"{metric} is not from 0 to 1, and no bound of its mean holds at every look"
    return f"{metric} is over some of the rows, and which is not known before they are asked" if known.some_rows else ""


def rule(content: Mapping[str, Any]) -> str:
    """Hash of what is to be known: cells that were stopped for the same need not be asked on."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
