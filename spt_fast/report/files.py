"""results.csv and results.json: the same numbers, tidy for a data frame, and with provenance, costs and failures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from spt_fast.report.cells import CellReport

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


def results_csv(cells: Sequence[CellReport]) -> str:
    """A row a metric of each done cell and step. What does not exist (a seed, a step, NaN) is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for cell in cells:
        for step, metrics in cell.metrics.items() if cell.status == "done" else ():
            for m in metrics:
                numbers = [_field(value) for value in (m.value, m.stderr, m.ci_low, m.ci_high)]
                place = [cell.model, cell.task, cell.protocol, _field(cell.seed), _field(step)]
                writer.writerow([*place, m.name, *numbers, m.n])
    return out.getvalue()


def results_json(cells: Sequence[CellReport], *, name: str, provenance: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The numbers of results.csv with provenance, costs and failures, ready for `json.dumps` (NaN is None).

    Args:
        cells: all of the grid, done or not.
        name: of the grid.
        provenance: of the run as a whole; that of each cell stands with the cell.
    """
    return {
        "name": name,
        "provenance": dict(provenance or {}),
        "cells": [_done(cell) for cell in cells if cell.status == "done"],
        "failures": [{**_place(cell), "kind": cell.kind, "reason": cell.reason} for cell in cells if cell.status == "failed"],
        "waiting": [_place(cell) for cell in cells if cell.status == "waiting"],
    }


def _place(cell: CellReport) -> dict[str, Any]:
    return {
        "key": cell.key,
        "model": cell.model,
        "task": cell.task,
        "protocol": cell.protocol,
        "seed": cell.seed,
        "partner_of": cell.partner_of,
    }


def _done(cell: CellReport) -> dict[str, Any]:
    return {
        **_place(cell),
        "metrics": [
            {
                "step": step,
                "metric": m.name,
                "value": _number(m.value),
                "stderr": _number(m.stderr),
                "ci_low": _number(m.ci_low),
                "ci_high": _number(m.ci_high),
                "n": m.n,
            }
            for step, metrics in cell.metrics.items()
            for m in metrics
        ],
        "costs": {what: _number(value) for what, value in cell.costs.items()},
        "provenance": dict(cell.provenance),
    }


def _field(value: float | int | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
