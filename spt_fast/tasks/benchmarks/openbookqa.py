"""OpenBookQA (arXiv 1809.02789): elementary science with four options, without the book, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task
from spt_fast.tasks.columns import chosen, labelled, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`question_stem`, `choices` (`text` and `label`, four), `answerKey`."""
    options, gold = labelled(row)
    return chosen(question=text(row, "question_stem"), options=options, gold=gold)


TASK = Task(
    name="openbookqa",
    version=2,
    summary="elementary science with four options, answered in full (B. Paris)",
    source=HubSource(
        id="allenai/openbookqa",
        config="main",
        revision="388097ea7776314e93a529163e0fea805b8a6454",
        splits={"tuning": "train", "few_shot": "train", "test": "test"},
        sizes={"tuning": 4957, "test": 500},
    ),
    read_row=read_row,
    sample={
        "id": "0-000",
        "question_stem": "A plant on a window sill bends towards",
        "choices": {"text": ["the light", "the music", "the cold", "the floor"], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    },
    template=Template(instruction=INSTRUCTION, item="Question: {question}\n{options}\nAnswer:"),
    form=FORM,
    cloze="{question}",
    sampling=Sampling(max_tokens=128, stop=("\nQuestion:",)),
    random_baseline=0.25,
    licence="Apache-2.0",
    notes="The fact of the book that belongs to a question is not shown. Only the published test split is scored. Few-shot "
    "rows are a fixed cut of train, which tuning leaves alone.",
)
