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

_EMBEDDING = (
    r"^(?!.*(vision|visual|audio|speech|mtp|eagle|talker))(.*\.)?(embed_tokens|wte|embed_in|word_embeddings|lm_head)\.weight$"
)

_SIZES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_EMBEDDING, ("vocab_size", "hidden_size")),
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
        return disagreement(config, tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, struct.error):
        return ""


def disagreement(config: Mapping[str, Any], tensors: Mapping[str, Any], *, known: bool = True, whole: bool = True) -> str:
    """`contradiction` of a config and tensors that were read.

    Args:
        config: of the language model.
        tensors: name -> its entry in the header of a safetensors file.
        known: the sizes of all of its weights follow from the config as usual; else embeddings and layers are looked at.
        whole: these are all of its tensors.
    """
    sizes = _sizes(config)
    patterns = _SIZES if known else _SIZES[:1]
    found = (_wrong(name, tensor["shape"], sizes, patterns) for name, tensor in sorted(tensors.items()))
    return next(filter(None, found), "") or (_layers(tensors, config) if whole else "")


def _sizes(config: Mapping[str, Any]) -> dict[str, int]:
    heads = config.get("num_attention_heads")
    hidden = config.get("hidden_size") or config.get("n_embd")
    per_head = config.get("head_dim") or (hidden // heads if hidden and heads else None)
    found = {name: config.get(name) for name in ("vocab_size", "intermediate_size")}
    # OPT's embeddings may be of another size than its layers.
    found["hidden_size"] = config.get("word_embed_proj_dim") or hidden
    # What a config leaves out is Transformers' default of its type; only Llama's is known here.
    plain = config.get("model_type", "llama") == "llama"
    if per_head and (
        plain or (config.get("head_dim") and config.get("num_key_value_heads")) or config.get("model_type") == "qwen2"
    ):
        found["num_attention_heads x head_dim"] = heads and heads * per_head
        found["num_key_value_heads x head_dim"] = (config.get("num_key_value_heads") or heads) * per_head
    return {name: size for name, size in found.items() if isinstance(size, int)}


def _wrong(name: str, shape: list[int], sizes: Mapping[str, int], patterns: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    names = next((names for pattern, names in patterns if re.search(pattern, name)), ())
    if not names or not all(each in sizes for each in names) or shape == (wanted := [sizes[each] for each in names]):
        return ""
    return f"{name} is {shape} in its files, and {wanted} ({', '.join(names)}) by its config.json: they are not of one model"


_LAYER = re.compile(r"^(?:model\.|language_model\.|transformer\.|gpt_neox\.|decoder\.)*(?:layers|h)\.(\d+)\.")
"""Of the language model: those of what sees and hears are called otherwise."""


def _layers(tensors: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    there = {int(found[1]) for name in tensors if (found := _LAYER.match(name))}
    wanted = config.get("num_hidden_layers") or config.get("n_layer")
    if not there or not isinstance(wanted, int):
        return ""
    # Layers that guess the token after the next stand behind the others, and no config counts them.
    more = config.get("num_nextn_predict_layers") or 0
    if len(there) == wanted or wanted < len(there) <= wanted + more:
        return ""
    return f"its files have {len(there)} layers, and its config.json says {wanted}: they are not of one model"
