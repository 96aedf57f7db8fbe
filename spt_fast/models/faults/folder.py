"""Whether a folder is that of a model: not of an adapter, not the one above it."""

from __future__ import annotations

import json
from pathlib import Path

from spt_fast.errors import ModelError, shortened
from spt_fast.models.faults.files import is_there
from spt_fast.models.hub import natural

ADAPTER = "adapter_config.json"
_ELSEWHERE = {
    "params.json": "is in Mistral's or Meta's own format; convert it to that of Transformers, or name one that is",
    "model_index.json": "is a pipeline of diffusers, not a language model",
    "modules.json": "is a model of sentence-transformers, not a language model",
}


def check_folder(folder: Path) -> None:
    """Refuse a folder without a config.json, and say what it is instead.

    Raises:
        ModelError: it is no model.
    """
    if is_there(folder / "config.json"):
        return
    if is_there(folder / ADAPTER):
        raise ModelError(adapter(folder))
    instead = next((what for name, what in _ELSEWHERE.items() if is_there(folder / name)), None)
    raise ModelError(f"{folder}: {instead or f'is no model folder: it has no config.json{_inside(folder)}'}")


def adapter(folder: Path) -> str:
    """What to do with an adapter that is named as a model."""
    try:
        base = json.loads((folder / ADAPTER).read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    of = f" of {shortened(base)}" if isinstance(base, str) else ""
    return (
        f"{folder}: is a PEFT adapter{of}, not a model ({ADAPTER}); merge it into its base model "
        "(PEFT's merge_and_unload, then save_pretrained) and name that folder"
    )


def _inside(folder: Path) -> str:
    """What to name instead: the models one level down, or two."""
    found: list[str] = []
    for pattern in ("*", "*/*"):
        there = (path.parent.relative_to(folder).as_posix() for path in folder.glob(f"{pattern}/config.json"))
        found = found or sorted(there, key=natural)
    if not found:
        files = sorted(path.name for path in folder.glob("*.gguf"))
        return f"; {files[0]} is GGUF: name a folder with safetensors and config.json" if files else ""
    if len(found) == 1:
        return f"; the model is in {folder / found[0]}: name that folder"
    return f"; there are {len(found)} models inside, {found[0]} to {found[-1]}: name one, or a series of them by checkpoints"
