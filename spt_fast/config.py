"""What a user can ask for. Frozen values, checked when built; no torch, nothing heavy.

`grid.py` reads YAML into these, strictly. A field's docstring is its help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from spt_fast.errors import ConfigError
from spt_fast.types import Position

Init: TypeAlias = Literal["normal"]


def _at_least(what: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{what}: must be at least {least}, not {value}")


def _above(what: str, value: float, bound: float) -> None:
    if not value > bound:
        raise ConfigError(f"{what}: must be greater than {bound}, not {value}")


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Ask plainly: the instruction and the question."""

    name = "zero_shot"

    @property
    def seeded(self) -> bool:
        """Whether a seed can change anything."""
        return False


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Put worked examples in front of the question, drawn from the few-shot rows by seed."""

    name = "few_shot"

    shots: int = 5
    """Examples in front of each question."""

    def __post_init__(self) -> None:
        _at_least("few_shot.shots", self.shots, 1)

    @property
    def seeded(self) -> bool:
        """Whether a seed can change anything."""
        return True


@dataclass(frozen=True, kw_only=True)
class SoftPromptConfig:
    """Learn `length` vectors on the tuning rows, the model frozen; then ask plainly behind them.

    The defaults are those of arXiv 2606.12117, section 3 of its protocol: N(0, 0.02^2), AdamW at a constant rate.
    """

    name = "soft_prompt"

    length: int = 10
    """Soft positions, `P`."""
    steps: int = 80
    """Updates."""
    batch_size: int = 8
    """Rows an update."""
    lr: float = 0.001
    """Learning rate, constant. 0.001 suits models of H >= 2,048; small ones want more (0.02 for H of about 200)."""
    weight_decay: float = 0.0
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    max_grad_norm: float | None = None
    """Clip the gradient of the vectors to this L2 norm; null: no clipping."""
    init: Init = "normal"
    """Where the vectors start."""
    init_std: float = 0.02
    """Standard deviation of `init: normal`."""
    position: Position = "front"
    """`front`: in front of everything, BOS included; `after_bos`: behind BOS."""
    evaluate_at: tuple[int, ...] = ()
    """Steps at which the metrics are taken; 0 is before training. The last step is always among them."""

    def __post_init__(self) -> None:
        for name in ("length", "steps", "batch_size"):
            _at_least(f"soft_prompt.{name}", getattr(self, name), 1)
        for name in ("lr", "init_std"):
            _above(f"soft_prompt.{name}", getattr(self, name), 0)
        _at_least("soft_prompt.weight_decay", self.weight_decay, 0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"soft_prompt.betas: must be in [0, 1), not {list(self.betas)}")
        if self.max_grad_norm is not None:
            _above("soft_prompt.max_grad_norm", self.max_grad_norm, 0)
        for step in self.evaluate_at:
            if not 0 <= step <= self.steps:
                raise ConfigError(f"soft_prompt.evaluate_at: step {step} is outside 0..{self.steps} (steps: {self.steps})")
        if len(set(self.evaluate_at)) != len(self.evaluate_at):
            raise ConfigError("soft_prompt.evaluate_at: a step is there twice")

    @property
    def seeded(self) -> bool:
        """Whether a seed can change anything."""
        return True

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps whose vectors are kept and evaluated, in order, the last step included."""
        return tuple(sorted({*self.evaluate_at, self.steps}))


Protocol: TypeAlias = ZeroShot | FewShot | SoftPromptConfig
PROTOCOLS: Mapping[str, type[Protocol]] = {p.name: p for p in (ZeroShot, FewShot, SoftPromptConfig)}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model to evaluate."""

    id: str
    """A Hub id, a folder, or zoo/<name>."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id; resolved to a commit, which is recorded."""
    post_trained: str | None = None
    """Its post-trained partner, evaluated too."""
    checkpoints: str | None = None
    """A pattern inside the folder `id`: every match is a model, in natural order ("step-*")."""
    tensor_parallel: int = 1
    """GPUs a copy of the model is spread over."""
    dtype: str = "auto"
    """`auto` (the checkpoint's), `bfloat16`, `float16` or `float32`."""
    chat_template: bool | None = None
    """Ask through the tokenizer's chat template. Unset: for post-trained partners that have one, not for others."""
    trust_remote_code: bool = False
    """Run Python code that comes with the weights."""
    soft_prompt: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the grid's soft-prompt settings for this model."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the grid's engine settings for this model."""

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise ConfigError("id: must not be empty")
        _at_least("tensor_parallel", self.tensor_parallel, 1)
        dtypes = ("auto", "bfloat16", "float16", "float32")
        if self.dtype not in dtypes:
            raise ConfigError(f"dtype: must be one of {', '.join(dtypes)}, not {self.dtype!r}")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task to evaluate on."""

    task: str
    """A name (`spt-fast tasks list`)."""
    data_files: str | Mapping[str, str] | None = None
    """Local rows instead of the Hub's: a folder with one file a split, or {split: file}; .jsonl, .json, .csv or .parquet."""
    limit: int | None = None
    """Most test rows; null: the grid's `limit`."""

    def __post_init__(self) -> None:
        if self.limit is not None:
            _at_least("limit", self.limit, 1)


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Models x tasks x protocols x seeds."""

    name: str
    """What the grid is called; the run folder is runs/<name> unless `output` says otherwise."""
    models: tuple[ModelConfig, ...]
    tasks: tuple[TaskConfig, ...]
    protocols: tuple[Protocol, ...] = (ZeroShot(), FewShot(), SoftPromptConfig())
    seeds: tuple[int, ...] = (0,)
    """Of the vectors' start, the order of the tuning rows and the choice of shots."""
    limit: int | None = None
    """Most test rows a task; null: all."""
    judge: None = None
    """Reserved."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """`kind` (vllm, transformers or echo), `window`; the rest is passed to vLLM as it is."""
    output: Path | None = None
    """The run folder."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.output if self.output is not None else Path("runs") / self.name
