"""What soft prompts mean: their nearest tokens, how alike they are, what is lost without each vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from statistics import fmean
from typing import Any

from spt_fast.prompts.meaning import Change, Kinship, Meaning, Neighbour, Placed, Probe, Variant, kinships
from spt_fast.report.grid import Grid
from spt_fast.report.parts import Cell, Figure, Figures, Group, Part, Prose, Section, Table, colour, legend
from spt_fast.report.recorded import Known, Recorded
from spt_fast.report.words import ABSENT, Number, counted, span, visible
from spt_fast.scoring.metrics import FORMAT, spec
from spt_fast.types import Metric

METRICS = (spec(FORMAT), spec("knowledge"))
"""A probe knows the listed options alone."""
NEAREST = 3
"""Tokens that are shown of a vector."""
MOST_DRAWN = 20
"""Vectors up to which what is lost without them is drawn; a table has those of longer soft prompts."""
VARIANTS = {"zero_shot": "zero-shot", "soft_prompt": "all vectors", "tokens": "nearest tokens"}
"""Variants of a probe as a reader is told of them; `without` names its vector."""


def section(recorded: Recorded) -> Section | None:
    """What soft prompts lie next to, how alike they are, what their vectors do; None where there are none."""
    grid, known, left_out = recorded.by_place, recorded.learnt, recorded.learnt_left_out
    if not known:
        return None
    intro = (
        "A soft prompt is a few vectors where a text has tokens. Here they are beside the model's own embedding of tokens. A "
        "nearest token says something where it is nearer than chance: the cosine at which a direction that was drawn at random "
        "has its nearest token."
    )
    parts: list[Part] = [Prose(text=intro)]
    if left_out:
        parts.append(Prose(text=f"The first {counted(len(known), 'soft prompt')} of {len(known) + left_out:,} are shown here."))
    looked = [each for each in known if each.meaning is not None]
    if looked:
        parts.append(_beside_the_vocabulary(grid, looked))
        parts += _nearest(grid, looked)
    else:
        parts.append(Prose(text="The nearest tokens are not computed yet; run `spt-fast inspect DIR`."))
    parts += _alike(grid, known)
    parts += _probes(grid, [each for each in known if each.probe is not None])
    return Section(id="meaning", title="Meaning", parts=parts)


def _whose(grid: Grid, model: str, protocol: str) -> str:
    return f"{grid.short.get(model, visible(model))} \u00b7 {visible(protocol)}"


def _groups(rows: Iterable[tuple[str, Sequence[Cell]]]) -> list[Group]:
    """Rows under the titles that they come with."""
    found: dict[str, list[Sequence[Cell]]] = {}
    for title, row in rows:
        found.setdefault(title, []).append(row)
    return [Group(title=title, rows=own) for title, own in found.items()]


def _beside_the_vocabulary(grid: Grid, known: Sequence[Known]) -> Table:
    """A line a soft prompt: means over its vectors."""

    def row(each: Placed, found: Meaning) -> Sequence[Cell]:
        vectors, chance = found.vectors, found.chance
        nearest = [vector.by_cosine[0].value for vector in vectors]
        above = sum(value > chance.high for value in nearest)
        moved = [vector.moved for vector in vectors if vector.moved is not None]
        return [
            visible(each.task),
            "" if each.seed is None else str(each.seed),
            Number(text=f"{fmean(nearest):.2f}", interval=span(min(nearest), max(nearest))),
            Number(text=f"{chance.middle:.2f}", interval=span(chance.low, chance.high)),
            f"{above} of {len(vectors)}",
            f"{fmean(vector.norm for vector in vectors):.3g}",
            f"{found.vocabulary_norms.middle:.3g}",
            f"{fmean(vector.norm_above for vector in vectors):.0%}",
            f"{fmean(moved):.3g}" if moved else ABSENT,
        ]

    head = [
        *("task", "seed", "cosine of the nearest token", "chance", "nearer than chance"),
        *("norm", "norm of a token", "longer than", "moved"),
    ]
    caption = (
        "Soft prompts beside the vocabulary: means over their vectors. Chance: median, and 5 to 95 %. Longer than: share of "
        "the vocabulary. Moved: L2 distance from the start"
    )
    lines = (
        (_whose(grid, each.placed.model, each.placed.protocol), row(each.placed, each.meaning))
        for each in known
        if each.meaning is not None
    )
    return Table(caption=caption, head=head, groups=_groups(lines), headers=2, grouped="soft prompt")


def _nearest(grid: Grid, known: Sequence[Known]) -> Iterator[Table]:
    """The tokens, vector by vector; a table a task."""
    for task in dict.fromkeys(each.placed.task for each in known):
        rows: list[tuple[str, Sequence[Cell]]] = []
        for each in known:
            if each.placed.task == task and each.meaning is not None:
                seed = "" if each.placed.seed is None else f" \u00b7 seed {each.placed.seed}"
                title = _whose(grid, each.placed.model, each.placed.protocol) + seed
                for i, vector in enumerate(each.meaning.vectors):
                    near = [_near(one) for one in vector.by_cosine[:NEAREST]]
                    none = [ABSENT] * (NEAREST - len(near))
                    rows.append((title, [str(i), *near, *none, _near(vector.by_distance[0]), f"{vector.norm:.3g}"]))
        head = ["vector", "nearest by cosine", "second", "third", "nearest by distance", "norm"]
        yield Table(
            caption=f"{visible(task)}: nearest tokens of each vector",
            head=head,
            groups=_groups(rows),
            folded=True,
            grouped="soft prompt",
        )


def _near(one: Neighbour) -> Number:
    return Number(text=f"\u201c{visible(one.token, 40)}\u201d {one.value:.2f}", tip=f"token {one.token_id}, {one.value:.3f}")


def _alike(grid: Grid, known: Sequence[Known]) -> list[Part]:
    found = kinships([each.placed for each in known])
    if not found:
        return []
    chance = {(each.placed.model, each.placed.protocol): each.meaning for each in known if each.meaning is not None}

    def row(each: Kinship) -> Sequence[Cell]:
        by_chance = chance.get((each.model, each.protocol))
        matched = None if by_chance is None else by_chance.alike_matched
        return [
            visible(each.between),
            "same" if each.same_seed else "other",
            str(each.pairs),
            _cosine(each.by_position),
            Number(text=_cosine(each.matched), interval=span(*each.matched_span)),
            ABSENT if matched is None else Number(text=_cosine(matched.middle), interval=span(matched.low, matched.high)),
        ]

    head = ["tasks", "seeds", "pairs", "by position", "best matched", "random tokens, best matched"]
    said = (
        "Mean cosine of the vectors of two soft prompts: at the same place, and matched so that their sum is highest, because "
        "a vector may stand at another place under another seed. Random tokens are as alike as the last column says. Under one "
        "seed, a start that is normal or uniform is the same for all tasks, and keeps them alike."
    )
    groups = _groups((_whose(grid, each.model, each.protocol), row(each)) for each in found)
    return [
        Prose(text=said),
        Table(caption="How alike soft prompts are", head=head, groups=groups, headers=2, grouped="soft prompt"),
    ]


def _cosine(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # never -0.00


# What an engine was asked


def _probes(grid: Grid, known: Sequence[Known]) -> list[Part]:
    if not known:
        return []
    said = (
        "The test rows again: without any vector, behind all, behind the nearest token of each vector as text, and without one "
        "vector each. Where the nearest tokens do as much as the vectors, the soft prompt can be said in words."
    )
    figures, tables = [], []
    for each in known:
        assert each.probe is not None
        seed = "" if each.placed.seed is None else f" \u00b7 seed {each.placed.seed}"
        title = f"{visible(each.placed.task)} \u00b7 {_whose(grid, each.placed.model, each.placed.protocol)}{seed}"
        if len(each.probe.named("without")) <= MOST_DRAWN:
            label = f"{title}: format following and knowledge without each vector, and behind the nearest tokens"
            text = "".join(each.probe.tokens)
            note = f"n = {each.probe.rows}" + (f"; as text: \u201c{visible(text, 120)}\u201d" if text else "")
            rows = list(_rows(each.probe))
            figures.append(Figure(drawing="named", rows=rows, label=label, caption=title, note=note))
        tables.append(_probe_table(title, each.probe))
    return [Figures(title="What the vectors do", figures=figures, legend=legend(METRICS)), Prose(text=said), *tables]


def _rows(probe: Probe) -> Iterator[dict[str, Any]]:
    for known in METRICS:
        for variant in probe.variants:
            metric = variant.metric(known.name)
            yield {
                "name": _variant(variant),
                "measure": known.words,
                "seed": None,
                "value": metric.value,
                "low": metric.ci_low,
                "high": metric.ci_high,
                "tip": f"{_variant(variant)}: {known.words} {metric.value:.3f}, 95% interval {metric.ci_low:.3f} to "
                f"{metric.ci_high:.3f}, n = {metric.n}",
                "colour": colour(known.colour),
                "shape": known.shape,
            }


def _variant(variant: Variant) -> str:
    return VARIANTS.get(variant.name) or f"without vector {variant.left_out}"


def _probe_table(title: str, probe: Probe) -> Table:
    rows: list[list[Cell]] = []
    for variant in probe.variants:
        row: list[Cell] = [_variant(variant)]
        for known in METRICS:
            change = "" if variant.name == "soft_prompt" else _points(variant.changes[known.name])
            row += [_number(variant.metric(known.name)), change]
        rows.append(row)
    head = ["variant", *chain.from_iterable((known.head, "change, points") for known in METRICS)]
    caption = f"{title}: what its vectors do, n = {probe.rows}; changes against all vectors, row by row"
    return Table(caption=caption, head=head, groups=[Group(title="", rows=rows)], folded=True)


def _number(metric: Metric) -> Number:
    interval = span(metric.ci_low, metric.ci_high)
    return Number(text=f"{metric.value:.2f}", interval=interval, tip=f"n = {metric.n}", tint=round(10 * metric.value))


def _points(change: Change) -> Number:
    return Number(text=f"{100 * change.value:+.1f}", interval=span(100 * change.low, 100 * change.high, 1))
