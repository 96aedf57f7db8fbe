"""events.jsonl of a run folder: what happened when, a line an event."""

from __future__ import annotations

import json
import time
from typing import Any

from spt_fast.errors import StoreError
from spt_fast.storage.base import Storage
from spt_fast.store.damage import said
from spt_fast.store.layout import EVENTS, encoded

_MUST_HAVE = {
    "run": ("cells", "todo"),
    "expected": ("seconds", "gpu_seconds", "basis"),
    "phase": ("model", "worker", "phase"),
    "worker": ("model", "worker", "where", "gpus"),
    "ended": ("model", "worker"),
}
"""Event -> what a line of it must have, beside its time."""


class EventLog:
    """events.jsonl of one run folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add(self, what: str, **details: Any) -> None:
        """Append a line.

        Raises:
            StoreError: it cannot be written.
        """
        line = {"time": round(time.time(), 3), "event": what, **details}
        self._storage.append(EVENTS, encoded(json.dumps(line, ensure_ascii=False, default=str) + "\n").decode())

    def read(self) -> list[dict[str, Any]]:
        """The lines; what is no line of ours, as a last one that was cut short by a kill, is left out.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            lines = self._storage.appended(EVENTS).split("\n")
        except OSError as e:
            name = self._storage.name(EVENTS)
            raise StoreError(f"{name}: cannot be read ({said(e)}); move it away, and the run writes another one") from None
        return [event for event in map(_event, lines) if event is not None]


def _event(line: str) -> dict[str, Any] | None:
    """A line; None where it is none of ours."""
    if not line.strip():
        return None
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("event"), str) or not isinstance(told.get("time"), int | float):
        return None
    return told if all(name in told for name in _MUST_HAVE.get(told["event"], ())) else None
