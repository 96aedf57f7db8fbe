"""What a run has to do: what its folder does not hold yet, in the order in which it is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from spt_fast import plan
from spt_fast.config import GridConfig
from spt_fast.driver.carried import foreseen
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.store import Store


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What is to be done of a grid, as far as it is known before it begins."""

    stages: Sequence[Stage]
    """Of models that are to be trained and asked."""
    cells: Mapping[str, Cell]
    """By key, all cells that are to be done: of those stages, of ensembles, and those that a judge rules on."""
    again: bool
    """Whether rows of cells that are done are to be asked again."""

    @classmethod
    def of(cls, config: GridConfig, cells: Sequence[Cell], store: Store, enough: Collection[str] = ()) -> Ahead:
        """What a run folder lacks.

        Args:
            config: of the grid.
            cells: of it, those that are chosen.
            store: the run folder.
            enough: keys of the cells that are not done and need not be asked any further.
        """
        done = {*store.done(), *enough}
        missing = {cell.key: cell for cell in cells if cell.key not in done}
        stages = _describing(foreseen(plan.stages(cells, done), store), store)
        found = {cell.key: cell for stage in stages for cell in stage.cells}
        found |= {cell.unjudged.key: cell.unjudged for cell in missing.values() if cell.unjudged.members}
        found |= {key: cell for key, cell in missing.items() if cell.judge is not None}
        return cls(stages=stages, cells=found, again=bool(to_rerun(config, cells, store, store.done())))

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.cells) or self.again


def ahead_of(
    config: GridConfig, cells: Sequence[Cell], store: Store, done: Collection[str], *, forgotten: Collection[str] = ()
) -> list[Stage]:
    """All that is to be done: what is to be asked, what a judge then rules on, and what is then asked again.

    Args:
        config: of the grid.
        cells: of it, those that are chosen.
        store: the run folder.
        done: keys of the cells that are done.
        forgotten: keys of cells that are to be done anew.
    """
    then = {*done, *(cell.unjudged.key for cell in cells)}
    first = foreseen(plan.stages(cells, done), store, (cell for cell in cells if cell.key in done), forgotten=forgotten)
    ahead = [*first, *plan.judging(cells, then), *to_rerun(config, cells, store, then)]
    return [stage for stage in ahead if not stage.model.broken]


def to_rerun(config: GridConfig, cells: Sequence[Cell], store: Store, done: Collection[str]) -> list[Stage]:
    """The cells of which rows are still to be asked again.

    Args:
        config: whose `rerun` says how many.
        cells: of the grid.
        store: the run folder.
        done: keys of the cells that are done by then.
    """
    if not config.rerun:
        return []
    again = store.reruns.read((cell.unjudged.key for cell in cells), damaged=False)
    known = {key: rerun.share for key, rerun in again.items()}
    return plan.rerunning(cells, done, known, config.rerun)


def _describing(stages: Sequence[Stage], store: Store) -> list[Stage]:
    """Have each task's rows described once, by the first stage that reads them, where the run folder does not tell yet."""
    told: set[str] = set()
    found = []
    for stage in stages:
        rows = {rows.name: rows for cell in stage.cells for rows in (cell.task, cell.source)}
        new = frozenset(name for name, each in rows.items() if name not in told and not store.rows.describes(each))
        told |= new
        found.append(replace(stage, describe=new))
    return found
