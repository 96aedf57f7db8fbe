"""SoftPrompt: learnt vectors `[P, H]` and where they came from. Saved as safetensors; no torch needed to read one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from spt_fast.config.output import Location, location
from spt_fast.errors import StoreError, boundary
from spt_fast.prompts.adapters import read_adapter
from spt_fast.storage import open_storage
from spt_fast.storage.files import write_whole
from spt_fast.types import Position


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftPrompt:
    """Learnt vectors and their provenance.

    The vectors are the fp32 master copy, whatever the dtype of the model they were learnt for; a trainer or an engine
    casts them where they enter the model, both by rounding to nearest even, so both see the same bits.
    """

    vectors: npt.NDArray[np.float32]
    """`[P, H]`, finite, C-contiguous."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Model, task, seed, step, settings, versions."""

    def __post_init__(self) -> None:
        # A copy: the caller's array stays writable, and nobody else can write to ours.
        vectors = np.array(self.vectors, dtype=np.float32, order="C", copy=True)
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise ValueError(f"a soft prompt is a matrix [P, H]; this has shape {list(self.vectors.shape)}")
        if not np.isfinite(vectors).all():
            raise ValueError("a soft prompt must be finite; this one holds NaN or Inf")
        vectors.setflags(write=False)
        object.__setattr__(self, "vectors", vectors)

    @property
    def length(self) -> int:
        """`P`."""
        return int(self.vectors.shape[0])

    @property
    def hidden_size(self) -> int:
        """`H`."""
        return int(self.vectors.shape[1])

    @property
    def position(self) -> Position:
        """Where it was learnt to stand, and stands."""
        return next((place for place in get_args(Position) if place == self.provenance.get("position")), "front")

    @cached_property
    def key(self) -> str:
        """Content hash of the vectors and their shape: what requests name a soft prompt by (16 hexadecimal digits)."""
        shape = ",".join(map(str, self.vectors.shape)).encode()
        return hashlib.sha256(shape + b":" + self.vectors.tobytes()).hexdigest()[:16]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one soft prompt to `path`, whole or not at all."""
        save_steps({None: self}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SoftPrompt:
        """Read the (last) soft prompt of a file, or the folder of a PEFT prompt-tuning adapter.

        Raises:
            StoreError: the file is missing or is not one that spt-fast wrote; the folder is no such adapter.
        """
        steps = load_steps(path)
        if not steps:
            raise StoreError(f"{path} holds no soft prompt")
        return steps[max(steps, key=lambda step: -1 if step is None else step)]


def is_prompt_file(text: str) -> bool:
    """Whether this is how a file of soft prompts is called, or is the folder of a PEFT adapter, and so no task's name."""
    return text.endswith(".safetensors") or (Path(text) / "adapter_config.json").is_file()


def save_steps(steps: Mapping[int, SoftPrompt] | Mapping[None, SoftPrompt], path: str | os.PathLike[str]) -> None:
    """Write the soft prompts of one training run, by step, into one safetensors file: whole or not at all.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    with boundary(StoreError, f"writing {path}"):
        data = steps_as_bytes(steps)
    write_whole(path, data)


def steps_as_bytes(steps: Mapping[int, SoftPrompt] | Mapping[None, SoftPrompt]) -> bytes:
    """The soft prompts of one training run, by step, as a safetensors file.

    Tensors are `step_<n>` (`soft_prompt` for the key None), fp32 `[P, H]`; the header holds their provenance as JSON.
    """
    from safetensors.numpy import save

    tensors = {_name(step): np.asarray(prompt.vectors) for step, prompt in steps.items()}
    header = {_name(step): json.dumps(dict(prompt.provenance), sort_keys=True) for step, prompt in steps.items()}
    return bytes(save(tensors, metadata=header))


def load_steps(path: str | os.PathLike[str]) -> dict[int | None, SoftPrompt]:
    """Read what `save_steps` wrote, in order of the steps; through a URL too. Or the folder of a PEFT prompt-tuning adapter,
    under the key None.

    Raises:
        StoreError: the file is missing or is not one that spt-fast wrote; the folder is no such adapter.
    """
    from safetensors import safe_open

    place = location(os.fspath(path))
    if isinstance(place, Path) and place.is_dir():
        vectors, provenance = read_adapter(place)
        with boundary(StoreError, f"reading {path}"):
            return {None: SoftPrompt(vectors=vectors, provenance=provenance)}
    with boundary(StoreError, f"reading {path}"), _at_hand(place) as here, safe_open(here, framework="np") as file:
        header = file.metadata() or {}
        steps = {
            _step(name): SoftPrompt(vectors=file.get_tensor(name), provenance=_provenance(header.get(name, "{}")))
            for name in file.keys()  # noqa: SIM118  (safe_open is no mapping)
        }
    return dict(sorted(steps.items(), key=lambda item: -1 if item[0] is None else item[0]))


def _provenance(text: str) -> dict[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise StoreError("its provenance is no mapping; it is not one that spt-fast wrote")
    return {str(name): str(value) for name, value in found.items()}


def _at_hand(place: Location) -> AbstractContextManager[Path]:
    if isinstance(place, Path):
        return nullcontext(place)
    folder, _, name = place.rpartition("/")
    return open_storage(folder).local(name)


def _name(step: int | None) -> str:
    return "soft_prompt" if step is None else f"step_{step}"


def _step(name: str) -> int | None:
    if name == "soft_prompt":
        return None
    if name.startswith("step_") and name[5:].isdigit():
        return int(name[5:])
    raise StoreError(f"tensor {name!r} is not a soft prompt of spt-fast")
