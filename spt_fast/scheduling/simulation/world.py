"""The made-up cluster: its nodes, what workers have of them, and its clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from spt_fast.scheduling.messages import Job, Nodes, Resources, Start

_ROUNDING = 1e-6


class Clock:
    """Made-up time, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something in so many seconds; of what falls on one moment, what was planned first comes first."""
        self._numbers += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._numbers, act))

    def next(self) -> tuple[float, Callable[[], None]]:
        """What happens next, and when."""
        when, _, act = heapq.heappop(self._agenda)
        return when, act


@dataclass(frozen=True)
class Seat:
    """What a worker, or a part of it, has of a node."""

    node: str
    need: Resources
    gpus: Sequence[int]


class _Node:
    """What of a node is free, one GPU at a time: a share stays on its GPU, a whole GPU is shared with nobody."""

    def __init__(self, capacity: Resources) -> None:
        self.gpus = [1.0] * int(capacity.get("GPU", 0.0))
        self.rest = {kind: amount for kind, amount in capacity.items() if kind != "GPU"}

    def take(self, need: Resources) -> list[int] | None:
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
        self._add(need, mine, -1.0)
        return mine

    def leave(self, need: Resources, mine: Sequence[int]) -> None:
        self._add(need, mine, 1.0)

    def _add(self, need: Resources, mine: Sequence[int], sign: float) -> None:
        for i in mine:
            self.gpus[i] += sign * min(1.0, need["GPU"])
        for kind in need.keys() - {"GPU"}:
            self.rest[kind] += sign * need[kind]


class World:
    """The nodes that are there now."""

    def __init__(self, nodes: Mapping[str, Resources]) -> None:
        self._all = nodes
        self._there = {name: _Node(capacity) for name, capacity in nodes.items()}
        self.draining: set[str] = set()
        self.gpus = sum(len(node.gpus) for node in self._there.values())

    def seen(self) -> Nodes:
        """What the scheduler is told of them."""
        return Nodes({name: self._all[name] for name in sorted(self._there)}, frozenset(self.draining))

    def seats(self, start: Start, job: Job) -> list[Seat]:
        """A seat for each part of a worker, or none at all."""
        found = list[Seat]()
        need = job.need if start.parts == 1 else job.part
        for i in range(start.parts):
            names = [start.nodes[i]] if start.nodes else sorted(self._there.keys() - self.draining)
            for name in names:
                gpus = self._there[name].take(need) if name in self._there else None
                if gpus is not None:
                    found.append(Seat(name, need, gpus))
                    break
        if len(found) < start.parts:
            self.leave(found)
            return []
        return found

    def leave(self, seats: Iterable[Seat]) -> None:
        """A worker leaves its seats."""
        for seat in seats:
            if seat.node in self._there:
                self._there[seat.node].leave(seat.need, seat.gpus)

    def lose(self, name: str) -> None:
        """A node is gone."""
        self.gpus -= len(self._there.pop(name).gpus)
        self.draining.discard(name)

    def replace(self, name: str) -> None:
        """A node is there again, and empty."""
        self._there[name] = _Node(self._all[name])
        self.gpus += len(self._there[name].gpus)
