"""Cell: one point of a grid. Its key is the hash of everything that can change its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from spt_fast import tasks
from spt_fast.config import MOST_LEFT_OUT, PROTOCOLS, Protocol
from spt_fast.config.plugins import Plugins
from spt_fast.config.ranges import Choice, range_of
from spt_fast.errors import ConfigError, boundary
from spt_fast.models.identity import Model
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import Rows, load_rows

RESULTS_VERSION = 3
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
        "scoring",
    }
)
"""Engine settings that change how fast an answer comes, not what it is (beyond the order of floating-point sums)."""


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """A task of a grid: which rows, of which version, and how it is asked."""

    name: str
    version: int
    content: str
    """What the rows are: commit, world, or hash of the local files; of a user's task its definition too. Empty: as they are."""
    limit: int | None = None
    data_files: str | Mapping[str, str] | None = None
    ref: str = ""
    """What the registry knows it by where that is not its name: the path of a task file."""
    cut: bool = True
    """Whether rows to be learnt from are cut from test rows where there are no others; False in a grid that learns nothing."""
    shots: int | None = None
    """Of `few_shot`, in place of the protocol's own. No part of its content: the protocol has them."""
    allow_left_out: float = MOST_LEFT_OUT
    """Greatest share of test rows that may be left out. No part of a key: it changes no row."""
    learnt_with: TaskRows | None = None
    """The rows of its group, where what is learnt is learnt for all its tasks together. No part of its content: cells that
    learn have it as `learnt_on`."""
    asked_by: Protocol | None = None
    """A protocol that asks it in another way (`Protocol.asks`); None: as the task has it. Part of the key is the protocol."""

    @property
    def task(self) -> Task:
        """The task, as it is asked.

        Raises:
            ConfigError: there is none; or `asked_by` fails on it, or changes what it must not.
        """
        own = tasks.get(self.ref or self.name)
        return own if self.asked_by is None else _asked(self.asked_by, self.ref or self.name, id(own))

    def read(self, limit: int | None = None) -> Rows:
        """The rows; `limit` lowers the task's own.

        Raises:
            ConfigError, DataError: they cannot be read.
        """
        limits = [most for most in (self.limit, limit) if most is not None]
        task = tasks.get(self.ref or self.name)
        return load_rows(task, data_files=self.data_files, limit=min(limits, default=None), need={"test"}, cut=self.cut)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model that rules on the completions of open-ended tasks."""

    model: Model
    engine: Mapping[str, Any]
    """Its engine settings."""
    prompts: str
    """Hash of the prompts it is asked with, and of how its answer is read."""

    @cached_property
    def content(self) -> dict[str, Any]:
        """What of a judge can change a verdict."""
        return {"model": self.model.content, "engine": _engine_content(self.engine), "prompts": self.prompts}


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
    learnt_on: TaskRows | None = None
    """Transfer: the task whose tuning rows the vectors are learnt on. None: the cell's own."""
    judge: Judge | None = None
    """Who rules on its completions; None: the task's own rules."""
    starts_on: TaskRows | None = None
    """`init_from` a task: the one whose soft prompt the vectors start from."""
    starts_with: str = ""
    """`init_from` a file: the content hash of its vectors (`SoftPrompt.key`)."""

    @property
    def content(self) -> dict[str, Any]:
        """Everything that can change the result, in words. Made anew: kept, those of a large grid would fill the memory."""
        content: dict[str, Any] = {
            "results_version": RESULTS_VERSION,
            "model": self.model.content,
            "task": _content(self.task),
            "protocol": {"name": self.protocol.name, **_settings(self.protocol), **self._start, **_code(self.protocol)},
            "seed": self.seed,
            "engine": _engine_content(self.engine),
        }
        if self.learnt_on is not None:
            # Not the path of a task file, which `from` may be.
            content["protocol"]["from_task"] = {**_content(self.learnt_on), "limit": None}
        if self.judge is not None:
            content["judge"] = self.judge.content
        return content

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits."""
        return _hash(self.content)

    @property
    def steps(self) -> tuple[int | None, ...]:
        """Points at which the cell is evaluated: steps of what is learnt, or the one None of other protocols."""
        return self.protocol.checkpoints

    @cached_property
    def unjudged(self) -> Cell:
        """The cell whose completions this one's judge rules on; without a judge, the cell itself."""
        return self if self.judge is None else replace(self, judge=None)

    @cached_property
    def members(self) -> tuple[Cell, ...]:
        """Ensemble: the cells of its soft prompts, whose answers it is made from; of any other cell there are none."""
        if self.seed is None or self.judge is not None:
            return ()
        return tuple(
            replace(self, protocol=protocol, seed=seed, label=f"{self.label} member {i}")
            for i, (protocol, seed) in enumerate(self.protocol.parts(self.seed))
        )

    @property
    def asked(self) -> tuple[Cell, ...]:
        """The cells that a model has to answer for this one: itself, or what it rests on."""
        return self.unjudged.members or (self.unjudged,)

    @property
    def keys(self) -> frozenset[str]:
        """Its key, and those of all that it rests on."""
        return frozenset({self.key, self.unjudged.key, *(cell.key for cell in self.unjudged.members)})

    @property
    def source(self) -> TaskRows:
        """The task whose tuning rows its vectors are learnt on."""
        return self.learnt_on or self.task

    @cached_property
    def first(self) -> Cell | None:
        """The cell whose last vectors this one's start from, where they are a soft prompt that is learnt for it.

        Of a cell that is carried along a series it is learnt only where no earlier checkpoint has one.
        """
        protocol = self.protocol.first() if self.starts_on is not None or self.protocol.carried else None
        if protocol is None:
            return None
        label = f"{protocol.name} to start {self.label}"
        if self.starts_on is None:
            return replace(self, protocol=protocol, label=label)
        return replace(self, task=self.starts_on, protocol=protocol, label=label, learnt_on=None, starts_on=None)

    @property
    def _start(self) -> dict[str, Any]:
        """What `init_from` stands for, instead of how it is called: the path of a task file, or of a soft prompt."""
        if self.starts_on is not None:
            return {"init_from": {**_content(self.starts_on), "limit": None}}
        return {"init_from": self.starts_with} if self.starts_with else {}

    @cached_property
    def tuning_key(self) -> str:
        """Hash of everything that can change what is learnt at a step: cells that share it share their training.

        A transfer from A and the soft prompt of A do, whatever they are evaluated on and at which steps. They do however long
        they learn, too, where the rate does not depend on how long that is, because rows come in an order that does not.
        """
        return _hash({**self._tuning, "model": self.model.content})

    @property
    def _tuning(self) -> dict[str, Any]:
        """What can change what is learnt at a step, but for the model."""
        beside = ["evaluate_at", "from_task"]
        # What is carried starts from the last step of the one before: with other steps it starts elsewhere.
        if not self.protocol.looks_ahead and not self.protocol.carried:
            beside.append("steps")
        protocol = {key: value for key, value in _settings(self.protocol).items() if key not in beside}
        protocol |= self._start
        return {
            "results_version": RESULTS_VERSION,
            "task": {**_content(self.source), "limit": None},
            "protocol": protocol,
            "learns": self.protocol.learns,
            "shuffled": self.protocol.shuffles,
            "seed": self.seed,
            **_training_code(self.protocol),
        }

    @cached_property
    def thread(self) -> str:
        """Along which its vectors are carried: one of a series, task, settings and seed. Empty: they are not carried."""
        if not self.protocol.carried or self.model.series is None:
            return ""
        model = {name: value for name, value in self.model.content.items() if name != "fingerprint"}
        return _hash({**self._tuning, "model": model, "series": self.model.series})

    @property
    def title(self) -> str:
        """How a person is told of it: "zoo/base-40 · zoo-mcq · soft_prompt · seed 0"."""
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        judged = [] if self.judge is None else ["judged"]
        return " · ".join([self.model.name, self.task.name, self.label, *seed, *judged])


@lru_cache(maxsize=4096)
def _asked(protocol: Protocol, name: str, _: int) -> Task:
    """A task as a protocol asks it, made once for each reading of its file, which has an identity of its own."""
    task = tasks.get(name)
    with boundary(ConfigError, f"{protocol.name}: asking {task.name}"):
        found = protocol.asks(task)
    if not isinstance(found, Task):
        raise ConfigError(f"{protocol.name}: asks() must return the task, not {type(found).__name__}")
    for own in ("name", "version", "source", "read_row", "closed_ended", "random_baseline"):
        if getattr(found, own) != getattr(task, own):
            raise ConfigError(f"{protocol.name}: asks() must leave {own} of {task.name} as it is")
    if task.library is not None and found is not task:
        raise ConfigError(f"{protocol.name}: {task.name} has its prompts from a library, which asks() cannot change")
    return found


def _settings(protocol: Protocol) -> dict[str, Any]:
    """All settings, but for those that grids did not always have where they are at their defaults: keys stay as they were."""
    # Numbers, text and tuples of them: there is nothing for `asdict` to copy, which takes ten times as long.
    found = ((each, getattr(protocol, each.name)) for each in fields(protocol))
    return {each.name: value for each, value in found if not (each.metadata.get("later") and value == each.default)}


def _code(protocol: Protocol) -> dict[str, Any]:
    """Content hashes of the modules of other packages that it rests on: an edit makes new cells. Of ours there is nothing."""
    found = {"code": PROTOCOLS.code(protocol.name)} if protocol.name in PROTOCOLS else {}
    for each in fields(protocol):
        allowed = range_of(each)
        if isinstance(allowed, Choice) and isinstance(allowed.words, Plugins):
            found[f"{each.name}_code"] = allowed.words.code(getattr(protocol, each.name))
    return {name: code for name, code in found.items() if code}


def _training_code(protocol: Protocol) -> dict[str, Any]:
    """What tells the training of another package's protocol from all others'."""
    code = _code(protocol)
    return {"by": {"name": protocol.name, **code}} if code else {}


def _content(rows: TaskRows) -> dict[str, Any]:
    found = {"name": rows.name, "version": rows.version, "content": rows.content, "limit": rows.limit}
    return found if rows.cut else {**found, "cut": False}


def _engine_content(engine: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "vllm", **{key: value for key, value in engine.items() if key not in SPEED_ONLY}}


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_ENCODER.encode(content).encode()).hexdigest()[:16]


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False)
