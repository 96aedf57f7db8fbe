"""One stage on this machine, in a worker process; a new one as often as one dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from spt_fast.engine.base import Followers
from spt_fast.executors.messages import BeginFollowers, Claim, DeviceFree, EndFollowers, FromWorker, WantsMore
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.executors.worker_process import WorkerProcess
from spt_fast.plan import MOST_DEATHS, Stage
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, CellTrained, Event, StageDone, WorkerIdle
from spt_fast.worker.lease import Given


def run_here(stage: Stage, earlier: Given, log: Path) -> Iterator[Event]:
    """Run a stage in a worker process on this machine, and yield what happens until all of its cells have ended.

    Args:
        stage: a model, or a judge, and its cells.
        earlier: what earlier runs have of these cells.
        log: the file that the process prints to.
    """
    return Supervisor(stage, WorkQueue(stage.cells, earlier), log, str(log)).events()


def employ(
    stage: Stage, earlier: Given, log: Path, log_name: str, environment: Mapping[str, str] | None = None
) -> WorkerProcess:
    """A new worker process that has a stage to do, and waits until the device is free."""
    worker = WorkerProcess(log, log_name, offline=stage.model.from_cache, environment=environment)
    worker.send((stage, earlier))
    return worker


class Supervisor:
    """Runs one stage; every death of a worker process costs the cell it died of.

    Of several in flight it is not known which that was: they are tried once more, one by one.
    """

    def __init__(
        self,
        stage: Stage,
        queue: WorkQueue,
        log: Path,
        log_name: str,
        *,
        ready: WorkerProcess | None = None,
        followers: Followers | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            stage: the model, or the judge.
            queue: has the cells, and what earlier runs have of those.
            log: the file that workers print to.
            log_name: what a person is told to look into: where that file ends up.
            ready: a worker that has the stage already and waits for the device. One that has ended meanwhile is no loss.
            followers: the other nodes of a stage that is spread over several.
            environment: variables of its workers: the GPUs that they may use.
        """
        self._stage, self._queue, self._log, self._log_name = stage, queue, log, log_name
        self._ready, self._followers, self._environment = ready, followers, environment
        self._suspects: set[str] = set()
        self._in_flight: dict[str, None] = {}
        self._deaths = 0
        """Since a cell has ended."""
        self._finished = False
        self._worker: WorkerProcess | None = None
        self._killed = threading.Event()
        self._changing = threading.Lock()

    def events(self) -> Iterator[Event]:
        """What happens, until all cells have ended, or `kill` is called."""
        while not self._killed.is_set() and self._queue.left()[0]:
            yield from self._one_process()

    def kill(self) -> None:
        """End what runs, from another thread; its cells are somebody else's now."""
        self._killed.set()
        with self._changing:
            if self._worker is not None:
                self._worker.end_group()
        self._queue.release()

    def _one_process(self) -> Iterator[Event]:
        """A process from its start to its end."""
        self._in_flight.clear()
        self._finished = False
        with self._employed() as worker:
            worker.send(DeviceFree())
            for message in worker.messages():
                yield from self._take(worker, message)
                if self._finished:
                    break
            reason = worker.end(self._finished)
        if self._followers is not None:
            self._followers.end()
        if not self._killed.is_set():
            yield from self._after_its_end(reason)

    def _employed(self) -> WorkerProcess:
        """The process that is ready, or a new one."""
        cells, earlier = self._queue.left()
        if self._deaths == MOST_DEATHS - 1:  # as in `one_by_one`
            cells = cells[::-1]
        with self._changing:
            worker, self._ready = self._ready, None
            if worker is None or not worker.alive:
                stage = replace(self._stage, cells=cells, alone=self._stage.alone | self._suspects)
                worker = employ(stage, earlier, self._log, self._log_name, self._environment)
            self._worker = worker
            if self._killed.is_set():
                worker.end_group()
        return worker

    def _take(self, worker: WorkerProcess, message: FromWorker) -> Iterator[Event]:
        """Answer a question of the worker; keep the books of an event, and pass it on."""
        match message:
            case Claim(keys=keys):
                worker.send(self._queue.claim(keys))
            case WantsMore():
                if self._queue.waits:
                    yield WorkerIdle()
                worker.send(self._queue.more())
            case BeginFollowers(parts=parts):
                assert self._followers is not None
                self._followers.begin(parts)
                worker.send(None)
            case EndFollowers():
                assert self._followers is not None
                self._followers.end()
                worker.send(None)
            case StageDone():
                self._finished = True
            case _:
                self._note(message)
                yield message

    def _note(self, event: Event) -> None:
        match event:
            case CellStarted(key=key):
                self._in_flight[key] = None
            case CellTrained(key=key):
                self._queue.trained(key, dict(event.prompts))
                self._in_flight.pop(key, None)
            case CellDone(key=key) | CellFailed(key=key):
                self._queue.ended(key)
                self._in_flight.pop(key, None)
                self._deaths = 0
            case _:
                pass

    def _after_its_end(self, reason: str) -> Iterator[Event]:
        """Fail the cells that a process has left out, or that two have died of, or all after too many deaths."""
        cells, _ = self._queue.left()
        if self._finished:  # a worker that says it is done and is not
            reason = "the worker left this cell out"
        died_of = set(self._in_flight) or {cell.key for cell in cells}
        self._deaths += 1
        for cell in cells:
            if self._finished or self._deaths == MOST_DEATHS or cell.key in died_of & self._suspects:
                self._queue.ended(cell.key)
                yield CellFailed(key=cell.key, kind="EngineError", reason=reason)
        self._suspects |= died_of
