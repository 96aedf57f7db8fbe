"""report.html of a run folder: reads what `report.html` wants to know, and the samples that travel in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spt_fast.analysis.cells import Place, RunCell, best
from spt_fast.analysis.compare import compare_protocols, compare_runs
from spt_fast.analysis.compare_types import Compared
from spt_fast.analysis.faults import Told, tell_series
from spt_fast.analysis.ranking import rank_run
from spt_fast.analysis.ranking_types import Ranking
from spt_fast.analysis.runs import Run, read_run
from spt_fast.config.output import Location
from spt_fast.config.protocols import protocol_of
from spt_fast.errors import ConfigError, DamagedError
from spt_fast.prompts.meaning import Placed
from spt_fast.report.html import CellVerdicts, SampleCell, Samples, chosen, html, pack
from spt_fast.report.html.samples import ROOM_OF_A_ROW
from spt_fast.report.parts import Section
from spt_fast.report.recorded import Known, Recorded
from spt_fast.report.sections import sections
from spt_fast.scoring.metrics import ANSWER, HEADLINE
from spt_fast.store import Store

MOST_RANKED = 3000
"""Done cells up to which models are ranked for the page: the rows of all of them are read."""
MOST_SAMPLED = 2000
"""Cells whose rows the page may show, unless all are asked for."""
MOST_FOLLOWED = 20_000
"""Cells, done or stopped, up to which series are followed for the page."""
MOST_INSPECTED = 100
"""Soft prompts whose meaning the page shows."""

_VERDICTS = ("format_ok", "knows", "correct")
"""Verdicts of a row that the page shows: those of `HEADLINE`, `knows` by the best method (`_at_best`)."""
_COLUMNS = (
    "example",
    "prompt",
    "completion",
    "finish_reason",
    "target",
    "extracted",
    "rule",
    *_VERDICTS,
    "answers",
    "scores",
    *ANSWER,
    "option_logprobs",
    "options",
    "span",
    "chosen",
    "format_by_rule",
    "knows_by_rule",
    "knows_best",
)
_BEFORE = (
    "completion",
    "finish_reason",
    "extracted",
    "rule",
    "span",
    *_VERDICTS,
    "format_by_rule",
    "knows_by_rule",
    "knows_best",
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which samples a page is to have."""

    most: int | None = None
    """Rows; None: all."""
    limited: bool = True
    """As many as fit into `MOST_BYTES`, whatever `most` says."""


FITTING = Wanted()
"""What report.html has."""


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """What the rows of a run say together."""

    run: Run | None = None
    """None: no cell is done."""
    ranking: Ranking | None = None
    no_ranking: str = ""
    """Why there is none, or what it lacks, in a sentence."""
    tests: Compared | None = None
    """Protocols against each other."""
    no_tests: str = ""
    """Why there are none, in a sentence."""
    series: Sequence[Told] = ()


def page(
    run: Run,
    cells: Sequence[RunCell],
    *,
    wanted: Wanted = FITTING,
    against: Location | None = None,
    said: str = "",
    known: Analysed | None = None,
    found: Sequence[Section] | None = None,
) -> str:
    """The text of report.html.

    Args:
        run: the run folder.
        cells: of the grid.
        wanted: which samples.
        against: another run folder, to show the rows that the two disagree on.
        said: `report.summary` of the cells; empty: it is made.
        known: `analysed` of the run; None: it is made.
        found: the sections; None: they are made.

    Raises:
        ConfigError: `against` is not a run folder, or nothing in it can be compared.
        StoreError: a file is damaged.
    """
    done = [cell for cell in cells if cell.status == "done"]
    known = known or analysed(run, cells)
    compared, before = None, None
    if against is not None:
        if known.run is None:
            raise ConfigError(f"{run.folder}: no cell is done yet; run the grid first")
        other = read_run(against)
        compared = compare_runs(other, known.run)
        before = _Before(other, known.run, compared)
    found = sections(recorded(run, cells, known, said=said, compared=compared)) if found is None else found
    return html(run.name, found, lambda room: _samples(known.run, done, wanted, room, before))


def recorded(
    run: Run,
    cells: Sequence[RunCell],
    known: Analysed,
    *,
    said: str = "",
    compared: Compared | None = None,
) -> Recorded:
    """What the report of a run folder is made from.

    Raises:
        StoreError: a file is damaged.
    """
    store = run.store
    learnt, more = _learnt(store, [cell for cell in cells if cell.status == "done"])
    return Recorded(
        name=run.name,
        cells=cells,
        grid=run.grid,
        said=said,
        rows=store.rows.read(),
        events=store.events(),
        ranking=known.ranking,
        no_ranking=known.no_ranking,
        tests=known.tests,
        no_tests=known.no_tests,
        compared=compared,
        series=known.series,
        verdicts=store.verdicts.read(),
        learnt=learnt,
        learnt_left_out=more,
    )


def _learnt(store: Store, done: Sequence[RunCell]) -> tuple[list[Known], int]:
    """Soft prompts that were learnt on the task that they are asked, and how many are left out."""
    with_prompts = store.learnt.among([cell.key for cell in done])
    # What a transfer carries is there already, with the task it was learnt on; a judged cell has that of its twin.
    own = (cell for cell in done if cell.key in with_prompts)
    there = [
        cell
        for cell in own
        if protocol_of(cell.protocol).attaches == "soft_prompt" and not protocol_of(cell.protocol).transfers
    ]
    found = []
    for cell in there[:MOST_INSPECTED]:
        steps = store.learnt.soft_prompts(cell.key)
        if steps:
            placed = Placed(cell.model, cell.task, cell.protocol, cell.seed, steps[max(steps)])
            found.append(Known(placed=placed, meaning=store.learnt.meaning(cell.key), probe=store.learnt.probe(cell.key)))
    return found, max(0, len(there) - MOST_INSPECTED)


def analysed(run: Run, cells: Sequence[RunCell]) -> Analysed:
    """What the rows of a run say together.

    Args:
        run: the run folder.
        cells: of the grid.

    Raises:
        StoreError: a file is damaged.
    """
    done = sum(cell.status == "done" for cell in cells)
    if not done:  # all were stopped early, perhaps
        return Analysed(series=series_told(run, cells))
    run = _undamaged(run, cells)
    series = series_told(run, cells)
    if done > MOST_RANKED:
        many = f"The grid has {done:,} cells, too many"
        return Analysed(
            run=run,
            series=series,
            no_ranking=f"{many} to rank while a page is written: `spt-fast rank DIR` does.",
            no_tests=f"{many} to compare while a page is written: `spt-fast compare DIR DIR --a-protocol ..` does.",
        )
    ranking, no_ranking = _ranked(run)
    tests = compare_protocols(run)
    return Analysed(
        run=run,
        series=series,
        ranking=ranking,
        no_ranking=no_ranking,
        tests=tests if tests.comparisons else None,
        no_tests="No model has two protocols on one task, so there is nothing to compare.",
    )


def series_told(run: Run, cells: Sequence[RunCell]) -> Sequence[Told]:
    """What is to be said of the series of a run, where it has any, and not too many cells.

    Raises:
        StoreError: a file is damaged.
    """
    if not (run.done or run.stopped) or sum(cell.status in ("done", "stopped") for cell in cells) > MOST_FOLLOWED:
        return ()
    return tell_series(_undamaged(run, cells))


def _undamaged(run: Run, cells: Sequence[RunCell]) -> Run:
    return run.without({cell.key for cell in cells if cell.kind == DamagedError.__name__})


def _ranked(run: Run) -> tuple[Ranking | None, str]:
    """Orders of models; or why there are none."""
    try:
        found = rank_run(run)
    except ConfigError as e:
        return None, f"Models are not ranked: {e}."
    if not (run.partners or run.truth):
        return (
            found,
            "There is no reference order: no model has a post-trained counterpart (post_trained:), and the grid has no "
            "reference scores (truth:).",
        )
    return (
        found,
        "There is no reference order: fewer than two base models have a counterpart or a reference score on the same task.",
    )


class _Before:
    """What another run has for the rows of this one, where a verdict differs."""

    def __init__(self, other: Run, run: Run, compared: Compared) -> None:
        self._other = other
        self._places: dict[Place, Place] = {}
        """This run's -> the other's."""
        for pair in dict.fromkeys(each.pair for each in compared.comparisons):
            theirs = {place.seed: place for place in other.done if place[:3] == (pair.a_model, pair.task, pair.a_protocol)}
            for place in run.done:
                same = theirs.get(place.seed, theirs.get(None))
                if place[:3] == (pair.b_model, pair.task, pair.b_protocol) and same is not None:
                    self._places[place] = same

    def rows(self, place: Place) -> dict[str, dict[str, Any]]:
        """The other run's rows, by content hash; none where it has no such cell."""
        there = self._places.get(place)
        return {} if there is None else {row["example"]: _at_best(row) for row in self._other.answers(there, list(_BEFORE))}


def _samples(run: Run | None, done: Sequence[RunCell], wanted: Wanted, room: int, before: _Before | None) -> Samples:
    if run is None:
        return pack([], [], [])
    cells = done if not wanted.limited else _evenly(done, MOST_SAMPLED)
    there = [before.rows(cell.place) if before else {} for cell in cells]
    verdicts = [_verdicts(run, cell.place, other) for cell, other in zip(cells, there, strict=True)]
    most = room // ROOM_OF_A_ROW if wanted.limited else wanted.most
    of_cell, of_row = chosen(verdicts, most)
    rows: list[tuple[int, dict[str, Any]]] = [(0, {})] * len(of_cell)
    for i in np.unique(of_cell):
        wanted_at = np.flatnonzero(of_cell == i)
        found = map(_at_best, run.store.samples(cells[i].key, _COLUMNS, last=True, rows=of_row[wanted_at].tolist()))
        for at, row in zip(wanted_at, found, strict=True):
            other = there[i].get(row["example"])
            rows[at] = (int(i), {**row, "before": other} if other is not None and _differ(row, other) else row)
    about = [
        SampleCell(
            key=cell.key,
            model=cell.model,
            task=cell.task,
            protocol=cell.protocol,
            seed=cell.seed,
            closed_ended=cell.closed_ended,
        )
        for cell in cells
    ]
    left_out = len(done) - len(cells)
    open_ended = [task for task in run.grid.get("tasks", ()) if task.get("format")]
    forms = {task["task"]: task.get("form") or task["format"] for task in open_ended}
    return pack(about, verdicts, rows, forms, room=room if wanted.limited else None, cells_left_out=left_out)


def _verdicts(run: Run, place: Place, other: Mapping[str, Mapping[str, Any]]) -> CellVerdicts:
    scored = run.scores(place)
    columns = {name: scored.values[metric].astype(bool) for name, metric in zip(_VERDICTS, HEADLINE, strict=True)}
    rows = ({name: bool(columns[name][i]) for name in _VERDICTS} for i in range(len(scored.examples)))
    if not other:
        return CellVerdicts(examples=scored.examples, **columns)
    flipped = [example in other and _differ(row, other[example]) for example, row in zip(scored.examples, rows, strict=True)]
    return CellVerdicts(examples=scored.examples, flipped=np.array(flipped, bool), **columns)


def _at_best(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose `knows` is the verdict that tables show."""
    return {**row, "knows": best(row)}


def _differ(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(row[name] != other[name] for name in _VERDICTS)


def _evenly(cells: Sequence[RunCell], most: int) -> list[RunCell]:
    """So many at the most, at equal distances in the grid's order."""
    if len(cells) <= most:
        return list(cells)
    return [cells[i] for i in np.linspace(0, len(cells) - 1, most).round().astype(int)]
