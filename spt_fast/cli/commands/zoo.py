"""`zoo list` and `zoo build`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spt_fast.zoo import Run


@click.group()
def zoo() -> None:
    """Tiny models whose knowledge is known."""


@zoo.command("list")
def zoo_list() -> int:
    """List the zoo's models, and what each knows."""
    from spt_fast import zoo as models

    entries = models.catalogue()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        size = f"{entry.parameters / 1e6:.1f} M" if entry.parameters else "-"
        state = "there" if entry.built else "not built"
        click.echo(f"{entry.name:{width}}  knows {entry.share:4.0%}  {size:>6}  {state:9}  {entry.summary}")
    for run in models.RUNS.values():
        click.echo("\n" + "\n".join(_run(run)))
    return 0


def _run(run: Run) -> Iterator[str]:
    """A training run and its checkpoints, a line each."""
    from spt_fast import zoo as models

    there = models.built_checkpoints(run)
    yield f"zoo/{run.name}  {len(run.checkpoints)} checkpoints, {len(there)} of them there  {run.summary}"
    for each in run.checkpoints:
        name = f"zoo/{run.name}/{each.name}"
        known = len(each.known) / len(run.world.facts)
        yield f"  {each.number:2}  {name}  knows {known:4.0%}  {'there' if name in there else 'not built'}"


@zoo.command("build")
@click.argument("names", nargs=-1)
@click.option("--into", type=click.Path(path_type=Path), help="Folder to build in [default: the cache].")
@click.option("--force", is_flag=True, help="Build again what is there.")
@click.option(
    "--run", "runs", multiple=True, metavar="NAME", help="A training run: twelve checkpoints, what is missing of them."
)
def zoo_build(names: tuple[str, ...], into: Path | None, force: bool, runs: tuple[str, ...]) -> int:
    """Pre-train models of the zoo (all that are missing, or NAMES) and training runs into the cache."""
    from spt_fast.cli.zoo import build_runs_with_progress, build_with_progress

    folders = build_with_progress(names, into=into, force=force) if names or not runs else []
    for folder in [*folders, *build_runs_with_progress(runs, into=into, force=force)]:
        click.echo(str(folder))
    return 0
