"""CommonsenseQA (arXiv 1811.00937): everyday knowledge with five options, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task
from spt_fast.tasks.columns import chosen, group_of, labelled, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`question`, `choices` (`text` and `label`, five), `answerKey` (empty in the test split), `question_concept`."""
    options, gold = labelled(row)
    return chosen(question=text(row, "question"), options=options, gold=gold, group=group_of(row, "question_concept"))


TASK = Task(
    name="commonsense_qa",
    version=2,
    summary="everyday knowledge with five options, answered in full (B. Paris)",
    source=HubSource(
        id="tau/commonsense_qa",
        revision="94630fe30dad47192a8546eb75f094926d47e155",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 9741, "test": 1221},
    ),
    read_row=read_row,
    sample={
        "id": "00000000000000000000000000000000",
        "question": "Where would you look for a spare blanket?",
        "question_concept": "blanket",
        "choices": {"label": ["A", "B", "C", "D", "E"], "text": ["oven", "cupboard", "pond", "letter box", "piano"]},
        "answerKey": "B",
    },
    template=Template(instruction=INSTRUCTION, item="Question: {question}\n{options}\nAnswer:"),
    form=FORM,
    sampling=Sampling(max_tokens=64, stop=("\nQuestion:",)),
    random_baseline=0.2,
    licence="MIT",
    notes="The published test split has no answers: validation is scored. Few-shot rows are a fixed cut of train, which tuning "
    "leaves alone. Questions about one concept share a group.",
)
