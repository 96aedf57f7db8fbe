"""How many positions the requests of cells need, which an engine is to know before it starts.

A model of 131,072 positions asks for memory for a sequence of that length, although the longest prompt has 700. What is needed
is seen from the longest rows, rendered as they will be asked; should another one need more after all, an engine with more is
started for its cell.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from contextlib import suppress

from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan.cell import Cell
from spt_fast.tasks.rows import Rows
from spt_fast.types import Example
from spt_fast.worker.questions import Question, Questions, asking, choosing_rows

LOOKED_AT = 8
"""So many of a cell's rows are rendered: those with the longest text, of which one has the most tokens, or nearly."""


class Positions:
    """What cells need, each row of a task looked at once for all cells that ask it alike."""

    def __init__(self, tokenizer: Tokenizer, *, chat: bool) -> None:
        self._tokenizer, self._chat = tokenizer, chat
        self._seen: dict[Hashable, int] = {}
        self._found: dict[str, int] = {}

    def of(self, cell: Cell, rows: Rows) -> int:
        """Positions of a cell's longest request, what is written behind it included; 0 where its prompts cannot be made."""
        shots = cell.protocol.shots
        alike = (cell.task.name, shots, cell.seed if shots else None)
        if alike not in self._seen:
            self._seen[alike] = 0
            with suppress(Exception):  # whatever a task of the user's own raises is told when the cell is asked
                self._seen[alike] = self._look(cell, rows)
        seen = self._seen[alike]
        return max(self._found.get(cell.key, 0), seen + cell.protocol.soft_length if seen else 0)

    def found(self, cell: Cell, positions: int) -> None:
        """A cell needs more than its longest rows let expect."""
        self._found[cell.key] = positions

    def _look(self, cell: Cell, rows: Rows) -> int:
        ask = asking(cell, rows, self._tokenizer, chat=self._chat)
        task = cell.task.task
        examples = [*rows.test, *(choosing_rows(cell, rows)[0] if task.closed_ended else ())]
        longest = sorted(examples, key=_size, reverse=True)[:LOOKED_AT]
        return most_positions(map(ask, longest), task.sampling.max_tokens)


def positions_of(asked: Questions, cell: Cell) -> int:
    """Positions of the longest request among all that a cell asks."""
    tokens = most_positions((*asked.test, *asked.choosing), cell.task.task.sampling.max_tokens)
    bare = (len(prompt) + len(text) + 1 for prompt, text in asked.bare)
    return max([tokens, *bare]) + cell.protocol.soft_length


def most_positions(asked: Iterable[Question], max_tokens: int) -> int:
    """Positions of the longest request of some questions, without a soft prompt.

    An option needs one more than it has: vLLM reads no prompt without writing behind it.
    """
    return max((max(_lengths(question, max_tokens)) for question in asked), default=0)


def _lengths(question: Question, max_tokens: int) -> list[int]:
    pairs = (*question.options, *question.cloze, *question.beside)
    return [len(question.token_ids) + max_tokens, *(len(prompt) + len(option) + 1 for prompt, option in pairs)]


def _size(example: Example) -> int:
    """Bytes of what differs from row to row."""
    return sum(len(text.encode()) for text in (example.context, example.question, *example.options, *example.listing))
