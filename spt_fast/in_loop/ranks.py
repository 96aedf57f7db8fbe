"""The processes of a training, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, cast

import torch
import torch.distributed as dist

T = TypeVar("T")
Who: TypeAlias = Literal["all", "this"]
"""Which ranks call `evaluate_in_loop`."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that evaluate together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, who: Who) -> Ranks:
        """Those of the default process group, or this one alone."""
        if who == "this" or not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(rank=dist.get_rank(), size=dist.get_world_size())

    def mine(self, everything: Sequence[T]) -> Sequence[T]:
        """This rank's part."""
        return everything[self.rank :: self.size]

    def gather(self, work: Callable[[], T]) -> list[T]:
        """What the work of each rank comes to, by rank, on all of them.

        Raises:
            Exception: that of the first rank that has one, on all ranks: none is left waiting for another.
        """
        if self.size == 1:
            return [work()]
        outcome: Any
        try:
            outcome = work()
        except Exception as e:
            outcome = _Failed(e)
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, outcome)
        for each in found:
            if isinstance(each, _Failed):
                raise each.error
        return cast(list[T], found)

    def all_are(self, done: bool, device: torch.device) -> bool:
        """Whether all ranks are done."""
        if self.size == 1:
            return done
        told = torch.tensor([int(done)], device=device)
        dist.all_reduce(told, op=dist.ReduceOp.MIN)
        return bool(told.item())


@dataclass(frozen=True)
class _Failed:
    error: Exception
