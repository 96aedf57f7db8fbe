"""The overview of a report for a terminal or a pipe: a table a model, a row a task, protocols beside each other."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from spt_fast.report.cells import OverSeeds, SeedGroup, plain
from spt_fast.report.means import Mean
from spt_fast.report.parts import Beside, Cell, Failures, Linked, Part, Prose, Scores, Section
from spt_fast.report.words import ABSENT, raw

if TYPE_CHECKING:
    from rich.table import Table

Style: TypeAlias = Callable[[OverSeeds | Mean], str]


def full(shown: OverSeeds | Mean) -> str:
    """ "0.97 (.92-.99)"."""
    return f"{shown.value:.2f} ({_bound(shown.low)}-{_bound(shown.high)})"


def compact(shown: OverSeeds | Mean) -> str:
    """ "0.97±.05": the wider side of the interval, so that it is never shown too narrow."""
    wider = max(shown.high - shown.value, shown.value - shown.low)
    return f"{shown.value:.2f}\u00b1{_bound(wider)}"


def terminal(section: Section, *, width: int = 80, colour: bool = False) -> str:
    """Scores, failures and sentences of a section as text of at most `width` columns; figures and other tables are left out.

    Intervals are written out where that fits, else as ±; protocols that do not fit beside each other go below.
    """
    parts = list(_flat(section.parts))
    shown = [_scores(part, width, colour) for part in parts if isinstance(part, Scores)]
    shown += [_wrapped(part.note, width) for part in parts if isinstance(part, Scores)]
    shown += [
        _wrapped(f"FAILED {plain(raw(who))}: {raw(why)}", width, "  ")
        for part in parts
        if isinstance(part, Failures)
        for who, why in part.failures
    ]
    shown += [_wrapped(part.text, width) for part in parts if isinstance(part, Prose) and not part.of_figures]
    return "\n\n".join(filter(None, shown)) + "\n"


def _flat(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts that stand beside each other come first: of the overview the summary, then what else there is to know."""
    beside = [part for part in parts if isinstance(part, Beside)]
    for each in beside:
        yield from each.parts
    yield from (part for part in parts if not isinstance(part, Beside))


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(plain(raw(text)), width, subsequent_indent=indent, break_on_hyphens=False)


def _scores(part: Scores, width: int, colour: bool) -> str:
    """All tables, in one style."""
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
    models = [(_Model(part, model), title) for model, title in part.models]
    fits = all(_width(model.table(model.protocols, full)) <= width for model, _ in models)
    for model, title in models:
        for name, table in _tables(model, title, width, full if fits else compact):
            console.print(Text(plain(name), style="bold"))
            console.print(table)
            console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip()


class _Model:
    """The scores of one model."""

    def __init__(self, part: Scores, model: str) -> None:
        self._part, self._model = part, model
        there = {place for place, _ in part.at if place.model == model}
        self.tasks = [task for task in part.tasks if any(place.task == task for place in there)]
        self.protocols = [label for label in part.protocols if any(place.protocol == label for place in there)]
        self.suites = dict.fromkeys(suite for suite, own, _, _ in part.means if own == model)

    def table(self, labels: Sequence[str], style: Style) -> Table:
        """Tasks x these protocols."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        heads = [plain(label).replace("[", "\n[") for label in labels]
        lines = max(head.count("\n") for head in heads) + 1
        # Text, not str: a name may have brackets, which rich would take for markup.
        table.add_column(Text("\n" * lines + "task"), overflow="fold")
        form, knowledge = self._part.metrics[:2]
        for head in heads:
            filled = head + "\n" * (lines - head.count("\n"))
            table.add_column(Text(f"{filled}{form.head}"), justify="right", overflow="fold")
            table.add_column(Text("\n" * lines + knowledge.head), justify="right", overflow="fold")
        for task in self.tasks:
            row = [Text(plain(task))]
            for label in labels:
                place = SeedGroup(self._model, task, label)
                row.append(Text(score(self._part.at.get((place, form.name)), style)))
                row.append(Text(score(self._part.at.get((place, knowledge.name)), style, alone=True)))
            table.add_row(*row, end_section=bool(self.suites) and task == self.tasks[-1])
        for suite in self.suites:
            table.add_row(Text(plain(f"mean of {suite}")), *(Text(text) for text in self._means(suite, labels, style)))
        return table

    def _means(self, suite: str, labels: Sequence[str], style: Style) -> Iterator[str]:
        for label in labels:
            for metric in self._part.metrics[:2]:
                mean = self._part.means.get((suite, self._model, label, metric.name))
                yield "" if mean is None else style(mean)


def score(cell: Cell | None, style: Style, *, alone: bool = False) -> str:
    """A score, or how the cell stands, which is said once."""
    found = cell.number.found if isinstance(cell, Linked) else None
    if found is not None:
        return style(found)
    return "" if alone or not isinstance(cell, str) or cell == ABSENT else cell


def _bound(value: float) -> str:
    text = f"{value:.2f}"
    return "1.0" if text == "1.00" else text.removeprefix("0")


def _tables(model: _Model, title: str, width: int, style: Style) -> list[tuple[str, Table]]:
    """One table if it fits, else several: as many protocols in each as fit. Each with its title."""
    labels = model.protocols
    tables: list[tuple[str, Table]] = []
    while labels:
        count = len(labels)
        while count > 1 and _width(model.table(labels[:count], style)) > width:
            count -= 1
        tables.append((f"{title}, continued" if tables else title, model.table(labels[:count], style)))
        labels = labels[count:]
    return tables


def _width(table: Table) -> int:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=10_000)
    return console.measure(table).maximum
