"""Example -> prompt text.

The prompt says in words what form the answer must have, and it is the same text under every protocol: few-shot puts worked
examples between the instruction and the question, the soft prompt adds vectors, nothing else differs.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from spt_fast.errors import ConfigError
from spt_fast.types import Example

FIELDS = ("context", "options", "question")
CUE = "Answer:"
"""What a prompt ends with where nothing else is known."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """The text of a task.

    A prompt is `instruction`, the shots, and the item, `separator` between them; a shot is an item, one space, and its
    target. The target follows the prompt after one space too, so neither `item` nor a target has outer white space at
    that seam.
    """

    instruction: str
    """Says in words what form the answer must have. Stated once, first. Taken as it is: braces mean nothing in it."""
    item: str
    """`{question}`, `{context}` and `{options}` (one a line: `Example.listing`, or else `options`) stand for the example; ends
    with the cue: "...\\nAnswer:"."""
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(self.item) if name is not None}
        except ValueError as e:
            raise ConfigError(f"template item {self.item!r}: {e}; write {{{{ and }}}} for literal braces") from e
        unknown = sorted(names - set(FIELDS))
        if unknown:
            raise ConfigError(f"template item: unknown field {{{unknown[0]}}}; choose from {', '.join(FIELDS)}")
        if self.item != self.item.rstrip():
            raise ConfigError("template item: ends in white space; the space before the answer belongs to the target")

    def render(self, example: Example) -> str:
        """The item of one example, up to and including the cue."""
        options = "\n".join(example.listing or example.options)
        return self.item.format(question=example.question, context=example.context, options=options)

    def prompt(self, example: Example, shots: Sequence[Example] = ()) -> str:
        """What the model reads, as text."""
        worked = [f"{self.render(shot)} {shot.target}" for shot in shots]
        parts = [self.instruction, *worked, self.render(example)]
        return self.separator.join(part for part in parts if part)

    @property
    def cue(self) -> str:
        """The last line of the item where that is the same for all rows ("Answer:"), or else `CUE`."""
        last = self.item.rpartition("\n")[2]
        return last if last and not _fields(last) else CUE


def cloze_template(item: str) -> Template:
    """A prompt that says no more than the question: no instruction, no options.

    Raises:
        ConfigError: it shows the options, or is no item.
    """
    if "options" in _fields(item):
        raise ConfigError(
            "cloze: has {options} in it; it is the question without options, as in Question: {question}\\nAnswer:"
        )
    try:
        return Template(instruction="", item=item)
    except ConfigError as e:
        raise ConfigError(str(e).replace("template item", "cloze", 1)) from None


def cloze_of(item: str) -> Template | None:
    """The same of an item that shows the options: without the lines that do. None where the question is in such a line."""
    kept = "\n".join(line for line in item.split("\n") if "options" not in _fields(line))
    return cloze_template(kept) if "question" in _fields(kept) else None


def _fields(item: str) -> set[str]:
    try:
        return {name for _, name, _, _ in string.Formatter().parse(item) if name is not None}
    except ValueError:  # `Template` says so
        return set()
