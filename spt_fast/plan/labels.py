"""What a cell's protocol is called in tables: its name, and the settings in which those of a grid differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import PurePath

from spt_fast import tasks
from spt_fast.config import Protocol, is_unused
from spt_fast.config.strict import key_of
from spt_fast.prompts.soft_prompt import is_prompt_file

MOST_SETTINGS = 3
"""Settings that a protocol's label names; where protocols differ in more, those at their defaults are left out of it."""


def labels(protocols: Sequence[Protocol]) -> list[str]:
    """`soft_prompt`, or `soft_prompt[length=5]` where a grid has several of a kind: the settings in which they differ."""
    labels = []
    values: dict[tuple[str, str], set[object]] = {}
    """Protocol and setting -> what it is in all that have it."""
    for protocol in protocols:
        for name, value in settings_in_use(protocol).items():
            values.setdefault((protocol.name, name), set()).add(value)
    for protocol in protocols:
        own = settings_in_use(protocol)
        differ = [name for name in own if len(values[protocol.name, name]) > 1]
        if len(differ) > 1:  # a longer training is evaluated at more steps, too
            differ = [name for name in differ if name not in ("evaluate_at", "repeat_rows")] or differ
        if protocol.carried:  # which says what `init` is
            differ = list(dict.fromkeys("init_from" if name == "init" else name for name in differ))
        always = [f.name for f in fields(protocol) if f.metadata.get("in_label")]
        differ = [*always, *(name for name in differ if name not in always)]
        if len(differ) > MOST_SETTINGS:
            defaults = {f.name: f.default for f in fields(protocol)}
            differ = [name for name in differ if own[name] != defaults[name]]
        settings = ",".join(_setting(protocol, name) for name in differ)
        labels.append(f"{protocol.name}[{settings}]" if settings else protocol.name)
    return labels


def settings_in_use(protocol: Protocol) -> dict[str, object]:
    """The settings by name, but for those that mean nothing beside the others."""
    settings = {f.name: getattr(protocol, f.name) for f in fields(protocol)}
    return {f.name: settings[f.name] for f in fields(protocol) if not is_unused(settings, f)}


def _setting(protocol: Protocol, name: str) -> str:
    (f,) = (f for f in fields(protocol) if f.name == name)
    value = getattr(protocol, name)
    named = f.metadata.get("task") and value is not None and value not in f.metadata.get("words", ())
    return f"{key_of(f)}={_named(value) if named else _plain(value)}"


def _named(task: str) -> str:
    """A task's name, not the path of its file; of a soft prompt its file, which for a cell is in a folder of its own."""
    return "/".join(PurePath(task).parts[-2:]) if is_prompt_file(task) else tasks.get(task).name


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
