"""PIQA (arXiv 1911.11641): which of two ways leads to an everyday goal, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task
from spt_fast.tasks.columns import chosen, label, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`goal`, `sol1`, `sol2`, `label` (0 or 1; -1 in the test split)."""
    gold = label(row, "label", first=0, count=2)
    options = [text(row, "sol1"), text(row, "sol2")]
    return chosen(question=text(row, "goal"), options=options, gold=gold)


TASK = Task(
    name="piqa",
    version=2,
    summary="which of two ways leads to an everyday goal, answered in full (B. Paris)",
    source=HubSource(
        id="baber/piqa",
        revision="142f6d7367fd9877f0fb3b5734ea6a545f54cdd1",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 16113, "test": 1838},
    ),
    read_row=read_row,
    sample={
        "goal": "To keep a door from slamming in the wind,",
        "sol1": "put a wedge under it.",
        "sol2": "put a wedge of cheese next to it.",
        "label": 0,
    },
    template=Template(
        instruction=INSTRUCTION,
        item="Goal: {question}\nQuestion: Which way leads to the goal?\n{options}\nAnswer:",
    ),
    form=FORM,
    cloze="Question: {question}\nAnswer:",
    sampling=Sampling(max_tokens=512, stop=("\nGoal:", "\nQuestion:")),
    random_baseline=0.5,
    licence="unknown",
    notes="The published test split has no answers (its labels are -1): validation is scored. Few-shot rows are a fixed cut of "
    "train, which tuning leaves alone. Read from baber/piqa, the copy that lm-evaluation-harness reads: ybisk/piqa is a "
    "script, which `datasets` no longer runs.",
)
