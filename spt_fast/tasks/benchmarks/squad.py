"""SQuAD 1.1 (arXiv 1606.05250): questions about a passage, answered by words of the passage."""

from __future__ import annotations

from spt_fast.tasks.answers.extractors import short_extractor, short_form_in_words, short_format
from spt_fast.tasks.answers.text import f1, normalise_squad
from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import answers_in, listed_part, question_in, short_target, text
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling

_WORDS = 15
"""Most of a short answer: 99 in 100 published ones have no more."""
_FORM = short_format(_WORDS)


def read_row(row: Row) -> Example:
    """`title`, `context`, `question`, `answers` (`text`: the first is the target, all are right).

    No questions of the task: those without an answer, which SQuAD 2.0 has.
    """
    context, question, title = text(row, "context"), question_in(row, "question"), text(row, "title")
    answers = answers_in(listed_part(row, "answers", "text"), "answers.text")
    target = short_target(answers, "answers.text", _FORM, may_have_none=True)
    return Example(
        key=row_key({"context": context, "question": question, "answers": answers}),
        question=question,
        context=context,
        target=target,
        answers=answers,
        group=title,
    )


TASK = Task(
    name="squad",
    version=2,
    summary="questions about a passage, answered by words of the passage",
    source=HubSource(
        id="rajpurkar/squad",
        revision="7b6d24c440a36b6815f21b70d25016731768db1f",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 87599, "test": 10570},
    ),
    read_row=read_row,
    sample={
        "id": "000000000000000000000000",
        "title": "Lighthouse",
        "context": "The lighthouse on the western cape was built in 1871. It is painted in red and white rings.",
        "question": "When was the lighthouse built?",
        "answers": {"text": ["1871"], "answer_start": [48]},
    },
    template=Template(
        instruction=f"Answer each question with words copied from its passage, at most {_WORDS} and no sentence, "
        "as in: in the old town\nWrite nothing else.",
        item="Passage: {context}\nQuestion: {question}\nAnswer:",
    ),
    format=_FORM,
    form=short_form_in_words(_WORDS),
    verbatim=True,
    extract=short_extractor(_FORM),
    normalise=normalise_squad,
    scores={"f1": f1},
    sampling=Sampling(max_tokens=128, stop=("\nPassage:", "\nQuestion:")),
    random_baseline=0.0,
    licence="CC BY-SA 4.0",
    notes="The authors keep the test rows: validation is scored, by any of the answers. Few-shot rows are a fixed cut of "
    "train, which tuning leaves alone. Questions about one article share a group. A published answer has the form asked "
    "for, however long. Left out: rows without an answer (SQuAD 2.0). The paper's choice between 1.1 and 2.0 is not known.",
)
