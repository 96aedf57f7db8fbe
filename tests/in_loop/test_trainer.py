"""The callback of docs/howto/in-the-loop.md, taken out of the page, in a training by Transformers' Trainer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from spt_fast import zoo

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "in-the-loop.md").read_text(encoding="utf-8")
CODE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "TrainerCallback" in block)


def trained(folder: Path, *, looks: bool) -> tuple[Trainer, list[torch.Tensor]]:
    path = zoo.find("zoo/base-40")
    model = AutoModelForCausalLM.from_pretrained(path, attention_dropout=0.1, dtype=torch.float32)
    ids = torch.randint(5, 200, (16, 12), generator=torch.Generator().manual_seed(0))
    settings = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        use_cpu=True,
        bf16=True,
        report_to="none",
        save_strategy="no",
        logging_steps=100,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": row, "labels": row} for row in ids]
    trainer = Trainer(model, settings, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(path))
    found: dict[str, Any] = {}
    exec(compile(CODE, "in-the-loop.md", "exec"), found)
    if looks:
        asking = found["SoftPromptEvaluation"]
        trainer.add_callback(asking(trainer, ["zoo-mcq"], every=2, limit=3, cold_steps=1, steps=1))
    trainer.train()
    return trainer, [weight.detach().clone() for weight in model.parameters()]


def test_the_callback_of_the_page_logs_and_changes_nothing(tmp_path: Path) -> None:
    (looked, with_one), (_, without) = (trained(tmp_path, looks=looks) for looks in (True, False))
    logged = [entry for entry in looked.state.log_history if "spt/zoo-mcq/format_following" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]
    assert all(torch.equal(one, other) for one, other in zip(with_one, without, strict=True))
