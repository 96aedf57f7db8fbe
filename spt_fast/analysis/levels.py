"""Where a checkpoint that was stopped early stands in a series: as far from one that was asked all rows as both differ.

The mean of 200 rows is no point of a line whose other points are means of 1,000: which 200 they are moves it by points, though
nothing has changed. So a stopped checkpoint stands where the nearest earlier one stands that was asked all rows, and as much
above or below it as the rows say that both were asked. The interval of that change holds at every look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from spt_fast.analysis.aligned import aligned
from spt_fast.analysis.onset import Trajectory
from spt_fast.analysis.paired import PairedDifference
from spt_fast.analysis.runs import Run
from spt_fast.analysis.series import Series
from spt_fast.analysis.watched import stopped_of
from spt_fast.scoring.stopping import refusal


@dataclass(frozen=True, kw_only=True)
class Level:
    """A metric of a stopped checkpoint, on one task under one protocol."""

    base: str
    """The checkpoint that it is held against, a model of the run, which was asked all rows."""
    change: PairedDifference
    """From that one, on the rows that both were asked."""
    rows: int
    """That it was asked."""
    of: int
    """That there are."""


@dataclass(frozen=True)
class Levels:
    """Those of a series, reckoned when they are asked for."""

    run: Run = field(repr=False)
    series: Series

    def at(self, model: str, task: str, protocol: str, metric: str) -> Level | None:
        """Where a stopped checkpoint stands; None where no other was asked all, or of a metric whose interval would not hold.

        Raises:
            StoreError: a file is damaged.
        """
        place = (model, task, protocol, metric)
        if place not in self._known:
            self._known[place] = self._at(*place)
        return self._known[place]

    @cached_property
    def _known(self) -> dict[tuple[str, str, str, str], Level | None]:
        return {}

    def _at(self, model: str, task: str, protocol: str, metric: str) -> Level | None:
        stops = stopped_of(self.run, model, task, protocol)
        base = self._base(model, task, protocol)
        mine = self.run.rows(model, task, protocol, metric) if stops and base and not refusal(metric) else None
        theirs = self.run.rows(base, task, protocol, metric) if base and mine is not None else None
        if base is None or mine is None or theirs is None:
            return None
        found = aligned(self.run, [base, model], task, protocol, [theirs, mine])
        if found is None:
            return None
        both = Trajectory(values=[found.values], clusters=[found.clusters], asking=[found.asking])
        (change,) = both.by_task(0, [1])
        return Level(base=base, change=change, rows=stops[0].n, of=stops[0].of)

    def _base(self, model: str, task: str, protocol: str) -> str | None:
        """The nearest checkpoint before it that was asked all; else the first after it."""
        names = [each.model for each in self.series.checkpoints]
        whole = [i for i, name in enumerate(names) if (name, task, protocol) in self._whole]
        here = names.index(model)
        before = [i for i in whole if i < here]
        nearest = before[-1] if before else next(iter(whole), None)
        return None if nearest is None else names[nearest]

    @cached_property
    def _whole(self) -> set[tuple[str, str, str]]:
        """Model, task and protocol of all that was asked all rows, under each seed."""
        return {place[:3] for place in self.run.done} - {place[:3] for place in self.run.stopped}
