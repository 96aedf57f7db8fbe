"""What a verb ends in: an exit code, and sentences on stderr."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spt_fast.errors import first_line

if TYPE_CHECKING:
    from spt_fast.analysis.cells import RunCell

SOME_FAILED = 1
WRONG_REQUEST = 2
MOST_OF_A_WORD, MOST_OF_A_SENTENCE = 300, 3000
"""Characters that are told of what is wrong."""


def code_of(cells: Iterable[RunCell]) -> int:
    """The exit code of a verb that has told of these cells."""
    return SOME_FAILED if any(cell.status == "failed" for cell in cells) else 0


def say(text: str) -> None:
    """On stderr: stdout is for results."""
    click.echo(text, err=True)


def sentence(text: str) -> str:
    """One line; of what is too long, the beginning and the end."""
    half = MOST_OF_A_WORD // 2
    words = (word if len(word) <= MOST_OF_A_WORD else f"{word[:half]}...{word[-half:]}" for word in text.split())
    line = " ".join(words)
    half = MOST_OF_A_SENTENCE // 2
    return line if len(line) <= MOST_OF_A_SENTENCE else f"{line[:half]} ... {line[-half:]}"


def our_fault(error: Exception) -> str:
    """What nobody has foreseen, and where it was."""
    *_, last = [frame for frame in traceback.extract_tb(error.__traceback__) if "spt_fast" in frame.filename]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    told = f"{type(error).__name__}: {first_line(error)}".rstrip(": ")
    return f"a bug in spt-fast ({told}; {place}); please report it, with what SPT_FAST_TRACEBACK=1 shows"
