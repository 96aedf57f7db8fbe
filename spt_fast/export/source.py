"""What exporters read: the done cells of a run folder, one after the other, each with its rows when they are asked for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from spt_fast import tasks
from spt_fast.analysis.runs import METRICS, Place, read_run
from spt_fast.config.output import Location
from spt_fast.errors import SptError
from spt_fast.prompts.lora import LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.metrics import spec
from spt_fast.store import CURVE, Store, StoredResult
from spt_fast.tasks.base import HubSource, Task
from spt_fast.types import Metric

_NOT_IN_NAMES = re.compile(r"[^\w.@=,+-]+", re.ASCII)
_ONLY_ON_WINDOWS = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a format's module says when it is done."""

    count: int
    what: str
    """Of what so many were written, in the plural: "cells", "adapters"."""
    not_carried: tuple[str, ...]
    """What the format cannot say, a sentence each."""


@dataclass(frozen=True, kw_only=True)
class DoneCell:
    """A done cell. Its numbers are here, its rows are read anew each time that they are asked for."""

    place: Place
    name: str
    """In other tools: `gsm8k@soft_prompt`, with `@seed1` behind where a grid has several seeds of it."""
    result: StoredResult
    closed_ended: bool
    """Whether knowledge is by likelihood, not by extraction."""
    judge: str | None
    """The model that ruled on its completions."""
    store: Store = field(repr=False)

    @property
    def key(self) -> str:
        """Of the cell."""
        return self.result.key

    @property
    def step(self) -> int | None:
        """The last step, which is what tools with one number a cell get."""
        return max((step for step in self.result.metrics if step is not None), default=None)

    @property
    def metrics(self) -> dict[str, Metric]:
        """At the last step, those that are defined."""
        return {metric.name: metric for metric in self.result.metrics[self.step] if math.isfinite(metric.value)}

    @property
    def protocol(self) -> dict[str, Any]:
        """Its settings, without its name."""
        return {name: value for name, value in self.result.content.get("protocol", {}).items() if name != "name"}

    @property
    def engine(self) -> str:
        """Kind of the engine that answered: vllm, transformers, echo."""
        return str(self.result.content.get("engine", {}).get("kind", "unknown"))

    @property
    def model(self) -> Mapping[str, Any]:
        """What of the model can change a result: fingerprint, dtype, chat template."""
        found: Mapping[str, Any] = self.result.content.get("model", {})
        return found

    @property
    def version(self) -> int:
        """Of the task."""
        return int(self.result.content.get("task", {}).get("version", 0))

    @property
    def shots(self) -> int:
        """Worked examples in the prompt."""
        return int(self.protocol.get("shots", 0))

    def rows(self) -> list[dict[str, Any]]:
        """Rows of samples.parquet at the last step.

        Raises:
            StoreError: the file is damaged.
        """
        return self.store.samples(self.key, last=True)

    def scores(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Metric -> what a row counts in it, 0 to 1."""
        verdicts = {metric: spec(metric).of_row(row) for metric in METRICS}
        return {
            **{metric: float(value) for metric, value in verdicts.items() if value is not None},
            **dict(row["scores"] or ()),
        }

    def soft_prompt(self) -> SoftPrompt | None:
        """That of the last step; None where the protocol has none.

        Raises:
            StoreError: the file is damaged.
        """
        return None if self.step is None else self.store.learnt.soft_prompts(self.key).get(self.step)

    def adapter(self) -> LoraAdapter | None:
        """The LoRA adapter of the last step; None where the protocol has none.

        Raises:
            StoreError: the file is damaged.
        """
        return None if self.step is None else self.store.learnt.adapters(self.key).get(self.step)

    def losses(self) -> dict[int, float]:
        """Training loss by step, in nats a token; empty where nothing was trained."""
        found = {}
        with suppress(OSError, ValueError):
            for line in self.store.text(f"cells/{self.key}/{CURVE}").splitlines()[1:]:
                step, loss, *_ = line.split(",")
                if loss:
                    found[int(step)] = float(loss)
        return found


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run folder, opened to be exported."""

    name: str
    """Of the grid."""
    grid: Mapping[str, Any] = field(repr=False)
    done: Mapping[Place, str]
    """Where in the grid -> key, in the grid's order."""
    missing: tuple[str, ...]
    """Titles of the cells that are failed or waiting."""
    names: Mapping[Place, str] = field(repr=False)
    """Where in the grid -> name in other tools."""
    store: Store = field(repr=False)

    def __len__(self) -> int:
        return len(self.done)

    @property
    def models(self) -> list[str]:
        """Those that have done cells, in the grid's order."""
        return list(dict.fromkeys(place.model for place in self.done))

    def model(self, name: str) -> Mapping[str, Any]:
        """What grid.yaml says of a model: source, revision, fingerprint."""
        return next((model for model in self.grid["models"] if model["id"] == name), {})

    def task(self, name: str) -> Mapping[str, Any]:
        """What grid.yaml says of a task: version, limit, data_files."""
        return next((task for task in self.grid["tasks"] if task["task"] == name), {})

    @cached_property
    def ended(self) -> datetime:
        """When the last thing happened to the run, in UTC; the time now where it does not tell."""
        events = self.store.events()
        return datetime.fromtimestamp(events[-1]["time"], UTC) if events else datetime.now(UTC)

    def cells(self, model: str | None = None) -> Iterator[DoneCell]:
        """Done cells, of one model or of all, in the grid's order.

        Raises:
            StoreError: a result is damaged.
        """
        places = [place for place in self.done if model in (None, place.model)]
        judge = self.grid.get("judge")
        results = self.store.results([self.done[place] for place in places])
        for place, result in zip(places, results, strict=True):
            entry = self.grid["cells"][result.key]
            yield DoneCell(
                place=place,
                name=self.names[place],
                result=result,
                closed_ended=bool(entry.get("closed_ended")),
                judge=judge["model"] if judge and entry.get("rests_on") else None,
                store=self.store,
            )

    def definition(self, cell: DoneCell) -> Task | None:
        """The task of a cell where it can be found by its name and is of the same version."""
        try:
            task = tasks.get(cell.place.task)
        except SptError:
            return None
        return task if task.version == cell.version else None

    def on_hub(self, cell: DoneCell) -> HubSource | None:
        """The data set on the Hub that a cell's test rows are from; None where they are others, or nobody knows."""
        task = self.definition(cell)
        if task is None or not isinstance(task.source, HubSource) or self.task(cell.place.task).get("data_files"):
            return None
        return task.source.of("test")


def open_source(folder: Location) -> Source:
    """Open a run folder for export.

    Raises:
        ConfigError: it is no run folder, or nothing in it is done.
    """
    run = read_run(folder)
    places = [*run.done, *run.missing]
    return Source(
        name=run.name,
        grid=run.grid,
        done=run.done,
        missing=tuple(_title(place) for place in run.missing),
        names=_names(places, run.done),
        store=run.store,
    )


def portable(text: str) -> str:
    """A text as one component of a path, on any system: no slashes, brackets or spaces, and no name that means something."""
    name = _NOT_IN_NAMES.sub("_", text).rstrip(".") or "_"
    return f"_{name}" if name.startswith(".") or _ONLY_ON_WINDOWS.fullmatch(name) else name


def _title(place: Place) -> str:
    seed = [] if place.seed is None else [f"seed {place.seed}"]
    return " · ".join([place.model, place.task, place.protocol, *seed])


def _names(places: list[Place], keys: Mapping[Place, str]) -> dict[Place, str]:
    """`task@protocol`, `task@soft_prompt@length=5`, `task@soft_prompt@seed1`: the same for all models."""
    seeds: dict[tuple[str, str], set[int | None]] = {}
    for place in places:
        seeds.setdefault((place.task, place.protocol), set()).add(place.seed)
    found = {}
    for place in places:
        kind, _, settings = place.protocol.rstrip("]").partition("[")
        several = len(seeds[place.task, place.protocol]) > 1
        parts = [place.task, kind, *([settings] if settings else []), *([f"seed{place.seed}"] if several else [])]
        found[place] = "@".join(portable(part) for part in parts)
    # Two tasks may differ in nothing but characters that names cannot have.
    alike = Counter((place.model, name) for place, name in found.items())
    return {
        place: f"{name}@{keys[place][:8]}" if alike[place.model, name] > 1 and place in keys else name
        for place, name in found.items()
    }
