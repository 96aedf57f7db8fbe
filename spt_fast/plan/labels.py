"""What a cell's protocol is called in tables: its name, and the settings in which those of a grid differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import PurePath

from spt_fast import tasks
from spt_fast.config import Protocol, Transfer, Vectors, is_unused
from spt_fast.prompts.soft_prompt import is_prompt_file

MOST_SETTINGS = 3
"""Settings that a protocol's label names; where protocols differ in more, those at their defaults are left out of it."""

UNLIMITED = 20_000
"""Test rows that a task without a limit is taken to have; the largest of ours has about as many."""


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
        if isinstance(protocol, Transfer):  # where the vectors come from is said even where there is one
            differ = ["from_task", *(name for name in differ if name != "from_task")]
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
    if isinstance(protocol, Transfer) and name == "from_task":
        return f"from={tasks.get(protocol.from_task).name}"  # not the path of a task file
    if isinstance(protocol, Vectors) and name == "init_from" and protocol.init_from is not None:
        if not is_prompt_file(protocol.init_from):
            return f"init_from={tasks.get(protocol.init_from).name}"
        return f"init_from={'/'.join(PurePath(protocol.init_from).parts[-2:])}"  # the file of a cell is in a folder of its own
    return f"{name}={_plain(getattr(protocol, name))}"


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
