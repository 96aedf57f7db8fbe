"""ARC (arXiv 1803.05457): school science with three to five options, answered in full ("B. Paris"); here the easy set."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task
from spt_fast.tasks.columns import chosen, labelled, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`question`, `choices` (`text` and `label`, three to five), `answerKey`: "A" to "E", in older exams "1" to "5"."""
    options, gold = labelled(row)
    return chosen(question=text(row, "question"), options=options, gold=gold)


TEMPLATE = Template(instruction=INSTRUCTION, item="Question: {question}\n{options}\nAnswer:")

TASK = Task(
    name="arc_easy",
    version=2,
    summary="school science with three to five options, answered in full (B. Paris)",
    source=HubSource(
        id="allenai/ai2_arc",
        config="ARC-Easy",
        revision="210d026faf9955653af8916fad021475a3f00453",
        splits={"tuning": "train", "few_shot": "train", "test": "test"},
        sizes={"tuning": 2251, "test": 2376},
    ),
    read_row=read_row,
    sample={
        "id": "Made_Up_1",
        "question": "Which of these is a source of light?",
        "choices": {"text": ["a mirror", "the Moon", "the Sun", "a window"], "label": ["A", "B", "C", "D"]},
        "answerKey": "C",
    },
    template=TEMPLATE,
    form=FORM,
    sampling=Sampling(max_tokens=256, stop=("\nQuestion:",)),
    random_baseline=0.25,
    licence="CC BY-SA 4.0",
    notes="Few-shot rows are a fixed cut of the published train split, which tuning leaves alone. Options are lettered anew, "
    "because some exams number theirs; a few rows have three or five, which hardly moves a guess's share.",
)
