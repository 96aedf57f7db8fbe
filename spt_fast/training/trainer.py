"""Learn the vectors of a soft prompt; the model stays as it is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from spt_fast.config import Learning, SoftPromptConfig
from spt_fast.errors import DataError, TrainingError, first_line
from spt_fast.models import memory
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.prompts.initialize import initialize
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.training.batches import Batch, TuningRow, batches, collate
from spt_fast.training.encoders import encoder
from spt_fast.training.optimizers import optimizer, schedule
from spt_fast.types import Position, TrainingStep
from spt_kernels import linear_cross_entropy

T = TypeVar("T")


def learn(
    model: FrozenModel,
    rows: Sequence[TuningRow],
    config: SoftPromptConfig,
    *,
    seed: int,
    start: npt.NDArray[np.float32] | None = None,
    pad_id: int = 0,
    on_step: Callable[[TrainingStep], None] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> dict[int, SoftPrompt]:
    """Learn one soft prompt; the vectors at each of `config.checkpoints` (0: before the first step).

    A function of its arguments: bit for bit on a CPU, up to the order of a GPU's sums elsewhere. The caller loops over
    tasks and seeds with one model.

    A batch that does not fit into memory is worked on in micro-batches of half its rows, and half again, whose gradients add
    up to the batch's own. The provenance then says of how many rows the smallest were (`micro_batch`).

    With `config.patience` some rows are held out, and the checkpoints from the stop on, the last one at least, have the
    vectors whose loss on these was the lowest. Their provenance says after which step that was (`best_step`).

    Args:
        model: loaded once, left bit-identical.
        rows: worked examples.
        config: length, steps, optimiser and where the vectors stand.
        seed: of the vectors' start, of an encoder's weights, of the order of the rows and of which are held out.
        start: `[P, H]`, where the vectors, or the inputs of their encoder, start; None: `initialize`, without a vocabulary.
        pad_id: any token id; what padding holds is never looked at.
        on_step: told of each step, after its update.
        provenance: kept with the vectors, beside seed, step and position.

    Raises:
        DataError: no rows, or none beside the held-out ones, a row longer than the model's positions, or one without BOS for
            `after_bos`.
        TrainingError: the loss, its gradient or the vectors are no longer finite, or one row alone does not fit into memory.
    """
    check_rows(rows, model, length=config.length, position=config.position)
    rows, held_out = _parted(rows, config, seed)
    # The master copy is fp32, whatever the model's dtype: an update of 1e-3 would be lost on most bf16 numbers near 1.
    start_PH = torch.tensor(initialize(config, model.hidden_size, seed) if start is None else start, device=model.device)
    learner = encoder(config, start_PH, seed)
    update = optimizer(config, learner.parameters())
    rates = schedule(config, update)
    origin = {**(provenance or {}), "seed": str(seed), "position": config.position}
    if config.encoder is not None:
        origin["trained_parameters"] = str(sum(parameter.numel() for parameter in learner.parameters()))
    learnt: dict[int, SoftPrompt] = {}
    smallest = config.batch_size
    best = _Best()

    def keep(step: int, vectors_PH: Tensor, **more: str) -> None:
        if not vectors_PH.isfinite().all():
            raise TrainingError(f"step {step}: the vectors overflow; a smaller lr than {config.lr:g} may help")
        cut = {"micro_batch": str(smallest)} if smallest < config.batch_size else {}
        origin_of_step = {**origin, **cut, **more, "step": str(step)}
        learnt[step] = SoftPrompt(vectors=vectors_PH.detach().cpu().numpy(), provenance=origin_of_step)

    def done(step: int) -> bool:
        """Keep what is to be kept of a step; whether it was the last one."""
        vectors_PH = learner().detach()
        if step in config.checkpoints:
            keep(step, vectors_PH)
        if config.patience is None or (step % config.check_every and step < config.steps):
            return False
        loss = mean_loss(model, vectors_PH, held_out, config.batch_size, config.position, pad_id=pad_id)
        require_finite("loss on held-out rows", loss, step, config)
        best.see(step, loss, vectors_PH)
        return step - best.step >= config.patience

    stream = islice(batches(rows, config.batch_size, seed=seed), config.steps)
    done(0)
    for step, batch_rows in enumerate(stream, start=1):
        made_PH = learner()
        # A leaf of its own: here the model's part of the gradient ends, over all micro-batches, and an encoder's begins.
        vectors_PH = made_PH.detach().requires_grad_(True)
        loss, gradient_PH, rows_at_once = loss_and_gradient(model, vectors_PH, batch_rows, config.position, pad_id=pad_id)
        if rows_at_once < len(batch_rows):
            smallest = min(smallest, rows_at_once)
        norm = torch.linalg.vector_norm(gradient_PH)
        report = TrainingStep(step=step, loss=loss.item(), grad_norm=norm.item())
        require_finite("loss", report.loss, step, config)
        require_finite("gradient norm", report.grad_norm, step, config)
        if config.max_grad_norm is not None and report.grad_norm > config.max_grad_norm:
            gradient_PH = gradient_PH * (config.max_grad_norm / norm)
        update.zero_grad()
        made_PH.backward(gradient_PH)
        update.step()
        rates.step()
        last = done(step)
        if on_step is not None:
            on_step(report)
        if last:
            break
    if config.patience is not None:
        for point in config.checkpoints:
            if point >= min(step, config.steps):
                keep(point, best.vectors_PH, best_step=str(best.step))
    return learnt


@dataclass
class _Best:
    """The vectors with the lowest loss on held-out rows so far."""

    step: int = 0
    loss: float = math.inf
    vectors_PH: Tensor = field(default_factory=lambda: torch.empty(0))

    def see(self, step: int, loss: float, vectors_PH: Tensor) -> None:
        """Take these vectors if they are better."""
        if loss < self.loss:
            self.step, self.loss, self.vectors_PH = step, loss, vectors_PH.clone()


def _parted(rows: Sequence[TuningRow], config: SoftPromptConfig, seed: int) -> tuple[Sequence[TuningRow], Sequence[TuningRow]]:
    """The rows that are learnt, and those that are held out: a sample, for published rows are often sorted by subject."""
    if config.patience is None:
        return rows, ()
    if len(rows) <= config.held_out:
        raise DataError(f"of {len(rows)} tuning rows, {config.held_out} are to be held out; lower {config.name}.held_out")
    chosen = set(random.Random(f"held-out rows {seed}").sample(range(len(rows)), config.held_out))
    return [row for i, row in enumerate(rows) if i not in chosen], [rows[i] for i in sorted(chosen)]


def loss_and_gradient(
    model: FrozenModel, vectors_PH: Tensor, rows: Sequence[TuningRow], position: Position = "front", *, pad_id: int = 0
) -> tuple[Tensor, Tensor, int]:
    """`target_loss` of a batch and its gradient, in as few forward and backward passes as the memory has room for.

    What has fitted is remembered with the model, for its next batches and soft prompts.

    Returns:
        The loss, a scalar; its gradient `[P, H]`; and how many rows a pass had.

    Raises:
        TrainingError: one row alone does not fit.
    """
    (loss, gradient_PH), size = as_memory_allows(
        model, vectors_PH, rows, lambda size: _accumulated(model, vectors_PH, rows, position, size, pad_id)
    )
    return loss, gradient_PH, size


@torch.no_grad()
def mean_loss(
    model: FrozenModel,
    vectors_PH: Tensor,
    rows: Sequence[TuningRow],
    batch_size: int,
    position: Position = "front",
    *,
    pad_id: int = 0,
) -> float:
    """Mean negative log-likelihood, in nats, of the target tokens of rows that nothing is learnt from.

    Raises:
        TrainingError: one row alone does not fit into memory.
    """
    ordered = sorted(rows, key=len)
    summed = 0.0
    for start in range(0, len(ordered), batch_size):
        batch_rows = ordered[start : start + batch_size]

        def part(size: int, batch_rows: Sequence[TuningRow] = batch_rows) -> float:
            parts = (collate(batch_rows[i : i + size], pad_id).to(model.device) for i in range(0, len(batch_rows), size))
            return sum(target_loss(model, vectors_PH, each, position).item() * len(each.targets) for each in parts)

        summed += as_memory_allows(model, vectors_PH, batch_rows, part)[0]
    return summed / sum(len(row.target_ids) for row in rows)


def as_memory_allows(
    model: FrozenModel, vectors_PH: Tensor, rows: Sequence[TuningRow], work: Callable[[int], T]
) -> tuple[T, int]:
    """What comes of work on a batch with so many rows at once, and how many they were: as many as memory has room for.

    Raises:
        TrainingError: one row alone does not fit.
    """
    width = max(map(len, rows)) + len(vectors_PH)
    while True:
        size = _micro_batch(len(rows), width, model.most_positions)
        try:
            return work(size), size
        except Exception as e:
            if not memory.ran_out(e):
                raise
            said = first_line(e)
        # Not while it is handled: the frames that an error comes with hold what the pass had taken.
        memory.release()
        if size == 1:
            raise TrainingError(
                f"out of memory with {len(rows)} tuning rows taken one by one, {width - len(vectors_PH)} tokens the longest, "
                f"and {len(vectors_PH)} soft positions ({memory.described()} without it: {said}); give the task shorter rows "
                "as data_files or the model a GPU with more memory, or leave the task out for this model"
            )
        # Between the whole, which was too much, and its half: lengths vary, and neither is to be tried in vain often.
        model.most_positions = size * width * 3 // 4


def _micro_batch(rows: int, width: int, most_positions: int | None) -> int:
    """How many rows of a batch are worked on at once: all, half, a quarter, ..., and at least one."""
    size = rows
    while most_positions is not None and size > 1 and size * width > most_positions:
        size //= 2
    return size


def _accumulated(
    model: FrozenModel, vectors_PH: Tensor, rows: Sequence[TuningRow], position: Position, size: int, pad_id: int
) -> tuple[Tensor, Tensor]:
    """Loss and gradient over micro-batches of `size` rows.

    The loss is a mean over target tokens, so each micro-batch counts by how many of them it has.
    """
    total = sum(len(row.target_ids) for row in rows)
    losses, gradient_PH = [], torch.zeros_like(vectors_PH)
    for start in range(0, len(rows), size):
        batch = collate(rows[start : start + size], pad_id).to(model.device)
        part = target_loss(model, vectors_PH, batch, position) * (len(batch.targets) / total)
        (part_gradient_PH,) = torch.autograd.grad(part, [vectors_PH])
        gradient_PH += part_gradient_PH
        losses.append(part.detach())
    return torch.stack(losses).sum(), gradient_PH


def target_loss(model: FrozenModel, vectors_PH: Tensor, batch: Batch, position: Position = "front") -> Tensor:
    """Mean negative log-likelihood, in nats, of the batch's target tokens behind the soft prompt: a scalar.

    The head sees the positions that predict a target token, `[N, H]`, never `[B, T, V]`.
    """
    inputs_BTH = splice(model.embed(batch.ids), vectors_PH, position)
    # Whatever the position, what predicts a target token stands P places to the right of where it was without vectors.
    P, T = vectors_PH.shape[0], inputs_BTH.shape[1]
    positions_N = batch.rows * T + batch.columns + P
    head = model.head
    if head is not None and head.is_linear:
        hidden_NH = model.hidden_at(inputs_BTH, positions_N)
        return linear_cross_entropy(hidden_NH, head.weight, batch.targets.to(hidden_NH.device))
    logits_NV = model.logits_at(inputs_BTH, positions_N)
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    return F.cross_entropy(logits_NV, batch.targets.to(logits_NV.device))


def splice(embedded_BTH: Tensor, vectors_PH: Tensor, position: Position) -> Tensor:
    """Put the vectors, in the model's dtype, in front of every row or behind its first token: `[B, P + T, H]`."""
    soft_BPH = vectors_PH.to(embedded_BTH.dtype).expand(embedded_BTH.shape[0], -1, -1)
    head = 1 if position == "after_bos" else 0
    return torch.cat([embedded_BTH[:, :head], soft_BPH, embedded_BTH[:, head:]], dim=1)


def check_rows(rows: Sequence[TuningRow], model: FrozenModel, *, length: int = 0, position: Position = "front") -> None:
    """Refuse rows that cannot be learnt behind `length` soft positions.

    Raises:
        DataError: there are none, one is too long, one is without BOS for `after_bos`, or they are of another tokenizer.
    """
    if not rows:
        raise DataError("there are no rows to tune on")
    longest, most = max(map(len, rows)), model.max_position_embeddings
    if longest + length > most:
        raise DataError(
            f"a tuning row of {longest} tokens and {length} soft positions do not fit the model's {most} positions; "
            "give shorter rows as data_files, or leave the task out for this model"
        )
    if position == "after_bos" and not all(row.prompt_ids for row in rows):
        raise DataError("position: after_bos needs a first token in every prompt; one is empty")
    # On a GPU an id outside the table is a device-side assertion, after which the process is of no use.
    highest = max(max((*row.prompt_ids, *row.target_ids)) for row in rows)
    if highest >= model.vocab_size:
        raise DataError(
            f"token id {highest} is outside the model's vocabulary of {model.vocab_size}; is it the right tokenizer?"
        )


def require_finite(what: str, value: float, step: int, config: Learning) -> None:
    """Refuse to go on from a number that is none.

    Raises:
        TrainingError: it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise TrainingError(f"step {step}: the {what} is {value}; a smaller lr than {config.lr:g} may help")
