"""Cells as data frames and as the table that a notebook shows. pandas and polars are used where they are installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib import import_module
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args

from spt_fast.analysis.cells import RunCell
from spt_fast.errors import ConfigError, DamagedError
from spt_fast.scoring.metrics import HEADLINE, spec
from spt_fast.terminal import harmless

Table: TypeAlias = Literal["results", "samples"]
Library: TypeAlias = Literal["pandas", "polars"]

CSV_COLUMNS = (
    "model",
    "task",
    "protocol",
    "seed",
    "step",
    "metric",
    "value",
    "stderr",
    "ci_low",
    "ci_high",
    "n",
)
"""Of results.csv, and of `frame("results")`."""
_WHOLE, _NUMBERS = ("seed", "step", "n"), ("value", "stderr", "ci_low", "ci_high")
_FILTERS = ("model", "task", "protocol")

MOST_SHOWN = 60
"""Cells that a notebook shows: each is read."""


def result_rows(cell: RunCell) -> Iterator[tuple[Any, ...]]:
    """A row a metric and step of a done cell: the columns of `CSV_COLUMNS`. What does not exist is None, or NaN."""
    for step, metrics in cell.metrics.items() if cell.status == "done" else ():
        for m in metrics:
            yield (*cell.place, step, m.name, m.value, m.stderr, m.ci_low, m.ci_high, m.n)


def frame(cells: Iterable[RunCell], table: Table, *, library: Library | None, only: Mapping[str, str]) -> Any:
    """A data frame of done cells.

    Raises:
        ConfigError: there is no such table, no such column to choose by, or the library is not installed.
        DamagedError: a file is damaged.
    """
    if table not in get_args(Table):
        raise ConfigError(f"frame({table!r}): there is no such table; there are {' and '.join(get_args(Table))}")
    if unknown := next((name for name in only if name not in _FILTERS), None):
        raise ConfigError(f"frame(): cells cannot be chosen by {unknown!r}; choose by {', '.join(_FILTERS)}")
    name, module = _installed(library)
    chosen = (cell for cell in cells if all(getattr(cell, name) == value for name, value in only.items()))
    arrow = (_results if table == "results" else _samples)(_whole(chosen))
    return module.from_arrow(arrow) if name == "polars" else _as_pandas(module, arrow)


def _installed(library: Library | None) -> tuple[str, Any]:
    """The name and the module of the first library that is there.

    Raises:
        ConfigError: none is.
    """
    wanted = get_args(Library) if library is None else (library,)
    for name in wanted:
        if name not in get_args(Library):
            raise ConfigError(f"frame(library={name!r}): there is no such library; there are {' and '.join(get_args(Library))}")
        try:
            return name, import_module(name)
        except ImportError:
            continue
    raise ConfigError(f"frame() needs {' or '.join(wanted)}, which is not installed; install it with: pip install {wanted[0]}")


def _whole(cells: Iterable[RunCell]) -> Iterator[RunCell]:
    """
    Raises:
        DamagedError: a cell's files are not what was written.
    """
    for cell in cells:
        if cell.status == "failed":
            raise DamagedError(cell.reason)
        yield cell


def _as_pandas(pandas: Any, table: Any) -> Any:
    """With types of pandas that have a value for what is missing: a seed stays an integer, and a verdict a truth value."""
    import pyarrow as pa

    types = {
        pa.int32(): pandas.Int32Dtype(),
        pa.int64(): pandas.Int64Dtype(),
        pa.bool_(): pandas.BooleanDtype(),
    }
    return table.to_pandas(types_mapper=types.get)


def _results(cells: Iterable[RunCell]) -> Any:
    import pyarrow as pa

    rows = [row for cell in cells for row in result_rows(cell)]
    kinds = dict.fromkeys(_WHOLE, pa.int64()) | dict.fromkeys(_NUMBERS, pa.float64())
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in CSV_COLUMNS])
    columns = zip(*rows, strict=True) if rows else [()] * len(CSV_COLUMNS)
    return pa.Table.from_arrays([pa.array(c, each.type) for c, each in zip(columns, schema, strict=True)], schema=schema)


def _samples(cells: Iterable[RunCell]) -> Any:
    """Model, task, protocol and seed in front of the columns of samples.parquet."""
    import pyarrow as pa

    from spt_fast.store.samples import schema

    of_cell = pa.schema([("model", pa.string()), ("task", pa.string()), ("protocol", pa.string()), ("seed", pa.int64())])
    found = [pa.schema([*of_cell, *schema()]).empty_table()]
    for cell in cells:
        rows = cell.sample_table()
        place = [pa.repeat(pa.scalar(value, each.type), len(rows)) for value, each in zip(cell.place, of_cell, strict=True)]
        found.append(pa.Table.from_arrays([*place, *rows.columns], schema=found[0].schema))
    return pa.concat_tables(found)


# In a notebook


def html_table(name: str, cells: Iterator[RunCell], *, done: int, cells_in_all: int) -> str:
    """The first cells of a run as HTML. Names and reasons are other people's text, and are shown as text.

    Args:
        name: of the grid.
        cells: of the run.
        done: how many are done.
        cells_in_all: of the grid.
    """
    heads = ("model", "task", "protocol", "seed", *(spec(name).words for name in HEADLINE))
    head = "".join(f"<th>{each}</th>" for each in heads)
    body = "".join(map(_html_row, islice(cells, MOST_SHOWN)))
    more = cells_in_all - MOST_SHOWN
    left = f"<p>and {more} more cells: <code>.frame()</code> has all of them</p>" if more > 0 else ""
    title = f"<p><b>{_html(name)}</b>: {done} of {cells_in_all} cells done</p>"
    return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left}"


def _html_row(cell: RunCell) -> str:
    place = [cell.model, cell.task, cell.protocol, "" if cell.seed is None else str(cell.seed)]
    told = "".join(f"<td>{_html(each)}</td>" for each in place)
    if cell.status != "done":
        why = cell.status if cell.status in ("waiting", "stopped") else f"failed: {cell.reason or cell.kind}"
        return f'<tr>{told}<td colspan="{len(HEADLINE)}">{_html(why)}</td></tr>'
    return f"<tr>{told}{''.join(f'<td>{_number(cell, metric)}</td>' for metric in HEADLINE)}</tr>"


def _number(cell: RunCell, name: str) -> str:
    """A metric with its 95% interval; empty where it was not measured."""
    metric = cell.metric(name)
    return "" if metric is None else f"{metric.value:.2f} [{metric.ci_low:.2f}, {metric.ci_high:.2f}]"


def _html(text: str) -> str:
    return escape(harmless(text))
