"""One stage on this machine, in a worker process; a new one as often as one dies.

Where training has a process of its own (`trains_apart`), there are two: the trainer trains and ends, and with it goes all that
it held of the device. The worker has meanwhile read the rows and imported the engine; then it is handed what was trained. Each
of them may die, and costs what a worker's death costs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from spt_fast.engine.base import Followers
from spt_fast.executors.messages import BeginFollowers, Claim, DeviceFree, EndFollowers, FromWorker, WantsMore, WantsTraining
from spt_fast.executors.prestarted import Prestarted
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.executors.worker_process import WorkerProcess
from spt_fast.models.memory import count_gpus
from spt_fast.plan import MOST_DEATHS, Stage
from spt_fast.plan.cell import Cell
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, CellTrained, Event, StageDone, WorkerIdle
from spt_fast.worker.lease import Given, learnt_of
from spt_fast.worker.stage import Do

APART = "SPT_FAST_TRAIN_APART"
"""The environment variable that says whether training has a process of its own ("1") or not ("0"); else on GPUs it has."""


def run_here(stage: Stage, earlier: Given, log: Path) -> Iterator[Event]:
    """Run a stage in a worker process on this machine, and yield what happens until all of its cells have ended.

    Args:
        stage: a model, or a judge, and its cells.
        earlier: what earlier runs have of these cells.
        log: the file that the process prints to.
    """
    return Supervisor(stage, WorkQueue(stage.cells, earlier), log, str(log)).events()


@dataclass(frozen=True)
class Employed:
    """The processes that have a stage to do, and wait until the device is free. Leaving the context ends them."""

    worker: WorkerProcess
    trainer: WorkerProcess | None
    """The one that trains, and ends before the other goes on; None: nothing is to be trained, or the other does that too."""

    @property
    def alive(self) -> bool:
        """Whether all of them run."""
        return all(each.alive for each in self._all)

    def end_groups(self) -> None:
        """End them, from any thread."""
        for each in self._all:
            each.end_group()

    @property
    def _all(self) -> list[WorkerProcess]:
        return [each for each in (self.trainer, self.worker) if each is not None]

    def __enter__(self) -> Employed:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._all:
            each.kill()


def employ(
    stage: Stage,
    earlier: Given,
    log: Path,
    log_name: str,
    environment: Mapping[str, str] | None = None,
    *,
    apart: bool,
    prestarted: Prestarted | None = None,
) -> Employed:
    """New processes that have a stage to do, and wait until the device is free.

    Args:
        stage: its cells.
        earlier: what earlier processes have of these.
        log: the file that they print to.
        log_name: what a person is told to look into.
        environment: variables of their own.
        apart: whether one process is to train, and another to evaluate.
        prestarted: processes that are taken before new ones are started.
    """
    offline = stage.model.from_cache

    def start(part: Stage, do: Do) -> WorkerProcess:
        worker = prestarted.take(do, offline=offline) if prestarted is not None else None
        if worker is not None:
            worker.settle(log, log_name, environment or {})
        else:
            worker = WorkerProcess(log, log_name, offline=offline, environment=environment)
        worker.send((part, earlier, do))
        return worker

    evaluates, *trains = parts(stage, earlier, apart=apart)
    if not trains:
        return Employed(start(stage, evaluates), None)
    learning = _learning(stage)
    read = {task.name for cell in learning for task in (cell.task, cell.source, cell.starts_on) if task is not None}
    trainer = start(replace(stage, cells=learning, describe=stage.describe & read), "train")
    return Employed(start(replace(stage, describe=stage.describe - read), "evaluate"), trainer)


def parts(stage: Stage, earlier: Given, *, apart: bool) -> list[Do]:
    """What each process of a stage does; the one that evaluates comes first.

    Args:
        stage: its cells.
        earlier: what earlier processes have of these.
        apart: as of `employ`.
    """
    if not apart or stage.judge is not None:
        return ["all"]
    learnt = learnt_of(earlier)
    trains = not stage.rerun and any(cell.key not in learnt for cell in _learning(stage))
    return ["evaluate", "train"] if trains else ["evaluate"]


def _learning(stage: Stage) -> tuple[Cell, ...]:
    return tuple(cell for cell in stage.cells if cell.protocol.attaches != "nothing")


def trains_apart() -> bool:
    """Whether training has a process of its own: on GPUs, unless the environment says otherwise."""
    said = os.environ.get(APART, "")
    return said == "1" if said in ("0", "1") else count_gpus() > 0


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
        ready: Employed | None = None,
        followers: Followers | None = None,
        environment: Mapping[str, str] | None = None,
        prestarted: Prestarted | None = None,
    ) -> None:
        """
        Args:
            stage: the model, or the judge.
            queue: has the cells, and what earlier runs have of those.
            log: the file that workers print to.
            log_name: what a person is told to look into: where that file ends up.
            ready: processes that have the stage already and wait for the device. One that has ended meanwhile is no loss.
            followers: the other nodes of a stage that is spread over several.
            environment: variables of its workers: the GPUs that they may use.
            prestarted: processes that are taken before new ones are started.
        """
        self._stage, self._queue, self._log, self._log_name = stage, queue, log, log_name
        self._ready, self._followers, self._environment = ready, followers, environment
        self._prestarted = prestarted
        self._apart = trains_apart()
        self._suspects: set[str] = set()
        self._in_flight: dict[str, None] = {}
        self._deaths = 0
        """Since a cell has ended."""
        self._finished = False
        self._wants_training = False
        """Whether the worker that has finished leaves cells that others have to train for."""
        self._employed: Employed | None = None
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
            if self._employed is not None:
                self._employed.end_groups()
        self._queue.release()

    def _one_process(self) -> Iterator[Event]:
        """A process from its start to its end, and before it the one that trains for it."""
        self._in_flight.clear()
        self._wants_training = False
        with self._processes() as employed:
            reason = ""
            if employed.trainer is not None:
                reason = yield from self._until_its_end(employed.trainer, DeviceFree())
            lost = employed.trainer is not None and not self._finished
            if employed.trainer is not None and not lost and not employed.worker.alive and self._deaths < MOST_DEATHS - 2:
                self._deaths += 1
                return  # it died while it waited, and had begun nothing: another takes over what was trained
            if not lost:
                handed = self._queue.handed() if self._apart and self._stage.judge is None else None
                reason = yield from self._until_its_end(employed.worker, DeviceFree(handed))
        if self._followers is not None:
            self._followers.end()
        if not self._killed.is_set() and not (self._finished and self._wants_training):
            yield from self._after_its_end(reason)

    def _until_its_end(self, worker: WorkerProcess, free: DeviceFree) -> Generator[Event, None, str]:
        """Let a process go on, and yield what happens in it; how it ended, in a sentence."""
        self._finished = False
        worker.send(free)
        for message in worker.messages():
            yield from self._take(worker, message)
            if self._finished:
                break
        return worker.end(self._finished)

    def _processes(self) -> Employed:
        """Those that are ready, or new ones."""
        cells, earlier = self._queue.left()
        if self._deaths == MOST_DEATHS - 1:  # as in `one_by_one`
            cells = cells[::-1]
        with self._changing:
            employed, self._ready = self._ready, None
            if employed is None or not employed.alive:
                stage = replace(self._stage, cells=cells, alone=self._stage.alone | self._suspects)
                started_with = (self._log, self._log_name, self._environment)
                employed = employ(stage, earlier, *started_with, apart=self._apart, prestarted=self._prestarted)
            self._employed = employed
            if self._killed.is_set():
                employed.end_groups()
        return employed

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
            case StageDone() | WantsTraining():
                self._finished = True
                self._wants_training = isinstance(message, WantsTraining)
            case _:
                if self._note(message):
                    yield message

    def _note(self, event: Event) -> bool:
        """Keep the books of an event; whether it is to be passed on, for what two processes find out is told once."""
        match event:
            case CellStarted(key=key):
                self._in_flight[key] = None
            case CellTrained(key=key):
                self._queue.trained(key, dict(event.prompts), event.costs)
                self._in_flight.pop(key, None)
            case CellDone(key=key) | CellFailed(key=key):
                self._in_flight.pop(key, None)
                self._deaths = 0
                return self._queue.ended(key) or isinstance(event, CellDone)
            case _:
                pass
        return True

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
