"""Series: soft prompts that are carried from one checkpoint to the next (`init_from: previous`), and the order that this takes.

    thread     the cells of a series that have one task, one protocol with all its settings, and one seed (`Cell.thread`)
    before     of a stage the one before it in its series: it trains when that one's carried cells are trained, or have failed
    cold       a carried cell that no earlier checkpoint has vectors for: they are learnt on the model itself first

Checkpoints follow one another in the natural order of their names: step-9 before step-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spt_fast.config import Learning
from spt_fast.models.hub import natural
from spt_fast.plan.cell import Cell
from spt_fast.plan.stage import Stage


def place(name: str) -> Any:
    """Where in its series a model is: what sorts before it comes before it."""
    return natural(name)


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Stages with those of a series one after the other, in the places that they have among the others."""
    found = list(stages)
    for own in _of_series(stages).values():
        for at, i in zip(own, sorted(own, key=lambda i: place(stages[i].model.name)), strict=True):
            found[at] = stages[i]
    return found


def before(stages: Sequence[Stage]) -> dict[int, int]:
    """By its place among these stages, each that waits for one: the place of that one."""
    found: dict[int, int] = {}
    for own in _of_series(stages).values():
        ordered = sorted(own, key=lambda i: place(stages[i].model.name))
        found |= dict(zip(ordered[1:], ordered, strict=False))
    return found


def _of_series(stages: Sequence[Stage]) -> dict[str, list[int]]:
    """Series -> the places of its stages that carry something."""
    found: dict[str, list[int]] = {}
    for i, stage in enumerate(stages):
        if stage.carried and stage.model.series is not None:
            found.setdefault(stage.model.series, []).append(i)
    return found


def with_cold(stages: Sequence[Stage], known: Mapping[str, Sequence[str]]) -> list[Stage]:
    """Stages that say which of their carried cells will start cold, if all goes well.

    Args:
        stages: in the order in which they are done.
        known: thread -> the models whose vectors are there already.
    """
    there = {thread: [place(name) for name in names] for thread, names in known.items()}
    found = []
    for stage in stages:
        own = place(stage.model.name)
        cells = _carried(stage)
        cold = [cell.key for cell in cells if not any(each < own for each in there.get(cell.thread, ()))]
        for cell in cells:
            there.setdefault(cell.thread, []).append(own)
        found.append(replace(stage, cold=frozenset(cold)))
    return found


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What carrying saves, in updates."""

    prompts: int
    """Soft prompts that are to be trained, of series whose soft prompts are carried."""
    cold: int
    """Those of them that start cold."""
    updates: int
    all_cold: int
    """Updates if each were trained by itself, as those that start cold are before their own steps."""

    def in_words(self, times: int = 1) -> str:
        """A sentence without its full stop; `times`: of so many seeds."""
        carried, cold = times * (self.prompts - self.cold), times * self.cold
        return (
            f"{carried:,} of {carried + cold:,} soft prompts start from the checkpoint before, {cold:,} start cold: "
            f"{times * self.updates:,} updates, against {times * self.all_cold:,} for cold starts alone"
        )


def saved(stages: Sequence[Stage]) -> Saved | None:
    """What carrying saves in these stages, which say which cells start cold; None: nothing is carried."""
    trainings = {(i, cell.tuning_key): (stage, cell) for i, stage in enumerate(stages) for cell in _carried(stage)}
    if not trainings:
        return None
    firsts = [(stage.first(cell), cell) for stage, cell in trainings.values()]
    return Saved(
        prompts=len(firsts),
        cold=sum(first is not None for first, _ in firsts),
        updates=sum(_updates(cell) + (0 if first is None else _updates(first)) for first, cell in firsts),
        all_cold=sum(_updates(cell.first) for _, cell in firsts if cell.first is not None),
    )


def _carried(stage: Stage) -> list[Cell]:
    return [cell for cell in stage.cells if cell.key in stage.carried]


def _updates(cell: Cell) -> int:
    assert isinstance(cell.protocol, Learning)
    return cell.protocol.steps
