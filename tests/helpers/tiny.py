"""Tiny random models and byte tokenizers on disk, for tests: `from tests.tiny import tiny_model`.

Nothing is downloaded. The weights are wide (standard deviation 0.2), so that logits differ by whole nats and a wrong
vector, scale or position shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
"""Writes BOS itself, as most chat templates do, and ends in white space."""

FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3",
    "gpt_neox",
    "granite",
    "opt",
    "gpt2",
    "cohere",
    "olmo2",
)


def byte_tokenizer(
    *, bos: bool = True, eos: bool = True, chat_template: str | None = None, merges: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A token for each byte, 0 to 255; `<s>` 256, `</s>` 257, `<pad>` 258 (those that are asked for), then the merges.

    Args:
        bos: have `<s>`, and put it in front of every text.
        eos: have `</s>` (never appended).
        chat_template: Jinja source.
        merges: pairs that become one token, in order, as "left right" in the byte-level alphabet (a space is "Ġ").
            With merges there is no split into words, so tokens may cross any seam.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate(alphabet)}
    specials = [token for token, wanted in ((BOS, bos), (EOS, eos), (PAD, True)) if wanted]
    for token in specials:
        vocab[token] = len(vocab)
    pairs = []
    for merge in merges:
        left, right = merge.split(" ")
        vocab[left + right] = len(vocab)
        pairs.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not merges)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocab[BOS])]
        )
    names = {"bos_token": BOS if bos else None, "eos_token": EOS if eos else None, "pad_token": PAD}
    named: dict[str, Any] = {k: v for k, v in names.items() if v}
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.chat_template = chat_template
    return cast(PreTrainedTokenizerFast, fast)


def tiny_config(
    family: str = "llama",
    *,
    hidden_size: int = 64,
    layers: int = 2,
    vocab: int = 272,
    positions: int = 512,
    std: float = 0.2,
    **more: Any,
) -> transformers.PreTrainedConfig:
    """The config of a small model of a family; `more` overrides any of its keys."""
    common: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "initializer_range": std,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "pad_token_id": 258,
    }
    gated = {"intermediate_size": 2 * hidden_size, "num_key_value_heads": 2}
    head_dim = {"head_dim": hidden_size // 4}
    gemma = {**gated, **head_dim, "query_pre_attn_scalar": hidden_size // 4, "sliding_window": 16}
    by_family: dict[str, dict[str, Any]] = {
        "llama": gated,
        "qwen2": gated,
        "qwen3": {**gated, **head_dim},
        "mistral": {**gated, **head_dim, "sliding_window": None},
        # Low caps: at the usual 30 and 50 a tiny model would not notice them.
        "gemma2": {**gemma, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
        "gemma3": {**gemma, "final_logit_softcapping": 3.0},
        "gpt_neox": {"intermediate_size": 2 * hidden_size},
        "granite": {**gated, "logits_scaling": 3.0, "embedding_multiplier": 6.0, "residual_multiplier": 0.5},
        "opt": {
            "ffn_dim": 2 * hidden_size,
            "word_embed_proj_dim": hidden_size // 2,
            "init_std": std,
            "dropout": 0.0,
        },
        "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
        "cohere": {**gated, "logit_scale": 0.25},
        "olmo2": gated,
        "mixtral": {**gated, "num_local_experts": 4},
        "qwen3_moe": {**gated, **head_dim, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": hidden_size},
    }
    name = {"gemma3": "gemma3_text"}.get(family, family)
    return transformers.AutoConfig.for_model(name, **{**common, **by_family[family], **more})


def tiny_model(
    folder: Path,
    family: str = "llama",
    *,
    hidden_size: int = 64,
    layers: int = 2,
    vocab: int = 272,
    positions: int = 512,
    std: float = 0.2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **more: Any,
) -> Path:
    """Save config, safetensors and tokenizer of a random model into `folder`, and return it."""
    config = tiny_config(family, hidden_size=hidden_size, layers=layers, vocab=vocab, positions=positions, std=std, **more)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.to(dtype).save_pretrained(folder)
    (tokenizer if tokenizer is not None else byte_tokenizer()).save_pretrained(folder)
    return Path(folder)
