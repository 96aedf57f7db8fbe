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
    """A Hub id, a folder, or `zoo/<name>`."""
    revision: str | None = field(default=None, metadata=path(200))
    """Branch, tag or commit of a Hub id; resolved to a commit, which is recorded. A pattern (`step*`) evaluates every branch or
    tag that matches, in natural order, each as a model named `<id>@<revision>`."""
    post_trained: str | None = field(default=None, metadata=path())
    """Its post-trained counterpart, evaluated too."""
    checkpoints: str | None = field(default=None, metadata=path())
    """A pattern of folders inside the folder `id` (`step-*`): every match is a model, in natural order."""
    tensor_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """GPUs of one node that each layer is spread over."""
    pipeline_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """Stages that the layers are cut into, of `tensor_parallel` GPUs each. Where no node of a cluster has GPUs for all of them,
    they run on several nodes."""
    gpus: float | None = field(default=None, metadata=number(above=0, most=1_048_576))
    """GPUs of a worker: a share (0.5) puts two small models on one GPU. Null: `tensor_parallel` times `pipeline_parallel`."""
    dtype: str = field(default="auto", metadata=one_of(*DTYPES))
    """`auto` (the checkpoint's), `bfloat16`, `float16` or `float32`."""
    chat_template: bool | None = None
    """Prompt through the tokenizer's chat template. Null: for post-trained counterparts that have one, not for others."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the chat template: `{enable_thinking: false}` makes Qwen3 answer without a thought."""
    chat_date: str = CHAT_DATE
    """The date that a chat template gets for today's, in quotation marks, so that prompts are the same tomorrow."""
    trust_remote_code: bool = False
    """Run Python code that comes with the weights. Only for models that you trust."""
    soft_prompt: Mapping[str, Any] = field(default_factory=dict)
    """Settings of soft prompts for this model, over those of the protocols: `{lr: 0.01}`."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the engine for this model, over the grid's: `{max_model_len: 8192}`."""

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

    @property
    def is_series(self) -> bool:
        """Whether it stands for the checkpoints of a series."""
        return self.checkpoints is not None or (self.revision is not None and is_pattern(self.revision))


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task to evaluate on."""

    task: str = field(metadata=path())
    """A name (`spt-fast tasks list`), or the path of a task file."""
    data_files: str | Mapping[str, str] | None = field(default=None, metadata=path())
    """Local rows instead of the Hub's: a folder with one file a split, or `{split: file}`; .jsonl, .json, .csv (or one of
    these in .gz) or .parquet."""
    limit: int | None = field(default=None, metadata=whole(least=1, most=2**31 - 1))
    """Maximum number of test rows; null: the grid's `limit`."""
    allow_left_out: float = field(default=MOST_LEFT_OUT, metadata=number(least=0, most=1))
    """Largest share of test rows that may be left out because an answer, a question or an option is missing: 0.3 or 30%. Where
    more are, the task's cells fail. Rows that are no question of the task are reported, and do not count."""
    shots: int | None = field(default=None, metadata=whole(least=1, most=10_000))
    """Examples of `few_shot` for this task, in place of the protocol's number; null: the protocol's."""
    include_path: str | None = field(default=None, metadata=path())
    """For `lm-eval:` tasks: a folder of YAML files that goes before lm-eval's own tasks, as `lm_eval --include_path` has it."""
    unsafe_code: bool = False
    """For `lm-eval:` tasks: allow those that run code which a model writes."""
    prompt_for: str = field(default="task", metadata=one_of("task", "group"))
    """Of a group of lm-eval: whether what is learnt is learnt for each `task`, or once for the `group`, from rows of all its
    tasks."""

    def __post_init__(self) -> None:
        ranges.check(self)
        for name in ("include_path", "unsafe_code"):
            if getattr(self, name) and not self.task.startswith("lm-eval:"):
                raise ConfigError(f"{name}: is for tasks of lm-eval, and {self.task} is none; leave it out")
        if self.prompt_for == "group" and not self.task.startswith("lm-eval:"):
            raise ConfigError(f"prompt_for: group is for groups of lm-eval, and {self.task} is none; leave it out")


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """A model that judges open-ended answers, once for knowledge and once for form, instead of the task's own rules."""

    model: str = field(metadata=path(empty=True))
    """A Hub id, a folder, or zoo/<name>."""
    revision: str | None = field(default=None, metadata=path(200))
    """Branch, tag or commit of a Hub id."""
    tensor_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """GPUs of one node that each layer is spread over."""
    pipeline_parallel: int = field(default=1, metadata=whole(least=1, most=1024))
    """Stages that the layers are cut into, as of a model."""
    gpus: float | None = field(default=None, metadata=number(above=0, most=1_048_576))
    """GPUs of a worker, as of a model."""
    dtype: str = field(default="auto", metadata=one_of(*DTYPES))
    """`auto` (the checkpoint's), `bfloat16`, `float16` or `float32`."""
    chat_template: bool | None = None
    """Prompt through the tokenizer's chat template. Null: where it has one."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"enable_thinking": False})
    """Arguments of the chat template. A judge cannot think aloud: its answer is one word."""
    chat_date: str = CHAT_DATE
    """The date that the chat template gets for today's, as of a model."""
    trust_remote_code: bool = False
    """Run Python code that comes with the weights. Only for models that you trust."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the judge's engine, instead of the grid's."""

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
    """Price of one hour of one GPU; without a GPU, of one hour of a worker."""
    currency: str = ""
    """`USD`, `EUR`, ..."""

    def __post_init__(self) -> None:
        ranges.check(self)
        if not re.fullmatch(r"\w{0,12}", self.currency):
            raise ConfigError(f"currency: must be a word, like USD, not {shortened(self.currency)}")


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """Ask the rows of a cell in a random order, and no further than until what is to be known is known."""

    when: str = field(default="decided", metadata=one_of("decided"))
    """`decided`: until bounds that hold at every look say that it is known."""
    check: str | None = field(default=None, metadata=path())
    """What is to be known. The path of a policy: whether its checks pass or fail, against `against`. `rank`: whether the model
    is above or below each other model whose cell of the task and protocol is done. `{width: 0.02}`: exact match, format
    following and knowledge, each with an interval of level 1 - alpha at most so wide."""
    width: float | None = field(default=None, metadata=number(above=0, below=1, note="a share (0.02 is two points)"))
    """How wide intervals may be, in place of `check`."""
    alpha: float | None = field(default=None, metadata=number(least=1e-9, below=0.5))
    """Probability that what is said to be known is wrong, over all looks together. Null: the policy's, or 0.05."""
    against: str | None = field(default=None, metadata=path())
    """What a policy holds a cell against: a run folder; the name, or a pattern, of one model of the grid or of its run folder;
    `previous`, the nearest earlier checkpoint of the series that is done whole; or `accepted`, the nearest of these that
    `watch` has accepted."""
    block: int = field(default=50, metadata=whole(least=1, most=1_000_000))
    """Rows between two looks."""
    least: int = field(default=100, metadata=whole(least=1, most=1_000_000))
    """Rows before the first look."""

    def __post_init__(self) -> None:
        ranges.check(self)
        if (self.check is None) == (self.width is None):
            raise ConfigError(
                "check: "
                + ("is missing" if self.check is None else "and width are two things to know")
                + "; give check: POLICY.yaml, check: rank, or width: 0.02"
            )
        if self.by_policy and self.against is None:
            raise ConfigError(
                "against: is missing; name a run folder, a model, previous or accepted, to hold the policy against"
            )
        if not self.by_policy and self.against is not None:
            raise ConfigError(f"against: goes with a policy, and not with {'rank' if self.check else 'width'}; leave it out")

    @property
    def by_policy(self) -> bool:
        """Whether `check` is the path of a policy."""
        return self.check not in (None, RANK)


RANK, ACCEPTED = "rank", "accepted"
"""Of `StopConfig`, the words for `check`, and for `against` beside `previous`."""


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Models x tasks x protocols x seeds."""

    name: str = field(metadata=path(MOST_NAME))
    """Name of the grid. The run folder is `runs/<name>` unless `output` says otherwise."""
    models: tuple[ModelConfig, ...]
    """The models to evaluate, each an id or a mapping."""
    tasks: tuple[TaskConfig, ...]
    """The tasks to evaluate on, each a name, the path of a task file, or a mapping."""
    protocols: tuple[Protocol, ...] = (ZeroShot(), FewShot(), SoftPromptConfig())
    """How each model is prompted: the name of a protocol, or `{name: settings}`. A setting that is a list of values is a
    sweep: a protocol for each value."""
    seeds: tuple[int, ...] = field(default=(0,), metadata={"range": SEED})
    """Random seeds: of the vectors' start, the order of the training rows and the choice of shots."""
    limit: int | None = field(default=None, metadata=whole(least=1, most=2**31 - 1))
    """Maximum number of test rows a task; null: all."""
    judge: JudgeConfig | None = None
    """A model that judges open-ended answers; null: the tasks' own rules."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the engine: `kind` and a few more; all others are passed to vLLM as they are."""
    truth: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # each a SCORE
    """Reference scores of models, used only to evaluate rankings: `{model: score}` for all tasks, or `{task: {model:
    score}}`."""
    output: Location | None = field(default=None, metadata=path())
    """The run folder, or its URL (`s3://bucket/runs/x`); null: `runs/<name>`. `{name}` stands for the grid's name, `{date}` for
    today: each day has a folder of its own, which reuses the completed cells of earlier days."""
    rerun: float = field(default=0.0, metadata=number(least=0, most=1, note="a share of the rows, 2% or 0.02"))
    """Share of each cell's test rows to ask again, to see which answers flip: 2% or 0.02. Changes no result."""
    stop: StopConfig | None = None
    """When the rows of a cell need not be asked any further; null: all are asked. Changes no row's result: a run without it
    asks the rest."""
    price: PriceConfig | None = None
    """Price of an hour of a GPU, for the report's costs. Changes no result."""

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
