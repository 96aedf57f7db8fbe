"""`tasks list` and `tasks show`."""

from __future__ import annotations

import click


@click.group()
def tasks() -> None:
    """The tasks that come with the package."""


@tasks.command("list")
@click.argument("what", default="")
@click.option("--include-path", default="", help="Of lm-eval: a folder of YAML files that goes before its own tasks.")
def tasks_list(what: str, include_path: str) -> int:
    """List the tasks; WHAT: lm-eval, for what can be done with its tasks, or 'lm-eval:mmlu*' for those of such names."""
    from spt_fast import tasks as registry

    if what:
        click.echo(registry.listing(what, include_path))
        return 0
    names = registry.names()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name:{width}}  {registry.get(name).summary}")
    return 0


@tasks.command("show")
@click.argument("task")
@click.option("--model", help="Show the tokens of this model too.")
@click.option("--shots", type=click.IntRange(min=0), default=0, help="Number of worked examples.")
@click.option("--data-files", help="Local rows: a folder with one file a split.")
@click.option("--regex", is_flag=True, help="Show the regular expression of the format too.")
def tasks_show(task: str, model: str | None, shots: int, data_files: str | None, regex: bool) -> int:
    """Show the prompt, target, tokens, stops, format and splits of a task."""
    from spt_fast.cli.showing import show_task

    click.echo(show_task(task, model=model, shots=shots, data_files=data_files, regex=regex))
    return 0
