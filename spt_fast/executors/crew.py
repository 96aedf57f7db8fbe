"""A crew: the workers of a run that the scheduler divides, and the nodes that they are on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scheduling.messages import Job, Nodes, Resources, Start
from spt_fast.worker.events import Event
from spt_fast.worker.lease import Given


@dataclass(frozen=True, slots=True)
class Up:
    """A worker is on its nodes."""

    worker: int
    nodes: tuple[str, ...]
    where: str
    """What people call them."""


@dataclass(frozen=True, slots=True)
class Said:
    """A worker has answered, perhaps without anything to tell."""

    worker: int
    nodes: tuple[str, ...]
    events: tuple[Event, ...] = ()
    ended: bool = False
    """Whether it has ended, as it should."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A worker has answered which of its cells it gives up."""

    worker: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker was lost."""

    worker: int
    reason: str
    innocent: bool = False
    """Whether its cells cannot be the cause."""


News: TypeAlias = Up | Said | GaveUp | Gone


class Crew(ABC):
    """The workers of one run, and the nodes that they are on."""

    @abstractmethod
    def nodes(self) -> Nodes:
        """What there is, less what others than this run have of it.

        Raises:
            LostError: the cluster is gone.
        """

    @abstractmethod
    def start(self, start: Start, job: Job, whole: Stage, stage: Stage, earlier: Given) -> None:
        """Start a worker; answered by `Up`.

        Args:
            start: its number, and where.
            job: what it takes of its nodes.
            whole: its model with all cells that it may be assigned.
            stage: its model with its cells.
            earlier: what earlier runs have of these.
        """

    @abstractmethod
    def assign(self, worker: int, cells: tuple[Cell, ...], earlier: Given) -> None:
        """Hand an idle worker more cells."""

    @abstractmethod
    def revoke(self, worker: int, keys: tuple[str, ...]) -> None:
        """Take cells from a worker, as far as it has not begun them; answered by `GaveUp`."""

    @abstractmethod
    def release(self, worker: int) -> None:
        """Let a worker end when it has nothing left."""

    @abstractmethod
    def kill(self, worker: int) -> None:
        """End a worker that is there, or about to be; it is not heard any more."""

    @abstractmethod
    def news(self, wait_s: float) -> Iterable[News]:
        """What has happened, nothing after so many seconds; each is dealt with before the next is asked for."""

    def observe(self, stage: Stage, event: Event) -> None:  # noqa: B027  (most have no gauges)
        """What workers have told, event by event."""

    def show(self, seconds_left: float) -> None:  # noqa: B027
        """The time that is left, now and then."""

    def close(self) -> None:  # noqa: B027
        """The run is over; its workers were killed."""


def demand(job: Job, start: Start) -> Resources:
    """What each part of a worker takes of its node."""
    return job.need if start.parts == 1 else job.part
