"""What is left of a grid's cells, grouped into stages: to train and ask, to rule on, to ask again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from spt_fast.plan.cell import Cell
from spt_fast.plan.series import in_order
from spt_fast.plan.stage import Stage

MOST_JUDGED = 200_000
"""Completions that a judge is handed at once, with their prompts: some hundred megabytes, held by the driver and the worker."""

MOST_DEATHS = 3
"""Engines or workers of a model that die one after the other, with no cell done between: then all its cells fail."""

UNLIMITED = 20_000
"""Test rows that a task without a limit is taken to have; the largest of ours has about as many."""


def one_by_one(cells: Sequence[Cell], alone: Collection[str], deaths: int = 0) -> list[Cell]:
    """The cells to be asked together next: all that need not be alone, or else the first that must.

    Args:
        cells: of one model.
        alone: keys of those that must be.
        deaths: with one more the model would be given up: then the last, for the cells of one task are neighbours.
    """
    return [cell for cell in cells if cell.key not in alone] or list(cells[-1:] if deaths == MOST_DEATHS - 1 else cells[:1])


def stages(cells: Sequence[Cell], done: Collection[str]) -> list[Stage]:
    """What is left to train and to ask, grouped by model, in the order of the grid: of judged cells and of ensembles, what
    they rest on. Of a series whose soft prompts are carried along, the earlier checkpoint comes first."""
    left: dict[str, dict[str, Cell]] = {}
    # Two copies of one model have one fingerprint, so their cells have one key.
    named = {(cell.model.name, cell.key): cell for cell in cells}
    for cell in cells:
        if cell.key in done or cell.unjudged.key in done:
            continue
        for asked in cell.asked:
            if asked.key not in done:
                # A member of an ensemble that is a cell of the grid is called what the grid calls it.
                left.setdefault(cell.model.name, {}).setdefault(asked.key, named.get((cell.model.name, asked.key), asked))
    found = [Stage(model=next(iter(group.values())).model, cells=tuple(group.values())) for group in left.values()]
    return in_order(found)


def voting(cells: Sequence[Cell], done: Collection[str]) -> list[Cell]:
    """The ensembles, without their judges, that are not done and whose members are."""
    found = {cell.key: cell for cell in (cell.unjudged for cell in cells if cell.key not in done)}
    return [
        cell for key, cell in found.items() if key not in done and cell.members and all(m.key in done for m in cell.members)
    ]


def rerunning(cells: Sequence[Cell], done: Collection[str], asked_again: Mapping[str, float], share: float) -> list[Stage]:
    """The done cells of which rows are to be asked again, grouped by model; of judged cells, what they rest on.

    Args:
        cells: of the grid.
        done: keys of the cells that are done.
        asked_again: of cells that were asked again, key -> the share of their rows.
        share: of the rows; 0: none.
    """
    left: dict[str, dict[str, Cell]] = {}
    for cell in cells if share else ():
        asked = cell.unjudged
        if asked.members:
            continue  # nothing is asked of an ensemble: its members are
        if asked.key in done and asked_again.get(asked.key, 0.0) < share:
            left.setdefault(cell.model.name, {})[asked.key] = asked
    found = [tuple(group.values()) for group in left.values()]
    return [Stage(model=group[0].model, cells=group, rerun=share) for group in found]


def judging(cells: Sequence[Cell], done: Collection[str], most: int = MOST_JUDGED) -> list[Stage]:
    """The cells whose completions are there and wait for their judge, in as few stages (engine starts) as memory allows.

    Args:
        cells: of the grid.
        done: keys of the cells that are done.
        most: completions of a stage; a cell that has more is a stage of its own.
    """
    found: list[list[Cell]] = []
    size = 0
    for cell in cells:
        if cell.judge is None or cell.key in done or cell.unjudged.key not in done:
            continue
        own = len(cell.steps) * (cell.task.limit or UNLIMITED)
        if not found or size + own > most:
            found.append([])
            size = 0
        found[-1].append(cell)
        size += own
    return [Stage(model=group[0].judge.model, cells=tuple(group)) for group in found if group[0].judge]
