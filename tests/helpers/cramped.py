"""A model that runs out of memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from spt_fast.models.frozen_model import FrozenModel
from spt_fast.training.memory_plan import plan_of


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def cannot_allocate() -> None:
    torch.empty(2**60)


def cramped(model: FrozenModel, most: float, fail: Callable[[], None] = out_of_memory) -> tuple[FrozenModel, list[int]]:
    """The model where a pass over more than `most` rows fails, and the rows of each pass that was tried."""
    small, tried = copy.copy(model), []
    plan_of(small).most_positions = None

    def hidden_at(inputs_BTH: Tensor, positions_N: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        tried.append(len(inputs_BTH))
        if len(inputs_BTH) > most:
            fail()
        return model.hidden_at(inputs_BTH, positions_N, mask_BT)

    small.hidden_at = hidden_at  # type: ignore[method-assign]
    return small, tried
