"""A Ray cluster: actors on whichever nodes have room for them. The one door to `ray` is this package.

    executor    the crew of a run: actors are started, asked what has happened, and ended
    actors      what runs on the nodes
    connect     the address, the head node, and this very spt-fast for the nodes
    metrics     what Ray's dashboard shows

The driver asks every actor again and again what has happened, and trusts nothing else: a lost node can hide for more than a
minute behind Ray's own retries, so none are used. An actor that is silent is killed, and what it had not done goes to another
one. Only the driver writes the run folder.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from spt_fast.executors.crew import Crew, GaveUp, Gone, News, Said, Up, demand
from spt_fast.executors.ray.actors import Follower, ModelWorker, read_answer, read_rows
from spt_fast.executors.ray.connect import Connection, Head
from spt_fast.executors.ray.metrics import Metrics
from spt_fast.executors.scheduled import POLL_S, ScheduledExecutor
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.scheduling.limits import LIMITS, Limits
from spt_fast.scheduling.messages import Job, Nodes, Resources, Start
from spt_fast.tasks.base import GeneratedSource
from spt_fast.worker.events import Event
from spt_fast.worker.lease import Given

POLLS_PER_S = 200.0
"""So many answers without news a second the driver takes at most: a thousand idle actors wait longer than one does."""

NODE_ID = "ray.io/node-id"
"""The label by which Ray knows a node."""

Question: TypeAlias = Literal["start", "take", "revoke", "lost"]


class RayExecutor(ScheduledExecutor):
    """Runs stages on a Ray cluster, on all of its GPUs."""

    def __init__(
        self,
        address: str,
        log: Callable[[str], Path],
        log_name: Callable[[str], str] | None = None,
        *,
        poll_s: float = POLL_S,
        limits: Limits = LIMITS,
        ship: bool | None = None,
    ) -> None:
        """Connect, unless this process is connected already.

        Args:
            address: `auto`, or HOST:PORT of the head node.
            log: names the file that a model's worker prints to; written by the driver.
            log_name: what a person is told to look into; None: that file.
            poll_s: longest wait of an actor for something to tell.
            limits: how patient the scheduler is.
            ship: give the nodes this very spt-fast, whatever they have; None: where there are other machines than this one.
                Not where this process is connected already.

        Raises:
            ConfigError: there is no cluster.
        """
        self._log = log
        self._log_name = log_name or (lambda model: str(log(model)))
        self.poll_s, self.limits = poll_s, limits
        self._gpus_seen = False
        self._connection = Connection(address, ship=ship)

    def crew(self, stages: Sequence[Stage]) -> Crew:
        """Actors on the cluster."""
        metrics = Metrics(sum(len(stage.cells) for stage in stages))
        return _Actors(self._connection.head, self._log, self._log_name, metrics, self.poll_s)

    def nodes(self) -> Mapping[str, Resources]:
        """What there is."""
        there = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        return {name: {kind: all_.get(kind, 0.0) for kind in ("CPU", "GPU")} for name, all_ in there.items()}

    def uses_gpus(self) -> bool:
        """Where the cluster has any, or has had some and may get them again.

        Or where it has nothing that a worker could run on, and so is waiting to be asked for nodes.
        """
        there = ray.cluster_resources()
        self._gpus_seen = self._gpus_seen or bool(there.get("GPU")) or not there.get("CPU")
        return self._gpus_seen

    def close(self) -> None:
        self._connection.close()


@dataclass(eq=False)
class _Actor:
    """The actors of a worker, and what they have."""

    id: int
    model: str
    need: Resources
    """Of each of its nodes."""
    handle: Any
    followers: tuple[Any, ...]
    """The actors of its parts on other nodes."""
    group: Any
    """The placement group that holds room for all of them at once."""
    nodes: tuple[str, ...] = ()
    """Where it is, once it has answered."""

    @property
    def gpus(self) -> float:
        """GPUs that it takes, of all its nodes."""
        return self.need.get("GPU", 0.0) * (1 + len(self.followers))

    def kill(self) -> None:
        """End its actors, and give back their room."""
        for handle in (self.handle, *self.followers):
            with contextlib.suppress(Exception):  # it may be gone, or not to be reached
                ray.kill(handle)
        if self.group is not None:
            with contextlib.suppress(Exception):
                ray.util.remove_placement_group(self.group)


class _Actors(Crew):
    """The actors of one run."""

    def __init__(
        self,
        head: Head,
        log: Callable[[str], Path],
        log_name: Callable[[str], str],
        metrics: Metrics,
        poll_s: float,
    ) -> None:
        self._head, self._log, self._log_name, self._metrics, self._poll_s = head, log, log_name, metrics, poll_s
        self._actors: dict[int, _Actor] = {}
        self._asked: dict[Any, tuple[_Actor, Question]] = {}
        """What was asked of actors and is not answered yet."""
        self._rows: dict[tuple[str, int | None], Any] = {}
        self._token = os.urandom(4).hex()
        head.watch()

    def nodes(self) -> Nodes:
        self._head.require()
        return self._nodes()

    def _nodes(self) -> Nodes:
        state = ray._private.state
        free = state.available_resources_per_node()
        ours: dict[tuple[str, str], float] = {}
        for actor in self._actors.values():
            for node in actor.nodes:
                for kind, amount in actor.need.items():
                    ours[node, kind] = ours.get((node, kind), 0.0) + amount
        capacity: dict[str, Resources] = {}
        for node in ray.nodes():
            name, total = node["NodeID"], node["Resources"]
            if node["Alive"]:
                # Ray's books lag behind by a moment: what is ours already may be counted as free. Never more than there is.
                capacity[name] = {
                    kind: min(total.get(kind, 0.0), free.get(name, total).get(kind, 0.0) + ours.get((name, kind), 0.0))
                    for kind in ("CPU", "GPU")
                }
        return Nodes(capacity, frozenset(state.state.get_draining_nodes()) & capacity.keys())

    # what is asked of actors

    def start(self, start: Start, job: Job, whole: Stage, stage: Stage, earlier: Given) -> None:
        self._head.require()
        model = stage.model.name
        need = demand(job, start)
        group = None if start.parts == 1 else _room_for(need, start)
        handle, *followers = (self._actor(start, i, model, need, group) for i in range(start.parts))
        actor = _Actor(start.worker, model, need, handle, tuple(followers), group)
        self._actors[actor.id] = actor
        for follower in followers:
            self._asked[follower.lost.remote()] = (actor, "lost")
        work = pickle.dumps((stage, earlier, self._log_name(model)))
        self._asked[handle.start.remote(work, self._rows_of(whole), followers)] = (actor, "start")

    def _actor(self, start: Start, part: int, model: str, need: Resources, group: Any) -> Any:
        """An actor, for the worker or one of its further parts, where the scheduler wants it."""
        suffix = f" part {part}" if part else ""
        options: dict[str, Any] = {
            "name": f"{model} {start.worker}{suffix} {self._token}",
            "num_cpus": need.get("CPU", 0.0),
            "num_gpus": need.get("GPU", 0.0),
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 4,  # it waits in `take`, and is to hear other things meanwhile
        }
        if group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=part)
        elif start.nodes:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(start.nodes[0], soft=False)
        kind: type = Follower if part else ModelWorker
        return ray.remote(kind).options(**options).remote(f"spt-fast: {model}{suffix}")

    def _rows_of(self, stage: Stage) -> dict[str, Any]:
        """References to the rows of a stage's tasks, each read once, on some node, for the whole cluster."""
        found: dict[str, Any] = {}
        for wanted in [*(cell.task for cell in stage.cells), *(cell.source for cell in stage.cells)]:
            if wanted.name not in found and not isinstance(wanted.task.source, GeneratedSource):  # made, not read
                key = (wanted.name, wanted.limit)
                if key not in self._rows:
                    # No core of its own: where all of them are taken by workers that wait for it, it would wait for ever.
                    self._rows[key] = ray.remote(read_rows).options(num_cpus=0).remote(wanted)
                found[wanted.name] = self._rows[key]
        return found

    def assign(self, worker: int, cells: tuple[Cell, ...], earlier: Given) -> None:
        self._actors[worker].handle.assign.remote(pickle.dumps((cells, earlier)))

    def revoke(self, worker: int, keys: tuple[str, ...]) -> None:
        actor = self._actors[worker]
        self._asked[actor.handle.revoke.remote(keys)] = (actor, "revoke")

    def release(self, worker: int) -> None:
        self._actors[worker].handle.release.remote()

    def kill(self, worker: int) -> None:
        actor = self._actors.pop(worker, None)
        if actor is None:
            return  # the head was lost before it was started
        self._asked = {reference: asked for reference, asked in self._asked.items() if asked[0] is not actor}
        if not self._head.lost:  # else it is gone with the head, or ends when its node finds that out
            actor.kill()

    # what they answer

    def news(self, wait_s: float) -> Iterable[News]:
        for reference in self._answered(wait_s):
            if reference in self._asked:
                yield from self._heard(reference)

    def _answered(self, wait_s: float) -> Iterable[Any]:
        if not self._asked:
            time.sleep(wait_s)  # for nodes, of which nobody tells
            return ()
        asked = list(self._asked)
        ready: list[Any]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=0)
        if not ready:
            ready, _ = ray.wait(asked, num_returns=1, timeout=wait_s)
        return ready

    def _heard(self, reference: Any) -> Iterator[News]:
        actor, question = self._asked.pop(reference)
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as e:
            self._head.require()
            taken_away = not self._nodes().capacity.keys() >= set(actor.nodes)
            yield Gone(actor.id, _why(e), innocent=taken_away or getattr(e, "preempted", False))
            return
        match question:
            case "start":
                actor.nodes = tuple(answer)
                yield Up(actor.id, actor.nodes, " + ".join(map(_host, actor.nodes)))
                self._ask(actor)
            case "lost":
                self._keep_log(actor.model, answer)
                yield Gone(actor.id, "a part of its engine on another node has ended")
            case "revoke":
                yield GaveUp(actor.id, answer)
            case "take":
                yield from self._said(actor, answer)

    def _said(self, actor: _Actor, data: bytes) -> Iterator[News]:
        answer = read_answer(data)
        if answer is None:
            yield Gone(actor.id, "what it said cannot be read")
            return
        self._keep_log(actor.model, answer.log)
        yield Said(actor.id, actor.nodes, answer.events, answer.ended)
        if not answer.ended:
            self._ask(actor)

    def _ask(self, actor: _Actor) -> None:
        wait_s = max(self._poll_s, len(self._actors) / POLLS_PER_S)
        if actor.id in self._actors:
            self._asked[actor.handle.take.remote(wait_s)] = (actor, "take")

    def _keep_log(self, model: str, log: bytes) -> None:
        if log:
            with self._log(model).open("ab") as file:
                file.write(log)

    def observe(self, stage: Stage, event: Event) -> None:
        self._metrics.take(stage, event)

    def show(self, seconds_left: float) -> None:
        there = [actor for actor in self._actors.values() if actor.nodes]
        self._metrics.show(workers=len(there), gpus=sum(actor.gpus for actor in there), seconds_left=seconds_left)

    def close(self) -> None:
        self._head.watch_no_more()


def _room_for(need: Resources, start: Start) -> Any:
    """Room for all parts of a worker, at once or not at all: of two workers that each had half, neither would begin."""
    where = [{NODE_ID: node} for node in start.nodes] or None
    return placement_group([dict(need)] * start.parts, strategy="PACK", bundle_label_selector=where)


def _host(node: str) -> str:
    """What people call a node."""
    return next((each["NodeManagerHostname"] for each in ray.nodes() if each["NodeID"] == node), node)


def _why(error: Exception) -> str:
    if "No module named 'spt_fast'" in str(error):
        return "spt-fast is not installed on the node that it was to run on"
    return f"its node or process was lost ({type(error).__name__})"
