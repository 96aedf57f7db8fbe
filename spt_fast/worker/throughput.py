"""How fast the engines answer: requests a second of all workers together."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from spt_fast.worker.events import Event, Progress

WINDOW_S = 30.0
"""What is older does not count."""


class Throughput:
    """Counts answers as workers tell of their progress."""

    def __init__(self) -> None:
        self._done: dict[Hashable, int] = {}
        self._answered: deque[tuple[float, int]] = deque()
        self._since: float | None = None

    def take(self, worker: Hashable, event: Event, now: float) -> None:
        """Take an event in.

        Args:
            worker: whose.
            event: of any kind.
            now: seconds, never less than before.
        """
        if not isinstance(event, Progress) or event.phase not in ("evaluate", "judge"):
            return
        if self._since is None:
            self._since = now
        before = self._done.get(worker, 0)
        self._done[worker] = event.done
        # A new stream of requests begins at nought.
        self._answered.append((now, event.done - before if event.done >= before else event.done))

    def per_s(self, now: float) -> float:
        """Requests a second over the last `WINDOW_S`; 0 before there were any."""
        while self._answered and self._answered[0][0] < now - WINDOW_S:
            self._answered.popleft()
        if self._since is None:
            return 0.0
        return sum(count for _, count in self._answered) / min(WINDOW_S, max(now - self._since, 1.0))
