"""One soft prompt for a group (`prompt_for: group`): the rows of all its tasks, learnt from as one task and never asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spt_fast.config.output import at_home
from spt_fast.errors import ConfigError
from spt_fast.tasks.base import SPLITS, Row, Task
from spt_fast.tasks.library import (
    Answered,
    Chat,
    Continued,
    Library,
    LibrarySource,
    Opened,
    Opener,
    Prompt,
    Prompts,
    Rows,
    Verdict,
)
from spt_fast.tasks.rows import load_rows
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Metric


def group_of(name: str, members: Sequence[Task]) -> Task:
    """The tasks of a group as one that is learnt from.

    Its tuning rows are those of all of them, each rendered as its own task has it. None of them is a row that any of them
    asks or shows: they are cut as for the tasks themselves, and what is left is held against the test rows of all.
    """
    by_name = {task.name: task for task in members}
    closed = all(task.closed_ended for task in members)
    return Task(
        name=name,
        version=0,
        summary=f"{name}: the rows of its {len(members):,} tasks, to learn from",
        source=LibrarySource(opener=GroupRows(by_name)),
        library=GroupLessons(name, by_name),
        read_row=_read_row,
        template=Template(instruction="", item="{question}"),
        cloze=None,
        format=None if closed else "(?s).*",
        form="that of each of its tasks",
        sampling=max((task.sampling for task in members), key=lambda sampling: sampling.max_tokens),
        random_baseline=0.0,
        licence="those of its data sets",
        definition=_hash(f"{task.name} {task.version} {task.definition}" for task in members),
    )


def files_of(data_files: str | Mapping[str, str] | None, name: str) -> str | Mapping[str, str] | None:
    """The local rows of one task of a group: a folder of its name, or else what is there for all of them."""
    if not isinstance(data_files, str):
        return data_files
    own = at_home(data_files) / name
    return str(own) if own.is_dir() else data_files


@dataclass(frozen=True)
class GroupRows(Opener):
    """Where the rows of a group's tasks are."""

    members: Mapping[str, Task] = field(hash=False)

    def __str__(self) -> str:
        return f"the rows of {len(self.members):,} tasks"

    def locate(self, data_files: str | Mapping[str, str]) -> dict[str, tuple[Path, ...]]:
        """The local files of each task's splits, by task and split."""
        found: dict[str, tuple[Path, ...]] = {}
        for name, task in self.members.items():
            own = files_of(data_files, short(name))
            assert own is not None
            found |= {f"{name}\n{split}": files for split, files in _opener(task).locate(own).items()}
        return found

    def content(self) -> str:
        """The commits of their data sets."""
        return _hash(_opener(task).content() for task in self.members.values())

    def open(self, files: Mapping[str, tuple[Path, ...]] | None, *, learns: bool) -> Opened:
        """The rows of each task, cut and made disjoint as for itself."""
        found: dict[str, list[Row]] = {split: [] for split in SPLITS}
        first = {}
        for name, task in self.members.items():
            source = LibrarySource(opener=_Located(_opener(task), None if files is None else _of(name, files)))
            rows = load_rows(replace(task, source=source), need=(), cut=learns)
            first[name] = rows.first
            for split in SPLITS:
                found[split] += [{"example": example, "task": name} for example in getattr(rows, split)]
        return Opened(rows=found, first=first)


@dataclass(frozen=True)
class _Located(Opener):
    """A task's rows from files that are found already."""

    inner: Opener
    files: Mapping[str, tuple[Path, ...]] | None = field(hash=False)

    def locate(self, data_files: str | Mapping[str, str]) -> dict[str, tuple[Path, ...]]:
        return self.inner.locate(data_files)

    def content(self) -> str:
        return ""

    def open(self, files: Mapping[str, tuple[Path, ...]] | None, *, learns: bool) -> Opened:
        return self.inner.open(self.files, learns=learns)


@dataclass(frozen=True)
class GroupLessons(Library):
    """What a group's tasks teach."""

    name: str
    members: Mapping[str, Task] = field(hash=False)

    def prompts(self, rows: Rows, *, shots: int = 0, seed: int | None = None, chat: Chat | None = None) -> Prompts:
        """Each row's own task renders it."""
        return _Lessons(self.members, rows, chat)

    def in_form(self, text: str, example: Example) -> bool:
        """By the rules of the row's own task."""
        return _library(self.members[example.group]).in_form(text, example)

    def judge(self, rows: Rows, answers: Sequence[Answered]) -> tuple[list[Verdict], tuple[Metric, ...]]:
        """Nothing is asked of a group.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.name}: is a group, and only learnt from; ask its tasks")


class _Lessons(Prompts):
    def __init__(self, members: Mapping[str, Task], rows: Rows, chat: Chat | None) -> None:
        self._members, self._rows, self._chat = members, rows, chat
        self._made: dict[str, Prompts] = {}

    def of(self, example: Example) -> Prompt:
        raise ConfigError(f"{example.group}: a group is only learnt from; ask its tasks")

    def lesson(self, example: Example) -> Continued:
        name = example.group
        if name not in self._made:
            own = _Own(first=self._rows.first[name])
            self._made[name] = _library(self._members[name]).prompts(own, chat=self._chat)
        return self._made[name].lesson(example)


@dataclass(frozen=True)
class _Own:
    """What a task's prompts without shots rest on."""

    first: Any
    few_shot: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()


def short(name: str) -> str:
    """Of a task, without what says whose it is."""
    return name.partition(":")[2]


def _read_row(row: Row) -> Example:
    """Its example, marked with its task: that is who renders it."""
    example: Example = row["example"]
    return replace(example, group=row["task"])


def _of(name: str, files: Mapping[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """Of the files of `GroupRows.locate` those of one task, by split."""
    return {place.removeprefix(f"{name}\n"): each for place, each in files.items() if place.startswith(f"{name}\n")}


def _opener(task: Task) -> Opener:
    assert isinstance(task.source, LibrarySource)
    return task.source.opener


def _library(task: Task) -> Library:
    assert task.library is not None
    return task.library


def _hash(parts: Any) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
