"""How far a checkpoint of a series has been trained: what its trainer wrote beside it, else what its name says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRAINER_STATE = "trainer_state.json"
"""Written by Transformers' Trainer."""
_MOST_BYTES = 1 << 26
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_AMOUNT = r"(\d+(?:\.\d+)?)([kmbt]?)"
_TOKENS = re.compile(rf"tokens?[-_=]?{_AMOUNT}(?![a-z0-9])|(?<![a-z0-9.]){_AMOUNT}[-_]?tokens?(?![a-z])", re.IGNORECASE)
_STEPS = re.compile(r"(?:steps?|iter(?:ation)?s?|updates?|checkpoint|ckpt)[-_=]?(\d+)(?![\d.]*[a-z])", re.IGNORECASE)


def trained_for(name: str, folder: Path | None = None) -> dict[str, int]:
    """Training steps and tokens of a checkpoint, as far as they are known: {"steps": 1000, "tokens": 2000000000}.

    Args:
        name: of the folder, branch or tag: "step-7", "stage1-step1000-tokens5B", "checkpoint-500".
        folder: where its files are; None: not here.
    """
    found = _by_name(name)
    return found if folder is None else {**found, **_by_trainer(folder / TRAINER_STATE)}


def _by_name(name: str) -> dict[str, int]:
    last = name.rstrip("/").rpartition("/")[2].rpartition("@")[2]
    return _said(last) or _said(name.rstrip("/").rpartition("/")[0].rpartition("/")[2])  # step-7/hf


def _said(last: str) -> dict[str, int]:
    """What one part of a name says."""
    found: dict[str, int] = {}
    steps = _STEPS.findall(last)
    if steps or last.isdecimal():
        found["steps"] = int(steps[-1] if steps else last)
    if (told := _TOKENS.search(last)) is not None:
        number, factor = (part for part in told.groups() if part is not None)
        found["tokens"] = round(float(number) * _FACTORS[factor.lower()])
    return found


def _by_trainer(path: Path) -> dict[str, int]:
    """What the trainer says; nothing where it says nothing that can be read."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        state: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    names = {"global_step": "steps", "num_input_tokens_seen": "tokens"}
    there: Mapping[str, Any] = state if isinstance(state, dict) else {}
    return {ours: there[theirs] for theirs, ours in names.items() if type(there.get(theirs)) is int and there[theirs] > 0}
