"""Suites, and groups of lm-eval's: means over their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spt_fast.report.means import Mean, suite_means, suites_of
from spt_fast.report.parts import Cell, Part, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, number, span, visible
from spt_fast.scoring.metrics import ANSWER, HEADLINE, spec

LM_EVAL_METRIC = "lm_eval/"


def section(recorded: Recorded) -> Section | None:
    """A table a suite; None where the grid has none."""
    found = {(e.suite, e.model, e.protocol, e.metric): e.mean for e in suite_means(recorded.grid, recorded.cells)}
    tables = [table for suite in suites_of(recorded.grid) if (table := _table(recorded, suite, found)) is not None]
    if not tables:
        return None
    intro = (
        "Weighted means over the tasks of each suite, where all of them are done, with the interval of independent tasks. A "
        "group of lm-eval's is weighted as its config has it, mostly by rows."
    )
    parts: list[Part] = [Prose(text=intro), *tables]
    return Section(id="means", title="Suites and groups", parts=parts)


def _table(recorded: Recorded, suite: Mapping[str, Any], found: Mapping[tuple[str, str, str, str], Mean]) -> Table | None:
    grid, name = recorded.by_place, suite["name"]
    metrics = [*HEADLINE, *_likelihoods(recorded, suite), *_own(suite, found)]

    def rows(model: str) -> Iterator[list[Cell]]:
        for label in grid.protocols:
            means = [found.get((name, model, label, metric)) for metric in metrics]
            if any(means):
                yield [visible(label), *map(_shown, means, metrics)]

    groups = grid.groups(rows)
    if not groups:
        return None
    head = ["protocol", *(spec(metric).head if metric in (*HEADLINE, *ANSWER) else visible(metric) for metric in metrics)]
    return Table(caption=f"{visible(name)}: {len(suite['tasks'])} tasks", head=head, groups=groups, grouped="model")


def _own(suite: Mapping[str, Any], found: Iterable[tuple[str, str, str, str]]) -> list[str]:
    """The metrics of a group of lm-eval's, by our names of them, whatever the filter."""
    there = dict.fromkeys(metric for name, _, _, metric in found if name == suite["name"] and metric.startswith(LM_EVAL_METRIC))
    return [metric for metric in there if metric.split("/")[1] in suite["metrics"]]


def _likelihoods(recorded: Recorded, suite: Mapping[str, Any]) -> list[str]:
    """Bits per byte, where all of its cells have it: those of earlier versions have not."""
    cells = [cell for cell in recorded.cells if cell.task in suite["tasks"] and cell.status == "done"]
    return [name for name in ANSWER[:1] if cells and all(cell.metric(name) is not None for cell in cells)]


def _shown(found: Mean | None, name: str) -> str:
    digits = spec(name).digits
    return ABSENT if found is None else f"{number(found.value, digits)} ({span(found.low, found.high, digits)})"
