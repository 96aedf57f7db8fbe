"""Tables for a terminal or a pipe: one a model, a row a task, format following and knowledge under each protocol."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from spt_fast.report.cells import BEST, CellReport, OverSeeds, by_model, distinct, failures, headline, of, over_seeds, plain
from spt_fast.report.summary import summary
from spt_fast.tasks.losses import told

if TYPE_CHECKING:
    from rich.table import Table

Style: TypeAlias = Callable[[OverSeeds], str]

LEGEND = (
    "Shares at the last step, with 95% intervals; over several seeds the mean, and the widest span of the intervals. Knowledge "
    "of closed-ended tasks is by the way of scoring that is best on tuning rows (knowledge_best)."
)


def full(shown: OverSeeds) -> str:
    """ "0.97 (.92-.99)"."""
    return f"{shown.value:.2f} ({_bound(shown.low)}-{_bound(shown.high)})"


def compact(shown: OverSeeds) -> str:
    """ "0.97±.05": the wider side of the interval, so that it is never shown too narrow."""
    wider = max(shown.high - shown.value, shown.value - shown.low)
    return f"{shown.value:.2f}\u00b1{_bound(wider)}"


def terminal(
    cells: Sequence[CellReport], *, width: int = 80, colour: bool = False, rows: Sequence[Mapping[str, Any]] = ()
) -> str:
    """All tables, the failures, the summary, and test rows that are not scored, as text of at most `width` columns.

    Intervals are written out where that fits, else as ±; protocols that do not fit beside each other go below.
    """
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    models = by_model(cells)
    fits = all(_width(_whole(own, full)) <= width for own in models.values())
    style = full if fits else compact
    for model, own in models.items():
        for name, table in _tables(own, headline(own, model), width, style):
            console.print(Text(plain(name), style="bold"))
            console.print(table)
            console.print()
    parts = [LEGEND] if any(cell.status == "done" for cell in cells) else []
    parts += [f"FAILED {who}: {why}" for who, why in failures(cells)]
    parts.append(summary(cells))
    wrapped = [_wrapped(plain(part), width, indent="  " * part.startswith("FAILED ")) for part in parts]
    left_out = told(rows, distinct(cell.task for cell in cells))
    wrapped.append("\n".join(_wrapped(plain(sentence), width, indent="  ") for sentence in left_out))
    tables = "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip()
    return "\n\n".join(part for part in (tables, *wrapped) if part) + "\n"


def _wrapped(text: str, width: int, indent: str) -> str:
    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)


def cell_text(cells: Sequence[CellReport], name: str, style: Style) -> str:
    """What stands in a table for one model, task and protocol."""
    shown = over_seeds(cells, name)
    if shown is not None:
        return style(shown)
    if name != "format_following":  # how a cell stands is said once
        return ""
    return next((status for status in ("failed", "waiting") if any(cell.status == status for cell in cells)), "")


def _bound(value: float) -> str:
    text = f"{value:.2f}"
    return "1.0" if text == "1.00" else text.removeprefix("0")


def _tables(cells: Sequence[CellReport], name: str, width: int, style: Style) -> list[tuple[str, Table]]:
    """One table if it fits, else several: as many protocols in each as fit. Each with its title."""
    labels = distinct(cell.protocol for cell in cells)
    tables: list[tuple[str, Table]] = []
    while labels:
        count = len(labels)
        while count > 1 and _width(_table(cells, labels[:count], style)) > width:
            count -= 1
        tables.append((f"{name}, continued" if tables else name, _table(cells, labels[:count], style)))
        labels = labels[count:]
    return tables


def _whole(cells: Sequence[CellReport], style: Style) -> Table:
    return _table(cells, distinct(cell.protocol for cell in cells), style)


def _table(cells: Sequence[CellReport], labels: Sequence[str], style: Style) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    heads = [plain(label).replace("[", "\n[") for label in labels]
    lines = max(head.count("\n") for head in heads) + 1
    # Text, not str: a name may have brackets, which rich would take for markup.
    table.add_column(Text("\n" * lines + "task"), overflow="fold")
    for head in heads:
        filled = head + "\n" * (lines - head.count("\n"))
        table.add_column(Text(f"{filled}format"), justify="right", overflow="fold")
        table.add_column(Text("\n" * lines + "knowledge"), justify="right", overflow="fold")
    for task in distinct(cell.task for cell in cells):
        row = [Text(plain(task))]
        for label in labels:
            group = of(cells, task=task, protocol=label)
            row += [Text(cell_text(group, "format_following", style)), Text(cell_text(group, BEST, style))]
        table.add_row(*row)
    return table


def _width(table: Table) -> int:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=10_000)
    return console.measure(table).maximum
