"""The registry: every task by its name, listed here and nowhere else.

A task is one short module with a constant `TASK`, and one line in `_WHERE`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module

from spt_fast.errors import ConfigError
from spt_fast.tasks.base import Task

_WHERE: Mapping[str, tuple[str, str]] = {
    "zoo-mcq": ("spt_fast.tasks.zoo", "ZOO_MCQ"),
    "zoo-short": ("spt_fast.tasks.zoo", "ZOO_SHORT"),
    "zoo-number": ("spt_fast.tasks.zoo", "ZOO_NUMBER"),
    "zoo-json": ("spt_fast.tasks.zoo", "ZOO_JSON"),
    "gsm8k": ("spt_fast.tasks.gsm8k", "TASK"),
    "mmlu": ("spt_fast.tasks.mmlu", "TASK"),
}


def names() -> tuple[str, ...]:
    """The names of all tasks, in the order in which they are listed."""
    return tuple(_WHERE)


def get(name: str) -> Task:
    """The task of this name.

    Raises:
        ConfigError: there is none; says which was probably meant.
    """
    if name not in _WHERE:
        close = get_close_matches(name.lower(), _WHERE, n=1)
        meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_WHERE)}"
        raise ConfigError(f"task: no task is called {name!r}; {meant}")
    module, constant = _WHERE[name]
    task: Task = getattr(import_module(module), constant)
    return task
