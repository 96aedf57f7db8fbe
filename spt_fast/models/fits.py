"""Whether the weights in a folder are what its config.json says, from the headers of the files: to find out what a library that
could not load them did not say."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spt_fast.models.weights import read_header, weight_files

_SIZES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(embed_tokens|wte|embed_in|word_embeddings|lm_head)\.weight$", ("vocab_size", "hidden_size")),
    (r"mlp\.(gate|up)_proj\.weight$", ("intermediate_size", "hidden_size")),
    (r"mlp\.down_proj\.weight$", ("hidden_size", "intermediate_size")),
    (r"self_attn\.q_proj\.weight$", ("num_attention_heads x head_dim", "hidden_size")),
    (r"self_attn\.[kv]_proj\.weight$", ("num_key_value_heads x head_dim", "hidden_size")),
    (r"layers\.\d+\.input_layernorm\.weight$", ("hidden_size",)),
)
"""Names of tensors, and what their shapes are called in config.json."""


def contradiction(folder: Path) -> str:
    """What of the weights in a folder is not as its config.json says, in a sentence; empty: nothing that is known of.

    Where the model is none that is known by these names, or its weights are packed into fewer numbers, nothing is said.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        config = config.get("text_config") or config
        if "quantization_config" in config:
            return ""
        tensors: dict[str, Any] = {}
        for name in weight_files(path.name for path in folder.iterdir()):
            with (folder / name).open("rb") as file:
                tensors |= read_header(file).tensors
        sizes = _sizes(config)
        return next(filter(None, (_wrong(name, tensor["shape"], sizes) for name, tensor in sorted(tensors.items()))), "") or (
            _layers(tensors, config)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, struct.error):
        return ""


def _sizes(config: Mapping[str, Any]) -> dict[str, int]:
    heads = config.get("num_attention_heads")
    per_head = config.get("head_dim") or (config["hidden_size"] // heads if heads else None)
    found = {name: config.get(name) for name in ("vocab_size", "hidden_size", "intermediate_size")}
    if per_head:
        found["num_attention_heads x head_dim"] = heads and heads * per_head
        found["num_key_value_heads x head_dim"] = (config.get("num_key_value_heads") or heads) * per_head
    return {name: size for name, size in found.items() if isinstance(size, int)}


def _wrong(name: str, shape: list[int], sizes: Mapping[str, int]) -> str:
    names = next((names for pattern, names in _SIZES if re.search(pattern, name)), ())
    if not names or not all(each in sizes for each in names) or shape == (wanted := [sizes[each] for each in names]):
        return ""
    return f"{name} is {shape} in its files, and {wanted} ({', '.join(names)}) by its config.json: they are not of one model"


def _layers(tensors: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    there = {int(found[1]) for name in tensors if (found := re.search(r"\blayers\.(\d+)\.", name))}
    wanted = config.get("num_hidden_layers")
    if not there or not isinstance(wanted, int) or len(there) == wanted:
        return ""
    return f"its files have {len(there)} layers, and its config.json says {wanted}: they are not of one model"
