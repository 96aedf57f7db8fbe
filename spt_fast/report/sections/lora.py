"""Low-rank changes of the weights: soft prompts beside LoRA."""

from __future__ import annotations

from spt_fast.config.protocols import protocol_of
from spt_fast.report.cells import SeedGroup
from spt_fast.report.parts import Cell, Group, Prose, Section, Table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import visible
from spt_fast.scoring.metrics import HEADLINE, spec


def section(recorded: Recorded) -> Section | None:
    """What each changes, and what comes of it; None where the grid has no LoRA."""
    grid = recorded.by_place
    adapters = [label for label in grid.protocols if protocol_of(label).attaches == "adapter"]
    if not adapters or not recorded.any_done:
        return None
    beside = [label for label in grid.protocols if protocol_of(label).is_baseline or protocol_of(label).is_treatment]
    labels = [label for label in grid.protocols if label in (*beside, *adapters)]
    groups = []
    for model in grid.models:
        for task in grid.tasks:
            rows: list[list[Cell]] = []
            for label in labels:
                cells = grid.at.get(SeedGroup(model, task, label), ())
                done = [cell for cell in cells if cell.status == "done"]
                if done:
                    numbers = [grid.number(SeedGroup(model, task, label), name) for name in HEADLINE]
                    sizes = [f"{done[0].costs.get(name, 0):,.0f}" for name in ("trained_parameters", "stored_bytes")]
                    rows.append([visible(label), *numbers, *sizes])
            if rows:
                groups.append(Group(title=f"{grid.name(model)} \u00b7 {visible(task)}", rows=rows))
    intro = (
        "LoRA changes the model's weights, learnt on the same rows in as many steps. It is a control: where it gains format "
        "alone, more parameters add nothing to what is known; where it gains knowledge, they were taught it."
    )
    head = ["protocol", *(spec(name).head for name in HEADLINE), "parameters trained", "bytes stored"]
    return Section(
        id="lora",
        title="LoRA",
        parts=[
            Prose(text=intro),
            Table(caption="Soft prompts beside LoRA", head=head, groups=groups, grouped="model and task"),
        ],
    )
