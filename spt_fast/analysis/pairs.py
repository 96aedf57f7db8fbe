"""Which cells of two runs are held against each other: models, protocols and tasks in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from spt_fast.analysis.cells import Place
from spt_fast.analysis.compare_types import Pair
from spt_fast.analysis.runs import Run
from spt_fast.config.strict import did_you_mean
from spt_fast.errors import ConfigError


def of_models(a: Run, b: Run, a_model: str | None, b_model: str | None) -> list[tuple[str, str]]:
    """Models of A and of B, as `compare_runs` pairs them.

    Raises:
        ConfigError: a model that is not there, or none that can be paired.
    """
    for run, name in ((a, a_model), (b, b_model)):
        if name is not None and name not in run.models:
            close = did_you_mean(name, run.models) or f"; choose from {', '.join(run.models)}"
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


def of_protocols(a: Run, b: Run, a_protocol: str | None, b_protocol: str | None) -> list[tuple[str, str]]:
    """Labels of A and of B: the same ones, or the two that are named.

    Raises:
        ConfigError: a protocol that is not there.
    """
    first, second = ([*dict.fromkeys(place.protocol for place in (*run.done, *run.missing))] for run in (a, b))
    for run, labels, label in ((a, first, a_protocol), (b, second, b_protocol)):
        if label is not None and label not in labels:
            raise ConfigError(f"{run.folder}: has no protocol {label!r}; choose from {', '.join(labels)}")
    if a_protocol is not None or b_protocol is not None:
        one, other = a_protocol or b_protocol, b_protocol or a_protocol
        for run, labels, label in ((a, first, one), (b, second, other)):
            if label not in labels:
                raise ConfigError(f"{run.folder}: has no protocol {label!r}; choose from {', '.join(labels)}")
        return [(str(one), str(other))]
    return [(label, label) for label in first if label in second]


def of_both(
    a: Run, b: Run, models: Sequence[tuple[str, str]], protocols: Sequence[tuple[str, str]], tasks: Sequence[str]
) -> Iterator[Pair]:
    """What both grids ask for, done or not; in A's order."""
    mine, theirs = ({place[:3] for place in (*run.done, *run.missing)} for run in (a, b))
    for a_model, b_model in models:
        for task in task_names(a, tasks):
            for a_protocol, b_protocol in protocols:
                if (a_model, task, a_protocol) in mine and (b_model, task, b_protocol) in theirs:
                    yield Pair(task, a_model, b_model, a_protocol, b_protocol)


def left_behind(
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


def may_have(a: Run, pair: Pair, metric: str) -> bool:
    """Whether A's cell has a metric: an `f1` that a task never had is not missed. True where it is not done."""
    seeds = a.seeds(pair.a_model, pair.task, pair.a_protocol)
    if not seeds:
        return True
    return metric in a.scores(Place(pair.a_model, pair.task, pair.a_protocol, seeds[0])).values


def task_names(run: Run, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Those of a run, done or not, that match, in the grid's order."""
    return [task for task in dict.fromkeys(place.task for place in (*run.done, *run.missing)) if _matches(task, patterns)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
