"""Two runs, row by row: what moved, by how much, how sure, and which rows flipped. Unlike things are not compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain, product
from typing import NamedTuple

import numpy as np

from spt_fast.analysis.cells import Place
from spt_fast.analysis.paired import PairedDifference, paired_difference
from spt_fast.analysis.resampling import RESAMPLES, Floats
from spt_fast.analysis.runs import Rows, Run, metric_names
from spt_fast.config.protocols import Protocol, kind_of
from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError, shortened
from spt_fast.scoring.metrics import EXACT_MATCH, FORMAT, KNOWLEDGE, spec
from spt_fast.scoring.statistics import holm_adjusted

COMPARED = (EXACT_MATCH, KNOWLEDGE, FORMAT)
"""The metrics that are compared unless others are asked for."""


class Pair(NamedTuple):
    """What is held against what."""

    task: str
    a_model: str
    b_model: str
    a_protocol: str
    b_protocol: str

    @property
    def model(self) -> str:
        """As a person reads it: one name, or both."""
        return _both(self.a_model, self.b_model)

    @property
    def protocol(self) -> str:
        """As a person reads it: one label, or both."""
        return _both(self.a_protocol, self.b_protocol)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of one pair."""

    pair: Pair
    metric: str
    difference: PairedDifference
    p_holm: float = 1.0
    """Two-sided p-value after Holm's correction for all comparisons."""
    gained_rows: int = 0
    """Rows that were wrong and are right, counted under each seed."""
    lost_rows: int = 0
    """Rows that were right and are wrong, counted under each seed."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """What A has and was not compared."""

    pair: Pair
    metric: str
    why: str
    """A sentence."""


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A row that was judged differently."""

    example: str
    gained: bool
    """False: it was right and is wrong."""
    before: str
    """The completion in A. Hostile text."""
    after: str
    """The completion in B. Hostile text."""
    target: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two runs, compared."""

    a: str
    b: str
    alpha: float
    comparisons: tuple[Comparison, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    """Differences of the runs that a reader should know of, in sentences."""

    @property
    def moved(self) -> tuple[Comparison, ...]:
        """Those that differ significantly, after Holm's correction."""
        return tuple(each for each in self.comparisons if each.p_holm <= self.alpha)


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
    post-trained partners; anything else is said with `a_model` and `b_model`. A run may be compared with itself that way.

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
    known = dict.fromkeys([*metric_names(a), *metric_names(b)])
    for metric in metrics:
        if metric not in known:
            raise ConfigError(f"no metric {metric!r}{did_you_mean(metric, known) or '; there are ' + ', '.join(known)}")
    models = _model_pairs(a, b, a_model, b_model)
    protocols = _protocol_pairs(a, b, a_protocol, b_protocol)
    found: list[Comparison] = []
    chosen = (bool(a_model or b_model), bool(a_protocol or b_protocol))
    left = list(_left_behind(a, b, dict(models), dict(protocols), tasks, chosen=chosen))
    skipped = [
        Skipped(pair=pair, metric=metric, why="B's grid does not have it")
        for pair in left
        for metric in metrics
        if _may_have(a, pair, metric)
    ]
    notes = _notes(a, b)
    for pair in _pairs(a, b, models, protocols, tasks):
        why = _unlike(a, b, pair)
        notes += [] if why else [*_settings(a, b, pair), *_dates(a, b, pair)]
        for metric in metrics:
            if why is not None:
                skipped += [Skipped(pair=pair, metric=metric, why=why)] * _may_have(a, pair, metric)
                continue
            one = _compare(a, b, pair, metric, notes, resamples, seed)
            if isinstance(one, Comparison):
                found.append(one)
            elif one is not None:
                skipped.append(one)
    if not found and not skipped:
        raise ConfigError(f"{b.folder}: has no task in common with {a.folder} that matches {', '.join(tasks)}")
    return _corrected(a, b, found, skipped, notes, alpha)


def compare_protocols(run: Run, *, metrics: Sequence[str] = COMPARED, alpha: float = 0.05) -> Compared:
    """What asking otherwise moves: few-shot against zero-shot, and each soft prompt against both, on the same rows.

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
    return _corrected(run, run, found, skipped, notes, alpha)


def _plainer_first(labels: Iterable[str]) -> list[list[str]]:
    """The model by itself, other prompts, then what the study is about; each is held against those in front of it."""
    found: list[list[str]] = [[], [], []]
    for label in labels:
        kind = kind_of(label)
        if kind.is_baseline:
            found[0].append(label)
        elif kind.is_treatment:
            found[2].append(label)
        elif kind.attaches == "nothing" and not kind.is_control and kind.name != Protocol.name:
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
    known = spec(comparison.metric)
    if not known.columns:
        return []
    pair = comparison.pair
    seeds_a, seeds_b = a.seeds(pair.a_model, pair.task, pair.a_protocol), b.seeds(pair.b_model, pair.task, pair.b_protocol)
    shared = [seed for seed in seeds_a if seed in seeds_b]
    places = (
        Place(pair.a_model, pair.task, pair.a_protocol, (shared or seeds_a)[0]),
        Place(pair.b_model, pair.task, pair.b_protocol, (shared or seeds_b)[0]),
    )
    before, after = (
        {row["example"]: row for row in run.answers(place, [*known.columns, "completion", "target"])}
        for run, place in zip((a, b), places, strict=True)
    )
    found = [
        Flip(
            example=example,
            gained=bool(known.of_row(after[example])),
            before=row["completion"],
            after=after[example]["completion"],
            target=row["target"],
        )
        for example, row in before.items()
        if example in after and known.of_row(row) != known.of_row(after[example])
    ]
    return sorted(found, key=lambda flip: (flip.gained, flip.example))[:most]


# What is held against what


def _model_pairs(a: Run, b: Run, a_model: str | None, b_model: str | None) -> list[tuple[str, str]]:
    for run, name in ((a, a_model), (b, b_model)):
        if name is not None and name not in run.models:
            close = did_you_mean(name, run.models) or f"; there are {', '.join(run.models)}"
            raise ConfigError(f"{run.folder}: has no model {name!r}{close}")
    if a_model is not None or b_model is not None:
        first = a_model or (b_model if b_model in a.models else _only_base(a, "--a-model"))
        second = b_model or (first if first in b.models else _only_base(b, "--b-model"))
        return [(str(first), str(second))]
    shared = [model for model in a.models if model in b.models]
    if shared:
        return [(model, model) for model in shared]
    first, second = _only_base(a, "--a-model"), _only_base(b, "--b-model")
    partners = [(a.partners[first], b.partners[second])] if first in a.partners and second in b.partners else []
    return [(first, second), *partners]


def _only_base(run: Run, option: str) -> str:
    if len(run.bases) != 1:
        raise ConfigError(
            f"{run.folder}: has {len(run.bases)} base models, and none by the name of the other run's; name one with {option}"
        )
    return run.bases[0]


def _protocol_pairs(a: Run, b: Run, a_protocol: str | None, b_protocol: str | None) -> list[tuple[str, str]]:
    first, second = ([*dict.fromkeys(place.protocol for place in (*run.done, *run.missing))] for run in (a, b))
    for run, labels, label in ((a, first, a_protocol), (b, second, b_protocol)):
        if label is not None and label not in labels:
            raise ConfigError(f"{run.folder}: has no protocol {label!r}; there are {', '.join(labels)}")
    if a_protocol is not None or b_protocol is not None:
        one, other = a_protocol or b_protocol, b_protocol or a_protocol
        for run, labels, label in ((a, first, one), (b, second, other)):
            if label not in labels:
                raise ConfigError(f"{run.folder}: has no protocol {label!r}; there are {', '.join(labels)}")
        return [(str(one), str(other))]
    return [(label, label) for label in first if label in second]


def _pairs(
    a: Run, b: Run, models: Sequence[tuple[str, str]], protocols: Sequence[tuple[str, str]], tasks: Sequence[str]
) -> Iterator[Pair]:
    """What both grids ask for, done or not; in A's order."""
    mine, theirs = ({place[:3] for place in (*run.done, *run.missing)} for run in (a, b))
    for a_model, b_model in models:
        for task in _tasks(a, tasks):
            for a_protocol, b_protocol in protocols:
                if (a_model, task, a_protocol) in mine and (b_model, task, b_protocol) in theirs:
                    yield Pair(task, a_model, b_model, a_protocol, b_protocol)


def _left_behind(
    a: Run, b: Run, models: Mapping[str, str], protocols: Mapping[str, str], tasks: Sequence[str], *, chosen: tuple[bool, bool]
) -> Iterator[Pair]:
    """What A's grid has and B's has not.

    Args:
        a: the run before.
        b: the run after.
        models: A's -> B's, of those that are compared.
        protocols: A's -> B's.
        tasks: patterns.
        chosen: whether models, and whether protocols, were chosen: then the others are not missed.
    """
    there = {place[:3] for place in (*b.done, *b.missing)}
    for model, task, label in dict.fromkeys(place[:3] for place in (*a.done, *a.missing)):
        left_out = (chosen[0] and model not in models) or (chosen[1] and label not in protocols)
        pair = Pair(task, model, models.get(model, model), label, protocols.get(label, label))
        if not left_out and _matches(task, tasks) and (pair.b_model, task, pair.b_protocol) not in there:
            yield pair


def _may_have(a: Run, pair: Pair, metric: str) -> bool:
    """Whether A's cell has a metric: an `f1` that a task never had is not missed. True where it is not done."""
    seeds = a.seeds(pair.a_model, pair.task, pair.a_protocol)
    if not seeds:
        return True
    return metric in a.scores(Place(pair.a_model, pair.task, pair.a_protocol, seeds[0])).values


def _unlike(a: Run, b: Run, pair: Pair) -> str | None:
    """Why two cells are not the same question asked twice; None: they are."""
    first, second = a.task(pair.task), b.task(pair.task)
    if first.get("version") != second.get("version"):
        versions = f"{first.get('version')} in A and {second.get('version')} in B"
        return f"the task is of version {versions}: its prompts or its scoring differ"
    missing = [
        which
        for which, run, model, label in (("A", a, pair.a_model, pair.a_protocol), ("B", b, pair.b_model, pair.b_protocol))
        if not run.seeds(model, pair.task, label)
    ]
    if missing:
        return f"it is not done in {' and '.join(missing)}"
    if a.folder == b.folder and (pair.a_model, pair.a_protocol) == (pair.b_model, pair.b_protocol):
        return "it is the same cell; name two models or two protocols of the run"
    return _asked_differently(a, b, pair)


def _asked_differently(a: Run, b: Run, pair: Pair) -> str | None:
    """Base models read the very prompt, but for worked examples; a chat template may write another around it."""
    if any(_other_prompt(label) for label in (pair.a_protocol, pair.b_protocol)):
        return None
    if any(run.model(model).get("chat_template") != "never" for run, model in ((a, pair.a_model), (b, pair.b_model))):
        return None
    first, second = (
        {
            row["example"]: row["prompt"]
            for row in run.answers(Place(model, pair.task, label, run.seeds(model, pair.task, label)[0]), ["prompt"])
        }
        for run, model, label in ((a, pair.a_model, pair.a_protocol), (b, pair.b_model, pair.b_protocol))
    )
    shared = first.keys() & second.keys()
    differ = sum(first[example] != second[example] for example in shared)
    return f"the prompts of {differ} of {len(shared)} shared rows differ: the template was changed" if differ else None


def _other_prompt(label: str) -> bool:
    """Whether a protocol puts something of its own into the prompt, as worked examples are."""
    return kind_of(label).attaches == "nothing" and not kind_of(label).is_baseline


def _dates(a: Run, b: Run, pair: Pair) -> list[str]:
    """A note where the chat templates of two models write the date, and not the same."""
    if all(run.model(model).get("chat_template", "never") == "never" for run, model in ((a, pair.a_model), (b, pair.b_model))):
        return []
    first, second = (
        run.store.result(run.done[Place(model, pair.task, label, run.seeds(model, pair.task, label)[0])]).provenance
        for run, model, label in ((a, pair.a_model, pair.a_protocol), (b, pair.b_model, pair.b_protocol))
    )
    before, after = first.get("chat_date"), second.get("chat_date")
    if before == after:
        return []
    return [f"{pair.model}: the date in its prompts (chat_date) is {before or 'not fixed'} in A, {after or 'not fixed'} in B."]


def _compare(
    a: Run, b: Run, pair: Pair, metric: str, notes: list[str], resamples: int, seed: int
) -> Comparison | Skipped | None:
    """None: the task does not have the metric."""
    if spec(metric).judged and _judge(a, pair.a_model, pair.task, pair.a_protocol) != _judge(
        b, pair.b_model, pair.task, pair.b_protocol
    ):
        return Skipped(pair=pair, metric=metric, why=f"{metric} is not by the same judge, or the same rules, in A and in B")
    first = a.rows(pair.a_model, pair.task, pair.a_protocol, metric)
    second = b.rows(pair.b_model, pair.task, pair.b_protocol, metric)
    if first is None:
        return None
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
        notes.append("Where there is one seed, what another would give is not in the interval.")
    difference = paired_difference(before, after, first.of(shared).clusters, resamples=resamples, seed=seed)
    return Comparison(
        pair=pair,
        metric=metric,
        difference=difference,
        gained_rows=int((after > before).sum()),
        lost_rows=int((after < before).sum()),
    )


def _judge(run: Run, model: str, task: str, protocol: str) -> tuple[str, ...] | None:
    """Who ruled on the cells: weights and prompts of a judge; None: the task's rules."""
    keys = (key for place, key in run.done.items() if place[:3] == (model, task, protocol))
    if not any(run.grid["cells"][key].get("rests_on") for key in keys):
        return None
    judge = run.grid["judge"] or {}
    return tuple(str(judge.get(name)) for name in ("fingerprint", "prompts", "chat_template_kwargs"))


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
        f"{pair.task}, {pair.protocol}: no seed is in both runs, so means over seeds are compared, and what seeds do is not in "
        "the interval."
    )
    return first.values.mean(0, keepdims=True), second.values.mean(0, keepdims=True)


def _notes(a: Run, b: Run) -> list[str]:
    found = []
    for run, which in ((a, "A"), (b, "B")):
        if run.missing:
            found.append(f"{which}: {len(run.missing)} of {len(run.done) + len(run.missing)} cells are not done.")
    for task in _tasks(a, ("*",)):
        first, second = a.task(task), b.task(task)
        if second and first.get("content") != second.get("content") and first.get("version") == second.get("version"):
            found.append(f"{task}: its rows come from {first['content']} in A, and from {second['content']} in B.")
    for what in ("engine", "judge", "spt_fast"):
        found += _differences(what, a.grid.get(what), b.grid.get(what))
    return found


def _settings(a: Run, b: Run, pair: Pair) -> list[str]:
    """What two cells were done with that is not the same, but for what they were chosen to differ in: in sentences."""
    first, second = (
        run.store.result(run.done[Place(model, pair.task, label, run.seeds(model, pair.task, label)[0])]).content
        for run, model, label in ((a, pair.a_model, pair.a_protocol), (b, pair.b_model, pair.b_protocol))
    )
    one, other = ({**content.get("model", {})} for content in (first, second))
    weights = one.pop("fingerprint", None), other.pop("fingerprint", None)
    found = []
    if weights[0] != weights[1] and pair.a_model == pair.b_model:
        found.append(f"{pair.a_model}: its weights are {weights[0]} in A, {weights[1]} in B.")
    found += _differences(pair.model, one, other)
    one, other = ({**content.get("protocol", {})} for content in (first, second))
    if one.get("name") == other.get("name"):
        found += _differences(pair.protocol, one, other)
    found += _differences("engine", first.get("engine"), second.get("engine"))
    return found + _differences(pair.task, *({"limit": content.get("task", {}).get("limit")} for content in (first, second)))


def _differences(what: str, a: object, b: object) -> list[str]:
    """Each setting that differs, in a sentence: "engine: batch_size is 2 in A, 4 in B."."""
    first, second = _leaves(a), _leaves(b)
    differ = [name for name in dict.fromkeys([*first, *second]) if first.get(name, _UNSET) != second.get(name, _UNSET)]
    return [
        f"{what}: {f'{name} is ' if name else ''}{first.get(name, _UNSET)} in A, {second.get(name, _UNSET)} in B."
        for name in differ
    ]


_UNSET = "not set"


def _leaves(value: object, place: str = "") -> dict[str, str]:
    """Settings by their place, `hf_overrides.rope_theta`, each as a person reads it."""
    if isinstance(value, Mapping):
        inner = ((f"{place}.{key}" if place else str(key), each) for key, each in value.items())
        return {name: leaf for at, each in inner for name, leaf in _leaves(each, at).items()}
    return {place: "none" if value is None else value if isinstance(value, str) else shortened(value)}


def _tasks(run: Run, patterns: Sequence[str]) -> list[str]:
    return [task for task in dict.fromkeys(place.task for place in (*run.done, *run.missing)) if _matches(task, patterns)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first} -> {second}"
