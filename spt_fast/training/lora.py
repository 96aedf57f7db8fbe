"""Learn low-rank changes of a model's weights: the control beside a soft prompt, on the same rows in the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn import Parameter

from spt_fast.config import Lora
from spt_fast.errors import TrainingError
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.lora import LearningLora
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.training.batches import TuningRow, batches, target_tokens
from spt_fast.training.memory_plan import as_memory_allows
from spt_fast.training.optimizers import optimizer, schedule
from spt_fast.training.run import check_rows, require_finite
from spt_fast.training.trainer import target_loss
from spt_fast.types import TrainingStep


def learn_lora(
    model: FrozenModel,
    rows: Sequence[TuningRow],
    config: Lora,
    *,
    seed: int,
    pad_id: int = 0,
    on_step: Callable[[TrainingStep], None] | None = None,
    provenance: Mapping[str, str] | None = None,
    last: Sequence[int] = (),
) -> dict[int, LoraAdapter]:
    """Learn one adapter; as it is at each of `config.checkpoints` (0: before the first step, when it changes nothing).

    Batches, targets, loss and optimiser are those of `trainer.learn` with the same settings and seed: what differs is what the
    gradient goes to. The weights that are learnt are fp32, whatever the model's dtype.

    Args:
        model: loaded once, left bit-identical.
        rows: worked examples.
        config: rank, layers, steps, optimiser.
        seed: of the start, of the dropout and of the order of the rows.
        pad_id: any token id; what padding holds is never looked at.
        on_step: told of each step, after its update.
        provenance: kept with the adapter, beside seed and step.
        last: rows that are learnt on last.

    Raises:
        DataError: no rows, or a row longer than the model's positions.
        ModelError: PEFT is missing, or the model has no such layers.
        TrainingError: the loss, its gradient or the weights are no longer finite, or one row alone does not fit into memory.
    """
    check_rows(rows, model)
    learning = LearningLora(model, config, seed)
    try:
        parameters = list(learning.parameters.values())
        update = optimizer(config, parameters)
        rates = schedule(config, update)
        origin = {**(provenance or {}), "seed": str(seed)}
        learnt: dict[int, LoraAdapter] = {}
        smallest = config.batch_size

        def keep(step: int) -> None:
            if step in config.checkpoints:
                cut = {"micro_batch": str(smallest)} if smallest < config.batch_size else {}
                try:
                    learnt[step] = learning.adapter({**origin, **cut, "step": str(step)})
                except ValueError as e:
                    raise TrainingError(f"step {step}: {e}; a smaller lr than {config.rate:g} may help") from None

        keep(0)
        order = batches(rows, config.batch_size, seed=seed, last=last)
        for step, batch_rows in enumerate(islice(order, config.steps), start=1):
            with learning.training():
                loss, gradients, rows_at_once = _loss_and_gradients(model, parameters, batch_rows, pad_id)
            if rows_at_once < len(batch_rows):
                smallest = min(smallest, rows_at_once)
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each).cpu() for each in gradients]))
            report = TrainingStep(step=step, loss=loss, grad_norm=norm.item())
            require_finite("loss", report.loss, step, config, model)
            require_finite("gradient norm", report.grad_norm, step, config, model)
            clip = 1.0
            if config.max_grad_norm is not None and report.grad_norm > config.max_grad_norm:
                clip = config.max_grad_norm / report.grad_norm
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient * clip
            update.step()
            rates.step()
            keep(step)
            if on_step is not None:
                on_step(report)
        return learnt
    finally:
        learning.close()


def _loss_and_gradients(
    model: FrozenModel, parameters: Sequence[Parameter], rows: Sequence[TuningRow], pad_id: int
) -> tuple[float, list[Tensor], int]:
    """`target_loss` of a batch without soft positions, its gradients, and how many rows a pass had."""
    nothing_PH = torch.empty(0, model.hidden_size, device=model.device)

    def work(size: int) -> tuple[float, list[Tensor]]:
        total = target_tokens(rows)
        loss, gradients = 0.0, [torch.zeros_like(parameter) for parameter in parameters]
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            part = target_loss(model, nothing_PH, some, pad_id=pad_id) * (target_tokens(some) / total)
            for gradient, of_part in zip(gradients, torch.autograd.grad(part, parameters), strict=True):
                gradient += of_part
            loss += part.item()
        return loss, gradients

    (loss, gradients), size = as_memory_allows(model, list(map(len, rows)), 0, work)
    return loss, gradients, size
