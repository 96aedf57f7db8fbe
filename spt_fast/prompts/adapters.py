"""Soft prompts as adapters of PEFT (prompt tuning), both ways. PEFT itself is not needed, nor torch for fp32 and fp16.

PEFT puts the virtual tokens in front of everything, BOS included: `position: front`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spt_fast.errors import ConfigError, StoreError, boundary
from spt_fast.storage.files import write_whole

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TENSOR = "prompt_embeddings"
"""What PEFT calls the vectors `[P, H]`."""


class Saved(Protocol):
    """What of a soft prompt is in an adapter."""

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """`[P, H]`."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """Where it came from."""


def save_adapter(prompt: Saved, folder: str | os.PathLike[str], *, base_model: str, revision: str | None = None) -> None:
    """Write a soft prompt as a folder that `PeftModel.from_pretrained` loads: the vectors `[P, H]` in fp32, bit by bit.

    Args:
        prompt: its provenance goes into the header of the weights.
        folder: made where it is not there; an adapter in it is replaced.
        base_model: Hub id or folder of the model that it was learnt for.
        revision: of a Hub id.

    Raises:
        ConfigError: the soft prompt stands behind BOS or at the end, where PEFT cannot put it.
        StoreError: the folder cannot be written.
    """
    from safetensors.numpy import save

    place = prompt.provenance.get("position", "front")
    if place != "front":
        raise ConfigError(f"a soft prompt with position: {place} cannot be a PEFT adapter, which PEFT puts in front of BOS")
    config = {
        "base_model_name_or_path": base_model or None,
        "inference_mode": True,
        "num_attention_heads": None,  # PEFT asks the model for these two
        "num_layers": None,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": int(prompt.vectors.shape[0]),
        "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM",
        "revision": revision or None,
        "task_type": "CAUSAL_LM",
        "token_dim": int(prompt.vectors.shape[1]),
    }
    header = {"format": "pt", "provenance": json.dumps(dict(prompt.provenance), sort_keys=True)}
    # The config last: a folder without it is no adapter.
    write_whole(Path(folder) / WEIGHTS, bytes(save({TENSOR: np.asarray(prompt.vectors)}, metadata=header)))
    write_whole(Path(folder) / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def read_adapter(folder: str | os.PathLike[str]) -> tuple[npt.NDArray[np.float32], dict[str, str]]:
    """The vectors `[P, H]` of a prompt-tuning adapter that PEFT or `save_adapter` wrote, and where they came from.

    Raises:
        StoreError: it is another kind of adapter, its weights are a pickle, or they are not there or not what its config says.
    """
    folder = Path(folder)
    config = _config(folder)
    if not (folder / WEIGHTS).is_file():
        if (folder / PICKLE).is_file():
            raise StoreError(
                f"{folder / PICKLE}: is a pickle, which can run code when it is read; load it with PEFT where you trust it and "
                f"save it again, which writes {WEIGHTS}"
            )
        raise StoreError(f"{folder}: has {CONFIG} and no {WEIGHTS}")
    vectors, header = _weights(folder / WEIGHTS)
    if vectors.ndim != 2 or vectors.shape[0] != config.get("num_virtual_tokens"):
        tokens = config.get("num_virtual_tokens")
        raise StoreError(f"{folder}: {CONFIG} says {tokens} virtual tokens, and {WEIGHTS} holds {list(vectors.shape)}")
    known = {"model": config.get("base_model_name_or_path"), "revision": config.get("revision"), "position": "front"}
    with boundary(StoreError, f"reading {folder / WEIGHTS}"):
        provenance = json.loads(header["provenance"]) if "provenance" in header else known
        return vectors, {name: str(value) for name, value in provenance.items() if value}


def _config(folder: Path) -> dict[str, Any]:
    with boundary(StoreError, f"reading {folder / CONFIG}"):
        config = json.loads((folder / CONFIG).read_bytes())
        kind, submodules = config.get("peft_type"), config.get("num_transformer_submodules")
    if kind != "PROMPT_TUNING" or submodules not in (None, 1):
        raise StoreError(
            f"{folder / CONFIG}: is an adapter of type {kind}; only PROMPT_TUNING of a causal language model is vectors in "
            "front of the prompt and nothing else"
        )
    return dict(config)


def _weights(path: Path) -> tuple[npt.NDArray[np.float32], dict[str, str]]:
    """The vectors, and the header of the file."""
    from safetensors import safe_open

    with boundary(StoreError, f"reading {path}"), safe_open(path, framework="np") as file:
        names, header = list(file.keys()), dict(file.metadata() or {})
        if TENSOR not in names:
            raise StoreError(f"{path}: holds {', '.join(sorted(names)) or 'nothing'}, and no {TENSOR}")
        if file.get_slice(TENSOR).get_dtype() != "BF16":
            return np.asarray(file.get_tensor(TENSOR), dtype=np.float32), header
    # NumPy has no bfloat16.
    with boundary(StoreError, f"reading {path}"), safe_open(path, framework="pt") as file:
        return file.get_tensor(TENSOR).float().numpy(), header
