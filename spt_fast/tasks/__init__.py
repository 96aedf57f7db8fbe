"""The registry: every task by its name.

Ours are listed here and nowhere else: a task is one short module with a constant `TASK`, and one line in `_WHERE`. A user's
own is found by the path of its file (`tasks/custom/`), or by an entry point in the group `spt_fast.tasks` of an installed
package. Nothing is imported before it is asked for.

Decisions:

* A row that is not scored has a reason of one of three kinds (`losses`): left out (counted against `allow_left_out`), no
  question of the task (told, and in no share), or cut off to train on. A null among answers is no answer; null options at
  the end are not there; null elsewhere is a broken row.
* What nobody trains on is not cut: a grid of `zero_shot` alone scores all rows of a data set that has test rows only. With
  any other protocol all cells of the grid have the rows that the cut leaves.
* The rows that are asked are those that the cache key names: task files are read again when a grid is expanded, and a
  worker whose rows have another content hash fails their cells.
* Few-shot examples are the same for all questions of a cell, drawn by its seed, so that they share a cached prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any

from spt_fast.config import TaskConfig, plugins
from spt_fast.config.reader import LM_EVAL, SUITE, TASK_FILES
from spt_fast.errors import ConfigError
from spt_fast.tasks.base import Task

_WHERE: Mapping[str, tuple[str, str]] = {
    "zoo-mcq": ("spt_fast.tasks.benchmarks.zoo", "ZOO_MCQ"),
    "zoo-short": ("spt_fast.tasks.benchmarks.zoo", "ZOO_SHORT"),
    "zoo-number": ("spt_fast.tasks.benchmarks.zoo", "ZOO_NUMBER"),
    "zoo-json": ("spt_fast.tasks.benchmarks.zoo", "ZOO_JSON"),
    **{
        name: (f"spt_fast.tasks.benchmarks.{name}", "TASK")
        for name in (
            # the seven of arXiv 2606.12117
            "mmlu",
            "belebele",
            "chembench",
            "triviaqa",
            "gsm8k",
            "squad",
            "math500",
            # classics that have 640 rows to tune on
            "arc_easy",
            "arc_challenge",
            "hellaswag",
            "piqa",
            "winogrande",
            "boolq",
            "commonsense_qa",
            "openbookqa",
            "social_iqa",
            "sciq",
            "nq_open",
            "drop",
        )
    },
}


def names() -> tuple[str, ...]:
    """The names of all tasks, in the order in which they are listed: ours, then those of installed packages."""
    return (*_WHERE, *(name for name in sorted(plugins.offered(plugins.TASKS)) if name not in _WHERE))


@cache
def get(name: str) -> Task:
    """A task by its name, by its name with another form of the answer behind it (`mmlu:letter`), or by the path of its file.

    A file is read once, until `read_files_again`: the cells of a run are of one task, though its file is edited meanwhile.

    Raises:
        ConfigError: there is none; says which was probably meant.
    """
    if name.startswith(LM_EVAL):
        from spt_fast.tasks import lm_eval

        return lm_eval.load(name)
    if name.endswith(TASK_FILES):
        from spt_fast.tasks.custom import load

        return load(name)
    base, _, form = name.partition(":")
    if form:
        return _formed(base, form)
    if name in _WHERE:
        module, constant = _WHERE[name]
        task: Task = getattr(import_module(module), constant)
        return task
    if name in (offered := plugins.offered(plugins.TASKS)):
        from spt_fast.tasks.custom import from_entry_point

        return from_entry_point(offered[name])
    close = get_close_matches(name.lower(), names(), n=1)
    meant = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names())}"
    raise ConfigError(f"no task is called {name!r}; {meant}")


def entries(entry: TaskConfig) -> list[TaskConfig]:
    """What an entry of a grid stands for: itself, or each task of a suite, or of a group of lm-eval's.

    Raises:
        ConfigError: there is no such suite or group.
    """
    if entry.task.startswith(SUITE):
        from spt_fast.tasks import suites

        return [one for member in suites.entries(entry) for one in entries(member)]
    if not entry.task.startswith(LM_EVAL):
        return [entry]
    from spt_fast.tasks import lm_eval

    return lm_eval.entries(entry)


def learnt_together(entry: TaskConfig) -> str | None:
    """What the registry knows all tasks of an entry by, as one that is learnt from; None: each is learnt from by itself."""
    if entry.prompt_for != "group":
        return None
    from spt_fast.tasks import lm_eval

    return lm_eval.learnt_together(entry)


def means(entry: TaskConfig) -> Mapping[str, Any] | None:
    """The mean over its tasks that an entry of a grid has in the report: `tasks` by name -> weight, `by_rows`, `metrics`.

    None: it is one task.
    """
    if entry.task.startswith(SUITE):
        from spt_fast.tasks import suites

        suite = suites.load(entry.task)
        weights = {get(one.task).name: each.weight for each in suite.members for one in entries(TaskConfig(task=each.task))}
        return {"name": f"{SUITE}{suite.name}", "tasks": weights, "by_rows": False, "metrics": []}
    if entry.task.startswith(LM_EVAL) and len(found := entries(entry)) > 1:
        from spt_fast.tasks import lm_eval

        return {"tasks": {get(one.task).name: 1.0 for one in found}, **lm_eval.means(entry)}
    return None


def left_out(entry: TaskConfig) -> str:
    """Which tasks of a group of lm-eval's are left out, because they cannot be asked, in a sentence; empty: none."""
    if not entry.task.startswith(LM_EVAL):
        return ""
    from spt_fast.tasks import lm_eval

    return lm_eval.left_out(entry)


def listing(what: str, include_path: str = "") -> str:
    """What there is of lm-eval: `lm-eval`, or `lm-eval:PATTERN`.

    Raises:
        ConfigError: it is something else, lm-eval is not installed, or nothing matches.
    """
    name, _, pattern = what.partition(":")
    if f"{name}:" != LM_EVAL:
        raise ConfigError(f"tasks list: {what!r} is no list; there are lm-eval and lm-eval:PATTERN, and ours without a word")
    from spt_fast.tasks.lm_eval.listing import listing as of_lm_eval

    return of_lm_eval(pattern, include_path)


def described(name: str) -> list[str]:
    """How a task of lm-eval asks, as its config has it: lines to show where its rows cannot be read."""
    from spt_fast.tasks.lm_eval import known_of
    from spt_fast.tasks.lm_eval.listing import without_rows

    return without_rows(known_of(name))


def read_files_again() -> None:
    """Forget what was read: a notebook runs one grid after the other, and its user edits the task's file in between."""
    get.cache_clear()


def _formed(base: str, form: str) -> Task:
    from spt_fast.tasks.multiple_choice import INSTRUCTIONS, has_forms, in_form

    task = get(base)
    if not has_forms(task):
        raise ConfigError(f"task: {base} has one form of the answer only; leave out {':' + form!r}")
    for known in INSTRUCTIONS:
        if form == known:
            return in_form(task, known)
    raise ConfigError(f"task: {base} has the forms {', '.join(f'{base}:{known}' for known in INSTRUCTIONS)}, not {form!r}")
