"""A run folder for other tools: `export`."""

from __future__ import annotations

import click

from spt_fast.cli.folders import RunFolder
from spt_fast.cli.outcomes import say
from spt_fast.config.output import Location
from spt_fast.export import EXPORTS, formats


class _Format(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A format to export to; which there are depends on what is installed, and is looked up only here."""

    name = "format"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in EXPORTS:
            self.fail(f"{value!r} is not one of {', '.join(EXPORTS)}", param, ctx)
        return value


class _Export(click.Command):
    """Its help ends with the formats."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.epilog = "\b\nFORMAT is one of\n" + "\n".join(f"  {name:12} {what}" for name, what in formats().items())
        super().format_epilog(ctx, formatter)


@click.command(cls=_Export)
@click.argument("source", metavar="DIR", type=RunFolder())
@click.option("--format", "-f", "kind", metavar="FORMAT", type=_Format(), required=True)
@click.option(
    "--to", type=RunFolder(), help="Where to write [default: export-FORMAT in DIR]; for mlflow also the URI of a server."
)
def export(source: Location, kind: str, to: Location | None) -> int:
    """Export a run folder to other tools. Soft prompts go to PEFT and back."""
    from spt_fast.cli.exporting import export_told

    said, left = export_told(source, kind, to)
    click.echo(said)
    if left:
        say(left)
    return 0
