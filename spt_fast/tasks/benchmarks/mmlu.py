"""MMLU (arXiv 2009.03300): four options in 57 subjects, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import label, listed, options_of, question_in, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION, lettered
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling

_OPTIONS = 4


def read_row(row: Row) -> Example:
    """`question`, `choices` (four), `answer` (0 to 3), `subject`."""
    # A CSV file has no lists and no integers: there, `choices` is a JSON list and `answer` a digit.
    choices = options_of(row, "choices", _OPTIONS)
    answer = label(row, "answer", first=0, count=_OPTIONS)
    options = lettered(choices)
    return Example(
        key=row_key({"question": row["question"], "choices": listed(row, "choices"), "answer": answer}),
        question=question_in(row, "question"),
        context=text(row, "subject").replace("_", " "),
        target=options[answer],
        answers=(options[answer],),
        options=options,
        texts=tuple(choices),
        gold=answer,
        group=text(row, "subject"),
    )


TASK = Task(
    name="mmlu",
    version=2,
    summary="four options in 57 subjects, answered in full (B. Paris)",
    source=HubSource(
        id="cais/mmlu",
        config="all",
        revision="c30699e8356da336a370243923dbaf21066bb9fe",
        splits={"tuning": "dev+validation", "few_shot": "dev+validation", "test": "test"},
        sizes={"tuning": 1816, "test": 14042},
    ),
    read_row=read_row,
    sample={
        "question": "What is the capital of France?",
        "subject": "high_school_geography",
        "choices": ["Rome", "Paris", "Oslo", "Bern"],
        "answer": 1,
    },
    template=Template(
        instruction=INSTRUCTION,
        item="Question ({context}): {question}\n{options}\nAnswer:",
    ),
    form=FORM,
    cloze="Question: {question}\nAnswer:",
    sampling=Sampling(max_tokens=256, stop=("\nQuestion (",)),
    random_baseline=0.25,
    licence="MIT",
    notes="Tuned on dev and validation (1,816 rows of the same exams), of which the few-shot rows are a fixed cut. "
    "`auxiliary_train` is left out: it is other exams (ARC, RACE, OpenBookQA), whose own scores it would leak into.",
)
