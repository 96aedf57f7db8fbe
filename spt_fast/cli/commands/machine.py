"""`doctor`: the machine itself."""

from __future__ import annotations

import click

from spt_fast.cli.outcomes import SOME_FAILED


@click.command()
def doctor() -> int:
    """Show what this machine can run, and what is missing."""
    from spt_fast.cli.doctor import examine

    findings = examine()
    width = max(len(finding.what) for finding in findings)
    signs = {"good": "ok  ", "note": "note", "bad": "BAD "}
    for finding in findings:
        click.echo(f"{signs[finding.state]}  {finding.what:{width}}  {finding.said}")
    return SOME_FAILED if any(finding.state == "bad" for finding in findings) else 0
