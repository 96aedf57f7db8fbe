"""A stage: cells that one worker does with one model loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, Judge


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The cells of one model that are to be done: one load, one training, one engine.

    Or the cells that one judge is to rule on: then `model` is the judge's, and all cells have that judge.
    """

    model: Model
    cells: tuple[Cell, ...]
    describe: frozenset[str] = frozenset()
    """Tasks whose rows the worker is to describe (`RowsRead`), because the run folder does not yet."""
    alone: frozenset[str] = frozenset()
    """Cells that are asked one by one: a worker was lost with several in flight, and the next loss is to show of which."""
    rows: Mapping[str, bytes] = field(default_factory=dict)
    """Task -> its rows, pickled, where a cluster has read them once for all workers; of other tasks each reads its own."""
    worker: int = 0
    """Which worker, where several have cells of the stage."""
    nodes: tuple[str, ...] = ()
    """Addresses of the nodes that its worker is spread over, its own first; empty: it is on one."""
    rerun: float = 0.0
    """The cells are done, and this share of their rows is asked again, at the last step; 0: they are to be done."""
    cold: frozenset[str] = frozenset()
    """Carried cells for which no earlier checkpoint is expected to have vectors. It says how long they take, and no more."""

    @property
    def judge(self) -> Judge | None:
        """Who rules; None in a stage that trains and asks."""
        return self.cells[0].judge

    @cached_property
    def carried(self) -> frozenset[str]:
        """Cells that start from the checkpoint before, and that the next one starts from."""
        if self.judge is not None or self.rerun:
            return frozenset()
        return frozenset(cell.key for cell in self.cells if cell.thread)

    def first(self, cell: Cell) -> Cell | None:
        """What is learnt before one of its cells; None: nothing, or an earlier checkpoint has what the cell starts from."""
        return cell.first if not cell.thread or cell.key in self.cold else None

    @cached_property
    def by_key(self) -> Mapping[str, Cell]:
        """Its cells by their keys."""
        return {cell.key: cell for cell in self.cells}
