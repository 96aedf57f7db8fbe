"""Who works on what: the scheduler of a grid on many GPUs.

A pure function of its state and of what happens: `handle(happening, now)` says what is to be done now. It has no clock, no
thread and no Ray in it, so that a night on a thousand GPUs can be replayed in seconds (`simulation.py`).

    a job          the cells of one model; it needs so many GPUs of one node, or of several where none could hold it
    a worker       has a job's model and some of its cells: learns all their vectors, starts an engine, asks them all
    the longest job starts first; a job whose cells are worth more than another start gets another worker on an idle GPU;
    a worker that has nothing left is given cells that others have not begun, or lets its GPUs go

What a worker has begun stays with it. Whether it has begun a cell only the worker knows for sure: cells are asked back
(`TakeBack`), and what comes back (`TookBack`) is shared out anew.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ATTEMPTS = 3
"""A cell that was in flight in so many lost workers is what they were lost to: it fails."""

SILENT_S = 60.0
"""A worker that has not answered for so long is given up: its node is gone, or cut off."""

STALLED_S = 1800.0
"""A worker that answers, and has had nothing to tell for so long, hangs. Loading and compiling a large model takes a while."""

QUIET_S = 300.0
"""A worker that asks has an engine open and tells of every few answers: it hangs sooner, after so long and `PATIENCE` times
what its cell should take."""

PATIENCE = 10.0

ROOM_S = 3600.0
"""So long a job waits for a node that could hold it at all. An autoscaler may take a while to find one."""

AHEAD = 2
"""Workers that may wait for room beyond those that fit: by them an autoscaler sees what is wanted."""

FROM_NOTHING = 64
"""Workers that may wait while no node could hold them: so large a step a cluster grows by that begins with nothing."""

DEAR = 4.0
"""Nodes that have yet to come cost their price: a worker is asked for by as many times its start as it is to work."""

LEAST_S = 2.0
"""Work of fewer seconds is not worth asking back."""

PRIOR_S = 60.0
"""How many seconds of a worker's own pace weigh as much as the expectation."""

Resources: TypeAlias = Mapping[str, float]
"""In Ray's words: {"GPU": 2, "CPU": 1}. Less than one GPU is a share of one; more are whole ones, of one node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A cell, as far as the scheduler cares."""

    key: str
    group: str | None
    """Pieces of one group share their training, so they stay together until it is done; None: there is nothing to learn."""
    train_s: float = 0.0
    """Expected seconds of learning what the group needs; once a group and worker."""
    answer_s: float = 0.0
    """Expected seconds of asking."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The cells of one model."""

    name: str
    need: Resources
    """What each worker takes of a node."""
    start_s: float
    """Expected seconds before a worker does anything useful: load, engine start."""
    pieces: tuple[Piece, ...]
    """In the order in which they are to be done."""
    parts: int = 1
    """Into so many equal parts a worker is cut where no node could hold it whole."""
    part: Resources = field(default_factory=dict)
    """What each of those takes of a node; several may be on one node."""

    @property
    def kind(self) -> str:
        """The resource that it is counted by."""
        return "GPU" if self.need.get("GPU") else next(iter(self.need))


# What happens


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes there are, with what of each is the scheduler's to give: its workers' share included."""

    room: Mapping[str, Resources]
    leaving: Collection[str] = ()
    """Nodes that have been told to go (a spot notice): nothing new begins there."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A worker has answered, from this node."""

    worker: int
    node: str
    others: tuple[str, ...] = ()
    """The nodes of its further parts."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A worker has told of progress that needs no books: only that it does not hang."""

    worker: int


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has a cell in flight from here on."""

    worker: int
    key: str
    phase: Literal["train", "ask"]


@dataclass(frozen=True, slots=True)
class Learnt:
    """The vectors of a cell are there."""

    worker: int
    key: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A cell is done, or has failed."""

    worker: int
    key: str


@dataclass(frozen=True, slots=True)
class Idle:
    """A worker has nothing left, and waits with its engine open: answered by `Give` or `Release`, now or later."""

    worker: int


@dataclass(frozen=True, slots=True)
class TookBack:
    """What a worker has given back of what was asked of it."""

    worker: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker has ended, as it should."""

    worker: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker has ended as it should not."""

    worker: int
    reason: str
    innocent: bool = False
    """Whether its cells cannot be the cause: its node was taken away."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Happening: TypeAlias = Nodes | Answered | Moved | Began | Learnt | Ended | Idle | TookBack | Finished | Lost | Tick


# What is to be done


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker."""

    worker: int
    job: str
    node: str | None
    """None: wherever there will be room for it first."""
    keys: tuple[str, ...]
    parts: int = 1
    """Into how many parts it is cut (`Job.parts`)."""
    others: tuple[str, ...] = ()
    """The nodes of its further parts, where `node` is known."""


@dataclass(frozen=True, slots=True)
class Give:
    """Hand an idle worker more cells."""

    worker: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Ask a worker for cells that it has not begun; answered by `TookBack`."""

    worker: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Let an idle worker end."""

    worker: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Kill a worker. Nothing it says after this counts."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """A cell is set aside."""

    job: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Waits:
    """A job waits for a node that could hold it; told once."""

    job: str
    reason: str


Action: TypeAlias = Start | Give | TakeBack | Release | GiveUp | Fail | Waits


@dataclass(eq=False, slots=True)
class _Job:
    """A job, and where its cells are."""

    job: Job
    pieces: dict[str, Piece]
    """Those that have not ended."""
    learnt: set[str] = field(default_factory=set)
    pool: dict[str, None] = field(default_factory=dict)
    """Cells that no worker has."""
    pool_s: float | None = None
    """Expected seconds of those at the expected pace, where they have been summed up."""
    crew: dict[int, _Worker] = field(default_factory=dict)
    asked: dict[int, float] = field(default_factory=dict)
    """Workers that were asked to give cells back and have not answered yet, and when they were."""
    lost: dict[str, int] = field(default_factory=dict)
    """Cell -> workers that were lost with it in flight."""
    blocked: float | None = None
    """Since when no node could hold it, even if it were empty."""
    done_s: float = 0.0
    """Expected seconds of what its workers have done."""
    busy_s: float = 0.0
    """Seconds that it took them."""

    @property
    def pace(self) -> float:
        """Seconds its workers take for what was expected to take one."""
        return (PRIOR_S + self.busy_s) / (PRIOR_S + self.done_s)

    def group(self, key: str) -> str | None:
        """What has to be learnt for a cell before it can be asked; None: nothing is left to learn."""
        return None if key in self.learnt else self.pieces[key].group


@dataclass(eq=False, slots=True)
class _Worker:
    id: int
    job: _Job
    parts: int
    nodes: tuple[str, ...]
    """One for each part; none while it waits for room."""
    since: float
    heard: float
    moved: float
    placed: bool = False
    """Whether it has answered once. Before, it may wait for room for as long as it takes."""
    floating: bool = False
    """It was started wherever there would be room first: until it has answered, its node is a guess."""
    reserved: bool = False
    """It has a place, and no cells yet: they are being asked back from others."""
    idle: bool = False
    released: bool = False
    asking: bool = False
    """What it has begun last is asked; else it loads, learns, or starts an engine."""
    cells: dict[str, None] = field(default_factory=dict)
    """What it has that has not ended."""
    in_flight: dict[str, None] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    """Of its cells, those that cannot go elsewhere: being learnt, being asked, or just refused."""
    wanted: tuple[str, ...] = ()
    """What was asked back."""
    to_learn: dict[str, set[str]] = field(default_factory=dict)
    """Group -> cells that wait for its vectors."""
    work_s: float = 0.0
    """Expected seconds of all its cells, at the expected pace."""
    done_s: float = 0.0
    """Expected seconds of what it has done."""
    began: float | None = None
    """When it first did something useful."""
    busy_s: float = 0.0
    """Seconds from then to the last thing it has done."""
    doing_s: float = 0.0
    """Expected seconds of what it has begun since."""

    @property
    def pace(self) -> float:
        """Seconds it takes for what was expected to take one; before it has done much, as long as others of its job."""
        return (PRIOR_S * self.job.pace + self.busy_s) / (PRIOR_S + self.done_s)

    @property
    def need(self) -> Mapping[str, Resources]:
        """Node -> what it takes of it."""
        if self.parts == 1:
            return dict.fromkeys(self.nodes, self.job.job.need)
        part = self.job.job.part
        return {node: {kind: n * amount for kind, amount in part.items()} for node, n in Counter(self.nodes).items()}


_ROUNDING = 1e-6


@dataclass(eq=False, slots=True)
class _Node:
    room: Resources = field(default_factory=dict)
    leaving: bool = False
    needs: dict[int, Resources] = field(default_factory=dict)
    """Worker -> what it takes."""
    taken: dict[str, float] = field(default_factory=dict)
    """The sum of those; a GPU of which anybody has a share is taken."""
    gpu: dict[int, int] = field(default_factory=dict)
    """Worker -> the GPU that it has a share of. It stays there: two halves of two GPUs are not a whole one."""
    shares: dict[int, float] = field(default_factory=dict)
    """GPU that is shared -> how much of it is taken."""

    def seat(self, worker: int, need: Resources) -> None:
        self.needs[worker] = need
        for kind, amount in need.items():
            whole = self._share(worker, amount) if _is_share(kind, amount) else amount
            self.taken[kind] = self.taken.get(kind, 0.0) + whole

    def unseat(self, worker: int) -> None:
        for kind, amount in self.needs.pop(worker, {}).items():
            self.taken[kind] -= self._unshare(worker, amount) if _is_share(kind, amount) else amount

    def has(self, need: Resources) -> bool:
        """Whether a worker fits beside those that are here. A share of a GPU shares it with other shares only."""
        return all(self.left(kind, amount) >= amount - _ROUNDING for kind, amount in need.items())

    def could(self, need: Resources) -> bool:
        """Whether a worker would fit if the node were empty."""
        return all(self.room.get(kind, 0.0) >= amount for kind, amount in need.items())

    def holds(self, part: Resources, *, empty: bool = False) -> int:
        """How many parts of a worker fit beside those that are here, or would if the node were empty."""
        taken = {} if empty else self.taken
        free = (self.room.get(kind, 0.0) - taken.get(kind, 0.0) for kind in part)
        return max(0, min(int((left + _ROUNDING) / amount) for left, amount in zip(free, part.values(), strict=True)))

    def left(self, kind: str, wanted: float) -> float:
        """What is free of a resource for a worker that wants so much of it; for a share, of the GPU that it would get."""
        left = self.room.get(kind, 0.0) - self.taken.get(kind, 0.0)
        if left >= 0 and self.shares and _is_share(kind, wanted) and (gpu := self._fitting(wanted)) is not None:
            return 1.0 - self.shares[gpu]
        return left

    @property
    def crowded(self) -> bool:
        """Whether more is taken than there is."""
        return any(taken > self.room.get(kind, 0.0) + _ROUNDING for kind, taken in self.taken.items())

    def _fitting(self, share: float) -> int | None:
        """The fullest shared GPU that has room for a share."""
        fitting = [gpu for gpu, used in self.shares.items() if used + share <= 1 + _ROUNDING]
        return max(fitting, key=self.shares.__getitem__, default=None)

    def _share(self, worker: int, share: float) -> int:
        """Put a worker on a shared GPU; how many GPUs are taken more by that."""
        gpu = self._fitting(share)
        opened = gpu is None
        if gpu is None:
            gpu = max(self.shares, default=-1) + 1
        self.gpu[worker] = gpu
        self.shares[gpu] = self.shares.get(gpu, 0.0) + share
        return int(opened)

    def _unshare(self, worker: int, share: float) -> int:
        """Take a worker from its shared GPU; how many GPUs are free by that."""
        gpu = self.gpu.pop(worker)
        self.shares[gpu] -= share
        if gpu in self.gpu.values():
            return 0
        del self.shares[gpu]
        return 1


def _is_share(kind: str, amount: float) -> bool:
    return kind == "GPU" and 0 < amount < 1


class Scheduler:
    """Shares jobs out to nodes."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        attempts: int = ATTEMPTS,
        silent_s: float = SILENT_S,
        stalled_s: float = STALLED_S,
        quiet_s: float = QUIET_S,
        room_s: float = ROOM_S,
        ahead: int = AHEAD,
        least_s: float = LEAST_S,
    ) -> None:
        """
        Args:
            jobs: their names differ.
            attempts: in so many lost workers a cell may be in flight.
            silent_s: how long a worker may be silent.
            stalled_s: how long it may have nothing to tell.
            quiet_s: how long at least while it asks.
            room_s: how long a job waits for a node that could hold it.
            ahead: workers that may wait for room.
            least_s: work of fewer seconds is not moved.
        """
        self._jobs = {job.name: _Job(job=job, pieces={piece.key: piece for piece in job.pieces}) for job in jobs}
        self._attempts, self._silent_s, self._stalled_s, self._quiet_s = attempts, silent_s, stalled_s, quiet_s
        self._room_s, self._ahead, self._least_s = room_s, ahead, least_s
        self._workers: dict[int, _Worker] = {}
        self._ids = 0
        self._nodes: dict[str, _Node] = {}
        self._held: dict[str, float] = {}
        """Node -> in how many seconds it is expected to be empty enough for a job that needs much of it."""
        self._empty_s: dict[str, float] = {}
        """Node -> in how many seconds it is expected to be empty, where this decision has asked."""
        self._now = 0.0
        self._actions: list[Action] = []
        self._starts_s = self._starts_expected_s = PRIOR_S
        for job in self._jobs.values():
            job.pool = dict.fromkeys(job.pieces)

    @property
    def done(self) -> bool:
        """Whether every cell has ended, and every worker too."""
        return not self._workers and not any(job.pieces for job in self._jobs.values())

    def suspects(self, name: str) -> frozenset[str]:
        """Cells of a job that were in flight in a lost worker: which of them it was shows when they are asked one by one."""
        return frozenset(self._jobs[name].lost)

    def time_left(self) -> float:
        """Expected seconds to the end: the busiest worker's, or the work of all shared by all, whichever is more."""
        left = [self._left(worker) for worker in self._workers.values()]
        waiting = sum(self._pool_s(job) + self._start_s(job) for job in self._jobs.values() if job.pool)
        return max(max(left, default=0.0), (sum(left) + waiting) / max(1, len(left)))

    def handle(self, happening: Happening, now: float) -> list[Action]:
        """Take in what has happened, and say what is to be done, in this order.

        Args:
            happening: news of a worker that was given up or has ended are ignored.
            now: seconds; never less than before.
        """
        self._now = now
        self._actions = []
        match happening:
            case Nodes():
                self._nodes_are(happening)
                decide = True
            case Tick():
                self._watch()
                decide = True
            case _:
                worker = self._workers.get(happening.worker)
                decide = worker is not None and self._news(worker, happening)
        if decide:
            self._decide()
        return self._actions

    # what has happened

    def _news(self, worker: _Worker, happening: Happening) -> bool:
        """Keep the books of a worker; whether there is anything to decide now."""
        worker.heard = self._now
        if not isinstance(happening, Answered):
            worker.moved = self._now
        match happening:
            case Answered(node=node, others=others) if not worker.placed:
                return self._placed(worker, (node, *others))
            case Began(key=key, phase=phase) if key in worker.cells:
                self._began(worker)
                piece = worker.job.pieces[key]
                worker.asking = phase == "ask"
                worker.doing_s = piece.answer_s if worker.asking else piece.train_s
                worker.in_flight[key] = None
                worker.begun.add(key)
            case Learnt(key=key):
                worker.in_flight.pop(key, None)
                worker.begun.discard(key)
                self._learnt(worker, key)
            case Ended(key=key) if key in worker.cells:
                seconds = worker.job.pieces[key].answer_s
                self._drop(worker, key)
                del worker.job.pieces[key]
                self._did(worker, seconds)
            case Idle():
                worker.idle = True
                return True
            case TookBack(keys=keys):
                self._took_back(worker, keys)
                return True
            case Finished():
                for key in list(worker.cells):
                    self._drop(worker, key)
                    self._fail(worker.job, key, "the worker left this cell out")
                self._remove(worker)
                return True
            case Lost(reason=reason, innocent=innocent):
                self._lost(worker, reason, innocent=innocent)
                return True
        return False

    def _placed(self, worker: _Worker, names: tuple[str, ...]) -> bool:
        """A worker answers for the first time; whether it is elsewhere than was thought."""
        worker.placed, worker.moved = True, self._now
        if worker.floating:
            worker.since = self._now  # until now it waited for room
        if worker.nodes == names:
            return False
        self._seat(worker, names)
        for node in [self._nodes[name] for name in dict.fromkeys(names) if name in self._nodes]:
            others = [self._workers[id] for id in node.needs if not self._workers[id].placed]
            while node.crowded and others:  # it has the room that was meant for others
                self._give_up(others.pop(), "its room is taken", innocent=True)
        return True

    def _began(self, worker: _Worker) -> None:
        if worker.began is None:
            worker.began = self._now
            self._starts_s += self._now - worker.since
            self._starts_expected_s += worker.job.job.start_s

    def _learnt(self, worker: _Worker, key: str) -> None:
        """The vectors of a cell are there; the last cell of its group brings the time it took."""
        job = worker.job
        piece = job.pieces.get(key)
        if piece is None or piece.group is None or key in job.learnt:
            return
        job.learnt.add(key)
        waiting = worker.to_learn.get(piece.group, set())
        waiting.discard(key)
        if not waiting and worker.to_learn.pop(piece.group, None) is not None:
            worker.work_s -= piece.train_s
            self._did(worker, piece.train_s)

    def _did(self, worker: _Worker, seconds: float) -> None:
        worker.doing_s = 0.0
        worker.done_s += seconds
        worker.job.done_s += seconds
        if worker.began is not None:
            worker.job.busy_s += self._now - worker.began - worker.busy_s
            worker.busy_s = self._now - worker.began

    def _took_back(self, worker: _Worker, keys: Collection[str]) -> None:
        worker.job.asked.pop(worker.id, None)
        for key in keys:
            if key in worker.cells:
                self._drop(worker, key)
                self._to_pool(worker.job, key)
        # What was asked for and did not come had begun: to ask again would be in vain.
        worker.begun.update(key for key in worker.wanted if key in worker.cells)
        worker.wanted = ()

    def _nodes_are(self, nodes: Nodes) -> None:
        gone = self._nodes.keys() - nodes.room.keys()
        for worker in [each for each in self._workers.values() if gone and not gone.isdisjoint(each.nodes)]:
            if worker.floating and not worker.placed:
                self._seat(worker, ())
            else:
                self._give_up(worker, "its node is gone", innocent=True)
        for name in gone:
            del self._nodes[name]
        for name, room in nodes.room.items():
            node = self._nodes.get(name)
            if node is None:
                node = self._nodes[name] = _Node()
                for worker in self._workers.values():
                    if name in worker.nodes:  # it has told of the node before the cluster did
                        node.seat(worker.id, worker.need[name])
            node.room, node.leaving = room, name in nodes.leaving

    def _watch(self) -> None:
        """Give up workers that are silent or hang, and wait no longer for answers that do not come."""
        for worker in [each for each in self._workers.values() if not each.reserved]:
            silent_s, still_s = self._now - worker.heard, self._now - worker.moved
            if not worker.placed:
                if not worker.floating and still_s > self._stalled_s:
                    self._give_up(worker, f"its node has had no room for {self._stalled_s:.0f} s", innocent=True)
            elif silent_s > self._silent_s:
                self._give_up(worker, f"it has been silent for {self._silent_s:.0f} s")
            elif worker.released and still_s > self._silent_s:
                self._give_up(worker, f"it has not ended within {self._silent_s:.0f} s")
            elif still_s > (patience_s := self._patience_s(worker)):
                self._give_up(worker, f"nothing has happened for {patience_s:.0f} s")
        for job in self._jobs.values():
            for worker in [self._workers[id] for id, since in job.asked.items() if self._now - since > self._silent_s]:
                worker.wanted = tuple(worker.cells)  # it does not give anything
                self._took_back(worker, ())

    def _patience_s(self, worker: _Worker) -> float:
        """How long a worker may have nothing to tell."""
        if not worker.asking:
            return self._stalled_s
        return min(self._stalled_s, max(self._quiet_s, PATIENCE * worker.doing_s * worker.pace))

    def _give_up(self, worker: _Worker, reason: str, *, innocent: bool = False) -> None:
        if not worker.reserved:
            self._actions.append(GiveUp(worker.id, reason))
        self._lost(worker, reason, innocent=innocent)

    def _lost(self, worker: _Worker, reason: str, *, innocent: bool) -> None:
        """Its cells go to others, but those that were in flight in too many lost workers."""
        job = worker.job
        suspects = [] if innocent else list(worker.in_flight) or list(worker.cells)
        cells = list(worker.cells)
        self._remove(worker)
        for key in suspects:
            times = job.lost[key] = job.lost.get(key, 0) + 1
            if times >= self._attempts:
                self._fail(job, key, f"{reason}, {'once' if times == 1 else f'{times} times'} in this cell")
        for key in cells:
            if key in job.pieces:
                self._to_pool(job, key)

    def _fail(self, job: _Job, key: str, reason: str) -> None:
        del job.pieces[key]
        job.pool.pop(key, None)
        job.pool_s = None
        self._actions.append(Fail(job.job.name, key, reason))

    # what is to be done

    def _decide(self) -> None:
        """Cells that nobody has come first; then idle workers; then idle GPUs."""
        self._held.clear()
        self._empty_s.clear()
        self._clear_leaving()
        self._seek_room()
        waiting = [job for job in self._jobs.values() if job.pool and not job.asked]
        for job in waiting:
            free = [worker for worker in job.crew.values() if worker.idle or worker.reserved]
            self._hand_out(job, [worker for worker in free if self._stays(worker)])
        self._start([job for job in waiting if job.pool])
        for worker in [worker for worker in self._workers.values() if worker.idle]:
            self._employ(worker)
        for worker in [worker for worker in self._workers.values() if worker.reserved and not worker.job.asked]:
            self._remove(worker)  # there was nothing to be had
        self._replicate()

    def _clear_leaving(self) -> None:
        """Take from workers on nodes that are to go all that they have not begun."""
        leaving = {id: None for node in self._nodes.values() if node.leaving for id in node.needs}
        for worker in [self._workers[id] for id in leaving]:
            if worker.placed:
                self._ask_back(worker, [key for bundle in self._movable(worker) for key in bundle])
            else:
                self._give_up(worker, "its node is about to go", innocent=True)

    def _seek_room(self) -> None:
        """Workers that wait for room get the first there is: which one it was, they will say themselves."""
        for worker in [each for each in self._workers.values() if not each.nodes]:
            job = worker.job
            if worker.id not in job.crew:
                continue  # the job was set aside
            if nodes := self._room(job.job, worker.parts):
                self._seat(worker, nodes)
            elif any(other.idle and self._stays(other) for other in job.crew.values()):
                self._give_up(worker, "a worker that has room can do its cells", innocent=True)
            elif self._could_ever(job):
                self._hold(job)

    def _start(self, waiting: Sequence[_Job]) -> None:
        """New workers for cells that nobody has: for each job as many as let it end with the grid, the longest job first.

        Then more while there is room and it is worth it.
        """
        pending = sum(not worker.nodes for worker in self._workers.values())
        waiting = [job for job in waiting if self._could_ever(job)]
        if pending >= max(map(self._most_pending, waiting), default=0) and not self._any_room(waiting):
            return
        crews: dict[_Job, list[_Worker]] = {}
        work = {job: self._pool_s(job) for job in waiting}
        wanted = self._crew_sizes(work)
        stay = {job: self._start_s(job) + work[job] / wanted[job] for job in waiting}
        for job in sorted(waiting, key=stay.__getitem__, reverse=True):
            for _ in range(wanted[job]):
                parts = self._cut(job)
                nodes = self._room(job.job, parts, stay[job])
                if not nodes and (pending >= self._most_pending(job) or (job in crews and job.blocked is None)):
                    self._hold(job)
                    break
                pending += not nodes
                worker = self._new(job, parts, nodes)
                worker.floating = not nodes
                crews.setdefault(job, []).append(worker)
        more = [(-work[job] / len(crew), i, job) for i, (job, crew) in enumerate(crews.items()) if crew[-1].nodes]
        heapq.heapify(more)
        while more:
            _, i, job = heapq.heappop(more)
            share, size = work[job] / (len(crews[job]) + 1), len(crews[job]) + 1
            if share < max(self._start_s(job), self._least_s) or self._bundles(job, job.pool, most=size) < size:
                continue
            parts = self._cut(job)
            if nodes := self._room(job.job, parts, self._start_s(job) + share):
                crews[job].append(self._new(job, parts, nodes))
                heapq.heappush(more, (-share, i, job))
        for job, crew in crews.items():
            self._hand_out(job, crew)
            for worker in crew:
                if not worker.cells:
                    self._remove(worker)

    def _most_pending(self, job: _Job) -> int:
        """How many workers may wait for room: some for the next GPU that is free, many for nodes that have yet to come."""
        return self._ahead if job.blocked is None else FROM_NOTHING

    def _crew_sizes(self, work: Mapping[_Job, float]) -> dict[_Job, int]:
        """How many workers each job needs to end when all that is left, shared evenly by all nodes, would."""
        end_s: dict[str, float] = {}
        for kind in {job.job.kind for job in work}:
            of_kind = [job for job in self._jobs.values() if job.pieces and job.job.kind == kind]
            left = sum((self._start_s(job) + self._pool_s(job)) * job.job.need[kind] for job in of_kind if job.pool)
            left += sum(self._left(worker) * job.job.need[kind] for job in of_kind for worker in job.crew.values())
            there = sum(node.room.get(kind, 0.0) for node in self._nodes.values() if not node.leaving)
            end_s[kind] = left / max(there, 1.0)
        sizes = {}
        for job, seconds in work.items():
            if job.blocked is None:
                useful = max(end_s[job.job.kind] - self._start_s(job), self._start_s(job), self._least_s)
            else:
                useful = max(DEAR * self._start_s(job), self._least_s)
            sizes[job] = self._bundles(job, job.pool, most=max(1, round(seconds / useful)))
        return sizes

    def _cut(self, job: _Job) -> int:
        """Into how many parts a worker of the job is cut: none, where some node could hold it whole."""
        if job.job.parts == 1 or any(node.could(job.job.need) for node in self._nodes.values()):
            return 1
        return job.job.parts

    def _could_ever(self, job: _Job) -> bool:
        """Whether the nodes could hold a worker of the job if they were empty; if they cannot for too long, the job fails."""
        if self._cut(job) == 1:
            could = any(node.could(job.job.need) for node in self._nodes.values())
        else:
            could = sum(node.holds(job.job.part, empty=True) for node in self._nodes.values()) >= job.job.parts
        if could:
            job.blocked = None
            return True
        if job.blocked is None:
            job.blocked = self._now
            self._actions.append(Waits(job.job.name, self._too_large(job.job)))
        if self._now - job.blocked <= self._room_s:
            return True  # where there is an autoscaler, one that waits for room is what it goes by
        self._set_aside(job)
        return False

    def _set_aside(self, job: _Job) -> None:
        for worker in list(job.crew.values()):
            if not worker.placed:
                self._give_up(worker, "there is no room for it", innocent=True)
        for key in list(job.pool):
            self._fail(job, key, f"{self._too_large(job.job)}, after waiting for {self._room_s / 60:.0f} min")

    def _too_large(self, job: Job) -> str:
        need = job.part or job.need
        lacking = [kind for kind in need if not any(node.room.get(kind, 0.0) >= need[kind] for node in self._nodes.values())]
        kind = next(iter(lacking or need))
        most = max((node.room.get(kind, 0.0) for node in self._nodes.values()), default=0.0)
        there = f"the largest node has {most:g}" if self._nodes else "there are no nodes"
        of = "one node" if job.parts == 1 else f"each of {job.parts} nodes"
        if job.parts > 1 and self._nodes and not lacking:
            held = sum(node.holds(need, empty=True) for node in self._nodes.values())
            there = f"there is room for {held} of these parts"
        return f"a worker needs {need[kind]:g} {kind}{'s' * (need[kind] != 1)} of {of}, and {there}"

    def _hand_out(self, job: _Job, to: Sequence[_Worker]) -> None:
        """Share the cells that nobody has out to workers, so that they end together; each begins with the longest."""
        if not to:
            return
        shares: dict[int, list[str]] = {worker.id: [] for worker in to}
        ends = [(0.0 if worker.idle else self._start_s(job), i) for i, worker in enumerate(to)]
        heapq.heapify(ends)
        bundles = [(self._work(job, bundle), bundle) for bundle in self._bundled(job, job.pool)]
        for seconds, bundle in sorted(bundles, key=lambda each: each[0], reverse=True):
            end, i = heapq.heappop(ends)
            shares[to[i].id] += bundle
            heapq.heappush(ends, (end + seconds * job.pace, i))
        for worker in to:
            keys = tuple(shares[worker.id])
            if not keys:
                continue
            for key in keys:
                self._add(worker, key)
            worker.moved = self._now
            if worker.idle:
                worker.asking = False  # perhaps it has to learn first
                self._actions.append(Give(worker.id, keys))
            else:
                worker.since = worker.heard = self._now
                node = worker.nodes[0] if worker.nodes else None
                self._actions.append(Start(worker.id, job.job.name, node, keys, worker.parts, worker.nodes[1:]))
            worker.idle = worker.reserved = False
        job.pool.clear()
        job.pool_s = None

    def _employ(self, worker: _Worker) -> None:
        """Find an idle worker more to do, or let it go."""
        job = worker.job
        if self._stays(worker):
            if job.asked or job.pool:
                return  # soon there is more
            if self._ask_others(job, 0.0, ready=True) or self._ask_others(job, self._start_s(job)):
                return
        worker.idle, worker.released = False, True
        self._actions.append(Release(worker.id))

    def _replicate(self) -> None:
        """Another worker for jobs whose cells are worth more than another start, while there are idle GPUs."""
        settled = [
            job
            for job in self._jobs.values()
            if job.crew and not job.pool and not job.asked and all(worker.placed for worker in job.crew.values())
        ]
        if not self._any_room(settled):
            return
        ends = [
            (-max(self._left(worker) for worker in job.crew.values()), i, job)
            for i, job in enumerate(settled)
            if self._worth(job, self._start_s(job))
        ]
        heapq.heapify(ends)
        full: list[tuple[Resources, int]] = []
        while ends:
            _, _, job = heapq.heappop(ends)
            parts = self._cut(job)
            if (job.job.need, parts) in full:
                continue
            start_s = self._start_s(job)
            nodes = self._room(job.job, parts, self._worth(job, start_s))
            if not nodes:
                full.append((job.job.need, parts))
            elif self._ask_others(job, start_s):
                self._new(job, parts, nodes).reserved = True

    def _worth(self, job: _Job, start_s: float) -> float:
        """When all would end, in seconds, if one more worker took its even part from those that end later than that.

        0: that is not worth its start.
        """
        end, sharing = start_s, 1
        for left in sorted((self._left(worker) for worker in job.crew.values() if worker.cells), reverse=True):
            if left <= end:
                break
            end, sharing = end + (left - end) / (sharing + 1), sharing + 1
        return end if end - start_s >= max(start_s, self._least_s) else 0.0

    def _ask_others(self, job: _Job, start_s: float, *, ready: bool = False) -> bool:
        """Ask the workers of a job for as many cells as let one more worker end with them; whether that is worth it.

        Args:
            job: whose workers.
            start_s: what the newcomer has to do first.
            ready: only cells that can be asked as they are.
        """
        end = self._worth(job, start_s)
        if not end:
            return False
        left = {worker: self._left(worker) for worker in job.crew.values() if worker.cells}
        asked: dict[_Worker, list[str]] = {}
        moved = 0.0
        for worker in sorted(left, key=left.__getitem__, reverse=True):
            keys, seconds = self._part(worker, (left[worker] - end) / worker.pace, ready=ready)
            if keys:
                asked[worker] = keys
                moved += seconds * job.pace
        if moved < max(start_s, self._least_s) or start_s + moved >= max(left.values()):
            return False
        for worker, keys in asked.items():
            self._ask_back(worker, keys)
        return True

    def _part(self, worker: _Worker, wanted_s: float, *, ready: bool) -> tuple[list[str], float]:
        """Movable cells of a worker that come to so many expected seconds, long and short ones alike, and their seconds.

        Who has only long ones left at the end of the grid lets everybody wait.
        """
        bundles = [(self._work(worker.job, bundle), bundle) for bundle in self._movable(worker, ready=ready)]
        share = min(1.0, wanted_s / max(sum(seconds for seconds, _ in bundles), _ROUNDING))
        keys, taken, due = list[str](), 0.0, 0.0
        for seconds, bundle in bundles:
            due += share * seconds
            if due >= seconds / 2:
                keys += bundle
                taken += seconds
                due -= seconds
        return keys, taken

    def _ask_back(self, worker: _Worker, keys: Sequence[str]) -> None:
        if keys and worker.id not in worker.job.asked:
            worker.wanted = tuple(keys)
            worker.job.asked[worker.id] = self._now
            self._actions.append(TakeBack(worker.id, worker.wanted))

    # nodes

    def _room(self, job: Job, parts: int, seconds: float = 0.0) -> tuple[str, ...]:
        """The fullest node that has room, so that whole nodes stay free for those that need them; () if there is none.

        Or a node for each part, on as few as there can be.

        Args:
            job: whose worker.
            parts: into how many it is cut.
            seconds: how long it would stay; a node that somebody waits for is left alone for longer stays.
        """
        if parts > 1:
            return self._rooms(job, seconds)
        best, least, kind = None, float("inf"), job.kind
        wanted = job.need[kind] - _ROUNDING
        for name, node in self._nodes.items():
            left = node.left(kind, job.need[kind])
            free = wanted <= left < least and not node.leaving and node.has(job.need)
            if free and seconds <= self._held.get(name, seconds):
                best, least = name, left
        return () if best is None else (best,)

    def _rooms(self, job: Job, seconds: float) -> tuple[str, ...]:
        free = {
            name: node.holds(job.part)
            for name, node in self._nodes.items()
            if not node.leaving and seconds <= self._held.get(name, seconds)
        }
        found: list[str] = []
        for name in sorted(free, key=free.__getitem__, reverse=True):
            found += [name] * min(free[name], job.parts - len(found))
        return tuple(found) if len(found) == job.parts else ()

    def _any_room(self, jobs: Sequence[_Job]) -> bool:
        """Whether one of them could have another worker now."""
        needs = {tuple(job.job.need.items()): job.job.need for job in jobs}
        if any(node.has(need) for node in self._nodes.values() if not node.leaving for need in needs.values()):
            return True
        return any(job.job.parts > 1 and self._rooms(job.job, 0.0) for job in jobs)

    def _hold(self, job: _Job) -> None:
        """Keep free for a job the nodes that will soonest have room for it, or it would wait for ever behind small ones."""
        need = job.job.need
        if need.get("GPU", 0.0) <= 1:
            return
        parts = self._cut(job)
        part = need if parts == 1 else job.job.part
        names = [name for name, node in self._nodes.items() if name not in self._held and not node.leaving and node.could(part)]
        held: list[str] = []
        for name in heapq.nsmallest(parts, names, key=self._empty_in):
            held.append(name)
            parts -= self._nodes[name].holds(part, empty=True)
            if parts <= 0:
                break
        for name in held:
            self._held[name] = self._empty_in(held[-1])

    def _empty_in(self, name: str) -> float:
        """Expected seconds until a node is empty."""
        if name not in self._empty_s:
            workers = [self._workers[id] for id in self._nodes[name].needs]
            self._empty_s[name] = max(map(self._left, workers), default=0.0)
        return self._empty_s[name]

    def _stays(self, worker: _Worker) -> bool:
        """Whether none of its nodes is about to go."""
        return not any(name in self._nodes and self._nodes[name].leaving for name in worker.nodes)

    def _seat(self, worker: _Worker, nodes: tuple[str, ...]) -> None:
        for name in self._nodes.keys() & set(worker.nodes):
            self._nodes[name].unseat(worker.id)
        worker.nodes = nodes
        for name, need in worker.need.items():
            if name in self._nodes:
                self._nodes[name].seat(worker.id, need)

    # workers and their cells

    def _new(self, job: _Job, parts: int, nodes: tuple[str, ...]) -> _Worker:
        now = self._now
        worker = _Worker(id=self._ids, job=job, parts=parts, nodes=(), since=now, heard=now, moved=now)
        self._ids += 1
        self._workers[worker.id] = job.crew[worker.id] = worker
        self._seat(worker, nodes)
        return worker

    def _remove(self, worker: _Worker) -> None:
        self._seat(worker, ())
        del self._workers[worker.id], worker.job.crew[worker.id]
        worker.job.asked.pop(worker.id, None)

    def _add(self, worker: _Worker, key: str) -> None:
        job = worker.job
        piece, group = job.pieces[key], job.group(key)
        worker.cells[key] = None
        worker.work_s += piece.answer_s
        if group is not None:
            if group not in worker.to_learn:
                worker.to_learn[group] = set()
                worker.work_s += piece.train_s
            worker.to_learn[group].add(key)

    def _drop(self, worker: _Worker, key: str) -> None:
        job = worker.job
        piece, group = job.pieces[key], job.group(key)
        del worker.cells[key]
        worker.in_flight.pop(key, None)
        worker.begun.discard(key)
        worker.work_s -= piece.answer_s
        if group is not None and group in worker.to_learn:
            worker.to_learn[group].discard(key)
            if not worker.to_learn[group]:
                del worker.to_learn[group]
                worker.work_s -= piece.train_s

    def _left(self, worker: _Worker) -> float:
        """Expected seconds until a worker has nothing left."""
        work_s = max(0.0, worker.work_s) * worker.pace
        if worker.began is None:
            return work_s + max(0.0, self._start_s(worker.job) - (self._now - worker.since))
        doing_s = min(self._now - worker.began - worker.busy_s, worker.doing_s * worker.pace)
        return max(0.0, work_s - doing_s)

    def _start_s(self, job: _Job) -> float:
        return job.job.start_s * self._starts_s / self._starts_expected_s

    def _to_pool(self, job: _Job, key: str) -> None:
        job.pool[key] = None
        job.pool_s = None

    def _pool_s(self, job: _Job) -> float:
        if job.pool_s is None:
            job.pool_s = self._work(job, job.pool)
        return job.pool_s * job.pace

    def _work(self, job: _Job, keys: Iterable[str]) -> float:
        """Expected seconds of cells, at the expected pace."""
        seconds, groups = 0.0, set[str]()
        for key in keys:
            piece, group = job.pieces[key], job.group(key)
            seconds += piece.answer_s
            if group is not None and group not in groups:
                groups.add(group)
                seconds += piece.train_s
        return seconds

    def _movable(self, worker: _Worker, *, ready: bool = False) -> Iterator[list[str]]:
        """What of a worker's cells can go elsewhere, last ones first; cells that share their training together."""
        cells = [key for key in worker.cells if not (ready and worker.job.group(key))]
        for bundle in reversed(list(self._bundled(worker.job, cells))):
            if worker.begun.isdisjoint(bundle):
                yield bundle

    def _bundled(self, job: _Job, keys: Iterable[str]) -> Iterable[list[str]]:
        bundles: dict[str, list[str]] = {}
        for key in keys:
            group = job.group(key)
            bundles.setdefault(f"cell {key}" if group is None else f"group {group}", []).append(key)
        return bundles.values()

    def _bundles(self, job: _Job, keys: Iterable[str], most: int) -> int:
        """How many bundles there are, counted up to `most`."""
        found = set[str]()
        for key in keys:
            found.add(job.group(key) or f"cell {key}")
            if len(found) >= most:
                break
        return len(found)
