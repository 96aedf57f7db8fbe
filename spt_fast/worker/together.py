"""Cells that share questions: asked in turns, block by block, until each has been asked enough (`stop` of a grid).

A block is a number of rounds (`scoring.sequential`): of each task its share of its rows. When all cells have their answers to a
block, the questions are looked at. A cell all of whose questions are answered then is stopped; the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from spt_fast.errors import SptError
from spt_fast.scoring.stopping import Asked, Question, Scores, Stopping


class Member(Protocol):
    """What of a cell's plan is wanted here."""

    @property
    def key(self) -> str:
        """Of the cell."""

    @property
    def whole_blocks(self) -> int:
        """Blocks, from the first one on, that are answered."""

    def scores(self, metric: str, blocks: int) -> Scores:
        """What the rows of so many blocks count in a metric.

        Raises:
            SptError: they cannot be scored.
        """

    def stop(self, blocks: int, why: str, looks: int) -> None:
        """The cell was asked enough: its numbers are those of so many blocks."""


@dataclass(eq=False)
class Together:
    """Some cells, and what they share."""

    stopping: Mapping[str, Stopping]
    """By key."""
    tasks: Mapping[str, Asked]
    """Task -> its rows."""
    members: dict[str, Member] = field(default_factory=dict)
    """Those that are being asked, or were stopped; by key."""
    looks: int = 0
    _open: set[str] = field(default_factory=set)
    """Of these the ones that are still asked."""
    _expected: set[str] = field(default_factory=set)
    """Cells that are still to be begun."""
    _looked: int = 0
    """Blocks, at the last look."""
    _answers: dict[Question, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blocks = _blocks(self.tasks, next(iter(self.stopping.values())))
        self._expected = set(self.stopping)
        self.questions = list(dict.fromkeys(each for one in self.stopping.values() for each in one.questions))

    def join(self, member: Member) -> None:
        """A cell is begun."""
        self.members[member.key] = member
        self._open.add(member.key)
        self._expected.discard(member.key)

    def leave(self, key: str) -> None:
        """A cell is not asked here, or has ended otherwise."""
        self._open.discard(key)
        self._expected.discard(key)

    def look(self) -> list[Member]:
        """Look, where all have been asked another block; those that were stopped."""
        asked = [self.members[key] for key in self._open]
        blocks = min((member.whole_blocks for member in asked), default=0)
        if blocks <= self._looked or self._expected or blocks == len(self.blocks):
            return []  # at the end nobody looks: all is asked
        self._looked, self.looks = blocks, self.looks + 1
        for question in self.questions:
            if not self._answers.get(question):
                self._answers[question] = self._answer(question, blocks)
        stopped = [member for member in asked if self._is_known(member)]
        for member in stopped:
            why = "; ".join(self._answers[each] for each in self.stopping[member.key].questions)
            member.stop(blocks, why, self.looks)
            self.leave(member.key)
        return stopped

    def _is_known(self, member: Member) -> bool:
        """Whether a cell need not be asked what is left."""
        return all(self._answers[each] for each in self.stopping[member.key].questions)

    def _answer(self, question: Question, blocks: int) -> str:
        def rows(key: str) -> Scores | None:
            return self.members[key].scores(question.metric, blocks) if key in self.members else None

        try:
            return question.answer(rows, self.tasks)
        except SptError:
            return ""  # what cannot be scored is told where the cell ends


def _blocks(tasks: Mapping[str, Asked], stopping: Stopping) -> list[Mapping[str, Sequence[int]]]:
    """Of each block, and each task, the numbers of its rows."""
    rounds = min(len(asked.ends) - 1 for asked in tasks.values())
    size = sum(len(asked.examples) for asked in tasks.values()) / rounds
    ends = [0, min(rounds, max(1, round(stopping.least / size)))]
    while ends[-1] < rounds:
        ends.append(min(rounds, ends[-1] + max(1, round(stopping.block / size))))
    return [
        {task: asked.order[_rows(asked, start, rounds) : _rows(asked, end, rounds)] for task, asked in tasks.items()}
        for start, end in pairwise(ends)
    ]


def _rows(asked: Asked, round_: int, rounds: int) -> int:
    """Rows of a task before a round."""
    return asked.ends[round_ * (len(asked.ends) - 1) // rounds]
