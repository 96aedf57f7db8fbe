"""How long a run still takes, from what it has taken so far: stages that are done one after the other.

What is left is counted in the seconds that `Estimates` guesses, which go by the tokens of each cell, and these are corrected by
how long what is done has taken, learning and asking apart. So a run knows after the first minutes what a cell of long texts, of
which none is done yet, will cost; counting cells, it would not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scheduling.estimates import Estimates, Measured
from spt_fast.worker.events import CellDone, CellFailed, CellTrained, Event, PhaseStarted, Progress, RowsRead

EVERY_S = 5.0
"""Seconds between two answers."""
SEEN_S = 20.0
"""Seconds of learning or asking that say as much of the rest as was known before."""


@dataclass
class _Work:
    """Learning, or asking: what is behind in seconds, and in seconds as they were guessed."""

    taken_s: float = 0.0
    guessed_s: float = 0.0

    def ratio(self, usual: float = 1.0) -> float:
        """Seconds taken for one that was guessed: `usual` before anything was seen, and less and less of it."""
        if self.taken_s <= 0 or self.guessed_s <= 0:
            return usual
        seen = self.taken_s / (self.taken_s + SEEN_S)
        return float((self.taken_s / self.guessed_s) ** seen * usual ** (1 - seen))


@dataclass
class _Now:
    """The phase that a stage is in."""

    stage: Stage
    since: float
    """When its first progress was told: what stands before that is the start."""
    done: int
    """At that time."""
    key: str | None = None
    share: float = 0.0
    """Of the cell that is learnt, or of the requests."""
    requests: int = 0
    total: int = 0


@dataclass
class Foresight:
    """Takes the events of a run, and tells the seconds that are left."""

    stages: Sequence[Stage]
    known: Sequence[Measured]
    """Cells that were done earlier."""
    gpu: bool
    lengths: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """Task -> how long its texts are (`tasks.lengths`), as far as its rows were read."""

    def __post_init__(self) -> None:
        self._learning, self._asking = _Work(), _Work()
        self._left: dict[str, tuple[Stage, Cell]] = {cell.key: (stage, cell) for stage in self.stages for cell in stage.cells}
        self._learnt: set[str] = set()
        self._begun: set[int] = set()
        self._now: _Now | None = None
        self._told: float | None = None
        self._finished: list[tuple[Cell, float]] = []
        """Cells that were asked in this phase, with their requests."""
        self._estimates = Estimates(self.known, gpu=self.gpu, lengths=self.lengths)

    def take(self, stage: Stage, event: Event, now: float) -> None:
        """Take an event; `now` in seconds of any clock that does not go back."""
        match event:
            case RowsRead(task=task, report=report) if "lengths" in report:
                self.lengths[task] = report["lengths"]
                self._estimates = Estimates(self.known, gpu=self.gpu, lengths=self.lengths)
            case PhaseStarted():
                self._close(now)
                self._begun.add(id(stage))
            case Progress(phase="train", key=str(key), done=done, total=total):
                if self._now is None or self._now.key != key:
                    self._close(now)
                    self._now = _Now(stage=stage, since=now, done=done, key=key)
                self._now.share = (done - self._now.done) / max(1, total)
            case Progress(key=None, done=done, total=total):
                if self._now is None or self._now.key is not None or done < self._now.requests:
                    self._close(now)
                    self._now = _Now(stage=stage, since=now, done=done)
                self._now.requests, self._now.total = done, total
            case CellTrained(key=key) if key in self._left:
                self._learnt.add(self._left[key][1].tuning_key)
            case CellDone(key=key, result=result) if key in self._left:
                self._finished.append((self._left.pop(key)[1], result.costs.get("requests", 0.0)))
            case CellFailed(key=key):
                self._left.pop(key, None)
            case _:
                pass

    def _close(self, now: float) -> None:
        """The phase is over, or another cell is learnt: what it took is behind."""
        current = self._now
        if current is not None and current.key is None:
            self._asking.taken_s += now - current.since
            self._asking.guessed_s += self._asked_s(current)
        elif current is not None and current.key in self._left:
            self._learning.taken_s += now - current.since
            self._learning.guessed_s += current.share * self._estimates.train_s(self._left[current.key][1])
        self._now, self._finished = None, []

    def _asked_s(self, current: _Now) -> float:
        """What was asked in this phase, in guessed seconds: the cells that are done, and what those in flight have behind them.

        Cells are asked in the order of the stage, so that is the first ones.
        """
        asked = sum(self._estimates.answer_s(cell) for cell, _ in self._finished)
        behind = sum(requests for _, requests in self._finished)
        in_flight = [cell for stage, cell in self._left.values() if stage is current.stage]
        guessed = sum(map(self._estimates.requests, in_flight))
        left = max(0.0, current.requests - behind) * guessed / max(1.0, current.total - behind)
        for cell in in_flight:
            if left <= 0:
                break
            requests = max(1.0, self._estimates.requests(cell))
            asked += min(1.0, left / requests) * self._estimates.answer_s(cell)
            left -= requests
        return asked

    def is_due(self, now: float) -> bool:
        """Whether it is time to tell again: all cells are gone through for that."""
        return self._told is None or now - self._told >= EVERY_S

    def seconds_left(self, now: float) -> float | None:
        """Of the whole run; None before anything was seen of it."""
        if not self._begun:
            return None
        self._told = now
        learnt, asked = self._with_current(now)
        learning = learnt.ratio()
        asking = asked.ratio(usual=learning)  # one guess of the machine is behind both
        stages = sum(self._of_stage(stage, learning, asking) for stage in self._stages_left())
        return max(0.0, stages + self._current(learning, asking))

    def _with_current(self, now: float) -> tuple[_Work, _Work]:
        learning = _Work(self._learning.taken_s, self._learning.guessed_s)
        asking = _Work(self._asking.taken_s, self._asking.guessed_s)
        current = self._now
        if current is not None and current.key is None:
            asking = _Work(asking.taken_s + now - current.since, asking.guessed_s + self._asked_s(current))
        elif current is not None and current.key in self._left:
            guessed = self._estimates.train_s(self._left[current.key][1])
            learning = _Work(learning.taken_s + now - current.since, learning.guessed_s + current.share * guessed)
        return learning, asking

    def _stages_left(self) -> list[tuple[Stage, list[Cell]]]:
        found: dict[int, tuple[Stage, list[Cell]]] = {}
        for stage, cell in self._left.values():
            found.setdefault(id(stage), (stage, []))[1].append(cell)
        return list(found.values())

    def _of_stage(self, left: tuple[Stage, list[Cell]], learning: float, asking: float) -> float:
        stage, cells = left
        lessons = self._estimates.trainings(stage, cells) if stage.judge is None and not stage.rerun else {}
        learn = sum(seconds for key, seconds in lessons.items() if key not in self._learnt)
        asked = self._estimates.rerun_s if stage.rerun else None
        ask = sum(asked(cell, stage.rerun) if asked else self._estimates.answer_s(cell) for cell in cells)
        start = 0.0 if id(stage) in self._begun else self._estimates.start_s(stage.model, training=bool(learn))
        return start + learning * learn + asking * ask

    def _current(self, learning: float, asking: float) -> float:
        """Less what of the cells that are not done yet is behind: never more than they were counted for."""
        current = self._now
        if current is None:
            return 0.0
        if current.key is not None:
            if current.key not in self._left or self._left[current.key][1].tuning_key in self._learnt:
                return 0.0
            return -learning * current.share * self._estimates.train_s(self._left[current.key][1])
        in_flight = self._asked_s(current) - sum(self._estimates.answer_s(cell) for cell, _ in self._finished)
        return -asking * in_flight
