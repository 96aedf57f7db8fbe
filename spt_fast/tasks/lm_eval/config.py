"""The config of a task of lm-eval, with its functions, as it is needed for the rows that are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from spt_fast.errors import ConfigError, first_line
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.known import Known

_SPLITS = ("training_split", "validation_split", "test_split")


def full(task: Known) -> door.Config:
    """What its YAML says, with the functions that it names, and with what its group puts over it.

    Raises:
        ConfigError: its Python cannot be imported.
    """
    file = Path(task.file)
    try:
        config = door.read_yaml(file if file.is_absolute() else door.own_folder() / file, functions=True)
    except Exception as e:
        raise ConfigError(
            f"lm-eval:{task.name}: its Python cannot be imported ({type(e).__name__}: {first_line(e)}); install what it needs"
        ) from None
    if task.inside:
        return inline(config, task.inside, task.overrides)
    return {**config, **task.overrides}


def inline(group: Mapping[str, Any], inside: Sequence[int], overrides: Mapping[str, Any]) -> door.Config:
    """The config of a task that is defined in a group's own list: what the groups around it say, then itself.

    Args:
        group: the YAML.
        inside: the task's place in its list `task`, of a group inside it in that one's, and so on.
        overrides: what groups of other files put over this one.
    """
    config: door.Config = {}
    node: Mapping[str, Any] = group
    for place in inside:
        config |= settings_of(node)
        node = node["task"][place]
    return {**config, **overrides, **node}


def settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a group's config, or a member of one, says of its tasks."""
    return {key: value for key, value in group.items() if key not in _STRUCTURE}


_STRUCTURE = frozenset({"task", "group", "task_alias", "group_alias", "aggregate_metric_list", "metadata", "tag"})
"""Keys of a group's that change nothing about how its tasks are asked."""


def of_rows(task: Known, there: Collection[str]) -> door.Config:
    """For these splits of its data set. Shots are drawn from where it says, and from nowhere if those rows are not there."""
    config = full(task)
    named = config.get("fewshot_split")
    drawn_from = named or next((config[split] for split in _SPLITS if config.get(split) is not None), None)
    for split in _SPLITS:
        if config.get(split) not in there:
            config[split] = None
    if drawn_from not in there and "samples" not in _shots(config):
        config["fewshot_split"] = None
        config["fewshot_config"] = {**_shots(config), "split": None, "samples": []}
    return config


def of_prepared(task: Known, first: door.Doc) -> tuple[door.Config, Mapping[str, Any]]:
    """For rows that are prepared already; with the data that it is to be built with."""
    config = {**full(task), "process_docs": None}
    config["fewshot_config"] = {**_shots(config), "process_docs": None}
    names = {config.get(split) for split in (*_SPLITS, "fewshot_split")} | {config["fewshot_config"].get("split")}
    return config, {name: door.Docs([first]) for name in names if name is not None}


def _shots(config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(config.get("fewshot_config") or {})
