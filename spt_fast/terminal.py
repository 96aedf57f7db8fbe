"""What may be written to a terminal: the one door of stdout and stderr.

Names of models, rows, completions and messages of libraries are other people's text. A terminal obeys some of it: escape
sequences, BEL, direction overrides. So all that a verb writes goes through a `Door`, which writes such characters as their
codes (`\\u001b`), which is what JSON calls them too. Our own colours and bars go by `styled` and `console`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls but for tab and new line, what turns the direction of text, what ends lines, and halves of surrogate pairs, which
cannot be written."""
_STYLE = re.compile("(\x1b\\[[0-9;]*m)")
"""What rich writes for colours and bold."""


def harmless(text: str) -> str:
    """Text that a terminal shows and does not obey: what it would obey stands as its code."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Door:
    """A text stream that writes only what is harmless. All else is the stream's behind it."""

    def __init__(self, behind: TextIO, *, for_progress: bool = False) -> None:
        """`for_progress`: nobody may be there to read it, a terminal that was closed: that ends nothing."""
        self.behind = behind
        self._for_progress = for_progress

    def write(self, text: str) -> int:
        """Write text, harmlessly; how many characters it had."""
        self.write_as_is(harmless(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write them one by one."""
        for line in lines:
            self.write(line)

    def write_as_is(self, text: str) -> None:
        """Write what is ours."""
        try:
            self.behind.write(text)
        except UnicodeEncodeError:
            encoding = self.behind.encoding or "ascii"
            self.behind.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError:
            if not self._for_progress:
                raise

    def flush(self) -> None:
        """Flush the stream behind."""
        try:
            self.behind.flush()
        except OSError:
            if not self._for_progress:
                raise

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # which click writes to where stdout's encoding is ASCII
            raise AttributeError(name)
        return getattr(self.behind, name)


class _AsIs:
    """The other side of a door, for what rich draws."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def write(self, text: str) -> int:
        self._door.write_as_is(text)
        return len(text)

    def flush(self) -> None:
        self._door.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door.behind, name)


@contextmanager
def doors() -> Iterator[None]:
    """Have stdout and stderr behind doors."""
    before = sys.stdout, sys.stderr
    sys.stdout = Door(before[0])
    sys.stderr = Door(before[1], for_progress=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def show(text: str, *, end: str = "\n") -> None:
    """Print to stdout text that we have drawn, colours and all: what stands in it has been made harmless before.

    Where stdout is no terminal, colours are left out.
    """
    keep = sys.stdout.isatty()
    parts = _STYLE.split(text + end)
    drawn = "".join(part if i % 2 and keep else "" if i % 2 else harmless(part) for i, part in enumerate(parts))
    if isinstance(sys.stdout, Door):
        sys.stdout.write_as_is(drawn)
    else:
        sys.stdout.write(drawn)
    sys.stdout.flush()


def console(stream: TextIO) -> Console:
    """A console of rich that draws on a stream, and lets nothing through that is in the text it is given."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Harmless(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                # What rich itself wants of the terminal is marked as such.
                yield segment if segment.control else Segment(harmless(segment.text), segment.style)

    file: Any = _AsIs(stream) if isinstance(stream, Door) else stream
    return Harmless(file=file)
