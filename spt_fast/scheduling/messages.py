"""What the scheduler is told (`Observation`), and what it wants done (`Action`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Resources: TypeAlias = Mapping[str, float]
"""As Ray counts them: {"GPU": 2, "CPU": 1}. Less than one GPU is a share of one; more are whole ones, of one node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A cell, as far as the scheduler cares."""

    key: str
    group: str | None
    """Pieces of one group share their training, so they stay together until it is done; None: nothing is trained."""
    train_s: float = 0.0
    """Expected seconds to train what the group needs; once a group and worker."""
    answer_s: float = 0.0
    """Expected seconds to evaluate it."""
    carried: bool = False
    """Whether the next job of its series starts from what it has learnt."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The cells of one model."""

    name: str
    need: Resources
    """What each worker takes of a node."""
    start_s: float
    """Expected seconds before a worker does anything useful: load, engine start."""
    pieces: tuple[Piece, ...]
    """In the order in which they are to be done."""
    parts: int = 1
    """A worker is split into so many equal parts where no node can hold it whole."""
    part: Resources = field(default_factory=dict)
    """What each of those takes of a node; several may be on one node."""
    after: str | None = None
    """The job before it in its series: no worker of this one starts before all carried pieces of that one are trained, or have
    failed."""

    @property
    def kind(self) -> str:
        """The resource that it is counted by."""
        return "GPU" if self.need.get("GPU") else next(iter(self.need))


# Observations


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of the cluster."""

    capacity: Mapping[str, Resources]
    """Node -> what of it the scheduler may use: what its workers have included, what others have not."""
    draining: Collection[str] = ()
    """Nodes that are about to be taken away (a spot notice): nothing new starts there."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker has answered."""

    worker: int
    nodes: tuple[str, ...]
    """The node of each of its parts."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """A worker has made progress, so it does not hang."""

    worker: int


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has a cell in flight from here on."""

    worker: int
    key: str
    phase: Literal["train", "evaluate"]


@dataclass(frozen=True, slots=True)
class Trained:
    """The vectors of a cell are there."""

    worker: int
    key: str
    before: bool = False
    """They were there before the worker had the cell. Told while it is given that, so nothing is decided yet."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A cell is done, or has failed."""

    worker: int
    key: str


@dataclass(frozen=True, slots=True)
class Idle:
    """A worker has nothing left, and waits with its engine open: answered by `Assign` or `Release`, now or later."""

    worker: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """Answer to `Revoke`: the cells that the worker had not begun, and will not begin now."""

    worker: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker has ended, as it should."""

    worker: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker has ended as it should not."""

    worker: int
    reason: str
    innocent: bool = False
    """Whether its cells cannot be the cause: its node was taken away."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Observation: TypeAlias = Nodes | Heartbeat | Progressed | Began | Trained | Ended | Idle | Revoked | Finished | Lost | Tick


# Actions


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker."""

    worker: int
    job: str
    nodes: tuple[str, ...]
    """The node of each of its parts; none: wherever there is room first."""
    keys: tuple[str, ...]
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Assign:
    """Hand an idle worker more cells."""

    worker: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revoke:
    """Take cells from a worker, as far as it has not begun them; answered by `Revoked`."""

    worker: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Let an idle worker end."""

    worker: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker at once. Nothing it says after this counts."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """A cell is given up."""

    job: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Waits:
    """A job waits for a node that could hold a worker of it; said once."""

    job: str
    reason: str


Action: TypeAlias = Start | Assign | Revoke | Release | Kill | Fail | Waits
