"""curve.csv of a cell: a line a step, with the loss and, where the step was evaluated, its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from spt_fast.errors import UnstorableError
from spt_fast.types import Metric, TrainingStep

HEADER = "step,loss,grad_norm"


def as_csv(curve: Sequence[TrainingStep]) -> bytes:
    """The losses alone, as they are kept when a cell has been trained.

    Raises:
        UnstorableError: a loss or a norm is no finite number.
    """
    for each in curve:
        for name, value in (("loss", each.loss), ("norm of the gradient", each.grad_norm)):
            if not math.isfinite(value):
                raise UnstorableError(f"what was learnt cannot be kept: the {name} of step {each.step} is {value}")
    lines = [HEADER, *(f"{int(s.step)},{float(s.loss)!r},{float(s.grad_norm)!r}" for s in curve)]
    return ("\n".join(lines) + "\n").encode()


def with_metrics(curve: str, points: Mapping[int | None, Sequence[Metric]]) -> str:
    """The metrics of evaluated steps behind the losses; step 0 has metrics and no loss."""
    header, *lines = curve.splitlines() or [""]
    names = [metric.name for metric in next(iter(points.values()))]
    if header != HEADER:  # metrics are there already, from an earlier try
        lines = [",".join(line.split(",")[:3]) for line in lines]
    losses = {int(first): line for line in lines if (first := line.split(",", 1)[0]).isdecimal()}
    out = [",".join([HEADER, *names])]
    for step in sorted({*losses, *(s for s in points if s is not None)}):
        values = {m.name: m.value for m in points.get(step, ())}
        cells = ["" if name not in values or math.isnan(values[name]) else repr(values[name]) for name in names]
        out.append(",".join([losses.get(step, f"{step},,"), *cells]))
    return "\n".join(out) + "\n"


def losses(curve: str) -> dict[int, float]:
    """Training loss by step, in nats a token.

    Raises:
        ValueError: it is no curve.
    """
    fields = (line.split(",") for line in curve.splitlines()[1:])
    return {int(step): float(loss) for step, loss, *_ in fields if loss}
