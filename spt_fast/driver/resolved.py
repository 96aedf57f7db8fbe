"""The grid of a run as it was resolved, for the run folder's grid.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from spt_fast.config import GridConfig
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError
from spt_fast.models.hub import natural
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.store import Store
from spt_fast.tasks import means
from spt_fast.version import version


def resolved(config: GridConfig, cells: Sequence[Cell], *, folder: Location) -> dict[str, Any]:
    """The grid with defaults filled in, and what its names stood for: commits, fingerprints, versions, cell keys."""
    models = {cell.model.name: cell.model for cell in cells}
    rows = {cell.task.name: replace(cell.task, asked_by=None) for cell in cells}
    return {
        "name": config.name,
        "models": [_model(model) for model in models.values()],
        "tasks": [_task(task) for task in rows.values()],
        "means": [dict(found) for entry in config.tasks if (found := means(entry)) is not None],
        **_together(cells),
        "protocols": [
            {p.name: {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(p).items()}} for p in config.protocols
        ],
        "seeds": list(config.seeds),
        "limit": config.limit,
        "judge": _judge(cells),
        "truth": {task: dict(known) for task, known in config.truth.items()},
        "engine": dict(config.engine),
        "rerun": config.rerun,
        **({} if config.stop is None else {"stop": asdict(config.stop)}),
        "price": None if config.price is None else asdict(config.price),
        "output": str(folder),
        "spt_fast": version(),
        "cells": {cell.key: _cell(cell) for cell in cells},
    }


def with_earlier(told: Mapping[str, Any], store: Store, series: str) -> dict[str, Any]:
    """The grid of a series' next models, with the models and cells of the series that a run folder's grid.yaml has already.

    Of a task that is another now, what it was asked is left out; it stays in the folder.

    Args:
        told: `resolved` of the next models.
        store: the run folder.
        series: its pattern.
    """
    try:
        before = store.resolved()
    except ConfigError:  # it is new
        return dict(told)
    new = {model["id"] for model in told["models"]}
    earlier = {m["id"]: m for m in before["models"] if m.get("series") == series and m["id"] not in new}
    asked = {task["task"]: (task["version"], task["content"]) for task in told["tasks"]}
    same = {task["task"] for task in before["tasks"] if asked.get(task["task"]) == (task.get("version"), task.get("content"))}
    cells = {key: cell for key, cell in before["cells"].items() if cell["model"] in earlier and cell["task"] in same}
    models = sorted([*earlier.values(), *told["models"]], key=lambda model: natural(model["id"]))
    order = {model["id"]: i for i, model in enumerate(models)}
    together = sorted({**told["cells"], **cells}.items(), key=lambda item: order[item[1]["model"]])
    return {**told, "models": models, "cells": dict(together)}


def _model(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "source": model.source,
        "revision": model.revision,
        "fingerprint": model.fingerprint,
        "post_trained": model.post_trained,
        "tensor_parallel": model.tensor_parallel,
        "pipeline_parallel": model.pipeline_parallel,
        "gpus": model.gpus,
        "dtype": model.dtype,
        "chat_template": model.chat_template,
        "chat_template_kwargs": dict(model.chat_template_kwargs),
        "chat_date": model.chat_date,
        "trust_remote_code": model.trust_remote_code,
        "soft_prompt": dict(model.soft_prompt),
        "engine": dict(model.engine),
        **_series(model),
    }


def _series(model: Model) -> dict[str, Any]:
    """Which series a model is of, and how far it was trained; nothing of one that stands alone."""
    if model.series is None:
        return {}
    return {"series": model.series, **({"trained": dict(model.trained)} if model.trained else {})}


def _task(rows: TaskRows) -> dict[str, Any]:
    return {
        "task": rows.name,
        "version": rows.version,
        "content": rows.content,
        "format": rows.task.format,
        "form": rows.task.form_in_words,
        "limit": rows.limit,
        "cut": rows.cut,
        "allow_left_out": rows.allow_left_out,
        "data_files": dict(rows.data_files) if isinstance(rows.data_files, Mapping) else rows.data_files,
    }


def _together(cells: Sequence[Cell]) -> dict[str, Any]:
    """Groups whose tasks share what is learnt, and these tasks; where there are any."""
    found: dict[str, list[str]] = {}
    for task in {cell.task.name: cell.task for cell in cells if cell.task.learnt_with is not None}.values():
        assert task.learnt_with is not None
        found.setdefault(task.learnt_with.name, []).append(task.name)
    return {"learnt_together": found} if found else {}


def _cell(cell: Cell) -> dict[str, Any]:
    members = {"members": [member.key for member in cell.asked]} if cell.unjudged.members else {}
    return {
        "model": cell.model.name,
        "task": cell.task.name,
        "protocol": cell.label,
        "seed": cell.seed,
        "closed_ended": cell.task.task.closed_ended,
        "rests_on": None if cell.judge is None else cell.unjudged.key,
        **members,
    }


def _judge(cells: Sequence[Cell]) -> dict[str, Any] | None:
    judge = next((cell.judge for cell in cells if cell.judge is not None), None)
    if judge is None:
        return None
    return {
        "model": judge.model.name,
        "source": judge.model.source,
        "revision": judge.model.revision,
        "fingerprint": judge.model.fingerprint,
        "chat_template": judge.model.chat_template,
        "chat_template_kwargs": dict(judge.model.chat_template_kwargs),
        "chat_date": judge.model.chat_date,
        "engine": dict(judge.engine),
        "prompts": judge.prompts,
    }
