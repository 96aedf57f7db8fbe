"""The sections on what is made of soft prompts: carried to another task, answering together, beside LoRA."""

from __future__ import annotations

from collections.abc import Sequence

from spt_fast.report.cells import BEST, CellReport, Place
from spt_fast.report.html.figures import draw
from spt_fast.report.html.grid import Grid
from spt_fast.report.html.parts import Cell, Figure, Figures, Group, Linked, Part, Prose, Section, Table, samples_link
from spt_fast.report.html.words import ABSENT, Number, measured, share, span, visible
from spt_fast.report.transfer import PLAINLY, TransferMatrix, transfer_matrices

MEASURES = {"format_following": ("format following", 1), BEST: ("knowledge", 2), "exact_match": ("exact match", 3)}
"""Measure -> how it is called, and its colour."""
MOST_MATRICES = 30
"""That are drawn."""


def transfers(grid: Grid) -> Section | None:
    """Soft prompts of one task on another, as heat maps with numbers; None where nothing was carried."""
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
            parts.append(Figures(title=title, figures=[_heat(grid, matrix, measure) for measure in list(MEASURES)[:2]]))
        parts.append(_numbers(grid, matrix, title))
    return Section(id="transfer", title="Transfer", parts=parts)


def _lines(matrix: TransferMatrix) -> list[str]:
    return [PLAINLY, *matrix.sources]


def _line(learnt_on: str) -> str:
    return "zero-shot" if learnt_on == PLAINLY else visible(learnt_on, 60)


def _heat(grid: Grid, matrix: TransferMatrix, measure: str) -> Figure:
    called, colour = MEASURES[measure]
    rows = []
    for learnt_on in _lines(matrix):
        for asked in matrix.targets:
            found = matrix.at(learnt_on, asked, measure)
            if found is not None:
                tip = share(found.shown, found.n, f"learnt on {_line(learnt_on)}, asked {visible(asked)}: {called}").tip
                place = {"row": _line(learnt_on), "column": visible(asked, 60), "colour": f"var(--c{colour})"}
                rows.append({**place, "value": found.shown.value, "text": f"{found.shown.value:.2f}", "tip": tip})
    label = f"{grid.short[matrix.model]}: {called} by the task that was learnt on and the task that was asked"
    return Figure(svg=draw("heat", rows, label), caption=called)


def _numbers(grid: Grid, matrix: TransferMatrix, title: str) -> Table:
    groups = []
    for measure, (called, _) in MEASURES.items():
        rows: list[list[Cell]] = []
        for learnt_on in _lines(matrix):
            row: list[Cell] = [_line(learnt_on)]
            for asked in matrix.targets:
                found = matrix.at(learnt_on, asked, measure)
                cells = matrix.plainly.get(asked, ()) if learnt_on == PLAINLY else matrix.cells.get((learnt_on, asked), ())
                if found is None:
                    row.append(ABSENT)
                else:
                    number = share(found.shown, found.n, f"learnt on {_line(learnt_on)}, asked {visible(asked)}: {called}")
                    row.append(Linked(number=number, href=samples_link(**_place(cells[0])._asdict())))
            rows.append(row)
        groups.append(Group(title=called, rows=rows))
    head = ["learnt on", *(f"asked {visible(asked)}" for asked in matrix.targets)]
    return Table(caption=f"{title}: soft prompts of one task on another", head=head, groups=groups, folded=True)


def _place(cell: CellReport) -> Place:
    return Place(cell.model, cell.task, cell.protocol)


# Ensembles


def ensembles(grid: Grid) -> Section | None:
    """Ensembles beside the mean and the best of their members; None where there are none."""
    groups = []
    for model in grid.models:
        rows: list[list[Cell]] = []
        for place in grid.places(model=model):
            for cell in grid.at[place]:
                rows += _together(cell) if cell.status == "done" else []
        if rows:
            groups.append(Group(title=grid.name(model), rows=rows))
    if not groups:
        return None
    intro = (
        "The soft prompts of several seeds answer the same rows together. The best member is chosen by these very rows, so it "
        "looks better than it is; the mean member does not."
    )
    head = ["task", "protocol", "", "mean member", "best member", "together"]
    table = Table(caption="Ensembles", head=head, groups=groups, headers=3)
    return Section(id="ensembles", title="Ensembles", parts=[Prose(text=intro), table])


def _together(cell: CellReport) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for measure, (called, _) in MEASURES.items():
        found = [cell.metric(name) for name in (f"{measure}_member_mean", f"{measure}_member_best", measure)]
        if all(metric is not None for metric in found):
            numbers: Sequence[Cell] = [
                Number(
                    text=f"{metric.value:.2f}",
                    interval=span(metric.ci_low, metric.ci_high),
                    tip=f"{called} {metric.value:.3f}, n = {metric.n}",
                    tint=round(10 * metric.value),
                )
                for metric in found
                if metric is not None
            ]
            seed = "" if cell.seed is None else f" \u00b7 seed {cell.seed}"
            rows.append([visible(cell.task), visible(cell.protocol) + seed, called, *numbers])
    return rows


# Low-rank changes of the weights


def methods(grid: Grid) -> Section | None:
    """Soft prompts beside LoRA: what each changes, and what comes of it; None where the grid has no LoRA."""
    labels = [label for label in grid.protocols if label.partition("[")[0] in ("zero_shot", "soft_prompt", "lora")]
    if not any(label.startswith("lora") for label in labels):
        return None
    groups = []
    for model in grid.models:
        for task in grid.tasks:
            rows: list[list[Cell]] = []
            for label in labels:
                cells = grid.at.get(Place(model, task, label), ())
                done = [cell for cell in cells if cell.status == "done"]
                if done:
                    where = f"{grid.short[model]}, {visible(task)}, {visible(label)}"
                    numbers = [measured(cells, measure, where) or ABSENT for measure in MEASURES]
                    sizes = [f"{done[0].costs.get(name, 0):,.0f}" for name in ("trained_parameters", "stored_bytes")]
                    rows.append([visible(label), *numbers, *sizes])
            if rows:
                groups.append(Group(title=f"{grid.name(model)} \u00b7 {visible(task)}", rows=rows))
    intro = (
        "LoRA changes the model's weights, learnt on the same rows in as many steps. It is a control: where it gains format "
        "alone, more parameters add nothing to what is known; where it gains knowledge, they were taught it."
    )
    head = ["protocol", "form", "knows", "exact match", "parameters trained", "bytes stored"]
    return Section(
        id="methods",
        title="LoRA",
        parts=[Prose(text=intro), Table(caption="Soft prompts beside LoRA", head=head, groups=groups)],
    )
