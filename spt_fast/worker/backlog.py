"""Backlog: the cells of a stage that are still to be done, and how cells leave it: done, failed, or given to another worker."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from spt_fast.errors import SptError
from spt_fast.plan import MOST_DEATHS, Stage, one_by_one
from spt_fast.plan.cell import Cell
from spt_fast.types import CellResult
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, Event, Phase
from spt_fast.worker.lease import Lease


class Backlog:
    """What is left of a stage."""

    def __init__(self, stage: Stage, emit: Callable[[Event], None], lease: Lease, *, blame: str = "") -> None:
        """
        Args:
            stage: whose cells they are.
            emit: told what becomes of each.
            lease: asked whose a cell is before it is begun.
            blame: put in front of every reason: who it was that failed.
        """
        self.stage = stage
        self.emit = emit
        self.lease = lease
        self.left = dict(stage.by_key)
        self._blame = blame
        self._alone = set(stage.alone)
        """Cells that are asked one by one."""
        self._deaths = 0
        """Of engines, since a cell was last done."""

    @property
    def one_by_one(self) -> bool:
        """Whether a worker or an engine has died, and cells are done one at a time to see of which."""
        return bool(self._alone)

    def next_cells(self) -> list[Cell]:
        """The cells that are to be asked together next."""
        return one_by_one(list(self.left.values()), self._alone, self._deaths)

    def add(self, cells: Sequence[Cell]) -> None:
        """Take further cells on."""
        self.left.update((cell.key, cell) for cell in cells)

    def begin(self, cells: Sequence[Cell], phase: Phase) -> list[Cell]:
        """Begin those of these cells that this worker still holds; the others are left to whom they were given."""
        mine = set(self.lease.claim([cell.key for cell in cells]))
        for cell in cells:
            if cell.key in mine:
                self.emit(CellStarted(key=cell.key, phase=phase))
            else:
                self.left.pop(cell.key, None)
        return [cell for cell in cells if cell.key in mine]

    def done(self, cell: Cell, result: CellResult) -> None:
        """A cell has its result."""
        del self.left[cell.key]
        self._deaths = 0
        self.emit(CellDone(key=cell.key, result=result))

    def fail(self, cells: Sequence[Cell], error: SptError) -> None:
        """Fail these cells with a reason; where it came from stands in the log."""
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        for cell in cells:
            if self.left.pop(cell.key, None) is not None:  # else it has failed already
                self.emit(CellFailed(key=cell.key, kind=type(error).__name__, reason=f"{self._blame}{error}"))

    def fail_all(self, error: SptError) -> None:
        """Fail all that is left: the error is of the model, not of one cell."""
        self.fail(list(self.left.values()), error)

    def died(self, in_flight: Sequence[Cell], error: SptError) -> None:
        """An engine died with these cells in flight: of several it is not known which it was, so they are asked one by one.

        One that dies again and again with nothing done between is not a matter of single cells.
        """
        self._deaths += 1
        if self._deaths >= MOST_DEATHS:
            self.fail_all(error)
        elif len(in_flight) == 1:
            self.fail(in_flight, error)
        else:
            self._alone.update(cell.key for cell in in_flight)
