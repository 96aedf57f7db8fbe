"""Why a model's logits are not finite: its weights are not, or numbers overflow in the dtype that it runs in.

Looked for only when logits have been seen that are NaN or infinite: it reads all weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from spt_fast.models import hub
from spt_fast.models.weights import weight_files

CHUNK = 1 << 24
"""Numbers of a tensor that are looked at together."""
BROADER = {"float16": "bfloat16 (or float32)", "bfloat16": "float32"}
"""What to run a model in whose numbers overflow."""


def why(source: str, revision: str | None, dtype: str) -> str:
    """What is wrong with a model whose logits are not finite, and the fix, in words.

    Args:
        source: its folder or Hub id.
        revision: the commit of a Hub id.
        dtype: what it runs in: a name of torch, or `auto`.
    """
    if dtype == "auto":
        dtype = _stored_dtype(hub.folder_of(source, revision))
    return fault_of_files(source, revision, dtype) or overflow(dtype)


def fault_of_files(source: str, revision: str | None, dtype: str) -> str | None:
    """`fault` of the weights in a model's files."""
    return fault(_tensors(hub.folder_of(source, revision)), dtype)


def overflow(dtype: str) -> str:
    """What is wrong where all weights are finite."""
    if dtype in BROADER:
        return f"the weights are finite, so numbers overflow in {dtype}; set dtype: {BROADER[dtype]} for this model"
    return f"the weights are finite, so numbers overflow even in {dtype}: the weights are damaged, or not this architecture's"


def fault(tensors: Iterable[tuple[str, Tensor]], dtype: str) -> str | None:
    """What is wrong with the first of these weights that is not finite in a dtype, and the fix; None: all are finite.

    Args:
        tensors: name -> weights, in any dtype.
        dtype: what the model runs in.
    """
    most = torch.finfo(getattr(torch, dtype)).max
    for name, weights in tensors:
        if not weights.is_floating_point() or weights.is_meta:  # packed numbers; weights that are kept elsewhere
            continue
        for part in weights.detach().flatten().split(CHUNK):
            largest = float(part.float().abs().max()) if part.numel() else 0.0  # NaN where any is
            if largest != largest or largest == float("inf"):
                what = "NaN" if largest != largest else "infinity"
                return f"the weights are damaged: {name} holds {what}; get the model's files anew"
            if largest > most:
                return (
                    f"{name} holds {largest:.3g}, and {dtype} ends at {most:.3g}; "
                    f"set dtype: {BROADER.get(dtype, 'float32')} for this model"
                )
    return None


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a folder's weight files, named with its file. What cannot be read says so elsewhere."""
    from safetensors import SafetensorError, safe_open

    try:
        for file in weight_files(path.name for path in folder.iterdir()):
            with safe_open(folder / file, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118  (no mapping)
                    yield f"{name} in {file}", weights.get_tensor(name)
    except (OSError, SafetensorError):
        return


def _stored_dtype(folder: Path) -> str:
    """What `auto` stands for: the checkpoint's own dtype."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        text = config.get("text_config") or config
        name = str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype"))
    except (OSError, ValueError, AttributeError):
        return "float32"
    return name if isinstance(getattr(torch, name, None), torch.dtype) else "float32"
