"""The night as one thing: `watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spt_fast.cli.folders import RunFolder
from spt_fast.errors import ConfigError


@click.command()
@click.argument("places", metavar="CHECKPOINTS GRID.yaml", nargs=-1, required=True)
@click.option(
    "--policy", metavar="P.yaml", type=click.Path(path_type=Path), help="Policy: what must not drop [default: as above]."
)
@click.option("--notify", metavar="CMD|URL", multiple=True, help="Who is told of each verdict; may be repeated.")
@click.option("--once", is_flag=True, help="Judge what is there, and end: for cron.")
@click.option(
    "--every", metavar="SECONDS", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="How often to look."
)
@click.option("--output", metavar="DIR", type=RunFolder(), help="Run folder or URL, instead of the grid's.")
@click.option("--accept-undecided", is_flag=True, help="An undecided checkpoint is accepted too: the next are held against it.")
@click.option("--address", default="local", show_default=True, help="Where models are evaluated, as `run` has it.")
def watch(places: tuple[str, ...], **options: Any) -> int:
    """Wait for checkpoints, evaluate each, and hold it against the last accepted one.

    CHECKPOINTS is the folder that they appear in, or a pattern in quotation marks: '/checkpoints/run7/step-*'. Each is
    evaluated when it is whole: all weights that its index names, config.json and a tokenizer. GRID.yaml needs no models; of one
    that is there, the settings are taken.

    The first checkpoint is accepted. Each later one is held against the last accepted one by the policy: pass, which is
    accepted; fail; or undecided. Without --policy, knowledge and format following may each drop by less than two points in the
    mean over tasks, behind soft prompts where the grid has them.

    Verdicts, results and the report are in one run folder. The same command goes on where it was ended or killed. --notify
    gives a command the verdict as JSON on stdin, and posts it to a URL; what fails is tried again.

    Exit codes, with --once: 0 all that was judged now passed, or there was nothing new; 1 one failed the gate or is broken; 3
    one is undecided. 2 the request is wrong; 130 interrupted.
    """
    from spt_fast.cli.watching import watch_checkpoints

    checkpoints, grid = _two(places)
    return watch_checkpoints(checkpoints, grid, **options)


def _two(places: tuple[str, ...]) -> tuple[str, Path]:
    """The pattern and the grid.

    Raises:
        ConfigError, click.UsageError: these are others, or more.
    """
    if len(places) > 2:
        raise ConfigError(
            f"watch: takes CHECKPOINTS and GRID.yaml, not {len(places)} arguments; where the shell has put names in place of a "
            "pattern, write it in quotation marks: '/checkpoints/run7/step-*'"
        )
    if len(places) < 2:
        raise click.UsageError("Missing argument: CHECKPOINTS and GRID.yaml.")
    return places[0], Path(places[1])
