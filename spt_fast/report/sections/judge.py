"""How often the judge agrees with the rules, and where not."""

from __future__ import annotations

from spt_fast.report.parts import Cell, Linked, Part, Section, samples_link, table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import Number, visible
from spt_fast.scoring.metrics import spec

MOST_SHOWN = 20
"""Disagreements that are written out; samples.parquet has all."""
AGREEMENT = ("judge_agrees_on_format", "judge_agrees_on_knowledge")


def section(recorded: Recorded) -> Section | None:
    """None where there is no judge."""
    grid = recorded.by_place
    rows: list[list[Cell]] = []
    differing: list[list[Cell]] = []
    total = 0
    for place in grid.places():
        cells = [cell for cell in grid.at[place] if cell.judged]
        if cells:
            total += sum(len(cell.disagreements) for cell in cells)
            names: list[Cell] = [grid.name(place.model), visible(place.task), visible(place.protocol)]
            link = samples_link(**place._asdict(), verdict="judge")
            n = "/".join(map(str, sorted({metric.n for cell in cells if (metric := cell.metric(AGREEMENT[0])) is not None})))
            differ = Linked(number=Number(text=n), href=link)
            rows.append([*names, *(grid.number(place, name) for name in AGREEMENT), differ])
            for cell in cells:
                differing += [
                    [*names, each.what, "yes" if each.judge else "no", visible(each.completion, 200)]
                    for each in cell.disagreements[: max(0, MOST_SHOWN - len(differing))]
                ]
    if not rows:
        return None
    head = ["model", "task", "protocol", *(spec(name).head for name in AGREEMENT), "n"]
    parts: list[Part] = [table("Judge against rules", head, rows, headers=3)]
    if differing:
        head = ["model", "task", "protocol", "on", "judge says", "completion"]
        parts.append(table(f"They differ on {total:,} verdicts; the first {len(differing)}", head, differing, headers=3))
    return Section(id="judge", title="Judge", parts=parts)
