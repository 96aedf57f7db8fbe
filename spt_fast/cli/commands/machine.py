"""`doctor`: the machine itself."""

from __future__ import annotations

import json

import click

from spt_fast.cli.outcomes import SOME_FAILED


@click.command()
@click.option(
    "--gpu", is_flag=True, help="Run everything on one GPU, in at most three minutes, and say what is right and fast."
)
@click.option("--minutes", type=click.FloatRange(min=0.1), help="With --gpu: when to stop at the latest [default: 3].")
@click.option("--json", "as_json", is_flag=True, help="With --gpu: print everything as JSON; the table goes to stderr.")
def doctor(gpu: bool, minutes: float | None, as_json: bool) -> int:
    """Show what this machine can run, and what is missing."""
    if gpu:
        return _qualify(3.0 if minutes is None else minutes, as_json=as_json)
    if minutes is not None or as_json:
        raise click.UsageError("--minutes and --json go with --gpu.")
    from spt_fast.cli.doctor import examine

    findings = examine()
    width = max(len(finding.what) for finding in findings)
    signs = {"good": "ok  ", "note": "note", "bad": "BAD "}
    for finding in findings:
        click.echo(f"{signs[finding.state]}  {finding.what:{width}}  {finding.said}")
    return SOME_FAILED if any(finding.state == "bad" for finding in findings) else 0


def _qualify(minutes: float, *, as_json: bool) -> int:
    """Run the checks of a GPU, and print a row for each as soon as it is known.

    Raises:
        ConfigError: there is no GPU that could be checked.
    """
    from spt_fast.errors import ConfigError
    from spt_fast.qualify.machine import missing_for_gpu
    from spt_fast.qualify.session import qualify
    from spt_fast.qualify.table import as_json as written
    from spt_fast.qualify.table import last_line
    from spt_fast.qualify.verdicts import passed

    if missing := missing_for_gpu():
        raise ConfigError(f"doctor --gpu: {missing}")
    rows, given = qualify("cuda", "quick", minutes=minutes, say=lambda line: click.echo(line, err=as_json))
    click.echo(last_line(rows), err=as_json)
    if as_json:
        click.echo(json.dumps(written(rows, given), indent=2))
    return 0 if passed(rows) else SOME_FAILED
