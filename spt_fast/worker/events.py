"""What a worker tells its driver: small, picklable, in the order in which it happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from spt_fast.prompts.lora import Learnt
from spt_fast.prompts.meaning import Meaning
from spt_fast.types import CellResult, TrainingStep

THIS_MACHINE = "this machine"
"""Where a worker is that runs beside the driver."""

TELL_EVERY_S = 0.2
"""At most so often is progress told."""

Phase: TypeAlias = Literal["wait", "load", "train", "engine", "evaluate", "rerun", "judge"]


@dataclass(frozen=True, kw_only=True)
class PhaseStarted:
    """The worker waits for room, or begins to load the frozen model, to train, to start the engine, to ask, to ask again, or to
    judge."""

    phase: Phase
    note: str = ""
    """What is other than the grid asks: engine settings that were lowered for want of memory. Or, where asking begins, how the
    engine goes about it (`Engine.told`)."""


@dataclass(frozen=True, kw_only=True)
class RowsRead:
    """What the rows of a task are: sizes, hashes, near-duplicates between splits. Told for tasks of `Stage.describe`."""

    task: str
    report: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CellStarted:
    """From here on the cell is in flight: should the worker die, this cell is what it died of."""

    key: str
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class Noticed:
    """What a person should know of a cell before it is done: nothing that it fails of yet."""

    key: str
    said: str
    """A sentence without its full stop."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a phase is: steps of one cell's training, or requests of all cells."""

    phase: Phase
    done: int
    total: int
    key: str | None = None
    """The cell being worked on, where there is one."""
    note: str = ""
    """"loss 2.31", "412 requests/s"."""


@dataclass(frozen=True, kw_only=True)
class CellTrained:
    """What a cell has learnt by step, and the loss of every step."""

    key: str
    prompts: Mapping[int, Learnt]
    curve: tuple[TrainingStep, ...]
    meaning: Meaning | None = None
    """What the vectors of the last step lie next to; None: nobody has looked, for want of the loaded model."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """What its training has cost, for whichever worker evaluates it."""


@dataclass(frozen=True, kw_only=True)
class CellDone:
    """A cell's result."""

    key: str
    result: CellResult


@dataclass(frozen=True, kw_only=True)
class CellFailed:
    """A cell that came to nothing, and why."""

    key: str
    kind: str
    """Name of the error's class: the boundary it failed at."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class StageDone:
    """The worker has nothing left to do."""


@dataclass(frozen=True, kw_only=True)
class WorkerIdle:
    """The worker has nothing left, and waits with its engine open to be given more, or let go."""


@dataclass(frozen=True, kw_only=True)
class WorkerStarted:
    """The executor has a worker for the stage."""

    where: str
    """The node."""
    gpus: float
    """It takes so many; 0 on a CPU."""


@dataclass(frozen=True, kw_only=True)
class WorkerEnded:
    """The worker is gone."""

    reason: str = ""
    """Why, where it was lost."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The executor's own idea of the time that is left, told now and then."""

    seconds_left: float


Event: TypeAlias = (
    PhaseStarted
    | RowsRead
    | CellStarted
    | Noticed
    | Progress
    | CellTrained
    | CellDone
    | CellFailed
    | StageDone
    | WorkerIdle
    | WorkerStarted
    | WorkerEnded
    | Outlook
)


class Throttled:
    """Tells progress at most every `TELL_EVERY_S`, and always the end."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= TELL_EVERY_S or progress.done == progress.total:
            self._last = now
            self._emit(progress)
