"""A user's own task: a YAML file of a few lines, a short Python file, or an entry point of an installed package.

A path that ends in `.yaml` or `.yml` is data, read by `file.py`; nothing in it is run. **A path that ends in `.py` is
code, and is run**, as is the module of an entry point, with the rights of whoever runs spt-fast: the file has a constant
`TASK`, as our own tasks have.

The content hash of the file becomes `Task.definition`, and so part of the key of the task's cells: an edited file is a new
task, whatever its version says.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from spt_fast.config import plugins, ranges
from spt_fast.config.documents import read_bytes
from spt_fast.config.output import at_home
from spt_fast.config.ranges import Allowed, range_of, require
from spt_fast.errors import ConfigError, boundary, shortened
from spt_fast.tasks import _WHERE
from spt_fast.tasks.base import FileSource, GeneratedSource, HubSource, LeftOut, Task
from spt_fast.tasks.custom.file import commits, parse
from spt_fast.tasks.custom.keys import TaskFile
from spt_fast.tasks.loading.splits import locate


@dataclass(frozen=True)
class _Names:
    """What the parts of a task are called where the user wrote them."""

    head: str
    rows: str
    cut: str
    max_tokens: str


_YAML = _Names(head="", rows="rows", cut="rows.cut", max_tokens="max_tokens")
_PYTHON = _Names(head="TASK.", rows="TASK.source", cut="TASK.cut", max_tokens="sampling.max_tokens")


def load(path: str) -> Task:
    """The task that a file defines. Relative paths in it are taken from its own folder.

    Raises:
        ConfigError: one sentence with the file, the key or line, and the mend.
    """
    file = at_home(path)
    try:
        data = read_bytes(file)
    except OSError as e:
        reason = {FileNotFoundError: "no such file", IsADirectoryError: "is a folder"}.get(type(e))
        raise ConfigError(
            f"{path}: {reason or f'cannot be read ({e.strerror or e})'}; name a task's .yaml or .py file"
        ) from None
    if file.suffix == ".py":
        return _finished(_run(file, data), data, file.parent, path, _PYTHON)
    try:
        task = parse(data.decode("utf-8-sig"), place=path)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text (UTF-8)") from None
    except ConfigError as e:
        raise e.within(path) from None
    return _finished(task, data, file.parent, path, _YAML)


def from_entry_point(point: importlib.metadata.EntryPoint) -> Task:
    """The task that an installed package offers in the group `spt_fast.tasks`. Its name is the entry point's.

    Raises:
        ConfigError: it cannot be imported, or is no task.
    """
    found = plugins.load(point, "task")
    file, data = plugins.source_of(point)
    place = plugins.place_of(point, "task")
    task = _finished(_task(found, place), data, file.parent, place, _PYTHON)
    if task.name != point.name:
        raise ConfigError(f"{place}: TASK.name: is {task.name!r}; the entry point and the task have one name")
    return task


def _run(file: Path, data: bytes) -> Task:
    """The constant `TASK` of a Python file, which is run once for each of its contents."""
    digest = hashlib.sha256(f"{file.absolute()}\n".encode() + data).hexdigest()[:16]
    name = f"_spt_fast_task_{digest}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look for their module there
        try:
            # Not by the spec's loader: it goes by the time of the file, and leaves __pycache__ in the user's folder.
            exec(compile(data, str(file), "exec", dont_inherit=True), module.__dict__)
        except BaseException as e:
            del sys.modules[name]
            if not isinstance(e, Exception | SystemExit):
                raise
            raise ConfigError(f"{file}{_line(e, str(file))}: {_words(e)}") from None
    try:
        found = vars(sys.modules[name])["TASK"]
    except KeyError:
        raise ConfigError(
            f"{file}: has no constant TASK; end it with TASK = Task(...), as spt_fast/tasks/benchmarks/gsm8k.py does"
        ) from None
    return _task(found, str(file))


def _task(found: Any, place: str) -> Task:
    if not isinstance(found, Task):
        raise ConfigError(f"{place}: TASK is {type(found).__name__}; it must be a spt_fast.tasks.base.Task")
    return found


def _line(error: BaseException, file: str) -> str:
    if isinstance(error, SyntaxError) and error.filename == file:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""


def _words(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first_line = (text.strip().splitlines() or [""])[0]
    return first_line if isinstance(error, ConfigError) else f"{type(error).__name__}: {first_line}"


def _finished(task: Task, data: bytes, base: Path, place: str, names: _Names) -> Task:
    """The task with its definition and with absolute places of its files, checked."""
    source = task.source
    try:
        with boundary(ConfigError, f"{names.head.rstrip('.') or 'task'} is not as it should be"):
            if isinstance(source, FileSource):
                source = FileSource(files=_beside(source.files, base))
            task = replace(task, source=source, definition=hashlib.sha256(data).hexdigest()[:16])
            _check(task, names)
    except ConfigError as e:
        raise e.within(place) from None
    return task


def _beside(files: str | Mapping[str, str], base: Path) -> str | dict[str, str]:
    if isinstance(files, str):
        return str(base / at_home(files))
    return {split: str(base / at_home(file)) for split, file in files.items()}


def _check(task: Task, names: _Names) -> None:
    """What has to hold of every task, and holds of ours because they are tested."""
    head = names.head
    if (
        not re.fullmatch(r"[\w.+-]{1,200}", task.name)
        or not task.name.strip(".")
        or task.name.endswith((".yaml", ".yml", ".py"))
    ):
        raise ConfigError(
            f"{head}name: {shortened(task.name)} must be letters, digits, '.', '_', '+' or '-', and not end as a file does"
        )
    if task.name in _WHERE:
        raise ConfigError(f"{head}name: {task.name!r} is one of spt-fast's own tasks; choose another")
    require(_range(TaskFile, "version"), task.version, f"{head}version")
    require(_range(TaskFile, "max_tokens"), task.sampling.max_tokens, f"{head}{names.max_tokens}")
    if not task.closed_ended and task.extract is None:
        raise ConfigError(f"{head}extract: is missing; a task with a format needs it")
    if task.cloze_template is not None and "{question}" not in task.cloze_template.item:
        raise ConfigError(f"{head}cloze: has no {{question}} in it; write it as in Question: {{question}}\\nAnswer:")
    require(_range(TaskFile, "random_baseline"), task.random_baseline, f"{head}random_baseline")
    if task.cut is not None:
        ranges.check(task.cut, f"{names.cut}.")
    if isinstance(task.source, HubSource):
        _check_hub(task, task.source, names)
    elif isinstance(task.source, FileSource):
        _check_files(task, task.source, names)
    elif not isinstance(task.source, GeneratedSource):
        raise ConfigError(f"{names.rows}: must be a HubSource, FileSource or GeneratedSource")
    if task.sample is not None:
        _check_sample(task, task.sample, head)


def _range(cls: type[Any], name: str) -> Allowed:
    """What is declared beside a key of a task file; a task of Python has the same."""
    allowed = next(range_of(f) for f in fields(cls) if f.name == name)
    assert allowed is not None
    return allowed


def _check_hub(task: Task, source: HubSource, names: _Names) -> None:
    for each in (source, *source.elsewhere.values()):
        if not re.fullmatch("[0-9a-f]{40}", each.revision):
            raise ConfigError(
                f"{names.rows}.revision: must be a full commit (40 hexadecimal digits), not {each.revision!r}, because a "
                f"branch can change under a result; {commits(each.id)} lists the commits"
            )
    splits = source.all_splits
    if "test" not in splits:
        raise ConfigError(f"{names.rows}.splits: has no test; say which split is scored")
    if task.cut is not None and "tuning" in splits:
        raise ConfigError(f"{names.cut}: is for a data set with test rows only, and splits names tuning; leave one out")
    for split in ("tuning", "few_shot"):
        shared = {*splits.get(split, "").split("+")} & {*splits["test"].split("+")}
        if shared and source.of(split) == source.of("test"):
            mend = "name another, or leave it out and write cut"
            raise ConfigError(f"{names.rows}.splits.{split}: is {splits[split]!r}, whose rows are the test rows; {mend}")


def _check_files(task: Task, source: FileSource, names: _Names) -> None:
    try:
        files = locate(task, source.files)
    except ConfigError as e:
        raise ConfigError(f"{names.rows}.{str(e).replace('data_files', 'files', 1)}") from None
    if "test" not in files:
        raise ConfigError(
            f"{names.rows}.files: no test rows in {source.files}; give a file test.jsonl, .json, .csv or .parquet"
        )
    if task.cut is not None and "tuning" in files:
        there = ", ".join(map(str, files["tuning"]))
        raise ConfigError(f"{names.cut}: is for test rows only, and tuning rows are in {there}; leave one out")


def _check_sample(task: Task, sample: Mapping[str, Any], head: str) -> None:
    try:
        example = task.read_row(sample)
    except LeftOut as e:
        raise ConfigError(f"{head}sample: is a row {e.why}; give it a question and an answer") from None
    except (LookupError, TypeError, ValueError, AttributeError) as e:
        raise ConfigError(f"{head}sample: is not a row of the task ({_words(e)})") from None
    if example is None:
        raise ConfigError(f"{head}sample: is a row that the task leaves out; give it a question and an answer")
    if not task.follows_format(example.target, example):
        raise ConfigError(f"{head}sample: its target {example.target[-60:]!r} is not in the form that the task asks for")
