"""Engines, one after the other, until every cell of a stage is answered: what evaluation and judge have in common.

An engine that dies costs the cell it died of, and another is started. One that ran out of memory costs none, as long as it may
do with less.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from spt_fast import engine as engines
from spt_fast.engine.base import Engine, EngineConfig
from spt_fast.engine.oom_backoff import Backoff
from spt_fast.errors import EngineError, OutOfMemoryError, ScoringError, SptError, boundary
from spt_fast.plan.cell import Cell
from spt_fast.types import Request
from spt_fast.worker.backlog import Backlog
from spt_fast.worker.events import Phase, PhaseStarted, Progress, Throttled
from spt_fast.worker.lease import More
from spt_fast.worker.stream import PlaceT, Plan, Stream, Tell


class CellPlan(Plan[PlaceT]):
    """The requests of one cell. One that another worker has, or whose requests cannot be built, is not asked."""

    phase: ClassVar[Phase]

    def __init__(self, cell: Cell, backlog: Backlog) -> None:
        self.cell = cell
        self._backlog = backlog

    def begin(self, engine: Engine) -> Sequence[tuple[PlaceT, Request]] | None:
        """Claim the cell and build its requests."""
        if not self._backlog.begin([self.cell], self.phase):
            return None
        try:
            with boundary(EngineError, "building requests"):
                return self.build(engine)
        except SptError as e:
            self._backlog.fail([self.cell], e)
            return None

    @abstractmethod
    def build(self, engine: Engine) -> Sequence[tuple[PlaceT, Request]] | None:
        """The requests, each with the place of its answer; None: this engine is not to be asked, and the cell stays.

        Raises:
            SptError: the cell cannot be asked.
        """


CellPlanT = TypeVar("CellPlanT", bound=CellPlan[Any])


class EngineLoop(ABC, Generic[CellPlanT]):
    """Has the cells of a backlog answered."""

    phase: ClassVar[Phase]
    unit: ClassVar[str] = "requests"
    """What an answer is called."""

    def __init__(self, backlog: Backlog, first: EngineConfig, *, cuts: bool = False) -> None:
        """
        Args:
            backlog: the cells.
            first: how the first engine is started; later ones may have to do with less.
            cuts: what is asked is cut to what fits.
        """
        self.backlog = backlog
        self.backoff = Backoff(first, cuts=cuts)

    def run(self) -> None:
        """Start engines and ask them until there is nothing to ask.

        Raises:
            SptError: of the model, not of one cell.
        """
        while self.ready():
            began = time.perf_counter()
            self.backlog.emit(PhaseStarted(phase="engine", note=self.backoff.note))
            config = self.config()
            try:
                with engines.open_engine(config) as engine:
                    self.started(engine, time.perf_counter() - began)
                    self.backlog.emit(PhaseStarted(phase="rerun" if self.backlog.stage.rerun else self.phase, note=engine.told))
                    while self._ask(engine):
                        if not self.backlog.left and (more := self.backlog.lease.more()) is not None:
                            self.receive(more)
                        if not self.ready() or not self.suits(config):
                            break
            except OutOfMemoryError as e:  # at its start
                if (failure := self.backoff.failure(e)) is not None:
                    raise failure from e

    def _ask(self, engine: Engine) -> bool:
        """Stream the requests of cells that are left; return whether they are answered, or the engine is dead."""
        cells = self.backlog.next_cells()
        stream = Stream(engine, self.plans(cells), self._telling())
        try:
            for plan in stream:
                self.finish(plan, stream)
        except (EngineError, ScoringError) as e:
            if (failure := self.backoff.failure(e) if isinstance(e, EngineError) else e) is not None:
                self.backlog.died([plan.cell for plan in stream.in_flight] or cells, failure)
            return False
        return True

    def _telling(self) -> Tell:
        throttled = Throttled(self.backlog.emit)

        def tell(done: int, total: int, seconds: float) -> None:
            throttled(Progress(phase=self.phase, done=done, total=total, note=f"{done / seconds:.0f} {self.unit}/s"))

        return tell

    # What each kind of stage does its own way

    @abstractmethod
    def plans(self, cells: Sequence[Cell]) -> Sequence[CellPlanT]:
        """What is asked of cells, in the order in which it is."""

    @abstractmethod
    def finish(self, plan: CellPlanT, stream: Stream[CellPlanT]) -> None:
        """A cell's requests are all answered: the cell is done, or fails."""

    @abstractmethod
    def receive(self, more: More) -> None:
        """Take further cells on."""

    def ready(self) -> bool:
        """Whether there is something to ask."""
        return bool(self.backlog.left)

    def config(self) -> EngineConfig:
        """How the next engine is started."""
        return self.backoff.config

    def suits(self, config: EngineConfig) -> bool:
        """Whether an engine that was started so can be asked for what is left."""
        return True

    def started(self, engine: Engine, seconds: float) -> None:
        """An engine has started, in so many seconds."""
