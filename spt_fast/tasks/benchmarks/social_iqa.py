"""Social IQa (arXiv 1904.09728): people and their reasons, with three options, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import chosen, label, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`context`, `question`, `answerA`, `answerB`, `answerC`, `label` ("1" to "3")."""
    situation = text(row, "context")
    gold = label(row, "label", first=1, count=3)
    return chosen(
        # One text: what makes two rows the same question is the situation as much as what is asked about it.
        question=f"{situation} {text(row, 'question')}".strip(),
        options=[text(row, "answerA"), text(row, "answerB"), text(row, "answerC")],
        gold=gold,
        group=row_key({"context": situation}),
    )


TASK = Task(
    name="social_iqa",
    version=2,
    summary="people and their reasons, with three options, answered in full (B. Paris)",
    source=HubSource(
        id="allenai/social_i_qa",
        # The Hub's own Parquet copy (refs/convert/parquet) of 8835ceb9, which is a script.
        revision="537a2ec8ec565adc0b70b70752893e59e024df26",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 33410, "test": 1954},
    ),
    read_row=read_row,
    sample={
        "context": "Kim lent Robin an umbrella before the rain began.",
        "question": "How would Robin feel afterwards?",
        "answerA": "hungry",
        "answerB": "robbed",
        "answerC": "grateful",
        "label": "3",
    },
    template=Template(instruction=INSTRUCTION, item="Question: {question}\n{options}\nAnswer:"),
    form=FORM,
    cloze="Q: {question}\nA:",
    sampling=Sampling(max_tokens=128, stop=("\nQuestion:",)),
    random_baseline=1 / 3,
    licence="CC BY 4.0",
    notes="No test split is published: validation is scored. Few-shot rows are a fixed cut of train, which tuning leaves "
    "alone. The data set is a script, which `datasets` no longer runs: the Hub's Parquet copy is read. Questions about one "
    "situation share a group.",
)
