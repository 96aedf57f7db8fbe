"""HellaSwag (arXiv 1905.07830): which of four endings a text has, answered in full ("B. Paris")."""

from __future__ import annotations

import re

from spt_fast.tasks.base import HubSource, Row, Task
from spt_fast.tasks.columns import chosen, group_of, label, options_of, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling

_OPTIONS = 4
_MARK = re.compile(r"\[.*?\]")


def clean(raw: str) -> str:
    """Without the marks of WikiHow's pages ([header], [title], [step], ...), as lm-evaluation-harness has it."""
    return " ".join(_MARK.sub("", raw.strip().replace(" [title]", ". ")).split())


def read_row(row: Row) -> Example:
    """`activity_label`, `ctx_a`, `ctx_b`, `endings` (four), `label` ("0" to "3", empty in the test split), `source_id`."""
    endings = options_of(row, "endings", _OPTIONS)
    gold = label(row, "label", first=0, count=_OPTIONS)
    return chosen(
        question=clean(f"{text(row, 'activity_label')}: {text(row, 'ctx_a')} {text(row, 'ctx_b').capitalize()}"),
        options=[clean(ending) for ending in endings],
        gold=gold,
        group=group_of(row, "source_id"),
    )


TASK = Task(
    name="hellaswag",
    version=2,
    summary="which of four endings a text has, answered in full (B. Paris)",
    source=HubSource(
        id="Rowan/hellaswag",
        revision="218ec52e09a7e7462a5400043bb9a69a41d06b76",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 39905, "test": 10042},
    ),
    read_row=read_row,
    sample={
        "ind": 7,
        "activity_label": "Baking bread",
        "ctx_a": "[header] How to bake bread [title] Make the dough. [step] Mix flour, water, salt and yeast.",
        "ctx_b": "then the dough",
        "ctx": "[header] How to bake bread [title] Make the dough. [step] Mix flour, water, salt and yeast. then the dough",
        "endings": [
            "is painted green and hung on the wall.",
            "must rest for an hour in a warm place.",
            "is read aloud to the whole class.",
            "runs out of the door and down the street.",
        ],
        "source_id": "wikihow~00000",
        "split": "train",
        "split_type": "indomain",
        "label": "1",
    },
    template=Template(
        instruction=INSTRUCTION,
        item="Text: {question}\nQuestion: How does the text go on?\n{options}\nAnswer:",
    ),
    form=FORM,
    cloze="{question}",
    sampling=Sampling(max_tokens=256, stop=("\nText:", "\nQuestion:")),
    random_baseline=0.25,
    licence="MIT",
    notes="The published test split has no answers: validation is scored. Few-shot rows are a fixed cut of train, which tuning "
    "leaves alone. The marks of WikiHow's pages are taken out, as lm-evaluation-harness does. Rows from one video or article "
    "share a group.",
)
