"""The sections of report.html, from the numbers of the cells: what report.md says, with figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from spt_fast.report.cells import BEST, CellReport, OverSeeds, Place, distinct, failures, over_seeds
from spt_fast.report.html.figures import GLYPHS, draw
from spt_fast.report.html.grid import Grid, is_control
from spt_fast.report.html.parts import (
    Beside,
    Cell,
    Facts,
    Failures,
    Figure,
    Figures,
    Group,
    Key,
    Linked,
    Part,
    Prose,
    Section,
    Table,
    samples_link,
    table,
)
from spt_fast.report.html.words import ABSENT, Number, counted, measured, share, visible
from spt_fast.scoring.statistics import Z_95, saturation_step
from spt_fast.tasks.losses import unused

FORMAT, KNOWLEDGE = "format_following", BEST
MEASURES = {FORMAT: ("format following", 1, "circle"), KNOWLEDGE: ("knowledge", 2, "diamond")}
"""Measure -> how it is called, its colour and its shape where both stand in one figure."""
QUADRANTS = (
    ("format_and_knowledge", "form and knowledge", 3),
    ("knowledge_only", "knowledge without the form", 5),
    ("format_only", "form without knowledge", 6),
    ("neither", "neither", 8),
)
"""Share -> how it is called, and its colour. What zero-shot loses is the second."""
MOST_CURVES = 240
"""Small figures of curves on a page."""


def overview(grid: Grid, facts: Sequence[tuple[str, str]], words: str, left_out: Sequence[str] = ()) -> Section:
    """What was run, what came of it, what failed.

    Args:
        grid: of the run.
        facts: terms and what stands for them.
        words: `report.summary` of the cells.
        left_out: sentences about test rows that are not scored.
    """
    parts: list[Part] = [Facts(facts=facts), *(Prose(text=visible(sentence, 1000)) for sentence in left_out)]
    measured_any = any(cell.status == "done" for cell in grid.cells)
    found = [(visible(who), visible(why)) for who, why in failures(grid.cells)]
    if found:
        failed = sum(cell.status == "failed" for cell in grid.cells)
        parts.append(Failures(title=f"{counted(failed, 'cell')} failed", failures=found))
    said = Prose(text=visible(words, 20_000))
    parts.append(Beside(parts=[*(_headline(grid) if measured_any else []), said]))
    if len(grid.models) < len(grid.all_models):
        parts.append(
            Prose(text=f"The first {len(grid.models)} of {len(grid.all_models)} models are shown here; results.csv has all.")
        )
    if measured_any:
        parts += [_matrix(grid), *_forms(grid)]
    return Section(id="overview", title="Overview", parts=parts)


def _headline(grid: Grid) -> list[Figures]:
    """Means over tasks, a line a model, protocols beside each other."""
    rows: list[dict[str, Any]] = []
    for measure, (called, _, _) in MEASURES.items():
        for model in grid.models:
            for protocol in grid.protocols:
                mean = None if is_control(protocol) else _mean_over_tasks(grid, model, protocol, measure)
                if mean is not None:
                    kind = "post-trained partners" if model in grid.partner_of else "base models"
                    place = {"measure": called, "kind": kind, "model": grid.short[model], "protocol": visible(protocol)}
                    rows.append({**place, **mean, **grid.look(model)})
    if not rows:
        return []
    svg = draw("headline", rows, "Format following and knowledge of each model under each protocol, means over tasks")
    bases = [model for model in grid.models if model not in grid.partner_of]
    note = "A line is a model, a point its mean over tasks; a partner has the colour and the shape of its base model."
    return [Figures(figures=[Figure(svg=svg, note=note)], legend=grid.legend(bases or grid.models))]


def _mean_over_tasks(grid: Grid, model: str, protocol: str, measure: str) -> dict[str, Any] | None:
    """The mean, and what is said of it; None where nothing was measured."""
    by_task = (over_seeds(grid.at.get(Place(model, task, protocol), ()), measure) for task in grid.tasks)
    found = [each for each in by_task if each is not None]
    if not found:
        return None
    value = fmean(each.value for each in found)
    # The tasks have rows of their own; the seeds of a task have not.
    reach = Z_95 * math.sqrt(sum(each.sampling**2 for each in found)) / len(found)
    low, high = max(0.0, value - reach), min(1.0, value + reach)
    over = "" if len(found) == len(grid.tasks) else f" of {len(grid.tasks)}"
    interval = "" if math.isnan(reach) else f", 95% interval over rows {low:.3f} to {high:.3f}"
    said = f"{MEASURES[measure][0]} {value:.3f}{interval}, mean of {counted(len(found), 'task')}{over}"
    return {"value": value, "tip": f"{grid.short[model]}, {visible(protocol)}: {said}"}


def _matrix(grid: Grid) -> Table:
    """Models x tasks: format following and knowledge under each protocol."""
    groups = []
    for model in grid.models:
        rows: list[list[Cell]] = []
        for protocol in distinct(place.protocol for place in grid.places(model=model)):
            row: list[Cell] = [visible(protocol)]
            for task in grid.tasks:
                row += [_linked(grid, Place(model, task, protocol), measure) for measure in MEASURES]
            rows.append(row)
        groups.append(Group(title=grid.name(model), rows=rows))
    return Table(
        caption="Format following and knowledge, last step; over several seeds their mean. A number leads to its samples.",
        over=[("", 1), *((visible(task), 2) for task in grid.tasks)],
        head=["protocol", *(["form", "knows"] * len(grid.tasks))],
        groups=groups,
    )


def _forms(grid: Grid) -> list[Table]:
    """What format following means for each task; of runs before there were words for it, nothing."""
    rows: list[list[Cell]] = [[visible(task), visible(form, 300)] for task, form in grid.forms.items()]
    return [table("The form of the answer that each task asks for.", ["task", "form"], rows)] if rows else []


def _linked(grid: Grid, place: Place, measure: str, **filters: str) -> Cell:
    cells = grid.at.get(place, ())
    found = measured(cells, measure, _said(grid, place))
    if found is None:
        return next((status for status in ("failed", "waiting") if any(cell.status == status for cell in cells)), ABSENT)
    return Linked(number=found, href=samples_link(**place._asdict(), **filters))


def _said(grid: Grid, place: Place) -> str:
    return f"{grid.short[place.model]}, {visible(place.task)}, {visible(place.protocol)}"


def curves(grid: Grid) -> Section | None:
    """Format following and knowledge by step, and where format following settles; None where there are no curves."""
    parts: list[Part] = []
    drawn = 0
    for task in grid.tasks:
        places = [place for place in grid.places(task=task) if _steps(grid, place)]
        shown = places[: MOST_CURVES - drawn]
        drawn += len(shown)
        if shown:
            several = len({place.protocol for place in places}) > 1
            figures = [_curve(grid, place, several=several) for place in shown]
            parts += [Figures(title=visible(task), figures=figures), _curve_table(grid, task, places)]
    if not parts:
        return None
    intro = (
        "Share of the test rows by tuning step, with 95% intervals; over several seeds the mean, and the widest span of their "
        "intervals. The dashed line stands where format following has settled: from there on it stays within its interval at "
        "the last step (the latest such step of the seeds)."
    )
    legend = [Key(glyph=GLYPHS[shape], colour=colour, text=called) for called, colour, shape in MEASURES.values()]
    return Section(id="curves", title="Curves", parts=[Figures(figures=[], legend=legend), Prose(text=intro), *parts])


def _steps(grid: Grid, place: Place) -> list[int]:
    """Steps that were measured; none where there is only the last."""
    found = sorted({step for cell in grid.at[place] if cell.status == "done" for step in cell.metrics if step is not None})
    return found if len(found) > 1 else []


def _at_step(cells: Sequence[CellReport], measure: str, step: int) -> tuple[OverSeeds, list[int]] | None:
    """A measure over seeds at a step, and n of each; None where it was not measured."""
    there = [cell for cell in cells if step in cell.metrics]
    cut = [CellReport(model=c.model, task=c.task, protocol=c.protocol, metrics={step: c.metrics[step]}) for c in there]
    found = over_seeds(cut, measure)
    return None if found is None else (found, [m.n for cell in cut if (m := cell.metric(measure)) is not None])


def _settled(cells: Iterable[CellReport]) -> list[int]:
    """The step from which each seed's format following stays within its last interval."""
    found = (saturation_step(cell.curve(FORMAT)) for cell in cells if cell.status == "done")
    return [step for step in found if step is not None]


def _curve(grid: Grid, place: Place, *, several: bool) -> Figure:
    settled = _settled(grid.at[place])
    rows: list[dict[str, Any]] = []
    for measure, (called, colour, shape) in MEASURES.items():
        for step in _steps(grid, place):
            at = _at_step(grid.at[place], measure, step)
            if at is not None:
                found, sizes = at
                tip = share(found, sizes, f"step {step}: {called}").tip
                row = {"measure": called, "step": step, "value": found.value, "low": found.low, "high": found.high, "tip": tip}
                rows.append({**row, "colour": f"var(--c{colour})", "shape": shape, "settled": None})
    told = f"settled by step {max(settled)}" if settled else ""
    for row in rows:
        if settled and (row["measure"], row["step"]) == (MEASURES[FORMAT][0], max(settled)):
            row["settled"] = f"format following: {told}"
    title = grid.short[place.model] + (f" \u00b7 {visible(place.protocol)}" if several else "")
    svg = draw("curve", rows, f"{_said(grid, place)}: format following and knowledge by step; {told}")
    return Figure(svg=svg, caption=title, note=told, href=samples_link(**place._asdict()))


def _curve_table(grid: Grid, task: str, places: Sequence[Place]) -> Table:
    steps = sorted({step for place in places for step in _steps(grid, place)})
    groups = []
    for place in places:
        settled = ", ".join(map(str, _settled(grid.at[place])))
        rows: list[list[Cell]] = []
        for measure, (called, _, _) in MEASURES.items():
            row: list[Cell] = [called]
            for step in steps:
                at = _at_step(grid.at[place], measure, step)
                row.append(ABSENT if at is None else share(*at, f"step {step}: {called}"))
            rows.append([*row, settled if measure == FORMAT else ""])
        groups.append(Group(title=f"{grid.name(place.model)} \u00b7 {visible(place.protocol)}", rows=rows))
    head = ["", *(f"step {step}" for step in steps), "settled at, by seed"]
    return Table(caption=f"{visible(task)} by step", head=head, groups=groups, folded=True)


def two_by_two(grid: Grid) -> Section:
    """Format x knowledge of each cell."""
    parts: list[Part] = []
    legend = [Key(glyph="\u25a0", colour=colour, text=called) for _, called, colour in QUADRANTS]
    intro = (
        "Every completion has the form asked for or not, and the model knows the answer or not: by the way of scoring that is "
        "best on tuning rows (knowledge_best). A bar is one cell, cut into the four; over several seeds their means."
    )
    parts += [Prose(text=intro), Figures(figures=[], legend=legend)]
    figures = []
    for task in grid.tasks:
        rows: list[dict[str, Any]] = []
        for place in grid.places(task=task):
            for i, (quadrant, called, colour) in enumerate(QUADRANTS):
                found = measured(grid.at[place], quadrant, _said(grid, place))
                if found is not None:
                    own = {"model": grid.short[place.model], "protocol": visible(place.protocol), "rank": i}
                    value = _value(grid.at[place], quadrant)
                    tip = found.tip.replace(quadrant.replace("_", " "), called)
                    rows.append({**own, "share": value, "colour": f"var(--c{colour})", "tip": tip})
        if rows:
            svg = draw("map", rows, f"{visible(task)}: shares of format x knowledge by model and protocol")
            figures.append(Figure(svg=svg, caption=visible(task)))
    parts.append(Figures(figures=figures))
    parts += [each for task in grid.tasks if (each := _two_by_two_table(grid, task)) is not None]
    return Section(id="map", title="Format \u00d7 knowledge", parts=parts)


_VERDICTS = {
    "format_and_knowledge": "form-knows",
    "format_only": "form-not-knows",
    "knowledge_only": "not-form-knows",
    "neither": "neither",
}
"""Quadrant -> the filter of the browser that shows it."""


def _two_by_two_table(grid: Grid, task: str) -> Table | None:
    """The 2 x 2 table of each cell, a line each."""
    groups = []
    for model in grid.models:
        rows: list[list[Cell]] = []
        for place in grid.places(task=task, model=model):
            if any(cell.status == "done" for cell in grid.at[place]):
                quadrants = [_linked(grid, place, name, verdict=verdict) for name, verdict in _VERDICTS.items()]
                given = measured(grid.at[place], "exact_match_given_format", _said(grid, place))
                exact = measured(grid.at[place], "exact_match", _said(grid, place))
                rows.append([visible(place.protocol), *quadrants, given or ABSENT, exact or ABSENT])
        if rows:
            groups.append(Group(title=grid.name(model), rows=rows))
    if not groups:
        return None
    return Table(
        caption=f"{visible(task)}: format x knowledge",
        over=[("", 1), ("form followed", 2), ("form not followed", 2), ("", 2)],
        head=["protocol", "knows", "does not", "knows", "does not", "right, given the form", "exact match"],
        groups=groups,
        folded=True,
    )


def _value(cells: Sequence[CellReport], measure: str) -> float:
    found = over_seeds(cells, measure)
    return 0.0 if found is None else found.value


def controls(grid: Grid) -> Section | None:
    """What vectors do that were not learnt on the task's own answers; None where the grid has no control.

    Transfers have a section of their own.
    """
    labels = [label for label in grid.protocols if is_control(label) and label.partition("[")[0] != "transfer"]
    if not labels:
        return None
    beside = [label for label in grid.protocols if label.partition("[")[0] in ("zero_shot", "soft_prompt")]
    columns = [*beside, *labels]
    groups = []
    for model in grid.models:
        rows: list[list[Cell]] = []
        for task in grid.tasks:
            if any(Place(model, task, label) in grid.at for label in labels):
                row: list[Cell] = [visible(task)]
                for label in columns:
                    row += [_linked(grid, Place(model, task, label), measure) for measure in MEASURES]
                rows.append(row)
        if rows:
            groups.append(Group(title=grid.name(model), rows=rows))
    intro = "Beside soft prompts, vectors learnt on shuffled answers, or not at all: they should not know more."
    found = Table(
        caption="Controls",
        over=[("", 1), *((visible(label), 2) for label in columns)],
        head=["task", *(["form", "knows"] * len(columns))],
        groups=groups,
    )
    return Section(id="controls", title="Controls", parts=[Prose(text=intro), found])


def judge(grid: Grid) -> Section | None:
    """How often the judge agrees with the rules, and where not; None where there is none."""
    rows: list[list[Cell]] = []
    differing: list[list[Cell]] = []
    total = 0
    for place in grid.places():
        cells = [cell for cell in grid.at[place] if cell.judged]
        if cells:
            found = [measured(cells, f"judge_agrees_on_{what}", _said(grid, place)) for what in ("format", "knowledge")]
            total += sum(len(cell.disagreements) for cell in cells)
            link = Linked(number=Number(text="rows"), href=samples_link(**place._asdict(), verdict="judge"))
            names: list[Cell] = [grid.name(place.model), visible(place.task), visible(place.protocol)]
            rows.append([*names, *(each or ABSENT for each in found), link])
            for cell in cells:
                differing += [
                    [*names, each.what, "yes" if each.judge else "no", visible(each.completion, 200)]
                    for each in cell.disagreements[: max(0, _DISAGREEMENTS - len(differing))]
                ]
    if not rows:
        return None
    head = ["model", "task", "protocol", "agrees on format", "agrees on knowledge", "where not"]
    parts: list[Part] = [table("Judge against rules", head, rows, headers=3)]
    if differing:
        head = ["model", "task", "protocol", "on", "judge says", "completion"]
        parts.append(table(f"They differ on {total:,} verdicts; the first {len(differing)}", head, differing, headers=3))
    return Section(id="judge", title="Judge", parts=parts)


_DISAGREEMENTS = 20


def rows(reports: Sequence[Mapping[str, Any]]) -> Section | None:
    """How many rows each split has, and how many look like test rows; None where the run does not tell."""
    found: list[list[Cell]] = []
    for report in reports:
        near = report["near_duplicates"]["overlapping"]
        sizes = [f"{report['splits'][split]['rows']:,}" for split in ("tuning", "few_shot", "test")]
        left_out = f"{unused(report):,}"
        found.append([visible(report["task"]), *sizes, left_out, str(near["tuning"]), str(near["few_shot"])])
    if not found:
        return None
    head = ["task", "tuning", "few-shot", "test", "left out", "tuning rows near test rows", "few-shot rows near test rows"]
    note = "Near-duplicates share 13 words in a row with a test row; rows/ has the first of them, and why rows were left out."
    return Section(id="rows", title="Rows", parts=[table("Rows of each task", head, found), Prose(text=note)])
