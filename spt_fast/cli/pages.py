"""Pages of tables and paragraphs for a terminal or a pipe, in the style of the report's tables."""

from __future__ import annotations

import io
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spt_fast.analysis.resampling import Interval
from spt_fast.report.cells import plain
from spt_fast.scoring.metrics import MetricSpec

if TYPE_CHECKING:
    from rich.table import Table

MOST_COLUMNS = 120


class Page:
    """Text that is written from top to bottom. Names and completions in it may be hostile: they are shown as one plain line."""

    def __init__(self) -> None:
        self.width = min(shutil.get_terminal_size((MOST_COLUMNS, 24)).columns, MOST_COLUMNS)
        self._parts: list[str] = []

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
        """A table with its title in front; nothing where it has no rows.

        Args:
            title: one line.
            head: of the columns.
            rows: a text a column.
            left: so many columns stand to the left, the others, being numbers, to the right.
        """
        if not rows:
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        out = io.StringIO()
        colour = sys.stdout.isatty()
        console = Console(
            file=out,
            width=self.width,
            force_terminal=colour,
            color_system="standard" if colour else None,
            highlight=False,
            emoji=False,
            legacy_windows=False,
        )
        table: Table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for i, name in enumerate(head):
            # Text, not str: a name may have brackets, which rich would take for markup.
            table.add_column(Text(name), justify="left" if i < left else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(plain(each)) for each in row))
        console.print(Text(plain(title), style="bold"))
        console.print(table)
        self._parts.append("\n".join(line.rstrip() for line in out.getvalue().rstrip().split("\n")))

    def say(self, text: str, *, indent: str = "") -> None:
        """A paragraph."""
        wrapped = textwrap.fill(plain(text), self.width, subsequent_indent=indent, break_on_hyphens=False)
        if wrapped:
            self._parts.append(wrapped)

    def lines(self, lines: Sequence[str]) -> None:
        """Lines that stand together, each with the spaces it begins with, and cut where the page ends."""
        shown = [" " * (len(line) - len(line.lstrip(" "))) + plain(line) for line in lines]
        short = [line if len(line) <= self.width else line[: self.width - 1] + "\u2026" for line in shown]
        if short:
            self._parts.append("\n".join(short))

    @property
    def text(self) -> str:
        """All of it."""
        return "\n\n".join(self._parts)


def number(value: float, digits: int = 2) -> str:
    """ "0.97", "-0.05"; "-" where there is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def with_interval(value: float, interval: Interval) -> str:
    """ "0.97 (.92-.99)", "-0.05 (-.30 to .12)"."""
    if math.isnan(value):
        return "-"
    if math.isnan(interval.low):
        return f"{value:.2f}"
    between = "-" if interval.low >= 0 else " to "
    return f"{value:.2f} ({_bound(interval.low)}{between}{_bound(interval.high)})"


def probability(value: float) -> str:
    """ "0.034", "<0.001"."""
    if math.isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def signed_points(value: float) -> str:
    """A share as points: "+1.50"."""
    return _signed(100 * value, 2)


def signed(change: float, known: MetricSpec) -> str:
    """A change of a metric in its unit: "+1.50" points, "-0.042" bits per byte."""
    return _signed(known.in_change_unit(change), known.digits)


def _signed(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "-"
    text = f"{value:+.{digits}f}"
    return f"+{text[1:]}" if float(text) == 0 else text


def _bound(value: float) -> str:
    text = f"{value:.2f}"
    return ".00" if text in ("0.00", "-0.00") else text.replace("0.", ".", 1) if abs(value) < 0.995 else text
