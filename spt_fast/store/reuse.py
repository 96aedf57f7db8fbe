"""Reuse of completed cells: a run folder a day, each of which begins with what the folders of earlier days have completed.

`output: runs/nightly/{date}` has the folders runs/nightly/2026-11-20, runs/nightly/2026-11-21, ... A cell is known by its
key, the hash of everything that can change its result, so one that is completed in an earlier folder is completed: its files
are linked or copied, and only new cells are run. A folder looks for each of its cells in earlier ones once, and keeps in
`.asked` that it has: a cell that is thrown away afterwards is run again, and does not come back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from spt_fast.config import GridConfig
from spt_fast.config.output import day_of, folder_on, parent
from spt_fast.plan.cell import Cell
from spt_fast.storage import open_storage
from spt_fast.store.folder import Store
from spt_fast.store.layout import ASKED, CURVE, FAILURE, LEARNT, MEANING, RESULT, STOPPED

MOST = 7
"""So many earlier folders are looked at, the newest first. Each holds what its grid reused of those before it."""


@dataclass(frozen=True, kw_only=True)
class Reused:
    """What a run folder reuses of an earlier one."""

    source: Store
    done: frozenset[str]
    """Keys of completed cells."""
    learnt: frozenset[str]
    """Keys of cells that are completed nowhere, and whose soft prompts are learnt."""
    stopped: frozenset[str] = frozenset()
    """Keys of cells that are completed nowhere, and were asked no further than was needed."""

    @property
    def what(self) -> str:
        """How much: "31 completed cells and 2 soft prompts"."""
        parts = [(len(self.done), "completed cell"), (len(self.stopped), "stopped cell"), (len(self.learnt), "soft prompt")]
        *some, last = [f"{n} {each}{'s' * (n > 1)}" for n, each in parts if n]
        return f"{', '.join(some)} and {last}" if some else last

    def __str__(self) -> str:
        busy = (
            "; a run is at work there, and cells that it completes from now on are run here too" if self.source.in_use else ""
        )
        return f"{self.what} reused from {self.source.root}{busy}"


def dated(config: GridConfig) -> bool:
    """Whether each day has a folder of its own."""
    return config.output is not None and parent(config.output, name=config.name) is not None


def earlier(config: GridConfig, folder: Store) -> list[Store]:
    """The other days' folders that there are, the newest first.

    Raises:
        StoreError: they cannot be listed.
    """
    above = None if config.output is None else parent(config.output, name=config.name)
    if config.output is None or above is None:
        return []
    days = {day_of(entry, config.output, name=config.name) for entry in open_storage(above).names("")} - {None}
    folders = [folder_on(day, config.output, name=config.name) for day in sorted(filter(None, days), reverse=True)]
    return [Store(each) for each in folders if each != folder.root][:MOST]


def reusable(config: GridConfig, folder: Store, cells: Sequence[Cell]) -> list[Reused]:
    """What earlier folders have of the cells that this one has not, and has not looked for in them before.

    Args:
        config: whose `output` says where the folders are.
        folder: of this run.
        cells: of the grid.

    Raises:
        StoreError: a folder cannot be read.
    """
    left = _keys(cells) - folder.done() - _looked_for(folder)
    found: list[tuple[Store, frozenset[str]]] = []
    for store in earlier(config, folder) if left else ():
        done = frozenset(store.done() & left)
        found.append((store, done))
        left -= done
        if not left:
            break
    # Only now is it known which are completed nowhere.
    left -= folder.stopped.among(()) if left else set()
    learning = left - folder.learnt.among(left) if left else left
    reused = []
    for store, done in found:
        stopped = frozenset(store.stopped.among(()) & left if left else ())
        left -= stopped
        learnt = frozenset(store.learnt.among(learning - stopped) if learning else ())
        learning -= learnt | stopped
        if done or learnt or stopped:
            reused.append(Reused(source=store, done=done, learnt=learnt, stopped=stopped))
    return reused


def reuse(config: GridConfig, folder: Store, cells: Sequence[Cell]) -> list[Reused]:
    """Have in this folder what earlier ones have for it. Killed at any moment, it leaves whole cells, and is gone on with.

    Args:
        config: whose `output` says where the folders are.
        folder: of this run, locked.
        cells: of the grid.

    Raises:
        StoreError: a folder cannot be read, or this one cannot be written.
    """
    if not dated(config):
        return []
    reused = reusable(config, folder, cells)
    rows = {rows.name: rows for cell in cells for rows in (cell.task, cell.source)}
    for each in reused:
        copy_cells(folder, each.source, each.done)
        copy_cells(folder, each.source, each.stopped, marker=STOPPED)
        copy_learnt(folder, each.source, each.learnt)
        folder.rows.copy(each.source.rows, rows.values())
        folder.event("adopted", cells=len(each.done), prompts=len(each.learnt), source=str(each.source.root))
    look_no_more(config, folder, cells)
    return reused


def look_no_more(config: GridConfig, folder: Store, cells: Sequence[Cell]) -> None:
    """Keep that these cells are not to be looked for in earlier folders, also when the grid is run again.

    Raises:
        StoreError: the folder cannot be written.
    """
    if not dated(config):
        return
    before = _looked_for(folder)
    if new := _keys(cells) - before:
        folder.storage.write(ASKED, "".join(f"{key}\n" for key in sorted(before | new)).encode())


def _looked_for(folder: Store) -> set[str]:
    """Keys of the cells that were looked for in earlier folders."""
    try:
        return set(folder.storage.read(ASKED).decode("ascii", "replace").split())
    except OSError:
        return set()


def copy_cells(folder: Store, source: Store, keys: Collection[str], marker: str = RESULT) -> None:
    """Have cells that are completed (or stopped) in another run folder here too, whole: their marker comes last."""
    files = source.storage.files("cells", keys)
    order = {
        f"cells/{key}": [*(name for name in names if name not in (marker, FAILURE)), marker]
        for key, names in files.items()
        if marker in names
    }
    folder.storage.copy(source.storage, order)


def copy_learnt(folder: Store, source: Store, keys: Collection[str]) -> None:
    """Have what was learnt in another run folder here too, with the curves, of cells that are not completed there either."""
    files = source.storage.files("cells", keys)
    order = {
        f"cells/{key}": [*(name for name in (CURVE, MEANING) if name in names), *learnt]
        for key, names in files.items()
        if (learnt := [name for name in LEARNT if name in names])
    }
    folder.storage.copy(source.storage, order)


def _keys(cells: Sequence[Cell]) -> set[str]:
    return {key for cell in cells for key in cell.keys}
