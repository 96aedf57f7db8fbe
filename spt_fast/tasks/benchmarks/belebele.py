"""Belebele (arXiv 2308.16884), English: four options about a short passage, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import Cut, HubSource, Row, Task
from spt_fast.tasks.columns import chosen, label, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling

_OPTIONS = 4


def read_row(row: Row) -> Example:
    """`flores_passage`, `question`, `mc_answer1` to `mc_answer4`, `correct_answer_num` ("1" to "4"), `link`."""
    gold = label(row, "correct_answer_num", first=1, count=_OPTIONS)
    return chosen(
        question=text(row, "question"),
        context=text(row, "flores_passage"),
        options=[text(row, f"mc_answer{number}") for number in range(1, _OPTIONS + 1)],
        gold=gold,
        group=text(row, "link"),
    )


TASK = Task(
    name="belebele",
    version=2,
    summary="four options about an English passage, answered in full (B. Paris)",
    source=HubSource(
        id="facebook/belebele",
        config="eng_Latn",
        # Not 75b39939, which others pin: there the languages are splits, and no config is called eng_Latn.
        revision="7899cdfa4e1e0d733fd77c848e2c273cb1d32be2",
        splits={"test": "test"},
        sizes={"test": 900},
    ),
    cut=Cut(by="group"),
    read_row=read_row,
    sample={
        "link": "https://en.wikibooks.org/wiki/Bicycles/Tyres",
        "question_number": 1,
        "flores_passage": "A soft tyre makes a bicycle slow. Before a long ride, press the tyre with your thumb. "
        "If it gives way, pump it up until it does not.",
        "question": "According to the passage, what should be done before a long ride?",
        "mc_answer1": "Buy a new bicycle",
        "mc_answer2": "Press the tyre with the thumb",
        "mc_answer3": "Let some air out",
        "mc_answer4": "Ride slowly",
        "correct_answer_num": "2",
        "dialect": "eng_Latn",
        "ds": "2023-05-03",
    },
    template=Template(
        instruction=INSTRUCTION,
        item="Passage: {context}\nQuestion: {question}\n{options}\nAnswer:",
    ),
    form=FORM,
    sampling=Sampling(max_tokens=256, stop=("\nPassage:", "\nQuestion:")),
    random_baseline=0.25,
    licence="CC BY-SA 4.0",
    notes="The data set has test rows only: 640 are cut off for tuning and 32 for shots, about 230 are scored. All questions "
    "about the texts of one page stay together, so no passage that was tuned on is scored.",
)
