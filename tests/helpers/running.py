"""A grid in this process, and who listens to its events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from spt_fast.config import GridConfig
from spt_fast.driver.result import GridResult
from spt_fast.driver.run import run_cells as run_in_workers
from spt_fast.executors.base import Executor
from spt_fast.plan import Stage
from spt_fast.worker.events import Event
from spt_fast.worker.lease import Given
from spt_fast.worker.stage import run_stage


class Inline(Executor):
    """Stages in this process: what a worker does, without the seconds that a process takes to import torch."""

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
        for stage in stages:
            events: list[Event] = []
            run_stage(stage, earlier(stage), events.append)
            for event in events:
                yield stage, event


def run_grid(grid: GridConfig, **settings: Any) -> GridResult:
    """The grid, in this process."""
    return run_in_workers(grid, executor=Inline(), **settings)


class Listener:
    """Remembers the events, and does something at one of them."""

    def __init__(self, at: type[Event] | None = None, times: int = 1, then: Any = None) -> None:
        self.seen: list[Event] = []
        self._at, self._left, self._then = at, times, then

    @contextmanager
    def watch(self, *_: object) -> Iterator[Listener]:
        yield self

    def show(self, stage: Stage, event: Event) -> None:
        self.seen.append(event)
        if self._at is not None and isinstance(event, self._at):
            self._left -= 1
            if self._left == 0:
                self._then()

    def keys(self, kind: type[Event]) -> list[str]:
        return [event.key for event in self.seen if isinstance(event, kind)]  # type: ignore[union-attr]


def numbers(result: GridResult) -> dict[str, Any]:
    """What a grid came to, times aside."""
    return {key: stored.metrics for key, stored in result.results.items()}
