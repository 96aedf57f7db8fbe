"""What a checkpoint of a series is expected to cost by phase, where nothing of it is done: cold, carried, stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from spt_fast.config import SoftPromptConfig
from spt_fast.plan import Stage, stages
from spt_fast.plan.cell import Cell
from spt_fast.scheduling.estimates import Estimates, Seconds

CARRIED_STEPS = 10
"""Updates that a carried soft prompt is reckoned with in a grid that carries none."""


@dataclass(frozen=True, kw_only=True)
class Reckoned:
    """A way to do a checkpoint, and what it is expected to take."""

    how: str
    """In words: "carried, 10 updates"."""
    seconds: Seconds


def of_series(cells: Iterable[Cell]) -> Iterator[tuple[str, Stage]]:
    """Each series of a grid with the last of its checkpoints, all cells of it, done or not."""
    found: dict[str, Stage] = {}
    for stage in stages(list(cells), ()):
        if stage.model.series is not None and stage.judge is None:
            found[stage.model.series] = stage
    yield from found.items()


def reckoned(
    stage: Stage, estimates: Estimates, *, least: int | None = None, stopped: tuple[float, int] | None = None
) -> list[Reckoned]:
    """Cold and carried; nothing where no soft prompt of the stage is, or could be, carried along.

    Args:
        stage: of one checkpoint.
        estimates: of how long its cells take.
        least: rows of a task before the first look of `stop`: then, what a checkpoint takes at the least. How many more are
            asked depends on what the differences are. None: nothing stops.
        stopped: share of their rows that cells were asked that were stopped, and how many these are; None: none were.
    """
    carried = [cell for cell in stage.cells if cell.thread]
    if carried:
        warm = replace(stage, cold=frozenset())
        cold = replace(stage, cold=frozenset(cell.key for cell in carried))
    else:
        cold, warm = stage, _as_carried(stage)
    cells = [cell for cell in warm.cells if cell.thread]
    if not cells:
        return []
    ways = [
        Reckoned(how=f"cold, {_updates(cold)} updates", seconds=estimates.stage(cold)),
        Reckoned(how=f"carried, {_updates(warm)} updates", seconds=estimates.stage(warm)),
    ]
    if least is not None:
        first = replace(warm, cells=tuple(_at_first_look(cell, least) for cell in warm.cells))
        ways.append(Reckoned(how=f"carried, and stopped at the first look ({least} rows)", seconds=estimates.stage(first)))
    if stopped is not None:
        share, count = stopped
        like = f"as {count} cells were" if count > 1 else "as one cell was"
        seconds = replace(ways[1].seconds, answer_s=share * ways[1].seconds.answer_s)
        ways.append(Reckoned(how=f"carried, and stopped after {100 * share:.0f} % of the rows, {like}", seconds=seconds))
    return ways


def _at_first_look(cell: Cell, least: int) -> Cell:
    most = least if cell.task.limit is None else min(least, cell.task.limit)
    return replace(cell, task=replace(cell.task, limit=most))


def _as_carried(stage: Stage) -> Stage:
    """The stage as if its plain soft prompts were carried along."""
    return replace(stage, cells=tuple(_carried(cell) for cell in stage.cells))


def _carried(cell: Cell) -> Cell:
    own = _carriable(cell)
    if own is None or own.encoder is not None or own.steps <= CARRIED_STEPS:
        return cell
    return replace(cell, protocol=own.carried_along(CARRIED_STEPS))


def _carriable(cell: Cell) -> SoftPromptConfig | None:
    """The protocol of a cell whose vectors start from nothing else than the checkpoint before, if from anything."""
    own = cell.protocol
    return own if isinstance(own, SoftPromptConfig) and own.carries and own.starts_from is None else None


def _updates(stage: Stage) -> str:
    """Of its soft prompts: "80", "10 to 20", with those of a cold start in front: "80 + 10"."""
    found = {}
    for cell in stage.cells:
        if (own := _carriable(cell)) is not None:
            first = stage.first(cell)
            before = f"{first.protocol.steps} + " if first is not None and isinstance(first.protocol, SoftPromptConfig) else ""
            found[own.steps] = f"{before}{own.steps}"
    ordered = [found[steps] for steps in sorted(found)]
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
