"""LoraAdapter: low-rank changes of a model's weights and where they came from. Safetensors; no torch needed to read one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from spt_fast.errors import StoreError, boundary
from spt_fast.prompts.adapters import CONFIG, WEIGHTS
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.storage.files import write_whole


@dataclass(frozen=True, kw_only=True, eq=False)
class LoraAdapter:
    """Learnt changes `B A` of some layers (LoRA, arXiv 2106.09685), in PEFT's names, and their provenance."""

    tensors: Mapping[str, npt.NDArray[np.float32]]
    """Name -> fp32 master copy: `...lora_A.weight` `[R, in]` and `...lora_B.weight` `[out, R]` of each layer."""
    config: Mapping[str, Any]
    """What PEFT calls adapter_config.json: rank `r`, `lora_alpha`, `target_modules`, ..."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Model, task, seed, step, settings, versions."""

    def __post_init__(self) -> None:
        copies = {name: np.array(tensor, dtype=np.float32, order="C") for name, tensor in sorted(self.tensors.items())}
        if not copies:
            raise ValueError("an adapter changes at least one layer; this has no tensors")
        for name, tensor in copies.items():
            if not np.isfinite(tensor).all():
                raise ValueError(f"an adapter must be finite; {name} holds NaN or Inf")
            tensor.setflags(write=False)
        object.__setattr__(self, "tensors", copies)

    @property
    def rank(self) -> int:
        """`R`."""
        return int(self.config["r"])

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the layers that it changes, without what is in front of them: `q_proj`."""
        return tuple(sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in self.tensors}))

    @property
    def parameters(self) -> int:
        """Numbers that were learnt, all of which are stored."""
        return sum(tensor.size for tensor in self.tensors.values())

    @cached_property
    def key(self) -> str:
        """Content hash of the weights and of what they are multiplied by: what requests name an adapter by (16 digits)."""
        digest = hashlib.sha256(json.dumps([self.rank, self.config["lora_alpha"]]).encode())
        for name, tensor in self.tensors.items():
            digest.update(f"{name}{tensor.shape}".encode())
            digest.update(tensor.tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that `PeftModel.from_pretrained` and vLLM load.

        Raises:
            StoreError: it cannot be written.
        """
        from safetensors.numpy import save

        header = {"format": "pt", "provenance": json.dumps(dict(self.provenance), sort_keys=True)}
        # The config last: a folder without it is no adapter.
        write_whole(Path(folder) / WEIGHTS, bytes(save(dict(self.tensors), metadata=header)))
        write_whole(Path(folder) / CONFIG, (json.dumps(dict(self.config), indent=2) + "\n").encode())


Learnt: TypeAlias = SoftPrompt | LoraAdapter
"""What a cell learns, at one step."""


def parameters_of(learnt: Learnt) -> int:
    """Numbers that are stored of it, 4 bytes each."""
    return learnt.parameters if isinstance(learnt, LoraAdapter) else int(learnt.vectors.size)


def adapters_as_bytes(steps: Mapping[int, LoraAdapter]) -> bytes:
    """The adapters of one training run, by step, as a safetensors file.

    Tensors are `step_<n>/<PEFT's name>`, fp32; the header holds config and provenance of each step as JSON.
    """
    from safetensors.numpy import save

    tensors = {f"step_{n}/{name}": tensor for n, adapter in steps.items() for name, tensor in adapter.tensors.items()}
    header = {
        f"step_{n}": json.dumps({"config": dict(adapter.config), "provenance": dict(adapter.provenance)}, sort_keys=True)
        for n, adapter in steps.items()
    }
    return bytes(save({name: np.asarray(tensor) for name, tensor in tensors.items()}, metadata=header))


def load_adapters(path: str | os.PathLike[str]) -> dict[int, LoraAdapter]:
    """Read what `adapters_as_bytes` made, in order of the steps.

    Raises:
        StoreError: the file is missing, or is another one.
    """
    from safetensors import safe_open

    with boundary(StoreError, f"reading {path}"), safe_open(path, framework="np") as file:
        tensors: dict[int, dict[str, Any]] = {}
        for full in file.keys():  # noqa: SIM118  (safe_open is no mapping)
            step, _, name = full.partition("/")
            tensors.setdefault(int(step.removeprefix("step_")), {})[name] = file.get_tensor(full)
        header = {step: json.loads(file.metadata()[f"step_{step}"]) for step in sorted(tensors)}
        return {step: LoraAdapter(tensors=tensors[step], **about) for step, about in header.items()}
