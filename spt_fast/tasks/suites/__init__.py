"""Suites: several tasks under one name, with weights and shots. `suite:paper` is ours, `suite:./mine.yaml` a user's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from spt_fast.config import TaskConfig
from spt_fast.config.documents import plain_values, read_text
from spt_fast.config.output import at_home
from spt_fast.config.ranges import number, whole
from spt_fast.config.reader import SUITE, TASK_FILES
from spt_fast.config.strict import Mistakes, did_you_mean, filled, mapping_of, missing, read
from spt_fast.errors import MOST_TOLD, ConfigError, shortened

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Member:
    """A task of a suite."""

    task: str
    """As a grid names it."""
    weight: float = field(default=1.0, metadata=number(above=0, most=1e6))
    """Of its score in the suite's mean."""
    shots: int | None = field(default=None, metadata=whole(least=1, most=10_000))
    """Of `few_shot`, in place of the protocol's own; null: those."""
    limit: int | None = field(default=None, metadata=whole(least=1, most=2**31 - 1))
    """Most test rows; null: the grid's `limit`."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is called by one name."""

    name: str
    members: tuple[Member, ...]
    summary: str = ""


def names() -> list[str]:
    """Our own."""
    return sorted(file.stem for file in HERE.glob("*.yaml"))


@cache
def load(reference: str) -> Suite:
    """The suite that a reference names, `suite:` in front.

    Raises:
        ConfigError: there is none, or its file is not as it should be.
    """
    name = reference.removeprefix(SUITE)
    if name.endswith(TASK_FILES[:2]):
        return _read(at_home(name))
    if name not in names():
        meant = did_you_mean(name, names()) or f"; choose from {', '.join(names())}, or the path of a YAML file"
        raise ConfigError(f"suite: {name!r} is none{meant}")
    return _read(HERE / f"{name}.yaml")


def entries(entry: TaskConfig) -> list[TaskConfig]:
    """The tasks of a suite as entries of a grid; `data_files` is a folder with one a task.

    Raises:
        ConfigError: there is no such suite.
    """
    suite = load(entry.task)
    files = entry.data_files
    if isinstance(files, Mapping):
        raise ConfigError("data_files: of a suite it is a folder with a folder a task, and not a mapping of splits")
    return [
        replace(
            entry,
            task=member.task,
            data_files=None if files is None else str(at_home(files) / member.task.rpartition(":")[2]),
            shots=member.shots or entry.shots,
            limit=entry.limit or member.limit,
        )
        for member in suite.members
    ]


def _read(file: Path) -> Suite:
    try:
        return _parsed(read_text(file, missing="no such file; name the YAML file of a suite"), file.parent)
    except ConfigError as e:
        raise e.within(file) from None


_KEYS = ("name", "summary", "tasks")


def _parsed(text: str, base: Path) -> Suite:
    document, mistakes = mapping_of(plain_values(text), "file"), Mistakes()
    mistakes.add(*(f"{key}: is missing" for key in missing(document, ("name", "tasks"), _KEYS)))
    unknown = [key for key in document if key not in _KEYS][:MOST_TOLD]
    mistakes.add(*(f"unknown key {shortened(key)}{did_you_mean(key, _KEYS)}" for key in unknown))
    members: dict[int, Member] = {}
    with mistakes.part():
        given = filled(document["tasks"], "tasks") if "tasks" in document else []
        members = mistakes.of(given, lambda i, item: _member(item, f"tasks[{i}]", base))
    times = Counter(each.task for each in members.values())
    mistakes.add(*(f"tasks: {task} appears twice; remove one" for task, count in times.items() if count > 1))
    mistakes.tell()
    return Suite(name=str(document["name"]), members=tuple(members.values()), summary=str(document.get("summary", "")))


def _member(item: Any, place: str, base: Path) -> Member:
    given = dict(mapping_of({"task": item} if isinstance(item, str) else item, place, "a task name or a mapping"))
    if "task" not in given:
        raise ConfigError(f"{place}: task is missing")
    member = read(Member, given, place)
    if member.task.startswith(SUITE):
        raise ConfigError(f"{place}: {member.task} is a suite, and a suite has tasks; write these")
    beside = base / member.task.removeprefix("lm-eval:")
    there = member.task.endswith(TASK_FILES) and not Path(member.task).is_absolute() and beside.exists()
    return replace(member, task=f"{'lm-eval:' * member.task.startswith('lm-eval:')}{beside}") if there else member
