"""Executors that work on several models at once: the scheduler decides who does what, a `Crew` carries it out.

Crew                the workers of a run and their nodes: started, spoken to, listened to (`crew`)
ScheduledExecutor   has a crew for each run (`gpus`: of this machine; `ray`: of a cluster)
_Loop               asks the crew what has happened, tells the scheduler, does what that says; yields events
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spt_fast.executors.base import Executor
from spt_fast.executors.crew import Crew, GaveUp, Gone, News, Said, Up, demand
from spt_fast.models.memory import count_gpus
from spt_fast.plan import Stage
from spt_fast.scheduling.estimates import Estimates, Measured
from spt_fast.scheduling.jobs import jobs
from spt_fast.scheduling.limits import LIMITS, Limits
from spt_fast.scheduling.messages import (
    Action,
    Assign,
    Began,
    Ended,
    Fail,
    Finished,
    Heartbeat,
    Idle,
    Job,
    Kill,
    Lost,
    Nodes,
    Observation,
    Progressed,
    Release,
    Resources,
    Revoke,
    Revoked,
    Start,
    Tick,
    Trained,
    Waits,
)
from spt_fast.scheduling.scheduler import Scheduler
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellStarted,
    CellTrained,
    Event,
    Noticed,
    Outlook,
    PhaseStarted,
    RowsRead,
    WorkerEnded,
    WorkerIdle,
    WorkerStarted,
)
from spt_fast.worker.lease import Given, learnt_of

POLL_S = 2.0
"""Longest wait for something to happen before the scheduler is told of the nodes and of the time."""

OUTLOOK_S = 5.0
"""So often the time left is told."""


class ScheduledExecutor(Executor):
    """Works on several models at once. Tells how long the rest takes itself (`Outlook`)."""

    measured: Sequence[Measured] = ()
    """Cells that were done earlier: expected seconds go by what these took. Set by the driver before `run`."""
    limits: Limits = LIMITS
    poll_s: float = POLL_S

    @abstractmethod
    def nodes(self) -> Mapping[str, Resources]:
        """Node -> its CPUs and GPUs, whoever has them."""

    @abstractmethod
    def uses_gpus(self) -> bool:
        """Whether workers take GPUs; else CPU cores."""

    @abstractmethod
    def crew(self, stages: Sequence[Stage]) -> Crew:
        """For one run of these stages."""

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
        gpu = self.uses_gpus()
        by_name = jobs(stages, Estimates(self.measured, gpu=gpu), gpu=gpu)
        by_job = dict(zip(by_name, stages, strict=True))
        scheduler = Scheduler(by_name.values(), self.limits)
        yield from _Loop(by_job, earlier, by_name, scheduler, self.crew(stages), self.poll_s).events()

    def in_words(self, stages: Sequence[Stage]) -> str:
        """How it divides stages over what it has, in a sentence for the start of a run; empty: nothing is worth saying."""
        return ""


def runs_on(executor: Executor) -> tuple[Mapping[str, Resources] | None, bool]:
    """What an executor has, for an estimate.

    Returns:
        Its nodes, or None where it runs one model after the other on this machine; and whether workers take GPUs.
    """
    if isinstance(executor, ScheduledExecutor):
        return executor.nodes(), executor.uses_gpus()
    return None, count_gpus() > 0


@dataclass(eq=False)
class _Worker:
    """A worker that was started."""

    stage: Stage
    """The model's, with all of its cells."""
    gpus: float
    keys: set[str]
    """Cells that are its own; of others it may have old news."""


@dataclass
class _Loop:
    """One run."""

    stages: Mapping[str, Stage]
    """Job -> its stage."""
    earlier: Callable[[Stage], Given]
    jobs: Mapping[str, Job]
    scheduler: Scheduler
    crew: Crew
    poll_s: float
    workers: dict[int, _Worker] = field(default_factory=dict)
    described: set[str] = field(default_factory=set)
    """Tasks whose rows a worker has described."""
    nodes: Nodes | None = None
    looked: float = 0.0
    foretold: float = 0.0

    def __post_init__(self) -> None:
        self.started = dict.fromkeys(self.stages, 0)

    def events(self) -> Generator[tuple[Stage, Event]]:
        try:
            yield from self._look()
            while not self.scheduler.done:
                for news in self.crew.news(self.poll_s):
                    for stage, event in self._hear(news):
                        self.crew.observe(stage, event)
                        yield stage, event
                if time.monotonic() - self.looked >= self.poll_s:
                    yield from self._look()
        finally:
            for worker in self.workers:
                self.crew.kill(worker)
            self.crew.close()

    def _look(self) -> Generator[tuple[Stage, Event]]:
        """Tell the scheduler of the nodes and of the time; tell everybody how long it still takes."""
        nodes = self.crew.nodes()
        now = self.looked = time.monotonic()
        changed, self.nodes = nodes != self.nodes, nodes
        yield from self._tell(nodes if changed else Tick())
        if now - self.foretold >= OUTLOOK_S:
            self.foretold, left = now, self.scheduler.time_left()
            self.crew.show(left)
            yield next(iter(self.stages.values())), Outlook(seconds_left=left)

    # what workers tell

    def _hear(self, news: News) -> Generator[tuple[Stage, Event]]:
        worker = self.workers.get(news.worker)
        if worker is None:
            return
        match news:
            case Up(worker=id, nodes=nodes, where=where):
                yield worker.stage, WorkerStarted(where=where, gpus=worker.gpus)
                yield from self._tell(Heartbeat(id, nodes))
            case GaveUp(worker=id, keys=keys):
                worker.keys.difference_update(keys)
                yield from self._tell(Revoked(id, keys))
            case Gone(worker=id, reason=reason, innocent=innocent):
                self._remove(id)
                yield worker.stage, WorkerEnded(reason=reason)
                yield from self._tell(Lost(id, reason, innocent=innocent))
            case Said():
                yield from self._said(worker, news)

    def _said(self, worker: _Worker, said: Said) -> Generator[tuple[Stage, Event]]:
        yield from self._tell(Heartbeat(said.worker, said.nodes))
        for event in said.events:
            yield from self._event(said.worker, worker, event)
        if said.ended and said.worker in self.workers:
            self._remove(said.worker)
            yield worker.stage, WorkerEnded()
            yield from self._tell(Finished(said.worker))

    def _event(self, id: int, worker: _Worker, event: Event) -> Generator[tuple[Stage, Event]]:
        """First the driver keeps what has come, then the scheduler goes on from there."""
        if isinstance(event, CellStarted | Noticed | CellTrained | CellDone | CellFailed) and event.key not in worker.keys:
            return  # another worker's by now
        if isinstance(event, RowsRead):
            self.described.add(event.task)
        if not isinstance(event, WorkerIdle):
            yield worker.stage, event
        if isinstance(event, CellDone | CellFailed):
            worker.keys.discard(event.key)
        yield from self._tell(_observed(id, event))

    def _remove(self, id: int) -> None:
        del self.workers[id]
        self.crew.kill(id)

    # what the scheduler wants done

    def _tell(self, observation: Observation) -> Generator[tuple[Stage, Event]]:
        for action in self.scheduler.handle(observation, time.monotonic()):
            yield from self._do(action)

    def _do(self, action: Action) -> Iterator[tuple[Stage, Event]]:
        match action:
            case Start():
                self._start(action)
            case Assign(worker=id, keys=keys) if worker := self.workers.get(id):
                worker.keys.update(keys)
                part = self._part(worker.stage, keys)
                self.crew.assign(id, part.cells, self._earlier(id, part))
            case Revoke(worker=id, keys=keys) if id in self.workers:
                self.crew.revoke(id, keys)
            case Release(worker=id) if id in self.workers:
                self.crew.release(id)
            case Kill(worker=id, reason=reason) if worker := self.workers.get(id):
                self._remove(id)
                yield worker.stage, WorkerEnded(reason=reason)
            case Fail(job=name, key=key, reason=reason):
                yield self.stages[name], CellFailed(key=key, kind="EngineError", reason=reason)
            case Waits(job=name, reason=reason):
                yield self.stages[name], PhaseStarted(phase="wait", note=reason)
            case _:
                pass  # a worker that is gone by now

    def _start(self, start: Start) -> None:
        stage = replace(self.stages[start.job], worker=self.started[start.job])
        self.started[start.job] += 1
        need = demand(self.jobs[start.job], start)
        self.workers[start.worker] = _Worker(stage, need.get("GPU", 0.0) * start.parts, set(start.keys))
        part = replace(self._part(stage, start.keys), alone=self.scheduler.suspects(start.job))
        self.crew.start(start, self.jobs[start.job], stage, part, self._earlier(start.worker, part))

    def _part(self, stage: Stage, keys: Sequence[str]) -> Stage:
        """A stage of some of its cells."""
        return replace(stage, cells=tuple(stage.by_key[key] for key in keys), describe=stage.describe - self.described)

    def _earlier(self, worker: int, stage: Stage) -> Given:
        """What earlier runs have of cells; the scheduler is told of what is trained."""
        found = self.earlier(stage)
        for key in learnt_of(found) if stage.judge is None else ():
            self.scheduler.handle(Trained(worker, key, before=True), time.monotonic())
        return found


def _observed(worker: int, event: Event) -> Observation:
    """What an event of a worker is to the scheduler."""
    match event:
        case CellStarted(key=key):
            return Began(worker, key, "train" if event.phase == "train" else "evaluate")
        case CellTrained(key=key):
            return Trained(worker, key)
        case CellDone(key=key) | CellFailed(key=key):
            return Ended(worker, key)
        case WorkerIdle():
            return Idle(worker)
        case _:
            return Progressed(worker)
