"""What a run folder says: `status`, `report`, `rank`, `compare`, `gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spt_fast import terminal
from spt_fast.cli.arguments import parse_list, parse_samples
from spt_fast.cli.folders import RunFolder
from spt_fast.cli.outcomes import code_of, say
from spt_fast.config.output import Location


@click.command()
@click.argument("folder", metavar="DIR", type=RunFolder())
def status(folder: Location) -> int:
    """Show the state of a run, also while it runs."""
    from spt_fast.cli.status import status_of

    click.echo(status_of(folder))
    return 0


@click.command()
@click.argument("folder", metavar="DIR", type=RunFolder())
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of tables.")
@click.option("--samples", metavar="all|N", help="Write report-samples.html too, with all or N samples.")
@click.option(
    "--against",
    metavar="DIR",
    type=RunFolder(),
    help="Write report-against.html too: samples that another run judges differently.",
)
def report(folder: Location, as_json: bool, samples: str | None, against: Location | None) -> int:
    """Print and write the report of a run folder. Writes results.csv, results.json, report.md and report.html."""
    most = parse_samples(samples)
    from spt_fast.cli.tables import tell

    code = code_of(tell(folder, as_json=as_json))
    if samples is not None or against is not None:
        from spt_fast.report.folder import write_page

        say(write_page(folder, samples=most, limited=samples is None, against=against))
    return code


@click.command()
@click.argument("source", metavar="DIR|FILE", type=RunFolder())
@click.option(
    "--metric",
    help="Metric to rank by [default: knowledge_best on closed-ended tasks of a run folder, else exact_match].",
)
@click.option("--tasks", metavar="PATTERN,...", help="Only these tasks.")
@click.option("--models", metavar="PATTERN,...", help="For a table: only these models.")
@click.option("--partners", metavar="FILE", type=click.Path(path_type=Path), help="For a table: YAML {base: post-trained}.")
@click.option("--truth", metavar="FILE", type=click.Path(path_type=Path), help="Reference scores: YAML {model: score}.")
@click.option("--lower-is-better", metavar="PATTERN,...", help="For a table: tasks where lower is better.")
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Bootstrap resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def rank(source: Location, tasks: str | None, models: str | None, lower_is_better: str | None, **options: Any) -> int:
    """Rank models, and say how sure the order is. Takes a run folder, or a CSV or JSON table of scores."""
    from spt_fast.cli.ranking import rank as ranked

    down = parse_list(lower_is_better)
    terminal.show(ranked(source, tasks=parse_list(tasks), models=parse_list(models), lower_is_better=down, **options))
    return 0


@click.command()
@click.argument("a", metavar="A", type=RunFolder())
@click.argument("b", metavar="B", type=RunFolder())
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Metric; may be repeated [default: exact_match, knowledge_best, format_following].",
)
@click.option("--tasks", metavar="PATTERN,...", help="Only these tasks.")
@click.option("--a-model", help="Model of A to compare, where the two runs have different names.")
@click.option("--b-model", help="Model of B to compare it with.")
@click.option("--a-protocol", help="Protocol of A to compare.")
@click.option("--b-protocol", help="Protocol of B to compare it with.")
@click.option("--flips", "shown_flips", type=click.IntRange(min=0), default=0, help="Show N rows whose verdict flipped.")
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Bootstrap resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def compare(a: Location, b: Location, tasks: str | None, **options: Any) -> int:
    """Compare two run folders row by row. Shows changes with intervals and p-values, and the rows that flipped."""
    from spt_fast.cli.comparing import compare as compared

    terminal.show(compared(a, b, tasks=parse_list(tasks), **options))
    return 0


@click.command()
@click.argument("a", metavar="A", type=RunFolder())
@click.argument("b", metavar="B", type=RunFolder())
@click.option("--policy", required=True, metavar="P.yaml", type=click.Path(path_type=Path), help="Policy: what must not drop.")
@click.option("--a-model", help="Model of A to compare, where the two runs have different names.")
@click.option("--b-model", help="Model of B to compare it with.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def gate(a: Location, b: Location, policy: Path, **options: Any) -> int:
    """Decide whether run B may replace run A. Exit codes: 0 pass, 1 fail, 3 undecided."""
    from spt_fast.cli.comparing import gated

    text, code = gated(a, b, policy, **options)
    terminal.show(text)
    return code
