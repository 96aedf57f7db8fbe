"""A run folder as all who read one see it: its cells one after the other, and the score of each row under each seed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spt_fast.analysis.cells import (
    METRICS,
    Disagreement,
    LazyList,
    LazyVerdicts,
    Place,
    RunCell,
    Verdict,
    disagreements,
    settings_of,
    verdicts,
)
from spt_fast.analysis.frames import Library, Table, frame, html_table
from spt_fast.analysis.names import names_of
from spt_fast.analysis.resampling import Floats
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError, DamagedError
from spt_fast.scoring.clusters import clusters
from spt_fast.scoring.metrics import spec
from spt_fast.store import Store, StoredResult, broken
from spt_fast.types import Stopped

_VERDICTS = ("example", "step", "format_ok", "knows", "knows_best")
_BY_RULES = ("format_by_rule", "knows_by_rule", "completion")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One metric of the cells that differ in their seed alone."""

    examples: tuple[str, ...]
    """`[N]` keys of the rows."""
    groups: tuple[str, ...]
    """`[N]` rows that share a passage or subject share a group; empty: none."""
    values: Floats
    """`[S, N]` scores, in the range of the metric."""
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
    """A run folder, as `read_run` finds it. Cells and rows are read when they are asked for."""

    folder: str
    grid: Mapping[str, Any] = field(repr=False)
    """grid.yaml, as resolved."""
    done: Mapping[Place, str]
    """Cells that are done, and their keys."""
    missing: tuple[Place, ...]
    """Cells of the grid that failed, were stopped, or are still to be done."""
    store: Store = field(repr=False)
    stopped: Mapping[Place, str] = field(default_factory=dict)
    """Of those that are missing the ones that were asked no further than was needed, and their keys: they are read by who asks
    for them, and are in no mean."""

    @property
    def name(self) -> str:
        """Of the grid."""
        return str(self.grid["name"])

    def __len__(self) -> int:
        """Done cells."""
        return len(self.done)

    # its cells

    def cells(self, *, model: str | None = None, only_done: bool = False, reruns: bool = True) -> Iterator[RunCell]:
        """Cells in the grid's order, each read when it is its turn: done, stopped, failed, or waiting. One whose files are
        damaged, or were changed since, has failed: its numbers are not shown.

        Args:
            model: only those of this model.
            only_done: only those that are done, and those that are damaged.
            reruns: read what came of asking rows again, too.

        Raises:
            StoreError: what came of asking again is damaged.
        """
        keys = [key for key, entry in self.grid["cells"].items() if model in (None, entry["model"])]
        done = set(self.done.values())
        results = self.store.results_or_damage(key for key in keys if key in done)
        again = self.store.reruns.read(map(self._asked, keys)) if reruns else {}
        failures = self.store.failed() if not only_done and len(done) < len(self.grid["cells"]) else set()
        for key in keys:
            if key in done:
                yield self._done(key, next(results)).with_rerun(again.get(self._asked(key)))
            elif not only_done:
                yield self._not_done(key, failures)

    def failed(self) -> list[RunCell]:
        """The cells that failed, by themselves or with what they rest on. No result is read."""
        done = set(self.done.values())
        failures = self.store.failed() if len(done) < len(self.grid["cells"]) else set()
        left = (key for key in self.grid["cells"] if key not in done) if failures else ()
        return [cell for key in left if (cell := self._not_done(key, failures)).status == "failed"]

    def without(self, keys: Collection[str]) -> Run:
        """The same run, where these cells count as not done: their files are damaged, say."""
        done = {place: key for place, key in self.done.items() if key not in keys}
        stopped = {place: key for place, key in self.stopped.items() if key not in keys}
        missing = tuple(place for place in self._places if place not in done)
        return replace(self, done=done, missing=missing, stopped=stopped)

    def with_stopped(self) -> Run:
        """The same run, where the cells that were stopped count as done: for who reckons with that they were."""
        if self.stopped.keys() <= self.done.keys():
            return self
        done = {
            place: key
            for place, key in zip(self._places, self.grid["cells"], strict=True)
            if place in {*self.done, *self.stopped}
        }
        return replace(self, done=done, missing=tuple(place for place in self._places if place not in done))

    def told(self, place: Place) -> StoredResult:
        """What is kept of a cell that is done; or was stopped, of the rows that were asked.

        Raises:
            StoreError: its file is damaged.
        """
        if place in self.stopped:
            return self.store.stopped.read(self.stopped[place]).result
        return self.store.result(self.done[place])

    def looked_at(self, place: Place) -> bool:
        """Whether it was looked, while the rows of a cell were asked, if they were enough: of one that is done, too.

        Raises:
            StoreError: its file is damaged.
        """
        if place not in self._looked:
            self._looked[place] = place in self.stopped or "looks" in self.told(place).provenance
        return self._looked[place]

    def stopped_at(self, place: Place) -> Stopped:
        """How far a stopped cell was asked, and why no further.

        Raises:
            StoreError: its file is damaged.
        """
        return self.store.stopped.read(self.stopped[place]).stopped

    def _asked(self, key: str) -> str:
        """The cell whose completions a cell is about: a judged cell's unjudged twin."""
        return self.grid["cells"][key].get("rests_on") or key

    def _cell(self, key: str, **known: Any) -> RunCell:
        entry = self.grid["cells"][key]
        place = Place(**{name: entry[name] for name in Place._fields})
        judge = self.grid.get("judge")
        return RunCell(
            **place._asdict(),
            key=key,
            name=self.names[place],
            partner_of=self._partner_of.get(place.model),
            judge=judge["model"] if judge and entry.get("rests_on") else None,
            closed_ended=entry.get("closed_ended"),
            store=self.store,
            **known,
        )

    def _done(self, key: str, result: StoredResult | DamagedError) -> RunCell:
        try:
            if isinstance(result, DamagedError):
                raise result
            self.store.check_files(result)
        except DamagedError as e:
            return self._cell(key, status="failed", kind=DamagedError.__name__, reason=str(e))
        return self._cell(
            key,
            metrics=result.metrics,
            settings=settings_of(json.dumps(result.content.get("protocol", {}))),
            costs=result.costs,
            provenance=result.provenance,
            content=result.content,
            verdicts=LazyVerdicts(lambda: self._verdicts(key, result.last_step)),
            disagreements=LazyList(lambda: self._disagreements(key, result.last_step)),
        )

    def _not_done(self, key: str, failures: Collection[str]) -> RunCell:
        found = broken(key, self.grid["cells"][key], failures)
        if found is None and key in self._stopped:
            return self._at_its_stop(key)
        if found is None:
            return self._cell(key, status="waiting")
        failure = self.store.failure(found)
        return self._cell(key, status="failed", kind=failure.kind, reason=failure.reason)

    @cached_property
    def _stopped(self) -> frozenset[str]:
        return frozenset(self.stopped.values())

    def _at_its_stop(self, key: str) -> RunCell:
        try:
            found = self.store.stopped.read(key)
            self.store.stopped.check_files(found)
        except DamagedError as e:
            return self._cell(key, status="failed", kind=DamagedError.__name__, reason=str(e))
        settings = settings_of(json.dumps(found.result.content.get("protocol", {})))
        return self._cell(key, status="stopped", stopped=found, settings=settings, costs=found.result.costs)

    @cached_property
    def _verdicts(self) -> Any:
        """Key and last step of a cell -> its verdicts, of some cells kept."""

        def read(key: str, step: int | None) -> dict[str, Verdict]:
            return verdicts(self.store.samples(key, _VERDICTS), step)

        return lru_cache(maxsize=64)(read)

    def _disagreements(self, key: str, step: int | None) -> list[Disagreement]:
        if not self.grid["cells"][key].get("rests_on"):
            return []
        return disagreements(self.store.samples(key, (*_VERDICTS, *_BY_RULES)), step)

    # as data frames

    def frame(self, table: Table = "results", *, library: Library | None = None, **only: str) -> Any:
        """The run as a data frame: of pandas, or of polars where that is what is installed.

        Args:
            table: "results", a row a metric of each done cell and step, as in results.csv; or "samples", a row an example of
                each done cell and step, with the columns of samples.parquet.
            library: pandas or polars; None: the one that is installed.
            only: of `model`, `task` and `protocol` (as tables name it) only these.

        Raises:
            ConfigError: there is no such table, or neither library.
            StoreError: a file is damaged.
        """
        return frame(self.cells(only_done=True, reruns=False), table, library=library, only=only)

    def _repr_html_(self) -> str:
        """The first cells as a table, for a notebook."""
        return html_table(self.name, self.cells(reruns=False), done=len(self.done), cells_in_all=len(self._places))

    @cached_property
    def models(self) -> tuple[str, ...]:
        """All, in the order of the grid."""
        return tuple(dict.fromkeys(place.model for place in (*self.done, *self.missing)))

    @cached_property
    def names(self) -> Mapping[Place, str]:
        """Where in the grid -> what other tools call it."""
        return names_of(self._places, self.done)

    @cached_property
    def _places(self) -> tuple[Place, ...]:
        """Of all cells, in the grid's order."""
        return tuple(Place(**{name: entry[name] for name in Place._fields}) for entry in self.grid["cells"].values())

    @cached_property
    def _partner_of(self) -> Mapping[str, str]:
        """Post-trained model -> the base model whose partner it is."""
        return {m["post_trained"]: m["id"] for m in self.grid["models"] if m["post_trained"]}

    @cached_property
    def ended(self) -> datetime:
        """When the last thing happened to the run, in UTC; the time now where it does not tell."""
        events = self.store.events()
        return datetime.fromtimestamp(events[-1]["time"], UTC) if events else datetime.now(UTC)

    @cached_property
    def partners(self) -> Mapping[str, str]:
        """Base model -> its post-trained counterpart."""
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
        there: list[int] = np.flatnonzero(~np.isnan(values).any(axis=0)).tolist()
        if len(there) < len(kept):  # rows that have none under one of the seeds
            kept, groups = tuple(kept[i] for i in there), tuple(groups[i] for i in there)
            values = values[:, there]
        return Rows(examples=kept, groups=groups, values=values, seeds=seeds) if kept else None

    def scores(self, place: Place) -> Scored:
        """The scores of the rows of one cell, done or stopped, at its last step.

        Raises:
            StoreError: its file is damaged, or was changed after the run.
        """
        known = self._read.get(place)
        if known is None:
            if isinstance(self.store.root, Path):  # where people edit by hand; through a network it would take as long again
                self._check(place)
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
        wanted = ["example", "step", *columns, "group"]
        if place in self.stopped:
            return self.store.stopped.samples.rows(self.stopped[place], wanted, last=True)
        return self.store.samples(self.done[place], wanted, last=True)

    def _check(self, place: Place) -> None:
        if place in self.stopped:
            self.store.stopped.check_files(self.store.stopped.read(self.stopped[place]))
        else:
            self.store.check_files(self.store.result(self.done[place]))

    def _columns(self, place: Place) -> dict[str, list[Any]]:
        """What `_scored` wants of a cell, at its last step."""
        wanted = ["example", "step", *dict.fromkeys(chain(*METRICS.values())), "scores", "group"]
        if place in self.stopped:
            return self.store.stopped.samples.columns(self.stopped[place], wanted, last=True)
        return self.store.sample_columns(self.done[place], wanted, last=True)

    @cached_property
    def _looked(self) -> dict[Place, bool]:
        return {}

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
    """Metric -> `[N]` scores, in its range; NaN in rows that have none (`MetricSpec.gaps`)."""

    def of(self, metric: str, examples: Sequence[str]) -> Floats:
        """The scores of these rows, in this order."""
        if tuple(examples) == self.examples:
            return self.values[metric]
        place = {example: i for i, example in enumerate(self.examples)}
        found: Floats = self.values[metric][[place[example] for example in examples]]
        return found


def open_run(folder: Location | Store) -> Run:
    """Open a run folder, whatever is done in it.

    Args:
        folder: a folder, the URL of one, or a store that has one open.

    Raises:
        ConfigError: it is not a run folder.
    """
    store = folder if isinstance(folder, Store) else Store(folder)
    grid = store.resolved()
    done = store.done()
    stopped = store.stopped.among(done) if len(done) < len(grid["cells"]) else set()  # else nobody need look
    found = {Place(**{name: cell[name] for name in Place._fields}): key for key, cell in grid["cells"].items()}
    return Run(
        folder=str(store.root),
        grid=grid,
        done={place: key for place, key in found.items() if key in done},
        missing=tuple(place for place, key in found.items() if key not in done),
        store=store,
        stopped={place: key for place, key in found.items() if key in stopped},
    )


def read_run(folder: Location) -> Run:
    """Open a run folder for analysis.

    Args:
        folder: a folder, or the URL of one.

    Raises:
        ConfigError: it is not a run folder, or nothing in it is done.
    """
    run = open_run(folder)
    if not run.done and not run.stopped:
        raise ConfigError(f"{folder}: no cell is done yet; run the grid first")
    return run


def metric_names(run: Run) -> list[str]:
    """Metrics that rows of a run have, those of tasks of its own (`f1`) included."""
    names = dict.fromkeys(METRICS)
    places = (*run.done, *run.stopped)
    for task in dict.fromkeys(place.task for place in places):
        place = next(place for place in places if place.task == task)
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
        values={metric: np.array(values, np.float64) for metric, values in columns.items() if _has(metric, values)},
    )


def _has(metric: str, values: Sequence[Any]) -> bool:
    """Whether the rows of a cell can be compared in a metric: all of them have it, or for their data some of them."""
    return None not in values or (spec(metric).gaps and any(value is not None for value in values))
