"""The random weights that benchmarks of engines share: `spt_fast.models.random_model` in the shape that they name in short."""

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

    from spt_fast.models.random_model import Shape, build

    heads = shape.get("heads", shape["hidden"] // 32)
    full = Shape(
        vocab=shape["vocab"],
        hidden=shape["hidden"],
        layers=shape["layers"],
        inner=4 * shape["hidden"],
        heads=heads,
        kv_heads=heads,
        positions=1024,
        spread=0.1,
    )
    module = build(full, dtype=dtype, device="cpu")
    module.save_pretrained(folder)
    return module.to("cuda" if torch.cuda.is_available() else "cpu")


FAMILIES = ("llama", "qwen3", "gemma3", "gpt_neox", "olmo2")
"""Of `save_family`."""


def save_family(folder: Path, family: str) -> Path:
    """Save a tiny random model in the shape of a family, as Transformers would begin to train it, with a zoo model's tokenizer.

    Args:
        folder: of config, weights and tokenizer.
        family: one of `FAMILIES`; their scales of embeddings, norms, ties and positions are their own.
    """
    import torch
    import transformers

    from spt_fast import zoo

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(zoo.find("zoo/base-40"))
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    heads = {} if family == "gpt_neox" else {"num_key_value_heads": 2, "head_dim": 32}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    more = {"max_position_embeddings": 2048, "vocab_size": len(tokenizer)}
    name = {"gemma3": "gemma3_text"}.get(family, family)
    config = transformers.AutoConfig.for_model(name, **sizes, **heads, **ids, **more)
    torch.manual_seed(0)
    module: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
