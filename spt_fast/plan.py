"""Grid -> cells -> stages: what there is to do, grouped by model, less what the store holds."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from spt_fast import tasks
from spt_fast.cell import Cell, TaskRows
from spt_fast.config import GridConfig, Protocol, TaskConfig
from spt_fast.errors import ConfigError
from spt_fast.grid import overridden
from spt_fast.models.identity import Model, resolve
from spt_fast.tasks.rows import content_hash


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The cells of one model that are to be done: one load, one training, one engine."""

    model: Model
    cells: tuple[Cell, ...]


def expand(config: GridConfig) -> list[Cell]:
    """The cells of a grid, model by model.

    Raises:
        ConfigError: a model or task that is not there.
    """
    rows = [_rows(entry, config, f"tasks[{i}]") for i, entry in enumerate(config.tasks)]
    models = _models(config)
    labels = _labels(config.protocols)
    cells = []
    for model in models:
        engine = {**config.engine, **model.engine}
        for task in rows:
            for label, protocol in zip(labels, config.protocols, strict=True):
                own = overridden(protocol, model.soft_prompt, f"{model.name}: soft_prompt")
                for seed in config.seeds if protocol.seeded else (None,):
                    cells.append(Cell(model=model, task=task, protocol=own, seed=seed, label=label, engine=engine))
    return cells


def select(cells: Sequence[Cell], only: Mapping[str, str]) -> list[Cell]:
    """The cells whose model, task, protocol or seed match the patterns of `--only`.

    Raises:
        ConfigError: a key that cells do not have, or a pattern that nothing matches.
    """
    kept = list(cells)
    for key, pattern in only.items():
        if key not in ("model", "task", "protocol", "seed"):
            raise ConfigError(f"--only: unknown key {key!r}; there are model, task, protocol, seed")
        names = {id(cell): _named(cell, key) for cell in kept}
        matching = [cell for cell in kept if fnmatch.fnmatchcase(names[id(cell)], pattern)]
        if not matching:
            there = ", ".join(sorted(set(names.values())))
            raise ConfigError(f"--only: no {key} matches {pattern!r}; there are {there}")
        kept = matching
    return kept


def stages(cells: Sequence[Cell], done: Collection[str]) -> list[Stage]:
    """What is left to do, grouped by model, in the order of the grid."""
    left: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.key not in done:
            left.setdefault(cell.model.name, []).append(cell)
    return [Stage(model=group[0].model, cells=tuple(group)) for group in left.values()]


def _models(config: GridConfig) -> list[Model]:
    found: dict[str, Model] = {}
    for i, entry in enumerate(config.models):
        try:
            entries = resolve(entry)
        except ConfigError as e:
            raise ConfigError(f"models[{i}]: {e}") from None
        for model in entries:
            seen = found.get(model.name)
            if seen is None:
                found[model.name] = model
            elif seen.source != model.source or seen.revision != model.revision:
                raise ConfigError(
                    f"models[{i}]: {model.name} is the name of two models ({seen.source}, {model.source}); "
                    "tables could not tell them apart: rename a folder, or use two grids"
                )
            else:  # a partner that is listed itself: keep the entry, and remember whose partner it is
                found[model.name] = replace(
                    seen,
                    partner_of=seen.partner_of or model.partner_of,
                    post_trained=seen.post_trained or model.post_trained,
                )
    return list(found.values())


def _rows(entry: TaskConfig, config: GridConfig, place: str) -> TaskRows:
    try:
        task = tasks.get(entry.task)
        content = content_hash(task, entry.data_files)
    except ConfigError as e:
        raise ConfigError(f"{place}: {e}") from None
    return TaskRows(
        name=task.name,
        version=task.version,
        content=content,
        limit=entry.limit if entry.limit is not None else config.limit,
        data_files=entry.data_files,
    )


def _labels(protocols: Sequence[Protocol]) -> list[str]:
    """`soft_prompt`, or `soft_prompt[length=5]` where a grid has several of a kind: the settings in which they differ."""
    labels = []
    for protocol in protocols:
        kin = [other for other in protocols if other.name == protocol.name]
        differ = [f.name for f in fields(protocol) if any(getattr(other, f.name) != getattr(protocol, f.name) for other in kin)]
        settings = ",".join(f"{name}={_plain(getattr(protocol, name))}" for name in differ)
        labels.append(f"{protocol.name}[{settings}]" if settings else protocol.name)
    return labels


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _named(cell: Cell, key: str) -> str:
    return {
        "model": cell.model.name,
        "task": cell.task.name,
        "protocol": cell.label,
        "seed": "" if cell.seed is None else str(cell.seed),
    }[key]
