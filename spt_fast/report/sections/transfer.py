"""Soft prompts of one task on another."""

from __future__ import annotations

from spt_fast.analysis.cells import RunCell
from spt_fast.report.cells import SeedGroup
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Figure, Figures, Group, Linked, Part, Prose, Section, Table, colour, samples_link
from spt_fast.report.recorded import Recorded
from spt_fast.report.sections.overview import CLAIM
from spt_fast.report.transfer import PLAINLY, TransferMatrix, transfer_matrices
from spt_fast.report.words import ABSENT, share, visible
from spt_fast.scoring.metrics import HEADLINE, MetricSpec, spec

MOST_MATRICES = 30
"""That are drawn."""


def section(recorded: Recorded) -> Section | None:
    """Soft prompts of one task on another, as heat maps with numbers; None where nothing was carried."""
    grid = recorded.by_place
    shown = set(grid.models)
    found = [matrix for matrix in transfer_matrices(grid.cells) if matrix.model in shown]
    if not found:
        return None
    intro = (
        "Lines: the task that a soft prompt was learnt on. Columns: the task that was asked behind it. The first line is the "
        "model without any, the diagonal a task's own. What carries the form over to another task need not carry knowledge."
    )
    parts: list[Part] = [Prose(text=intro)]
    for i, matrix in enumerate(found):
        title = grid.short[matrix.model] + (f" \u00b7 {visible(matrix.settings)}" if matrix.settings else "")
        if i < MOST_MATRICES:
            parts.append(Figures(title=title, figures=[_heat(grid, matrix, metric) for metric in CLAIM]))
        parts.append(_numbers(grid, matrix, title))
    return Section(id="transfer", title="Transfer", parts=parts)


def _lines(matrix: TransferMatrix) -> list[str]:
    return [PLAINLY, *matrix.sources]


def _line(learnt_on: str) -> str:
    return "zero-shot" if learnt_on == PLAINLY else visible(learnt_on, 60)


def _heat(grid: Grid, matrix: TransferMatrix, metric: MetricSpec) -> Figure:
    called = metric.words
    rows = []
    for learnt_on in _lines(matrix):
        for asked in matrix.targets:
            found = matrix.at(learnt_on, asked, metric.name)
            if found is not None:
                tip = share(found.shown, found.n, f"learnt on {_line(learnt_on)}, asked {visible(asked)}: {called}").tip
                place = {"row": _line(learnt_on), "column": visible(asked, 60), "colour": colour(metric.colour)}
                rows.append({**place, "value": found.shown.value, "text": f"{found.shown.value:.2f}", "tip": tip})
    label = f"{grid.short[matrix.model]}: {called} by the task that was learnt on and the task that was asked"
    return Figure(drawing="heat", rows=rows, label=label, caption=called)


def _numbers(grid: Grid, matrix: TransferMatrix, title: str) -> Table:
    groups = []
    for metric in map(spec, HEADLINE):
        rows: list[list[Cell]] = []
        for learnt_on in _lines(matrix):
            row: list[Cell] = [_line(learnt_on)]
            for asked in matrix.targets:
                found = matrix.at(learnt_on, asked, metric.name)
                cells = matrix.plainly.get(asked, ()) if learnt_on == PLAINLY else matrix.cells.get((learnt_on, asked), ())
                if found is None:
                    row.append(ABSENT)
                else:
                    number = share(
                        found.shown, found.n, f"learnt on {_line(learnt_on)}, asked {visible(asked)}: {metric.words}"
                    )
                    row.append(Linked(number=number, href=samples_link(**_place(cells[0])._asdict())))
            rows.append(row)
        groups.append(Group(title=metric.words, rows=rows))
    head = ["learnt on", *(f"asked {visible(asked)}" for asked in matrix.targets)]
    return Table(
        caption=f"{title}: soft prompts of one task on another", head=head, groups=groups, folded=True, grouped="metric"
    )


def _place(cell: RunCell) -> SeedGroup:
    return SeedGroup(cell.model, cell.task, cell.protocol)
