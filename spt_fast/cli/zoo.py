"""`zoo build`: pre-train models and training runs of the zoo with a progress bar."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from spt_fast import zoo
from spt_fast.errors import ConfigError
from spt_fast.terminal import console

Progress: TypeAlias = Callable[[int, int, str], None]


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
    from spt_fast.zoo.build import build

    with _bars() as bar:
        return [folder for name in wanted for folder in build([name], into=into, progress=bar(name))]


def build_runs_with_progress(names: Sequence[str], *, into: Path | None, force: bool) -> list[Path]:
    """Build what is missing of the named training runs and return their checkpoints' folders.

    Raises:
        ConfigError: no run has this name.
    """
    runs = [zoo.run_named(name) for name in names]
    from spt_fast.zoo.build_run import build_run
    from spt_fast.zoo.catalogue import cache_folder

    if force:
        for run in runs:
            shutil.rmtree((into or cache_folder()) / run.name, ignore_errors=True)
    with _bars() as bar:
        return [folder for run in runs for folder in build_run(run.name, into=into, progress=bar(run.name))]


@contextmanager
def _bars() -> Iterator[Callable[[str], Progress]]:
    """A function from a name to what draws its progress."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(sys.stderr)) as bars:

        def bar(name: str) -> Callable[[int, int, str], None]:
            task: TaskID = bars.add_task(name, total=None)

            def show(step: int, total: int, text: str) -> None:
                bars.update(task, total=total, completed=step, description=text)  # begins with the model's name

            return show

        yield bar


def _full(name: str, entries: dict[str, zoo.Entry]) -> str:
    full = name if name.startswith("zoo/") else f"zoo/{name}"
    if zoo.is_run(full):
        short = full.removeprefix("zoo/")
        raise ConfigError(f"{full}: is a training run; build it by `spt-fast zoo build --run {short}`")
    if full not in entries:
        raise ConfigError(f"unknown zoo model {name!r}; choose from {', '.join(entries)}")
    return full
