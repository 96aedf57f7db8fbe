"""NQ-open (arXiv 1906.00300): what people asked a search engine, answered from memory by a name or a few words."""

from __future__ import annotations

from spt_fast.tasks.answers.extractors import SHORT_FORMAT, SHORT_WORDS, short_answer, short_form_in_words
from spt_fast.tasks.answers.text import f1, normalise_squad
from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import answers_in, listed, question_in, short_target
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`question` (small letters, no question mark), `answer` (a list: the first is the target, all are right)."""
    question = question_in(row, "question").removesuffix("?")
    answers = answers_in(listed(row, "answer"), "answer")
    target = short_target(answers, "answer", SHORT_FORMAT)
    return Example(
        key=row_key({"question": question, "answers": answers}),
        question=f"{question}?",
        target=target,
        answers=answers,
    )


TASK = Task(
    name="nq_open",
    version=2,
    summary="what people asked a search engine, answered from memory by a name or a few words",
    source=HubSource(
        id="google-research-datasets/nq_open",
        revision="5dd9790a83002ad084ddeb7c420dc716852c6f28",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 87925, "test": 3610},
    ),
    read_row=read_row,
    sample={"question": "what is the capital of france", "answer": ["Paris", "Paris, France"]},
    template=Template(
        instruction=f"Answer each question with a name, a number or a few words, at most {SHORT_WORDS} and no sentence, "
        "as in: Paris\nWrite nothing else.",
        item="Question: {question}\nAnswer:",
    ),
    format=SHORT_FORMAT,
    form=short_form_in_words(),
    verbatim=True,
    extract=short_answer,
    normalise=normalise_squad,
    scores={"f1": f1},
    sampling=Sampling(max_tokens=64, stop=("\nQuestion:",)),
    random_baseline=0.0,
    licence="CC BY-SA 3.0",
    notes="No test split is published: validation is scored, by any of the answers. Few-shot rows are a fixed cut of train, "
    "which tuning leaves alone. A published answer has the form asked for, however long.",
)
