"""What closed-ended tasks share: options with letters, one instruction, and the three forms in which an answer is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from spt_fast.tasks.base import Row, Task
from spt_fast.tasks.forms import LETTERS, bare_texts
from spt_fast.types import Example

Form: TypeAlias = Literal["letter", "text"]
"""Other forms of the answer than "B. Paris", for comparison with other tools: "B", or "Paris"."""

FORM = "one line: the letter of an option, a full stop and a text: B. Paris"
"""The form that `INSTRUCTION` asks for, in words."""
FORMS: Mapping[Form, str] = {
    "letter": "the letter of one of the options: B",
    "text": "the full text of one of the options: Paris",
}
INSTRUCTION = "Answer each question with the letter and the full text of the right option, as in: B. Paris\nWrite nothing else."
INSTRUCTIONS: Mapping[Form, str] = {
    "letter": "Answer each question with the letter of the right option, as in: B\nWrite nothing else.",
    "text": "Answer each question with the full text of the right option, as in: Paris\nWrite nothing else.",
}


def lettered(texts: Sequence[str]) -> tuple[str, ...]:
    """ "A. Rome", "B. Paris", ...; white space inside an option becomes one blank.

    Raises:
        ValueError: fewer than two options, or more than there are letters.
    """
    if not 2 <= len(texts) <= len(LETTERS):
        raise ValueError(f"{len(texts)} options; there must be 2 to {len(LETTERS)}")
    clean = (" ".join(text.split()) for text in texts)
    return tuple(f"{letter}. {text}".rstrip() for letter, text in zip(LETTERS, clean, strict=False))


def in_form(task: Task, form: Form) -> Task:
    """The same task with another form of the answer: `mmlu:letter` wants "B" and `mmlu:text` wants "Paris".

    The prompt lists the options as before; the instruction, what may be written and what is scored change.
    """

    def read_row(row: Row) -> Example | None:
        example = task.read_row(row)
        return None if example is None else _in_form(example, form)

    return replace(
        task,
        name=f"{task.name}:{form}",
        summary=f"{task.summary.rpartition(',')[0] or task.summary}, answered by {form}",
        read_row=read_row,
        form=FORMS[form],
        template=replace(task.template, instruction=INSTRUCTIONS[form]),
    )


def has_forms(task: Task) -> bool:
    """Whether `in_form` applies: a task whose options have letters."""
    return task.closed_ended and task.template.instruction == INSTRUCTION


def _in_form(example: Example, form: Form) -> Example:
    part: Callable[[str], str] = (lambda option: option[0]) if form == "letter" else (lambda option: option[3:])
    options = tuple(part(option) for option in example.options)
    target = part(example.target)
    texts = example.texts or bare_texts(example.options)
    return replace(example, listing=example.options, options=options, texts=texts, target=target, answers=(target,))
