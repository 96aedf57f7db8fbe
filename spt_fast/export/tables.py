"""results and samples as tidy tables: a row a metric of each cell and step, a row an example of each cell and step.

Parquet holds everything as it is. CSV is for spreadsheets too, where a text that begins like a formula would be run: it stands
behind an apostrophe there. Lists and scores are JSON in CSV.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import Run
from spt_fast.export.files import growing
from spt_fast.export.source import Written, done_cells

Row: TypeAlias = Mapping[str, Any]
Write: TypeAlias = Callable[[list[Row]], None]

PLACE: Mapping[str, str] = {
    "model": "string",
    "task": "string",
    "protocol": "string",
    "seed": "int64",
    "step": "int64",
    "cell": "string",
}
"""Columns of both tables, and what Arrow calls their types."""
RESULTS: Mapping[str, str] = {
    **PLACE,
    "metric": "string",
    "value": "float64",
    "stderr": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "n": "int64",
    "partner_of": "string",
    "judge": "string",
}
SAMPLES: Mapping[str, str] = {
    **PLACE,
    "example": "string",
    "group": "string",
    "prompt": "string",
    "completion": "string",
    "finish_reason": "string",
    "target": "string",
    "answers": "list<string>",
    "extracted": "string",
    "rule": "string",
    "span": "list<int64>",
    "format_ok": "bool",
    "knows": "bool",
    "correct": "bool",
    "knows_per_byte": "bool",
    "format_by_rule": "bool",
    "knows_by_rule": "bool",
    "scores": "map<string, float64>",
    "options": "list<string>",
    "option_logprobs": "list<float64>",
    "chosen": "int64",
    "chosen_per_byte": "int64",
    "bound": "bool",
    "gold": "int64",
    "option_priors": "list<float64>",
    "cloze_texts": "list<string>",
    "cloze_logprobs": "list<float64>",
    "unconditional_logprobs": "list<float64>",
    "chosen_debiased": "int64",
    "chosen_cloze": "int64",
    "chosen_cloze_per_byte": "int64",
    "chosen_cloze_pmi": "int64",
    "knows_debiased": "bool",
    "knows_cloze": "bool",
    "knows_cloze_per_byte": "bool",
    "knows_cloze_pmi": "bool",
    "knows_best": "bool",
    "answer_texts": "list<string>",
    "answer_logprobs": "list<float64>",
    "answer_bits_per_byte": "float64",
    "answer_logprob_margin": "float64",
}
_RUN_BY_SPREADSHEETS = re.compile(r"[=+\-@\t\r]")
_NOT_CARRIED = {
    "csv": [
        "which texts are missing and which are empty: both are an empty field",
        "texts that begin like a formula (=, +, -, @) as they are: they stand behind an apostrophe, but for numbers",
        "NUL characters: they are U+FFFD",
    ],
    "parquet": [],
}


def write_csv(source: Run, to: Path) -> Written:
    """Write both tables into `to` as CSV.

    Raises:
        StoreError: a file is damaged, or nothing can be written there.
    """
    return _write(source, to, "csv")


def write_parquet(source: Run, to: Path) -> Written:
    """Write both tables into `to` as Parquet.

    Raises:
        StoreError: a file is damaged, or nothing can be written there.
    """
    return _write(source, to, "parquet")


def _write(source: Run, to: Path, format: str) -> Written:
    table = _csv if format == "csv" else _parquet
    partner_of = {m["post_trained"]: m["id"] for m in source.grid["models"] if m["post_trained"]}
    with table(to / f"results.{format}", RESULTS) as put_results, table(to / f"samples.{format}", SAMPLES) as put_samples:
        for cell in done_cells(source):
            put_results(list(results_of(cell, partner_of.get(cell.model))))
            put_samples(list(_samples(cell)))
    rest = "costs and provenance: results.json of the run folder has them"
    return Written(count=len(source), what="cells", not_carried=(*_NOT_CARRIED[format], rest))


def write_samples(cell: RunCell, path: Path) -> None:
    """The rows of one cell as Parquet: what tracking tools keep beside the numbers.

    Raises:
        StoreError: a file is damaged, or nothing can be written there.
    """
    with _parquet(path, SAMPLES) as put:
        put(list(_samples(cell)))


def _place(cell: RunCell, step: int | None) -> dict[str, Any]:
    return {**cell.place._asdict(), "step": step, "cell": cell.key}


def results_of(cell: RunCell, partner_of: str | None) -> Iterator[Row]:
    """A row a metric and step of a cell: the columns of `RESULTS`."""
    for step, metrics in cell.metrics.items():
        for m in metrics:
            numbers = {name: _number(getattr(m, name)) for name in ("value", "stderr", "ci_low", "ci_high")}
            yield {
                **_place(cell, step),
                "metric": m.name,
                **numbers,
                "n": m.n,
                "partner_of": partner_of,
                "judge": cell.judge,
            }


def _samples(cell: RunCell) -> Iterator[Row]:
    for row in cell.samples(last=False):
        yield {**row, **_place(cell, row["step"])}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


@contextmanager
def _parquet(path: Path, columns: Mapping[str, str]) -> Iterator[Write]:
    """A file that grows by a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "list<string>": pa.list_(pa.string()),
        "list<float64>": pa.list_(pa.float64()),
        "list<int64>": pa.list_(pa.int64()),
    }
    types |= {"map<string, float64>": pa.map_(pa.string(), pa.float64()), "bool": pa.bool_()}
    schema = pa.schema([(name, types.get(kind) or getattr(pa, kind)()) for name, kind in columns.items()])
    with growing(path) as beside, pq.ParquetWriter(beside, schema, compression="zstd") as writer:

        def put(rows: list[Row]) -> None:
            writer.write_table(pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows], schema=schema))

        yield put


@contextmanager
def _csv(path: Path, columns: Mapping[str, str]) -> Iterator[Write]:
    with growing(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield lambda rows: writer.writerows([_field(row.get(name), kind) for name, kind in columns.items()] for row in rows)


def _field(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind.startswith(("list", "map")):
        found = dict(value) if kind.startswith("map") else value
        # An option that the model rules out has -inf, which JSON has not.
        return json.dumps([_number(each) for each in found] if kind == "list<float64>" else found)
    if kind != "string":
        return repr(value)
    text = str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    return f"'{text}" if _RUN_BY_SPREADSHEETS.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
