"""`zoo list` and `zoo build`."""

from __future__ import annotations

from pathlib import Path

import click


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
    return 0


@zoo.command("build")
@click.argument("names", nargs=-1)
@click.option("--into", type=click.Path(path_type=Path), help="Folder to build in [default: the cache].")
@click.option("--force", is_flag=True, help="Build again what is there.")
def zoo_build(names: tuple[str, ...], into: Path | None, force: bool) -> int:
    """Pre-train models of the zoo (all that are missing, or NAMES) into the cache."""
    from spt_fast.cli.zoo import build_with_progress

    for folder in build_with_progress(names, into=into, force=force):
        click.echo(str(folder))
    return 0
