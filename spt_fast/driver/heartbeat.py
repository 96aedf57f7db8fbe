"""Heartbeat: what events.jsonl says of a run while it goes on."""

from __future__ import annotations

import time

from spt_fast.plan import Stage
from spt_fast.store import Store
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, CellTrained, Event, Outlook, WorkerEnded
from spt_fast.worker.throughput import Throughput


class Heartbeat:
    """Writes to events.jsonl, now and then, what `status` cannot know from another terminal: how fast, how many, how long."""

    EVERY_S = 10.0

    def __init__(self, store: Store) -> None:
        """`store`: whose events.jsonl it is."""
        self._store = store
        self._throughput = Throughput()
        self._in_flight: dict[str, tuple[str, int]] = {}
        """Cell -> whose it is."""
        self._told = time.monotonic()
        self._left: float | None = None

    def take(self, stage: Stage, event: Event) -> None:
        """Count an event."""
        now, worker = time.monotonic(), (stage.model.name, stage.worker)
        self._throughput.take(worker, event, now)
        match event:
            case CellStarted(key=key):
                self._in_flight[key] = worker
            case CellTrained(key=key) | CellDone(key=key) | CellFailed(key=key):
                self._in_flight.pop(key, None)
            case WorkerEnded():
                self._in_flight = {key: whose for key, whose in self._in_flight.items() if whose != worker}
            case Outlook(seconds_left=left):
                self._left = left
        if now - self._told >= self.EVERY_S:
            self._told = now
            expected = {} if self._left is None else {"seconds_left": round(self._left)}
            self._store.event(
                "pulse", requests_per_s=round(self._throughput.per_s(now), 1), running=len(self._in_flight), **expected
            )
