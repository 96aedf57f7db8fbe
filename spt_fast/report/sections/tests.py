"""The sections on paired tests: what asking otherwise moves, and what moved since another run."""

from __future__ import annotations

from collections.abc import Sequence

from spt_fast.analysis.compare_types import Comparison
from spt_fast.report.cells import over_seeds
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Group, Linked, Part, Prose, Section, Table, samples_link
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import Number, counted, number, probability, span, visible
from spt_fast.scoring.metrics import HEADLINE, spec

MOST_COMPARED = 1500
"""Lines of a table of comparisons."""
MOST_SEEDS = 700
"""Lines of the table of what seeds do."""

READING = (
    "Points are hundredths, with 95% intervals. Gained: wrong before, right after, counted per seed; lost: the reverse. p: "
    "McNemar's exact test; with several seeds, or rows that share a passage, a score test that accounts for them. p (Holm): "
    "corrected for all comparisons here; * marks the significant ones. MDE: minimum detectable effect, the change that this "
    "many rows detect with probability 0.8."
)


def section(recorded: Recorded) -> Section | None:
    """Each protocol against the plainer ones, row by row, and what seeds do; or why they were not compared."""
    if not recorded.any_done:
        return None
    parts: list[Part] = []
    compared = recorded.tests
    if compared is None or not compared.comparisons:
        parts += [Prose(text=recorded.no_tests)] if recorded.no_tests else []
    else:
        moved, total = len(compared.moved), len(compared.comparisons)
        parts.append(
            Prose(
                text=f"Each protocol against the simpler ones, on the same rows: {moved} of "
                f"{counted(total, 'comparison')} changed significantly (Holm's correction over the grid, level "
                f"{compared.alpha:g}). {READING}"
            )
        )
        if total > MOST_COMPARED:
            parts.append(Prose(text=f"The first {MOST_COMPARED:,} of them are shown; `spt-fast compare` tells of any."))
        parts.append(
            changes(compared.comparisons[:MOST_COMPARED], compared.alpha, "Changes between protocols", "before", "after")
        )
        parts += [Prose(text=visible(each, 1000)) for each in compared.notes]
    parts += _seeds(recorded.by_place)
    return Section(id="tests", title="Tests", parts=parts) if parts else None


def changes(
    comparisons: Sequence[Comparison], alpha: float, caption: str, before: str, after: str, *, flipped: bool = False
) -> Table:
    """A line a comparison, by model and task; `flipped`: the numbers of rows lead to the rows, whose both answers are there."""
    groups: dict[str, list[list[Cell]]] = {}
    for each in comparisons:
        title = f"{visible(each.pair.model)} \u00b7 {visible(each.pair.task)}"
        groups.setdefault(title, []).append(_change(each, alpha, flipped=flipped))
    head = [
        "protocol",
        "metric",
        before,
        after,
        "change, points",
        "gained / lost",
        "p",
        "p (Holm)",
        "MDE, points",
        "rows",
    ]
    found = [Group(title=title, rows=rows) for title, rows in groups.items()]
    return Table(caption=caption, head=head, groups=found, headers=2, grouped="model and task")


def _change(each: Comparison, alpha: float, *, flipped: bool) -> list[Cell]:
    pair, change, known = each.pair, each.difference, spec(each.metric)
    digits = 1 if known.in_points else known.digits
    low, high, moved_by, least = map(
        known.in_change_unit, (change.interval.low, change.interval.high, change.change, change.detectable())
    )
    interval = span(low, high, digits)
    clusters = "" if change.clusters == change.rows else f" in {change.clusters} groups"
    seeds = "" if change.seeds == 1 else f" under {change.seeds} seeds"
    told = f"{moved_by:+.{digits + 1}f} {known.change_unit}".strip()
    tip = f"{told}, 95% interval {interval}, n = {change.rows}{clusters}{seeds}"
    moved = Number(text=f"{moved_by:+.{digits}f}{'*' if each.p_holm <= alpha else ''}", interval=interval, tip=tip)
    rows = Number(text=f"{each.gained_rows:,} / {each.lost_rows:,}")
    place = {"model": pair.b_model, "task": pair.task, "protocol": pair.b_protocol}
    return [
        visible(pair.protocol),
        known.words,
        f"{change.before:.3f}",
        f"{change.after:.3f}",
        moved,
        Linked(number=rows, href=samples_link(**place, verdict="flipped")) if flipped else rows,
        probability(change.p),
        probability(each.p_holm),
        number(least, digits),
        f"{change.rows:,}",
    ]


def _seeds(grid: Grid) -> list[Part]:
    """How far another seed, and how far other rows, would move a score; nothing where there is one seed."""
    groups = []
    lines = 0
    for model in grid.models:
        rows: list[list[Cell]] = []
        for place in grid.places(model=model):
            for metric in HEADLINE:
                found = over_seeds(grid.at[place], metric)
                if found is not None and found.seeds > 1 and lines + len(rows) < MOST_SEEDS:
                    numbers = [number(value, 3) for value in (found.value, found.between, found.sampling)]
                    where = [visible(place.task), visible(place.protocol), spec(metric).words]
                    rows.append([*where, str(found.seeds), *numbers])
        lines += len(rows)
        groups += [Group(title=grid.name(model), rows=rows)] if rows else []
    if not groups:
        return []
    note = (
        "What the choice of seed does and what the choice of test rows does, apart: the standard deviation over seeds, which "
        "answer the same rows, and the standard error that rows leave in the score of one seed."
    )
    head = ["task", "protocol", "metric", "seeds", "mean", "deviation over seeds", "standard error over rows"]
    return [Prose(text=note), Table(caption="Seeds and rows", head=head, groups=groups, headers=3, folded=True)]
