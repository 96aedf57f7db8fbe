"""Put everything back: a training goes on as if nobody had looked.

What evaluation changes for a while are flags (`requires_grad`, `training`) and what hangs on modules; what it could use up are
random numbers; what a model's own forward may change are buffers (a rotary table that grows, counters of experts). Weights,
gradients and the state of the optimiser are never written to.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spt_fast.models.unwrapped import has_compiled


@contextmanager
def untouched(model: torch.nn.Module, *, autocast: torch.dtype | None, device: torch.device) -> Iterator[None]:
    """Within, an evaluation may do as it likes with `model`; behind it, also behind an error, all is as it was.

    Whatever the loop is in: gradients are on where they are wanted, what was compiled runs as it is written, numbers are of
    the weights' dtype (or autocast to another one), and new tensors are fp32 and on the CPU unless they say otherwise.

    Args:
        model: with what is around it.
        autocast: None: as the weights are.
        device: of the weights.
    """
    with ExitStack() as stack:
        stack.enter_context(_randomness())
        stack.enter_context(_default_dtype())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=autocast is not None, dtype=autocast))
        if has_compiled(model):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_kept(model))
        yield


@contextmanager
def _randomness() -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


@contextmanager
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _kept(model: torch.nn.Module) -> Iterator[None]:
    weights = [(weight, weight.requires_grad, weight.grad) for weight in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    attributes = [_Attributes(part) for part in _parts(model)]
    try:
        yield
    finally:
        for each in attributes:
            each.put_back()
        _put_back_buffers(buffers)
        for weight, flag, gradient in weights:
            weight.requires_grad_(flag)
            if weight.grad is not gradient:
                weight.grad = gradient


def _parts(model: torch.nn.Module) -> list[Any]:
    """Its modules and their configs, each once."""
    found: list[Any] = list(model.modules())
    for name in ("config", "generation_config"):
        configs = (vars(part).get(name) for part in list(found))
        found += {id(config): config for config in configs if hasattr(config, "__dict__")}.values()
    return found


class _Attributes:
    """What an object holds, and what is in the dictionaries among it: hooks, buffers, submodules.

    Parameters are left out: `fully_shard` puts whole ones in the place of its shards, and takes them away, by a state of its
    own.
    """

    def __init__(self, held_by: Any) -> None:
        self._vars: dict[str, Any] = vars(held_by)
        self._before = dict(self._vars)
        self._inside = {
            name: dict(value) for name, value in self._vars.items() if isinstance(value, dict) and name != "_parameters"
        }

    def put_back(self) -> None:
        """Give it what it held."""
        if not _same(self._vars, self._before):
            self._vars.clear()
            self._vars.update(self._before)
        for name, before in self._inside.items():
            now = self._before[name]
            if not _same(now, before):
                now.clear()
                now.update(before)


def _same(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    """Whether two dictionaries hold the very same objects in the same order."""
    return list(now) == list(before) and all(now[name] is value for name, value in before.items())


def _put_back_buffers(buffers: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)
