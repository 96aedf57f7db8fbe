"""Scores of models, and what they would be with other test rows and other seeds: what a ranking's intervals come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spt_fast.analysis.ranking_types import ALL_TASKS, Kind
from spt_fast.analysis.resampling import Floats, drawn
from spt_fast.analysis.runs import Rows
from spt_fast.analysis.scores import Score
from spt_fast.analysis.variance import score_error
from spt_fast.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Scores of `n` models under one protocol, and what they would be with other rows and seeds."""

    point: Floats
    """`[n]`; NaN: not measured."""
    stderr: Floats
    """`[n]` over rows and seeds."""
    sampling: Floats
    """`[n]` what rows have in it."""
    between: Floats
    """`[n]` standard deviation over seeds."""
    rows: Floats
    """`[R, n]` with other rows; `[1, n]` where no errors are known."""
    seeds: Floats
    """`[R, n]` with other seeds; `[1, n]` where no model has several."""
    both: Floats
    """`[R, n]` with other rows and seeds."""

    def of(self, kind: Kind) -> Floats:
        """The scores to go with what is drawn again."""
        return {"rows": self.rows, "seeds": self.seeds, "models": self.point[None], "all": self.both}[kind]

    def at(self, places: Sequence[int]) -> Draws:
        """Those of some models."""
        return Draws(**{f.name: getattr(self, f.name)[..., list(places)] for f in fields(self)})


def of_rows(
    models: Sequence[str],
    rows: Mapping[tuple[str, str], Rows],
    resamples: int,
    generator: np.random.Generator,
    notes: list[str],
    task: str,
) -> dict[str, Draws]:
    """All models and protocols under the same resamples of rows, because they answered the same."""
    first = next(iter(rows.values()))
    shared = set(first.examples).intersection(*(each.examples for each in rows.values()))
    kept = [example for example in first.examples if example in shared]
    most = max(len(each.examples) for each in rows.values())
    if not kept:
        raise ConfigError(f"{task}: no row is in all of its cells")
    if len(kept) < most:
        notes.append(f"{task}: {len(kept)} of {most} rows are in all cells; the others are left out.")
    clusters = first.of(kept).clusters
    sizes = np.bincount(clusters).astype(np.float64)
    often = drawn(len(sizes), resamples, generator).astype(np.float64)  # [R, G]
    total = often @ sizes
    values = {place: each.of(kept).values for place, each in rows.items()}
    drawn_means = _drawn_means(often, total, clusters, values)
    found: dict[str, Draws] = {}
    for protocol in dict.fromkeys(protocol for _, protocol in rows):
        n = len(models)
        columns = _empty(resamples, n)
        for i, model in enumerate(models):
            mine = values.get((model, protocol))
            if mine is None:
                continue
            by_seed = mine.mean(1)
            seeds = len(mine)
            weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds  # [R, S]
            under = drawn_means[model, protocol]
            error = score_error(mine, clusters)
            columns["point"][:, i], columns["stderr"][:, i] = error.value, error.total
            columns["sampling"][:, i], columns["between"][:, i] = error.sampling, error.between_seeds
            columns["rows"][:, i] = under.mean(1)
            columns["seeds"][:, i] = weights @ by_seed
            columns["both"][:, i] = (under * weights).sum(1)
        if all(len(mine.seeds) < 2 for (_, label), mine in rows.items() if label == protocol):
            columns["seeds"] = columns["point"]
        found[protocol] = _draws(columns)
    return found


def _drawn_means(
    often: Floats, total: Floats, clusters: NDArray[np.int64], values: Mapping[tuple[str, str], Floats]
) -> dict[tuple[str, str], Floats]:
    """The mean of each model under each protocol and seed with other rows: `[R, S]`. One product of matrices for all of them.

    Args:
        often: `[R, G]` how often each cluster is drawn.
        total: `[R]` rows that are drawn.
        clusters: `[N]` the cluster of each row.
        values: (model, protocol) -> `[S, N]`.
    """
    by_cluster = np.stack([np.bincount(clusters, each) for under_seeds in values.values() for each in under_seeds])
    means = (often @ by_cluster.T) / total[:, None]
    ends = np.cumsum([len(under_seeds) for under_seeds in values.values()])
    return dict(zip(values, np.split(means, ends[:-1], axis=1), strict=True))


def of_scores(
    models: Sequence[str], by_model: Mapping[str, Sequence[Score]], sign: float, resamples: int, generator: np.random.Generator
) -> Draws:
    columns = _empty(resamples, len(models))
    for i, model in enumerate(models):
        mine = by_model.get(model, ())
        if not mine:
            continue
        values = sign * np.array([score.value for score in mine])
        seeds = len(values)
        known = [score.stderr for score in mine if not math.isnan(score.stderr)]
        sampling = math.sqrt(sum(error**2 for error in known) / len(known)) if known else 0.0
        noise = sampling * generator.standard_normal(resamples)  # the seeds answer the same rows
        weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
        between = values.var(ddof=1) if seeds > 1 else math.nan
        columns["point"][:, i] = values.mean()
        columns["stderr"][:, i] = math.sqrt(sampling**2 + (between / seeds if seeds > 1 else 0.0)) or math.nan
        columns["sampling"][:, i], columns["between"][:, i] = sampling or math.nan, math.sqrt(between)
        columns["rows"][:, i] = values.mean() + noise
        columns["seeds"][:, i] = weights @ values
        columns["both"][:, i] = weights @ values + noise
    if all(len(mine) < 2 for mine in by_model.values()):
        columns["seeds"] = columns["point"]
    if all(math.isnan(score.stderr) for mine in by_model.values() for score in mine):
        columns["rows"] = columns["point"]
    return _draws(columns)


FIELDS = tuple(f.name for f in fields(Draws))
_ONCE = ("point", "stderr", "sampling", "between")
"""Fields that are not drawn."""


def _empty(resamples: int, models: int) -> dict[str, Floats]:
    return {name: np.full((1 if name in _ONCE else resamples, models), np.nan) for name in FIELDS}


def _draws(columns: Mapping[str, Floats]) -> Draws:
    return Draws(**{name: column[0] if name in _ONCE else column for name, column in columns.items()})


def mean_over_tasks(draws: Sequence[Draws], weights: Sequence[float] | None = None) -> Draws:
    """Of the mean score over tasks, whose rows are drawn independently; weighted alike, where nothing else is said."""
    share = np.ones(len(draws)) if weights is None else np.array(weights, np.float64)
    share = share / share.sum()
    columns = {
        name: np.sum([w * getattr(each, name) for w, each in zip(share, draws, strict=True)], axis=0)
        for name in ("point", "rows", "seeds", "both")
    }
    stderr, sampling = (
        np.sqrt(np.sum([(w * getattr(each, name)) ** 2 for w, each in zip(share, draws, strict=True)], axis=0))
        for name in ("stderr", "sampling")
    )
    return Draws(**columns, stderr=stderr, sampling=sampling, between=np.full_like(stderr, np.nan))


Drawn: TypeAlias = Mapping[str, Mapping[str, Draws]]
"""Task -> protocol -> draws."""


@dataclass(kw_only=True)
class Scope:
    """What an analysis works on."""

    models: tuple[str, ...]
    """All, partners included: the order of `Draws`."""
    partners: Mapping[str, str]
    draws: Drawn
    resamples: int
    generator: np.random.Generator
    signs: Mapping[str, float] = field(default_factory=dict)
    """Task -> what made its scores the higher the better: 1, or -1."""
    notes: list[str] = field(default_factory=list)
    suites: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Suite -> its tasks and their weights."""

    def sign(self, task: str) -> float:
        """What gives a task's scores back as they are. Over all tasks, where they differ, means stay the higher the better."""
        found = {self.signs.get(each, 1.0) for each in ([task] if task in self.signs else self.signs)}
        return found.pop() if len(found) == 1 else 1.0

    @property
    def ranked(self) -> list[str]:
        """Models that are nobody's partner."""
        others = set(self.partners.values())
        return [model for model in self.models if model not in others]

    @property
    def protocols(self) -> list[str]:
        """All labels, in the order of their first task."""
        return list(dict.fromkeys(protocol for by_protocol in self.draws.values() for protocol in by_protocol))

    @property
    def everywhere(self) -> list[str]:
        """Protocols that every task has: a transfer is not asked of the task that it comes from."""
        return [protocol for protocol in self.protocols if all(protocol in each for each in self.draws.values())]

    def places(self, models: Iterable[str]) -> list[int]:
        """Where models stand in `Draws`."""
        return [self.models.index(model) for model in models]


def complete(scope: Scope) -> list[str]:
    """Tasks on which every ranked model has a score under every protocol that all tasks have: these can be put together."""
    ranked = scope.places(scope.ranked)
    found, left_out = [], []
    for task, by_protocol in scope.draws.items():
        short = max((int(np.isnan(by_protocol[protocol].point[ranked]).sum()) for protocol in scope.everywhere), default=0)
        if short:
            left_out.append(f"{task} ({len(ranked) - short} of {len(ranked)} models)")
        else:
            found.append(task)
    if left_out:
        names = ", ".join(left_out)
        scope.notes.append(f"Left out of means over tasks, because scores are missing: {names}.")
    return found


def with_all(scope: Scope, tasks: Sequence[str]) -> dict[str, Mapping[str, Draws]]:
    """Every task, the mean over those that are complete, and that of every suite all of whose tasks are."""
    found = dict(scope.draws)
    for suite, weights in scope.suites.items():
        if weights.keys() <= set(tasks):
            own = {
                p: mean_over_tasks([scope.draws[task][p] for task in weights], [*weights.values()]) for p in scope.everywhere
            }
            found[suite] = own
    if len(tasks) > 1:
        found[ALL_TASKS] = {p: mean_over_tasks([scope.draws[task][p] for task in tasks]) for p in scope.everywhere}
    return found
