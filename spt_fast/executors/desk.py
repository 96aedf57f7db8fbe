"""Desk: the cells of one worker, between the process that does them and the driver that may want some of them back.

A cell is begun by the process or taken back by the driver, never both: whoever comes first has it.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from spt_fast.errors import UnstorableError, first_line
from spt_fast.plan.cell import Cell
from spt_fast.worker.events import CellFailed, Event
from spt_fast.worker.lease import Given, More


@dataclass(frozen=True)
class Claim:
    """A worker process asks which of these cells are still its own; answered by their keys."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class WantsMore:
    """A worker process has nothing left; answered by `More`, or None."""


@dataclass(frozen=True)
class YourTurn:
    """A worker process is told that the device is its own: nobody before it holds any of it."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What a worker process says of a cell, `CellDone` or `CellTrained`, pickled by itself: one that cannot be read costs no
    other."""

    key: str
    data: bytes

    def opened(self) -> Event:
        """The event; where it cannot be read here, that the cell has failed."""
        try:
            event: Event = pickle.loads(self.data)
        except Exception as e:  # whatever unpickling meets in a task of the user's own
            return CellFailed(key=self.key, kind=UnstorableError.__name__, reason=unsent(e))
        return event


def unsent(error: Exception) -> str:
    """That what a cell came to did not come from its worker to the driver, in a sentence."""
    return f"what came of it cannot be sent from the worker to the driver: {type(error).__name__}: {first_line(error)}"


class Desk:
    """What a worker has. Its methods may be called from any thread."""

    def __init__(self, cells: Iterable[Cell], given: Given, *, shared: bool = False) -> None:
        """
        Args:
            cells: what it has to begin with.
            given: what they have already.
            shared: whether somebody will `give` it more or `release` it once it has nothing left.
        """
        self._changed = threading.Condition()
        self._cells = {cell.key: cell for cell in cells}
        self._given: dict[str, object] = dict(given)
        self._begun: set[str] = set()
        self._new: list[str] = []
        self._released = not shared

    # the worker's side

    def left(self) -> tuple[tuple[Cell, ...], Given]:
        """What a new process has to do: nothing of it is begun, whatever an earlier one did."""
        with self._changed:
            self._begun.clear()
            self._new.clear()
            return tuple(self._cells.values()), dict(self._given)  # type: ignore[return-value]

    def claim(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Begin these cells, but those that are somebody else's now."""
        with self._changed:
            mine = tuple(key for key in keys if key in self._cells)
            self._begun.update(mine)
            return mine

    def learnt(self, key: str, prompts: object) -> None:
        """The vectors of a cell are there: until it is asked, it can go to another worker."""
        with self._changed:
            self._given[key] = prompts
            self._begun.discard(key)

    def ended(self, key: str) -> None:
        """A cell is done, or has failed."""
        with self._changed:
            self._cells.pop(key, None)
            self._given.pop(key, None)
            self._begun.discard(key)

    def more(self) -> More | None:
        """What has been given since, or None where there is nothing to wait for; waits for one of the two."""
        with self._changed:
            self._changed.wait_for(lambda: self._new or self._released)
            cells = tuple(self._cells[key] for key in self._new if key in self._cells)
            self._new.clear()
            given = {cell.key: self._given[cell.key] for cell in cells if cell.key in self._given}
            return More(cells=cells, given=given) if cells else None  # type: ignore[arg-type]

    @property
    def waits(self) -> bool:
        """Whether `more` would wait."""
        with self._changed:
            return not self._new and not self._released

    # the driver's side

    def give(self, cells: Sequence[Cell], given: Given) -> None:
        """Hand over more cells, and what they have already."""
        with self._changed:
            self._cells.update((cell.key, cell) for cell in cells)
            self._given.update(given)
            self._new += [cell.key for cell in cells]
            self._changed.notify_all()

    def take_back(self, keys: Collection[str]) -> tuple[str, ...]:
        """Those of these cells that have not been begun: they are not the worker's any more."""
        with self._changed:
            back = tuple(key for key in keys if key in self._cells and key not in self._begun)
            for key in back:
                del self._cells[key]
                self._given.pop(key, None)
            self._new = [key for key in self._new if key in self._cells]
            return back

    def release(self) -> None:
        """Let the worker end when it has nothing left."""
        with self._changed:
            self._released = True
            self._changed.notify_all()
