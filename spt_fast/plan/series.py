"""Series: soft prompts that are carried from one checkpoint to the next (`init_from: previous`), and the order that this takes.

    thread     the cells of a series that have one task, one protocol with all its settings, and one seed (`Cell.thread`)
    before     of a stage the one before it in its series: it trains when that one's carried cells are trained, or have failed
    cold       a carried cell that no earlier checkpoint has vectors for: they are learnt on the model itself first

Checkpoints follow one another in the natural order of their names: step-9 before step-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spt_fast.models.hub import natural

if TYPE_CHECKING:
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
        cells = [cell for cell in stage.cells if cell.key in stage.carried]
        cold = [cell.key for cell in cells if not any(each < own for each in there.get(cell.thread, ()))]
        for cell in cells:
            there.setdefault(cell.thread, []).append(own)
        found.append(replace(stage, cold=frozenset(cold)))
    return found
