"""`zoo build`: pre-train models of the zoo with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from spt_fast import zoo
from spt_fast.errors import ConfigError
from spt_fast.terminal import console


def build_with_progress(names: Sequence[str], *, into: Path | None, force: bool) -> list[Path]:
    """Build the named models (all that are missing, where none is named) and return their folders.

    Raises:
        ConfigError: no model has this name, or there is nothing to build.
    """
    entries = {entry.name: entry for entry in zoo.catalogue()}
    wanted = [_full(name, entries) for name in names] or list(entries)
    if not force and into is None:
        built = [name for name in wanted if entries[name].built]
        if names and built:
            raise ConfigError(f"{built[0]}: already exists, in {entries[built[0]].folder}; --force builds it again")
        wanted = [name for name in wanted if name not in built]
    if not wanted:
        return []
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from spt_fast.zoo.build import build

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    folders = []
    with Progress(*columns, console=console(sys.stderr)) as bars:
        for name in wanted:
            bar = bars.add_task(name, total=None)

            def show(step: int, total: int, text: str, *, bar: TaskID = bar) -> None:
                bars.update(bar, total=total, completed=step, description=text)  # begins with the model's name

            folders += build([name], into=into, progress=show)
    return folders


def _full(name: str, entries: dict[str, zoo.Entry]) -> str:
    full = name if name.startswith("zoo/") else f"zoo/{name}"
    if full not in entries:
        raise ConfigError(f"unknown zoo model {name!r}; choose from {', '.join(entries)}")
    return full
