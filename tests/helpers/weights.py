"""Folders that look like models to everything that does not load them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def model_folder(folder: Path, *, seed: int = 0, size: int = 64) -> Path:
    """A model folder with random weights: two vectors of `size` numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": size}))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {}}}))
    weights = np.random.default_rng(seed).normal(size=(2, size)).astype(np.float32)
    save_file({"a": weights[0], "b": weights[1]}, folder / "model.safetensors")
    return folder


def sound_folder(folder: Path, *, dtype: type = np.float32, **config: object) -> Path:
    """A folder of a tiny Llama that loads, as far as its files tell: two layers of 8 numbers, 300 token ids."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"vocab_size": 300, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    about = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **sizes, **heads, **config}
    (folder / "config.json").write_text(json.dumps({name: value for name, value in about.items() if value is not None}))
    vocabulary = {f"t{i}": i for i in range(300)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary, "merges": []}}))
    save_file(llama_tensors(dtype), folder / "model.safetensors")
    return folder


def llama_tensors(dtype: type = np.float32) -> dict[str, np.ndarray]:
    """The weights of `sound_folder`."""
    block = {"self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8)}
    block |= {"mlp.gate_proj": (16, 8), "mlp.up_proj": (16, 8), "mlp.down_proj": (8, 16), "input_layernorm": (8,)}
    shapes = {f"model.layers.{i}.{name}.weight": shape for i in range(2) for name, shape in block.items()}
    shapes |= {"model.embed_tokens.weight": (300, 8), "lm_head.weight": (300, 8), "model.norm.weight": (8,)}
    return {name: np.ones(shape, dtype=dtype) for name, shape in shapes.items()}


def in_shards(folder: Path) -> list[Path]:
    """Split the weights of `sound_folder` into three files with an index."""
    tensors = llama_tensors()
    (folder / "model.safetensors").unlink()
    files = [folder / f"model-{i + 1:05d}-of-00003.safetensors" for i in range(3)]
    names = sorted(tensors)
    for i, file in enumerate(files):
        save_file({name: tensors[name] for name in names[i::3]}, file)
    places = {name: files[i % 3].name for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return files
