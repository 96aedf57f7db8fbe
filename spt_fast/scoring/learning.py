"""Whether a training taught anything: how far its loss fell, held against how much batches differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from spt_fast.types import TrainingStep

MARGIN = 2.0
"""Standard errors that the loss has to fall by."""


def loss_fall(curve: Sequence[TrainingStep]) -> dict[str, float]:
    """How far the loss fell, in nats a token: its mean over the first twentieth of the steps (at least two) less that over the
    last quarter, with the standard error of this difference; empty for fewer than eight steps.

    Batches differ, and each is seen once: single losses cannot be compared.
    """
    losses = [point.loss for point in curve]
    if len(losses) < 8:
        return {}
    first, last = losses[: max(2, len(losses) // 20)], losses[-(len(losses) // 4) :]
    # Of few first steps the spread is not known; that of the last ones, where little is learnt any more, is the batches' own.
    spread = variance(last)
    stderr = math.sqrt(spread / len(first) + spread / len(last))
    return {"loss_fall": fmean(first) - fmean(last), "loss_fall_stderr": stderr}


def has_fallen(found: Mapping[str, float]) -> bool | None:
    """Whether the loss fell by more than chance; None where it is not known."""
    if "loss_fall" not in found:
        return None
    return found["loss_fall"] > MARGIN * found["loss_fall_stderr"]
