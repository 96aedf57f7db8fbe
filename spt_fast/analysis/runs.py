"""A run folder as numbers: the score of each row under each seed, and which rows share a passage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spt_fast.analysis.resampling import Floats
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError
from spt_fast.scoring.clusters import clusters
from spt_fast.scoring.metrics import in_columns
from spt_fast.store import Store

METRICS = in_columns()
"""Metrics that every row has a verdict for -> the columns of samples.parquet that they are in; of several the first that is not
null."""


class Place(NamedTuple):
    """Where in a grid a cell is."""

    model: str
    task: str
    protocol: str
    """Its label."""
    seed: int | None

    @property
    def protocol_name(self) -> str:
        """Without settings: `soft_prompt`."""
        return self.protocol.partition("[")[0]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One metric of the cells that differ in their seed alone."""

    examples: tuple[str, ...]
    """`[N]` keys of the rows."""
    groups: tuple[str, ...]
    """`[N]` rows that share a passage or subject share a group; empty: none."""
    values: Floats
    """`[S, N]` in 0 to 1."""
    seeds: tuple[int | None, ...]
    """`[S]`"""

    @property
    def clusters(self) -> NDArray[np.int64]:
        """`[N]` the cluster of each row, from 0."""
        return clusters(list(self.groups))

    def of(self, examples: Sequence[str], seeds: Sequence[int | None] | None = None) -> Rows:
        """These rows, in this order, under these seeds (None: all)."""
        kept = self.seeds if seeds is None else tuple(seeds)
        values = self.values if kept == self.seeds else self.values[[self.seeds.index(seed) for seed in kept]]
        if tuple(examples) == self.examples:
            return replace(self, values=values, seeds=kept)
        place = {example: i for i, example in enumerate(self.examples)}
        rows = [place[example] for example in examples]
        groups = tuple(self.groups[i] for i in rows)
        return Rows(examples=tuple(examples), groups=groups, values=values[:, rows], seeds=kept)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder, as `read_run` finds it. Rows are read when they are asked for."""

    folder: str
    grid: Mapping[str, Any] = field(repr=False)
    """grid.yaml, as resolved."""
    done: Mapping[Place, str]
    """Cells that are done, and their keys."""
    missing: tuple[Place, ...]
    """Cells of the grid that failed or are still to be done."""
    store: Store = field(repr=False)

    @property
    def name(self) -> str:
        """Of the grid."""
        return str(self.grid["name"])

    @cached_property
    def models(self) -> tuple[str, ...]:
        """All, in the order of the grid."""
        return tuple(dict.fromkeys(place.model for place in (*self.done, *self.missing)))

    @cached_property
    def partners(self) -> Mapping[str, str]:
        """Base model -> its post-trained partner."""
        return {m["id"]: m["post_trained"] for m in self.grid["models"] if m["post_trained"] in self.models}

    @property
    def truth(self) -> Mapping[str, Mapping[str, float]]:
        """Task ("" for all) -> base model -> what the grid says that it is known to score."""
        return self.grid.get("truth") or {}

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """The models that are nobody's partner."""
        partners = set(self.partners.values())
        return tuple(model for model in self.models if model not in partners)

    def task(self, name: str) -> Mapping[str, Any]:
        """What grid.yaml says of a task: version, content, limit."""
        return next((task for task in self.grid["tasks"] if task["task"] == name), {})

    def model(self, name: str) -> Mapping[str, Any]:
        """What grid.yaml says of a model: fingerprint, chat template."""
        return next((model for model in self.grid["models"] if model["id"] == name), {})

    def closed_ended(self, task: str) -> bool:
        """Whether knowledge of a task is by the likelihood of its options."""
        return any(cell["task"] == task and bool(cell.get("closed_ended")) for cell in self.grid["cells"].values())

    def seeds(self, model: str, task: str, protocol: str) -> tuple[int | None, ...]:
        """The seeds under which this is done."""
        return tuple(place.seed for place in self.done if place[:3] == (model, task, protocol))

    def rows(self, model: str, task: str, protocol: str, metric: str) -> Rows | None:
        """The scores of the rows that all seeds of a model, task and protocol have; None where there are none.

        Raises:
            StoreError: a file is damaged.
        """
        found = []
        for seed in self.seeds(model, task, protocol):
            scored = self.scores(Place(model, task, protocol, seed))
            if metric in scored.values:
                found.append((seed, scored))
        if not found:
            return None
        first, seeds = found[0][1], tuple(seed for seed, _ in found)
        kept, groups = first.examples, first.groups
        if any(scored.examples != kept for _, scored in found[1:]):
            shared = set(kept).intersection(*(scored.examples for _, scored in found[1:]))
            group = dict(zip(kept, groups, strict=True))
            kept = tuple(example for example in kept if example in shared)
            groups = tuple(group[example] for example in kept)
        values = np.stack([scored.of(metric, kept) for _, scored in found])
        return Rows(examples=kept, groups=groups, values=values, seeds=seeds)

    def scores(self, place: Place) -> Scored:
        """The scores of one done cell's rows at its last step.

        Raises:
            StoreError: its file is damaged, or was changed after the run.
        """
        known = self._read.get(place)
        if known is None:
            if isinstance(self.store.root, Path):  # where people edit by hand; through a network it would take as long again
                self.store.check_files(self.store.result(self.done[place]))
            known = _scored(self._columns(place))
            self._kept[0] += len(known.examples)
            if self._kept[0] > _KEPT:
                self._read.clear()
                self._kept[0] = len(known.examples)
            self._read[place] = known
        return known

    def answers(self, place: Place, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of samples.parquet at the last step of a done cell, with `example` and `group`.

        Raises:
            StoreError: the file is damaged.
        """
        return self.store.samples(self.done[place], ["example", "step", *columns, "group"], last=True)

    def _columns(self, place: Place) -> dict[str, list[Any]]:
        """What `_scored` wants of a done cell, at its last step."""
        wanted = ["example", "step", *dict.fromkeys(chain(*METRICS.values())), "scores", "group"]
        return self.store.sample_columns(self.done[place], wanted, last=True)

    @cached_property
    def _read(self) -> dict[Place, Scored]:
        return {}

    @cached_property
    def _kept(self) -> list[int]:
        """Rows in `_read`."""
        return [0]


_KEPT = 1_000_000
"""Rows that are kept in memory, some 100 bytes each: those of a large grid would fill it."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the rows of one cell came to."""

    examples: tuple[str, ...]
    groups: tuple[str, ...]
    values: Mapping[str, Floats]
    """Metric -> `[N]` scores, 0 to 1."""

    def of(self, metric: str, examples: Sequence[str]) -> Floats:
        """The scores of these rows, in this order."""
        if tuple(examples) == self.examples:
            return self.values[metric]
        place = {example: i for i, example in enumerate(self.examples)}
        found: Floats = self.values[metric][[place[example] for example in examples]]
        return found


def read_run(folder: Location, *, without: Collection[str] = ()) -> Run:
    """Open a run folder for analysis.

    Args:
        folder: a folder, or the URL of one.
        without: keys of cells that count as not done: their files are damaged.

    Raises:
        ConfigError: it is no run folder, or nothing in it is done.
    """
    store = Store(folder)
    grid = store.resolved()
    done = store.done() - set(without)
    found = {Place(**{name: cell[name] for name in Place._fields}): key for key, cell in grid["cells"].items()}
    run = Run(
        folder=str(store.root),
        grid=grid,
        done={place: key for place, key in found.items() if key in done},
        missing=tuple(place for place, key in found.items() if key not in done),
        store=store,
    )
    if not run.done:
        raise ConfigError(f"{folder}: no cell is done yet; run the grid first")
    return run


def metric_names(run: Run) -> list[str]:
    """Metrics that rows of a run have, those of tasks of its own (`f1`) included."""
    names = dict.fromkeys(METRICS)
    for task in dict.fromkeys(place.task for place in run.done):
        place = next(place for place in run.done if place.task == task)
        names |= dict.fromkeys(run.scores(place).values)
    return list(names)


def _first(*columns: Sequence[Any]) -> Sequence[Any]:
    """Row by row, the first that is not null."""
    if len(columns) == 1:
        return columns[0]
    return [next((value for value in row if value is not None), None) for row in zip(*columns, strict=True)]


def _scored(found: Mapping[str, Sequence[Any]]) -> Scored:
    """Metrics that every row has."""
    further = [dict(scores or ()) for scores in found["scores"]]
    columns = {metric: _first(*(found[column] for column in columns)) for metric, columns in METRICS.items()}
    columns |= {name: [each.get(name) for each in further] for name in dict.fromkeys(name for each in further for name in each)}
    return Scored(
        examples=tuple(found["example"]),
        groups=tuple(group or "" for group in found["group"]),
        values={metric: np.array(values, np.float64) for metric, values in columns.items() if None not in values},
    )
