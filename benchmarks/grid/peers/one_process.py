"""A whole grid as a careful script of PEFT and Transformers does it: one process, each model loaded once.

    python one_process.py JOBS.json

Soft prompts are learnt with PEFT, as `prompt_tuning.py` does. Everything is asked in batches of like length, padded on the
left, the vectors in front of the text and not of the padding, as embeddings: plain `generate` of Transformers. Log-likelihoods
of a row's options are taken in batches of like length too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from prompt_tuning import finish, learn, load, read_rows


def like_lengths(rows: list[list[int]], size: int) -> list[list[int]]:
    """Numbers of rows, `size` together, by length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    return [order[begin : begin + size] for begin in range(0, len(rows), size)]


def embedded(model: Any, rows: list[list[int]], vectors: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows behind the vectors, padded on the left: embeddings `[B, P + T, H]` and the mask `[B, P + T]`."""
    table = model.get_input_embeddings()
    width = max(map(len, rows)) + (0 if vectors is None else len(vectors))
    embeds = table.weight.new_zeros(len(rows), width, table.weight.shape[1])
    mask = torch.zeros(len(rows), width, dtype=torch.long, device=embeds.device)
    for i, ids in enumerate(rows):
        row = table(torch.tensor(ids, device=embeds.device))
        if vectors is not None:
            row = torch.cat([vectors.to(row.dtype), row])
        embeds[i, -len(row) :] = row
        mask[i, -len(row) :] = 1
    return embeds, mask


@torch.inference_mode()
def complete(
    model: Any, tokenizer: Any, rows: list[dict[str, Any]], job: dict[str, Any], vectors: torch.Tensor | None
) -> list[dict[str, Any]]:
    """A greedy completion of each row."""
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows]
    found: list[Any] = [None] * len(rows)
    for batch in like_lengths(prompts, job["eval_batch"]):
        embeds, mask = embedded(model, [prompts[i] for i in batch], vectors)
        output = model.generate(
            inputs_embeds=embeds,
            attention_mask=mask,
            max_new_tokens=job["max_tokens"],
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        for i, said in zip(batch, output.tolist(), strict=True):
            found[i] = finish(tokenizer, said, job["stop"])
    return found


@torch.inference_mode()
def score(
    model: Any, tokenizer: Any, rows: list[dict[str, Any]], job: dict[str, Any], vectors: torch.Tensor | None
) -> list[list[float]]:
    """Log-likelihood of each option of each row, in nats; logits of the positions that count only."""
    pairs = [
        (tokenizer(row["prompt"])["input_ids"], tokenizer(row["lead"] + option, add_special_tokens=False)["input_ids"])
        for row in rows
        for option in row["options"]
    ]
    whole = [[*prompt, *option] for prompt, option in pairs]
    found = [0.0] * len(pairs)
    for batch in like_lengths(whole, job["eval_batch"]):
        embeds, mask = embedded(model, [whole[i] for i in batch], vectors)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        longest = max(len(pairs[i][1]) for i in batch)
        logits = model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, logits_to_keep=longest + 1).logits
        logprobs = logits[:, :-1].float().log_softmax(-1)
        for i, row in zip(batch, logprobs, strict=True):
            option = torch.tensor(pairs[i][1], device=row.device)
            found[i] = row[-len(option) :].gather(-1, option[:, None]).sum().item()
    ends = iter(found)
    return [[next(ends) for _ in row["options"]] for row in rows]


def main() -> None:
    """Do all jobs; those of a model stand together."""
    held = ""
    torch.manual_seed(0)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if job["model"] != held:
            held = job["model"]
            model, tokenizer = load(held)
        vectors = None
        if job.get("tuning"):
            tuned = learn(model, tokenizer, job)
            vectors = tuned.prompt_encoder["default"].embedding.weight.detach()
            model = tuned.base_model
        rows = read_rows(job["test"])
        answers = complete(model, tokenizer, rows, job, vectors)
        for answer, logprobs in zip(answers, score(model, tokenizer, rows, job, vectors), strict=True):
            answer["option_logprobs"] = logprobs
        beside = score(model, tokenizer, read_rows(job["beside"]), job, vectors)
        Path(job["answers"]).write_text(json.dumps({"rows": answers, "beside": beside}))


if __name__ == "__main__":
    main()
