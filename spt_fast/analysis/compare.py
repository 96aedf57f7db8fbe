"""Two runs, row by row: what moved, by how much, how sure, and which rows flipped. Unlike things are not compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, product

import numpy as np

from spt_fast.analysis import likeness, pairs, watched
from spt_fast.analysis.cells import Place
from spt_fast.analysis.compare_types import Compared, Comparison, Flip, Pair, Skipped
from spt_fast.analysis.paired import paired_difference
from spt_fast.analysis.resampling import RESAMPLES, Floats
from spt_fast.analysis.runs import Rows, Run, metric_names
from spt_fast.config.protocols import protocol_of
from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError
from spt_fast.scoring.metrics import EXACT_MATCH, FORMAT, KNOWLEDGE, spec
from spt_fast.scoring.statistics import holm_adjusted

COMPARED = (EXACT_MATCH, KNOWLEDGE, FORMAT)
"""The metrics that are compared unless others are asked for."""


def compare_runs(
    a: Run,
    b: Run,
    *,
    metrics: Sequence[str] = COMPARED,
    tasks: Sequence[str] = ("*",),
    a_model: str | None = None,
    b_model: str | None = None,
    a_protocol: str | None = None,
    b_protocol: str | None = None,
    alpha: float = 0.05,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Compared:
    """Compare two runs on the rows and seeds that both have.

    Models are paired by name. Where no name is in both, and each run has one base model, these are paired, and so are their
    post-trained counterparts; anything else is said with `a_model` and `b_model`. A run may be compared with itself that way.

    Args:
        a: the run before.
        b: the run after.
        metrics: names; one that a task does not have is left out there.
        tasks: patterns.
        a_model: of A; None: see above.
        b_model: of B; None: `a_model`, or B's only base model.
        a_protocol: label in A; None: all that both have.
        b_protocol: label in B; None: `a_protocol`.
        alpha: level of Holm's correction over all comparisons.
        resamples: of the bootstrap; 0: none.
        seed: of the bootstrap.

    Raises:
        ConfigError: nothing can be compared, with the reasons; or a name that is not there.
        StoreError: a file is damaged.
    """
    a, b = a.with_stopped(), b.with_stopped()
    for metric in metrics:
        if wrong := no_metric(metric, a, b):
            raise ConfigError(wrong)
    models = pairs.of_models(a, b, a_model, b_model)
    protocols = pairs.of_protocols(a, b, a_protocol, b_protocol)
    found: list[Comparison] = []
    chosen = (bool(a_model or b_model), bool(a_protocol or b_protocol))
    left = list(pairs.left_behind(a, b, dict(models), dict(protocols), tasks, chosen=chosen))
    skipped = [
        Skipped(pair=pair, metric=metric, why="B's grid does not have it")
        for pair in left
        for metric in metrics
        if pairs.may_have(a, pair, metric)
    ]
    notes = likeness.of_grids(a, b)
    for pair in pairs.of_both(a, b, models, protocols, tasks):
        why = likeness.unlike(a, b, pair)
        notes += (
            []
            if why
            else [
                *likeness.settings(a, b, pair),
                *likeness.dates(a, b, pair),
                *likeness.abilities(a, b, pair),
                *watched.notes(a, b, pair),
            ]
        )
        for metric in metrics:
            if why is not None:
                skipped += [Skipped(pair=pair, metric=metric, why=why)] * pairs.may_have(a, pair, metric)
                continue
            one = _compare(a, b, pair, metric, notes, resamples, seed)
            if isinstance(one, Comparison):
                found.append(one)
            elif one is not None:
                skipped.append(one)
    if not found and not skipped:
        raise ConfigError(f"{b.folder}: has no task in common with {a.folder} that matches {', '.join(tasks)}")
    return _corrected(a, b, found, skipped, [*notes, *likeness.of_methods(found)], alpha)


def no_metric(metric: str, a: Run, b: Run) -> str:
    """What is wrong with the name of a metric that neither run has, in a sentence; empty where one has it."""
    known = dict.fromkeys([*metric_names(a), *metric_names(b)])
    if metric in known:
        return ""
    meant = did_you_mean(metric, known) or "; choose from " + ", ".join(known)
    both = a.folder if a.folder == b.folder else f"{a.folder} or {b.folder}"
    return f"no metric {metric!r} in {both}{meant}"


def compare_protocols(run: Run, *, metrics: Sequence[str] = COMPARED, alpha: float = 0.05) -> Compared:
    """Changes between protocols: few-shot against zero-shot, and each soft prompt against both, on the same rows.

    Args:
        run: all of it, every model and task.
        metrics: names; one that a task does not have is left out there.
        alpha: level of Holm's correction over the whole grid.

    Raises:
        StoreError: a file is damaged.
    """
    asked: dict[tuple[str, str], dict[str, None]] = {}
    for place in run.done:
        asked.setdefault((place.model, place.task), {})[place.protocol] = None
    found: list[Comparison] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    for (model, task), labels in asked.items():
        plainer = _plainer_first(labels)
        for i, befores in enumerate(plainer):
            for before, after in product(befores, chain.from_iterable(plainer[i + 1 :])):
                pair = Pair(task, model, model, before, after)
                for metric in metrics:
                    one = _compare(run, run, pair, metric, notes, resamples=0, seed=0)
                    if isinstance(one, Comparison):
                        found.append(one)
                    elif one is not None:
                        skipped.append(one)
    return _corrected(run, run, found, skipped, [*notes, *likeness.of_methods_within(found)], alpha)


def _plainer_first(labels: Iterable[str]) -> list[list[str]]:
    """The model by itself, other prompts, then what the study is about; each is held against those in front of it."""
    found: list[list[str]] = [[], [], []]
    for label in labels:
        kind = protocol_of(label)
        if kind.is_baseline:
            found[0].append(label)
        elif kind.is_treatment:
            found[2].append(label)
        elif kind.attaches == "nothing" and not kind.is_control:
            found[1].append(label)
    return found


def _corrected(
    a: Run, b: Run, found: Sequence[Comparison], skipped: Sequence[Skipped], notes: Sequence[str], alpha: float
) -> Compared:
    adjusted = holm_adjusted(each.difference.p for each in found)
    return Compared(
        a=a.folder,
        b=b.folder,
        alpha=alpha,
        comparisons=tuple(replace(each, p_holm=p) for each, p in zip(found, adjusted, strict=True)),
        skipped=tuple(skipped),
        notes=tuple(dict.fromkeys(notes)),
    )


def flips(a: Run, b: Run, comparison: Comparison, most: int) -> list[Flip]:
    """Rows of a comparison that flipped, lost ones first, under the first seed that both have: at most so many.

    Args:
        a: the run before.
        b: the run after.
        comparison: of these runs; by a metric with verdicts, not a score such as `f1`.
        most: rows.
    """
    a, b, known = a.with_stopped(), b.with_stopped(), spec(comparison.metric)
    if not known.columns or not known.share:
        return []
    pair = comparison.pair
    seeds_a, seeds_b = a.seeds(pair.a_model, pair.task, pair.a_protocol), b.seeds(pair.b_model, pair.task, pair.b_protocol)
    shared = [seed for seed in seeds_a if seed in seeds_b]
    places = (
        Place(pair.a_model, pair.task, pair.a_protocol, (shared or seeds_a)[0]),
        Place(pair.b_model, pair.task, pair.b_protocol, (shared or seeds_b)[0]),
    )
    before, after = (
        {row["example"]: row for row in run.answers(place, [*known.columns, "completion", "target", "option_logprobs"])}
        for run, place in zip((a, b), places, strict=True)
    )
    found = [
        Flip(
            example=example,
            gained=bool(known.of_row(after[example])),
            before=row["completion"],
            after=after[example]["completion"],
            target=row["target"],
            by_likelihood=known.likelihood and bool(row["option_logprobs"]),
        )
        for example, row in before.items()
        if example in after and known.of_row(row) != known.of_row(after[example])
    ]
    return sorted(found, key=lambda flip: (flip.gained, flip.example))[:most]


def _compare(
    a: Run, b: Run, pair: Pair, metric: str, notes: list[str], resamples: int, seed: int
) -> Comparison | Skipped | None:
    """None: the task does not have the metric."""
    known = spec(metric)
    if known.judged and likeness.judge_of(a, pair.a_model, pair.task, pair.a_protocol) != likeness.judge_of(
        b, pair.b_model, pair.task, pair.b_protocol
    ):
        return Skipped(pair=pair, metric=metric, why=f"{metric} is by another judge, or other rules, in A than in B")
    if not known.in_points and any(watched.stopped_of(run, *each) for run, *each in watched.sides(a, b, pair)):
        why = f"it was stopped for what other metrics showed, so no interval of {metric} holds; a run without stop asks all"
        return Skipped(pair=pair, metric=metric, why=why)
    first = a.rows(pair.a_model, pair.task, pair.a_protocol, metric)
    second = b.rows(pair.b_model, pair.task, pair.b_protocol, metric)
    if first is None:
        return _lacking(pair, metric) if known.gaps and (known.tasks == "all" or second is not None) else None
    if second is None:
        return Skipped(pair=pair, metric=metric, why="B has no such metric")
    shared: Sequence[str] = first.examples
    if second.examples != first.examples:
        there = set(second.examples)
        shared = [example for example in first.examples if example in there]
    if not shared:
        return Skipped(pair=pair, metric=metric, why="A and B have no row in common")
    rows = (len(first.examples), len(second.examples))
    if len(shared) < max(rows):
        notes.append(f"{pair.task}: compared on the {len(shared)} rows that both have, of {rows[0]} in A and {rows[1]} in B.")
    before, after = _same_seeds(first.of(shared), second.of(shared), pair, notes)
    if len(before) == 1 and (first.seeds, second.seeds) != ((None,), (None,)):
        notes.append("With one seed, intervals do not cover what another seed would change.")
    clusters = first.of(shared).clusters
    fixed = paired_difference(before, after, clusters, resamples=resamples, seed=seed, of_one=known.in_points)
    difference = watched.watched(a, b, pair, metric, fixed, shared, (before, after))
    return Comparison(
        pair=pair,
        metric=metric,
        difference=difference,
        methods=likeness.methods(a, b, pair) if metric == KNOWLEDGE else None,
        gained_rows=int((known.sign * after > known.sign * before).sum()),
        lost_rows=int((known.sign * after < known.sign * before).sum()),
    )


def _lacking(pair: Pair, metric: str) -> Skipped:
    why = f"A has no {metric}; runs of earlier versions lack it, and `run --fresh` asks for it"
    return Skipped(pair=pair, metric=metric, why=why)


def _same_seeds(first: Rows, second: Rows, pair: Pair, notes: list[str]) -> tuple[Floats, Floats]:
    """`[S, N]` each, seed by seed. What has no seed stands against every seed of the other."""
    if first.seeds == (None,) or second.seeds == (None,):
        seeds = max(len(first.seeds), len(second.seeds))
        shape = (seeds, len(first.examples))
        return np.broadcast_to(first.values, shape), np.broadcast_to(second.values, shape)
    shared = [seed for seed in first.seeds if seed in second.seeds]
    if shared:
        if len(shared) < max(len(first.seeds), len(second.seeds)):
            notes.append(f"{pair.task}, {pair.protocol}: compared under the seeds of both: {', '.join(map(str, shared))}.")
        return first.of(first.examples, shared).values, second.of(second.examples, shared).values
    notes.append(
        f"{pair.task}, {pair.protocol}: no seed is in both runs, so means over seeds are compared, and the interval does not "
        "cover what seeds change."
    )
    return first.values.mean(0, keepdims=True), second.values.mean(0, keepdims=True)
