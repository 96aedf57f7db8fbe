"""Tonight beside yesterday: a run folder a day, each of which begins with what the days before have done.

`output: runs/nightly/{date}` has the folders runs/nightly/2026-11-20, runs/nightly/2026-11-21, ... A cell is known by its
key, the hash of everything that can change its result, so one that is done in an earlier folder is done: its files are
linked or copied, and what is new tonight is run. A folder asks earlier ones for each of its cells once, and keeps that it
has: a cell that is thrown away afterwards is run again, and does not come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spt_fast.config import GridConfig
from spt_fast.config.output import day_of, folder_on, parent
from spt_fast.plan.cell import Cell
from spt_fast.storage import open_storage
from spt_fast.store import Store

MOST = 7
"""So many earlier folders are looked at, the newest first. Each holds what its grid asked for of those before it."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What tonight's folder takes over from an earlier one."""

    source: Store
    done: frozenset[str]
    """Keys of cells."""
    learnt: frozenset[str]
    """Keys of cells that are done nowhere, and whose soft prompts are learnt."""

    @property
    def what(self) -> str:
        """How much: "31 cells and 2 soft prompts"."""
        parts = [(len(self.done), "cell"), (len(self.learnt), "soft prompt")]
        return " and ".join(f"{n} {each}{'s' * (n > 1)}" for n, each in parts if n)

    def __str__(self) -> str:
        busy = "; a run is at work there, and what it does from now on is done here too" if self.source.in_use else ""
        return f"{self.what} taken over from {self.source.root}{busy}"


def dated(config: GridConfig) -> bool:
    """Whether each day has a folder of its own."""
    return config.output is not None and parent(config.output, name=config.name) is not None


def earlier(config: GridConfig, tonight: Store) -> list[Store]:
    """The other days' folders that there are, the newest first.

    Raises:
        StoreError: they cannot be listed.
    """
    above = None if config.output is None else parent(config.output, name=config.name)
    if config.output is None or above is None:
        return []
    days = {day_of(entry, config.output, name=config.name) for entry in open_storage(above).names("")} - {None}
    folders = [folder_on(day, config.output, name=config.name) for day in sorted(filter(None, days), reverse=True)]
    return [Store(folder) for folder in folders if folder != tonight.root][:MOST]


def to_take(config: GridConfig, tonight: Store, cells: Sequence[Cell]) -> list[Taken]:
    """What earlier folders have of the cells that tonight's has not, and has not asked them for.

    Args:
        config: whose `output` says where the folders are.
        tonight: the folder of this run.
        cells: of the grid.

    Raises:
        StoreError: a folder cannot be read.
    """
    left = _keys(cells) - tonight.done() - tonight.asked()
    found: list[tuple[Store, frozenset[str]]] = []
    for store in earlier(config, tonight) if left else ():
        done = frozenset(store.done() & left)
        found.append((store, done))
        left -= done
        if not left:
            break
    # Only now is it known which are done nowhere.
    learning = left - tonight.learnt(left) if left else left
    taken = []
    for store, done in found:
        learnt = frozenset(store.learnt(learning) if learning else ())
        learning -= learnt
        if done or learnt:
            taken.append(Taken(source=store, done=done, learnt=learnt))
    return taken


def take_over(config: GridConfig, tonight: Store, cells: Sequence[Cell]) -> list[Taken]:
    """Have in tonight's folder what earlier ones have for it. Killed at any moment, it leaves whole cells, and is gone on with.

    Args:
        config: whose `output` says where the folders are.
        tonight: the folder of this run, locked.
        cells: of the grid.

    Raises:
        StoreError: a folder cannot be read, or tonight's cannot be written.
    """
    if not dated(config):
        return []
    taken = to_take(config, tonight, cells)
    rows = {rows.name: rows for cell in cells for rows in (cell.task, cell.source)}
    for each in taken:
        tonight.take_cells(each.source, each.done)
        tonight.take_prompts(each.source, each.learnt)
        tonight.take_rows(each.source, rows.values())
        tonight.event("adopted", cells=len(each.done), prompts=len(each.learnt), source=str(each.source.root))
    ask_no_more(config, tonight, cells)
    return taken


def ask_no_more(config: GridConfig, tonight: Store, cells: Sequence[Cell]) -> None:
    """Keep that these cells are not to be taken over from earlier folders, also when the grid is run again tonight.

    Raises:
        StoreError: the folder cannot be written.
    """
    new = _keys(cells) - tonight.asked() if dated(config) else ()
    if new:
        tonight.put_asked(new)


def _keys(cells: Sequence[Cell]) -> set[str]:
    return {key for cell in cells for key in cell.keys}
