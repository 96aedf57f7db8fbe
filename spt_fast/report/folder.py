"""A run folder's tables: results.csv, results.json, report.md and report.html.

What was written and shown last is kept in `.tables.json`, with the versions of everything that it was made from: a grid that is
run again with nothing left to do reads none of its results. Where a version differs, the tables are made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spt_fast import report
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import open_run
from spt_fast.config.output import Location
from spt_fast.errors import DamagedError
from spt_fast.report import markdown, results_csv, results_json, summary
from spt_fast.report.costs import price_of
from spt_fast.report.means import suite_means
from spt_fast.report.sections import sections
from spt_fast.store import Store

TABLES = ("results.csv", "results.json", "report.md", "report.html")
KEPT = ".tables.json"


def write_tables(folder: Location) -> tuple[list[RunCell], str]:
    """Write results.csv, results.json, report.md and report.html; the cells, and the text of results.json.

    Raises:
        ConfigError: the folder is not a run folder.
        StoreError: a file in it is damaged.
    """
    from spt_fast.report.html.build import analysed, page, recorded  # not before it is needed: it computes with scipy

    store = Store(folder)
    made_from = _made_from(store)  # before anything is read: what comes while it is read makes another version
    run = open_run(store)
    grid, cells = run.grid, list(run.cells())
    versions = {"spt_fast": grid["spt_fast"]}
    events, price = store.events(), price_of(grid)
    rows, means = store.rows.read(), suite_means(grid, cells)
    said, known = summary(cells), analysed(run, cells)
    found = results_json(
        cells,
        name=grid["name"],
        provenance=versions,
        rows=rows,
        events=events,
        price=price,
        means=means,
        series=known.series,
    )
    text = _json(found)
    store.put("results.csv", results_csv(cells, means))
    store.put("results.json", text)
    told = sections(recorded(run, cells, known, said=said))
    store.put("report.md", markdown(grid["name"], told))
    store.put("report.html", page(run, cells, known=known, found=told))
    damaged = any(cell.kind == DamagedError.__name__ for cell in cells)
    store.put(KEPT, json.dumps({"made_from": made_from, "tables": _tables(store), "damaged": damaged}))
    return cells, text


def refresh(folder: Location) -> None:
    """Write the tables unless they stand there as they would be written.

    Raises:
        ConfigError: the folder is not a run folder.
        StoreError: a file in it is damaged.
    """
    kept = kept_tables(Store(folder))
    if kept is None or kept.get("damaged"):
        write_tables(folder)


def write_page(folder: Location, *, samples: int | None, limited: bool, against: Location | None) -> str:
    """Write a page beside report.html, with more samples or with the rows that another run disagrees on; its name.

    Args:
        folder: of the run.
        samples: rows; None: all.
        limited: as many rows as fit into the size of report.html.
        against: another run folder.

    Raises:
        ConfigError: a folder is not a run folder, or they have nothing in common.
        StoreError: a file is damaged.
    """
    from spt_fast.report.html.build import Wanted, page

    run = open_run(folder)
    wanted = Wanted(most=samples, limited=limited)
    name = "report-samples.html" if against is None else "report-against.html"
    run.store.put(name, page(run, list(run.cells()), wanted=wanted, against=against))
    return run.store.name(name)


def _json(data: Mapping[str, Any]) -> str:
    """JSON with a line for each item of a list: a large grid is written in seconds, and `grep` finds a cell."""

    def value(of: Any) -> str:
        if isinstance(of, list) and of:
            return "[\n  " + ",\n  ".join(value(item) for item in of) + "\n ]"
        return json.dumps(of, ensure_ascii=False, allow_nan=False)

    return "{\n" + ",\n".join(f" {json.dumps(name)}: {value(of)}" for name, of in data.items()) + "\n}\n"


def kept_tables(store: Store) -> dict[str, Any] | None:
    """What was written and shown last, if it were the same again."""
    try:
        kept = json.loads(store.text(KEPT))
        same = kept["made_from"] == _made_from(store) and kept["tables"] == _tables(store)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if same else None


def _made_from(store: Store) -> str:
    """Hash of the versions of all that tables are made from: the grid, how each cell stands, the rows, and our own code."""
    code = [*sorted(path for path in Path(report.__file__).parent.rglob("*.*") if path.suffix != ".pyc"), Path(__file__)]
    told = json.dumps([[_version(path) for path in code], store.made_from()])
    return hashlib.sha256(told.encode()).hexdigest()


def _tables(store: Store) -> list[list[Any]]:
    return [[name, *store.version(name)] for name in TABLES]


def _version(path: Path) -> list[Any]:
    about = path.stat()
    return [path.name, about.st_mtime_ns, about.st_size, about.st_ino]
