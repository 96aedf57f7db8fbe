"""Where soft prompts come from: the model that they were trained for, and their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from spt_fast import tasks
from spt_fast.config import CHAT_DATE, ModelConfig
from spt_fast.errors import ConfigError
from spt_fast.inspection.inspected import Inspected
from spt_fast.models.identity import ChatTemplate, Model, require_resolved, resolve
from spt_fast.plan.cell import TaskRows


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model that prompts were learnt for, and the tasks."""

    model: ModelConfig | None
    """None: they do not name one."""
    name: str = ""
    fingerprint: str = ""
    """Of the model that it was then; empty: any will do."""
    chat_template: ChatTemplate = "never"
    tasks: Mapping[str, TaskRows] = field(default_factory=dict)
    """By name; others are as the registry has them."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings."""

    def resolved(self, instead: str | None) -> Model:
        """The model, or the one that is named instead of it.

        Raises:
            ConfigError, ModelError: it is not there, or another one than then.
        """
        if instead is not None:
            config = ModelConfig(id=instead) if self.model is None else replace(self.model, id=instead, revision=None)
            model = require_resolved(resolve(config)[0])
        elif self.model is None:
            raise ConfigError("the file does not name its model; give --model for the nearest tokens")
        else:
            model = require_resolved(resolve(self.model)[0])
            if self.fingerprint and model.fingerprint != self.fingerprint:
                raise ConfigError(f"{self.name}: {model.source} is another model than the run had; name that one with --model")
        return replace(model, name=self.name or model.name, chat_template=self.chat_template)

    def rows(self, name: str) -> TaskRows:
        """Which rows a task has.

        Raises:
            ConfigError: there is no such task.
        """
        if name in self.tasks:
            return self.tasks[name]
        task = tasks.get(name)
        return TaskRows(name=task.name, version=task.version, content="", ref=name)


def origin_of_file(prompt: Inspected) -> Origin:
    return Origin(model=None if prompt.model is None else ModelConfig(id=prompt.model))


def origin_of_run(grid: Mapping[str, Any], model: str) -> Origin:
    entry = next(entry for entry in grid["models"] if entry["id"] == model)
    rows = (
        TaskRows(
            **{**{name: task.get(name) for name in ("version", "content", "limit", "data_files")}, "name": task["task"]},
            cut=task.get("cut", True),
        )
        for task in grid["tasks"]
    )
    return Origin(
        model=ModelConfig(
            id=entry["source"],
            revision=entry["revision"],
            tensor_parallel=entry["tensor_parallel"],
            gpus=entry["gpus"],
            dtype=entry["dtype"],
            chat_template_kwargs=entry["chat_template_kwargs"],
            chat_date=entry.get("chat_date", CHAT_DATE),
            trust_remote_code=entry["trust_remote_code"],
        ),
        name=model,
        fingerprint=entry["fingerprint"],
        chat_template=entry["chat_template"],
        tasks={each.name: each for each in rows},
        engine={**grid["engine"], **entry["engine"]},
    )
