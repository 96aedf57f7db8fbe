"""The cells of one worker, between the process that does them and the driver that may revoke some of them.

A cell is begun by the process or revoked by the driver, never both: whoever comes first has it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from spt_fast.plan.cell import Cell
from spt_fast.worker.lease import Given, Handed, More, asking_key, learnt_of


class WorkQueue:
    """What a worker has. Its methods may be called from any thread."""

    def __init__(self, cells: Iterable[Cell], earlier: Given, *, shared: bool = False) -> None:
        """
        Args:
            cells: what it has to begin with.
            earlier: what earlier runs have of them.
            shared: whether the driver will `assign` it more or `release` it once it has nothing left.
        """
        self._changed = threading.Condition()
        self._cells = {cell.key: cell for cell in cells}
        self._earlier: dict[str, object] = dict(earlier)
        self._costs: dict[str, Mapping[str, float]] = {}
        self._begun: set[str] = set()
        self._new: list[str] = []
        self._released = not shared

    # the worker's side

    def left(self) -> tuple[tuple[Cell, ...], Given]:
        """What a new process has to do: nothing of it is begun, whatever an earlier one did."""
        with self._changed:
            self._begun.clear()
            self._new.clear()
            return tuple(self._cells.values()), dict(self._earlier)  # type: ignore[return-value]

    def claim(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Begin these cells, but those that were revoked."""
        with self._changed:
            mine = tuple(key for key in keys if key in self._cells)
            self._begun.update(mine)
            return mine

    def trained(self, key: str, prompts: object, costs: Mapping[str, float]) -> None:
        """The vectors of a cell are there: until it is evaluated, it can go to another worker."""
        with self._changed:
            self._earlier[key] = prompts
            self._costs[key] = costs
            self._begun.discard(key)

    def handed(self) -> Handed:
        """What processes that have ended leave to the one that evaluates."""
        with self._changed:
            mine = learnt_of({key: self._earlier[key] for key in self._cells if key in self._earlier})
            costs = {key: self._costs[key] for key in self._cells if key in self._costs}
            return Handed(given=mine, costs=costs, left=frozenset(self._cells))  # a judge has none

    def ended(self, key: str) -> bool:
        """A cell is done, or has failed; whether it was here until now."""
        with self._changed:
            self._forget(key)
            self._costs.pop(key, None)
            self._begun.discard(key)
            return self._cells.pop(key, None) is not None

    def more(self) -> More | None:
        """What has been assigned since, or None where there is nothing to wait for; waits for one of the two."""
        with self._changed:
            self._changed.wait_for(lambda: self._new or self._released)
            cells = tuple(self._cells[key] for key in self._new if key in self._cells)
            self._new.clear()
            given = {each: self._earlier[each] for cell in cells for each in _of(cell.key) if each in self._earlier}
            return More(cells=cells, given=given) if cells else None  # type: ignore[arg-type]

    @property
    def waits(self) -> bool:
        """Whether `more` would wait."""
        with self._changed:
            return not self._new and not self._released

    # the driver's side

    def assign(self, cells: Sequence[Cell], earlier: Given) -> None:
        """Hand over more cells, and what earlier runs have of them."""
        with self._changed:
            self._cells.update((cell.key, cell) for cell in cells)
            self._earlier.update(earlier)
            self._new += [cell.key for cell in cells]
            self._changed.notify_all()

    def revoke(self, keys: Collection[str]) -> tuple[str, ...]:
        """Those of these cells that have not been begun: they are not the worker's any more."""
        with self._changed:
            back = tuple(key for key in keys if key in self._cells and key not in self._begun)
            for key in back:
                del self._cells[key]
                self._forget(key)
            self._new = [key for key in self._new if key in self._cells]
            return back

    def release(self) -> None:
        """Let the worker end when it has nothing left."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def _forget(self, key: str) -> None:
        for each in _of(key):
            self._earlier.pop(each, None)


def _of(key: str) -> tuple[str, str]:
    """The keys under which earlier work has something for a cell."""
    return key, asking_key(key)
