"""A run folder's tables: results.csv, results.json, report.md and report.html.

What was written and shown last is kept in `.tables.json`, with the versions of everything that it was made from: a grid that is
run again with nothing left to do reads none of its results. Where a version differs, the tables are made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from spt_fast import report
from spt_fast.config import PROTOCOLS
from spt_fast.config.output import Location
from spt_fast.errors import DamagedError
from spt_fast.report import (
    CellReport,
    Verdict,
    disagreements,
    markdown,
    results_csv,
    results_json,
    summary,
    verdicts,
)
from spt_fast.report.costs import price_of
from spt_fast.report.sections import sections
from spt_fast.store import Store, StoredResult, broken

TABLES = ("results.csv", "results.json", "report.md", "report.html")
KEPT = ".tables.json"


def write_tables(folder: Location) -> tuple[list[CellReport], str]:
    """Write results.csv, results.json, report.md and report.html; the cells, and the text of results.json.

    Raises:
        ConfigError: the folder is no run folder.
        StoreError: a file in it is damaged.
    """
    from spt_fast.report.html.build import analysed, page, recorded  # not before it is needed: it computes with scipy

    store = Store(folder)
    made_from = _made_from(store)  # before anything is read: what comes while it is read makes another version
    grid = store.resolved()
    cells = cell_reports(store, grid)
    versions = {"spt_fast": grid["spt_fast"]}
    events, price = store.events(), price_of(grid)
    rows = store.rows.read()
    text = _json(results_json(cells, name=grid["name"], provenance=versions, rows=rows, events=events, price=price))
    store.put("results.csv", results_csv(cells))
    store.put("results.json", text)
    said, known = summary(cells), analysed(store, cells)
    found = sections(recorded(store, grid, cells, known, said=said))
    store.put("report.md", markdown(grid["name"], found))
    store.put("report.html", page(store, grid, cells, known=known, found=found))
    damaged = any(cell.kind == DamagedError.__name__ for cell in cells)
    store.put(KEPT, json.dumps({"made_from": made_from, "tables": _tables(store), "damaged": damaged}))
    return cells, text


def write_page(folder: Location, *, samples: int | None, limited: bool, against: Location | None) -> str:
    """Write a page beside report.html, with more samples or with the rows that another run disagrees on; its name.

    Args:
        folder: of the run.
        samples: rows; None: all.
        limited: as many rows as fit into the size of report.html.
        against: another run folder.

    Raises:
        ConfigError: a folder is no run folder, or they have nothing in common.
        StoreError: a file is damaged.
    """
    from spt_fast.report.html.build import Wanted, page

    store = Store(folder)
    grid = store.resolved()
    wanted = Wanted(most=samples, limited=limited)
    name = "report-samples.html" if against is None else "report-against.html"
    store.put(name, page(store, grid, cell_reports(store, grid), wanted=wanted, against=against))
    return store.name(name)


def cell_reports(store: Store, grid: dict[str, Any]) -> list[CellReport]:
    """Every cell of a resolved grid, as the run folder has it: done, failed, or waiting. One whose files are damaged, or were
    changed since, has failed: its numbers are not shown."""
    done = store.done()
    failed = {cell.key: cell for cell in failed_cells(store, grid, done)}
    columns = ["example", "step", "format_ok", "knows", "knows_best"]
    read = lru_cache(maxsize=64)(lambda key, step: verdicts(store.samples(key, columns), step))
    reports = []
    results = store.results_or_damage(key for key in grid["cells"] if key in done)
    reruns = store.reruns.read(cell.get("rests_on") or key for key, cell in grid["cells"].items())
    for key, place in _places(grid):
        if key in done:
            result = _checked(store, next(results))
            if isinstance(result, DamagedError):
                reports.append(CellReport(**place, status="failed", kind=DamagedError.__name__, reason=str(result)))
                continue
            last = max((step for step in result.metrics if step is not None), default=None)
            known: dict[str, Any] = {}
            if grid["cells"][key].get("rests_on"):
                more = ["format_by_rule", "knows_by_rule", "completion"]
                known["disagreements"] = disagreements(store.samples(key, columns + more), last)
            reports.append(
                CellReport(
                    **place,
                    **known,
                    status="done",
                    metrics=result.metrics,
                    settings=_settings(json.dumps(result.content.get("protocol", {}))),
                    costs=result.costs,
                    provenance=result.provenance,
                    rerun=reruns.get(grid["cells"][key].get("rests_on") or key),
                    verdicts=_Verdicts(key, last, read),
                )
            )
        else:
            reports.append(failed.get(key) or CellReport(**place, status="waiting"))
    return reports


def _checked(store: Store, result: StoredResult | DamagedError) -> StoredResult | DamagedError:
    """A result whose files are as it says, or what is wrong with them."""
    try:
        if not isinstance(result, DamagedError):
            store.check_files(result)
    except DamagedError as e:
        return e
    return result


def failed_cells(store: Store, grid: dict[str, Any], done: set[str] | None = None) -> list[CellReport]:
    """The cells that failed, by themselves or with what they rest on."""
    left = grid["cells"].keys() - (store.done() if done is None else done)
    failures = store.failed() if left else set()
    reports = []
    for key, place in _places(grid) if failures else ():
        if key in left and (found := broken(key, grid["cells"][key], failures)) is not None:
            failure = store.failure(found)
            reports.append(CellReport(**place, status="failed", kind=failure.kind, reason=failure.reason))
    return reports


def _places(grid: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each cell's key, and where in the grid it is."""
    partner_of = {m["post_trained"]: m["id"] for m in grid["models"] if m["post_trained"]}
    for key, cell in grid["cells"].items():
        yield (
            key,
            {
                **{name: cell[name] for name in ("model", "task", "protocol", "seed")},
                "key": key,
                "partner_of": partner_of.get(cell["model"]),
                "closed_ended": cell.get("closed_ended"),
            },
        )


@lru_cache(maxsize=4096)
def _settings(protocol: str) -> Mapping[str, Any]:
    """A protocol's settings, from JSON as in a cell's content, with the defaults that are left out there. Cells share them."""
    given = json.loads(protocol)
    kind = PROTOCOLS.get(given.pop("name", ""))
    defaults = {} if kind is None else {each.name: each.default for each in fields(kind) if each.default is not MISSING}
    return {**defaults, **given}


class _Verdicts(Mapping[str, Verdict]):
    """Verdicts of a cell, read when they are asked for: those of a large grid would fill the memory, and few are compared."""

    def __init__(self, key: str, step: int | None, read: Callable[[str, int | None], dict[str, Verdict]]) -> None:
        self._key, self._step, self._read = key, step, read

    def __getitem__(self, example: str) -> Verdict:
        return self._read(self._key, self._step)[example]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read(self._key, self._step))

    def __len__(self) -> int:
        return len(self._read(self._key, self._step))

    def items(self) -> Any:
        """Example and verdict, from one look."""
        return self._read(self._key, self._step).items()


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
