"""`check`: everything that can be known to be wrong with a grid without loading a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from spt_fast import plan, tasks
from spt_fast.cli.prompts import look_at_prompts
from spt_fast.config import GridConfig
from spt_fast.config.reader import require_few
from spt_fast.config.strict import belongs, did_you_mean
from spt_fast.driver.stopping import GridStopping
from spt_fast.engine import OURS, engine_of
from spt_fast.errors import ConfigError, DataError, SptError, UnreachableError
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.storage import open_storage
from spt_fast.tasks.rows import Rows
from spt_fast.training.task import require_rows


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found."""

    wrong: tuple[str, ...]
    """What is wrong, a sentence each."""
    unseen: tuple[str, ...]
    """Models and data sets that nothing can be said of, because the Hub cannot be reached from here."""
    cells: int
    """How many cells the grid has."""
    series: tuple[str, ...] = ()
    """What the patterns of checkpoints and revisions stand for, a sentence each."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how the models are asked, and of test rows that are not scored, a sentence each."""


def check_grid(config: GridConfig) -> Checked:
    """What is wrong with a grid.

    Beyond what loading a grid finds: models that cannot be reached, rows that cannot be read or are too few, settings that
    the engine does not have. Without a way to the Hub, what is there is not known to be wrong.

    Raises:
        ConfigError: what keeps the grid from being expanded at all, and what else can be known without that.
    """
    try:
        # All seeds of a grid are alike, and there may be a hundred thousand.
        cells = plan.expand(replace(config, seeds=config.seeds[:1]))
    except ConfigError as e:
        entries = plan.wrong_entries(dict(enumerate(config.models)), dict(enumerate(config.tasks)))
        more = dict.fromkeys([*e.sentences, *entries, *_engine_settings(config), *_output(config)])
        raise ConfigError(*more) from None
    count = sum(1 if cell.seed is None else len(config.seeds) for cell in cells)
    require_few(count)
    models = {cell.model.name: cell.model for cell in cells}
    models |= {cell.judge.model.name: cell.judge.model for cell in cells if cell.judge}
    wrong = [model.unresolved for model in models.values() if model.unresolved and model.broken]
    unseen = [model.name for model in models.values() if model.unreachable]
    loaded, rows_wrong, rows_unseen = _rows(cells)
    prompts_wrong, notes = look_at_prompts(cells, loaded)
    stop_wrong, stop_notes = _stop(config, cells, loaded)
    wrong += stop_wrong
    notes = [*_left_out(cells, loaded), *notes, *_carried(cells, len(config.seeds)), *stop_notes]
    wrong += [*rows_wrong, *_short_rows(cells, loaded), *prompts_wrong, *_engine_settings(config), *_output(config)]
    return Checked(
        wrong=tuple(dict.fromkeys(wrong)),
        unseen=(*unseen, *rows_unseen),
        cells=count,
        series=_series(cells),
        notes=tuple(dict.fromkeys([*filter(None, map(tasks.left_out, config.tasks)), *notes])),
    )


def _output(config: GridConfig) -> list[str]:
    try:
        open_storage(config.folder)
    except ConfigError as e:
        return [f"output: {e}"]
    return []


def _stop(config: GridConfig, cells: list[Cell], loaded: Mapping[str, Rows]) -> tuple[list[str], list[str]]:
    """What is wrong with `stop`, its policy, or what that is held against; and where it can never act."""
    if config.stop is None:
        return [], []
    try:
        stopping = GridStopping(config, cells, None)
    except SptError as e:
        return [str(e)], []
    return [], stopping.without_looks({name: len(rows.test) for name, rows in loaded.items()})


def _series(cells: list[Cell]) -> tuple[str, ...]:
    found: dict[str, list[str]] = {}
    for name, model in {cell.model.name: cell.model for cell in cells}.items():
        if model.series is not None and not model.unresolved:
            found.setdefault(model.series, []).append(name)
    return tuple(f"{series}: {len(names)} models, {names[0]} to {names[-1]}" for series, names in found.items())


def _carried(cells: list[Cell], seeds: int) -> tuple[str, ...]:
    """What carrying soft prompts along a series saves, where the run folder holds nothing yet."""
    saved = plan.series.saved(plan.series.with_cold(plan.stages(cells, ()), {}))
    return () if saved is None else (saved.in_words(seeds),)


def _rows(cells: list[Cell]) -> tuple[dict[str, Rows], list[str], list[str]]:
    """The rows of all tasks by name, what is wrong with them, and the tasks that cannot be seen from here."""
    wrong, unseen = [], []
    loaded: dict[str, Rows] = {}
    cells = [*cells, *(cell.first for cell in cells if cell.first is not None)]
    for wanted in {rows.name: rows for cell in cells for rows in (cell.source, cell.task)}.values():
        try:
            loaded[wanted.name] = wanted.read()
        except UnreachableError:
            unseen.append(wanted.name)
        except SptError as e:
            wrong.append(str(e))
    return loaded, wrong, unseen


def _left_out(cells: list[Cell], loaded: Mapping[str, Rows]) -> tuple[str, ...]:
    """Test rows that are not scored, of the tasks that are."""
    scored = {cell.task.name: cell.task for cell in cells if cell.task.name in loaded and _refusal(cell.task, loaded) is None}
    return tuple(sentence for name in scored for sentence in loaded[name].losses.told(name))


def _refusal(rows: TaskRows, loaded: Mapping[str, Rows]) -> str | None:
    return loaded[rows.name].losses.refusal(rows.name, rows.allow_left_out)


def _short_rows(cells: list[Cell], loaded: Mapping[str, Rows]) -> list[str]:
    """Tasks that too many test rows are left out of, and protocols that want more rows than there are."""
    scored = {cell.task.name: cell.task for cell in cells if cell.task.name in loaded}
    wrong = [refusal for task in scored.values() if (refusal := _refusal(task, loaded)) is not None]
    # A carried cell says itself whether there are enough rows to start it cold.
    cells = [*cells, *(cell.first for cell in cells if cell.first is not None and not cell.protocol.carried)]
    for cell in cells:
        protocol, rows = cell.protocol, loaded.get(cell.task.name)
        if rows is not None and len(rows.few_shot) < protocol.shots:
            wrong.append(
                f"{cell.task.name}: {protocol.name} needs {protocol.shots} few-shot rows, and the task has "
                f"{len(rows.few_shot)}; use fewer shots"
            )
        source = loaded.get(cell.source.name)
        if protocol.learns and source is not None:
            try:
                require_rows(cell.source.task, source, protocol)
            except DataError as e:
                wrong.append(str(e))
    return wrong


def _engine_settings(config: GridConfig) -> list[str]:
    """Settings that an engine does not have. Where its library is not installed, there is nothing to ask."""
    settings = [("engine", dict(config.engine))]
    settings += [(f"models[{i}].engine", dict(model.engine)) for i, model in enumerate(config.models)]
    if config.judge is not None:
        settings.append(("judge.engine", dict(config.judge.engine)))
    asked: dict[str, dict[str, str]] = {}
    """Kind -> place -> setting."""
    for place, values in settings:
        kind = values.get("kind", config.engine.get("kind", "vllm"))
        asked.setdefault(kind, {}).update({f"{place}.{key}": key for key in values if key not in OURS})
    return [said for kind, places in asked.items() if places for said in _unknown_settings(kind, places)]


def _unknown_settings(kind: str, places: Mapping[str, str]) -> list[str]:
    known = engine_of(kind).setting_names()
    if known is None:
        return []
    there, name = [*known, *OURS], "vLLM" if kind == "vllm" else kind
    return [
        f"{place}: {name} has no such setting{did_you_mean(key, there) or belongs(key, there)}"
        for place, key in places.items()
        if key not in known
    ]
