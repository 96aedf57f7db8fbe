"""BoolQ (arXiv 1905.10044): yes-no questions about a passage."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task, row_key
from spt_fast.tasks.columns import label, question_in, text
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling

_NO_YES = ("no", "yes")


def read_row(row: Row) -> Example:
    """`passage`, `question` (small letters, no question mark), `label`: 0 is no and 1 is yes (-1 in the test split)."""
    passage, question = text(row, "passage"), question_in(row, "question").removesuffix("?")
    gold = label(row, "label", first=0, count=2)
    return Example(
        key=row_key({"passage": passage, "question": question, "label": gold}),
        question=f"{question}?",
        context=passage,
        target=_NO_YES[gold],
        answers=(_NO_YES[gold],),
        options=_NO_YES,
        gold=gold,
        group=row_key({"passage": passage}),
    )


TASK = Task(
    name="boolq",
    version=2,
    summary="yes-no questions about a passage",
    source=HubSource(
        id="aps/super_glue",
        config="boolq",
        revision="3de24cf8022e94f4ee4b9d55a6f539891524d646",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 9427, "test": 3270},
    ),
    read_row=read_row,
    sample={
        "question": "is the old bridge open at night",
        "passage": "Old Bridge -- The old bridge joins both halves of the town. Its gates are shut at ten in the evening "
        "and opened again at six in the morning.",
        "idx": 0,
        "label": 0,
    },
    template=Template(
        instruction="Answer each question about its passage with one word in small letters: yes or no.\nWrite nothing else.",
        item="Passage: {context}\nQuestion: {question}\nAnswer:",
    ),
    form="one word in small letters: yes or no",
    cloze="{context}\nQuestion: {question}\nAnswer:",
    sampling=Sampling(max_tokens=32, stop=("\nPassage:", "\nQuestion:")),
    random_baseline=0.5,
    licence="CC BY-SA 3.0",
    notes="Read from SuperGLUE, as most tools do; its test split has no answers, so validation is scored. Few-shot rows are a "
    "fixed cut of train, which tuning leaves alone. Questions about one passage share a group. Always saying yes is right in "
    "62 % of the rows.",
)
