"""Options of the command line that change a grid."""

from __future__ import annotations

from dataclasses import replace

from spt_fast.config import GridConfig
from spt_fast.config.output import Location


def with_options(
    config: GridConfig,
    *,
    limit: int | None = None,
    output: Location | None = None,
    rerun: float | None = None,
    no_stop: bool = False,
) -> GridConfig:
    """The grid with `--limit`, `--output`, `--rerun` and `--no-stop` put over it."""
    if limit is not None:
        # A limit from the command line is for a quick look: it lowers the limits of single tasks too.
        tasks = tuple(replace(task, limit=limit if task.limit is None else min(task.limit, limit)) for task in config.tasks)
        config = replace(config, limit=limit, tasks=tasks)
    if rerun is not None:
        config = replace(config, rerun=rerun)
    if no_stop:
        config = replace(config, stop=None)
    return config if output is None else replace(config, output=output)
