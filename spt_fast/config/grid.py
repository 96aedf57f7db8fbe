"""A grid: models x tasks x protocols x seeds. Frozen values, checked when built; `reader` reads YAML into them, strictly.

A field's docstring is its help; beside it stand the values that it may have (`ranges`), which are checked whoever builds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from spt_fast.config import ranges
from spt_fast.config.output import Location, check, folder_on, location
from spt_fast.config.protocols import FewShot, Protocol, SoftPromptConfig, ZeroShot
from spt_fast.config.ranges import SEED, number, one_of, path, require_plain, whole
from spt_fast.errors import ConfigError, shortened

DTYPES = ("auto", "bfloat16", "float16", "float32")

CHAT_DATE = "2024-07-26"
"""The day of prompts whose chat template asks for today's: the one that Llama 3's falls back to where there is no clock."""


def is_day(text: str) -> bool:
    """Whether a text is a day of the calendar, as in 2024-07-26."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


MOST_LEFT_OUT = 0.1
"""Greatest share of test rows that may be left out unless a grid says otherwise (`TaskConfig.allow_left_out`)."""


def is_pattern(text: str) -> bool:
    """Whether a revision stands for a series: a name of git has none of these characters."""
    return any(character in text for character in "*?[")


MOST_NAME = 200
"""Bytes of the name of a grid or a task, which becomes part of file names."""

_NO_REVISION = re.compile(r"\.\.|//|^[/-]|[/.]$|[\s~^:\\]|@\{")
"""What no name of git has in it."""


def _is_revision(text: str) -> bool:
    return _NO_REVISION.search(text) is None


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model to evaluate."""

    id: str = field(metadata=path(empty=True))
    """A Hub id, a folder, or zoo/<name>."""
    revision: str | None = field(default=None, metadata=path(200))
    """Branch, tag or commit of a Hub id; resolved to a commit, which is recorded. A pattern ("step*") is a series: every
    branch or tag that matches is a model, in natural order, named `<id>@<revision>`."""
    post_trained: str | None = field(default=None, metadata=path())
    """Its post-trained partner, evaluated too."""
    checkpoints: str | None = field(default=None, metadata=path())
    """A pattern inside the folder `id`: every match is a model, in natural order ("step-*")."""
    tensor_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """GPUs that each layer of the model is spread over: of one node."""
    pipeline_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """Stages that its layers are cut into, of `tensor_parallel` GPUs each: on a cluster whose nodes are too small for all of
    them, on several nodes."""
    gpus: float | None = field(default=None, metadata=number(above=0, most=1_048_576))
    """GPUs a worker of it takes: a share (0.5) lets small models have one GPU together. Unset: `tensor_parallel` times
    `pipeline_parallel`."""
    dtype: str = field(default="auto", metadata=one_of(*DTYPES))
    """`auto` (the checkpoint's), `bfloat16`, `float16` or `float32`."""
    chat_template: bool | None = None
    """Ask through the tokenizer's chat template. Unset: for post-trained partners that have one, not for others."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Given to the chat template: {enable_thinking: false} asks Qwen3 for its answer at once."""
    chat_date: str = CHAT_DATE
    """The day that a chat template is told when it asks for today's ("2024-07-26", in quotes): the same tomorrow."""
    trust_remote_code: bool = False
    """Run Python code that comes with the weights."""
    soft_prompt: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the grid's soft-prompt settings for this model."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the grid's engine settings for this model."""

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise ConfigError("id: must not be empty")
        ranges.check(self)
        if self.revision is not None and not _is_revision(self.revision):
            raise ConfigError(
                f"revision: {shortened(self.revision)} cannot be a branch, tag or commit; name one, or a pattern of them"
            )
        require_plain(self.chat_template_kwargs, "chat_template_kwargs")
        require_plain(self.engine, "engine")
        if not is_day(self.chat_date):
            raise ConfigError(f'chat_date: must be a day, as in "{CHAT_DATE}", not {shortened(self.chat_date)}')
        share = self.gpus is not None and 0 < self.gpus < 1
        spread = self.tensor_parallel * self.pipeline_parallel
        by = "tensor_parallel" if self.pipeline_parallel == 1 else "tensor_parallel x pipeline_parallel"
        if share and spread > 1:
            by = by if self.tensor_parallel > 1 else "pipeline_parallel"
            raise ConfigError(
                f"gpus: {self.gpus:g} is a share of one GPU, and {by} spreads the model over {spread}; leave one of them out"
            )
        if self.gpus is not None and not share and self.gpus != spread:
            raise ConfigError(
                f"gpus: must be a share of one GPU (0.5) or as many as {by} ({spread}), "
                f"not {self.gpus:g}; to spread a model over several, set tensor_parallel"
            )


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task to evaluate on."""

    task: str = field(metadata=path())
    """A name (`spt-fast tasks list`)."""
    data_files: str | Mapping[str, str] | None = field(default=None, metadata=path())
    """Local rows instead of the Hub's: a folder with one file a split, or {split: file}; .jsonl, .json, .csv (or one of
    these in .gz) or .parquet."""
    limit: int | None = field(default=None, metadata=whole(least=1, most=2**31 - 1))
    """Most test rows; null: the grid's `limit`."""
    allow_left_out: float = field(default=MOST_LEFT_OUT, metadata=number(least=0, most=1))
    """Greatest share of test rows that may be left out, for want of an answer, a question or an option: 0.3 or 30%. Where more
    are, the task's cells fail. Rows that are no questions of the task are told, and do not count."""
    shots: int | None = field(default=None, metadata=whole(least=1, most=10_000))
    """Of `few_shot`, for this task in place of the protocol's own; null: those."""
    include_path: str | None = field(default=None, metadata=path())
    """Of `lm-eval:` tasks: a folder of YAML files that goes before lm-eval's own tasks, as `lm_eval --include_path` has it."""
    unsafe_code: bool = False
    """Of `lm-eval:` tasks: let those run that run the code which a model writes."""

    def __post_init__(self) -> None:
        ranges.check(self)
        for name in ("include_path", "unsafe_code"):
            if getattr(self, name) and not self.task.startswith("lm-eval:"):
                raise ConfigError(f"{name}: is for tasks of lm-eval, and {self.task} is none; leave it out")


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """A model that rules on open-ended answers, once on knowledge and once on form, instead of the task's own rules."""

    model: str = field(metadata=path(empty=True))
    """A Hub id, a folder, or zoo/<name>."""
    revision: str | None = field(default=None, metadata=path(200))
    """Branch, tag or commit of a Hub id."""
    tensor_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """GPUs that each layer of the judge is spread over: of one node."""
    pipeline_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """Stages that its layers are cut into, as of a model."""
    gpus: float | None = field(default=None, metadata=number(above=0, most=1_048_576))
    """GPUs a worker of it takes: a share (0.5), or `tensor_parallel` times `pipeline_parallel`, which it is where unset."""
    dtype: str = field(default="auto", metadata=one_of(*DTYPES))
    """`auto` (the checkpoint's), `bfloat16`, `float16` or `float32`."""
    chat_template: bool | None = None
    """Ask through the tokenizer's chat template. Unset: where it has one."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"enable_thinking": False})
    """Given to the chat template. A judge that thinks aloud could not: its answer is held to one word."""
    chat_date: str = CHAT_DATE
    """The day that its chat template is told when it asks for today's, as of a model."""
    trust_remote_code: bool = False
    """Run Python code that comes with the weights."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Engine settings of the judge, instead of the grid's."""

    def __post_init__(self) -> None:
        if self.revision is not None and is_pattern(self.revision):
            raise ConfigError(f"revision: {self.revision!r} is a pattern, and the judge is one model; name one revision")
        # As a model of the grid: what is wrong with one is wrong with the other.
        ranges.check(self)
        ModelConfig(
            id=self.model,
            revision=self.revision,
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            gpus=self.gpus,
            dtype=self.dtype,
            chat_date=self.chat_date,
            chat_template_kwargs=self.chat_template_kwargs,
            engine=self.engine,
        )


@dataclass(frozen=True, kw_only=True)
class PriceConfig:
    """What machines cost."""

    per_gpu_hour: float = field(metadata=number(least=0, most=1e9))
    """An hour of one GPU; where there is none, an hour of a worker."""
    currency: str = ""
    """USD, EUR, ..."""

    def __post_init__(self) -> None:
        ranges.check(self)
        if not re.fullmatch(r"\w{0,12}", self.currency):
            raise ConfigError(f"currency: must be a word, like USD, not {shortened(self.currency)}")


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Models x tasks x protocols x seeds."""

    name: str = field(metadata=path(MOST_NAME))
    """What the grid is called; the run folder is runs/<name> unless `output` says otherwise."""
    models: tuple[ModelConfig, ...]
    """The models to evaluate, each an id or a mapping."""
    tasks: tuple[TaskConfig, ...]
    """The tasks to evaluate on, each a name, the path of a task file, or a mapping."""
    protocols: tuple[Protocol, ...] = (ZeroShot(), FewShot(), SoftPromptConfig())
    """How each model is asked: a protocol's name, or {name: settings}. A setting that is a list of values makes a protocol for
    each."""
    seeds: tuple[int, ...] = field(default=(0,), metadata={"range": SEED})
    """Of the vectors' start, the order of the tuning rows and the choice of shots."""
    limit: int | None = field(default=None, metadata=whole(least=1, most=2**31 - 1))
    """Most test rows a task; null: all."""
    judge: JudgeConfig | None = None
    """Who rules on open-ended answers; null: the tasks' own rules."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """`kind` (vllm, transformers or echo), `window`; the rest is passed to vLLM as it is."""
    truth: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # each a SCORE
    """Task ("" for all) -> model -> what it is known to score: an order that `rank` and the report hold every protocol's
    against, beside that of the post-trained partners. No cell depends on it."""
    output: Location | None = field(default=None, metadata=path())
    """The run folder, or its URL (s3://bucket/runs/x). With {date} in it, each day has a folder of its own, which begins with
    what the days before have done; {name} is the grid's."""
    rerun: float = field(default=0.0, metadata=number(least=0, most=1, note="a share of the rows, 2% or 0.02"))
    """Share of each cell's test rows that are asked once more, to see which answers flip (2%, or 0.02); changes no result."""
    price: PriceConfig | None = None
    """What an hour of a GPU costs, to say what the grid does; changes no result."""

    def __post_init__(self) -> None:
        ranges.check(self)
        require_plain(self.engine, "engine")
        if self.output is not None:
            try:
                object.__setattr__(self, "output", location(self.output))
                check(self.output)
            except ConfigError as e:
                raise ConfigError(f"output: {e}") from None

    @property
    def folder(self) -> Location:
        """The run folder, a `Path`, or its URL, text. With {date} in `output`, today's, by local time: another one tomorrow."""
        return Path("runs") / self.name if self.output is None else folder_on(date.today(), self.output, name=self.name)
