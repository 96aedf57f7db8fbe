"""Who has what: jobs, workers, their cells, and the seconds that these are expected to take and have taken."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from spt_fast.scheduling.messages import Began, Job, Piece

PRIOR_S = 60.0
"""How many seconds of a worker's own pace weigh as much as the expectation."""


@dataclass(slots=True)
class Starts:
    """How long workers take to start, beside what was expected."""

    taken_s: float = PRIOR_S
    expected_s: float = PRIOR_S

    def took(self, seconds: float, expected_s: float) -> None:
        """A worker has started."""
        self.taken_s += seconds
        self.expected_s += expected_s


@dataclass(eq=False, slots=True)
class JobEntry:
    """A job, and where its cells are."""

    job: Job
    starts: Starts
    pieces: dict[str, Piece]
    """Those that have not ended."""
    unassigned: dict[str, None]
    """Cells that no worker has."""
    trained: set[str] = field(default_factory=set)
    workers: dict[int, WorkerEntry] = field(default_factory=dict)
    revoking: dict[int, float] = field(default_factory=dict)
    """Workers that have not answered yet which cells they give up -> since when."""
    deaths: dict[str, int] = field(default_factory=dict)
    """Cell -> workers that were lost with it in flight."""
    blocked: float | None = None
    """Since when no node could hold a worker of it, even if it were empty."""
    done_s: float = 0.0
    """Expected seconds of what its workers have done."""
    busy_s: float = 0.0
    """Seconds that it took them."""
    after: JobEntry | None = None
    """The job before it in its series."""
    carried: frozenset[str] = frozenset()
    """Cells that the next job of its series starts from."""
    behind_s: float = 0.0
    """Expected seconds to the end of its series, from when it has learnt what the next job starts from."""
    _unassigned_s: float | None = None
    """Expected seconds of the cells that no worker has, where they have been summed up."""

    @property
    def start_s(self) -> float:
        """Expected seconds before a worker does anything useful."""
        return self.job.start_s * self.starts.taken_s / self.starts.expected_s

    @property
    def waits(self) -> bool:
        """Whether it has to wait for the job before it, which has not learnt all that this one starts from."""
        return self.after is not None and self.after.owes

    @property
    def owes(self) -> bool:
        """Whether it has something to learn that the next job of its series starts from."""
        return any(key in self.pieces and key not in self.trained for key in self.carried)

    @property
    def pace(self) -> float:
        """Seconds its workers take for what was expected to take one."""
        return (PRIOR_S + self.busy_s) / (PRIOR_S + self.done_s)

    @property
    def unassigned_s(self) -> float:
        """Expected seconds of the cells that no worker has."""
        if self._unassigned_s is None:
            self._unassigned_s = self.expected_s(self.unassigned)
        return self._unassigned_s * self.pace

    def put_back(self, key: str) -> None:
        """No worker has a cell any more."""
        self.unassigned[key] = None
        self._unassigned_s = None

    def all_assigned(self) -> None:
        """Workers have all cells that none had."""
        self.unassigned.clear()
        self._unassigned_s = None

    def give_up(self, key: str) -> None:
        """A cell has failed."""
        del self.pieces[key]
        self.unassigned.pop(key, None)
        self._unassigned_s = None

    def died_with(self, key: str) -> int:
        """A worker was lost with a cell in flight: how many were by now."""
        times = self.deaths[key] = self.deaths.get(key, 0) + 1
        return times

    def group(self, key: str) -> str | None:
        """What has to be trained before a cell can be evaluated; None: nothing, or it is done."""
        return None if key in self.trained else self.pieces[key].group

    def expected_s(self, keys: Iterable[str]) -> float:
        """Expected seconds of cells in one worker, at the expected pace."""
        seconds, groups = 0.0, set[str]()
        for key in keys:
            piece, group = self.pieces[key], self.group(key)
            seconds += piece.answer_s
            if group is not None and group not in groups:
                groups.add(group)
                seconds += piece.train_s
        return seconds

    def bundles(self, keys: Iterable[str]) -> Collection[list[str]]:
        """Cells that stay together, for they share their training."""
        found: dict[str, list[str]] = {}
        for key in keys:
            group = self.group(key)
            found.setdefault(f"cell {key}" if group is None else f"group {group}", []).append(key)
        return found.values()

    def count_unassigned(self, most: int) -> int:
        """How many bundles no worker has, counted up to `most`."""
        found = set[str]()
        for key in self.unassigned:
            found.add(self.group(key) or f"cell {key}")
            if len(found) >= most:
                break
        return len(found)


@dataclass(eq=False, slots=True)
class WorkerEntry:
    """A worker, its cells and how far it is."""

    id: int
    job: JobEntry
    parts: int
    since: float
    heard: float
    """When it last answered."""
    progressed: float
    """When it last had something to tell."""
    nodes: tuple[str, ...] = ()
    """One for each part; none while it waits for room."""
    placed: bool = False
    """Whether it has answered once. Before, it may wait for room for as long as it takes."""
    floating: bool = False
    """It was started wherever there would be room first: until it has answered, its node is a guess."""
    to_start: bool = False
    """It has a place, and no cells yet: these are being revoked from others."""
    idle: bool = False
    released: bool = False
    evaluating: bool = False
    """What it has begun last is evaluated; else it loads, trains, or starts an engine."""
    cells: dict[str, None] = field(default_factory=dict)
    """What it has that has not ended."""
    in_flight: dict[str, None] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    """Of its cells, those that cannot go elsewhere: being trained, being evaluated, or just refused."""
    revoking: tuple[str, ...] = ()
    """What it was asked to give up, and has not answered yet."""
    to_train: dict[str, set[str]] = field(default_factory=dict)
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

    def left_s(self, now: float) -> float:
        """Expected seconds until it has nothing left."""
        work_s = max(0.0, self.work_s) * self.pace
        if self.began is None:
            return work_s + max(0.0, self.job.start_s - (now - self.since))
        doing_s = min(now - self.began - self.busy_s, self.doing_s * self.pace)
        return max(0.0, work_s - doing_s)

    def movable(self, *, trained: bool = False) -> Iterator[list[str]]:
        """What of its cells can go elsewhere, last ones first; cells that share their training together.

        Args:
            trained: only those for which nothing has to be trained.
        """
        cells = [key for key in self.cells if not (trained and self.job.group(key))]
        for bundle in reversed(list(self.job.bundles(cells))):
            if self.pinned.isdisjoint(bundle):
                yield bundle

    def add(self, key: str) -> None:
        """It has a cell more."""
        piece, group = self.job.pieces[key], self.job.group(key)
        self.cells[key] = None
        self.work_s += piece.answer_s
        if group is not None:
            if group not in self.to_train:
                self.to_train[group] = set()
                self.work_s += piece.train_s
            self.to_train[group].add(key)

    def drop(self, key: str) -> None:
        """It has a cell less."""
        piece, group = self.job.pieces[key], self.job.group(key)
        del self.cells[key]
        self.in_flight.pop(key, None)
        self.pinned.discard(key)
        self.work_s -= piece.answer_s
        if group is not None and group in self.to_train:
            self.to_train[group].discard(key)
            if not self.to_train[group]:
                del self.to_train[group]
                self.work_s -= piece.train_s

    def begins(self, began: Began, now: float) -> None:
        """It has one of its cells in flight."""
        if self.began is None:
            self.began = now
            self.job.starts.took(now - self.since, self.job.job.start_s)
        piece = self.job.pieces[began.key]
        self.evaluating = began.phase == "evaluate"
        self.doing_s = piece.answer_s if self.evaluating else piece.train_s
        self.in_flight[began.key] = None
        self.pinned.add(began.key)

    def has_trained(self, key: str, now: float) -> None:
        """The vectors of a cell are there; the last cell of its group brings the time it took."""
        self.in_flight.pop(key, None)
        self.pinned.discard(key)
        piece = self.job.pieces.get(key)
        if piece is None or piece.group is None or key in self.job.trained:
            return
        self.job.trained.add(key)
        waiting = self.to_train.get(piece.group, set())
        waiting.discard(key)
        if not waiting and self.to_train.pop(piece.group, None) is not None:
            self.work_s -= piece.train_s
            self._did(piece.train_s, now)

    def has_ended(self, key: str, now: float) -> None:
        """One of its cells is done, or has failed."""
        seconds = self.job.pieces[key].answer_s
        self.drop(key)
        del self.job.pieces[key]
        self._did(seconds, now)

    def _did(self, seconds: float, now: float) -> None:
        self.doing_s = 0.0
        self.done_s += seconds
        self.job.done_s += seconds
        if self.began is not None:
            self.job.busy_s += now - self.began - self.busy_s
            self.busy_s = now - self.began

    def revoke(self, keys: tuple[str, ...], now: float) -> None:
        """It is asked to give up cells."""
        self.revoking = keys
        self.job.revoking[self.id] = now

    def gives_up(self, keys: Collection[str]) -> None:
        """It has answered which cells it gives up: those that it keeps have begun, so to ask again would be in vain."""
        self.job.revoking.pop(self.id, None)
        for key in keys:
            if key in self.cells:
                self.drop(key)
                self.job.put_back(key)
        self.pinned.update(key for key in self.revoking if key in self.cells)
        self.revoking = ()

    def keeps_all(self) -> None:
        """It does not answer which cells it gives up: nothing can be had from it."""
        self.revoking = tuple(self.cells)
        self.gives_up(())


class Ledger:
    """All jobs and workers."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        """`jobs`: their names differ."""
        starts = Starts()
        self.jobs = {job.name: _entry(job, starts) for job in jobs}
        for entry in self.jobs.values():
            entry.after = self.jobs.get(entry.job.after or "")
        self.following = [entry for entry in self.jobs.values() if entry.after is not None]
        """Jobs that wait for another."""
        for entry in self.following:
            seconds, before = _learning_s(entry.job), entry.after
            while before is not None:
                before.behind_s += seconds
                before = before.after
        self.workers: dict[int, WorkerEntry] = {}
        self._hired = 0

    @property
    def done(self) -> bool:
        """Whether every cell has ended, and every worker too."""
        return not self.workers and not any(job.pieces for job in self.jobs.values())

    def hire(self, job: JobEntry, parts: int, now: float) -> WorkerEntry:
        """A new worker, without cells and in no place yet."""
        worker = WorkerEntry(id=self._hired, job=job, parts=parts, since=now, heard=now, progressed=now)
        self._hired += 1
        self.workers[worker.id] = job.workers[worker.id] = worker
        return worker

    def dismiss(self, worker: WorkerEntry) -> None:
        """A worker is gone. Its cells are not put back by this."""
        del self.workers[worker.id], worker.job.workers[worker.id]
        worker.job.revoking.pop(worker.id, None)

    def left_s(self, now: float) -> float:
        """Expected seconds to the end: the busiest worker's, or the work of all shared by all, whichever is more."""
        left = [worker.left_s(now) for worker in self.workers.values()]
        waiting = sum(job.unassigned_s + job.start_s for job in self.jobs.values() if job.unassigned)
        series = max((job.unassigned_s + job.start_s + job.behind_s for job in self.following if job.waits), default=0.0)
        return max(max(left, default=0.0), series, (sum(left) + waiting) / max(1, len(left)))


def _learning_s(job: Job) -> float:
    """Expected seconds until one worker has learnt all that a job has to learn."""
    groups = {piece.group: piece.train_s for piece in job.pieces if piece.group is not None}
    return job.start_s + sum(groups.values())


def _entry(job: Job, starts: Starts) -> JobEntry:
    pieces = {piece.key: piece for piece in job.pieces}
    carried = frozenset(piece.key for piece in job.pieces if piece.carried)
    return JobEntry(job=job, starts=starts, pieces=pieces, unassigned=dict.fromkeys(pieces), carried=carried)
