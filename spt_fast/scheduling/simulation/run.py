"""A simulated run: the scheduler's actions are carried out on a made-up cluster, and what comes of them is told to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from spt_fast.scheduling.messages import (
    Action,
    Assign,
    Ended,
    Fail,
    Finished,
    Job,
    Kill,
    Lost,
    Observation,
    Release,
    Resources,
    Revoke,
    Start,
    Tick,
    Trained,
    Waits,
)
from spt_fast.scheduling.scheduler import Scheduler
from spt_fast.scheduling.simulation.outcome import Outcome
from spt_fast.scheduling.simulation.troubles import NOTICE_S, Dice, Troubles, realised
from spt_fast.scheduling.simulation.worker import LATENCY_S, Worker
from spt_fast.scheduling.simulation.world import Clock, Seat, World

END_S = 5.0
"""From being let go to being gone."""

LONGEST_S = 1e7
"""No run that ends takes so many seconds: 116 days."""


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
        seed: the same one, the same run.
        tick_s: how often the scheduler is told that time has passed, in seconds.
        longest_s: a run that takes so many seconds does not end.
        scheduler: of the same jobs; None: one with its defaults.

    Raises:
        TimeoutError: the run does not end.
    """
    found = troubles or Troubles()
    return _Simulation(realised(jobs, found, seed), World(nodes), Dice(found, seed), scheduler or Scheduler(jobs)).run(
        nodes, tick_s, longest_s
    )


class _Simulation:
    def __init__(self, jobs: Sequence[Job], world: World, dice: Dice, scheduler: Scheduler) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.world, self.dice, self.scheduler = world, dice, scheduler
        self.clock, self.outcome = Clock(), Outcome()
        self.workers: dict[int, Worker] = {}
        self.waiting: dict[int, Start] = {}
        """Workers that have been started and have no room yet."""
        self.trained: set[str] = set()
        """Cells whose vectors have come."""

    def run(self, nodes: Mapping[str, Resources], tick_s: float, longest_s: float) -> Outcome:
        for name in nodes:
            self._plan_loss(name)
        self._nodes_changed()
        self._tick_after(tick_s)
        while not self.scheduler.done:
            when, act = self.clock.next()
            if when > longest_s:
                raise TimeoutError(f"the run has not ended after {longest_s:.0f} s")
            self.outcome.capacity_gpu_s += (when - self.clock.now) * self.world.gpus
            self.clock.now = when
            act()
        self.outcome.seconds = self.clock.now
        return self.outcome

    def _tick_after(self, seconds: float) -> None:
        def tick() -> None:
            self._tell(Tick())
            self._tick_after(seconds)

        self.clock.after(seconds, tick)

    # what the scheduler is told

    def _tell(self, observation: Observation) -> None:
        self.outcome.observations += 1
        for action in self.scheduler.handle(observation, self.clock.now):
            self._do(action)

    def _say(self, worker: Worker, observation: Observation, useful_s: float = 0.0) -> None:
        """What a worker says comes later, or not at all if it is lost by then."""

        def come() -> None:
            if not worker.alive or worker.cut_off:
                return
            self.outcome.useful_gpu_s += useful_s * worker.job.need.get("GPU", 0.0)
            match observation:
                case Trained(key=key):
                    self.trained.add(key)
                case Ended(key=key):
                    worker.untold.discard(key)
                    self.outcome.ended[key] = self.outcome.ended.get(key, 0) + 1
                case _:
                    pass
            self._tell(observation)

        self.clock.after(LATENCY_S, come)

    # what it wants done

    def _do(self, action: Action) -> None:
        match action:
            case Start():
                self.waiting[action.worker] = action
                self._seat_waiting()
                self.outcome.waited += bool(action.nodes) and action.worker in self.waiting
            case Assign(worker=id, keys=keys):
                self._reach(id, lambda worker: worker.assign(keys, self.trained.intersection(keys)))
            case Revoke(worker=id, keys=keys):
                self._revoke(id, keys)
            case Release(worker=id):
                self._reach(id, lambda worker: worker.after(END_S, lambda: self._end(worker)))
            case Kill(worker=id):
                self.waiting.pop(id, None)
                if id in self.workers:
                    self._gone(self.workers[id])
            case Fail(key=key, reason=reason):
                self.outcome.failed[key] = reason
            case Waits(job=name, reason=reason):
                self.outcome.waits[name] = reason

    def _reach(self, id: int, act: Callable[[Worker], None]) -> None:
        """What is asked of a worker, if it hears it."""
        worker = self.workers.get(id)
        if worker is not None and not worker.hangs and not worker.cut_off:
            act(worker)

    def _revoke(self, id: int, keys: Sequence[str]) -> None:
        if id in self.waiting:  # it answers when it is there
            self.clock.after(1.0, lambda: self._revoke(id, keys))
        else:
            self._reach(id, lambda worker: worker.revoke(keys))

    # workers come and go

    def _seat_waiting(self) -> None:
        """Those that wait for room take the first there is, as on Ray."""
        for start in list(self.waiting.values()):
            if seats := self.world.seats(start, self.jobs[start.job]):
                del self.waiting[start.worker]
                self._begin(start, seats)

    def _begin(self, start: Start, seats: Sequence[Seat]) -> None:
        job, troubles = self.jobs[start.job], self.dice.troubles
        worker = Worker(
            id=start.worker,
            job=job,
            seats=seats,
            speed=self.dice.speed(),
            clock=self.clock,
            say=self._say,
            outcome=self.outcome,
        )
        self.workers[worker.id] = worker
        self.outcome.starts += 1
        for rate, act in (
            (troubles.worker_losses, partial(self._die, worker)),
            (troubles.hangs, worker.hang),
            (troubles.cut_offs, worker.is_cut_off),
        ):
            if rate:
                worker.after(self.dice.after_s(rate), act)
        worker.begin(start.keys, self.trained.intersection(start.keys))

    def _end(self, worker: Worker) -> None:
        self._gone(worker)
        if not worker.cut_off:
            self._tell(Finished(worker.id))

    def _die(self, worker: Worker) -> None:
        self._gone(worker)
        self.outcome.lost_workers += 1
        self.clock.after(LATENCY_S, lambda: self._tell(Lost(worker.id, "it died")))

    def _gone(self, worker: Worker) -> None:
        worker.alive = False
        del self.workers[worker.id]
        for key in worker.pinned | worker.untold:
            self.outcome.in_vain[key] = self.outcome.in_vain.get(key, 0) + 1
        self.outcome.gpu_s += (self.clock.now - worker.began) * worker.job.need.get("GPU", 0.0)
        self.world.leave(worker.seats)
        self._seat_waiting()

    # nodes come and go

    def _nodes_changed(self) -> None:
        self._tell(self.world.seen())
        self._seat_waiting()

    def _plan_loss(self, name: str) -> None:
        """When a node will go, from the moment at which it is there."""
        troubles = self.dice.troubles
        spot = self.dice.share(troubles.spot)
        if spot and troubles.spot_losses:
            self.clock.after(self.dice.after_s(troubles.spot_losses), lambda: self._notice(name))
        elif troubles.node_losses:
            self.clock.after(self.dice.after_s(troubles.node_losses), lambda: self._lose(name))

    def _notice(self, name: str) -> None:
        self.world.draining.add(name)
        self._nodes_changed()
        self.clock.after(NOTICE_S, lambda: self._lose(name))

    def _lose(self, name: str) -> None:
        """A node is gone. Which is heard first, that or the loss of its workers, is chance."""
        self.world.lose(name)
        self.outcome.lost_nodes += 1
        lost = self._on_node(name)
        for worker in lost:
            self._gone(worker)
        for worker in lost:
            news = partial(self._tell, Lost(worker.id, "its node is gone", innocent=True))
            if self.dice.share(0.5):
                news()
            else:
                self.clock.after(LATENCY_S, news)
        self._nodes_changed()
        self.clock.after(self.dice.after_s(3600 / self.dice.troubles.back_s), lambda: self._back(name))

    def _on_node(self, name: str) -> list[Worker]:
        return [worker for worker in self.workers.values() if any(seat.node == name for seat in worker.seats)]

    def _back(self, name: str) -> None:
        self.world.replace(name)
        self._plan_loss(name)
        self._nodes_changed()
