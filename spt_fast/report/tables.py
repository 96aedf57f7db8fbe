"""The overview of a report for a terminal or a pipe: a table a model, a row a task, protocols beside each other."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from spt_fast.report.cells import OverSeeds, SeedGroup, plain
from spt_fast.report.means import Mean
from spt_fast.report.parts import Beside, Cell, Failures, Linked, Part, Prose, Scores, Section
from spt_fast.report.words import ABSENT, raw
from spt_fast.scoring.metrics import MetricSpec

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

    Intervals are written out where that fits, else as ±; the third metric is left out before protocols, which then go below.
    """
    parts = list(_flat(section.parts))
    scores = [(part, *_scores(part, width, colour)) for part in parts if isinstance(part, Scores)]
    shown = [text for _, text, _ in scores]
    shown += [_wrapped(" ".join(filter(None, [part.note, _without(left_out)])), width) for part, _, left_out in scores]
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


def _without(left_out: Sequence[MetricSpec]) -> str:
    """A sentence on the metrics that a table is too narrow for; empty where it has all."""
    if not left_out:
        return ""
    words = " and ".join(metric.words for metric in left_out)
    return f"{words[:1].upper()}{words[1:]} needs a wider terminal, and is in report.md."


def _scores(part: Scores, width: int, colour: bool) -> tuple[str, Sequence[MetricSpec]]:
    """All tables, in one style, and the metrics that are not in them.

    What fits goes before how it is written: all metrics with ± before two of them with their intervals.
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
    models = [(_Model(part, model), title) for model, title in part.models]
    measured = [metric for i, metric in enumerate(part.metrics) if i < CLAIM or _is_measured(part, metric)]
    looks = [_Look(metrics, style) for metrics in (measured, measured[:CLAIM]) for style in (full, compact)]
    fitting = (look for look in looks if all(_width(model.table(model.protocols, look)) <= width for model, _ in models))
    look = next(fitting, looks[-1])
    for model, title in models:
        for name, table in _tables(model, title, width, look):
            console.print(Text(plain(name), style="bold"))
            console.print(table)
            console.print()
    text = "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip()
    return text, measured[len(look.metrics) :]


CLAIM = 2
"""The first metrics, which a table has however narrow it is: format following and knowledge, apart."""


def _is_measured(part: Scores, metric: MetricSpec) -> bool:
    return any(name == metric.name and isinstance(cell, Linked) for (_, name), cell in part.at.items())


class _Look(NamedTuple):
    """What a table shows under each protocol, and how."""

    metrics: Sequence[MetricSpec]
    style: Style


class _Model:
    """The scores of one model."""

    def __init__(self, part: Scores, model: str) -> None:
        self._part, self._model = part, model
        there = {place for place, _ in part.at if place.model == model}
        self.tasks = [task for task in part.tasks if any(place.task == task for place in there)]
        self.protocols = [label for label in part.protocols if any(place.protocol == label for place in there)]
        self.suites = dict.fromkeys(suite for suite, own, _, _ in part.means if own == model)

    def table(self, labels: Sequence[str], look: _Look) -> Table:
        """Tasks x these protocols."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        heads = [plain(label).replace("[", "\n[") for label in labels]
        lines = max(head.count("\n") for head in heads) + 1
        # Text, not str: a name may have brackets, which rich would take for markup.
        table.add_column(Text("\n" * lines + "task"), overflow="fold")
        first, *others = look.metrics
        for head in heads:
            filled = head + "\n" * (lines - head.count("\n"))
            table.add_column(Text(f"{filled}{first.head}"), justify="right", overflow="fold")
            for metric in others:
                table.add_column(Text("\n" * lines + metric.head), justify="right", overflow="fold")
        for task in self.tasks:
            row = [Text(plain(task)), *(Text(text) for text in self._row(task, labels, look))]
            table.add_row(*row, end_section=bool(self.suites) and task == self.tasks[-1])
        for suite in self.suites:
            table.add_row(Text(plain(f"mean of {suite}")), *(Text(text) for text in self._means(suite, labels, look)))
        return table

    def _row(self, task: str, labels: Sequence[str], look: _Look) -> Iterator[str]:
        for label in labels:
            for i, metric in enumerate(look.metrics):
                found = self._part.at.get((SeedGroup(self._model, task, label), metric.name))
                yield score(found, look.style, alone=i > 0)

    def _means(self, suite: str, labels: Sequence[str], look: _Look) -> Iterator[str]:
        for label in labels:
            for metric in look.metrics:
                mean = self._part.means.get((suite, self._model, label, metric.name))
                yield "" if mean is None else look.style(mean)


def score(cell: Cell | None, style: Style, *, alone: bool = False) -> str:
    """A score, or how the cell stands, which is said once."""
    found = cell.number.found if isinstance(cell, Linked) else None
    if found is not None:
        return style(found)
    return "" if alone or not isinstance(cell, str) or cell == ABSENT else cell


def _bound(value: float) -> str:
    text = f"{value:.2f}"
    return "1.0" if text == "1.00" else text.removeprefix("0")


def _tables(model: _Model, title: str, width: int, look: _Look) -> list[tuple[str, Table]]:
    """One table if it fits, else several: as many protocols in each as fit. Each with its title."""
    labels = model.protocols
    tables: list[tuple[str, Table]] = []
    while labels:
        count = len(labels)
        while count > 1 and _width(model.table(labels[:count], look)) > width:
            count -= 1
        tables.append((f"{title}, continued" if tables else title, model.table(labels[:count], look)))
        labels = labels[count:]
    return tables


def _width(table: Table) -> int:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=10_000)
    return console.measure(table).maximum
