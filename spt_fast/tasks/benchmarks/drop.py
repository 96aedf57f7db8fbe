"""DROP (arXiv 1903.00161): questions that take counting and comparing what a passage says."""

from __future__ import annotations

from collections.abc import Mapping

from spt_fast.tasks.answers import drop
from spt_fast.tasks.answers.extractors import short_extractor, short_form_in_words, short_format
from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import a_kind, decoded, group_of, question_in, short_target, text
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling

_ANSWERS = ("answer", "validated_answers")
_WORDS = 10
"""Most of one number, date or span."""
_FORM = short_format(_WORDS, separator=drop.SEPARATOR.strip())


def read_row(row: Row) -> Example:
    """`passage`, `question`, `answer` and `validated_answers` (`number`, `date`, `spans`), `section_id`."""
    passage, question = text(row, "passage"), question_in(row, "question")
    given = {name: decoded(row[name], name) for name in _ANSWERS if name in row}
    if "answer" in given and not isinstance(given["answer"], Mapping):
        raise TypeError(f"column 'answer' is {a_kind(given['answer'])}, not an object")
    try:
        answers = drop.gold(given)
    except ValueError:  # a few published rows hold no answer
        answers = ()
    target = short_target(answers, "answer", _FORM)
    return Example(
        key=row_key({"passage": passage, "question": question, "answers": answers}),
        question=question,
        context=passage,
        target=target,
        answers=answers,
        group=group_of(row, "section_id") or row_key({"passage": passage}),
    )


_NOBODY = {"worker_id": "", "hit_id": ""}
_NO_DATE = {"day": "", "month": "", "year": ""}

TASK = Task(
    name="drop",
    version=2,
    summary="counting and comparing what a passage says, answered by a number, a date or a few words",
    source=HubSource(
        id="EleutherAI/drop",
        revision="619386fc7ffe6dace3cc6d3483c69b164ebf6bf3",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 77409, "test": 9536},
    ),
    read_row=read_row,
    sample={
        "section_id": "history_0",
        "query_id": "00000000-0000-4000-8000-000000000000",
        "passage": "The first bridge stood for 12 years, the second for 30. Both were built by the same two masons.",
        "question": "How many more years did the second bridge stand than the first?",
        "answer": {"number": "18", "date": _NO_DATE, "spans": [], **_NOBODY},
        "validated_answers": {
            "number": ["18"],
            "date": [_NO_DATE],
            "spans": [[]],
            "worker_id": [""],
            "hit_id": [""],
        },
    },
    template=Template(
        instruction="Answer each question from its passage with a number, a date or a few words, "
        f"at most {_WORDS} and no sentence, as in: 42\n"
        f"Put {drop.SEPARATOR.strip()!r} between several things, as in: the north; the south\n"
        "Write nothing else.",
        item="Passage: {context}\nQuestion: {question}\nAnswer:",
    ),
    format=_FORM,
    form=f"{short_form_in_words(_WORDS)}; {drop.SEPARATOR.strip()!r} between several",
    verbatim=True,
    extract=short_extractor(_FORM),
    equal=drop.accepts,
    scores={"f1": drop.f1},
    sampling=Sampling(max_tokens=128, stop=("\nPassage:", "\nQuestion:")),
    random_baseline=0.0,
    licence="CC BY-SA 4.0",
    notes="No test split is published: validation is scored, by any of the validated answers. Few-shot rows are a fixed cut of "
    "train, which tuning leaves alone. Questions about one passage share a group. A published answer has the form asked "
    "for, however long. Left out: rows without an answer. Read from EleutherAI/drop, which has numbers and dates "
    "as such; ucinlp/drop has spans only.",
)
