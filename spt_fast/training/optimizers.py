"""How a gradient becomes an update: the optimiser, and its rate from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR

from spt_fast.config import OPTIMIZERS, Learning
from spt_fast.errors import ConfigError, boundary

UNIT = 2.0**20
"""Larger than the root mean square of any vectors, and a power of two, so that what is multiplied by it loses no bit."""


def optimizer(config: Learning, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """The optimiser that is asked for (`config.OPTIMIZERS`), at the rate `lr`.

    Raises:
        ConfigError: an installed package offers it, and it cannot be used.
    """
    with boundary(ConfigError, f"optimizer {config.optimizer}"):
        made = OPTIMIZERS[config.optimizer](config, list(parameters))
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(f"optimizer {config.optimizer}: made {type(made).__name__}, and must make a torch.optim.Optimizer")
    return made


def adamw(config: Learning, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """AdamW."""
    return torch.optim.AdamW(parameters, lr=config.rate, betas=config.betas, weight_decay=config.weight_decay)


def adafactor(config: Learning, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """As Lester et al. (arXiv 2104.08691, section 3.1) have it: beta2 decay 0.8, updates clipped at a root mean square of 1, no
    momentum, the rate not scaled by the size of what is learnt.
    """
    # PyTorch's multiplies the rate by max(eps2, RMS of the parameter), always, and bounds the rate by 1 / sqrt(step). With a
    # large eps2 and a rate that is as much smaller, the product is the rate asked for, and the bound is out of reach.
    return torch.optim.Adafactor(
        parameters, lr=config.rate / UNIT, eps=(1e-15, UNIT), beta2_decay=-0.8, d=1.0, weight_decay=config.weight_decay * UNIT
    )


def schedule(config: Learning, optimizer: torch.optim.Optimizer) -> LambdaLR:
    """The rate of each step, `step()` of which goes on to the next."""
    return LambdaLR(optimizer, lambda done: rate(config, done + 1))


def rate(config: Learning, step: int) -> float:
    """The share of `lr` that a step (1 for the first) is taken with; none is taken with nothing."""
    if step <= config.warmup:
        return step / config.warmup
    if config.schedule == "constant":
        return 1.0
    left = max(0, config.steps - step + 1) / (config.steps - config.warmup)
    return left if config.schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
