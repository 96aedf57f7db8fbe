"""The same batches through PEFT, as a plain loop does it: what the trainer is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from spt_fast.config import SoftPromptConfig
from spt_fast.training.batches import TuningRow, batches


def with_peft(folder: Path, settings: Any) -> Any:
    """A model with a PEFT prompt; its `prompt_encoder["default"]` is what is learnt."""
    import peft

    # Eager attention, which alone caps Gemma 2's attention logits.
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return peft.get_peft_model(base, settings).eval()


def losses(
    tuned: Any,
    rows: Sequence[TuningRow],
    config: SoftPromptConfig,
    seed: int,
    optimizer: Callable[[list[Any]], torch.optim.Optimizer],
    factor: Callable[[int], float] = lambda step: 1.0,
) -> list[float]:
    """Learn the prompt of `tuned`, and say what the loss was in each step; `factor` is the rate's, by step from 1 on."""
    learnt = list(tuned.prompt_encoder["default"].parameters())
    update = optimizer(learnt)
    top = update.param_groups[0]["lr"]
    found = []
    for step, batch in zip(range(1, config.steps + 1), batches(rows, config.batch_size, seed=seed), strict=False):
        width = max(len(row.prompt_ids) + len(row.target_ids) for row in batch)
        ids = torch.full((len(batch), width), 258)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for i, row in enumerate(batch):
            end = len(row.prompt_ids) + len(row.target_ids)
            ids[i, :end] = torch.tensor((*row.prompt_ids, *row.target_ids))
            labels[i, len(row.prompt_ids) : end] = torch.tensor(row.target_ids)
            mask[i, :end] = 1
        loss = tuned(input_ids=ids, attention_mask=mask, labels=labels).loss
        update.zero_grad()
        loss.backward()
        update.param_groups[0]["lr"] = top * factor(step)
        update.step()
        found.append(loss.item())
    return found
