"""Who works on what: the scheduler of a grid on many GPUs.

A pure function of its state and of what happens: `handle(observation, now)` says what is to be done now. It has no clock, no
thread and no Ray in it, so that a night on a thousand GPUs can be replayed in seconds (`simulation`).

    a job          the cells of one model; it needs so many GPUs of one node, or of several where none could hold it
    a worker       has a job's model and some of its cells: trains all their vectors, starts an engine, evaluates them all
    the longest job starts first, with what waits for it reckoned in; a job whose cells are worth more than another start gets
    another worker on an idle GPU;
    a worker that has nothing left is assigned cells that others have not begun, or lets its GPUs go

Where soft prompts are carried along a series, a job waits until the one before it has learnt what it starts from (`Job.after`).

What a worker has begun stays with it. Whether it has begun a cell only the worker knows for sure: cells are revoked
(`Revoke`), and those that it had not begun (`Revoked`) are assigned anew.

What is said stands in `messages`; where workers fit in `placement`; who has what in `ledger`; how cells are divided in
`balance`; how long one waits in `limits`. The decisions are here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from spt_fast.scheduling.balance import divide, even_end, to_move
from spt_fast.scheduling.ledger import JobEntry, Ledger, WorkerEntry
from spt_fast.scheduling.limits import LIMITS, Limits, why_dead
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
    Release,
    Resources,
    Revoke,
    Revoked,
    Start,
    Tick,
    Trained,
    Waits,
)
from spt_fast.scheduling.placement import Placement

FROM_NOTHING = 64
"""Workers that may wait while no node could hold them: so large a step a cluster grows by that begins with nothing."""

DEAR = 4.0
"""Nodes that have yet to come cost their price: a worker is asked for by as many times its start as it is to work."""


class Scheduler:
    """Divides jobs over nodes."""

    def __init__(self, jobs: Iterable[Job], limits: Limits = LIMITS) -> None:
        """`jobs`: their names differ."""
        self._ledger = Ledger(jobs)
        self._placement = Placement()
        self._limits = limits
        self._now = 0.0
        self._actions: list[Action] = []

    @property
    def done(self) -> bool:
        """Whether every cell has ended, and every worker too."""
        return self._ledger.done

    def suspects(self, name: str) -> frozenset[str]:
        """Cells of a job that were in flight in a lost worker: which of them it was shows when they are run one by one."""
        return frozenset(self._ledger.jobs[name].deaths)

    def time_left(self) -> float:
        """Expected seconds to the end."""
        return self._ledger.left_s(self._now)

    def handle(self, observation: Observation, now: float) -> list[Action]:
        """Take in what has happened, and say what is to be done, in this order.

        Args:
            observation: of a worker that was killed or has ended, it is ignored.
            now: seconds; never less than before.
        """
        self._now = now
        self._actions = []
        match observation:
            case Nodes():
                self._nodes_are(observation)
                decide = True
            case Tick():
                self._watch()
                decide = True
            case _:
                worker = self._ledger.workers.get(observation.worker)
                decide = worker is not None and self._observe(worker, observation)
        if decide:
            self._decide()
        return self._actions

    # what has happened

    def _observe(self, worker: WorkerEntry, observation: Observation) -> bool:
        """Take in what happened to a worker; whether there is anything to decide now."""
        worker.heard = self._now
        if not isinstance(observation, Heartbeat):
            worker.progressed = self._now
        match observation:
            case Heartbeat(nodes=nodes) if not worker.placed:
                return self._placed(worker, nodes)
            case Began(key=key) if key in worker.cells:
                worker.begins(observation, self._now)
            case Trained(key=key):
                owed = worker.job.owes
                worker.has_trained(key, self._now)
                return owed and not worker.job.owes and not observation.before
            case Ended(key=key) if key in worker.cells:
                owed = worker.job.owes
                worker.has_ended(key, self._now)
                return owed and not worker.job.owes
            case Idle():
                worker.idle = True
                return True
            case Revoked(keys=keys):
                worker.gives_up(keys)
                return True
            case Finished():
                for key in list(worker.cells):
                    worker.drop(key)
                    self._fail(worker.job, key, "the worker left this cell out")
                self._dismiss(worker)
                return True
            case Lost(reason=reason, innocent=innocent):
                self._lose(worker, reason, innocent=innocent)
                return True
        return False

    def _placed(self, worker: WorkerEntry, nodes: tuple[str, ...]) -> bool:
        """A worker answers for the first time; whether it is elsewhere than was thought."""
        worker.placed, worker.progressed = True, self._now
        if worker.floating:
            worker.since = self._now  # until now it waited for room
        if worker.nodes == nodes:
            return False
        self._place(worker, nodes)
        for node in [self._placement.nodes[name] for name in dict.fromkeys(nodes) if name in self._placement.nodes]:
            others = [other for other in map(self._ledger.workers.__getitem__, node.demands) if not other.placed]
            while node.overfull and others:  # it has the room that was meant for others
                self._kill(others.pop(), "its room is taken", innocent=True)
        return True

    def _nodes_are(self, nodes: Nodes) -> None:
        gone = self._placement.gone(nodes)
        for worker in [each for each in self._ledger.workers.values() if not gone.isdisjoint(each.nodes)]:
            if worker.floating and not worker.placed:
                self._place(worker, ())
            else:
                self._kill(worker, "its node is gone", innocent=True)
        self._placement.update(nodes)

    def _watch(self) -> None:
        """Kill workers that are silent or hang, and wait no longer for answers that do not come."""
        for worker in [each for each in self._ledger.workers.values() if not each.to_start]:
            if reason := why_dead(worker, self._limits, self._now):
                self._kill(worker, reason, innocent=not worker.placed)
        for job in self._ledger.jobs.values():
            late = [id for id, since in job.revoking.items() if self._now - since > self._limits.silent_s]
            for worker in [job.workers[id] for id in late]:
                worker.keeps_all()

    def _kill(self, worker: WorkerEntry, reason: str, *, innocent: bool = False) -> None:
        if not worker.to_start:
            self._actions.append(Kill(worker.id, reason))
        self._lose(worker, reason, innocent=innocent)

    def _lose(self, worker: WorkerEntry, reason: str, *, innocent: bool) -> None:
        """Its cells go to others, but those that were in flight in too many lost workers."""
        job = worker.job
        suspects = [] if innocent else list(worker.in_flight) or list(worker.cells)
        cells = list(worker.cells)
        self._dismiss(worker)
        for key in suspects:
            times = job.died_with(key)
            if times >= self._limits.attempts:
                self._fail(job, key, f"{reason}, {'once' if times == 1 else f'{times} times'} in this cell")
        for key in cells:
            if key in job.pieces:
                job.put_back(key)

    def _fail(self, job: JobEntry, key: str, reason: str) -> None:
        job.give_up(key)
        self._actions.append(Fail(job.job.name, key, reason))

    # what is to be done

    def _decide(self) -> None:
        """Cells that nobody has come first; then idle workers; then idle GPUs."""
        ledger = self._ledger
        self._placement.forget_reservations()
        self._clear_draining_nodes()
        self._place_floating()
        waiting = [job for job in ledger.jobs.values() if job.unassigned and not job.revoking and not job.waits]
        for job in waiting:
            free = [worker for worker in job.workers.values() if worker.idle or worker.to_start]
            self._assign(job, [worker for worker in free if self._stays(worker)])
        self._start([job for job in waiting if job.unassigned])
        for worker in [worker for worker in ledger.workers.values() if worker.idle]:
            self._employ(worker)
        for worker in [worker for worker in ledger.workers.values() if worker.to_start and not worker.job.revoking]:
            self._dismiss(worker)  # there was nothing to be had
        self._replicate()

    def _clear_draining_nodes(self) -> None:
        """Take from workers on nodes that are about to be taken away all that they have not begun."""
        for worker in [self._ledger.workers[id] for id in self._placement.on_draining_nodes()]:
            if worker.placed:
                self._revoke(worker, tuple(key for bundle in worker.movable() for key in bundle))
            else:
                self._kill(worker, "its node is about to go", innocent=True)

    def _place_floating(self) -> None:
        """Workers that wait for room get the first there is: which one it was, they will say themselves."""
        for worker in [each for each in self._ledger.workers.values() if not each.nodes]:
            job = worker.job
            if worker.id not in job.workers:
                continue  # the job was given up
            if nodes := self._placement.find(job.job, worker.parts):
                self._place(worker, nodes)
            elif any(other.idle and self._stays(other) for other in job.workers.values()):
                self._kill(worker, "a worker that has room can do its cells", innocent=True)
            else:
                self._seek_node(job)
                if not self._hopeless(job):
                    self._reserve(job)

    def _seek_node(self, job: JobEntry) -> None:
        """Where the nodes could not hold a worker of a job even if they were empty, say so once, and fail the job in the end.

        Where there is an autoscaler, a worker that waits for room is what it goes by.
        """
        if self._placement.fits_empty(job.job):
            job.blocked = None
            return
        if job.blocked is None:
            job.blocked = self._now
            self._actions.append(Waits(job.job.name, self._placement.shortage(job.job)))
        if self._hopeless(job):
            self._give_up(job)

    def _hopeless(self, job: JobEntry) -> bool:
        """Whether a job has waited for too long for a node that could hold it."""
        return job.blocked is not None and self._now - job.blocked > self._limits.node_wait_s

    def _give_up(self, job: JobEntry) -> None:
        """Fail all cells of a job that no worker has on a node."""
        for worker in list(job.workers.values()):
            if not worker.placed:
                self._kill(worker, "there is no room for it", innocent=True)
        waited = f"after waiting for {self._limits.node_wait_s / 60:.0f} min"
        for key in list(job.unassigned):
            self._fail(job, key, f"{self._placement.shortage(job.job)}, {waited}")

    def _start(self, waiting: Sequence[JobEntry]) -> None:
        """New workers for cells that nobody has: for each job as many as let it end with the grid, the longest job first.

        Then more while there is room and it is worth it.
        """
        pending = sum(not worker.nodes for worker in self._ledger.workers.values())
        for job in waiting:
            self._seek_node(job)
        waiting = [job for job in waiting if not self._hopeless(job)]
        most = max(map(self._most_pending, waiting), default=0)
        if pending >= most and not self._placement.any_fits([job.job for job in waiting]):
            return
        crews = self._first_crews(waiting, pending)
        self._enlarge(crews)
        for job, crew in crews.items():
            self._assign(job, crew)
            for worker in crew:
                if not worker.cells:
                    self._dismiss(worker)

    def _first_crews(self, waiting: Sequence[JobEntry], pending: int) -> dict[JobEntry, list[WorkerEntry]]:
        """New workers, as many as let each job end with the grid; `pending` wait for room already."""
        crews: dict[JobEntry, list[WorkerEntry]] = {}
        wanted = self._crew_sizes(waiting)
        stay_s = {job: job.start_s + job.unassigned_s / wanted[job] for job in waiting}
        for job in sorted(waiting, key=lambda job: stay_s[job] + job.behind_s, reverse=True):
            for _ in range(wanted[job]):
                parts = self._placement.parts(job.job)
                nodes = self._placement.find(job.job, parts, stay_s[job])
                if not nodes and (pending >= self._most_pending(job) or (job in crews and job.blocked is None)):
                    self._reserve(job)
                    break
                pending += not nodes
                worker = self._hire(job, parts, nodes)
                worker.floating = not nodes
                crews.setdefault(job, []).append(worker)
        return crews

    def _enlarge(self, crews: dict[JobEntry, list[WorkerEntry]]) -> None:
        """More new workers for these jobs, while there is room and it is worth their start."""
        more = [(-job.unassigned_s / len(crew), i, job) for i, (job, crew) in enumerate(crews.items()) if crew[-1].nodes]
        heapq.heapify(more)
        while more:
            _, i, job = heapq.heappop(more)
            share, size = job.unassigned_s / (len(crews[job]) + 1), len(crews[job]) + 1
            if share < max(job.start_s, self._limits.least_s) or job.count_unassigned(most=size) < size:
                continue
            parts = self._placement.parts(job.job)
            if nodes := self._placement.find(job.job, parts, job.start_s + share):
                crews[job].append(self._hire(job, parts, nodes))
                heapq.heappush(more, (-share, i, job))

    def _most_pending(self, job: JobEntry) -> int:
        """How many workers may wait for room: some for the next GPU that is free, many for nodes that have yet to come."""
        return self._limits.ahead if job.blocked is None else FROM_NOTHING

    def _crew_sizes(self, waiting: Sequence[JobEntry]) -> dict[JobEntry, int]:
        """How many workers each job needs to end when all that is left, shared evenly by all nodes, would."""
        end_s = {kind: self._even_end_s(kind) for kind in {job.job.kind for job in waiting}}
        sizes = {}
        for job in waiting:
            if job.blocked is None:
                useful = max(end_s[job.job.kind] - job.start_s, job.start_s, self._limits.least_s)
            else:
                useful = max(DEAR * job.start_s, self._limits.least_s)
            sizes[job] = job.count_unassigned(most=max(1, round(job.unassigned_s / useful)))
        return sizes

    def _even_end_s(self, kind: str) -> float:
        """When all that is left would end if all nodes shared it evenly, in seconds; of the jobs counted by a resource."""
        jobs = [job for job in self._ledger.jobs.values() if job.pieces and job.job.kind == kind]
        left = sum((job.start_s + job.unassigned_s) * job.job.need[kind] for job in jobs if job.unassigned)
        left += sum(worker.left_s(self._now) * job.job.need[kind] for job in jobs for worker in job.workers.values())
        return left / max(self._placement.capacity(kind), 1.0)

    def _assign(self, job: JobEntry, workers: Sequence[WorkerEntry]) -> None:
        """Divide the cells that nobody has over workers, new or idle ones."""
        if not workers:
            return
        for worker, keys in divide(job, workers).items():
            if not keys:
                continue
            for key in keys:
                worker.add(key)
            worker.progressed = self._now
            if worker.idle:
                worker.evaluating = False  # perhaps it has to train first
                self._actions.append(Assign(worker.id, keys))
            else:
                worker.since = worker.heard = self._now
                self._actions.append(Start(worker.id, job.job.name, worker.nodes, keys, worker.parts))
            worker.idle = worker.to_start = False
        job.all_assigned()

    def _employ(self, worker: WorkerEntry) -> None:
        """Find an idle worker more to do, or let it go."""
        job = worker.job
        if self._stays(worker):
            if job.revoking or job.unassigned:
                return  # soon there is more
            if self._move(job, 0.0, trained=True) or self._move(job, job.start_s):
                return
        worker.idle, worker.released = False, True
        self._actions.append(Release(worker.id))

    def _replicate(self) -> None:
        """Another worker for jobs whose cells are worth more than another start, while there are idle GPUs."""
        settled = [job for job in self._ledger.jobs.values() if _settled(job)]
        if not self._placement.any_fits([job.job for job in settled]):
            return
        ends = [
            (-max(worker.left_s(self._now) for worker in job.workers.values()), i, job)
            for i, job in enumerate(settled)
            if self._even_end(job)
        ]
        heapq.heapify(ends)
        full: list[tuple[Resources, int]] = []
        while ends:
            _, _, job = heapq.heappop(ends)
            parts = self._placement.parts(job.job)
            if (job.job.need, parts) in full:
                continue
            nodes = self._placement.find(job.job, parts, self._even_end(job))
            if not nodes:
                full.append((job.job.need, parts))
            elif self._move(job, job.start_s):
                self._hire(job, parts, nodes).to_start = True

    def _even_end(self, job: JobEntry) -> float:
        return even_end(job, job.start_s, self._now, self._limits.least_s)

    def _move(self, job: JobEntry, start_s: float, *, trained: bool = False) -> bool:
        """Take cells from the workers of a job for one more, as `to_move` says; whether that is worth it."""
        moving = to_move(job, start_s, self._now, self._limits.least_s, trained=trained)
        for worker, keys in moving.items():
            self._revoke(worker, keys)
        return bool(moving)

    def _revoke(self, worker: WorkerEntry, keys: tuple[str, ...]) -> None:
        if keys and worker.id not in worker.job.revoking:
            worker.revoke(keys, self._now)
            self._actions.append(Revoke(worker.id, keys))

    # both books

    def _hire(self, job: JobEntry, parts: int, nodes: tuple[str, ...]) -> WorkerEntry:
        worker = self._ledger.hire(job, parts, self._now)
        self._place(worker, nodes)
        return worker

    def _dismiss(self, worker: WorkerEntry) -> None:
        self._placement.remove(worker.id)
        self._ledger.dismiss(worker)

    def _place(self, worker: WorkerEntry, nodes: tuple[str, ...]) -> None:
        worker.nodes = nodes
        self._placement.place(worker.id, worker.job.job, nodes)

    def _stays(self, worker: WorkerEntry) -> bool:
        """Whether none of its nodes is about to be taken away."""
        return not self._placement.draining(worker.nodes)

    def _reserve(self, job: JobEntry) -> None:
        self._placement.reserve(job.job, lambda id: self._ledger.workers[id].left_s(self._now))


def _settled(job: JobEntry) -> bool:
    """Whether a job has workers, all of them on a node, and all its cells are theirs."""
    placed = all(worker.placed for worker in job.workers.values())
    return bool(job.workers) and not job.unassigned and not job.revoking and placed
