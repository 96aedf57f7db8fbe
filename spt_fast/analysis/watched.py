"""Differences of cells that were looked at while their rows were asked: what is said of them holds at every look.

A test of a fixed number of rows says nothing of a cell that was stopped because of what it showed: the rows were asked until it
showed something. So where one of two cells was stopped, or looked at, the p-values and bounds are those of
`scoring.sequential`, at the share of alpha that looks have (`LOOKS`, `PASSES`). Where all rows were asked in the end, the rest
of alpha goes to the test of a fixed number of rows, and the better of the two counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

from spt_fast.analysis.compare_types import Pair
from spt_fast.analysis.paired import PairedDifference
from spt_fast.analysis.pooled import Pooled
from spt_fast.analysis.resampling import Floats, Interval
from spt_fast.analysis.runs import Run
from spt_fast.scoring.sequential import LOOKS, Change, Drop, Stream, Walk
from spt_fast.scoring.stopping import Asked, paired_stream
from spt_fast.types import Stopped

END = 1 - LOOKS
"""Share of alpha for the test of a fixed number of rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedDifference(PairedDifference):
    """Scores of the same rows before and after, which can be walked through in the order in which they were asked."""

    stream: Stream = field(repr=False)
    """Of before less after."""
    watched: bool
    """Whether one of the cells was stopped, or looked at; else it is as any other difference."""
    whole: bool
    """Whether all rows were asked."""

    def reversed(self) -> Self:
        """The same with before and after exchanged."""
        mirrored = replace(self.stream, values=-self.stream.values, low=-self.stream.high, high=-self.stream.low)
        return replace(PairedDifference.reversed(self), stream=mirrored)  # `super()` does not go with slots

    def limits(self, level: float) -> Interval:
        """Two-sided interval of the change, at every look."""
        if not self.watched:
            return self.fixed.limits(level)
        drop_low, drop_high = Change(walk=self._walk).limits(1 - LOOKS * (1 - level))
        low, high = -drop_high, -drop_low
        if self.whole:
            fixed = self.fixed.limits(1 - END * (1 - level))
            low, high = max(low, fixed.low), min(high, fixed.high)
        return Interval(low=low, high=high, level=level)

    @property
    def p(self) -> float:
        """Two-sided p-value of no change, at every look."""
        if not self.watched:
            return self.fixed.p
        return together(Change(walk=self._walk).p, self.fixed.p if self.whole else None)

    @property
    def p_drop(self) -> float:
        """One-sided p-value of "it did not fall", at every look."""
        if not self.watched:
            return self.fixed.p_drop
        return together(Change(walk=self._walk).p_rise, self.fixed.p_drop if self.whole else None)

    @property
    def fixed(self) -> PairedDifference:
        """The same as a test of a fixed number of rows sees it."""
        return PairedDifference(**{each.name: getattr(self, each.name) for each in fields(PairedDifference)})

    @property
    def _walk(self) -> Walk:
        return Walk([self.stream])


@dataclass(frozen=True, kw_only=True)
class WatchedDrop:
    """By how much the mean over tasks has dropped, where `largest` is allowed: what `analysis.gate` decides by."""

    parts: Sequence[WatchedDifference]
    """One a task, above 0 where B is better."""
    largest: float
    fixed: Pooled
    """The same, as a test of a fixed number of rows sees it."""

    @property
    def p(self) -> float:
        """P-value of "it did not drop", at every look."""
        return together(self._drop.p_of_none, self.fixed.p_drop if self.whole else None)

    @property
    def is_more(self) -> bool:
        """Whether it is more than is allowed, at level 1/2: as an estimate from a fixed number of rows is in half of cases."""
        return self._drop.p_of_less <= LOOKS / 2 or (self.whole and -self.fixed.limits(1 - END).high >= self.largest)

    def bounds(self, alpha: float) -> Interval:
        """One-sided bounds of level 1 - alpha each, at every look."""
        low, high, passes = self._drop.low(LOOKS * alpha), self._drop.high(self._drop.passes * alpha), self._drop.passes
        if self.whole:
            low = max(low, -self.fixed.limits(1 - 2 * END * alpha).high)
            high = min(high, -self.fixed.limits(1 - 2 * (1 - passes) * alpha).low)
        return Interval(low=low, high=high, level=1 - alpha)

    def p_at_most(self, size: float) -> float:
        """P-value, of the looks alone, of "it dropped by `size` at most"."""
        return self._drop.p_at_most(size)

    @property
    def whole(self) -> bool:
        """Whether all rows of all tasks were asked."""
        return all(part.whole for part in self.parts)

    @property
    def _drop(self) -> Drop:
        return Drop(walk=Walk([part.stream for part in self.parts]), largest=self.largest)


@dataclass(frozen=True, kw_only=True)
class WatchedChange(Pooled):
    """The change of the mean over tasks, where a side was stopped, or looked at: its bounds and its test hold at every look."""

    parts: Sequence[WatchedDifference]
    allowed: float
    """The drop that is to be told from none."""

    @property
    def drop(self) -> WatchedDrop:
        """The same as `analysis.gate` decides by."""
        fixed = Pooled(parts=tuple(part.fixed for part in self.parts))
        return WatchedDrop(parts=self.parts, largest=self.allowed, fixed=fixed)

    @property
    def p_drop(self) -> float:
        """One-sided p-value of "it did not fall"."""
        return self.drop.p

    def limits(self, level: float) -> Interval:
        """Two-sided interval of the change; each end alone is a one-sided bound of level (1 + level) / 2."""
        bounds = self.drop.bounds((1 - level) / 2)
        return Interval(low=-bounds.high, high=-bounds.low, level=level)


def change_of(parts: Sequence[PairedDifference], allowed: float) -> Pooled:
    """The change of the mean over tasks; where one of them was looked at, by what holds at every look.

    Args:
        parts: one a task.
        allowed: the drop that is to be told from none.
    """
    known = [part for part in parts if isinstance(part, WatchedDifference)]
    if len(known) == len(parts) and any(part.watched for part in known):
        return WatchedChange(parts=known, allowed=allowed)
    return Pooled(parts=parts)


def together(at_looks: float, at_the_end: float | None) -> float:
    """A p-value from that of the looks and, where all rows were asked, that of all rows: each at its share of alpha."""
    found = at_looks / LOOKS if at_the_end is None else min(at_looks / LOOKS, at_the_end / END)
    return min(1.0, found)


def watched(
    a: Run, b: Run, pair: Pair, metric: str, difference: PairedDifference, rows: Sequence[str], values: tuple[Floats, Floats]
) -> PairedDifference:
    """A difference that knows in which order its rows were asked; as it is, where nothing of the two runs was looked at.

    Args:
        a: the run before, with its stopped cells.
        b: the run after.
        pair: what is compared.
        metric: in what.
        difference: of the two.
        rows: `[N]` keys of the rows.
        values: `[S, N]` each, before and after.
    """
    looked = any_looks(b, pair.b_model, pair.b_protocol)
    if difference.test == "t" or not (a.stopped or b.stopped or looked):
        return difference
    theirs = stopped_of(b, pair.b_model, pair.task, pair.b_protocol)
    stopped = [*theirs, *stopped_of(a, pair.a_model, pair.task, pair.a_protocol)]
    found = b.rows(pair.b_model, pair.task, pair.b_protocol, metric)
    assert found is not None
    asked = Asked.of_keys(
        pair.task, found.examples, found.groups, (theirs[0].of, theirs[0].units, theirs[0].largest) if theirs else None
    )
    return in_order(
        difference,
        asked,
        rows,
        values,
        watched=bool(stopped) or any_looks(b, pair.b_model, pair.b_protocol, pair.task),
        whole=not stopped,
    )


def in_order(
    difference: PairedDifference,
    asked: Asked,
    rows: Sequence[str],
    values: tuple[Floats, Floats],
    *,
    watched: bool,
    whole: bool,
) -> WatchedDifference:
    """A difference that knows in which order its rows were asked.

    Args:
        difference: of the two.
        asked: the rows of the task.
        rows: `[N]` keys of the rows.
        values: `[S, N]` each, before and after.
        watched: whether one of the two was stopped, or looked at.
        whole: whether both were asked all rows.
    """
    before, after = values
    against = dict(zip(rows, before.mean(0).tolist(), strict=True))
    return WatchedDifference(
        **{each.name: getattr(difference, each.name) for each in fields(PairedDifference)},
        stream=paired_stream(asked, [dict(zip(rows, each.tolist(), strict=True)) for each in after], against),
        watched=watched,
        whole=whole,
    )


def any_looks(run: Run, model: str, protocol: str, task: str | None = None) -> bool:
    """Whether a done cell of a model and protocol (and task) was looked at while it was asked."""
    return any(
        run.looked_at(place)
        for place in run.done
        if (place.model, place.protocol) == (model, protocol) and task in (None, place.task)
    )


def notes(a: Run, b: Run, pair: Pair) -> list[str]:
    """Of what is compared, which cells were stopped, and after how many rows: in sentences."""
    found = []
    for which, (run, model, task, label) in zip("AB", sides(a, b, pair), strict=True):
        for each in stopped_of(run, model, task, label)[:1]:
            found.append(f"{task}, {label}: stopped in {which} after {each.n:,} of {each.of:,} rows; {_HOLDS}")
    if not found and any_looks(b, pair.b_model, pair.b_protocol, pair.task):
        found.append(f"{pair.task}, {pair.protocol}: looked at while B was asked all rows; {_HOLDS}")
    return found


_HOLDS = "intervals and p-values hold at every look."


def sides(a: Run, b: Run, pair: Pair) -> tuple[tuple[Run, str, str, str], ...]:
    """Of both: run, model, task, and label of the protocol."""
    return (a, pair.a_model, pair.task, pair.a_protocol), (b, pair.b_model, pair.task, pair.b_protocol)


def stopped_of(run: Run, model: str, task: str, label: str) -> list[Stopped]:
    """What was stopped of cells that differ in their seed alone, the shortest first."""
    found = [run.stopped_at(place) for place in run.stopped if place[:3] == (model, task, label)]
    return sorted(found, key=lambda each: each.n)
