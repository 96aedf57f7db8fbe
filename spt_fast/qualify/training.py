"""A tuning step on random weights: its operations, its seconds, its memory."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from spt_fast.qualify.contract import Given, Measured

if TYPE_CHECKING:
    from spt_fast.config import SoftPromptConfig
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.random_model import Shape
    from spt_fast.training.batches import TuningRow

BATCH, PROMPT, TARGET, LENGTH, LR = 8, 122, 6, 10, 1e-3
ENDLESS = 100_000
"""Steps that nobody waits for: training is stopped when it has taken as many as are wanted."""
STEPS, WARM_UP = 10, 3
LEARNING_LR = 0.05
"""A rate at which the loss of a random model falls within `STEPS`."""


class StoppedError(Exception):
    """Enough steps were taken."""


def operations(shape: Shape, rows: Sequence[TuningRow]) -> int:
    """Of a step: forward, and backward through activations only; head and last MLP at the targets, the rest everywhere."""
    last_mlp = 3 * shape.hidden * shape.inner
    lengths = [len(row) + LENGTH for row in rows]
    everywhere = sum(n * (shape.body - last_mlp + 2 * shape.layers * shape.heads * shape.width * n) for n in lengths)
    targets = sum(len(row.target_ids) for row in rows)
    return 4 * (everywhere + targets * (last_mlp + shape.hidden * shape.vocab))


def random_rows(vocab: int, seed: int = 0) -> list[TuningRow]:
    """A batch."""
    from spt_fast.training.batches import TuningRow

    rng = random.Random(seed)
    ids = [tuple(rng.randrange(vocab) for _ in range(PROMPT + TARGET)) for _ in range(BATCH)]
    return [TuningRow(prompt_ids=row[:PROMPT], target_ids=row[PROMPT:]) for row in ids]


def settings(lr: float = LR) -> SoftPromptConfig:
    """What is learnt with, step by step until it is stopped."""
    from spt_fast.config import SoftPromptConfig

    return SoftPromptConfig.paper(length=LENGTH, steps=ENDLESS, batch_size=BATCH, lr=lr)


def until_stopped(pause: Callable[[float | None], bool], learn: Callable[[Callable[[Any], None]], Any]) -> None:
    """Learn until `pause`, which is told the loss of each step (None before the first), wants no other one."""

    def on_step(step: Any) -> None:
        if not pause(step.loss):
            raise StoppedError

    if pause(None):
        with suppress(StoppedError):
            learn(on_step)


def steps_of(model: FrozenModel, rows: Sequence[TuningRow], count: int, *, lr: float = LR) -> tuple[list[float], list[float]]:
    """Losses of so many steps on the same rows, and their seconds. A loss was read, so the device is done."""
    from spt_fast.training.trainer import learn

    losses: list[float] = []
    times = [time.perf_counter()]

    def pause(loss: float | None) -> bool:
        if loss is not None:
            losses.append(loss)
            times.append(time.perf_counter())
        return len(losses) < count

    until_stopped(pause, lambda on_step: learn(model, rows, settings(lr), seed=0, on_step=on_step))
    return losses, [after - before for before, after in pairwise(times)]


def measure_first(given: Given) -> Measured:
    """The smaller model's step."""
    return _measure(given, 0)


def measure_second(given: Given) -> Measured:
    """The larger model's step."""
    return _measure(given, 1)


def _measure(given: Given, place: int) -> Measured:
    """Seconds and memory of a step, its share of the matrix rate, and whether the loss falls."""
    from spt_fast.models import memory
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.random_model import build
    from spt_fast.qualify.sizes import dtype_of, trained

    name, shape = trained(given.size)[place]
    model = FrozenModel(build(shape, dtype=dtype_of(given), device=given.device))
    rows = random_rows(shape.vocab)
    idle = _rest(given.device)
    losses, seconds = steps_of(model, rows, WARM_UP + STEPS, lr=LEARNING_LR)
    peak = memory.peak().get("gpu_bytes" if given.device == "cuda" else "rss_bytes", 0.0)
    median = statistics.median(seconds[WARM_UP:])
    rate = given.rate("product_flops_a_s")
    return {
        "model": name,
        "dtype": dtype_of(given),
        "losses": losses,
        "seconds_a_step": median,
        "examples_a_second": BATCH / median,
        "operations_a_step": operations(shape, rows),
        "share_of_matrix_rate": None if rate is None else operations(shape, rows) / median / rate,
        "peak_bytes_above_the_idle_model": peak - idle,
    }


def _rest(device: str) -> float:
    """Memory of the model alone; the peak counts from here."""
    from spt_fast.models import memory

    memory.release()
    memory.forget_peak()
    if device == "cuda":
        import torch

        return float(torch.cuda.memory_allocated())
    return memory.peak()["rss_bytes"]
