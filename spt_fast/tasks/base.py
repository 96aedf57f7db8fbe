"""Task: a benchmark as spt-fast sees it: where its rows are, what is asked, what form the answer has, what is right."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from spt_fast.templates import Template
from spt_fast.types import Example, Extraction, Sampling

Row: TypeAlias = Mapping[str, Any]
Split: TypeAlias = Literal["tuning", "few_shot", "test"]
SPLITS: tuple[Split, ...] = ("tuning", "few_shot", "test")


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Rows of a data set on the Hub, or of local files in the same columns."""

    id: str
    revision: str
    """Full commit."""
    config: str | None = None
    splits: Mapping[Split, str]
    """Ours -> the data set's name of it. `few_shot` may be the same as `tuning`: shots are then drawn from its end,
    and tuning leaves those rows alone."""


@dataclass(frozen=True, kw_only=True)
class GeneratedSource:
    """Rows that the package makes itself: the zoo's worlds."""

    rows: Callable[[Split], Sequence[Row]]
    content: str
    """What the rows depend on beside the code (the world's seed); part of the cell's key."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark. Raise `version` with every change that can move a score: it is part of the cell's key."""

    name: str
    version: int
    summary: str
    source: HubSource | GeneratedSource
    read_row: Callable[[Row], Example]
    """Raises KeyError, TypeError or ValueError on a row that is not what the task expects."""
    template: Template
    format: str | None = None
    """Open-ended tasks: one regular expression; a completion stripped of outer white space follows the format when the
    whole of it matches. None: closed-ended, and the format is to equal one of the rendered options."""
    extract: Callable[[str], Extraction | None] | None = None
    """Open-ended tasks: completion -> value, rule and span, or None. Never guesses."""
    normalise: Callable[[str], str] = str.strip
    """Applied to the extracted value and to the gold answers before they are compared."""
    sampling: Sampling
    random_baseline: float
    """Knowledge of a model that guesses."""
    licence: str
    notes: str = field(default="", compare=False)

    @property
    def closed_ended(self) -> bool:
        """Whether the answer is one of options that are given."""
        return self.format is None

    def follows_format(self, text: str, example: Example) -> bool:
        """Whether `text`, stripped of outer white space, has the form that the task asks for, right or wrong."""
        if self.format is None:
            return text.strip() in example.options
        return re.fullmatch(self.format, text.strip()) is not None

    def accepts(self, value: str, example: Example) -> bool:
        """Whether an extracted value is right."""
        return self.normalise(value) in {self.normalise(answer) for answer in example.answers}


def row_key(row: Row) -> str:
    """Content hash of a row, whatever the order of its columns: 16 hexadecimal digits of SHA-256."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
