"""WinoGrande (arXiv 1907.10641): which of two names a gap stands for, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task
from spt_fast.tasks.columns import chosen, label, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`sentence` with the gap `_`, `option1`, `option2`, `answer` ("1" or "2", empty in the test split)."""
    sentence = text(row, "sentence")
    if "_" not in sentence:
        raise ValueError("column 'sentence' has no gap (_)")
    gold = label(row, "answer", first=1, count=2)
    options = [text(row, "option1"), text(row, "option2")]
    return chosen(question=sentence, options=options, gold=gold)


TASK = Task(
    name="winogrande",
    version=2,
    summary="which of two names a gap stands for, answered in full (B. Paris)",
    source=HubSource(
        id="allenai/winogrande",
        config="winogrande_xl",
        revision="01e74176c63542e6b0bcb004dcdea22d94fb67b5",
        splits={"tuning": "train", "few_shot": "train", "test": "validation"},
        sizes={"tuning": 40398, "test": 1267},
    ),
    read_row=read_row,
    sample={
        "sentence": "The vase did not fit into the crate because the _ was too small.",
        "option1": "vase",
        "option2": "crate",
        "answer": "2",
    },
    template=Template(
        instruction=INSTRUCTION,
        item="Sentence: {question}\nQuestion: What does _ stand for?\n{options}\nAnswer:",
    ),
    form=FORM,
    sampling=Sampling(max_tokens=64, stop=("\nSentence:", "\nQuestion:")),
    random_baseline=0.5,
    licence="CC BY",
    notes="The published test split has no answers: validation is scored. Few-shot rows are a fixed cut of train, which tuning "
    "leaves alone. Most tools compare the likelihood of what follows the gap under either name; here the name is the answer, "
    "so likelihoods are not those of others.",
)
