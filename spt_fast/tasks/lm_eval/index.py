"""Which tasks, groups and tags the installed lm-eval has: read once for each of its versions, and kept in the user's cache."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError, StoreError, boundary, first_line
from spt_fast.storage.files import write_whole
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.config import inline, settings_of
from spt_fast.tasks.lm_eval.known import Known, known

LAYOUT = 2
"""Of the file in the cache; raised when what stands in it changes."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Several tasks under one name."""

    name: str
    members: tuple[Any, ...]
    """Names, or mappings: {task: name, ...overrides}, {group: name, task: [...]}."""
    means: tuple[Mapping[str, Any], ...] = ()
    """Which means it has over its tasks: `metric`, `weight_by_size`, `filter_list`."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What its config says of all its tasks: `metric_list`, say."""
    own: Mapping[str, Known] = field(default_factory=dict)
    """The tasks that are defined in its list and have no YAML of their own, by their full names."""


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
        if not slash and INSIDE in name:
            group, own = name.partition(INSIDE)[0], name
        return next((each for each in self.expand(group) if each.name == own), None) if self.has(group) else None

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
            yield over(self.tasks[name], overrides)
        elif name in self.tags:
            for each in self.tags[name]:
                yield from self._expand(each, overrides, (*inside, name))
        elif name in self.groups:
            group = self.groups[name]
            for member in group.members:
                yield from self._member(group, member, {**group.overrides, **overrides}, (*inside, name), name)
        else:
            raise ConfigError(self.unknown(name))

    def _member(
        self,
        group: Group,
        member: Any,
        overrides: Mapping[str, Any],
        inside: tuple[str, ...],
        called: str,
    ) -> Iterator[Known]:
        """The tasks of an item of a group's list.

        Args:
            group: whose YAML it is in.
            member: a name, or a mapping.
            overrides: what is put over its tasks.
            inside: the groups that are being expanded.
            called: the name of the group whose list it is in, which may itself be defined in that YAML.
        """
        if isinstance(member, str):
            yield from self._expand(member, overrides, inside)
            return
        name = member.get("group", member.get("task"))
        if isinstance(name, str) and self.has(name):
            yield from self._expand(name, {**overrides, **settings_of(member)}, inside)
        elif isinstance(member.get("task"), list):
            within = f"{called}{INSIDE}{member['group']}" if "group" in member else called
            for each in member["task"]:
                # What calls a group goes before what the group says.
                yield from self._member(group, each, {**settings_of(member), **overrides}, inside, within)
        elif (found := group.own.get(f"{called}{INSIDE}{name}")) is not None:
            yield over(found, overrides)
        else:
            raise ConfigError(f"lm-eval:{inside[-1]}: {_no_task(member)}; name the others one by one")

    def unknown(self, name: str) -> str:
        """That there is no such name, and which was probably meant: those that begin with it, or else the nearest."""
        known_names = sorted({*self.tasks, *self.groups, *self.tags}, key=lambda each: (len(each), each))
        longer = [each for each in known_names if re.match(rf"{re.escape(name)}[_-]", each)]
        meant = did_you_mean(name, known_names)
        if longer:
            more = f" (all {len(longer):,}: spt-fast tasks list '{PREFIX}{name}*')" if len(longer) > MOST_MEANT else ""
            meant = f"; did you mean {' or '.join(map(repr, longer[:MOST_MEANT]))}?{more}"
        return f"{PREFIX}{name}: lm-eval has no task, group or tag of this name{meant}"


PREFIX, MOST_MEANT = "lm-eval:", 3
INSIDE = "::"
"""Between the name of a group and that of a task that is defined in it, as lm-eval has it."""


_TELL_NOTHING = frozenset(
    {"metric_list", "description", "doc_to_text", "process_docs", "process_results", "target_delimiter", "should_decontaminate"}
)
"""Keys of a config that nothing in `Known` comes from."""


def over(task: Known, overrides: Mapping[str, Any]) -> Known:
    """A task with what a group puts over its config."""
    if not overrides:
        return task
    if any(_is_python(value) for value in overrides.values()):
        why = "its group puts Python (`!function`) over it, which is read only in a YAML of a task: `include` this one there"
        return replace(task, overrides=overrides, obstacle=why)
    if overrides.keys() <= _TELL_NOTHING:
        return replace(task, overrides=overrides)
    root = None if Path(task.file).is_absolute() else door.own_folder()
    file = Path(task.file) if root is None else root / task.file
    whole = door.read_yaml(file, functions=False)
    config = inline(whole, task.inside, overrides) if task.inside else {**whole, **overrides}
    return replace(known(task.name, file, config, root=root), digest=task.digest, overrides=overrides, inside=task.inside)


def _is_python(value: Any) -> bool:
    """Whether a value is a function as the index has it: the path of a module and a name in it."""
    if isinstance(value, list | tuple):
        return any(map(_is_python, value))
    if isinstance(value, Mapping):
        return any(map(_is_python, value.values()))
    return isinstance(value, str) and value.startswith("/") and Path(f"{value.rpartition('.')[0]}.py").is_file()


def _no_task(member: Mapping[str, Any]) -> str:
    """Why lm-eval makes no task of an item of a group's list."""
    if not isinstance(member.get("task"), str):
        return "an item of its list has no name (`task`), and lm-eval makes no task of it"
    if "include" in member:
        return f"its task {member['task']} has an `include` inside the group's list, which lm-eval does not read there"
    return f"its task {member['task']} is neither a task of lm-eval nor defined there (it has no doc_to_text)"


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


def group_in(path: str) -> str:
    """The name of the group that a user's YAML file defines; empty: it defines none, or cannot be read."""
    try:
        config = door.read_yaml(Path(path), functions=False) if Path(path).is_file() else {}
    except Exception:  # `of_file` says what is wrong with it
        return ""
    return str(config.get("group", "")) if not isinstance(config.get("task"), str) else ""


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
                groups[name] = _group(name, Path(entry.yaml_path).absolute(), entry.cfg, root)
            else:
                tasks[name] = known(name, Path(entry.yaml_path).absolute(), entry.cfg, root=root)
    return Index(tasks=tasks, groups=groups, tags=tags)


def _group(name: str, file: Path, config: Mapping[str, Any], root: Path | None) -> Group:
    members, means = config.get("task") or [], config.get("aggregate_metric_list") or []
    return Group(
        name=name,
        members=tuple(members if isinstance(members, list) else [members]),
        means=tuple(means if isinstance(means, list) else [means]),
        overrides=settings_of(config),
        own={each.name: each for each in _defined(name, file, config, config, (), root)},
    )


def _defined(
    name: str, file: Path, whole: Mapping[str, Any], group: Mapping[str, Any], places: tuple[int, ...], root: Path | None
) -> Iterator[Known]:
    """The tasks that are defined in a group's list, or in those of groups inside it."""
    members = group.get("task")
    for place, member in enumerate(members if isinstance(members, list) else []):
        here = (*places, place)
        if not isinstance(member, Mapping):
            continue
        if isinstance(member.get("task"), list):
            within = f"{name}{INSIDE}{member['group']}" if "group" in member else name
            yield from _defined(within, file, whole, member, here, root)
        elif isinstance(member.get("task"), str) and "include" not in member and "doc_to_text" in member:
            own = f"{name}{INSIDE}{member['task']}"
            yield replace(known(own, file, inline(whole, here, {}), root=root), inside=here)


def _plain(found: Index) -> dict[str, Any]:
    return {
        "tasks": [each.plain() for each in found.tasks.values()],
        "groups": [
            [each.name, each.members, each.means, each.overrides, [one.plain() for one in each.own.values()]]
            for each in found.groups.values()
        ],
        "tags": found.tags,
    }


def _from_plain(plain: Mapping[str, Any]) -> Index:
    groups = (
        Group(
            name=name,
            members=tuple(members),
            means=tuple(means),
            overrides=overrides,
            own={each["name"]: Known.of(each) for each in own},
        )
        for name, members, means, overrides, own in plain["groups"]
    )
    return Index(
        tasks={each["name"]: Known.of(each) for each in plain["tasks"]},
        groups={each.name: each for each in groups},
        tags={name: tuple(members) for name, members in plain["tags"].items()},
    )
