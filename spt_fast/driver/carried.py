"""Soft prompts that are carried along series of checkpoints: what a cell starts from, looked up in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from spt_fast.config import GridConfig
from spt_fast.errors import DamagedError
from spt_fast.plan import Stage, series
from spt_fast.plan.cell import Cell
from spt_fast.store import Store
from spt_fast.store.reuse import copy_learnt, dated, earlier
from spt_fast.worker.lease import Start


def start_of(cell: Cell, store: Store, say: Callable[[str], None] | None = None) -> Start | None:
    """The last vectors of the nearest earlier checkpoint that has any; None: there is none, or the cell is not carried.

    Args:
        cell: that is to be trained.
        store: the run folder, which may hold cells that the grid has no more.
        say: is told of vectors that are damaged and passed over.
    """
    for key in _before(cell, store):
        try:
            steps = store.learnt.soft_prompts(key)
        except DamagedError as e:
            if say is not None:
                say(f"{cell.title}: starts from an earlier checkpoint: {e}")
            continue
        if steps:
            return Start(steps[max(steps)])
    return None


def _before(cell: Cell, store: Store) -> list[str]:
    """Keys of the cells of its thread that a run folder knows of earlier checkpoints, the nearest first."""
    own = series.place(cell.model.name)
    there = store.threads.cells(cell.thread) if cell.thread else {}
    before = [(series.place(name), key) for key, name in there.items() if key != cell.key and series.place(name) < own]
    return [key for _, key in sorted(before, reverse=True)]


def know(cells: Sequence[Cell], store: Store) -> None:
    """Note which carried cells of a grid have vectors already: those of an earlier day's folder are not noted here yet.

    Raises:
        StoreError: it cannot be written.
    """
    carried = {cell.key: cell for each in cells for cell in each.asked if cell.thread}
    if carried:
        store.threads.add(carried[key] for key in store.learnt.among(carried))


def adopt(config: GridConfig, cells: Sequence[Cell], store: Store) -> None:
    """Have in a day's folder what its first checkpoints start from, where only an earlier day's folder has that.

    Of checkpoints that the grid still has, `reuse` has taken over everything; these are those that were deleted meanwhile.

    Raises:
        StoreError: a folder cannot be read, or this one cannot be written.
    """
    first: dict[str, Cell] = {}
    for cell in (cell for each in cells for cell in each.asked if cell.thread):
        known = first.setdefault(cell.thread, cell)
        if series.place(cell.model.name) < series.place(known.model.name):
            first[cell.thread] = cell
    if not first or not dated(config):
        return
    there = store.learnt.among({key for cell in first.values() for key in (cell.key, *_before(cell, store))})
    alone = [cell for cell in first.values() if there.isdisjoint((cell.key, *_before(cell, store)))]
    for source in earlier(config, store) if alone else ():
        alone = [cell for cell in alone if not _taken_over(cell, source, store)]


def _taken_over(cell: Cell, source: Store, store: Store) -> bool:
    """Whether an earlier folder has what a cell starts from; then this one has it too."""
    keys = _before(cell, source)
    found = next((key for key in keys if key in source.learnt.among(keys)), None)
    if found is None:
        return False
    store.threads.note(cell.thread, {found: source.threads.cells(cell.thread)[found]})
    copy_learnt(store, source, [found])
    return True


def foreseen(
    stages: Sequence[Stage], store: Store, done: Iterable[Cell] = (), *, forgotten: Collection[str] = ()
) -> list[Stage]:
    """Stages that say which of their carried cells will start cold.

    Args:
        stages: that are ahead.
        store: the run folder.
        done: cells that are done, or will be by then.
        forgotten: keys of cells that will be done anew.
    """
    threads = {cell.thread for stage in stages for cell in stage.cells if cell.key in stage.carried}
    there = {thread: store.threads.cells(thread) for thread in threads}
    keys = {key for own in there.values() for key in own if key not in forgotten}
    learnt = store.learnt.among(keys) if keys else set()
    known = {thread: [name for key, name in own.items() if key in learnt] for thread, own in there.items()}
    for cell in done if threads else ():
        if cell.thread in known:
            known[cell.thread].append(cell.model.name)
    return series.with_cold(stages, known)
