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
