"""A Ray cluster: actors on whichever nodes have room for them. The one door to `ray`.

Who does what is the scheduler's to decide (`spt_fast.scheduling`); this module carries it out and tells it what happens.

An actor runs its cells as this machine would (`run_here`): a worker process in a session of its own, which ends when the actor
does, however that ends. The driver asks every actor again and again what has happened, and trusts nothing else: a lost node
can hide for more than a minute behind Ray's own retries, so none are used. An actor that is silent is given up, and what it
had not done goes to another one. Only the driver writes the run folder.

Where the head does not answer any more, Ray ends the driver's process after a minute, from inside and without a word of ours.
So the driver looks first whether it is there (`_Head`), asks it for nothing while it is not, and leaves in time (`LostError`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import queue
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from spt_fast.engine.base import Part, Partners
from spt_fast.errors import ConfigError, LostError, first_line
from spt_fast.executors.base import Executor
from spt_fast.executors.desk import Desk
from spt_fast.executors.local import GRACE_S, WorkerProcess, run_here
from spt_fast.plan import Stage
from spt_fast.plan.cell import TaskRows
from spt_fast.scheduling import scheduler as do
from spt_fast.scheduling.estimates import Estimates, Measured
from spt_fast.scheduling.jobs import job
from spt_fast.scheduling.scheduler import ATTEMPTS, ROOM_S, SILENT_S, STALLED_S, Action, Job, Resources, Scheduler
from spt_fast.signals import INTERRUPTED
from spt_fast.tasks.base import GeneratedSource
from spt_fast.version import SHIPPED, version
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellStarted,
    CellTrained,
    Event,
    Noticed,
    Outlook,
    PhaseStarted,
    Progress,
    RowsRead,
    WorkerEnded,
    WorkerIdle,
    WorkerStarted,
)
from spt_fast.worker.lease import Given
from spt_fast.worker.throughput import Throughput

POLL_S = 2.0
"""Longest that an actor waits for something to tell before it answers that nothing has happened, or only progress."""

LINGER_S = 0.02
"""What comes so soon after news goes with it: a cell that ends is followed by the next that begins."""

POLLS_PER_S = 200.0
"""So many such answers a second the driver takes at most: a thousand idle actors wait longer than one does."""

OUTLOOK_S = 5.0
"""So often the time left is told."""

HEAD_S = 20.0
"""So long the head may be silent. One that keeps its state outside may come back; Ray ends a driver after 60 seconds."""

STUCK_S = 20.0
"""So long after that a driver may take to leave; one that Ray holds in a call to the head is ended."""

LEAVE_S = 5.0
"""So long Ray may take to leave a cluster whose head is gone."""

KNOCK_S = 1.0
"""So often a head that is silent is looked for again."""

NODE_ID = "ray.io/node-id"
"""The label by which Ray knows a node."""


@dataclass(frozen=True)
class Told:
    """What an actor answers."""

    events: tuple[Event, ...]
    log: bytes
    """What its worker has printed since."""
    ended: bool


class ModelWorker:
    """What an actor is: cells of one model that are done in a thread, and what that has told so far."""

    def __init__(self, label: str) -> None:
        """`label`: what Ray's dashboard calls it."""
        self._label = label
        # Empty until `start`, which takes seconds on a busy machine: the driver may ask for cells back meanwhile.
        self._desk = Desk((), {}, shared=True)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ended = False
        handle, name = tempfile.mkstemp(prefix="spt-fast-", suffix=".log")
        os.close(handle)
        self._log = Path(name)
        self._read = 0

    def __repr__(self) -> str:
        return self._label

    def start(self, work: bytes, rows: Mapping[str, Any], partners: Sequence[Any] = ()) -> tuple[str, ...]:
        """Begin.

        Args:
            work: pickled: a stage, what its cells have already, and where the driver keeps what is printed.
            rows: task -> reference to its rows, which may still be on their way.
            partners: the actors (`Partner`) of a worker that is spread over nodes.

        Returns:
            The ids of its nodes, its own first.
        """
        import ray

        stage, given, log_name = pickle.loads(work)
        self._desk.give(stage.cells, given)
        nodes, addresses = zip(_place(), *ray.get([partner.place.remote() for partner in partners]), strict=True)
        if partners:
            stage = replace(stage, nodes=addresses)
        others = _Partners(partners, self._log) if partners else None
        threading.Thread(target=self._run, args=(stage, rows, log_name, others), daemon=True).start()
        return tuple(nodes)

    def take(self, wait_s: float) -> bytes:
        """What has happened since the last call, as a pickled `Told`; waits a while for something to happen.

        For progress alone it waits to the end, and tells of the last: a thousand workers make some five times a second each.
        """
        events: list[Event] = []
        until, soon = time.monotonic() + wait_s, 0.0
        with contextlib.suppress(queue.Empty):
            while True:
                if until > soon and (self._ended or not all(isinstance(event, Progress) for event in events)):
                    until = soon = min(until, time.monotonic() + LINGER_S)
                event = self._events.get(timeout=max(0.0, until - time.monotonic()))
                if event is None:
                    self._ended = True
                elif events and isinstance(event, Progress) and isinstance(events[-1], Progress):
                    events[-1] = event
                else:
                    events.append(event)
        with self._log.open("rb") as file:
            file.seek(self._read)
            log = file.read()
        self._read += len(log)
        if self._ended:
            self._log.unlink(missing_ok=True)
        return pickle.dumps(Told(events=tuple(events), log=log, ended=self._ended))

    def give(self, work: bytes) -> None:
        """Hand over more cells: pickled, with what they have already."""
        cells, given = pickle.loads(work)
        self._desk.give(cells, given)

    def take_back(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Those of these cells that it has not begun; from now on they are not its own."""
        return self._desk.take_back(keys)

    def release(self) -> None:
        """Let it end when it has nothing left."""
        self._desk.release()

    def _run(self, stage: Stage, rows: Mapping[str, Any], log_name: str, partners: Partners | None) -> None:
        import ray

        there: dict[str, bytes] = {}
        for task, reference in rows.items():
            with contextlib.suppress(ray.exceptions.RayError):  # the worker tries itself, and says why it cannot
                there[task] = ray.get(reference)
        try:
            for event in run_here(replace(stage, rows=there), self._desk, self._log, log_name, partners=partners):
                self._events.put(event)
        finally:
            self._events.put(None)


class Partner:
    """What an actor is that has a part of a worker whose engine is spread over nodes: there it runs its part of the engine."""

    def __init__(self, label: str) -> None:
        """`label`: what Ray's dashboard calls it."""
        self._label = label
        self._changed = threading.Condition()
        self._process: WorkerProcess | None = None
        self._log = Path()
        self._lost: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __repr__(self) -> str:
        return self._label

    def place(self) -> tuple[str, str]:
        """The id of its node, and the node's address."""
        return _place()

    def begin(self, work: bytes) -> None:
        """Run a part: a pickled `Part`."""
        self.end()
        handle, name = tempfile.mkstemp(prefix="spt-fast-part-", suffix=".log")
        os.close(handle)
        process = WorkerProcess(Path(name), name, offline=False)
        process.send(pickle.loads(work))
        with self._changed:
            self._process, self._log = process, Path(name)
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def end(self) -> bytes:
        """End what runs, and return what it has printed."""
        with self._changed:
            process, self._process = self._process, None
            self._changed.notify_all()
        if process is None:
            return b""
        process.kill()
        printed = self._log.read_bytes()
        self._log.unlink()
        return printed

    def lost(self) -> bytes:
        """Wait until a part has ended by itself, and return what it has printed; the engine may wait for it for ever."""
        return self._lost.get()

    def _watch(self, process: WorkerProcess) -> None:
        for _ in process.messages():
            pass  # it has none: this is until it ends
        with self._changed:
            # An engine that closes, or dies, takes its parts with it, and then says so.
            if self._changed.wait_for(lambda: self._process is not process, GRACE_S):
                return
        self._lost.put(self.end())


class _Partners(Partners):
    """The actors that have the parts, as their worker sees them.

    One that cannot be reached is left to the driver, who sees it too, and gives up the worker and all its parts.
    """

    def __init__(self, actors: Sequence[Any], log: Path) -> None:
        self._actors, self._log = actors, log

    def begin(self, parts: Sequence[Part]) -> None:
        self._ask([actor.begin.remote(pickle.dumps(part)) for actor, part in zip(self._actors, parts, strict=True)])

    def end(self) -> None:
        with self._log.open("ab") as file:
            file.writelines(self._ask([actor.end.remote() for actor in self._actors]))

    def _ask(self, references: Sequence[Any]) -> list[Any]:
        import ray

        answers = []
        for reference in references:
            with contextlib.suppress(ray.exceptions.RayError):
                answers.append(ray.get(reference))
        return answers


class RayExecutor(Executor):
    """Runs stages on a Ray cluster, on all of its GPUs."""

    foresees = True

    def __init__(
        self,
        address: str,
        log: Callable[[str], Path],
        log_name: Callable[[str], str] | None = None,
        *,
        poll_s: float = POLL_S,
        silent_s: float = SILENT_S,
        stalled_s: float = STALLED_S,
        room_s: float = ROOM_S,
        attempts: int = ATTEMPTS,
        ship: bool | None = None,
    ) -> None:
        """Connect, unless this process is connected already.

        Args:
            address: `auto`, or HOST:PORT of the head node.
            log: names the file that a model's worker prints to; written by the driver.
            log_name: what a person is told to look into; None: that file.
            poll_s: longest wait of an actor for something to tell.
            silent_s: how long an actor may be silent.
            stalled_s: how long it may have nothing to tell.
            room_s: how long a model waits for a node that could hold it.
            attempts: in so many lost actors a cell may be in flight.
            ship: give the nodes this very spt-fast, whatever they have; None: where there are other machines than this one.
                Not where this process is connected already.

        Raises:
            ConfigError: there is no cluster.
        """
        import ray

        if address != "auto":
            _knock(address)
        self._log = log
        self._log_name = log_name or (lambda model: str(log(model)))
        self._poll_s = poll_s
        self._limits: dict[str, Any] = {
            "silent_s": silent_s,
            "stalled_s": stalled_s,
            "room_s": room_s,
            "attempts": attempts,
        }
        self._connected = not ray.is_initialized()
        self._gpus_seen = False
        if self._connected:
            terminate = signal.getsignal(signal.SIGTERM)
            try:
                self._connect(address)
                if _elsewhere() if ship is None else ship:
                    ray.shutdown()
                    self._connect(address, runtime_env=_ourselves())  # Ray takes it for a whole connection only
            except (ConnectionError, ValueError, RuntimeError, OSError) as e:
                raise _no_cluster(address, first_line(e)) from None
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # Ray's own ends the process at once, where ours drains
        self._head = _Head(str(ray.get_runtime_context().gcs_address))

    def _connect(self, address: str, **options: Any) -> None:
        import ray

        ray.init(address=address, namespace="spt-fast", log_to_driver=False, logging_level="ERROR", **options)

    def run(
        self, stages: Sequence[Stage], given: Callable[[Stage], Given], measured: Sequence[Measured] = ()
    ) -> Generator[tuple[Stage, Event]]:
        gpu = self._on_gpus()
        jobs = {f"{i} {stage.model.name}": stage for i, stage in enumerate(stages)}
        estimates = Estimates(measured, gpu=gpu)
        to_do = [job(name, stage, estimates, gpu=gpu) for name, stage in jobs.items()]
        run = _Run(
            jobs=jobs,
            given=given,
            needs={each.name: each for each in to_do},
            scheduler=Scheduler(to_do, **self._limits),
            log=self._log,
            log_name=self._log_name,
            poll_s=self._poll_s,
            head=self._head,
        )
        return run.events()

    def close(self) -> None:
        import ray

        if self._connected:
            self._connected = False
            if self._head.lost:
                # To take leave of it may wait for it, until Ray ends the process.
                atexit.unregister(ray._private.worker.shutdown)
                leaving = threading.Thread(target=ray.shutdown, daemon=True)
                leaving.start()
                leaving.join(LEAVE_S)
            else:
                ray.shutdown()

    def room(self) -> tuple[Mapping[str, Resources], bool]:
        """What there is."""
        import ray

        there = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        return {name: {kind: all_.get(kind, 0.0) for kind in ("CPU", "GPU")} for name, all_ in there.items()}, self._on_gpus()

    def _on_gpus(self) -> bool:
        """Whether workers take GPUs: where the cluster has any, or has had some and may get them again.

        Or where it has nothing that a worker could run on, and so is waiting to be asked for nodes.
        """
        import ray

        there = ray.cluster_resources()
        self._gpus_seen = self._gpus_seen or bool(there.get("GPU")) or not there.get("CPU")
        return self._gpus_seen


@dataclass(eq=False)
class _Worker:
    """An actor, and what it has."""

    id: int
    stage: Stage
    """The model's, with all of its cells."""
    need: Resources
    """Of each of its nodes."""
    actor: Any
    keys: set[str]
    """Cells that are its own; of others it may have old news."""
    partners: tuple[Any, ...] = ()
    """The actors of its parts on other nodes."""
    group: Any = None
    """The placement group that holds room for all of them at once."""
    nodes: tuple[str, ...] = ()
    """Where it is, once it has answered."""

    @property
    def gpus(self) -> float:
        """GPUs that it takes, of all its nodes."""
        return self.need.get("GPU", 0.0) * (1 + len(self.partners))

    def kill(self) -> None:
        """End its actors, and give back their room."""
        import ray

        for actor in (self.actor, *self.partners):
            with contextlib.suppress(Exception):  # it may be gone, or not to be reached
                ray.kill(actor)
        if self.group is not None:
            with contextlib.suppress(Exception):
                ray.util.remove_placement_group(self.group)


@dataclass
class _Run:
    """One call of `RayExecutor.run`."""

    jobs: Mapping[str, Stage]
    given: Callable[[Stage], Given]
    needs: Mapping[str, Job]
    scheduler: Scheduler
    log: Callable[[str], Path]
    log_name: Callable[[str], str]
    poll_s: float
    head: _Head
    workers: dict[int, _Worker] = field(default_factory=dict)
    waiting: dict[Any, tuple[_Worker, Literal["start", "take", "take_back", "lost"]]] = field(default_factory=dict)
    """What was asked of actors and is not answered yet."""
    described: set[str] = field(default_factory=set)
    """Tasks whose rows a worker has described."""
    nodes: do.Nodes | None = None
    looked: float = 0.0
    told: float = 0.0

    def __post_init__(self) -> None:
        self.metrics = _Metrics(sum(len(stage.cells) for stage in self.jobs.values()))
        self.token = os.urandom(4).hex()
        self.started = dict.fromkeys(self.jobs, 0)
        self.rows: dict[tuple[str, int | None], Any] = {}

    def events(self) -> Generator[tuple[Stage, Event]]:
        self.head.watch()
        try:
            yield from self._look()
            while not self.scheduler.done:
                for reference in self._answered():
                    if reference in self.waiting:
                        for stage, event in self._heard(reference):
                            self.metrics.take(stage, event)
                            yield stage, event
                if time.monotonic() - self.looked >= self.poll_s:
                    yield from self._look()
        finally:
            if not self.head.lost:  # else they are gone with it, or end when their nodes find that out
                for worker in self.workers.values():
                    worker.kill()
            self.head.watch_no_more()

    def _answered(self) -> Iterable[Any]:
        import ray

        if not self.waiting:
            time.sleep(self.poll_s)  # for nodes, of which nobody tells
            return ()
        asked = list(self.waiting)
        ready: list[Any]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=0)
        if not ready:
            ready, _ = ray.wait(asked, num_returns=1, timeout=self.poll_s)
        return ready

    def _look(self) -> Generator[tuple[Stage, Event]]:
        """Tell the scheduler of the nodes and of the time; tell everybody how long it still takes."""
        self.head.require()
        now = self.looked = time.monotonic()
        nodes = self._nodes()
        changed, self.nodes = nodes != self.nodes, nodes
        yield from self._do(self.scheduler.handle(nodes if changed else do.Tick(), now))
        if now - self.told >= OUTLOOK_S:
            self.told, left = now, self.scheduler.time_left()
            self.metrics.show(self.workers.values(), left)
            yield next(iter(self.jobs.values())), Outlook(seconds_left=left)

    def _nodes(self) -> do.Nodes:
        """What there is, less what others than this run have of it."""
        import ray

        state = ray._private.state
        free = state.available_resources_per_node()
        ours: dict[tuple[str, str], float] = {}
        for worker in self.workers.values():
            for node in worker.nodes:
                for kind, amount in worker.need.items():
                    ours[node, kind] = ours.get((node, kind), 0.0) + amount
        room: dict[str, Resources] = {}
        for node in ray.nodes():
            name, total = node["NodeID"], node["Resources"]
            if node["Alive"]:
                # Ray's books lag behind by a moment: what is ours already may be counted as free. Never more than there is.
                room[name] = {
                    kind: min(total.get(kind, 0.0), free.get(name, total).get(kind, 0.0) + ours.get((name, kind), 0.0))
                    for kind in ("CPU", "GPU")
                }
        return do.Nodes(room, frozenset(state.state.get_draining_nodes()) & room.keys())

    # what actors tell

    def _heard(self, reference: Any) -> Generator[tuple[Stage, Event]]:
        import ray

        worker, asked = self.waiting.pop(reference)
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as e:
            self.head.require()
            yield from self._lost(worker, e)
            return
        match asked:
            case "start":
                worker.nodes = tuple(answer)
                yield worker.stage, WorkerStarted(where=" + ".join(map(_host, worker.nodes)), gpus=worker.gpus)
                yield from self._tell(do.Answered(worker.id, worker.nodes[0], worker.nodes[1:]))
                self._ask(worker)
            case "lost":
                self._keep_log(worker.stage, answer)
                yield from self._gone(worker, "a part of its engine on another node has ended", innocent=False)
            case "take_back":
                worker.keys.difference_update(answer)
                yield from self._tell(do.TookBack(worker.id, answer))
            case "take":
                told = _read_told(answer)
                if told is None:
                    yield from self._gone(worker, "what it said cannot be read", innocent=False)
                    return
                yield from self._tell(do.Answered(worker.id, worker.nodes[0], worker.nodes[1:]))
                self._keep_log(worker.stage, told.log)
                for event in told.events:
                    yield from self._event(worker, event)
                if not told.ended:
                    self._ask(worker)
                elif worker.id in self.workers:
                    self._remove(worker)
                    yield worker.stage, WorkerEnded()
                    yield from self._tell(do.Finished(worker.id))

    def _ask(self, worker: _Worker) -> None:
        wait_s = max(self.poll_s, len(self.workers) / POLLS_PER_S)
        if worker.id in self.workers:
            self.waiting[worker.actor.take.remote(wait_s)] = (worker, "take")

    def _event(self, worker: _Worker, event: Event) -> Generator[tuple[Stage, Event]]:
        """First the driver keeps what has come, then the scheduler goes on from there."""
        if isinstance(event, CellStarted | Noticed | CellTrained | CellDone | CellFailed) and event.key not in worker.keys:
            return  # another worker's by now
        if isinstance(event, RowsRead):
            self.described.add(event.task)
        if not isinstance(event, WorkerIdle):
            yield worker.stage, event
        match event:
            case CellStarted(key=key):
                news: do.Happening = do.Began(worker.id, key, "train" if event.phase == "train" else "ask")
            case CellTrained(key=key):
                news = do.Learnt(worker.id, key)
            case CellDone(key=key) | CellFailed(key=key):
                worker.keys.discard(key)
                news = do.Ended(worker.id, key)
            case WorkerIdle():
                news = do.Idle(worker.id)
            case _:
                news = do.Moved(worker.id)
        yield from self._tell(news)

    def _lost(self, worker: _Worker, error: Exception) -> Generator[tuple[Stage, Event]]:
        if worker.id not in self.workers:
            return
        taken_away = not self._nodes().room.keys() >= set(worker.nodes)
        yield from self._gone(worker, _why(error), innocent=taken_away or getattr(error, "preempted", False))

    def _gone(self, worker: _Worker, reason: str, *, innocent: bool) -> Generator[tuple[Stage, Event]]:
        self._remove(worker)
        yield worker.stage, WorkerEnded(reason=reason)
        yield from self._tell(do.Lost(worker.id, reason, innocent=innocent))

    def _remove(self, worker: _Worker) -> None:
        del self.workers[worker.id]
        self.waiting = {reference: asked for reference, asked in self.waiting.items() if asked[0] is not worker}
        worker.kill()

    def _keep_log(self, stage: Stage, log: bytes) -> None:
        if log:
            with self.log(stage.model.name).open("ab") as file:
                file.write(log)

    # what the scheduler wants done

    def _tell(self, happening: do.Happening) -> Generator[tuple[Stage, Event]]:
        yield from self._do(self.scheduler.handle(happening, time.monotonic()))

    def _do(self, actions: Iterable[Action]) -> Generator[tuple[Stage, Event]]:
        for action in actions:
            match action:
                case do.Start():
                    self._start(action)
                case do.Give(worker=id, keys=keys) if worker := self.workers.get(id):
                    worker.keys.update(keys)
                    part = self._part(worker.stage, keys)
                    worker.actor.give.remote(pickle.dumps((part.cells, self._what_they_have(worker.id, part))))
                case do.TakeBack(worker=id, keys=keys) if worker := self.workers.get(id):
                    self.waiting[worker.actor.take_back.remote(keys)] = (worker, "take_back")
                case do.Release(worker=id) if worker := self.workers.get(id):
                    worker.actor.release.remote()
                case do.GiveUp(worker=id, reason=reason) if worker := self.workers.get(id):
                    self._remove(worker)
                    yield worker.stage, WorkerEnded(reason=reason)
                case do.Fail(job=job, key=key, reason=reason):
                    yield self.jobs[job], CellFailed(key=key, kind="EngineError", reason=reason)
                case do.Waits(job=job, reason=reason):
                    yield self.jobs[job], PhaseStarted(phase="wait", note=reason)

    def _start(self, action: do.Start) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

        self.head.require()
        stage = replace(self.jobs[action.job], worker=self.started[action.job])
        self.started[action.job] += 1
        job = self.needs[action.job]
        need = job.need if action.parts == 1 else job.part
        options: dict[str, Any] = {
            "num_cpus": need.get("CPU", 0.0),
            "num_gpus": need.get("GPU", 0.0),
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 4,  # it waits in `take`, and is to hear other things meanwhile
        }
        group = None if action.parts == 1 else _room_for(need, action)
        made = []
        for i in range(action.parts):
            if group is not None:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i)
            elif action.node is not None:
                options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(action.node, soft=False)
            kind: type = Partner if i else ModelWorker
            part = f" part {i}" if i else ""
            options["name"] = f"{stage.model.name} {action.worker}{part} {self.token}"
            made.append(ray.remote(kind).options(**options).remote(f"spt-fast: {stage.model.name}{part}"))
        actor, *partners = made
        worker = _Worker(
            id=action.worker,
            stage=stage,
            need=need,
            actor=actor,
            keys=set(action.keys),
            partners=tuple(partners),
            group=group,
        )
        self.workers[worker.id] = worker
        for partner in partners:
            self.waiting[partner.lost.remote()] = (worker, "lost")
        cells = replace(self._part(stage, action.keys), alone=self.scheduler.suspects(action.job))
        work = pickle.dumps((cells, self._what_they_have(worker.id, cells), self.log_name(stage.model.name)))
        self.waiting[actor.start.remote(work, self._rows(stage), partners)] = (worker, "start")

    def _rows(self, stage: Stage) -> dict[str, Any]:
        """References to the rows of a stage's tasks, each read once, on some node, for the whole cluster."""
        import ray

        found: dict[str, Any] = {}
        for wanted in [*(cell.task for cell in stage.cells), *(cell.source for cell in stage.cells)]:
            if wanted.name not in found and not isinstance(wanted.task.source, GeneratedSource):  # made, not read
                key = (wanted.name, wanted.limit)
                if key not in self.rows:
                    # No core of its own: where all of them are taken by workers that wait for it, it would wait for ever.
                    self.rows[key] = ray.remote(_read).options(num_cpus=0).remote(wanted)
                found[wanted.name] = self.rows[key]
        return found

    def _part(self, stage: Stage, keys: Sequence[str]) -> Stage:
        """A stage of some of its cells."""
        return replace(stage, cells=tuple(stage.by_key[key] for key in keys), describe=stage.describe - self.described)

    def _what_they_have(self, worker: int, part: Stage) -> Given:
        """What cells have already; the scheduler is told of what is learnt."""
        given = self.given(part)
        for key in given if part.judge is None else ():
            self.scheduler.handle(do.Learnt(worker, key), time.monotonic())
        return given


class _Head:
    """The head node's control service: whether it still answers."""

    def __init__(self, address: str) -> None:
        """`address`: HOST:PORT."""
        self.address = address
        self.lost = False
        """Whether it was given up."""
        self._ended = threading.Event()

    @property
    def answers(self) -> bool:
        """Whether it takes a connection now."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
        except OSError:
            return False
        return True

    def require(self) -> None:
        """Return when it answers.

        Raises:
            LostError: it has not for a while.
        """
        until = time.monotonic() + HEAD_S
        while not self.answers:
            if self.lost or time.monotonic() > until:
                self.lost = True
                raise LostError(f"the head of the Ray cluster at {self.address} does not answer any more")
            time.sleep(KNOCK_S)

    def watch(self) -> None:
        """See to it, beside the driver, that Ray does not hold the driver when it is gone."""
        self._ended = threading.Event()
        threading.Thread(target=self._watch, args=(self._ended,), daemon=True).start()

    def watch_no_more(self) -> None:
        """Whatever becomes of it now, the driver is through with it."""
        self._ended.set()

    def _watch(self, ended: threading.Event) -> None:
        """End this process where Ray holds it in a call to a head that is gone: what was done is kept."""
        silent = None
        while not ended.wait(KNOCK_S):
            silent = None if self.answers else silent or time.monotonic()
            if silent is not None and time.monotonic() - silent > HEAD_S + STUCK_S and not self.lost:
                why = f"the head of the Ray cluster at {self.address} does not answer any more"
                with contextlib.suppress(OSError):
                    os.write(2, f"interrupted ({why}): what is done is kept; the same command goes on\n".encode())
                os._exit(INTERRUPTED)


def _read_told(answer: bytes) -> Told | None:
    """What an actor says; None where it cannot be read here, whatever its worker put into it."""
    try:
        told: Told = pickle.loads(answer)
    except Exception:
        return None
    return told


class _Metrics:
    """What Ray's dashboard and its Prometheus endpoint show of a run."""

    def __init__(self, cells: int) -> None:
        """`cells`: that are to be done."""
        from ray.util.metrics import Gauge

        self._left, self._done, self._failed = cells, 0, 0
        self._pace = Throughput()
        self._cells = Gauge("spt_fast_cells", "Cells of the run", tag_keys=("state",))
        self._workers = Gauge("spt_fast_workers", "Workers that are placed")
        self._gpus = Gauge("spt_fast_gpus", "GPUs that workers hold")
        self._requests = Gauge("spt_fast_requests_per_second", "Requests that engines answer, all together")
        self._seconds = Gauge("spt_fast_seconds_left", "Expected seconds to the end")

    def take(self, stage: Stage, event: Event) -> None:
        """Count an event."""
        self._pace.take((stage.model.name, stage.worker), event, time.monotonic())
        self._done += isinstance(event, CellDone)
        self._failed += isinstance(event, CellFailed)

    def show(self, workers: Iterable[_Worker], seconds_left: float) -> None:
        """Set the gauges."""
        placed = [worker for worker in workers if worker.nodes]
        for state, count in (
            ("done", self._done),
            ("failed", self._failed),
            ("left", self._left - self._done - self._failed),
        ):
            self._cells.set(count, tags={"state": state})
        self._workers.set(len(placed))
        self._gpus.set(sum(worker.gpus for worker in placed))
        self._requests.set(self._pace.per_s(time.monotonic()))
        self._seconds.set(seconds_left)


def _place() -> tuple[str, str]:
    """The id of this process's node, and the node's address."""
    import ray

    return str(ray.get_runtime_context().get_node_id()), str(ray.util.get_node_ip_address())


def _room_for(need: Resources, start: do.Start) -> Any:
    """Room for all parts of a worker, at once or not at all: of two workers that each had half, neither would begin."""
    from ray.util.placement_group import placement_group

    where = None if start.node is None else [{NODE_ID: node} for node in (start.node, *start.others)]
    return placement_group([dict(need)] * start.parts, strategy="PACK", bundle_label_selector=where)


def _read(wanted: TaskRows) -> bytes:
    return pickle.dumps(wanted.read())


def _elsewhere() -> bool:
    """Whether the cluster has other machines than this one."""
    import ray

    return bool({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} - {ray.util.get_node_ip_address()})


def _ourselves() -> dict[str, Any]:
    """This very spt-fast, for nodes that have another one or none. What else it needs (vLLM, PyTorch) is theirs to have."""
    import spt_fast
    import spt_kernels

    folders = [str(Path(package.__path__[0])) for package in (spt_fast, spt_kernels)]
    return {"py_modules": folders, "excludes": ["**/__pycache__"], "env_vars": {SHIPPED: version()}}


def _host(node: str) -> str:
    """What people call a node."""
    import ray

    return next((each["NodeManagerHostname"] for each in ray.nodes() if each["NodeID"] == node), node)


def _knock(address: str) -> None:
    """Refuse an address that nobody listens at: Ray itself would go on trying for minutes."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()) or "://" in address:
        raise ConfigError(f"--address {address}: must be local, auto, or HOST:PORT of the head node of a Ray cluster")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as e:
        raise _no_cluster(address, str(e)) from None


def _no_cluster(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"--address {address}: there is no Ray cluster ({why}); start one with `ray start --head`, "
        "or leave --address out to run on this machine"
    )


def _why(error: Exception) -> str:
    if "No module named 'spt_fast'" in str(error):
        return "spt-fast is not installed on the node that it was to run on"
    return f"its node or process was lost ({type(error).__name__})"
