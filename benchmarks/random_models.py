"""Llama-shaped random weights and a tokenizer of whole words, made on the spot, for what depends on shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save_model(folder: Path, shape: Mapping[str, int], *, dtype: str = "float32") -> Any:
    """Save a random model, the same for the same shape; the module itself, on the GPU where there is one.

    Args:
        folder: of config and weights.
        shape: `hidden`, `layers`, `vocab`, and if wanted `heads` (one for 32 of `hidden`).
        dtype: of the weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = shape.get("heads", shape["hidden"] // 32)
    config = LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["hidden"],
        intermediate_size=4 * shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        # So wide that two likeliest tokens are seldom a near tie.
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    module: Any = LlamaForCausalLM(config)
    module.to(getattr(torch, dtype)).save_pretrained(folder)
    return module.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def save_tokenizer(folder: Path, vocab: int) -> None:
    """One token a word, so that no library's tokenizer is what is measured."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made: Any = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0", eos_token="w1", pad_token="w2")
    made.save_pretrained(folder)
