"""The seam to a task that another library defines: prompts and scores are that library's own, all else is as for our tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from spt_fast.types import Example, Metric

Continued: TypeAlias = tuple[str, str]
"""What a model reads, and what may stand behind it, white space in between included."""


@dataclass(frozen=True, kw_only=True)
class Chat:
    """How a model's chat template writes."""

    write: Callable[..., str]
    """Turns [{"role": ..., "content": ...}], and `add_generation_prompt` -> the text that the template makes of them."""
    behind: Callable[[str, str], str]
    """Such a text and an answer -> the answer with the white space that belongs in between."""


class Writer(Protocol):
    """What of a tokenizer writes chats."""

    def write_turns(self, turns: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str: ...

    def continuation(self, prompt: str, text: str, *, chat: bool) -> str: ...


def chat_of(tokenizer: Writer) -> Chat:
    """How the chat template of a tokenizer writes."""
    return Chat(write=tokenizer.write_turns, behind=lambda prompt, text: tokenizer.continuation(prompt, text, chat=True))


class Rows(Protocol):
    """What of a task's rows (`tasks.rows.Rows`) a library is shown."""

    @property
    def few_shot(self) -> Sequence[Example]: ...

    @property
    def test(self) -> Sequence[Example]: ...

    @property
    def first(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is asked of one row."""

    text: str
    """What the model reads before it writes."""
    options: tuple[Continued, ...] = ()
    """Closed-ended tasks: each option as its likelihood is asked, `K` of them."""
    beside: tuple[Continued, ...] = ()
    """Further likelihoods that the library's scores rest on."""
    answers: tuple[Continued, ...] = ()
    """Open-ended tasks: the gold answers as they are written behind `text`; one may stand in `beside` too."""


class Prompts(ABC):
    """What a library asks of the rows of one cell."""

    @abstractmethod
    def of(self, example: Example) -> Prompt:
        """What is asked of a test row.

        Raises:
            DataError: there are fewer shots than are wanted, or the row cannot be asked.
        """

    @abstractmethod
    def lesson(self, example: Example) -> Continued:
        """What is taught by a tuning row: what to read, and what to write behind it.

        Raises:
            DataError: it teaches nothing.
        """


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a model answered to the prompt of one row."""

    example: Example
    completion: str
    options: tuple[tuple[float, bool], ...] = ()
    """Of each option its log-likelihood, and whether a greedy completion begins with it, `K` of them."""
    beside: tuple[tuple[float, bool], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a library says of one answer."""

    scores: Mapping[str, float] = field(default_factory=dict)
    """Its metrics of this row, as far as they are numbers from 0 to 1."""
    extracted: str | None = None
    """Open-ended tasks: what it found in the completion; None: nothing."""
    rule: str | None = None
    """What found it."""
    knows: bool = False
    """Open-ended tasks: whether what was found is right by any of its rules."""
    correct: bool = False
    """The same by the first of its rules."""


class Library(ABC):
    """What the library does for one of its tasks."""

    @abstractmethod
    def prompts(self, rows: Rows, *, shots: int = 0, seed: int | None = None, chat: Chat | None = None) -> Prompts:
        """What is asked of these rows.

        Args:
            rows: of the task.
            shots: worked examples in front of each question.
            seed: of their choice.
            chat: writes turns as the model's chat template has them; None: plain text.
        """

    @abstractmethod
    def in_form(self, text: str, example: Example) -> bool:
        """Whether a completion that was not cut off has the form that the task asks for, right or wrong."""

    @abstractmethod
    def judge(self, rows: Rows, answers: Sequence[Answered]) -> tuple[list[Verdict], tuple[Metric, ...]]:
        """A verdict on each answer, and the library's own metrics over all of them."""


@dataclass(frozen=True, kw_only=True)
class LibrarySource:
    """Rows that a library prepares as a whole, from its data set or from local files in the columns of that."""

    opener: Opener

    def __str__(self) -> str:
        return str(self.opener)


class Opener(ABC):
    """Where a library's rows are."""

    @abstractmethod
    def locate(self, data_files: str | Mapping[str, str]) -> dict[str, tuple[Path, ...]]:
        """The local files of each of the data set's splits.

        Raises:
            ConfigError: a file that is not there, a split nobody knows, no rows to score.
        """

    @abstractmethod
    def content(self) -> str:
        """What the rows are where they are not local files: the commit of the data set, or empty where it is not known."""

    @abstractmethod
    def open(self, files: Mapping[str, tuple[Path, ...]] | None, *, learns: bool) -> Opened:
        """Prepare the rows.

        Args:
            files: of `locate`; None: those of the data set itself.
            learns: whether the grid learns from rows: else all that the library would draw shots from are for shots.

        Raises:
            DataError: they cannot be read or prepared.
        """


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Prepared rows."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    """Split (tuning, few_shot, test) -> what `Task.read_row` reads; a split without rows of its own is not there."""
    first: Any = None
    """The first test row as published, by which a library may decide how all of them are asked."""
