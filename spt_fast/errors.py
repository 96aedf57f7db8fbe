"""Errors: one class for each boundary that a failure can cross.

* SptError
  - ConfigError     the request is wrong: grid, command line, task file      (exit code 2)
  - DataError       rows are missing, unreadable, or not what the task expects
  - ModelError      weights, config or tokenizer cannot be loaded
  - TrainingError   a soft prompt could not be learnt
  - EngineError     the engine refused a request, or died
    - OutOfMemoryError, and of it ShareNotFreeError, CacheTooSmallError, WeightsTooLargeError: what there is too little of
  - ScoringError    a completion could not be scored (our fault: extractors answer `None`, they do not raise)
  - StoreError      the run folder cannot be read or written
    - DamagedError, FolderGoneError: a file of it is not what was written; it was removed in the middle of a run
  - UnstorableError  what a worker says of a cell cannot be kept
  - LostError       what a run goes on is gone in the middle of it: a cluster's head     (exit code 130)

A message is one sentence that names the place and, where it can, the fix; a `ConfigError` may have several. No class takes
arguments of its own beyond that, so that every error survives pickling on its way from a worker.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from reprlib import Repr
from typing import ClassVar, Literal, TypeAlias

Remedy: TypeAlias = Literal["batches", "share", "length"]
"""Smaller batches, a smaller share of the GPU's memory, or sequences no longer than there is room for."""

MOST_TOLD = 20
"""Mistakes that are told at once."""


class SptError(Exception):
    """Any failure that spt-fast explains."""


class ConfigError(SptError, ValueError):
    """The request is wrong. Each sentence names the file, the key and the fix; mistakes that are independent come together.

    Args:
        sentences: what is wrong.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__(*sentences)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is wrong, one by one."""
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        """A sentence on a line."""
        return "\n".join(self.sentences)

    def reworded(self, change: Callable[[str], str]) -> ConfigError:
        """The same with each sentence changed."""
        return ConfigError(*map(change, self.sentences))

    def within(self, place: object) -> ConfigError:
        """The same with a place in front of each sentence."""
        return self.reworded(lambda sentence: f"{place}: {sentence}")


class DataError(SptError):
    """Rows are missing, unreadable, or not what the task expects."""


class UnreachableError(DataError):
    """Rows are on the Hub, and the Hub cannot be reached from here now."""


class ModelError(SptError):
    """Weights, config or tokenizer cannot be loaded."""


class TrainingError(SptError):
    """A soft prompt could not be learnt."""


class EngineError(SptError):
    """The engine refused a request, or died."""


class OutOfMemoryError(EngineError):
    """The engine ran out of memory, at its start or at work. `torch.OutOfMemoryError` is what PyTorch raises."""

    helps: ClassVar[tuple[Remedy, ...]] = ("batches", "share")
    """What another start may do with less of, in the order in which to try it."""


class ShareNotFreeError(OutOfMemoryError):
    """Others hold part of the share of a GPU that the engine asks for."""

    helps = ("share",)


class CacheTooSmallError(OutOfMemoryError):
    """The engine's share leaves no room for the keys and values of one sequence: less of it would leave less."""

    helps = ("length", "batches")


class WeightsTooLargeError(OutOfMemoryError):
    """The weights alone do not fit: no setting of the engine's batches or share makes them smaller."""

    helps = ()


class ScoringError(SptError):
    """A completion could not be scored."""


class StoreError(SptError):
    """The run folder cannot be read or written."""


class DamagedError(StoreError):
    """A file of the run folder is there and cannot be read, or is not what was written."""


class UnstorableError(SptError):
    """What a worker says of a cell cannot be kept: a number that is none, another type, too much."""


class FolderGoneError(StoreError):
    """The run folder was removed while a run was at work in it."""


class LostError(SptError):
    """What the run goes on is gone: a cluster's head. What was done is kept, and the same command goes on."""


@contextmanager
def boundary(error: type[SptError], doing: str) -> Iterator[None]:
    """Give failures of other people's code the type of the boundary they crossed.

    Our own errors pass unchanged; so do `KeyboardInterrupt` and `SystemExit`.

    Args:
        error: the class to raise.
        doing: what was being done, as a phrase: "loading zoo/base-small".
    """
    try:
        yield
    except SptError:
        raise
    except Exception as e:
        raise error(f"{doing}: {in_words(e)}") from e


_SAYS_LITTLE = (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, StopIteration)
"""Errors whose text, where they have any, means nothing without the line it came from."""


def in_words(error: BaseException) -> str:
    """What an error of other people's code says: its class and first line; where that is too little, where it happened too."""
    text = first_line(error)
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if text and "the above report" not in text and not isinstance(error, _SAYS_LITTLE):
        return told
    *_, last = (None, *traceback.extract_tb(error.__traceback__))
    if last is None:
        return told
    file = _short_path(last.filename.replace("\\", "/"))
    line = f": {last.line}" if last.line else ""
    return f"{told} (in {file}, line {last.lineno}{shortened(line)[1:-1] if len(line) > 80 else line})"


def _short_path(path: str) -> str:
    """A file of an installed package from the package on; of others, the last four names, behind ... where that is not all."""
    _, installed, inside = path.rpartition("site-packages/")
    names = inside.split("/")
    return inside if len([*filter(None, names)]) <= 4 else "/".join(([] if installed else ["..."]) + names[-4:])


def first_line(error: BaseException) -> str:
    """The first line of what an error says: others' errors go on for pages. Empty where it says nothing."""
    return (str(error).strip().splitlines() or [""])[0]


def shortened(value: object, most: int = 80) -> str:
    """A value as a message shows it: as Python writes it, in at most about `most` characters, whatever its size.

    Text and integers that are too long say how long they are; of lists and mappings the first few are shown. What a terminal
    would obey (escape sequences, direction overrides) is shown as its code.
    """
    if isinstance(value, str) and len(value) > most:
        return f"{value[: most // 2]!r}... ({len(value):,} characters)"
    shown = _Short().repr(value)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


class _Short(Repr):
    """Looks at the beginning of what is long, and at nothing else of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxset = 3, 4, 4
        self.maxstring = self.maxother = self.maxlong = 80

    def repr_str(self, text: str, level: int) -> str:
        return repr(text) if len(text) <= self.maxstring else f"{text[: self.maxstring // 2]!r}..."

    def repr_int(self, number: int, level: int) -> str:
        bits = number.bit_length()
        if bits <= 256:
            return repr(number)
        return f"an integer of about {int(bits * 0.30103) + 1:,} digits"  # to write it out takes long, or is refused
