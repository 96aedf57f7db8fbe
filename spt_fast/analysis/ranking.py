"""Which order of models each protocol gives, how far it is that of their post-trained counterparts, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeAlias

import numpy as np

from spt_fast.analysis import draws as drawing
from spt_fast.analysis.agreement import (
    MEASURES,
    Agreement,
    Measures,
    agree,
    chance,
    mean_tau_b,
    measures,
    pair_signs,
    pair_weights,
    places,
)
from spt_fast.analysis.draws import FIELDS, Draws, Scope
from spt_fast.analysis.ranking_types import (
    KINDS,
    MEAN,
    PLANTED,
    BetweenTasks,
    Gain,
    Intervals,
    Kind,
    Order,
    RankAgreement,
    Ranked,
    Ranking,
    TaskSignal,
)
from spt_fast.analysis.resampling import RESAMPLES, Counts, Floats, centred_interval, drawn
from spt_fast.analysis.runs import Rows, Run
from spt_fast.analysis.scores import Score, ScoreTable
from spt_fast.analysis.variance import signal_to_noise
from spt_fast.config.grid import RANK
from spt_fast.config.protocols import protocol_of
from spt_fast.errors import ConfigError
from spt_fast.scoring.metrics import EXACT_MATCH, KNOWLEDGE, spec


def rank_run(
    run: Run,
    *,
    metric: str | None = None,
    tasks: Sequence[str] = (),
    truth: Mapping[str, Mapping[str, float]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ranking:
    """Rank the models of a run folder.

    Args:
        run: from `read_run`.
        metric: what the order goes by; None: `knowledge_best` on closed-ended tasks, because a small model that knows the
            answer may not find its letter, and `exact_match`, the usual score, on open-ended ones.
        tasks: only these; none: all.
        truth: task ("" for all) -> base model -> what it is known to score: a ground truth beside the partners; None: what
            the grid says (`truth:`).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ConfigError: fewer than two models, or no cell has the metric.
        StoreError: a file is damaged.
    """
    generator = np.random.default_rng(seed)
    notes: list[str] = []
    if run.stopped and dict(run.grid.get("stop") or {}).get("check") == RANK:
        run = run.with_stopped()
        notes.append(
            "Cells were stopped when the order was known, at level alpha over all looks (report, section Stopped). Intervals "
            "and probabilities here are those of a fixed number of rows, of the rows that all were asked."
        )
    names = list(dict.fromkeys(place.task for place in run.done if not tasks or place.task in tasks))
    metrics = {task: metric or _default(run, task) for task in names}
    found, sizes = {}, {}
    for task in names:
        rows = _task_rows(run, task, metrics[task])
        if rows:
            sizes[task] = max(len(each.examples) for each in rows.values())
            found[task] = drawing.of_rows(run.models, rows, resamples, generator, notes, task)
    if not found:
        wanted = " or ".join(map(repr, dict.fromkeys(metrics.values())))
        raise ConfigError(f"{run.folder}: no done cell has the metric {wanted} on the tasks asked for")
    _require_two(run, found)
    metrics = {task: metrics[task] for task in found}
    if len(set(metrics.values())) > 1:
        notes.append(
            f"Closed-ended tasks are ranked by {KNOWLEDGE}, open-ended ones by {EXACT_MATCH}. A score over all tasks is the "
            f"mean of both: it orders models, and is no share of rows; --metric {KNOWLEDGE} or {EXACT_MATCH} takes one for all."
        )
    if run.missing:
        stopped = f" ({len(run.stopped)} of them were stopped)" if set(run.stopped) & set(run.missing) else ""
        cells = len(run.done) + len(run.missing)
        notes.append(f"{len(run.missing)} of {cells} cells are not done{stopped}, and not in these numbers.")
    scope = Scope(
        models=run.models,
        partners=run.partners,
        draws=found,
        resamples=resamples,
        generator=generator,
        signs={task: spec(name).sign for task, name in metrics.items()},
        notes=notes,
        suites=_suites(run, sizes),
    )
    return _ranking(scope, source=run.folder, metrics=metrics, truth=run.truth if truth is None else truth)


def _require_two(run: Run, found: Mapping[str, Mapping[str, Draws]]) -> None:
    """
    Raises:
        ConfigError: so few cells are done that no task and protocol has two models, of several that the grid has.
    """
    bases = {i for i, model in enumerate(run.models) if model in run.bases}
    most = max(sum(not math.isnan(draws.point[i]) for i in bases) for each in found.values() for draws in each.values())
    if most < 2 <= len(bases):
        rest = "; cells were stopped, and run --no-stop asks the rest of their rows" if run.stopped else ""
        raise ConfigError(f"{run.folder}: a ranking needs two models or more whose cells of a task and protocol are done{rest}")


def _suites(run: Run, sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """The suites and groups of a grid: their tasks, and the weight of each in the mean."""
    return {
        str(suite["name"]): {
            task: weight * (sizes.get(task, 0) if suite["by_rows"] else 1) for task, weight in suite["tasks"].items()
        }
        for suite in run.grid.get("means") or ()
        if isinstance(suite, Mapping) and suite["tasks"].keys() <= sizes.keys()
    }


def _default(run: Run, task: str) -> str:
    return KNOWLEDGE if run.closed_ended(task) else EXACT_MATCH


def rank_scores(
    table: ScoreTable,
    *,
    partners: Mapping[str, str] | None = None,
    lower_is_better: Sequence[str] = (),
    truth: Mapping[str, Mapping[str, float]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ranking:
    """Rank the models of a plain table. Other rows are drawn from normal distributions with the standard errors given.

    Args:
        table: from `read_scores`.
        partners: base model -> post-trained counterpart; None: what the table says.
        lower_is_better: tasks whose order goes from the lowest score up (perplexities); where the table says that its metric is
            `answer_bits_per_byte`, or another whose lower values are better, all do.
        truth: task ("" for all) -> base model -> what it is known to score.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ConfigError: fewer than two models, or a partner that the table does not have.
    """
    generator = np.random.default_rng(seed)
    known = dict(table.partners if partners is None else partners)
    for base, partner in known.items() if partners is not None else ():
        for model in (base, partner):
            if model not in table.models:
                raise ConfigError(f"partners: {model} is not in {table.source}")
    by_place: dict[tuple[str, str], dict[str, list[Score]]] = {}
    for score in table.scores:
        by_place.setdefault((score.task, score.protocol), {}).setdefault(score.model, []).append(score)
    draws: dict[str, dict[str, Draws]] = {}
    sign_of_metric = spec(table.metric).sign if table.metric else 1.0
    signs = {task: -1.0 if task in lower_is_better else sign_of_metric for task, _ in by_place}
    for (task, protocol), by_model in by_place.items():
        sign = signs[task]
        draws.setdefault(task, {})[protocol] = drawing.of_scores(table.models, by_model, sign, resamples, generator)
    scope = Scope(
        models=table.models,
        partners={base: partner for base, partner in known.items() if {base, partner} <= set(table.models)},
        draws=draws,
        resamples=resamples,
        generator=generator,
        signs=signs,
    )
    if all(math.isnan(score.stderr) for score in table.scores):
        scope.notes.append("No standard errors are given, so intervals do not cover the choice of rows.")
    metrics = dict.fromkeys(draws, table.metric or "score")
    return _ranking(scope, source=table.source, metrics=metrics, truth=truth or {})


def _ranking(scope: Scope, *, source: str, metrics: Mapping[str, str], truth: Mapping[str, Mapping[str, float]]) -> Ranking:
    if len(scope.ranked) < 2:
        raise ConfigError(f"{source}: a ranking needs two models or more, and there is {len(scope.ranked)}")
    tasks = drawing.complete(scope)
    agreements, taus = _agreements(scope, tasks, truth)
    return Ranking(
        source=source,
        metric=", ".join(dict.fromkeys(metrics.values())),
        metrics=metrics,
        models=tuple(scope.ranked),
        partners=scope.partners,
        suites=tuple(suite for suite, weights in scope.suites.items() if weights.keys() <= set(tasks)),
        truth=truth,
        orders=tuple(_orders(scope, tasks)),
        agreements=tuple(agreements),
        gains=tuple(_gains(taus)),
        between_tasks=tuple(_between_tasks(scope, tasks)),
        signals=tuple(_signals(scope)),
        notes=tuple(scope.notes),
    )


def _task_rows(run: Run, task: str, metric: str) -> dict[tuple[str, str], Rows]:
    """(model, protocol) -> scores of the task's rows, the higher the better."""
    places = dict.fromkeys((place.model, place.protocol) for place in run.done if place.task == task)
    found = {(model, protocol): run.rows(model, task, protocol, metric) for model, protocol in places}
    sign = spec(metric).sign
    return {place: replace(rows, values=sign * rows.values) for place, rows in found.items() if rows is not None}


# What is said of it


def _orders(scope: Scope, tasks: Sequence[str]) -> Iterable[Order]:
    for task, by_protocol in drawing.with_all(scope, tasks).items():
        for protocol, draws in by_protocol.items():
            there = [i for i in scope.places(scope.ranked) if not math.isnan(draws.point[i])]
            found = [
                Ranked(
                    place=place,
                    model=scope.models[i],
                    score=scope.sign(task) * float(draws.point[i]) + 0.0,
                    stderr=float(draws.stderr[i]),
                    sampling=float(draws.sampling[i]),
                    between_seeds=float(draws.between[i]),
                )
                for i, place in zip(there, places(draws.point[there]), strict=True)
            ]
            yield Order(task=task, protocol=protocol, models=tuple(sorted(found, key=lambda ranked: ranked.place)))


_Taus: TypeAlias = dict[tuple[str, str], dict[str, tuple[float, Mapping[Kind, Floats]]]]
"""(task, truth) -> protocol -> tau-b and its draws."""


def _agreements(
    scope: Scope, tasks: Sequence[str], truth: Mapping[str, Mapping[str, float]]
) -> tuple[list[RankAgreement], _Taus]:
    found: list[RankAgreement] = []
    taus: _Taus = {}
    counts = drawn(len(scope.ranked), scope.resamples, scope.generator)
    for name, true_draws in _truths(scope, tasks, truth):
        for protocol in scope.protocols:
            by_task: dict[str, tuple[RankAgreement, Mapping[Kind, Measures]]] = {}
            for task, by_protocol in drawing.with_all(scope, tasks).items():
                true = true_draws(task)
                if protocol in by_protocol and true is not None:
                    agreed = _agreed(scope, task, protocol, name, by_protocol[protocol], true, counts)
                    if agreed is not None:
                        by_task[task] = agreed
            whole = [by_task[task] for task in tasks if task in by_task]
            if len(whole) > 1 and len({one.models for one, _ in whole}) == 1 and protocol in scope.everywhere:
                by_task[MEAN] = _mean_agreement(whole)
            for task, (one, draws) in by_task.items():
                found.append(one)
                by_kind = {kind: each.tau_b for kind, each in draws.items()}
                taus.setdefault((task, name), {})[protocol] = (one.agreement.tau_b, by_kind)
    return found, taus


def _truths(
    scope: Scope, tasks: Sequence[str], truth: Mapping[str, Mapping[str, float]]
) -> Iterable[tuple[str, Callable[[str], Draws | None]]]:
    """Each ground truth, and what it says on a task of the ranked models (NaN: nothing), in their order."""
    named = [p for p in scope.protocols if protocol_of(p).is_treatment or protocol_of(p).is_baseline]
    with_all = drawing.with_all(scope, tasks)
    of_partner = [scope.partners.get(model) for model in scope.ranked]
    for protocol in named or scope.protocols if scope.partners else ():

        def partners(task: str, protocol: str = protocol) -> Draws | None:
            draws = with_all[task].get(protocol)
            if draws is None:
                return None
            missing = Draws(**{name: np.full_like(getattr(draws, name)[..., :1], np.nan) for name in FIELDS})
            columns = [missing if p is None else draws.at([scope.models.index(p)]) for p in of_partner]
            return Draws(**{name: np.concatenate([getattr(c, name) for c in columns], -1) for name in FIELDS})

        yield f"post-trained, {protocol}", partners
    if truth:

        def planted(task: str) -> Draws | None:
            known = truth.get(task, truth.get("", {}))
            if not known:
                return None
            point = np.array([known.get(model, math.nan) for model in scope.ranked])
            none = np.zeros_like(point)
            same = point[None]
            return Draws(point=point, stderr=none, sampling=none, between=none, rows=same, seeds=same, both=same)

        yield PLANTED, planted


def _agreed(
    scope: Scope, task: str, protocol: str, truth: str, draws: Draws, true: Draws, counts: Counts
) -> tuple[RankAgreement, Mapping[Kind, Measures]] | None:
    """None where fewer than two models have both."""
    mine = draws.at(scope.places(scope.ranked))
    both = [i for i in range(len(scope.ranked)) if not math.isnan(mine.point[i]) and not math.isnan(true.point[i])]
    if len(both) < 2:
        return None
    mine, true = mine.at(both), true.at(both)
    found = {
        kind: measures(mine.of(kind), true.of(kind), counts[:, both] if kind in ("models", "all") else None) for kind in KINDS
    }
    whole = agree(mine.point, true.point)
    agreed = RankAgreement(
        task=task,
        protocol=protocol,
        truth=truth,
        models=tuple(scope.ranked[i] for i in both),
        agreement=whole,
        intervals=_intervals(whole, found),
        chance=chance(mine.point, true.point),
    )
    return agreed, found


def _intervals(estimate: Agreement, found: Mapping[Kind, Measures]) -> dict[str, Intervals]:
    scale = {"distance": (0.0, float(estimate.most)), "decision_accuracy": (0.0, 1.0)}
    return {
        name: {
            kind: centred_interval(getattr(each, name), getattr(estimate, name), *scale.get(name, (-1.0, 1.0)))
            for kind, each in found.items()
        }
        for name in MEASURES
    }


def _mean_agreement(
    of: Sequence[tuple[RankAgreement, Mapping[Kind, Measures]]],
) -> tuple[RankAgreement, Mapping[Kind, Measures]]:
    """The mean over tasks of each number, and of each draw of it; tasks where it is undefined are left out."""
    first = of[0][0]
    draws = {
        kind: Measures(**{name: _means([getattr(each[kind], name) for _, each in of]) for name in MEASURES}) for kind in KINDS
    }
    means = {name: _mean(np.array([getattr(one.agreement, name) for one, _ in of])) for name in MEASURES}
    tied, truth_tied = (sum(getattr(one.agreement, name) for one, _ in of) for name in ("tied", "truth_tied"))
    whole = Agreement(models=len(first.models), tied=tied, truth_tied=truth_tied, **means)
    agreed = RankAgreement(
        task=MEAN,
        protocol=first.protocol,
        truth=first.truth,
        models=first.models,
        agreement=whole,
        intervals=_intervals(whole, draws),
        chance=None,
    )
    return agreed, draws


def _means(arrays: Sequence[Floats]) -> Floats:
    """`_mean`, place by place."""
    shape = np.broadcast_shapes(*(each.shape for each in arrays))
    stacked = np.stack([np.broadcast_to(each, shape) for each in arrays])
    known = ~np.isnan(stacked)
    total, count = np.where(known, stacked, 0.0).sum(0), known.sum(0)
    found: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def _gains(taus: _Taus) -> Iterable[Gain]:
    """Each treatment, which a soft prompt is, against each protocol that is none."""
    for (task, truth), by_protocol in taus.items():
        for one, two in combinations(by_protocol, 2):
            if protocol_of(one).is_treatment == protocol_of(two).is_treatment:
                continue
            better, other = (one, two) if protocol_of(one).is_treatment else (two, one)
            (tau, draws), (other_tau, other_draws) = by_protocol[better], by_protocol[other]
            gain = tau - other_tau
            intervals = {kind: centred_interval(draws[kind] - other_draws[kind], gain, -2.0, 2.0) for kind in KINDS}
            yield Gain(task=task, truth=truth, protocol=better, over=other, tau_b=gain, intervals=intervals)


def _between_tasks(scope: Scope, tasks: Sequence[str]) -> Iterable[BetweenTasks]:
    if len(tasks) < 2:
        return
    ranked = scope.places(scope.ranked)
    counts = drawn(len(ranked), scope.resamples, scope.generator)
    by_pair: dict[str, Floats] = {}
    intervals: dict[str, Intervals] = {}
    for protocol in scope.everywhere:
        draws = [scope.draws[task][protocol].at(ranked) for task in tasks]
        by_pair[protocol] = np.array([agree(one.point, other.point).tau_b for one, other in combinations(draws, 2)])
        mean = _mean(by_pair[protocol])
        intervals[protocol] = {
            kind: centred_interval(_between_draws([each.of(kind) for each in draws], counts, kind), mean, -1.0, 1.0)
            for kind in KINDS
        }
    for protocol, found in by_pair.items():
        others = {other: int((found > by_pair[other]).sum()) for other in by_pair if other != protocol}
        yield BetweenTasks(
            protocol=protocol,
            tasks=tuple(tasks),
            models=len(ranked),
            tau_b=_mean(found),
            intervals=intervals[protocol],
            pairs=len(found),
            higher_than=others,
        )


def _between_draws(scores: Sequence[Floats], counts: Counts, kind: Kind) -> Floats:
    """Mean tau-b between tasks under each resample: `[R]`."""
    weights = pair_weights(counts) if kind in ("models", "all") else None
    resamples = max(*(len(each) for each in scores), 1 if weights is None else len(weights))
    signs = pair_signs(np.stack([each[0] for each in scores]))
    found = np.empty(resamples)
    for r in range(resamples):
        if any(len(each) > 1 for each in scores):
            signs = pair_signs(np.stack([each[r if len(each) > 1 else 0] for each in scores]))
        found[r] = mean_tau_b(signs, None if weights is None else weights[r])
    return found


def _mean(values: Floats) -> float:
    """The mean of those that are no NaN; NaN where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _signals(scope: Scope) -> Iterable[TaskSignal]:
    ranked = scope.places(scope.ranked)
    for task, by_protocol in scope.draws.items():
        for protocol, draws in by_protocol.items():
            there = [i for i in ranked if not math.isnan(draws.point[i])]
            if len(there) > 1:
                signal = signal_to_noise(draws.point[there].tolist(), draws.stderr[there].tolist())
                sampling, between = (math.sqrt(_mean(each[there] ** 2)) for each in (draws.sampling, draws.between))
                yield TaskSignal(task=task, protocol=protocol, signal=signal, sampling=sampling, between_seeds=between)
