"""What of lm-eval can be asked, and what of one task is known without its rows: for `tasks list` and `tasks show`."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spt_fast.errors import ConfigError
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.index import Index, index
from spt_fast.tasks.lm_eval.known import Known, Use

USES: dict[Use, str] = {
    "tuned": "can be tuned: it has a training or validation split beside the scored one",
    "cut": "can be cut: it has scored rows only, and some are cut off to learn from",
    "asked": "can be asked only: there is nothing to learn",
    "refused": "not at all, or not as it stands",
}


def listing(pattern: str = "", include_path: str = "") -> str:
    """The counts of the installed version; with a pattern, the tasks, groups and tags whose names match it.

    Raises:
        ConfigError: lm-eval is not installed, or nothing matches.
    """
    found = index(include_path)
    return _counts(found) if not pattern else _matching(found, pattern)


def _counts(found: Index) -> str:
    tasks = list(found.tasks.values())
    by_use = Counter(task.use for task in tasks)
    lines = [
        f"lm-evaluation-harness {door.version()}: {len(tasks):,} tasks, {len(found.groups):,} groups, {len(found.tags):,} tags",
        "",
    ]
    for use, words in USES.items():
        lines.append(f"{by_use[use]:7,}  {words}")
        if use in ("asked", "refused"):
            reasons = Counter(_kind(task.why) for task in tasks if task.use == use)
            lines += [f"         {count:7,}  {why}" for why, count in reasons.most_common()]
    kinds = Counter(task.output for task in tasks)
    lines += ["", "by kind: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())]
    lines.append("How many rows a split has is known when they are read. A name: spt-fast tasks list 'lm-eval:mmlu*'")
    return "\n".join(lines)


def _kind(why: str) -> str:
    """A reason without what differs from task to task."""
    return "it asks each row several times" if why.startswith("it asks each row") else why


def _matching(found: Index, pattern: str) -> str:
    tasks = [task for name, task in found.tasks.items() if fnmatch.fnmatchcase(name, pattern)]
    groups = [f"group  {name}: {len(_expanded(found, name))} tasks" for name in _matched(found.groups, pattern)]
    tags = [
        f"tag    {name}: {len(members)} tasks" for name, members in found.tags.items() if fnmatch.fnmatchcase(name, pattern)
    ]
    if not tasks and not groups and not tags:
        raise ConfigError(found.unknown(pattern))
    width = max((len(task.name) for task in tasks), default=0)
    told = [f"{task.use:8}{task.name:{width}}  {_said(task)}".rstrip() for task in tasks]
    return "\n".join([*groups, *tags, *told])


def _matched(names: Iterable[str], pattern: str) -> list[str]:
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def _expanded(found: Index, name: str) -> list[Known]:
    try:
        return found.expand(name)
    except ConfigError:  # a group that cannot be asked
        return []


def _said(task: Known) -> str:
    where = f"{task.hub}{f' ({task.config})' if task.config else ''}"
    return f"{task.output}, {where}{f'; {task.why}' if task.use == 'refused' else ''}"


def without_rows(task: Known) -> list[str]:
    """How a task asks, as its config has it: what can be said where its rows cannot be read."""
    file = Path(task.file)
    config = door.read_yaml(file if file.is_absolute() else door.own_folder() / file, functions=False)
    keys = ("description", "doc_to_text", "doc_to_choice", "target_delimiter", "doc_to_target", "fewshot_config", "filter_list")
    return [f"{key:16} {_short(config[key])}" for key in keys if config.get(key) not in (None, "")]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
