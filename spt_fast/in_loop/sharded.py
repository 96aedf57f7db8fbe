"""A model that `fully_shard` (FSDP2) has spread over processes, while it is evaluated.

Its layers gather their weights when they are called, as in training. What is around them (embeddings, norm, head) is used piece
by piece here, not through the model's own forward, so its weights stay gathered meanwhile. No gradient of a weight is reduced:
there is none, and one that is half accumulated is the loop's affair.

FSDP2 has no public way to ask what its settings are; the names are those of PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule

from spt_fast.models.layers import layers_of

_SETTINGS = ("reduce_grads", "reshard_after_backward", "post_forward_mesh_info")


def sharded_parts(model: torch.nn.Module) -> list[Any]:
    """The modules that `fully_shard` was called on; none: it was not."""
    return [part for part in model.modules() if isinstance(part, FSDPModule)]


def reshard(model: torch.nn.Module) -> None:
    """Have every rank hold its shards alone, as behind an update; parameters are then those that the optimiser has."""
    for part in sharded_parts(model):
        part.reshard()


@torch.no_grad()
def begin(model: torch.nn.Module) -> None:
    """Make sure that the first pass of all is the model's own, with its weights not frozen yet.

    By that pass FSDP2 sees which module is the root, and which weights take a gradient, of what dtype.
    """
    if sharded_parts(model):
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=_device(model)), use_cache=False)
        reshard(model)


@contextmanager
def gathered(model: torch.nn.Module) -> Iterator[None]:
    """Hold what is around the layers whole; behind it, shards and settings are as they were."""
    parts = sharded_parts(model)
    if not parts:
        yield
        return
    groups = {id(group): group for part in parts for group in part._get_fsdp_state()._fsdp_param_groups}.values()
    before = [(group, {name: getattr(group, name) for name in _SETTINGS}) for group in groups]
    within = {part for layer in layers_of(model) for part in layer.modules()}
    try:
        for group in groups:
            group.reduce_grads = False
        for part in (part for part in parts if part not in within):
            for group in part._get_fsdp_state()._fsdp_param_groups:
                group.reshard_after_backward, group.post_forward_mesh_info = False, None
                group.unshard()  # not the module's, which takes frozen weights for all that will ever be
                group.wait_for_unshard()
        yield
    finally:
        for group, settings in before:
            for name, value in settings.items():
                setattr(group, name, value)
        reshard(model)


def _device(model: torch.nn.Module) -> torch.device:
    """Where it computes, which is not where shards are that are kept in the CPU's memory."""
    device: torch.device = sharded_parts(model)[0]._get_fsdp_state()._device
    return device
