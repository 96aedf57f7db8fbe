"""What goes through the socket between a worker process and its driver, beside events."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from spt_fast.engine.base import Part
from spt_fast.errors import UnstorableError, first_line
from spt_fast.worker.events import CellFailed, Event
from spt_fast.worker.lease import Handed
from spt_fast.worker.stage import Do


@dataclass(frozen=True)
class ImportAhead:
    """A process that has no stage yet imports what it will need (`prestarted`)."""

    do: Do
    """What of a stage it will do."""
    kind: str
    """The engine's."""


@dataclass(frozen=True)
class Settle:
    """What such a process is told before its stage: what others are started with."""

    log: str
    """The file that it prints to from here on."""
    environment: Mapping[str, str]
    """Variables of its own: the GPUs that it may use."""


@dataclass(frozen=True)
class Claim:
    """The worker asks which of these cells it still holds; answered by their keys."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class WantsMore:
    """The worker has nothing left; answered by `More`, or None."""


@dataclass(frozen=True)
class BeginFollowers:
    """The worker's engine is spread over nodes: the others are to run these parts, one each; answered when they have begun."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class EndFollowers:
    """The parts on other nodes are to be ended; answered when they have."""


@dataclass(frozen=True)
class WantsTraining:
    """The worker ends with cells left that others have to train for."""


@dataclass(frozen=True)
class DeviceFree:
    """The worker is told that no other process holds any of the device."""

    handed: Handed | None = None
    """What those have done for it."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What the worker says of a cell (`CellDone`, `CellTrained`), pickled by itself: one that cannot be read costs no other."""

    key: str
    data: bytes

    def opened(self) -> Event:
        """The event; where it cannot be read here, that the cell has failed."""
        try:
            event: Event = pickle.loads(self.data)
        except Exception as e:  # whatever unpickling meets in a task of the user's own
            return CellFailed(key=self.key, kind=UnstorableError.__name__, reason=unsent(e))
        return event


def unsent(error: Exception) -> str:
    """That what a cell came to did not come from its worker to the driver, in a sentence."""
    return f"what came of it cannot be sent from the worker to the driver: {type(error).__name__}: {first_line(error)}"


FromWorker: TypeAlias = Event | Claim | WantsMore | WantsTraining | BeginFollowers | EndFollowers
