"""What an evaluation in the loop comes to: numbers for a logger, soft prompts for the next time, and every row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from spt_fast.errors import StoreError, boundary
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.storage.files import write_whole
from spt_fast.types import Metric, Sample


class SoftPrompts(Mapping[str, SoftPrompt]):
    """The soft prompts of one model, by task."""

    def __init__(self, prompts: Mapping[str, SoftPrompt] | None = None) -> None:
        """Of these tasks; of none."""
        self._prompts = dict(prompts or {})

    def __getitem__(self, task: str) -> SoftPrompt:
        return self._prompts[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)

    def __repr__(self) -> str:
        return f"SoftPrompts of {', '.join(self) or 'no task'}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to one safetensors file: whole or not at all.

        Raises:
            StoreError: the folder cannot be written, or the disk is full.
        """
        from safetensors.numpy import save

        header = {task: json.dumps(dict(prompt.provenance), sort_keys=True) for task, prompt in self.items()}
        with boundary(StoreError, f"writing {path}"):
            data = save({task: prompt.vectors for task, prompt in self.items()}, metadata=header)
        write_whole(path, bytes(data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SoftPrompts:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, or is another.
        """
        from safetensors import safe_open

        with boundary(StoreError, f"reading {path}"), safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            return cls(
                {
                    task: SoftPrompt(vectors=file.get_tensor(task), provenance=json.loads(header.get(task, "{}")))
                    for task in file.keys()  # noqa: SIM118  (safe_open is no mapping)
                }
            )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One task, asked in one way."""

    task: str
    protocol: str
    """`soft_prompt` or `zero_shot`."""
    metrics: Sequence[Metric]
    """Each with its number of rows and its 95 % interval."""
    samples: Sequence[Sample] = field(repr=False)
    """Every row with what was written and scored."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """How it was scored."""


@dataclass(frozen=True, kw_only=True)
class InLoopResult:
    """What `evaluate_in_loop` returns; but for `seconds`, the same on all ranks."""

    metrics: Mapping[str, float]
    """For a logger: `spt/arc_easy/format_following`; what is asked without a soft prompt is under `spt/arc_easy/zero_shot/`."""
    soft_prompts: SoftPrompts
    """For the next call."""
    asked: Sequence[Asked] = field(default=(), repr=False)
    """The same numbers with their intervals, and every row."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """By task, why there is nothing of it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of this rank, by phase: `prepare`, `train`, `ask`, `score`."""


def flat(asked: Sequence[Asked], prefix: str) -> dict[str, float]:
    """The metrics of all tasks under names that a logger groups by slashes; those that are not defined are left out."""
    found: dict[str, float] = {}
    for each in asked:
        way = "" if each.protocol == "soft_prompt" else f"{each.protocol}/"
        found |= {f"{prefix}/{each.task}/{way}{m.name}": m.value for m in each.metrics if m.value == m.value}
    return found
