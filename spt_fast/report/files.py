"""results.csv and results.json: the same numbers, tidy for a data frame, and with provenance, costs and failures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.frames import CSV_COLUMNS as CSV_COLUMNS
from spt_fast.analysis.frames import result_rows
from spt_fast.config import PriceConfig
from spt_fast.report.costs import Session, Spent, at_its_stop, by_model, gpus_of, sessions, spent_on
from spt_fast.report.means import SuiteMean
from spt_fast.scoring.rerun import Rerun
from spt_fast.terminal import harmless

if TYPE_CHECKING:  # it computes with scipy
    from spt_fast.analysis.faults import Told

MEAN_OF = "mean_of"
"""A further column of results.csv, where a grid has suites: of how many tasks a row is the mean; empty: it is a cell's."""
STOPPED_OF = "stopped_of"
"""The same, where cells were stopped: of how many rows `n` were asked; empty: of all."""


def results_csv(cells: Sequence[RunCell], means: Sequence[SuiteMean] = ()) -> str:
    """A row a metric of each done cell and step, then of each mean over a suite, then of each cell that was stopped. What does
    not exist (a seed, a step, NaN) is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    stopped = [cell for cell in cells if cell.stopped is not None]
    further = [MEAN_OF] * bool(means) + [STOPPED_OF] * bool(stopped)
    writer.writerow([*CSV_COLUMNS, *further])
    writer.writerows([*map(_field, row), *[""] * len(further)] for cell in cells for row in result_rows(cell))
    writer.writerows([*map(_field, _mean_row(each)), *[""] * bool(stopped)] for each in means)
    for cell in stopped:
        of = [""] * bool(means) + [str(cell.stopped.stopped.of) if cell.stopped else ""]
        writer.writerows([*map(_field, row), *of] for row in result_rows(at_its_stop(cell)))
    return out.getvalue()


def _mean_row(found: SuiteMean) -> tuple[str | float | int | None, ...]:
    mean = found.mean
    place = (found.model, found.suite, found.protocol, None, None, found.metric)
    return (*place, mean.value, None, mean.low, mean.high, mean.rows, mean.tasks)


def _text(name: str) -> str:
    """A name as a spreadsheet shows it, and does not compute it: other people's names may begin as formulas do."""
    shown = harmless(name)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def results_json(
    cells: Sequence[RunCell],
    *,
    name: str,
    provenance: Mapping[str, str] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    events: Sequence[Mapping[str, Any]] = (),
    price: PriceConfig | None = None,
    means: Sequence[SuiteMean] = (),
    series: Sequence[Told] = (),
) -> dict[str, Any]:
    """The numbers of results.csv with provenance, costs and failures, ready for `json.dumps` (NaN is None).

    Args:
        cells: all of the grid, done or not.
        name: of the grid.
        provenance: of the run as a whole; that of each cell stands with the cell.
        rows: what the run folder tells of each task's rows (rows/*.json).
        events: events.jsonl: how many GPUs there were, and what each run was expected to take and took.
        price: of an hour of a GPU.
        means: over the tasks of suites.
        series: of checkpoints, and what has become of them; where there are none, the key is left out.
    """
    models = by_model(cells, gpus_of(events))
    return {
        "name": name,
        "provenance": dict(provenance or {}),
        "rows": [_rows(report) for report in rows],
        "runs": [_session(session, price) for session in sessions(events)],
        "means": [_mean(each) for each in means],
        **({"series": [_told(each) for each in series]} if series else {}),
        "cells": [_done(cell, models[cell.model], price) for cell in cells if cell.status == "done"],
        "stopped": [_stopped(cell, models[cell.model], price) for cell in cells if cell.stopped is not None],
        "failures": [{**_place(cell), "kind": cell.kind, "reason": cell.reason} for cell in cells if cell.status == "failed"],
        "waiting": [_place(cell) for cell in cells if cell.status == "waiting"],
    }


def _told(found: Told) -> dict[str, Any]:
    """What has become of a series."""
    return {"name": found.series.name, "fault": found.fault, "onset": found.onset_name, "sentence": found.sentence}


def _mean(found: SuiteMean) -> dict[str, Any]:
    """A mean over the tasks of a suite, `n` their rows."""
    mean = found.mean
    return {
        "suite": found.suite,
        "model": found.model,
        "protocol": found.protocol,
        "metric": found.metric,
        "value": _number(mean.value),
        "ci_low": _number(mean.low),
        "ci_high": _number(mean.high),
        "n": mean.rows,
        "tasks": mean.tasks,
    }


def _rows(report: Mapping[str, Any]) -> dict[str, Any]:
    """How many rows a task has, and which test rows are not scored: `share` is that of `lost` in the task's questions."""
    return {
        "task": report["task"],
        "content": report["content"],
        **{split: known["rows"] for split, known in report["splits"].items()},
        "left_out": report.get("losses"),
    }


def _place(cell: RunCell) -> dict[str, Any]:
    return {
        "key": cell.key,
        "model": cell.model,
        "task": cell.task,
        "protocol": cell.protocol,
        "seed": cell.seed,
        "partner_of": cell.partner_of,
    }


def _session(session: Session, price: PriceConfig | None) -> dict[str, Any]:
    """What a run was expected to take, and what it took."""
    paid = {} if price is None else {"price": _paid(session.gpu_seconds, price)}
    expected = session.expected
    foreseen = None if expected is None else asdict(expected)
    if foreseen is not None and expected is not None and price is not None:
        foreseen["price"] = _paid(expected.gpu_seconds, price)
    return {**asdict(session), **paid, "expected": foreseen}


def _paid(gpu_seconds: float, price: PriceConfig) -> float:
    return round(gpu_seconds / 3600 * price.per_gpu_hour, 6)


def _done(cell: RunCell, model: Spent, price: PriceConfig | None) -> dict[str, Any]:
    gpu_seconds = spent_on(cell, model)
    paid = {} if price is None else {"price": _paid(gpu_seconds, price)}
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
        "less_room": int(cell.costs.get("less_room", 0)),
        "cut_by_context": int(cell.costs.get("cut_by_context", 0)),
        "rerun": None if cell.rerun is None else _rerun(cell.rerun),
        "costs": {what: _number(value) for what, value in cell.costs.items()},
        "gpu_seconds": gpu_seconds,
        **paid,
        "provenance": dict(cell.provenance),
    }


def _stopped(cell: RunCell, model: Spent, price: PriceConfig | None) -> dict[str, Any]:
    """A stopped cell: its numbers, of how many of how many rows they are, and why."""
    assert cell.stopped is not None
    stopped = cell.stopped.stopped
    told = {"n": stopped.n, "of": stopped.of, "looks": stopped.looks, "why": stopped.why, "stopped_at": cell.stopped.stopped_at}
    return {**_done(at_its_stop(cell), model, price), **told}


def _rerun(rerun: Rerun) -> dict[str, Any]:
    return {
        "share": rerun.share,
        "n": rerun.n,
        "flips": {
            what: {"rows": count, "rate": _number(m.value), "ci_low": _number(m.ci_low), "ci_high": _number(m.ci_high)}
            for what, count in rerun.flips.items()
            for m in [rerun.rate(what)]
        },
        "largest_logprob_difference": _number(rerun.largest_difference),
    }


def _field(value: str | float | int | None) -> str:
    if isinstance(value, str):
        return _text(value)
    return "" if value is None or math.isnan(value) else repr(value)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
