"""A made-up worker: what it does of itself, and how it answers what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spt_fast.scheduling.messages import (
    Began,
    Ended,
    Heartbeat,
    Idle,
    Job,
    Observation,
    Piece,
    Progressed,
    Revoked,
    Trained,
)
from spt_fast.scheduling.simulation.outcome import Outcome
from spt_fast.scheduling.simulation.world import Clock, Seat

LATENCY_S = 0.2
"""From a worker to the driver, or back."""

TELL_S = 45.0
"""So often a worker says that it is there, and goes on."""


class Say(Protocol):
    """Tells the scheduler something, a little later."""

    def __call__(self, worker: Worker, observation: Observation, useful_s: float = 0.0) -> None:
        """`useful_s`: seconds of work that is not in vain once this has come."""


@dataclass(eq=False)
class Worker:
    """Trains all that its cells need, then evaluates one after the other."""

    id: int
    job: Job
    """As long as it really takes."""
    seats: Sequence[Seat]
    speed: float
    """How many times as long as usual it takes."""
    clock: Clock
    say: Say
    outcome: Outcome
    queue: dict[str, Piece] = field(default_factory=dict)
    """Cells that it has, in its order."""
    trained: set[str] = field(default_factory=set)
    """Cells of which it has the vectors."""
    pinned: set[str] = field(default_factory=set)
    """Cells that it has begun."""
    untold: set[str] = field(default_factory=set)
    """Cells that it has done, without the news having come."""
    alive: bool = True
    hangs: bool = False
    cut_off: bool = False
    idle: bool = False

    def __post_init__(self) -> None:
        self.began = self.clock.now
        self.pieces = {piece.key: piece for piece in self.job.pieces}

    def begin(self, keys: Sequence[str], trained: Collection[str]) -> None:
        """It is on its node with these cells, some with their vectors, and begins to load."""
        self._take(keys, trained)
        self.say(self, self._heartbeat())
        self.after(TELL_S, self._tell)
        self.after(self.job.start_s, self._train)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something later, unless it is gone or hangs by then."""
        self.clock.after(seconds, lambda: act() if self.alive and not self.hangs else None)

    def assign(self, keys: Sequence[str], trained: Collection[str]) -> None:
        """It has more cells, some with their vectors."""
        self.idle = False
        self._take(keys, trained)
        if self._untrained():
            self.after(LATENCY_S + self.job.start_s, self._train)
        else:
            self.after(LATENCY_S, self._evaluate)

    def revoke(self, keys: Sequence[str]) -> None:
        """It gives up those of these cells that it has not begun."""
        back = tuple(key for key in keys if key in self.queue and key not in self.pinned)
        for key in back:
            del self.queue[key]
        self.outcome.moved += len(back)
        self.say(self, Revoked(self.id, back))

    def hang(self) -> None:
        """It answers, and does nothing any more."""
        self.hangs = True
        self.outcome.lost_workers += 1

    def is_cut_off(self) -> None:
        """It goes on, and is not heard any more."""
        self.cut_off = True
        self.outcome.lost_workers += 1

    def _take(self, keys: Sequence[str], trained: Collection[str]) -> None:
        self.trained.update(trained)
        self.queue.update((key, self.pieces[key]) for key in keys)

    def _tell(self) -> None:
        """Also one that hangs goes on telling that it is there."""
        if self.alive:
            self.say(self, self._heartbeat() if self.hangs or self.idle else Progressed(self.id))
            self.clock.after(TELL_S, self._tell)

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(self.id, tuple(seat.node for seat in self.seats))

    def _untrained(self) -> str | None:
        """The next group that it has to train."""
        return next((p.group for key, p in self.queue.items() if p.group is not None and key not in self.trained), None)

    def _train(self) -> None:
        """Train the next group, or evaluate."""
        group = self._untrained()
        if group is None:
            self._evaluate()
            return
        keys = [key for key, piece in self.queue.items() if piece.group == group and key not in self.trained]
        self.pinned.update(keys)
        for key in keys:
            self.say(self, Began(self.id, key, "train"))
        seconds = self.queue[keys[0]].train_s * self.speed
        self.after(seconds, lambda: self._has_trained(keys, seconds))

    def _has_trained(self, keys: Sequence[str], seconds: float) -> None:
        self.trained.update(keys)
        self.pinned.difference_update(keys)
        for key in keys:
            self.say(self, Trained(self.id, key), seconds / len(keys))
        self._train()

    def _evaluate(self) -> None:
        """Evaluate the next cell, or say that there is none."""
        key = next(iter(self.queue), None)
        if key is None:
            self.idle = True
            self.say(self, Idle(self.id))
            return
        self.pinned.add(key)
        self.say(self, Began(self.id, key, "evaluate"))
        seconds = self.queue[key].answer_s * self.speed
        self.after(seconds, lambda: self._has_evaluated(key, seconds))

    def _has_evaluated(self, key: str, seconds: float) -> None:
        del self.queue[key]
        self.pinned.discard(key)
        self.untold.add(key)
        self.outcome.done[key] = self.outcome.done.get(key, 0) + 1
        self.say(self, Ended(self.id, key), seconds)
        self._evaluate()
