"""A cell as a script of PEFT and Transformers does it: learn a soft prompt in a plain loop, ask the test rows behind it.

    python prompt_tuning.py JOB.json

Knows nothing of spt-fast: it is what `grid.py` compares with. Rows come as text, so templates are no part of what is timed.
Prompts go through PEFT's `generate` in batches of one length each, the only ones that it answers right: it puts the vectors in
front of the padding, away from the text. The job says where model, rows and first vectors are, and where the answers go.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

IGNORED = -100
"""The label of a token that no loss is taken of."""


def load(folder: str) -> tuple[Any, Any]:
    """Model, in the dtype of its checkpoint, and tokenizer."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), AutoTokenizer.from_pretrained(folder)


def read_rows(file: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def learn(model: Any, tokenizer: Any, job: dict[str, Any]) -> Any:
    """PEFT's model around `model`, its vectors learnt. Rows are taken in the order of the file, `batch_size` a step."""
    vectors = torch.from_numpy(np.load(job["start"]))
    settings = peft.PromptTuningConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        num_virtual_tokens=len(vectors),
        prompt_tuning_init=peft.PromptTuningInit.RANDOM,
    )
    tuned: Any = peft.get_peft_model(model, settings).eval()
    weight = tuned.prompt_encoder["default"].embedding.weight
    weight.data = vectors.to(weight.device)  # fp32, whatever the model's dtype
    optimizer = torch.optim.AdamW([weight], lr=job["lr"], weight_decay=0.0)
    rows = read_rows(job["tuning"])
    for begin in range(0, len(rows), job["batch_size"]):
        batch = collate(tokenizer, rows[begin : begin + job["batch_size"]])
        loss = tuned(**{name: tensor.to(weight.device) for name, tensor in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tuned


def collate(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch, padded on the right; the loss is taken of targets, the end-of-sequence token included."""
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows]
    targets = [[*tokenizer(" " + row["target"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for row in rows]
    width = max(len(prompt) + len(target) for prompt, target in zip(prompts, targets, strict=True))
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        ids[i, : len(prompt) + len(target)] = torch.tensor([*prompt, *target])
        labels[i, len(prompt) : len(prompt) + len(target)] = torch.tensor(target)
        mask[i, : len(prompt) + len(target)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def batches_of_one_length(rows: list[list[int]], size: int) -> list[list[int]]:
    """Numbers of rows, by length, at most `size` together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    groups = [list(group) for _, group in groupby(order, key=lambda i: len(rows[i]))]
    return [group[begin : begin + size] for group in groups for begin in range(0, len(group), size)]


def finish(tokenizer: Any, ids: Sequence[int], stop: str) -> dict[str, Any]:
    """Text and reason of a completion, as generated: it ends at the end-of-sequence token or in front of `stop`."""
    ended = tokenizer.eos_token_id in ids
    if ended:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    text, found, _ = tokenizer.decode(ids, skip_special_tokens=True).partition(stop)
    return {"completion": text, "finish_reason": "stop" if ended or found else "length"}


@torch.inference_mode()
def complete(tuned: Any, tokenizer: Any, rows: list[dict[str, Any]], job: dict[str, Any]) -> list[dict[str, Any]]:
    """A greedy completion of each row."""
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows]
    found: list[Any] = [None] * len(rows)
    for batch in batches_of_one_length(prompts, job["eval_batch"]):
        ids = torch.tensor([prompts[i] for i in batch], device=tuned.device)
        output = tuned.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=job["max_tokens"],
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        # PEFT passes embeddings on where there are vectors: what comes back begins with the prompt in some versions of
        # Transformers, and in others it does not.
        begins = torch.equal(output[:, : ids.shape[1]], ids)
        new = output[:, ids.shape[1] :] if begins else output
        for i, said in zip(batch, new.tolist(), strict=True):
            found[i] = finish(tokenizer, said, job["stop"])
    return found


@torch.inference_mode()
def score(tuned: Any, tokenizer: Any, rows: list[dict[str, Any]], job: dict[str, Any]) -> list[list[float]]:
    """Log-likelihood of each option of each row, in nats."""
    pairs = [
        (tokenizer(row["prompt"])["input_ids"], tokenizer(row["lead"] + option, add_special_tokens=False)["input_ids"])
        for row in rows
        for option in row["options"]
    ]
    whole = [[*prompt, *option] for prompt, option in pairs]
    found = [0.0] * len(pairs)
    for batch in batches_of_one_length(whole, job["eval_batch"]):
        ids = torch.tensor([whole[i] for i in batch], device=tuned.device)
        logits = tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
        logprobs = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        for i, row in zip(batch, logprobs, strict=True):
            found[i] = row[-len(pairs[i][1]) :].sum().item()
    ends = iter(found)
    return [[next(ends) for _ in row["options"]] for row in rows]


def main() -> None:
    """Do one job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.manual_seed(0)
    model, tokenizer = load(job["model"])
    tuned = learn(model, tokenizer, job)
    rows = read_rows(job["test"])
    answers = complete(tuned, tokenizer, rows, job)
    for answer, logprobs in zip(answers, score(tuned, tokenizer, rows, job), strict=True):
        answer["option_logprobs"] = logprobs
    beside = score(tuned, tokenizer, read_rows(job["beside"]), job)
    Path(job["answers"]).write_text(json.dumps({"rows": answers, "beside": beside}))


if __name__ == "__main__":
    main()
