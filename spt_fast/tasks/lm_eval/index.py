"""Which tasks, groups and tags the installed lm-eval has: read once for each of its versions, and kept in the user's cache."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError, StoreError, boundary, first_line
from spt_fast.storage.files import write_whole
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.known import Known, known

LAYOUT = 1
"""Of the file in the cache; raised when what stands in it changes."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Several tasks under one name."""

    name: str
    members: tuple[Any, ...]
    """Names, or mappings: {task: name, ...overrides}, {group: name, task: [...]}."""
    means: tuple[Mapping[str, Any], ...] = ()
    """Which means it has over its tasks: `metric`, `weight_by_size`, `filter_list`."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """What there is."""

    tasks: Mapping[str, Known]
    groups: Mapping[str, Group]
    tags: Mapping[str, tuple[str, ...]]

    def task(self, name: str) -> Known | None:
        """A task by its name, or by `group/name` where a group puts settings of its own over it."""
        if (found := self.tasks.get(name)) is not None:
            return found
        group, slash, own = name.rpartition("/")
        return next((each for each in self.expand(group) if each.name == own), None) if slash and self.has(group) else None

    def has(self, name: str) -> bool:
        """Whether it is the name of a task, a group or a tag."""
        return name in self.tasks or name in self.groups or name in self.tags

    def expand(self, name: str) -> list[Known]:
        """The tasks that a name stands for, each once.

        Raises:
            ConfigError: there is no such name, or a group has what is no task.
        """
        found = {each.name: each for each in self._expand(name, {}, ())}
        return list(found.values())

    def _expand(self, name: str, overrides: Mapping[str, Any], inside: tuple[str, ...]) -> Iterator[Known]:
        if name in inside:
            raise ConfigError(f"lm-eval:{inside[0]}: {name} is a group inside itself")
        if name in self.tasks:
            yield replace(self.tasks[name], overrides=overrides) if overrides else self.tasks[name]
        elif name in self.tags:
            for each in self.tags[name]:
                yield from self._expand(each, overrides, (*inside, name))
        elif name in self.groups:
            for member in self.groups[name].members:
                yield from self._member(member, overrides, (*inside, name))
        else:
            raise ConfigError(self.unknown(name))

    def _member(self, member: Any, overrides: Mapping[str, Any], inside: tuple[str, ...]) -> Iterator[Known]:
        if isinstance(member, str):
            yield from self._expand(member, overrides, inside)
            return
        own = {key: value for key, value in member.items() if key not in _STRUCTURE}
        name = member.get("group", member.get("task"))
        if isinstance(name, str) and self.has(name):
            yield from self._expand(name, {**overrides, **own}, inside)
        elif isinstance(member.get("task"), list):
            for each in member["task"]:
                yield from self._member(each, overrides, inside)
        else:
            raise ConfigError(
                f"lm-eval:{inside[-1]}: has a task that is defined inside it and nowhere else; name the others one by one"
            )

    def unknown(self, name: str) -> str:
        """That there is no such name, and which was probably meant."""
        known_names = [*self.tasks, *self.groups, *self.tags]
        return f"lm-eval:{name}: lm-eval has no task, group or tag of this name{did_you_mean(name, known_names)}"


_STRUCTURE = frozenset({"task", "group", "task_alias", "group_alias", "aggregate_metric_list", "metadata", "tag"})
"""Keys of a group's member that change nothing about how its tasks are asked."""


@cache
def index(include_path: str = "") -> Index:
    """What the installed lm-eval has; with `include_path` what is in a user's folder goes before it.

    Raises:
        ConfigError: lm-eval is not installed; the folder is not there or has no task.
    """
    own = _own()
    if not include_path:
        return own
    folder = Path(include_path)
    if not folder.is_dir():
        raise ConfigError(f"include_path: there is no folder {include_path!r}; name the folder of the YAML files")
    mine = _scanned(folder, root=None)
    if not mine.tasks and not mine.groups:
        raise ConfigError(f"include_path: no task of lm-eval is in {include_path!r}; its YAML files have a key `task`")
    return Index(tasks={**own.tasks, **mine.tasks}, groups={**own.groups, **mine.groups}, tags={**own.tags, **mine.tags})


def of_file(path: str) -> Known:
    """The task that a user's YAML file defines.

    Raises:
        ConfigError: it cannot be read, or defines no task.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{path}: no such file; name a YAML file of a task of lm-eval")
    door.version()
    try:
        config = door.read_yaml(file, functions=False)
    except Exception as e:  # YAML and includes raise whatever they raise
        raise ConfigError(f"{path}: cannot be read as a task of lm-eval ({first_line(e)}); mend the file") from None
    if not isinstance(config.get("task"), str):
        what = (
            "a group; name the folder as include_path, and the group" if "group" in config else "no task; give it a key `task`"
        )
        raise ConfigError(f"{path}: is {what}")
    return known(config["task"], file.absolute(), config, root=None)


def _own() -> Index:
    """Of lm-eval's own tasks: from the cache, or read now and kept there."""
    file = _cache() / f"lm-eval-{door.version()}-{LAYOUT}.json"
    try:
        return _from_plain(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # not there yet, or cut short
    folder = door.own_folder()
    found = _scanned(folder, root=folder)
    with suppress(StoreError):  # a cache that cannot be written costs seconds
        write_whole(file, json.dumps(_plain(found)).encode())
    return found


def _cache() -> Path:
    root = os.environ.get("SPT_FAST_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "spt-fast"


def _scanned(folder: Path, *, root: Path | None) -> Index:
    tasks: dict[str, Known] = {}
    groups: dict[str, Group] = {}
    tags: dict[str, tuple[str, ...]] = {}
    with boundary(ConfigError, f"include_path: {folder} cannot be read" if root is None else "lm-eval's tasks cannot be read"):
        for name, entry in door.scan(folder).items():
            if entry.kind.name == "TAG":
                tags[name] = tuple(sorted(entry.tags))
            elif entry.kind.name == "GROUP":
                groups[name] = _group(name, entry.cfg)
            else:
                tasks[name] = known(name, Path(entry.yaml_path).absolute(), entry.cfg, root=root)
    return Index(tasks=tasks, groups=groups, tags=tags)


def _group(name: str, config: Mapping[str, Any]) -> Group:
    members, means = config.get("task") or [], config.get("aggregate_metric_list") or []
    return Group(
        name=name,
        members=tuple(members if isinstance(members, list) else [members]),
        means=tuple(means if isinstance(means, list) else [means]),
    )


def _plain(found: Index) -> dict[str, Any]:
    return {
        "tasks": [each.plain() for each in found.tasks.values()],
        "groups": [[each.name, each.members, each.means] for each in found.groups.values()],
        "tags": found.tags,
    }


def _from_plain(plain: Mapping[str, Any]) -> Index:
    groups = (Group(name=name, members=tuple(members), means=tuple(means)) for name, members, means in plain["groups"])
    return Index(
        tasks={each["name"]: Known.of(each) for each in plain["tasks"]},
        groups={each.name: each for each in groups},
        tags={name: tuple(members) for name, members in plain["tags"].items()},
    )
