"""Grid -> cells: every model x task x protocol x seed, each with what its key is the hash of."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from spt_fast import tasks
from spt_fast.config import PREVIOUS, FewShot, GridConfig, ModelConfig, Protocol, TaskConfig, Transfer
from spt_fast.config.reader import overridden, require_few
from spt_fast.config.strict import Mistakes, did_you_mean
from spt_fast.errors import ConfigError, DataError, StoreError
from spt_fast.models.identity import Model, of_series, resolve
from spt_fast.plan.cell import Cell, Judge, TaskRows
from spt_fast.plan.labels import labels
from spt_fast.prompts.soft_prompt import SoftPrompt, is_prompt_file
from spt_fast.scoring.judge_prompts import RULES
from spt_fast.scoring.metrics import registered
from spt_fast.tasks.base import typical
from spt_fast.tasks.forms import written
from spt_fast.tasks.rows import content_hash, is_cut

T = TypeVar("T")

MOST_REASONS = 3
"""Models of which a refusal says what is wrong with them."""


def expand(config: GridConfig) -> list[Cell]:
    """The cells of a grid, model by model.

    Raises:
        ConfigError: a model or task that is not there.
    """
    return cells_of(config, _models)


def cells_of(config: GridConfig, models_of: Callable[[GridConfig], Sequence[Model]]) -> list[Cell]:
    """The cells of a grid with whatever models somebody makes of its entries.

    Raises:
        ConfigError: a model or task that is not there.
    """
    tasks.read_files_again()
    registered()  # a metric of a package that cannot be used is no matter of a cell
    mistakes = Mistakes()
    rows: list[TaskRows] = []
    models: Sequence[Model] = ()
    with mistakes.part():
        rows = _all_rows(config)
    with mistakes.part():
        models = models_of(config)
    mistakes.tell()
    places = {id(asked): f"protocols[{i}]" for i, asked in enumerate(config.protocols)}
    protocols = _spread(config.protocols, rows)
    sources = mistakes.of(protocols, lambda _, each: _source(each[1], rows, f"{places[id(each[0])]}.{each[1].name}.from"))
    with mistakes.part():
        _check_truth(config, models, rows)
    with mistakes.part():
        judge = _judge(config)
    mistakes.tell()
    starts: dict[Protocol, tuple[TaskRows | None, str]] = {}
    require_few(len(models) * len(rows) * sum(len(config.seeds) if protocol.seeded else 1 for _, protocol in protocols))
    called = labels([protocol for _, protocol in protocols])
    cells = []
    for model in models:
        engine = {**config.engine, **model.engine}
        for task in rows:
            # Closed-ended answers need no judge: the form is one of the options, knowledge is a likelihood.
            ruling = None if task.task.closed_ended else judge
            for i, (label, (asked, protocol)) in enumerate(zip(called, protocols, strict=True)):
                source = sources[i]
                if source is not None and source.name == task.name:
                    continue  # a transfer to itself is the soft prompt
                if source is not None and protocol is not asked and form_of(source) != form_of(task):
                    continue
                own = overridden(protocol, model.soft_prompt, f"{model.name}: soft_prompt")
                if task.shots is not None and isinstance(own, FewShot):
                    own = replace(own, shots=task.shots)
                if own not in starts:
                    _require_series(own, config, places[id(asked)])
                    starts[own] = _start(own, rows, f"{places[id(asked)]}.{own.name}")
                learnt_on = source or (task.learnt_with if own.learns else None)
                starts_on, starts_with = starts[own]
                if starts_on is not None and starts_on.name == (source or task).name:
                    continue  # from where it goes to, it would be the soft prompt of twice as many steps
                cells += [
                    Cell(
                        model=model,
                        task=_as_asked(task, own, places[id(asked)]),
                        protocol=own,
                        seed=seed,
                        label=label,
                        engine=engine,
                        learnt_on=None if learnt_on is None else _as_asked(learnt_on, own, places[id(asked)]),
                        judge=ruling,
                        starts_on=starts_on,
                        starts_with=starts_with,
                    )
                    for seed in (config.seeds if protocol.seeded else (None,))
                ]
    if not cells:
        raise ConfigError(
            "protocols: a transfer or a start needs another task than its own, and the grid has one task; "
            "add a task, or another protocol"
        )
    return cells


def as_series(cells: Sequence[Cell], series: str) -> list[Cell]:
    """The cells with their models as some of a series; nothing of that is part of a key."""
    models = {id(cell.model): cell.model for cell in cells}
    named = {key: of_series(model, series) for key, model in models.items()}
    return [replace(cell, model=named[id(cell.model)]) for cell in cells]


def select(cells: Sequence[Cell], only: Mapping[str, str]) -> list[Cell]:
    """The cells whose model, task, protocol or seed match the patterns of `--only`.

    Raises:
        ConfigError: a key that cells do not have, or a pattern that nothing matches.
    """
    kept = list(cells)
    for key, pattern in only.items():
        if key not in ("model", "task", "protocol", "seed"):
            raise ConfigError(f"--only: unknown key {key!r}; choose from model, task, protocol, seed")
        names = {id(cell): _named(cell, key) for cell in kept}
        matching = [cell for cell in kept if fnmatch.fnmatchcase(names[id(cell)], pattern)]
        if not matching:
            there = ", ".join(sorted(set(names.values())))
            raise ConfigError(f"--only: no {key} matches {pattern!r}; choose from {there}")
        kept = matching
    return kept


def require_usable(cells: Sequence[Cell]) -> None:
    """Refuse a grid none of whose cells can be done, because their models are not there or broken.

    What the Hub does not give only because there is no way to it now is not known to be wrong.

    Raises:
        ConfigError: what is wrong with each model.
    """
    used = {id(model): model for cell in cells for model in (cell.model, cell.judge and cell.judge.model) if model}
    bad = {key for key, model in used.items() if model.broken}
    if not all(id(cell.model) in bad or (cell.judge and id(cell.judge.model) in bad) for cell in cells):
        return
    reasons = list(dict.fromkeys(used[key].unresolved or "" for key in used if key in bad))
    more = f"; and {len(reasons) - MOST_REASONS} more (`spt-fast check` names them all)" if len(reasons) > MOST_REASONS else ""
    raise ConfigError("; ".join(reasons[:MOST_REASONS]) + more)


def wrong_entries(models: Mapping[int, ModelConfig], entries: Mapping[int, TaskConfig]) -> tuple[str, ...]:
    """What is wrong with entries of a grid that cannot be expanded, a sentence each: models, tasks, files that are not there.

    Args:
        models: by place in the grid's list.
        entries: of tasks, by place.
    """
    mistakes = Mistakes()
    for i, model in models.items():
        with suppress(DataError), mistakes.part(f"models[{i}]"):
            mistakes.add(*(each.unresolved or "" for each in resolve(model) if each.broken))
    for i, entry in entries.items():
        with suppress(DataError), mistakes.part(f"tasks[{i}]"):
            for one in tasks.entries(entry):
                content_hash(tasks.get(one.task), one.data_files)
    return mistakes.sentences


def _models(config: GridConfig) -> list[Model]:
    found: dict[str, Model] = {}
    entries_of = Counter(entry.id for entry in config.models)

    def add(entry: ModelConfig) -> None:
        for model in resolve(entry, by_revision=entries_of[entry.id] > 1):
            seen = found.get(model.name)
            if seen is None:
                found[model.name] = model
            elif seen.source != model.source or seen.revision != model.revision:
                raise ConfigError(
                    f"{model.name} is the name of two models ({seen.source}, {model.source}); "
                    "tables could not tell them apart: rename a folder, or use two grids"
                )
            else:  # a partner that is listed itself: keep the entry, and remember whose partner it is
                found[model.name] = replace(
                    seen,
                    partner_of=seen.partner_of or model.partner_of,
                    post_trained=seen.post_trained or model.post_trained,
                )

    _each_entry("models", config.models, add)
    return list(found.values())


def _each_entry(key: str, entries: Sequence[T], do: Callable[[T], None]) -> None:
    """Do something with each entry of a list of the grid.

    Raises:
        ConfigError: what is wrong with each, its place in front.
    """
    mistakes = Mistakes()
    for i, entry in enumerate(entries):
        with mistakes.part(f"{key}[{i}]"):
            do(entry)
    mistakes.tell()


def _all_rows(config: GridConfig) -> list[TaskRows]:
    """The tasks of a grid; a group of lm-eval's stands for its tasks."""
    found: dict[str, TaskRows] = {}

    def add(entry: TaskConfig) -> None:
        each = tasks.entries(entry)
        together = _together(entry, config)
        for one in each:
            rows = replace(_rows(one, config), learnt_with=together)
            if (other := found.setdefault(rows.name, rows)) is not rows and not (len(each) > 1 and other == rows):
                raise ConfigError(f"{rows.name} is the name of two tasks; rename one")

    _each_entry("tasks", config.tasks, add)
    return list(found.values())


def _together(entry: TaskConfig, config: GridConfig) -> TaskRows | None:
    """The rows of all tasks of a group, where what is learnt is learnt from them together."""
    ref = tasks.learnt_together(entry)
    if ref is None:
        return None
    return replace(_rows(replace(entry, task=ref, include_path=None, unsafe_code=False), config), limit=None)


def _rows(entry: TaskConfig, config: GridConfig) -> TaskRows:
    # What nobody learns from needs no cut. All cells of a grid have the same test rows.
    task = tasks.get(entry.task)
    # A library draws shots itself, from whatever rows are not learnt from.
    if task.library is None:
        learns = any(protocol.takes_other_rows for protocol in config.protocols)
    else:
        learns = any(protocol.attaches != "nothing" for protocol in config.protocols)
    content = content_hash(task, entry.data_files)
    return TaskRows(
        ref=entry.task,
        name=task.name,
        version=task.version,
        content=content,
        limit=entry.limit if entry.limit is not None else config.limit,
        data_files=entry.data_files,
        cut=learns or not is_cut(task, entry.data_files),
        shots=entry.shots,
        allow_left_out=entry.allow_left_out,
    )


def _spread(protocols: Sequence[Protocol], rows: Sequence[TaskRows]) -> list[tuple[Protocol, Protocol]]:
    """Each protocol of the grid with what it stands for: a transfer from `all` is one from each of its tasks."""
    found: list[tuple[Protocol, Protocol]] = []
    named: set[Protocol] = set()
    for asked in protocols:
        if asked.source == Transfer.ALL:
            forms = Counter(form_of(task) for task in rows)
            each = [asked.on(task.ref or task.name) for task in rows if forms[form_of(task)] > 1]
            named = named or set(protocols)
            if not each:
                place = f"protocols[{protocols.index(asked)}].{asked.name}.from"
                raise ConfigError(
                    f"{place}: no two tasks of the grid have the same answer form, "
                    "so `all` matches nothing; name the source tasks"
                )
            # What the grid names by itself is not there twice.
            found += [(asked, one) for one in each if one not in named]
        else:
            found.append((asked, asked))
    return found


def _as_asked(task: TaskRows, protocol: Protocol, place: str) -> TaskRows:
    """The task as a protocol asks it: as it is, unless the protocol has a way of its own."""
    if type(protocol).asks is Protocol.asks:
        return task
    found = replace(task, asked_by=protocol)
    try:
        _ = found.task
    except ConfigError as e:
        raise ConfigError(f"{place}.{e}") from None
    return found


def form_of(task: TaskRows) -> str:
    """The form of a task's answers: the regular expression of open-ended ones, or how options are written."""
    own = task.task
    if own.format is not None:
        return own.format
    example = typical(own)
    # Where no row can be seen without a network or a file, it is taken to be that of most.
    return "" if example is None else written(example.options)


def _check_truth(config: GridConfig, models: Sequence[Model], rows: Sequence[TaskRows]) -> None:
    """Refuse scores that are known of models or tasks that the grid does not have."""
    names, tasks_there = [model.name for model in models], [entry.name for entry in rows]
    mistakes = Mistakes()
    for task, known in config.truth.items():
        if task and task not in tasks_there:
            mistakes.add(f"truth.{task}: is not a task of the grid{did_you_mean(task, tasks_there)}")
        strangers = [model for model in known if model not in names]
        mistakes.add(*(f"truth: {model} is not a model of the grid{did_you_mean(model, names)}" for model in strangers))
    mistakes.tell()


def _source(protocol: Protocol, rows: Sequence[TaskRows], place: str) -> TaskRows | None:
    """The task that a transfer learns on: the grid's entry of it, with its data files, or else the task itself."""
    return None if protocol.source is None else _rows_of(protocol.source, rows, place)


def _rows_of(name: str, rows: Sequence[TaskRows], place: str) -> TaskRows:
    """The rows of a task that need not be one of the grid's."""
    try:
        task = tasks.get(name)
        mine = next((entry for entry in rows if entry.name == task.name), None)
        if mine is not None:
            return replace(mine, limit=None)
        return TaskRows(ref=name, name=task.name, version=task.version, content=content_hash(task))
    except ConfigError as e:
        raise e.within(place) from None


def _start(protocol: Protocol, rows: Sequence[TaskRows], place: str) -> tuple[TaskRows | None, str]:
    """What `init_from` stands for: the rows of a task, or the content hash of a file's vectors."""
    start = protocol.starts_from
    if start is None:
        return None, ""
    if not is_prompt_file(start):
        return _rows_of(start, rows, f"{place}.init_from"), ""
    try:
        prompt = SoftPrompt.load(start)
    except StoreError as e:
        raise ConfigError(f"{place}.init_from: {e}") from None
    if prompt.length != protocol.soft_length:
        raise ConfigError(
            f"{place}.init_from: {start} holds {prompt.length} vectors, and length is {protocol.soft_length}; "
            f"set length: {prompt.length}"
        )
    return None, prompt.key


def _require_series(protocol: Protocol, config: GridConfig, place: str) -> None:
    """Refuse what is carried from one checkpoint to the next where the grid has no series of them."""
    if protocol.carried and not any(entry.is_series for entry in config.models):
        raise ConfigError(
            f"{place}.{protocol.name}.init_from: {PREVIOUS} starts from the checkpoint before, and no model of the grid is a "
            'series; name one by checkpoints ({id: runs/base, checkpoints: "step-*"}) or a pattern of revisions '
            '(revision: "step*")'
        )


def _judge(config: GridConfig) -> Judge | None:
    if config.judge is None:
        return None
    asked = config.judge
    entry = ModelConfig(
        id=asked.model,
        revision=asked.revision,
        tensor_parallel=asked.tensor_parallel,
        pipeline_parallel=asked.pipeline_parallel,
        gpus=asked.gpus,
        dtype=asked.dtype,
        chat_template=asked.chat_template,
        chat_template_kwargs=asked.chat_template_kwargs,
        chat_date=asked.chat_date,
        trust_remote_code=asked.trust_remote_code,
    )
    try:
        (model,) = resolve(entry)
    except ConfigError as e:
        raise ConfigError(f"judge: {e}") from None
    if asked.chat_template is None:
        model = replace(model, chat_template="if_any")
    return Judge(model=model, engine=asked.engine or config.engine, prompts=RULES)


def _named(cell: Cell, key: str) -> str:
    return {
        "model": cell.model.name,
        "task": cell.task.name,
        "protocol": cell.label,
        "seed": "" if cell.seed is None else str(cell.seed),
    }[key]
