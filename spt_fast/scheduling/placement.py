"""Nodes and who is on them: where a worker fits, which share of which GPU it has, and which nodes are kept free for whom."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spt_fast.scheduling.messages import Job, Nodes, Resources

_ROUNDING = 1e-6


@dataclass(eq=False, slots=True)
class Node:
    """What of a node is taken, and by whom."""

    capacity: Resources = field(default_factory=dict)
    draining: bool = False
    demands: dict[int, Resources] = field(default_factory=dict)
    """Worker -> what it takes."""
    taken: dict[str, float] = field(default_factory=dict)
    """The sum of those; a GPU of which anybody has a share is taken."""
    gpu: dict[int, int] = field(default_factory=dict)
    """Worker -> the GPU that it has a share of. It stays there: two halves of two GPUs are not a whole one."""
    shares: dict[int, float] = field(default_factory=dict)
    """GPU that is shared -> how much of it is taken."""

    def add(self, worker: int, need: Resources) -> None:
        """A worker is here, whether it fits or not."""
        self.demands[worker] = need
        for kind, amount in need.items():
            whole = self._share(worker, amount) if _is_share(kind, amount) else amount
            self.taken[kind] = self.taken.get(kind, 0.0) + whole

    def remove(self, worker: int) -> None:
        """A worker is here no more."""
        for kind, amount in self.demands.pop(worker, {}).items():
            self.taken[kind] -= self._unshare(worker, amount) if _is_share(kind, amount) else amount

    def fits(self, need: Resources) -> bool:
        """Whether a worker fits beside those that are here. A share of a GPU shares it with other shares only."""
        return all(self.free(kind, amount) >= amount - _ROUNDING for kind, amount in need.items())

    def fits_empty(self, need: Resources) -> bool:
        """Whether a worker would fit if the node were empty."""
        return all(self.capacity.get(kind, 0.0) >= amount for kind, amount in need.items())

    def count(self, part: Resources, *, empty: bool = False) -> int:
        """How many parts of a worker fit beside those that are here, or would if the node were empty."""
        taken = {} if empty else self.taken
        free = (self.capacity.get(kind, 0.0) - taken.get(kind, 0.0) for kind in part)
        return max(0, min(int((left + _ROUNDING) / amount) for left, amount in zip(free, part.values(), strict=True)))

    def free(self, kind: str, wanted: float) -> float:
        """What is free of a resource for a worker that wants so much of it; for a share, of the GPU that it would get."""
        left = self.capacity.get(kind, 0.0) - self.taken.get(kind, 0.0)
        if left >= 0 and self.shares and _is_share(kind, wanted) and (gpu := self._fitting(wanted)) is not None:
            return 1.0 - self.shares[gpu]
        return left

    @property
    def overfull(self) -> bool:
        """Whether more is taken than there is."""
        return any(taken > self.capacity.get(kind, 0.0) + _ROUNDING for kind, taken in self.taken.items())

    def _fitting(self, share: float) -> int | None:
        """The fullest shared GPU on which a share fits."""
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


class Placement:
    """All nodes. Knows workers by their numbers only."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._demands: dict[int, Mapping[str, Resources]] = {}
        """Worker -> node -> what it takes there, also where a node is not known yet."""
        self._reserved: dict[str, float] = {}
        """Node -> in how many seconds it is expected to be empty enough for a job that waits for it."""
        self._empty_s: dict[str, float] = {}
        """Node -> in how many seconds it is expected to be empty, where this decision has asked."""

    # who is where

    def gone(self, nodes: Nodes) -> set[str]:
        """The nodes that are there no more."""
        return self.nodes.keys() - nodes.capacity.keys()

    def update(self, nodes: Nodes) -> None:
        """These are the nodes now. A worker may have told of a node before the cluster did."""
        for name in self.gone(nodes):
            del self.nodes[name]
        for name, capacity in nodes.capacity.items():
            node = self.nodes.get(name)
            if node is None:
                node = self.nodes[name] = Node()
                for worker, demand in self._demands.items():
                    if name in demand:
                        node.add(worker, demand[name])
            node.capacity, node.draining = capacity, name in nodes.draining

    def place(self, worker: int, job: Job, nodes: Sequence[str]) -> None:
        """A worker is on these nodes, a part on each, and nowhere else; on none while it waits for room."""
        self._leave(worker)
        self._demands[worker] = _demand(job, nodes)
        for name, need in self._demands[worker].items():
            if name in self.nodes:
                self.nodes[name].add(worker, need)

    def remove(self, worker: int) -> None:
        """A worker is gone."""
        self._leave(worker)
        del self._demands[worker]

    def _leave(self, worker: int) -> None:
        for name in self._demands.get(worker, ()):
            if name in self.nodes:
                self.nodes[name].remove(worker)

    def draining(self, nodes: Iterable[str]) -> bool:
        """Whether any of these nodes is about to be taken away."""
        return any(name in self.nodes and self.nodes[name].draining for name in nodes)

    def on_draining_nodes(self) -> list[int]:
        """The workers with a part on a node that is about to be taken away."""
        return list(dict.fromkeys(worker for node in self.nodes.values() if node.draining for worker in node.demands))

    # where there is room

    def parts(self, job: Job) -> int:
        """Into how many parts a worker of the job is split: 1, where some node could hold it whole."""
        if job.parts == 1 or any(node.fits_empty(job.need) for node in self.nodes.values()):
            return 1
        return job.parts

    def fits_empty(self, job: Job) -> bool:
        """Whether the nodes could hold a worker of the job if they were empty."""
        if self.parts(job) == 1:
            return any(node.fits_empty(job.need) for node in self.nodes.values())
        return self._parts_that_fit(job) >= job.parts

    def _parts_that_fit(self, job: Job) -> int:
        return sum(node.count(job.part, empty=True) for node in self.nodes.values())

    def shortage(self, job: Job) -> str:
        """Why the nodes could not hold a worker of the job even if they were empty, in words."""
        need = job.part or job.need
        lacking = [k for k in need if not any(node.capacity.get(k, 0.0) >= need[k] for node in self.nodes.values())]
        kind = next(iter(lacking or need))
        most = max((node.capacity.get(kind, 0.0) for node in self.nodes.values()), default=0.0)
        there = f"the largest node has {most:g}" if self.nodes else "there are no nodes"
        of = "one node" if job.parts == 1 else f"each of {job.parts} nodes"
        if job.parts > 1 and self.nodes and not lacking:
            there = f"there is room for {self._parts_that_fit(job)} of these parts"
        return f"a worker needs {need[kind]:g} {kind}{'s' * (need[kind] != 1)} of {of}, and {there}"

    def capacity(self, kind: str) -> float:
        """What all nodes have of a resource, but those that are about to be taken away."""
        return sum(node.capacity.get(kind, 0.0) for node in self.nodes.values() if not node.draining)

    def find(self, job: Job, parts: int, stay_s: float = 0.0) -> tuple[str, ...]:
        """The fullest node where a worker fits, so that whole nodes stay free for those that need them; () if there is none.

        Or a node for each part, on as few as there can be.

        Args:
            job: whose worker.
            parts: into how many it is split.
            stay_s: how long it would stay; a node that somebody waits for is left alone for longer stays.
        """
        if parts > 1:
            return self._find_each(job, stay_s)
        best, least, kind = None, float("inf"), job.kind
        wanted = job.need[kind] - _ROUNDING
        for name, node in self.nodes.items():
            left = node.free(kind, job.need[kind])
            free = wanted <= left < least and not node.draining and node.fits(job.need)
            if free and stay_s <= self._reserved.get(name, stay_s):
                best, least = name, left
        return () if best is None else (best,)

    def _find_each(self, job: Job, stay_s: float) -> tuple[str, ...]:
        free = {
            name: node.count(job.part)
            for name, node in self.nodes.items()
            if not node.draining and stay_s <= self._reserved.get(name, stay_s)
        }
        found: list[str] = []
        for name in sorted(free, key=free.__getitem__, reverse=True):
            found += [name] * min(free[name], job.parts - len(found))
        return tuple(found) if len(found) == job.parts else ()

    def any_fits(self, jobs: Sequence[Job]) -> bool:
        """Whether another worker of one of these jobs fits now."""
        found = {tuple(job.need.items()): job for job in jobs}.values()
        if any(node.fits(job.need) for node in self.nodes.values() if not node.draining for job in found):
            return True
        return any(job.parts > 1 and self._find_each(job, 0.0) for job in jobs)

    # nodes that are kept free

    def forget_reservations(self) -> None:
        """A new decision begins."""
        self._reserved.clear()
        self._empty_s.clear()

    def reserve(self, job: Job, left_s: Callable[[int], float]) -> None:
        """Keep the nodes free for a job that will soonest have room for it, or it would wait for ever behind small ones.

        Args:
            job: that needs more than one GPU; others find room without.
            left_s: a worker's expected seconds to its end.
        """
        if job.need.get("GPU", 0.0) <= 1:
            return
        parts = self.parts(job)
        part = job.need if parts == 1 else job.part
        could = [
            name
            for name, node in self.nodes.items()
            if name not in self._reserved and not node.draining and node.fits_empty(part)
        ]
        chosen: list[str] = []
        for name in heapq.nsmallest(parts, could, key=lambda name: self._empty_in(name, left_s)):
            chosen.append(name)
            parts -= self.nodes[name].count(part, empty=True)
            if parts <= 0:
                break
        for name in chosen:
            self._reserved[name] = self._empty_in(chosen[-1], left_s)

    def _empty_in(self, name: str, left_s: Callable[[int], float]) -> float:
        """Expected seconds until a node is empty."""
        if name not in self._empty_s:
            self._empty_s[name] = max(map(left_s, self.nodes[name].demands), default=0.0)
        return self._empty_s[name]


def _demand(job: Job, nodes: Sequence[str]) -> dict[str, Resources]:
    """Node -> what a worker takes of it whose parts are on these nodes."""
    if len(nodes) <= 1:
        return dict.fromkeys(nodes, job.need)
    return {node: {kind: n * amount for kind, amount in job.part.items()} for node, n in Counter(nodes).items()}
