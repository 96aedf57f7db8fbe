"""Determinism: what came out otherwise when rows were asked again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spt_fast.report.cells import SeedGroup, asked_again, largest_difference
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Part, Prose, Section, Table, table
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import ABSENT, Number, span, visible
from spt_fast.scoring.metrics import spec
from spt_fast.scoring.rerun import FLIPS, Rerun, flip_rate

INTRO = (
    "Some rows were run again, in a restarted engine and with other rows in the batch: the share of completions, and of "
    "verdicts, that differ, with 95% Wilson intervals, and the largest difference of two log-likelihoods of one option. The "
    "numbers elsewhere are those of the first run."
)
MOST_FLIPPED = 20
"""Flipped completions on the page."""


def section(recorded: Recorded) -> Section | None:
    """How many answers flipped, by place, and some of them; None where nothing was asked again."""
    grid = recorded.by_place
    found = asked_again(grid.cells)
    if not found:
        return None
    groups = grid.groups(
        lambda model: [
            [visible(place.task), visible(place.protocol), *_flips(grid, place, reruns)]
            for place, reruns in found.items()
            if place.model == model
        ]
    )
    head = ["task", "protocol", *map(_called, FLIPS), "largest difference, nats", "rows"]
    parts: list[Part] = [Prose(text=INTRO), Table(caption="Share that flipped", head=head, groups=groups, headers=2)]
    flipped = [(place, each) for place, reruns in found.items() for rerun in reruns for each in rerun.flipped]
    if flipped:
        lines: list[list[Cell]] = [
            [
                visible(f"{grid.short[place.model]} \u00b7 {place.task} \u00b7 {place.protocol}"),
                ", ".join(map(_called, each.what)),
                visible(each.before, 200),
                visible(each.after, 200),
            ]
            for place, each in flipped[:MOST_FLIPPED]
        ]
        told = "What flipped" if len(flipped) <= MOST_FLIPPED else f"The first {MOST_FLIPPED} that flipped"
        parts.append(table(told, ["cell", "what", "first run", "second run"], lines))
    return Section(id="determinism", title="Determinism", parts=parts)


def _called(what: str) -> str:
    return what if what == "completion" else spec(what).words


def _flips(grid: Grid, place: SeedGroup, reruns: Sequence[Rerun]) -> list[Cell]:
    """A share for each of `FLIPS`, the largest difference of log-likelihoods, and n."""
    cells: list[Cell] = []
    for what in FLIPS:
        rate = flip_rate(reruns, what)
        interval = span(rate.ci_low, rate.ci_high, 3)
        tip = f"{grid.said(place)}: {_called(what)} flipped in {rate.value:.4f}, 95% interval {interval}, n = {rate.n}"
        cells.append(Number(text=f"{rate.value:.3f}", interval=interval, tip=tip))
    largest = largest_difference(reruns)
    return [*cells, ABSENT if math.isnan(largest) else f"{largest:.2g}", f"{sum(each.n for each in reruns):,}"]
