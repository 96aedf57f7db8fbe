"""A model that `fully_shard` (FSDP2) has spread over processes, while it is evaluated.

Its layers gather their weights when they are called, as in training. What is around them (embeddings, norm, head) is used piece
by piece here, not through the model's own forward, so its weights stay gathered meanwhile. No gradient of a weight is reduced:
there is none, and one that is half accumulated is the loop's affair.

FSDP2 has no public way to ask what its settings are; the names are those of PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device_of(model)), use_cache=False)
        reshard(model)


@contextmanager
def gathered(model: torch.nn.Module) -> Iterator[Callable[[], None]]:
    """Hold what is around the layers whole; behind it, shards and settings are as they were.

    What it yields is to be called after a pass that failed: FSDP2 is then in the middle of it, and has to begin anew.
    """
    parts = sharded_parts(model)
    if not parts:
        yield lambda: None
        return
    groups = {id(group): group for part in parts for group in _groups(part)}.values()
    before = [(group, {name: getattr(group, name) for name in _SETTINGS}) for group in groups]
    around = [group for part in _around_layers(model, parts) for group in _groups(part)]

    def hold() -> None:
        for group in around:
            group.unshard()  # not the module's, which takes frozen weights for all that will ever be
            group.wait_for_unshard()

    def begin_anew() -> None:
        _forget_pass(parts)
        hold()

    try:
        for group in groups:
            group.reduce_grads = False
        for group in around:
            group.reshard_after_backward, group.post_forward_mesh_info = False, None
        hold()
        yield begin_anew
    except BaseException:
        _forget_pass(parts)
        raise
    finally:
        for group, settings in before:
            for name, value in settings.items():
                setattr(group, name, value)
        reshard(model)


def _forget_pass(parts: Sequence[Any]) -> None:
    """Forget a pass that was not finished, and hold shards alone; a gradient that is summed up over passes stays."""
    summed = [(group, group._partial_reduce_output) for part in parts for group in _groups(part)]
    for part in parts:
        if part._get_fsdp_state()._is_root:
            part.reset_iter_state()
    for group, partly in summed:
        group._partial_reduce_output = partly


def _groups(part: Any) -> Sequence[Any]:
    groups: Sequence[Any] = part._get_fsdp_state()._fsdp_param_groups
    return groups


def _around_layers(model: torch.nn.Module, parts: Sequence[Any]) -> list[Any]:
    """Those that are no layer, no part of one, and nothing around one alone (a wrapper that checkpoints or compiles it)."""
    layers = layers_of(model)
    within = {part for layer in layers for part in layer.modules()}
    found = []
    for part in (part for part in parts if part not in within):
        inside = sum(each in part.modules() for each in layers)
        if inside in (0, len(layers)):
            found.append(part)
    return found


def device_of(model: torch.nn.Module) -> torch.device:
    """Where it computes, which is not where shards are that are kept in the CPU's memory."""
    for part in sharded_parts(model):
        device: torch.device = part._get_fsdp_state()._device
        return device
    return next(model.parameters()).device
