"""Memory plan: how many rows a training pass takes, found by trying, and remembered as long as the model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

from spt_fast.errors import TrainingError, first_line
from spt_fast.models import memory
from spt_fast.models.frozen_model import FrozenModel

T = TypeVar("T")


@dataclass
class MemoryPlan:
    """What passes over one loaded model have shown of the device's memory."""

    most_positions: int | None = None
    """Most positions `B * T` that memory has room for in one pass; None: none were too many so far."""
    recompute_from: int | None = None
    """Rows of so many positions do not fit into a pass one by one, unless activations are recomputed."""
    most_recomputed: int | None = None
    """As `most_positions`, while activations are recomputed."""
    prompts_at_once: int | None = None
    """How many soft prompts are trained in one pass; None: not measured yet."""

    def recomputes(self, width: int) -> bool:
        """Whether a pass over rows of so many positions recomputes activations; without gradients there is nothing to keep."""
        return torch.is_grad_enabled() and self.recompute_from is not None and width >= self.recompute_from

    def micro_batch(self, rows: int, width: int) -> int:
        """How many rows of so many positions are worked on at once: all, half, a quarter, ..., and at least one."""
        most = self.most_recomputed if self.recomputes(width) else self.most_positions
        size = rows
        while most is not None and size > 1 and size * width > most:
            size //= 2
        return size

    def ran_out(self, size: int, width: int, *, can_recompute: bool) -> bool:
        """Plan with less, after a pass over `size` rows was too much; False: there is nothing less to try."""
        # Between the whole, which was too much, and its half: lengths vary, and neither is to be tried in vain often.
        most = size * width * 3 // 4
        if size > 1 and self.recomputes(width):
            self.most_recomputed = most
        elif size > 1:
            self.most_positions = most
        elif torch.is_grad_enabled() and can_recompute and not self.recomputes(width):
            self.recompute_from = width
        else:
            return False
        return True


_PLANS: WeakKeyDictionary[FrozenModel, MemoryPlan] = WeakKeyDictionary()


def plan_of(model: FrozenModel) -> MemoryPlan:
    """The plan of a loaded model: the same one whenever it is asked for."""
    return _PLANS.setdefault(model, MemoryPlan())


def as_memory_allows(
    model: FrozenModel, lengths: Sequence[int], soft_positions: int, work: Callable[[int], T]
) -> tuple[T, int]:
    """What comes of work on rows with so many of them at once, and how many they were: as many as memory has room for.

    Where one is too many, activations are computed twice instead of kept, and as many are tried as then fit.

    Args:
        model: whose plan it is done by.
        lengths: tokens of each row.
        soft_positions: that stand in a row beside.
        work: is given the number of rows.

    Raises:
        TrainingError: one row alone does not fit.
    """
    plan, width = plan_of(model), max(lengths) + soft_positions
    while True:
        size = plan.micro_batch(len(lengths), width)
        try:
            with model.suited_to(size * width), model.recomputing() if plan.recomputes(width) else nullcontext():
                return work(size), size
        except Exception as e:
            if not memory.ran_out(e):
                raise
            said = first_line(e)
        # Not while it is handled: the frames that an error comes with hold what the pass had taken.
        memory.release()
        if not plan.ran_out(size, width, can_recompute=model.can_recompute):
            raise TrainingError(
                f"out of memory with {len(lengths)} tuning rows taken one by one, {max(lengths)} tokens the longest, "
                f"and {soft_positions} soft positions ({memory.described()} without it: {said}); give the task shorter rows "
                "as data_files or the model a GPU with more memory, or leave the task out for this model"
            )
