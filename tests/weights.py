"""Folders that look like models to everything that does not load them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def model_folder(folder: Path, *, seed: int = 0, size: int = 64) -> Path:
    """A model folder with random weights: two vectors of `size` numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": size}))
    (folder / "tokenizer.json").write_text("{}")
    weights = np.random.default_rng(seed).normal(size=(2, size)).astype(np.float32)
    save_file({"a": weights[0], "b": weights[1]}, folder / "model.safetensors")
    return folder
