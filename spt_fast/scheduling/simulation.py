"""A night on a cluster in a few seconds: the scheduler with time, nodes and workers made up.

What `--dry-run` goes by, and what shows how good the scheduler is. Workers do as `worker.py` does: load, learn the vectors of
all their cells, start an engine, ask. What they tell comes a little later, and not at all if they are lost by then. Things go
wrong at the rates of `Troubles`.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from spt_fast.scheduling.scheduler import (
    Action,
    Answered,
    Began,
    Ended,
    Fail,
    Finished,
    Give,
    GiveUp,
    Happening,
    Idle,
    Job,
    Learnt,
    Lost,
    Moved,
    Nodes,
    Piece,
    Release,
    Resources,
    Scheduler,
    Start,
    TakeBack,
    Tick,
    TookBack,
    Waits,
)

LATENCY_S = 0.2
"""From a worker to the driver, or back."""

TELL_S = 45.0
"""So often a worker says that it is there, and goes on."""

NOTICE_S = 120.0
"""From the notice that a spot node gets to its end."""

END_S = 5.0
"""From being let go to being gone."""

LONGEST_S = 1e7
"""No run that ends takes so many seconds: 116 days."""


@dataclass(frozen=True, kw_only=True)
class Troubles:
    """How often things go wrong. Rates are per hour, of each."""

    node_losses: float = 0.0
    """Nodes that are gone from one moment to the next."""
    spot: float = 0.0
    """Share of the nodes that are spot instances."""
    spot_losses: float = 0.0
    """Spot nodes that are taken away, `NOTICE_S` after a notice."""
    back_s: float = 1200.0
    """A lost node is replaced after so long, on average."""
    worker_losses: float = 0.0
    """Workers that die."""
    hangs: float = 0.0
    """Workers that answer and do nothing any more."""
    cut_offs: float = 0.0
    """Workers that go on and are not heard any more."""
    stragglers: float = 0.0
    """Share of the workers that are slow."""
    slow: float = 2.0
    """How many times as long a slow one takes."""
    noise: float = 0.0
    """Spread of the time that a piece takes around what was expected: standard deviation of its logarithm."""
    bias: float = 0.0
    """Spread of a job's mean around what was expected, in the same way."""


@dataclass(kw_only=True)
class Outcome:
    """What a simulated run came to."""

    seconds: float = 0.0
    """From the first start to the end of the last worker."""
    gpu_s: float = 0.0
    """GPU-seconds for which workers held their GPUs."""
    useful_gpu_s: float = 0.0
    """GPU-seconds of learning and asking whose result came, stragglers' at their own pace."""
    capacity_gpu_s: float = 0.0
    """GPU-seconds for which GPUs were there."""
    starts: int = 0
    moved: int = 0
    """Cells that went from one worker to another before they were begun."""
    lost_workers: int = 0
    lost_nodes: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Cell -> why."""
    waits: dict[str, str] = field(default_factory=dict)
    """Job -> what it waited for."""
    ended: dict[str, int] = field(default_factory=dict)
    """Cell -> how often its result came."""
    in_vain: dict[str, int] = field(default_factory=dict)
    """Cell -> how often a worker was lost that had it in flight, or had done it without the news having come."""
    done: dict[str, int] = field(default_factory=dict)
    """Cell -> how often a worker did it, whether its result came or not."""
    waited: int = 0
    """Workers that were started on a node that had no room for them."""
    happenings: int = 0


class _Node:
    """What of a node is free, one GPU at a time: a share stays on its GPU, a whole GPU is shared with nobody."""

    def __init__(self, room: Resources) -> None:
        self.gpus = [1.0] * int(room.get("GPU", 0.0))
        self.rest = {kind: amount for kind, amount in room.items() if kind != "GPU"}

    def seat(self, need: Resources) -> list[int] | None:
        """Take what a worker needs: the GPUs it has then; None: there is no room."""
        share = need.get("GPU", 0.0)
        if share < 1:
            fitting = sorted((free, i) for i, free in enumerate(self.gpus) if free >= share - _ROUNDING)
        else:
            fitting = [(free, i) for i, free in enumerate(self.gpus) if free > 1 - _ROUNDING]
        mine = [i for _, i in fitting[: math.ceil(share)]]
        others = {kind: amount for kind, amount in need.items() if kind != "GPU"}
        if len(mine) < share or any(self.rest.get(kind, 0.0) < amount - _ROUNDING for kind, amount in others.items()):
            return None
        self._take(need, mine, 1.0)
        return mine

    def leave(self, need: Resources, mine: Sequence[int]) -> None:
        self._take(need, mine, -1.0)

    def _take(self, need: Resources, mine: Sequence[int], sign: float) -> None:
        for i in mine:
            self.gpus[i] -= sign * min(1.0, need["GPU"])
        for kind in need.keys() - {"GPU"}:
            self.rest[kind] -= sign * need[kind]


_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Seat:
    """What a worker, or a part of it, has of a node."""

    node: str
    need: Resources
    gpus: Sequence[int]


@dataclass(eq=False)
class _Worker:
    id: int
    job: Job
    seats: Sequence[_Seat]
    began: float
    speed: float
    queue: dict[str, Piece]
    begun: set[str] = field(default_factory=set)
    learnt: set[str] = field(default_factory=set)
    """Cells of which it has the vectors."""
    untold: set[str] = field(default_factory=set)
    """Cells that it has done, without the news having come."""
    alive: bool = True
    hangs: bool = False
    cut_off: bool = False
    idle: bool = False


def realised(jobs: Sequence[Job], troubles: Troubles, seed: int) -> tuple[Job, ...]:
    """The jobs as long as they really take in the night of a seed, whoever does them: what `lower_bound` is to be asked of.

    Args:
        jobs: as expected.
        troubles: `noise` and `bias`.
        seed: of the night.
    """
    dice = random.Random(seed)

    def times(sigma: float) -> float:
        return dice.lognormvariate(-(sigma**2) / 2, sigma) if sigma else 1.0

    found = []
    for job in jobs:
        start_s, bias = job.start_s * times(troubles.noise), times(troubles.bias)
        groups: dict[str | None, float] = {}
        pieces = []
        for piece in job.pieces:
            if piece.group not in groups:
                groups[piece.group] = bias * times(troubles.noise)
            train_s = piece.train_s * groups[piece.group]
            pieces.append(replace(piece, train_s=train_s, answer_s=piece.answer_s * bias * times(troubles.noise)))
        found.append(replace(job, start_s=start_s, pieces=tuple(pieces)))
    return tuple(found)


def lower_bound(jobs: Sequence[Job], gpus: float) -> float:
    """No schedule is shorter, in seconds: all work shared evenly, or the longest chain of load, learn and ask of one cell.

    Args:
        jobs: whose workers each take a number of GPUs.
        gpus: how many there are.
    """
    work = chain = 0.0
    for job in jobs:
        seconds = job.start_s if job.pieces else 0.0
        groups = set[str]()
        for piece in job.pieces:
            train_s = 0.0 if piece.group is None else piece.train_s
            seconds += piece.answer_s + (train_s if piece.group not in groups else 0.0)
            chain = max(chain, job.start_s + train_s + piece.answer_s)
            if piece.group is not None:
                groups.add(piece.group)
        work += seconds * job.need.get("GPU", 0.0)
    return max(work / gpus, chain)


def simulate(
    jobs: Sequence[Job],
    nodes: Mapping[str, Resources],
    *,
    troubles: Troubles | None = None,
    seed: int = 0,
    tick_s: float = 30.0,
    longest_s: float = LONGEST_S,
    scheduler: Scheduler | None = None,
) -> Outcome:
    """Run jobs on made-up nodes to their end.

    Args:
        jobs: what is to be done; no two cells have one key.
        nodes: name -> what it has.
        troubles: what goes wrong; None: nothing.
        seed: the same one, the same night.
        tick_s: how often the scheduler is told that time has passed, in seconds.
        longest_s: a run that takes so many seconds does not end.
        scheduler: of the same jobs; None: one with its defaults.

    Raises:
        TimeoutError: the run does not end.
    """
    return _Simulation(jobs, nodes, troubles or Troubles(), seed, tick_s, scheduler or Scheduler(jobs)).run(longest_s)


class _Simulation:
    def __init__(
        self,
        jobs: Sequence[Job],
        nodes: Mapping[str, Resources],
        troubles: Troubles,
        seed: int,
        tick_s: float,
        scheduler: Scheduler,
    ) -> None:
        self.jobs = {job.name: job for job in realised(jobs, troubles, seed)}
        self.pieces = {job.name: {piece.key: piece for piece in job.pieces} for job in self.jobs.values()}
        self.nodes, self.troubles, self.tick_s = nodes, troubles, tick_s
        self.scheduler = scheduler
        self.random = random.Random(f"troubles {seed}")
        self.there = {name: _Node(room) for name, room in nodes.items()}
        self.gpus = sum(len(node.gpus) for node in self.there.values())
        self.leaving: set[str] = set()
        self.workers: dict[int, _Worker] = {}
        self.waiting: dict[int, Start] = {}
        """Workers that have been started and have no room yet."""
        self.learnt: set[str] = set()
        """Cells whose vectors have come."""
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = 0
        self.now = 0.0
        self.outcome = Outcome()

    def run(self, longest_s: float) -> Outcome:
        for name in self.nodes:
            self._plan_loss(name)
        self._nodes_changed()
        self._after(self.tick_s, self._tick)
        counted = 0.0
        while not self.scheduler.done:
            when, _, act = heapq.heappop(self.agenda)
            if when > longest_s:
                raise TimeoutError(f"the run has not ended after {longest_s:.0f} s")
            self.outcome.capacity_gpu_s += (when - counted) * self.gpus
            counted = self.now = when
            act()
        self.outcome.seconds = self.now
        return self.outcome

    # time

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self.numbers += 1
        heapq.heappush(self.agenda, (self.now + seconds, self.numbers, act))

    def _tick(self) -> None:
        self._tell(Tick())
        self._after(self.tick_s, self._tick)

    def _when(self, per_hour: float) -> float:
        return self.random.expovariate(per_hour / 3600)

    # between the scheduler and the workers

    def _tell(self, happening: Happening) -> None:
        self.outcome.happenings += 1
        for action in self.scheduler.handle(happening, self.now):
            self._do(action)

    def _say(self, worker: _Worker, happening: Happening, seconds: float = 0.0) -> None:
        """What a worker says comes later, or not at all if it is lost by then.

        Args:
            worker: which.
            happening: what it says.
            seconds: of work that is not in vain once this has come.
        """

        def come() -> None:
            if not worker.alive or worker.cut_off:
                return
            self.outcome.useful_gpu_s += seconds * worker.job.need.get("GPU", 0.0)
            match happening:
                case Learnt(key=key):
                    self.learnt.add(key)
                case Ended(key=key):
                    worker.untold.discard(key)
                    self.outcome.ended[key] = self.outcome.ended.get(key, 0) + 1
                case _:
                    pass
            self._tell(happening)

        self._after(LATENCY_S, come)

    def _do(self, action: Action) -> None:
        match action:
            case Start():
                self.waiting[action.worker] = action
                self._seat_waiting()
                self.outcome.waited += action.node is not None and action.worker in self.waiting
            case Give(worker=id, keys=keys):
                self._reach(id, lambda worker: self._given(worker, keys))
            case TakeBack(worker=id, keys=keys):
                self._take_back(id, keys)
            case Release(worker=id):
                self._reach(id, lambda worker: self._of(worker, END_S, self._end))
            case GiveUp(worker=id):
                self.waiting.pop(id, None)
                if id in self.workers:
                    self._gone(self.workers[id])
            case Fail(key=key, reason=reason):
                self.outcome.failed[key] = reason
            case Waits(job=name, reason=reason):
                self.outcome.waits[name] = reason

    def _reach(self, id: int, act: Callable[[_Worker], None]) -> None:
        """What is asked of a worker, if it hears it."""
        worker = self.workers.get(id)
        if worker is not None and not worker.hangs and not worker.cut_off:
            act(worker)

    def _given(self, worker: _Worker, keys: Sequence[str]) -> None:
        worker.idle = False
        worker.learnt.update(self.learnt.intersection(keys))
        worker.queue.update((key, self.pieces[worker.job.name][key]) for key in keys)
        if self._unlearnt(worker):
            self._of(worker, LATENCY_S + self.jobs[worker.job.name].start_s, self._learn)
        else:
            self._of(worker, LATENCY_S, self._ask)

    def _take_back(self, id: int, keys: Sequence[str]) -> None:
        if id in self.waiting:  # it answers when it is there
            self._after(1.0, lambda: self._take_back(id, keys))
        else:
            self._reach(id, lambda worker: self._give_back(worker, keys))

    def _give_back(self, worker: _Worker, keys: Sequence[str]) -> None:
        back = tuple(key for key in keys if key in worker.queue and key not in worker.begun)
        for key in back:
            del worker.queue[key]
        self.outcome.moved += len(back)
        self._say(worker, TookBack(worker.id, back))

    # workers

    def _seat_waiting(self) -> None:
        """Those that wait for room take the first there is, as on Ray."""
        for start in list(self.waiting.values()):
            if seats := self._seats(start):
                del self.waiting[start.worker]
                self._begin(start, seats)

    def _seats(self, start: Start) -> list[_Seat]:
        """A place for each part of a worker, or none at all."""
        job, seats = self.jobs[start.job], list[_Seat]()
        need = job.need if start.parts == 1 else job.part
        for i in range(start.parts):
            names = sorted(self.there.keys() - self.leaving) if start.node is None else [(start.node, *start.others)[i]]
            for name in names:
                gpus = self.there[name].seat(need) if name in self.there else None
                if gpus is not None:
                    seats.append(_Seat(name, need, gpus))
                    break
        if len(seats) < start.parts:
            self._leave(seats)
            return []
        return seats

    def _leave(self, seats: Iterable[_Seat]) -> None:
        for seat in seats:
            if seat.node in self.there:
                self.there[seat.node].leave(seat.need, seat.gpus)

    def _begin(self, start: Start, seats: Sequence[_Seat]) -> None:
        job = self.jobs[start.job]
        slow = self.random.random() < self.troubles.stragglers
        worker = _Worker(
            id=start.worker,
            job=job,
            seats=seats,
            began=self.now,
            speed=self.troubles.slow if slow else 1.0,
            queue={key: self.pieces[job.name][key] for key in start.keys},
            learnt=self.learnt.intersection(start.keys),
        )
        self.workers[worker.id] = worker
        self.outcome.starts += 1
        for rate, act in (
            (self.troubles.worker_losses, self._die),
            (self.troubles.hangs, self._hang),
            (self.troubles.cut_offs, self._cut_off),
        ):
            if rate:
                self._of(worker, self._when(rate), act)
        self._say(worker, _answered(worker))
        self._of(worker, TELL_S, self._goes_on)
        self._of(worker, job.start_s, self._learn)

    def _of(self, worker: _Worker, seconds: float, act: Callable[[_Worker], None]) -> None:
        """Later, unless the worker is gone or hangs by then."""
        self._after(seconds, lambda: act(worker) if worker.alive and not worker.hangs else None)

    def _goes_on(self, worker: _Worker) -> None:
        if worker.alive:
            self._say(worker, _answered(worker) if worker.hangs or worker.idle else Moved(worker.id))
            self._after(TELL_S, lambda: self._goes_on(worker))

    def _unlearnt(self, worker: _Worker) -> str | None:
        """The next group that a worker has to learn."""
        return next((p.group for key, p in worker.queue.items() if p.group is not None and key not in worker.learnt), None)

    def _learn(self, worker: _Worker) -> None:
        """Learn the next group, or ask."""
        group = self._unlearnt(worker)
        if group is None:
            self._ask(worker)
            return
        keys = [key for key, piece in worker.queue.items() if piece.group == group and key not in worker.learnt]
        worker.begun.update(keys)
        for key in keys:
            self._say(worker, Began(worker.id, key, "train"))
        seconds = worker.queue[keys[0]].train_s * worker.speed
        self._of(worker, seconds, lambda worker: self._learnt(worker, keys, seconds))

    def _learnt(self, worker: _Worker, keys: Sequence[str], seconds: float) -> None:
        worker.learnt.update(keys)
        worker.begun.difference_update(keys)
        for key in keys:
            self._say(worker, Learnt(worker.id, key), seconds / len(keys))
        self._learn(worker)

    def _ask(self, worker: _Worker) -> None:
        """Ask the next cell, or say that there is none."""
        key = next(iter(worker.queue), None)
        if key is None:
            worker.idle = True
            self._say(worker, Idle(worker.id))
            return
        worker.begun.add(key)
        self._say(worker, Began(worker.id, key, "ask"))
        seconds = worker.queue[key].answer_s * worker.speed
        self._of(worker, seconds, lambda worker: self._asked(worker, key, seconds))

    def _asked(self, worker: _Worker, key: str, seconds: float) -> None:
        del worker.queue[key]
        worker.begun.discard(key)
        worker.untold.add(key)
        self.outcome.done[key] = self.outcome.done.get(key, 0) + 1
        self._say(worker, Ended(worker.id, key), seconds)
        self._ask(worker)

    def _end(self, worker: _Worker) -> None:
        self._gone(worker)
        if not worker.cut_off:
            self._tell(Finished(worker.id))

    def _die(self, worker: _Worker) -> None:
        self._gone(worker)
        self.outcome.lost_workers += 1
        self._after(LATENCY_S, lambda: self._tell(Lost(worker.id, "it died")))

    def _hang(self, worker: _Worker) -> None:
        worker.hangs = True
        self.outcome.lost_workers += 1

    def _cut_off(self, worker: _Worker) -> None:
        worker.cut_off = True
        self.outcome.lost_workers += 1

    def _gone(self, worker: _Worker) -> None:
        worker.alive = False
        del self.workers[worker.id]
        for key in worker.begun | worker.untold:
            self.outcome.in_vain[key] = self.outcome.in_vain.get(key, 0) + 1
        self.outcome.gpu_s += (self.now - worker.began) * worker.job.need.get("GPU", 0.0)
        self._leave(worker.seats)
        self._seat_waiting()

    # nodes

    def _nodes_changed(self) -> None:
        self._tell(Nodes({name: self.nodes[name] for name in sorted(self.there)}, frozenset(self.leaving)))
        self._seat_waiting()

    def _plan_loss(self, name: str) -> None:
        """When a node will go, from the moment at which it is there."""
        spot = self.random.random() < self.troubles.spot
        if spot and self.troubles.spot_losses:
            self._after(self._when(self.troubles.spot_losses), lambda: self._notice(name))
        elif self.troubles.node_losses:
            self._after(self._when(self.troubles.node_losses), lambda: self._lose(name))

    def _notice(self, name: str) -> None:
        self.leaving.add(name)
        self._nodes_changed()
        self._after(NOTICE_S, lambda: self._lose(name))

    def _lose(self, name: str) -> None:
        """A node is gone. Which is heard first, that or the loss of its workers, is chance."""
        self.gpus -= len(self.there.pop(name).gpus)
        self.leaving.discard(name)
        self.outcome.lost_nodes += 1
        lost = [Lost(worker.id, "its node is gone", innocent=True) for worker in self._of_node(name)]
        for worker in self._of_node(name):
            self._gone(worker)
        for happening in lost:
            if self.random.random() < 0.5:
                self._tell(happening)
            else:
                self._after(LATENCY_S, partial(self._tell, happening))
        self._nodes_changed()
        self._after(self._when(3600 / self.troubles.back_s), lambda: self._back(name))

    def _of_node(self, name: str) -> list[_Worker]:
        return [worker for worker in self.workers.values() if any(seat.node == name for seat in worker.seats)]

    def _back(self, name: str) -> None:
        self.there[name] = _Node(self.nodes[name])
        self.gpus += len(self.there[name].gpus)
        self._plan_loss(name)
        self._nodes_changed()


def _answered(worker: _Worker) -> Answered:
    node, *others = (seat.node for seat in worker.seats)
    return Answered(worker.id, node, tuple(others))
