"""GSM8K (arXiv 2110.14168): word problems in grade-school arithmetic, worked out and ended by "#### 18"."""

from __future__ import annotations

import re

from spt_fast.tasks.answers.extractors import (
    HASH_FORM,
    HASH_FORMAT,
    NUMBER_RULES,
    first_found,
)
from spt_fast.tasks.answers.numbers import canonical
from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import text
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Extraction, Sampling

_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


def read_row(row: Row) -> Example:
    """`question`, and `answer` that ends in "#### 18"; the calculator marks (<<3*6=18>>) are left out."""
    working, hashes, number = text(row, "answer").rpartition("####")
    if not hashes:
        raise ValueError("column 'answer' has no '####' in front of the number")
    lines = [line.rstrip() for line in _CALCULATOR_MARK.sub("", working).strip().split("\n")]
    return Example(
        key=row_key({"question": row["question"], "answer": row["answer"]}),
        question=_CALCULATOR_MARK.sub("", text(row, "question")).strip(),
        target="\n".join([*lines, f"#### {canonical(number)}"]),
        answers=(canonical(number),),
    )


def extract(text: str) -> Extraction | None:
    """The number that the completion gives as its answer."""
    return first_found(text, *NUMBER_RULES, whole=HASH_FORMAT)


TASK = Task(
    name="gsm8k",
    version=2,
    summary="grade-school word problems; a working that ends in #### and the number",
    source=HubSource(
        id="openai/gsm8k",
        config="main",
        revision="740312add88f781978c0658806c59bc2815b9866",
        splits={"tuning": "train", "few_shot": "train", "test": "test"},
        sizes={"tuning": 7473, "test": 1319},
    ),
    read_row=read_row,
    sample={
        "question": "A box holds 6 eggs. How many eggs do 3 boxes hold?",
        "answer": "Each of the 3 boxes holds 6 eggs.\n3 boxes hold 3*6=<<3*6=18>>18 eggs.\n#### 18",
    },
    template=Template(
        instruction="Solve each problem step by step. End with a line that has #### and the answer as a plain number, "
        "as in: #### 42",
        item="Question: {question}\nAnswer:",
    ),
    format=HASH_FORMAT,
    form=HASH_FORM,
    extract=extract,
    normalise=canonical,
    sampling=Sampling(max_tokens=512, stop=("\nQuestion:",)),
    random_baseline=0.0,
    licence="MIT",
    notes="Few-shot rows are a fixed cut of the published train split, which tuning leaves alone.",
)
