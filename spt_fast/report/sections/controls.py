"""What vectors do that were not learnt on the task's own answers."""

from __future__ import annotations

from spt_fast.config.protocols import protocol_of
from spt_fast.report.cells import SeedGroup
from spt_fast.report.grid import is_control
from spt_fast.report.parts import Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.sections.overview import CLAIM
from spt_fast.report.words import visible


def section(recorded: Recorded) -> Section | None:
    """None where the grid has no control. Transfers have a section of their own."""
    grid = recorded.by_place
    labels = [label for label in grid.protocols if is_control(label) and not protocol_of(label).transfers]
    if not labels or not recorded.any_done:
        return None
    columns = [
        *(label for label in grid.protocols if protocol_of(label).is_baseline or protocol_of(label).is_treatment),
        *labels,
    ]
    groups = grid.groups(
        lambda model: [
            [visible(task), *(grid.linked(SeedGroup(model, task, label), each.name) for label in columns for each in CLAIM)]
            for task in grid.tasks
            if any(SeedGroup(model, task, label) in grid.at for label in labels)
        ]
    )
    intro = "Beside soft prompts, vectors learnt on shuffled answers, or not at all: they should not know more."
    found = Table(
        caption="Controls",
        over=[("", 1), *((visible(label), 2) for label in columns)],
        head=["task", *([metric.head for metric in CLAIM] * len(columns))],
        groups=groups,
    )
    return Section(id="controls", title="Controls", parts=[Prose(text=intro), found])
