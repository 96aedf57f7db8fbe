"""Whether two cells are the same question asked twice, and what else differs between two runs, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spt_fast.analysis.cells import Place
from spt_fast.analysis.compare_types import Comparison, Pair
from spt_fast.analysis.pairs import task_names
from spt_fast.analysis.runs import Run
from spt_fast.config.protocols import protocol_of
from spt_fast.errors import shortened


def unlike(a: Run, b: Run, pair: Pair) -> str | None:
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
        return "it is the same cell; name another with --b-model or --b-protocol"
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
    return protocol_of(label).attaches == "nothing" and not protocol_of(label).is_baseline


def dates(a: Run, b: Run, pair: Pair) -> list[str]:
    """A note where the chat templates of two models write the date, and not the same."""
    if all(run.model(model).get("chat_template", "never") == "never" for run, model in ((a, pair.a_model), (b, pair.b_model))):
        return []
    first, second = (
        run.told(Place(model, pair.task, label, run.seeds(model, pair.task, label)[0])).provenance
        for run, model, label in ((a, pair.a_model, pair.a_protocol), (b, pair.b_model, pair.b_protocol))
    )
    before, after = first.get("chat_date"), second.get("chat_date")
    if before == after:
        return []
    return [f"{pair.model}: the date in its prompts (chat_date) is {before or 'not fixed'} in A, {after or 'not fixed'} in B."]


def methods(a: Run, b: Run, pair: Pair) -> tuple[str, str] | None:
    """The scoring methods that `knowledge_best` is by in A and in B; None where there is no choice, as of open-ended tasks."""
    first, second = _told(a, b, pair, "knowledge_best")
    return (first.replace("_", " "), second.replace("_", " ")) if first and second else None


def of_methods(comparisons: Iterable[Comparison]) -> list[str]:
    """Two runs: where A and B chose other scoring methods."""
    places: dict[tuple[str, str], list[str]] = {}
    for each in comparisons:
        if each.methods is not None and each.methods[0] != each.methods[1]:
            places.setdefault(each.methods, []).append(" \u00b7 ".join((each.pair.model, each.pair.task, each.pair.protocol)))
    found = []
    for (first, second), where in places.items():
        more = f" and {len(where) - _NAMED} more" if len(where) > _NAMED else ""
        found.append(f"knowledge_best is by {first} in A, by {second} in B: {', '.join(where[:_NAMED])}{more}. {_CAUTION}")
    return found


def of_methods_within(comparisons: Sequence[Comparison]) -> list[str]:
    """Protocols of one run: in how many comparisons the two chose other scoring methods."""
    chosen = [each.methods for each in comparisons if each.methods is not None]
    other = sum(first != second for first, second in chosen)
    if not other:
        return []
    return [
        f"In {other} of {len(chosen)} comparisons of knowledge_best the two protocols go by other scoring methods. {_CAUTION}"
    ]


_CAUTION = "Part of the change may be the method's; the metric knowledge goes by one method in both."
_NAMED = 3
"""Comparisons that a note names."""


def abilities(a: Run, b: Run, pair: Pair) -> list[str]:
    """A note where the models can do other scoring methods: by the listed options, by cloze, by both, by neither."""
    first, second = _told(a, b, pair, "knowledge_by")
    if not first or not second or first == second:
        return []
    place = " \u00b7 ".join((pair.model, pair.task, pair.protocol))
    return [f"{place}: the scoring methods by which knowledge shows (knowledge_by) are {first} in A, {second} in B."]


def _told(a: Run, b: Run, pair: Pair, name: str) -> tuple[str, str]:
    """What two cells' provenance says; of several seeds all that there is, "" where nothing is."""
    sides = ((a, pair.a_model, pair.a_protocol), (b, pair.b_model, pair.b_protocol))
    first, second = (
        " / ".join(
            dict.fromkeys(
                said
                for seed in run.seeds(model, pair.task, label)
                if (said := run.told(Place(model, pair.task, label, seed)).provenance.get(name))
            )
        )
        for run, model, label in sides
    )
    return first, second


def judge_of(run: Run, model: str, task: str, protocol: str) -> tuple[str, ...] | None:
    """Who ruled on the cells: weights and prompts of a judge; None: the task's rules."""
    keys = (key for place, key in run.done.items() if place[:3] == (model, task, protocol))
    if not any(run.grid["cells"][key].get("rests_on") for key in keys):
        return None
    judge = run.grid["judge"] or {}
    return tuple(str(judge.get(name)) for name in ("fingerprint", "prompts", "chat_template_kwargs"))


def of_grids(a: Run, b: Run) -> list[str]:
    """What two runs differ in as a whole: cells that are missing, rows, the engine, the judge, the version."""
    found = []
    for run, which in ((a, "A"), (b, "B")):
        if run.missing:
            found.append(f"{which}: {len(run.missing)} of {len(run.done) + len(run.missing)} cells are not done.")
    for task in task_names(a):
        first, second = a.task(task), b.task(task)
        if second and first.get("content") != second.get("content") and first.get("version") == second.get("version"):
            found.append(f"{task}: its rows come from {first['content']} in A, and from {second['content']} in B.")
    for what in ("engine", "judge", "spt_fast"):
        found += _differences(what, a.grid.get(what), b.grid.get(what))
    return found


def settings(a: Run, b: Run, pair: Pair) -> list[str]:
    """What two cells were done with that is not the same, but for what they were chosen to differ in: in sentences."""
    first, second = (
        run.told(Place(model, pair.task, label, run.seeds(model, pair.task, label)[0])).content
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
