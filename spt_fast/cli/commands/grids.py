"""What begins with a grid: `run`, `init`, `schema`, `check`."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path

import click

from spt_fast.cli.arguments import Named, grid_of, parse_only
from spt_fast.cli.folders import RunFolder
from spt_fast.cli.outcomes import SOME_FAILED, WRONG_REQUEST, code_of, say, sentence
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError
from spt_fast.signals import INTERRUPTED

MOST_NAMED = 8
"""Names that a sentence lists; of more, how many there are."""
SCHEMA = "spt-fast.schema.json"
"""What `init` writes beside a grid: the first line of the grid names it."""


@click.command()
@click.argument("grid", metavar="GRID.yaml", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of test rows a task.")
@click.option("--only", metavar="KEY=PATTERN[,...]", help="Only these cells, as in model=zoo/*,task=zoo-mcq,seed=0.")
@click.option("--output", metavar="DIR", type=RunFolder(), help="Run folder or URL, instead of the grid's.")
@click.option(
    "--address",
    default="local",
    show_default=True,
    help="local (this machine), a Ray cluster (auto, HOST:PORT), or a package's executor.",
)
@click.option("--fresh", is_flag=True, help="Compute these cells again, even those that are done.")
@click.option("--rerun", metavar="SHARE", help="Ask this share of the rows (2%) again, to see which answers flip.")
@click.option("--no-stop", is_flag=True, help="Ask all rows, also those that the grid's stop would leave out.")
@click.option("--dry-run", is_flag=True, help="Show the cells and how long they would take; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of tables.")
def run(
    grid: Path,
    limit: int | None,
    only: str | None,
    output: Location | None,
    address: str,
    fresh: bool,
    rerun: str | None,
    no_stop: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a grid, or what is left of it. The same command again continues where it stopped."""
    from spt_fast.cli.progress import watch
    from spt_fast.config.reader import share_of
    from spt_fast.driver.options import with_options
    from spt_fast.driver.result import Interrupted
    from spt_fast.driver.run import run_cells

    again = None if rerun is None else share_of(rerun, "--rerun")
    config = with_options(grid_of(grid), limit=limit, output=output, rerun=again, no_stop=no_stop)
    patterns = parse_only(only)
    if dry_run:
        from spt_fast.cli.dry_run import dry_run as plan_only

        with Named(grid):
            click.echo(plan_only(config, patterns, fresh=fresh, address=address))
        return 0
    try:
        with Named(grid):
            result = run_cells(config, only=patterns, fresh=fresh, watch=watch, say=say, address=address)
    except Interrupted as e:
        from spt_fast.report.folder import refresh

        refresh(e.result.folder)
        why = f" ({sentence(e.why)})" if e.why else ""
        command = " ".join(["spt-fast", *sys.argv[1:]]).replace(" --fresh", "")
        say(
            f"interrupted{why}: {len(e.result.results)} of {len(e.result.cells)} cells are done and kept in "
            f"{e.result.folder}; resume with: {command}"
        )
        return INTERRUPTED
    from spt_fast.cli.tables import tell

    code = code_of(tell(result.folder, as_json=as_json))
    for reason in dict.fromkeys(result.not_rerun.values()):
        cells = sum(why == reason for why in result.not_rerun.values())
        say(f"{cells} cell{'s' * (cells > 1)} could not be rerun: {reason}")
    return code or (SOME_FAILED if result.not_rerun else 0)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("grid.yaml"))
def init(file: Path) -> int:
    """Write a commented grid to start from. A JSON Schema for editors is written beside it."""
    if file.exists():
        raise ConfigError(f"{file}: already exists; choose another name")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}")
    text = resources.files("spt_fast.cli").joinpath("starter.yaml").read_text(encoding="utf-8")
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in file.stem) or "grid"
    beside = file.with_name(SCHEMA)
    beside.write_text(_schema_text(), encoding="utf-8")
    file.write_text(text.format(file=file, name=name, schema=SCHEMA), encoding="utf-8")
    click.echo(f"wrote {file}, and {beside} for editors; run it with: spt-fast run {file}")
    return 0


@click.command()
def schema() -> int:
    """Print the JSON Schema of grid.yaml. With it, editors complete and check a grid."""
    click.echo(_schema_text(), nl=False)
    return 0


@click.command()
@click.argument("grid", metavar="GRID.yaml", type=click.Path(path_type=Path))
def check(grid: Path) -> int:
    """Find mistakes in a grid without loading a model. Looks at keys, values, rows, tokenizers and headers of weights."""
    from spt_fast.cli.checking import check_grid

    with Named(grid):
        checked = check_grid(grid_of(grid))
    for wrong in checked.wrong:
        click.echo(f"{grid}: {wrong}")
    for note in (*checked.series, *checked.notes):
        click.echo(f"{grid}: {note}")
    if checked.unseen:
        some = ", ".join(checked.unseen[:MOST_NAMED])
        more = len(checked.unseen) - MOST_NAMED
        names = f"{some} and {more:,} more" if more > 0 else some
        click.echo(f"{grid}: not on this machine, and not looked at, because the Hub cannot be reached from here: {names}")
    if checked.wrong:
        return WRONG_REQUEST
    rest = " as far as it could be looked at" if checked.unseen else ""
    click.echo(f"{grid}: good{rest}; {checked.cells:,} cell{'' if checked.cells == 1 else 's'}")
    return 0


def _schema_text() -> str:
    from spt_fast import tasks
    from spt_fast.config.schema import grid_schema

    return json.dumps(grid_schema(tasks.names()), indent=1) + "\n"
