"""How many rows each split has, and how many look like test rows."""

from __future__ import annotations

from spt_fast.report.parts import Cell, Prose, Section, table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import visible
from spt_fast.tasks.losses import unused


def section(recorded: Recorded) -> Section | None:
    """None where the run does not tell."""
    found: list[list[Cell]] = []
    for report in recorded.rows:
        near = report["near_duplicates"]["overlapping"]
        sizes = [f"{report['splits'][split]['rows']:,}" for split in ("tuning", "few_shot", "test")]
        left_out = f"{unused(report):,}"
        found.append([visible(report["task"]), *sizes, left_out, str(near["tuning"]), str(near["few_shot"])])
    if not found:
        return None
    head = ["task", "tuning", "few-shot", "test", "left out", "tuning rows near test rows", "few-shot rows near test rows"]
    note = "Near-duplicates share 13 words in a row with a test row; rows/ has the first of them, and why rows were left out."
    return Section(id="rows", title="Rows", parts=[table("Rows of each task", head, found), Prose(text=note)])
