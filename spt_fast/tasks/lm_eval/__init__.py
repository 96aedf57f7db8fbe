"""Tasks of lm-evaluation-harness, by its own objects: `lm-eval:arc_easy`, `lm-eval:./my_task.yaml`.

Its YAML is not read anew and none of its functions is written again: rows, prompts, filters, metrics and aggregation are its
own. What is ours is what stands around that: soft prompts, format following and knowledge, the store, the engines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from spt_fast.config import TaskConfig
from spt_fast.errors import ConfigError
from spt_fast.tasks.base import Task
from spt_fast.tasks.lm_eval.group import files_of, group_of
from spt_fast.tasks.lm_eval.index import group_in, index, of_file
from spt_fast.tasks.lm_eval.known import Known, is_file
from spt_fast.tasks.lm_eval.task import PREFIX, task_of

SETTINGS = ("include_path", "unsafe_code")
"""What may stand behind the name in a reference: lm-eval:NAME?include_path=folder."""
LEARNT = "learnt"
"""The same, of a group that is learnt from as a whole: lm-eval:mmlu?learnt=group."""


def load(reference: str, *, allowed: bool = True) -> Task:
    """The task that a reference names.

    Args:
        reference: with `lm-eval:` in front.
        allowed: refuse what cannot be asked.

    Raises:
        ConfigError: there is no such task, it is a group, or it cannot be asked.
    """
    name, settings = parsed(reference)
    if settings.pop(LEARNT, ""):
        return group_of(f"{PREFIX}{name}", [load(each) for each in expanded(written(name, settings))])
    task = _known(name, settings)
    if task.obstacle and allowed:
        raise ConfigError(f"{PREFIX}{task.name}: {task.why}; leave it out")
    if task.unsafe and not settings.get("unsafe_code") and allowed:
        raise ConfigError(f"{PREFIX}{task.name}: {task.why}")
    return task_of(task)


def known_of(reference: str) -> Known:
    """What is known of the task that a reference names.

    Raises:
        ConfigError: there is no such task, or it is a group.
    """
    return _known(*parsed(reference))


def expanded(reference: str) -> list[str]:
    """The references of the tasks that one stands for: itself, or those of a group or tag that can be asked.

    Raises:
        ConfigError: there is no such name, or none of them can be asked.
    """
    name, settings = _group_of_file(*parsed(reference))
    if is_file(name):
        return [reference]
    found = index(settings.get("include_path", ""))
    if name in found.tasks:
        return [reference]
    members = found.expand(name) if found.has(name) else []
    if not members:
        return [reference]  # `load` says what is wrong with it
    usable = [each for each in members if _can_be_asked(each, settings)]
    if not usable:
        raise ConfigError(f"{PREFIX}{name}: none of its {len(members)} tasks can be asked: {members[0].why}; leave it out")
    return [written(f"{name}/{each.name}" if each.overrides else each.name, settings) for each in usable]


def _can_be_asked(task: Known, settings: Mapping[str, str]) -> bool:
    return not task.obstacle and (not task.unsafe or bool(settings.get("unsafe_code")))


def left_out(entry: TaskConfig) -> str:
    """Which tasks of a group are left out, because they cannot be asked, and why; empty: none."""
    name, settings = _group_of_file(*_with_settings(entry))
    found = index(settings.get("include_path", ""))
    if is_file(name) or name in found.tasks or not found.has(name):
        return ""
    members = found.expand(name)
    out = [each for each in members if not _can_be_asked(each, settings)]
    if not out:
        return ""
    reasons = Counter(each.why for each in out)
    said = "; ".join(f"{count:,}: {why}" for why, count in reasons.most_common())
    return f"{entry.task}: {len(out):,} of its {len(members):,} tasks cannot be asked, and are left out ({said})"


def entries(entry: TaskConfig) -> list[TaskConfig]:
    """The tasks that an entry of a grid stands for. Of a group, `data_files` has a folder a task, or is for all of them.

    Raises:
        ConfigError: there is no such name, or none of its tasks can be asked.
    """
    plain = replace(entry, include_path=None, unsafe_code=False)
    references = expanded(written(*_with_settings(entry)))
    if entry.prompt_for == "group" and len(references) < 2:
        raise ConfigError(f"prompt_for: {entry.task} is one task, and group is for several; leave prompt_for out")
    return [replace(plain, task=each, data_files=_files_of(entry, each)) for each in references]


def learnt_together(entry: TaskConfig) -> str:
    """The reference of all tasks of an entry as one that is learnt from."""
    name, settings = _group_of_file(*_with_settings(entry))
    return written(name, {**settings, LEARNT: "group"})


def means(entry: TaskConfig) -> dict[str, Any]:
    """How a group weighs its tasks in its mean, and which metrics it has; a tag has none of its own.

    Several metrics of a group are weighed alike in all of lm-eval's own groups.
    """
    name, settings = _group_of_file(*_with_settings(entry))
    group = index(settings.get("include_path", "")).groups.get(name)
    if group is None:
        return {"name": f"{PREFIX}{name}", "by_rows": True, "metrics": []}
    weighed = [each.get("weight_by_size", True) for each in group.means if isinstance(each, Mapping)]
    metrics = [str(each["metric"]) for each in group.means if isinstance(each, Mapping)]
    return {"name": f"{PREFIX}{name}", "by_rows": all(weighed), "metrics": metrics}


def _files_of(entry: TaskConfig, reference: str) -> str | Mapping[str, str] | None:
    if is_file(reference):
        return entry.data_files
    return files_of(entry.data_files, parsed(reference)[0].rpartition("/")[2])


def _with_settings(entry: TaskConfig) -> tuple[str, dict[str, str]]:
    """The name, or path, of a grid's entry, with what the entry says beside it."""
    name, settings = parsed(entry.task)
    return name, settings | {key: str(value) for key in SETTINGS if (value := getattr(entry, key))}


def _group_of_file(name: str, settings: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """A user's YAML that defines a group is the group in its folder; all else is itself."""
    group = group_in(name) if is_file(name) else ""
    return (group, {**settings, "include_path": str(Path(name).parent)}) if group else (name, dict(settings))


def parsed(reference: str) -> tuple[str, dict[str, str]]:
    """The name, or path, and the settings behind it."""
    name, _, settings = reference.removeprefix(PREFIX).partition("?")
    return name, dict(parse_qsl(settings))


def written(name: str, settings: Mapping[str, Any]) -> str:
    """A reference."""
    there = urlencode({key: value for key, value in settings.items() if value}, quote_via=quote, safe="/")
    return f"{PREFIX}{name}{there and '?'}{there}"


def _known(name: str, settings: Mapping[str, str]) -> Known:
    if is_file(name):
        return of_file(name)
    found = index(settings.get("include_path", ""))
    if (task := found.task(name)) is not None:
        return task
    if found.has(name):
        members = found.expand(name)
        first = f", as {PREFIX}{members[0].name}" if members else ""
        raise ConfigError(
            f"{PREFIX}{name}: is a group of {len(members):,} tasks, and here one task is wanted; name one of them{first}"
        )
    raise ConfigError(found.unknown(name))
