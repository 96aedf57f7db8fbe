"""Executor: where stages run. Stages in; events out, in the driver's process, until every cell is done or has failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import ClassVar

from spt_fast.plan import Stage
from spt_fast.scheduling.estimates import Measured
from spt_fast.scheduling.scheduler import Resources
from spt_fast.worker.events import Event
from spt_fast.worker.lease import Given


class Executor(ABC):
    """Runs stages. Whatever becomes of a worker, each of its cells ends in `CellDone` or `CellFailed`, once."""

    foresees: ClassVar[bool] = False
    """Whether it tells how long the rest takes itself (`Outlook`)."""

    @abstractmethod
    def run(
        self, stages: Sequence[Stage], given: Callable[[Stage], Given], measured: Sequence[Measured] = ()
    ) -> Generator[tuple[Stage, Event]]:
        """Run the stages and tell what happens.

        Closing the iterator early ends the workers, and awaits their end.

        Args:
            stages: what is to be done.
            given: asked when a worker gets cells, as a stage of only those: what they have already.
            measured: cells that were done earlier, to guess from how long others take.
        """

    @abstractmethod
    def room(self) -> tuple[Mapping[str, Resources], bool]:
        """What there is to run on, for an estimate: node -> its CPUs and GPUs, and whether workers take GPUs."""

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Give back what the executor holds. Closing twice is no error."""
