"""How long the texts of a task are, from its rows: what estimates of time go by."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from spt_fast.tasks.base import Task
from spt_fast.types import Example

MOST_ROWS = 200
"""Rows that are looked at; they come in the order of content hashes, so the first are a sample."""


def lengths(task: Task, examples: Sequence[Example]) -> dict[str, float]:
    """Means in characters: of the instruction, an item, a target and an option; and how many options there are.

    Empty without rows.
    """
    some = examples[:MOST_ROWS]
    if not some:
        return {}
    options = [option for example in some for option in example.options]
    return {
        "instruction": float(len(task.template.instruction)),
        "item": fmean(len(task.template.render(example)) for example in some),
        "target": fmean(len(example.target) for example in some),
        "option": fmean(map(len, options)) if options else 0.0,
        "options": len(options) / len(some),
    }
