"""How the cells of one model are shared by several workers: each begins only what nobody else has been given meanwhile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from spt_fast.engine.base import Partners
from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import Learnt
from spt_fast.types import CellResult

Given: TypeAlias = Mapping[str, Mapping[int, Learnt]] | Mapping[str, CellResult]
"""By cell key, what is there when a worker gets a cell: step -> what was learnt, of cells that were trained already; or of a
cell that is to be judged, what it came to by rules."""


@dataclass(frozen=True, kw_only=True)
class More:
    """Further cells for a worker that has nothing left."""

    cells: tuple[Cell, ...]
    given: Given


class Sharing(ABC):
    """What a worker asks whoever hands out the work."""

    @abstractmethod
    def claim(self, keys: Sequence[str]) -> Collection[str]:
        """Asked before cells are learnt, and again before they are asked: those of them that are still this worker's."""

    @abstractmethod
    def more(self) -> More | None:
        """Asked when nothing is left, with the engine open; may take a while. None: the worker is to end."""

    def turn(self, meanwhile: Callable[[], None]) -> None:
        """Asked when all is read, before anything is put on the device; returns when the device is this worker's.

        Args:
            meanwhile: what is worth doing where that takes a while.
        """
        return

    @property
    def partners(self) -> Partners | None:
        """Who runs the parts of an engine that are on other nodes; None: nobody does."""
        return None


class Alone(Sharing):
    """Nobody else is at work on the model."""

    def claim(self, keys: Sequence[str]) -> Collection[str]:
        """All of them."""
        return keys

    def more(self) -> None:
        """There is none."""
        return
