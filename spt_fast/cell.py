"""Cell: one point of a grid. Its key is the hash of everything that can change its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from spt_fast.config import Protocol, SoftPromptConfig
from spt_fast.models.identity import Model

RESULTS_VERSION = 1
"""Raised with every change of ours that can move a result: then all cells are new."""

SPEED_ONLY = frozenset(
    {
        "window",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_parallel_loading_workers",
        "load_format",
        "download_dir",
        "disable_log_stats",
        "swap_space",
        "cpu_offload_gb",
        "injection",
    }
)
"""Engine settings that change how fast an answer comes, not what it is (beyond the order of floating-point sums)."""


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """A task of a grid: which rows, and of which version."""

    name: str
    version: int
    content: str
    """What the rows are: commit, world, or hash of the local files."""
    limit: int | None = None
    data_files: str | Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model, task, protocol and seed."""

    model: Model
    task: TaskRows
    protocol: Protocol
    seed: int | None
    """None where a seed changes nothing: zero-shot."""
    label: str
    """The protocol as tables name it: `soft_prompt`, or `soft_prompt[length=5]` where a grid has several of a kind."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """The grid's engine settings with the model's put over them."""

    @cached_property
    def content(self) -> dict[str, Any]:
        """Everything that can change the result, in words."""
        return {
            "results_version": RESULTS_VERSION,
            "model": self.model.content,
            "task": {
                "name": self.task.name,
                "version": self.task.version,
                "content": self.task.content,
                "limit": self.task.limit,
            },
            "protocol": {"name": self.protocol.name, **asdict(self.protocol)},
            "seed": self.seed,
            "engine": {
                "kind": "vllm",
                **{key: value for key, value in self.engine.items() if key not in SPEED_ONLY},
            },
        }

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits."""
        text = json.dumps(self.content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def steps(self) -> tuple[int | None, ...]:
        """Points at which the cell is evaluated: steps of the soft prompt, or the one None of other protocols."""
        return self.protocol.checkpoints if isinstance(self.protocol, SoftPromptConfig) else (None,)

    @property
    def title(self) -> str:
        """How a person is told of it: "zoo/base-40 · zoo-mcq · soft_prompt · seed 0"."""
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        return " · ".join([self.model.name, self.task.name, self.label, *seed])
