"""Llama-shaped random weights and a tokenizer of whole words, made on the spot, for what depends on shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A shape of model, as Llama's config names it."""

    vocab: int
    hidden: int
    layers: int
    inner: int
    """Width of the MLP."""
    heads: int
    kv_heads: int
    head_dim: int | None = None
    """None: `hidden / heads`."""
    positions: int = 512
    """Most positions of a sequence."""
    spread: float = 0.02
    """Standard deviation of the weights. With 0.1, two likeliest tokens are seldom a near tie."""

    @property
    def width(self) -> int:
        """Of an attention head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def body(self) -> int:
        """Parameters that a position goes through, without embeddings and head."""
        attention = 2 * self.hidden * self.width * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def weights(self) -> int:
        """All parameters, but for the norms."""
        return self.body + 2 * self.vocab * self.hidden


TINY = Shape(vocab=512, hidden=64, layers=2, inner=128, heads=4, kv_heads=2)
LLAMA_1B = Shape(vocab=128_256, hidden=2048, layers=16, inner=8192, heads=32, kv_heads=8)
"""Llama 3.2 1B."""
LLAMA_8B = Shape(vocab=128_256, hidden=4096, layers=32, inner=14_336, heads=32, kv_heads=8)
"""Llama 3.1 8B."""


def build(shape: Shape, *, dtype: str, device: str) -> Any:
    """The model in evaluation mode, the same for the same shape, dtype and device."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.width,
        max_position_embeddings=shape.positions,
        initializer_range=shape.spread,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.device(device):
        module: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    return module.eval()


def save_tokenizer(folder: Path, vocab: int) -> None:
    """One token a word, so that no library's tokenizer is what is measured."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made: Any = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0", eos_token="w1", pad_token="w2")
    made.save_pretrained(folder)
