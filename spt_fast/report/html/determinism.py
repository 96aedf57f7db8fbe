"""The section on determinism: what came out otherwise when rows were asked again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spt_fast.report.cells import Place, asked_again, largest_difference
from spt_fast.report.html.grid import Grid
from spt_fast.report.html.parts import Cell, Group, Part, Prose, Section, Table, table
from spt_fast.report.html.words import ABSENT, Number, span, visible
from spt_fast.report.markdown import DETERMINISM
from spt_fast.scoring.rerun import FLIPS, Rerun, flip_rate

MOST_FLIPPED = 20
"""Flipped completions on the page."""


def determinism(grid: Grid) -> Section | None:
    """How many answers flipped, by place, and some of them; None where nothing was asked again."""
    found = asked_again(grid.cells)
    if not found:
        return None
    groups = []
    for model in grid.models:
        rows: list[list[Cell]] = [
            [visible(place.task), visible(place.protocol), *_flips(grid, place, reruns)]
            for place, reruns in found.items()
            if place.model == model
        ]
        groups += [Group(title=grid.name(model), rows=rows)] if rows else []
    head = ["task", "protocol", *(what.replace("_", " ") for what in FLIPS), "largest difference, nats", "rows"]
    parts: list[Part] = [Prose(text=DETERMINISM), Table(caption="Share that flipped", head=head, groups=groups, headers=2)]
    flipped = [(place, each) for place, reruns in found.items() for rerun in reruns for each in rerun.flipped]
    if flipped:
        lines: list[list[Cell]] = [
            [
                visible(f"{grid.short[place.model]} \u00b7 {place.task} \u00b7 {place.protocol}"),
                ", ".join(what.replace("_", " ") for what in each.what),
                visible(each.before, 200),
                visible(each.after, 200),
            ]
            for place, each in flipped[:MOST_FLIPPED]
        ]
        told = "What flipped" if len(flipped) <= MOST_FLIPPED else f"The first {MOST_FLIPPED} that flipped"
        parts.append(table(told, ["cell", "what", "first answer", "second answer"], lines))
    return Section(id="determinism", title="Determinism", parts=parts)


def _flips(grid: Grid, place: Place, reruns: Sequence[Rerun]) -> list[Cell]:
    """A share for each of `FLIPS`, the largest difference of log-likelihoods, and n."""
    cells: list[Cell] = []
    for what in FLIPS:
        rate = flip_rate(reruns, what)
        interval = span(rate.ci_low, rate.ci_high, 3)
        where = f"{grid.short[place.model]}, {visible(place.task)}, {visible(place.protocol)}"
        tip = f"{where}: {what.replace('_', ' ')} flipped in {rate.value:.4f}, 95% interval {interval}, n = {rate.n}"
        cells.append(Number(text=f"{rate.value:.3f}", interval=interval, tip=tip))
    largest = largest_difference(reruns)
    return [*cells, ABSENT if math.isnan(largest) else f"{largest:.2g}", f"{sum(each.n for each in reruns):,}"]
