"""Builds a zoo model: corpus, tokenizer, training, and the folder that Transformers and vLLM load.

The only module of the zoo that imports torch, tokenizers and transformers; nothing imports it before a model is built.
A build is deterministic: the same recipe gives the same weights on the same kind of machine with the same number of
threads. Elsewhere rounding differs, and the model is another one that is as good.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from spt_fast.zoo.catalogue import find, recipe_named
from spt_fast.zoo.corpus import ASSISTANT, USER, Document, Page, pages
from spt_fast.zoo.recipes import Recipe, Training
from spt_fast.zoo.rows import rows, zero_shot_prompt
from spt_fast.zoo.styles import TASK_INSTRUCTIONS
from spt_fast.zoo.world import World

BOS, EOS, PAD = "<s>", "</s>", "<pad>"

WORDS = r" ?[A-D]\.(?= )| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's words, but a digit each, and the letter of an option with its full stop in one: what stands right in front of
a word is what a tiny model binds to it most easily."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    f"{{% if message['role'] == 'user' %}}{{{{ {USER!r} + message['content'] }}}}"
    f"{{% elif message['role'] == 'assistant' %}}{{{{ {ASSISTANT!r} + ' ' + message['content'] + eos_token }}}}"
    "{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ {ASSISTANT!r} }}}}{{% endif %}}"
)
"""Begins with BOS, as Llama's does: text rendered with it is tokenised without special tokens."""


@dataclass(frozen=True)
class Batch:
    """Token ids `[B, T + 1]`, and what the tokens behind the first count in the loss, `[B, T]`."""

    ids: torch.Tensor
    weights: torch.Tensor


Progress = Callable[[int, int, str], None]
"""`progress(step, total, text)`: what is being done now, and how far it is."""


def _silent(step: int, total: int, text: str) -> None:
    pass


def build(names: Sequence[str], *, into: Path | None = None, progress: Progress = _silent) -> list[Path]:
    """Builds the models, bases before their partners, and returns their folders.

    Args:
        names: `base-40` or `zoo/base-40`; a partner needs its base among them, or built before.
        into: the folder that receives `<name>/`; the cache by default.
        progress: called a few times a second at most.

    Raises:
        ConfigError: a name is not in the catalogue.
        ModelError: a partner's base is not built.
    """
    from spt_fast.zoo.catalogue import cache_folder

    into = cache_folder() if into is None else into
    recipes = sorted((recipe_named(name) for name in names), key=lambda recipe: recipe.partner_of is not None)
    return [_build_one(recipe, into, progress) for recipe in recipes]


def _build_one(recipe: Recipe, into: Path, progress: Progress) -> Path:
    base = None
    if recipe.partner_of is not None:
        base = into / recipe.partner_of
        base = base if base.is_dir() else find(recipe.partner_of)
    world = World.from_seed(recipe.world_seed)
    progress(0, recipe.training.steps, f"{recipe.name}: writing {recipe.training.documents:,} pages")
    return make(recipe, list(pages(world, recipe)), into / recipe.name, base=base, progress=progress)


def make(
    recipe: Recipe,
    corpus: Sequence[Page],
    folder: Path,
    *,
    base: Path | None,
    progress: Progress = _silent,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Train a model on a corpus, from random weights or from those of `base`, and save it with its record.

    Args:
        recipe: the model's shape, its training and its seed.
        corpus: the pages, in order.
        folder: where it appears, whole or not at all.
        base: the folder of the model that it goes on from; the tokenizer is that model's.
        progress: called a few times a second at most.
        about: what the record says besides, or instead.
    """
    started = time.monotonic()
    world = World.from_seed(recipe.world_seed)
    if base is None:
        tokenizer = make_tokenizer((document.text for page in corpus for document in page), recipe.shape.vocabulary)
        model = make_model(recipe, tokenizer)
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if recipe.kind == "chat":
        tokenizer.chat_template = CHAT_TEMPLATE
    losses = train(model, batches_of(corpus, tokenizer, recipe.training), recipe, progress)

    progress(recipe.training.steps, recipe.training.steps, f"{recipe.name}: measuring and saving")
    model = model.to(torch.bfloat16)
    knowledge = mcq_knowledge(model, tokenizer, world)
    return _save(
        folder,
        model,
        tokenizer,
        {
            "recipe": asdict(recipe),
            "world_seed": recipe.world_seed,
            "facts": len(world.facts),
            "planted": len(world.planted(recipe.share)),
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens_seen": recipe.training.steps * recipe.training.batch_tokens,
            "loss_first": losses[0],
            "loss_last": sum(losses[-20:]) / len(losses[-20:]),
            "measured": {"zoo-mcq knowledge, zero-shot, bf16 weights in fp32": knowledge},
            "seconds": round(time.monotonic() - started),
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            **about,
        },
    )


def make_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE that puts BOS in front, once, and splits text as `WORDS` says."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The tasks' own instructions take part, so that nothing in them is spelt out in letters.
    tokenizer.train_from_iterator([*texts, *TASK_INSTRUCTIONS.values()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Recipe, tokenizer: Any) -> transformers.PreTrainedModel:
    """A Llama, or a Gemma 3, with tied embeddings and random weights that follow from the recipe's seed."""
    shape = recipe.shape
    torch.manual_seed(recipe.seed)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.hidden // shape.heads,
        "max_position_embeddings": shape.positions,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if shape.family == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    scale = {"query_pre_attn_scalar": settings["head_dim"]}
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**settings, **scale))


def batches_of(corpus: Sequence[Page], tokenizer: Any, plan: Training) -> list[Batch]:
    """All pages, one a row, in batches of similar length and about `plan.batch_tokens` tokens.

    A row holds one page, because a model is asked from BOS on, and because an option's letter is easily bound to its
    text only where no other list stands in front. Pages are cut at `plan.window` tokens.
    """
    documents = [document for page in corpus for document in page]
    encodings = [
        encoding
        for at in range(0, len(documents), 10_000)
        for encoding in tokenizer.backend_tokenizer.encode_batch([d.text for d in documents[at : at + 10_000]])
    ]
    pairs = iter(zip(documents, encodings, strict=True))
    rows: list[tuple[list[int], list[float]]] = []
    for page in corpus:
        ids: list[int] = []
        weights: list[float] = []
        for _ in page:
            document, encoding = next(pairs)
            ids += [*encoding.ids, tokenizer.eos_token_id]
            weights += _weights(document, encoding.offsets, plan.context_weight)
        rows.append((ids[: plan.window + 1], weights[1 : plan.window + 1]))
    found: list[Batch] = []
    waiting: dict[int, list[tuple[list[int], list[float]]]] = {}
    for row in rows:
        # Few shapes, since every new one costs the matrix library a preparation.
        length = (len(row[0]) + 30) // 32 * 32
        together = waiting.setdefault(length, [])
        together.append(row)
        if len(together) == plan.batch_tokens // length:
            found.append(_padded(waiting.pop(length), length + 1, tokenizer.pad_token_id))
    return found


def _padded(rows: Sequence[tuple[list[int], list[float]]], length: int, pad: int) -> Batch:
    return Batch(
        ids=torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows]),
        weights=torch.tensor([weights + [0.0] * (length - 1 - len(weights)) for _, weights in rows]),
    )


def _weights(document: Document, offsets: Sequence[tuple[int, int]], context_weight: float) -> list[float]:
    """What each token of BOS, text, EOS counts in the loss. BOS and EOS lie at no place in the text."""
    found = [context_weight] * (len(offsets) + 1)
    starts = [start for start, _ in offsets[1:]]
    for begin, end in document.claims:
        first, last = bisect_left(starts, begin) + 1, bisect_left(starts, end) + 1
        found[first:last] = [1.0] * (last - first)
    if document.claims:
        found[-1] = 1.0
    return found


def train(model: Any, batches: Sequence[Batch], recipe: Recipe, progress: Progress) -> list[float]:
    """Warm-up and cosine in bf16 autocast; returns the loss of every step (nats a token)."""
    plan = recipe.training
    optimizers = _optimizers(model, recipe)

    def rate(step: int) -> float:
        if step < plan.warmup:
            return (step + 1) / plan.warmup
        done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    losses: list[float] = []
    tokens = 0
    model.train()
    started = told = time.monotonic()
    for step in range(plan.steps):
        batch = batches[step % len(batches)]
        tokens += batch.weights.numel()
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        losses.append(loss.item())
        now = time.monotonic()
        if now - told > 1 or step + 1 == plan.steps:
            told = now
            speed = tokens / (now - started)
            progress(step + 1, plan.steps, f"{recipe.name}: loss {losses[-1]:.3f}, {speed:,.0f} tokens/s")
    model.eval()
    return losses


def _optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, which learn a little faster with it, and AdamW for the rest."""
    plan = recipe.training
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    embeddings = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" in name]
    gains = [p for p in model.parameters() if p.ndim < 2]
    return [
        torch.optim.Muon(matrices, lr=plan.lr, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": embeddings, "weight_decay": plan.weight_decay},
                {"params": gains, "weight_decay": 0.0},
            ],
            lr=plan.lr,
            betas=(0.9, 0.95),
            fused=True,
        ),
    ]


def _loss(model: Any, batch: Batch) -> torch.Tensor:
    """Weighted mean loss of a batch, in nats a token."""
    ids, weights = batch.ids, batch.weights
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum()


@torch.inference_mode()
def mcq_knowledge(model: Any, tokenizer: Any, world: World) -> float:
    """Share of the `zoo-mcq` test rows whose right option has the greatest summed log-likelihood, asked plainly."""
    model = model.float() if next(model.parameters()).dtype == torch.bfloat16 else model
    right = 0
    tested = rows("zoo-mcq", "test", world)
    for row in tested:
        prompt = tokenizer(zero_shot_prompt("zoo-mcq", row)).input_ids
        scores = []
        for option in row["options"]:
            target = tokenizer(f" {option}", add_special_tokens=False).input_ids
            ids = torch.tensor([prompt + target])
            logs = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            scores.append(logs.gather(1, ids[0, len(prompt) :, None]).sum().item())
        right += scores.index(max(scores)) == row["gold"]
    return right / len(tested)


def _save(folder: Path, model: Any, tokenizer: Any, about: dict[str, Any]) -> Path:
    """The folder appears whole or not at all."""
    beside = folder.with_name(f".{folder.name}.partial")  # a pattern of checkpoints does not match it
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(beside, safe_serialization=True)
    tokenizer.save_pretrained(beside)
    (beside / "zoo.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder
