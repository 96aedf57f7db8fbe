"""The layers of a Transformers model, and how to have one do something else for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


def layers_of(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of a model, in order; none where Transformers does not say what they are."""
    return [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]


def last_mlp(module: torch.nn.Module) -> torch.nn.Module | None:
    """What the last layer does with each position for itself, where it goes by the usual name."""
    layers = layers_of(module)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    return mlp if isinstance(mlp, torch.nn.Module) else None


def frozen_linears(module: torch.nn.Module, at_least: float) -> list[torch.nn.Linear]:
    """The linear layers with so many weights or more, none of which takes a gradient and nothing is put around."""
    return [
        part
        for part in module.modules()
        if type(part) is torch.nn.Linear
        and part.weight.numel() >= at_least
        and not part.weight.requires_grad
        and "forward" not in vars(part)
    ]


@contextmanager
def calling(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """A module that does this instead, for a while. Accelerate's hooks, which do the same, are put back afterwards."""
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            vars(module)["forward"] = before
