"""grid.yaml -> GridConfig, strictly: an unknown key, a wrong type, a duplicate is one error that names its place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from spt_fast.config import (
    PREVIOUS,
    PROTOCOLS,
    GridConfig,
    JudgeConfig,
    ModelConfig,
    PriceConfig,
    Protocol,
    SoftPromptConfig,
    StopConfig,
    TaskConfig,
    is_unused,
    with_preset,
    with_start,
)
from spt_fast.config.documents import plain_values, read_text
from spt_fast.config.engines import ENGINE_KEYS, ENGINE_NUMBERS, VLLM_KEYS, read_engine
from spt_fast.config.grid import ACCEPTED, RANK
from spt_fast.config.output import at_home
from spt_fast.config.ranges import SCORE, SEED, in_words, part_of_place, range_of
from spt_fast.config.strict import (
    Mistakes,
    belongs,
    did_you_mean,
    filled,
    hints,
    home,
    is_list,
    key_of,
    known_keys,
    mapping_of,
    missing,
    not_this,
    read,
    scalar,
    value_of,
)
from spt_fast.errors import ConfigError, shortened

T = TypeVar("T")

MOST_CELLS, MOST_PROTOCOLS = 10_000_000, 10_000
"""Of a grid."""

TASK_FILES = (".yaml", ".yml", ".py")
"""How the path of a task file ends."""
SUITE = "suite:"
"""What stands in front of the name, or the file, of a suite of tasks."""
LM_EVAL = "lm-eval:"
"""What stands in front of the name, or the file, of a task of lm-evaluation-harness."""


_PRICE = next(range_of(f) for f in fields(PriceConfig) if f.name == "per_gpu_hour")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the file of a grid says, as far as it can be read."""

    grid: GridConfig | None
    """All of it; None where anything is wrong."""
    wrong: tuple[str, ...]
    """What is, a sentence each."""
    models: Mapping[int, ModelConfig]
    tasks: Mapping[int, TaskConfig]
    """The entries that could be read, by their place in the list."""

    def whole(self) -> GridConfig:
        """The grid.

        Raises:
            ConfigError: all that is wrong with it.
        """
        if self.grid is None:
            raise ConfigError(*self.wrong)
        return self.grid


def load_grid(path: str | os.PathLike[str], *, models: Sequence[Any] = ()) -> GridConfig:
    """Read a grid.

    Args:
        path: the file.
        models: what stands for `models` where the grid has none: checkpoints that somebody else names.

    Raises:
        ConfigError: sentences with the file, the place in it, and the mend.
    """
    return read_grid(path, models=models).whole()


def read_grid(path: str | os.PathLike[str], *, models: Sequence[Any] = ()) -> Reading:
    """What a grid's file says, as far as it can be read: `load_grid` for who wants to look at the rest, too.

    Args:
        path: the file.
        models: as `load_grid` has it.

    Raises:
        ConfigError: nothing of it can be read.
    """
    path = Path(path)
    text = read_text(path, missing=f"no such file; `spt-fast init {path}` writes one to start from")
    try:
        found = _reading(text, path.parent, models)
    except ConfigError as e:
        raise e.within(path) from None
    return replace(found, wrong=tuple(f"{path}: {sentence}" for sentence in found.wrong))


def parse_grid(text: str, *, base: Path = Path(), models: Sequence[Any] = ()) -> GridConfig:
    """Read a grid from YAML text; relative `data_files` and model folders are taken from `base` where they exist there.

    Raises:
        ConfigError: sentences with the place and the mend, without the file.
    """
    return _reading(text, base, models).whole()


def _reading(text: str, base: Path, models: Sequence[Any]) -> Reading:
    grid = mapping_of(plain_values(text), "grid")
    if models and "models" not in grid:
        grid = {**grid, "models": list(models)}
    _not_too_many(grid)
    mistakes, settings = Mistakes(), dict[str, Any]()
    with mistakes.part():
        known_keys(grid, GridConfig, "grid")
    mistakes.add(*(f"{key}: is missing" for key in missing(grid, ("name", "models", "tasks"), map(key_of, fields(GridConfig)))))
    read_models = mistakes.of(_entries(grid, "models", mistakes), lambda i, item: _model(item, f"models[{i}]", base))
    read_tasks = mistakes.of(_entries(grid, "tasks", mistakes), lambda i, item: _task(item, f"tasks[{i}]", base))
    for key, read_key in _SETTINGS.items():
        if _is_given(grid, key):
            with mistakes.part():
                settings[key] = read_key(grid[key], base)
    config, are_whole = None, not mistakes.sentences
    with mistakes.part():
        named = {"name": "grid", **settings}
        config = GridConfig(models=tuple(read_models.values()), tasks=tuple(read_tasks.values()), **named)
        if are_whole:  # else a place in a list is not what it was
            _no_duplicates(config)
    wrong = mistakes.sentences
    return Reading(grid=None if wrong else config, wrong=wrong, models=read_models, tasks=read_tasks)


def _entries(grid: Mapping[str, Any], key: str, mistakes: Mistakes) -> list[Any]:
    """A list of a grid; empty where there is none, which is a mistake."""
    if key in grid:
        with mistakes.part():
            return filled(grid[key], key)
    return []


def _is_given(grid: Mapping[str, Any], key: str) -> bool:
    """Whether a key is there. Null stands for a value that is not given; of a list, and of the name, it is a mistake."""
    return key in grid and (key in ("name", "protocols", "seeds", "engine") or grid[key] is not None)


def _name(item: Any) -> str:
    name = scalar(str, item, "name")
    if not re.fullmatch(r"[\w.+-]+", name) or not name.strip("."):
        raise ConfigError(f"name: {shortened(name)} must be letters, digits, '.', '_', '+' or '-': it names the run folder")
    return name


def _seeds(item: Any) -> tuple[int, ...]:
    mistakes = Mistakes()
    found = mistakes.of(filled(item, "seeds"), lambda i, seed: scalar(int, seed, f"seeds[{i}]", SEED))
    mistakes.tell()
    return tuple(found.values())


def _price(item: Any) -> PriceConfig:
    given = item if isinstance(item, Mapping) else {"per_gpu_hour": scalar(float, item, "price", _PRICE)}
    return read(PriceConfig, given, "price")


def _stop(item: Any, base: Path) -> StopConfig:
    if not isinstance(item, Mapping):
        raise ConfigError(f"stop: must be a mapping, {not_this(item)}; write stop: {_stop_as_mapping(item)}")
    item = dict(item)
    if isinstance(check := item.get("check"), Mapping):
        if set(check) != {"width"}:
            raise ConfigError("stop.check: must be the path of a policy, rank, or {width: 0.02}")
        item = {key: value for key, value in item.items() if key != "check"} | {"width": check["width"]}
    if isinstance(check, str) and check != RANK and did_you_mean(check, [RANK]) and not (base / check).exists():
        raise ConfigError(f"stop.check: {shortened(check)}: no such file{did_you_mean(check, [RANK])}")
    for key, words in (("check", (RANK,)), ("against", (PREVIOUS, ACCEPTED))):
        if isinstance(item.get(key), str) and item[key] not in words:
            item[key] = _from_base(item[key], base)
    if "width" in item and item["width"] is not None:
        item["width"] = _width(item["width"])
    return read(StopConfig, item, "stop")


def _width(value: Any) -> float:
    share = share_of(value, "stop.width", what := "a share between 0 and 1")
    if not 0 < share < 1:
        raise ConfigError(f"stop.width: must be {what}, 2% or 0.02, {not_this(value)}")
    return share


def _stop_as_mapping(item: Any) -> str:
    """How a value is written that stands where `stop` has a mapping."""
    if isinstance(item, str) and (item == RANK or did_you_mean(item, [RANK])):
        return "{check: rank}"
    policy = item if isinstance(item, str) and item.endswith((".yaml", ".yml")) else "POLICY.yaml"
    return f"{{check: {policy}, against: MODEL}}, {{check: rank}} or {{width: 0.02}}"


def share_of(value: Any, place: str, what: str = "a share of the rows") -> float:
    """A share as people write it: 2%, or 0.02. `what` it is called where it is none.

    Raises:
        ConfigError: it is none.
    """
    number = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", value) if isinstance(value, str) else None
    share = float(number[1]) / (100 if number[2] else 1) if number else value
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ConfigError(f"{place}: must be {what}, 2% or 0.02, {not_this(value)}")
    return float(share)


def overridden(protocol: Protocol, overrides: Mapping[str, Any], place: str) -> Protocol:
    """A model's own settings of the soft prompt put over the grid's; other protocols are left as they are."""
    if protocol.attaches != "soft_prompt":
        return protocol
    settings = {key_of(f): getattr(protocol, f.name) for f in fields(protocol)}
    overrides = {key: value for key, value in with_start(overrides).items() if key in settings}
    if not overrides:
        return protocol
    if "steps" in overrides and "evaluate_at" not in overrides:
        settings["evaluate_at"] = _as_far_as(settings["evaluate_at"], overrides["steps"])
    used = _used(type(protocol), {**settings, **overrides})
    return read(type(protocol), {key: value for key, value in {**settings, **overrides}.items() if key in used}, place)


def _as_far_as(points: Any, steps: Any) -> Any:
    """The points of a curve that a training comes to: a shorter one has fewer of them, a longer one ends later."""
    known = isinstance(points, list | tuple) and isinstance(steps, int)
    return [step for step in points if not isinstance(step, int) or step <= steps] if known else points


def _used(cls: type[Protocol], settings: Mapping[str, Any]) -> set[str]:
    """The keys of these settings that mean something beside the others."""
    known = {key_of(f): f for f in fields(cls)}
    left = dict(settings)
    while True:  # what goes with a setting that is left out is left out too
        by_name = {f.name: left.get(key, f.default) for key, f in known.items()}
        used = {key for key in left if key not in known or not is_unused(by_name, known[key])}
        if len(used) == len(left):
            return used
        left = {key: left[key] for key in used}


def _model(item: Any, place: str, base: Path) -> ModelConfig:
    if isinstance(item, str):
        item = {"id": item}
    item = dict(mapping_of(item, place, "a model id or a mapping"))
    _require(item, "id", ModelConfig, place)
    for key in ("id", "post_trained"):
        if isinstance(item.get(key), str):
            item[key] = _from_base(item[key], base)
    return _read_parts(
        ModelConfig,
        item,
        place,
        engine=lambda given: read_engine(given, f"{place}.engine"),
        soft_prompt=lambda given: _own_settings(given, f"{place}.soft_prompt", base),
    )


def _read_parts(cls: type[T], item: dict[str, Any], place: str, **parts: Callable[[Any], Any]) -> T:
    """`read`, with some keys that have a reader of their own."""
    mistakes = Mistakes()
    for key, read_part in parts.items():
        if key in item:
            given = item.pop(key)
            with mistakes.part():
                item[key] = read_part(given)
    with mistakes.part():
        found = read(cls, item, place)
    mistakes.tell()
    return found


def _require(item: Mapping[str, Any], key: str, cls: type[Any], place: str) -> None:
    """Refuse an entry without the key that says what it is."""
    if missing(item, [key], map(key_of, fields(cls))):
        raise ConfigError(f"{place}: {key} is missing")


def _own_settings(item: Any, place: str, base: Path) -> dict[str, Any]:
    """A model's own settings of its soft prompts."""
    overrides, mistakes = _with_preset(item, SoftPromptConfig, place), Mistakes()
    with mistakes.part():
        known_keys(overrides, SoftPromptConfig, place)
    known = set(map(key_of, fields(SoftPromptConfig)))
    mistakes.of(
        [key for key in overrides if key in known], lambda _, key: value_of(SoftPromptConfig, key, overrides[key], place)
    )
    mistakes.tell()
    if isinstance(start := overrides.get("init_from"), str):
        return {**overrides, "init_from": _start_from_base(start, base, (PREVIOUS,))}
    return dict(overrides)


def _task(item: Any, place: str, base: Path) -> TaskConfig:
    if isinstance(item, str):
        item = {"task": item}
    item = dict(mapping_of(item, place, "a task name or a mapping"))
    _require(item, "task", TaskConfig, place)
    if isinstance(item.get("task"), str):
        item["task"] = _task_from_base(item["task"], base)
    if isinstance(item.get("include_path"), str):
        item["include_path"] = _from_base(item["include_path"], base)
    return _read_parts(
        TaskConfig,
        item,
        place,
        data_files=lambda given: _data_files(given, f"{place}.data_files", base),
        allow_left_out=lambda given: share_of(given, f"{place}.allow_left_out"),
    )


def _data_files(item: Any, place: str, base: Path) -> str | dict[str, str] | None:
    if item is None:
        return None
    if isinstance(item, str):
        return _from_base(item, base)
    if not isinstance(item, Mapping):
        raise ConfigError(f"{place}: must be a folder or a mapping of splits to files, {not_this(item)}")
    if not item:
        raise ConfigError(f"{place}: is empty; name a folder, or a file for each split")
    return {scalar(str, split, place): _from_base(scalar(str, file, f"{place}.{split}"), base) for split, file in item.items()}


def _protocols(items: Sequence[Any], base: Path) -> tuple[Protocol, ...]:
    found: dict[Protocol, None] = {}
    mistakes = Mistakes()

    def read_one(i: int, item: Any) -> None:
        for protocol in _protocol(item, f"protocols[{i}]", base):
            if protocol in found:
                raise ConfigError(f"protocols[{i}]: {protocol.name} with these settings appears twice; remove one")
            found[protocol] = None

    mistakes.of(items, read_one)
    mistakes.tell()
    return tuple(found)


def _named(item: Any, place: str) -> tuple[str, Any]:
    """The name and the settings of an entry of `protocols`."""
    if isinstance(item, str):
        return item, {}
    mapping = mapping_of(item, place, "a protocol's name, or {name: settings}")
    if len(mapping) != 1:
        meant = "; indent its settings further than its name" if None in mapping.values() else ""
        raise ConfigError(f"{place}: must have one key, the protocol's name, not {len(mapping)}{meant}")
    (found,) = mapping.items()
    return found


def _protocol(item: Any, place: str, base: Path) -> list[Protocol]:
    """One protocol, or with lists of values for some settings one for each combination of these."""
    name, settings = _named(item, place)
    if name not in PROTOCOLS:
        meant = did_you_mean(name, PROTOCOLS) or belongs(name) or f"; choose from {', '.join(PROTOCOLS)}"
        raise ConfigError(f"{place}: unknown protocol {shortened(name)}{meant}")
    place, cls = f"{place}.{name}", PROTOCOLS[name]
    settings, mistakes = _with_preset(settings or {}, cls, place), Mistakes()
    known = {key_of(f): f for f in fields(cls)}
    for key in sorted((PER_LAYER & settings.keys()) - known.keys()):
        del settings[key]
        mistakes.add(f"{place}.{key}: {NO_PREFIXES.format(key=key)}")
    for key in [key for key in settings if key in known]:
        settings[key] = _as_field(cls, known[key], settings[key], base)
    combinations = _combinations(cls, settings, place)
    if not settings.keys() <= known.keys():  # which is wrong of each of them
        combinations = islice(combinations, 1)
    # A setting that goes with one value of another, as init_text does with init: text, is left out beside the others.
    found = {}
    with mistakes.part():
        found = mistakes.of(combinations, lambda _, combination: read(cls, combination, place))
    mistakes.tell()
    return list(dict.fromkeys(found.values()))


def _as_field(cls: type[Protocol], f: Field[Any], value: Any, base: Path) -> Any:
    """A value, or a list of values, as the field has it: a task or file found from the grid's folder; one text as a list."""
    if f.metadata.get("task"):
        words = f.metadata.get("words", ())
        if isinstance(value, list):
            return [_start_from_base(each, base, words) if isinstance(each, str) else each for each in value]
        return _start_from_base(value, base, words) if isinstance(value, str) else value
    return [value] if isinstance(value, str) and hints(cls)[f.name] == tuple[str, ...] else value


PRESET = "preset"


def _with_preset(item: Any, cls: type[Protocol], place: str) -> dict[str, Any]:
    """Settings, with those that a preset stands for: `soft_prompt: paper`, `soft_prompt: {preset: paper, steps: 120}`.

    What is given beside a preset goes before it.
    """
    if not cls.presets:
        return dict(mapping_of(item, place))
    settings = {PRESET: item} if isinstance(item, str) else dict(mapping_of(item, place, "a mapping, or the name of a preset"))
    name = settings.pop(PRESET, None)
    if name is None:
        return settings
    if not isinstance(name, str) or name not in cls.presets:
        raise ConfigError(f"{place}.{PRESET}: unknown preset {shortened(name)}; choose from {', '.join(cls.presets)}")
    known = {key_of(f) for f in fields(cls)}
    return {key: value for key, value in with_preset(name, settings).items() if key in known or key in settings}


PER_LAYER = frozenset({"depth", "layers", "prefix", "num_layers", "prefix_projection"})
"""What people call the settings of prefix tuning. A package's protocol may have a setting of that name, which is its own."""
NO_PREFIXES = (
    "there are no per-layer prefixes: vLLM takes vectors at the input and nowhere else; leave {key} out, and give the soft "
    "prompt more vectors by length"
)


def _combinations(cls: type[Protocol], settings: Mapping[str, Any], place: str) -> Iterator[dict[str, Any]]:
    """The settings once for each combination of the values of those that are lists; the last one changes fastest."""
    swept = {key: value for key, value in settings.items() if _is_sweep(cls, key, value)}
    for key, values in swept.items():
        _refuse_twice(filled(values, f"{place}.{key}"), f"{place}.{key}", shortened)
    found = []
    for values in product(*swept.values()):
        combination = {**settings, **dict(zip(swept, values, strict=True))}
        if "steps" in swept and "evaluate_at" not in swept and "evaluate_at" in combination:
            combination["evaluate_at"] = _as_far_as(combination["evaluate_at"], combination["steps"])
        found.append(combination)
    # What none of them uses is a mistake, and is left for the protocol itself to refuse.
    used = set().union(*(_used(cls, combination) for combination in found))
    for combination in found:
        yield {key: value for key, value in combination.items() if key not in used or key in _used(cls, combination)}


def _not_too_many(grid: Mapping[str, Any]) -> None:
    """Refuse a grid whose lists multiply beyond what can be done, before anything is built from them."""
    settings = [_of_protocol(item) for item in _list(grid.get("protocols"))] or [
        (each.name, {}) for each in GridConfig.protocols
    ]
    protocols = [prod(len(v) for k, v in own.items() if _sweeps(name, k, v)) for name, own in settings]
    seeds = max(1, len(_list(grid.get("seeds"))))
    asked = sum(n * seeds if _is_seeded(name) else n for (name, _), n in zip(settings, protocols, strict=True))
    models = sum(1 + (isinstance(each, Mapping) and bool(each.get("post_trained"))) for each in _list(grid.get("models")))
    require_few(models * len(_list(grid.get("tasks"))) * asked)
    if sum(protocols) > MOST_PROTOCOLS:
        raise ConfigError(
            f"protocols: their lists of values make {in_words(sum(protocols))} protocols; at most {in_words(MOST_PROTOCOLS)}: "
            "leave values out"
        )


def require_few(cells: int) -> None:
    """Refuse a grid of more cells than can be done.

    Raises:
        ConfigError: it has more.
    """
    if cells > MOST_CELLS:
        raise ConfigError(
            f"this grid has {in_words(cells)} cells; at most {in_words(MOST_CELLS)}: leave models, tasks, seeds or values out"
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _of_protocol(item: Any) -> tuple[str, Mapping[str, Any]]:
    """The name and the settings of a protocol as they are written, whatever they are."""
    name, settings = next(iter(item.items()), ("", None)) if isinstance(item, Mapping) else (str(item), None)
    return name, settings if isinstance(settings, Mapping) else {}


def _is_seeded(name: str) -> bool:
    return name not in PROTOCOLS or PROTOCOLS[name].seeded


def _sweeps(name: str, key: str, value: Any) -> bool:
    cls = PROTOCOLS.get(name)
    return cls is not None and _is_sweep(cls, key, value)


def _is_sweep(cls: type[Protocol], key: str, value: Any) -> bool:
    """Whether a setting is given several values. What is a list by nature (evaluate_at, betas) is, as a list of lists."""
    name = next((f.name for f in fields(cls) if key_of(f) == key), None)
    if name is None or not isinstance(value, list):
        return False
    return not is_list(hints(cls)[name]) or any(isinstance(each, list) for each in value)


def known_scores(item: Any, place: str) -> dict[str, dict[str, float]]:
    """Scores that are known otherwise: {model: value}, or {task: {model: value}}.

    Returns:
        task -> model -> value; the task "" stands for all.

    Raises:
        ConfigError: it is something else.
    """
    values = mapping_of(item, place, "{model: value}, or {task: {model: value}}")
    if not all(isinstance(value, Mapping) for value in values.values()):
        values = {"": values}
    prefix, mistakes = f"{place}." if place else "", Mistakes()
    found: dict[str, dict[str, float]] = {}
    for task, known in values.items():
        at = f"{prefix}{task}{'.' if task else ''}"
        found[str(task)] = {}
        for model, value in known.items():
            with mistakes.part():
                found[str(task)][str(model)] = scalar(float, value, at + part_of_place(str(model)), SCORE)
    mistakes.tell()
    return found


def _judge(item: Any, base: Path) -> JudgeConfig:
    item = dict(mapping_of({"model": item} if isinstance(item, str) else item, "judge", "a model id or a mapping"))
    if isinstance(item.get("model"), str):
        item["model"] = _from_base(item["model"], base)
    return _read_parts(JudgeConfig, item, "judge", engine=lambda given: read_engine(given, "judge.engine"))


def _no_duplicates(config: GridConfig) -> None:
    """Refuse what is there twice, and what does not go together with another part of the grid."""
    mistakes = Mistakes()
    with mistakes.part():
        models = [(m.id, m.revision, m.checkpoints) for m in config.models]
        _refuse_twice(models, "models", lambda m: m[0] + (f" at {m[1]}" if m[1] else ""))
    for i, model in enumerate(config.models):
        if model.post_trained == model.id:
            mistakes.add(f"models[{i}].post_trained: {model.id} is its own post-trained counterpart; name another model")
        if model.soft_prompt:
            for protocol in config.protocols:
                with mistakes.part():
                    overridden(protocol, model.soft_prompt, f"models[{i}].soft_prompt")
    for what, items in (("tasks", [task.task for task in config.tasks]), ("seeds", list(config.seeds))):
        with mistakes.part():
            _refuse_twice(items, what, str)
    mistakes.tell()


def _refuse_twice(items: Sequence[T], what: str, name: Any) -> None:
    mistakes, seen = Mistakes(), set[Any]()
    for i, item in enumerate(items):
        key = repr(item) if isinstance(item, list | dict) else item
        if key in seen:
            mistakes.add(f"{what}[{i}]: {name(item)} appears twice; remove one")
        seen.add(key)
    mistakes.tell()


def _task_from_base(name: str, base: Path) -> str:
    """A task by name, or by the path of its file, behind which may stand another form of the answer (`file.yaml:letter`)."""
    for prefix in (LM_EVAL, SUITE):
        if name.startswith(prefix):
            return prefix + _from_base(name.removeprefix(prefix), base)
    path, colon, form = name.rpartition(":")
    return f"{_from_base(path, base)}:{form}" if colon and path.endswith(TASK_FILES) else _from_base(name, base)


def _start_from_base(name: str, base: Path, words: Collection[str]) -> str:
    """A task, or the file of a soft prompt, unless it is one of some words; what is called as a word is has `./` in front."""
    if name in words:
        return name
    found = _task_from_base(name, base)
    return f"./{found}" if found in words else found


def _from_base(path: str, base: Path) -> str:
    """A relative path means the grid's own folder where it exists there; else it stays as it is (a Hub id, or the cwd)."""
    if path.startswith("~"):
        return str(at_home(path))
    beside = base / path
    try:
        there = bool(path) and not Path(path).is_absolute() and beside.exists()
    except OSError:  # longer than file systems take: what is wrong with it is said where it is used
        there = False
    return str(beside) if there else path


_SETTINGS: Mapping[str, Callable[[Any, Path], Any]] = {
    "name": lambda item, _: _name(item),
    "protocols": lambda item, base: _protocols(filled(item, "protocols"), base),
    "seeds": lambda item, _: _seeds(item),
    "limit": lambda item, _: scalar(int, item, "limit"),
    "engine": lambda item, _: read_engine(item, "engine"),
    "judge": lambda item, base: _judge(item, base),
    "truth": lambda item, _: known_scores(item, "truth"),
    "output": lambda item, _: scalar(str, item, "output"),
    "rerun": lambda item, _: share_of(item, "rerun"),
    "stop": lambda item, base: _stop(item, base),
    "price": lambda item, _: _price(item),
}
"""Key of a grid -> how it is read, in the order in which mistakes are told. Models and tasks are read entry by entry."""

_NAMED_FIRST = ("few_shot", "soft_prompt", "lora", "ensemble", "transfer", "shuffled_labels", "random_vectors", "zero_shot")
"""Our protocols, as one after the other is named where a setting belongs to several."""

# Where a key belongs that somebody writes elsewhere; in this order they are named.
home(GridConfig, of="the grid", where="at its top level: {key}: ...")
home(TaskConfig, of="a task", where="tasks: [{{task: ..., {key}: ...}}]")
for _each in map(PROTOCOLS.__getitem__, _NAMED_FIRST):
    _how = f"protocols: [{{{{{_each.name}: {{{{{{key}}: ...}}}}}}}}]"
    home(_each, of=_each.name, call=f"a setting of {_each.name}", where=_how)
home(ModelConfig, of="a model", where="models: [{{id: ..., {key}: ...}}]")
home(JudgeConfig, of="the judge", where="judge: {{model: ..., {key}: ...}}")
home(StopConfig, of="stop", where="stop: {{check: ..., {key}: ...}}")
home(PriceConfig, of="the price", where="price: {{per_gpu_hour: ..., {key}: ...}}")
home(
    (*ENGINE_KEYS, *ENGINE_NUMBERS, *VLLM_KEYS),
    of="the engine",
    call="a setting of the engine",
    where="engine: {{{key}: ...}}",
)
home(PROTOCOLS.ours, of="protocols", call="a protocol", where="protocols: [{key}]")
home(("address", "dry_run", "fresh", "only"), of="the command", call="an option of the command", where="spt-fast run --{key}")
# The files beside a grid; where their own modules are imported, they tell all their keys.
home(("checks", "largest_drop"), of="a policy", where="in the file of `gate --policy`, {key}: ...")
home(
    ("rows", "columns", "answer_form", "format", "extract", "target", "normalise", "instruction", "item", "stop", "max_tokens"),
    of="a task file",
    where="in a task file, {key}: ...",
)
