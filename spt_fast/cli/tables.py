"""A run folder's tables on the terminal, or its results.json on stdout."""

from __future__ import annotations

import json
import shutil
import sys

import click

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import open_run
from spt_fast.config.output import Location
from spt_fast.report import Recorded, overview, terminal
from spt_fast.report.folder import KEPT, kept_tables, write_tables
from spt_fast.store import Store
from spt_fast.tasks.losses import told
from spt_fast.terminal import show

MOST_COLUMNS = 120


def tell(folder: Location, *, as_json: bool) -> list[RunCell]:
    """Print the tables of a run folder on stdout; write them, unless they stand there as they would be written.

    Returns:
        The cells that failed.

    Raises:
        ConfigError: the folder is not a run folder.
        StoreError: a file in it is damaged.
    """
    store = Store(folder)
    grid = store.resolved()
    columns = min(shutil.get_terminal_size((MOST_COLUMNS, 24)).columns, MOST_COLUMNS)
    colour = sys.stdout.isatty()
    look = {"columns": columns, "colour": colour}
    kept = kept_tables(store)
    if kept is None or kept.get("damaged") or (not as_json and kept.get("look") != look):
        cells, text = write_tables(folder)
        failed = [cell for cell in cells if cell.status == "failed"]
        if not as_json:
            from spt_fast.report.html.build import series_told  # not before it is needed: it computes with scipy

            series = series_told(open_run(store), cells)
            section = overview(Recorded(name=grid["name"], cells=cells, grid=grid, rows=store.rows.read(), series=series))
            shown = terminal(section, width=columns, colour=colour)
            kept = {**(kept_tables(store) or {}), "look": look, "shown": shown}
            store.put(KEPT, json.dumps(kept))
    else:
        failed = open_run(store).failed()
        text = store.text("results.json") if as_json else ""
    if as_json:
        click.echo(text, nl=False)
        for sentence in told(store.rows.read(), {cell["task"] for cell in grid["cells"].values()}):
            click.echo(sentence, err=True)
    else:
        show(str(kept["shown"]) if kept else "", end="")
        click.echo(f"\n{store.name('report.html')}, report.md, results.csv, results.json")
    return failed
