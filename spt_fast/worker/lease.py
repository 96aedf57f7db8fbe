"""How several workers share the cells of one model: each begins only the cells that it still holds a lease on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from spt_fast.engine.base import Followers
from spt_fast.plan.cell import Cell
from spt_fast.prompts.lora import Learnt
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.stopping import Stopping
from spt_fast.types import CellResult, Stopped


@dataclass(frozen=True)
class Start:
    """What a cell that is still to be trained starts from: the soft prompt of an earlier checkpoint, which says whose it is."""

    prompt: SoftPrompt


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a cell is asked, where that is not simply everything."""

    key: str
    """Of the cell."""
    stopping: Stopping | None = None
    """When it has been asked enough; None: all is asked."""
    stopped: Stopped | None = None
    """What was asked of it before, with the answers; None: nothing."""


Given: TypeAlias = Mapping[str, Mapping[int, Learnt] | Start | Asking] | Mapping[str, CellResult]
"""By cell key, what earlier work has for a cell: step -> what was trained, or what its vectors start from; or, of a cell that
is to be judged, its result by rules. By `asking_key`, how it is asked."""


def asking_key(key: str) -> str:
    """Under which `Asking` of a cell is given, beside what it has learnt."""
    return f"asking {key}"


def learnt_of(given: Mapping[str, Any]) -> dict[str, Mapping[int, Learnt]]:
    """Of what is given, all that is trained."""
    return {key: found for key, found in given.items() if not isinstance(found, Start | Asking)}


def starts_of(given: Mapping[str, Any]) -> dict[str, SoftPrompt]:
    """Of what is given, where trainings start."""
    return {key: found.prompt for key, found in given.items() if isinstance(found, Start)}


def asking_of(given: Mapping[str, Any]) -> list[Asking]:
    """Of what is given, how cells are asked."""
    return [found for found in given.values() if isinstance(found, Asking)]


@dataclass(frozen=True, kw_only=True)
class More:
    """Further cells for a worker that has nothing left."""

    cells: tuple[Cell, ...]
    given: Given


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What other processes have done for a worker's cells while it waited for the device."""

    given: Mapping[str, Mapping[int, Learnt]]
    """By cell key, what was trained."""
    costs: Mapping[str, Mapping[str, float]]
    """By cell key, what that has cost."""
    left: frozenset[str]
    """The cells that are still the worker's: others have failed, or were given away."""


class Lease(ABC):
    """What a worker asks its work queue."""

    @abstractmethod
    def claim(self, keys: Sequence[str]) -> Collection[str]:
        """Asked before cells are trained, and again before they are evaluated: those that this worker still holds."""

    @abstractmethod
    def more(self) -> More | None:
        """Asked when nothing is left, with the engine open; may take a while. None: the worker is to end."""

    def wait_for_device(self, meanwhile: Callable[[], None]) -> Handed | None:
        """Asked when all is read, before anything is put on the device; returns when no other worker holds any of it.

        Args:
            meanwhile: what is worth doing where that takes a while.

        Returns:
            What was done for this worker meanwhile, where anything was.
        """
        return None

    @property
    def followers(self) -> Followers | None:
        """Who runs the parts of an engine that are on other nodes; None: nobody does."""
        return None


class SoleLease(Lease):
    """No other worker is at work on the model."""

    def claim(self, keys: Sequence[str]) -> Collection[str]:
        """All of them."""
        return keys

    def more(self) -> None:
        """There is none."""
        return
