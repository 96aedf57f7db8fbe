"""Executor: where stages run. Stages in; events out, in the driver's process, until every cell is done or has failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeAlias

from spt_fast.events import Event
from spt_fast.plan import Stage
from spt_fast.prompts.soft_prompt import SoftPrompt

Trained: TypeAlias = Mapping[str, Mapping[int, SoftPrompt]]
"""Cell key -> step -> soft prompt: what earlier runs have trained already."""


class Executor(ABC):
    """Runs stages. Whatever becomes of a worker, each of its cells ends in `CellDone` or `CellFailed`, once."""

    @abstractmethod
    def run(self, stages: Sequence[Stage], trained: Callable[[Stage], Trained]) -> Generator[tuple[Stage, Event]]:
        """Run the stages and tell what happens.

        Closing the iterator early ends the workers, and awaits their end.

        Args:
            stages: what is to be done.
            trained: asked when a stage starts: the soft prompts its cells have already.
        """
