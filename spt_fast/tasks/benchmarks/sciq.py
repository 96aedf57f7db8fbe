"""SciQ (arXiv 1707.06209): science exam questions with four options, answered in full ("B. Paris")."""

from __future__ import annotations

from spt_fast.tasks.base import HubSource, Row, Task
from spt_fast.tasks.columns import chosen, in_fixed_order, text
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row: Row) -> Example:
    """`question`, `correct_answer`, `distractor1` to `distractor3`; the passage `support` is shown by cloze alone."""
    question, right = text(row, "question"), text(row, "correct_answer")
    options = in_fixed_order(question, [right, *(text(row, f"distractor{number}") for number in (1, 2, 3))])
    support = str(row.get("support") or "").lstrip()
    return chosen(question=question, context=support, options=options, gold=options.index(right))


TASK = Task(
    name="sciq",
    version=2,
    summary="science exam questions with four options, answered in full (B. Paris)",
    source=HubSource(
        id="allenai/sciq",
        revision="2c94ad3e1aafab77146f384e23536f97a4849815",
        splits={"tuning": "train", "few_shot": "train", "test": "test"},
        sizes={"tuning": 11679, "test": 1000},
    ),
    read_row=read_row,
    sample={
        "question": "What do we call water when it is frozen?",
        "distractor3": "steam",
        "distractor1": "sand",
        "distractor2": "rain",
        "correct_answer": "ice",
        "support": "Water is solid below zero degrees Celsius. Then it is called ice.",
    },
    template=Template(instruction=INSTRUCTION, item="Question: {question}\n{options}\nAnswer:"),
    form=FORM,
    # As lm-evaluation-harness has it, the passage shown: where there is none, it begins with a line end.
    cloze="{context}\nQuestion: {question}\nAnswer:",
    sampling=Sampling(max_tokens=128, stop=("\nQuestion:",)),
    random_baseline=0.25,
    licence="CC BY-NC 3.0",
    notes="Options stand in the order of their hashes, because the published rows do not mix them. The passage that supports "
    "an answer is shown by cloze alone, as lm-evaluation-harness has it: it mostly holds the answer's words, and some rows "
    "have none. Few-shot rows are a fixed cut of train, which tuning leaves alone.",
)
