"""Run folders of a series of checkpoints, with verdicts that a test has drawn: form and knowledge apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spt_fast.config import FewShot, Protocol, SoftPromptConfig, ZeroShot
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.scoring.metrics import aggregate
from spt_fast.scoring.stopping import Asked, at_every_look
from spt_fast.store import Store
from spt_fast.types import CellResult, Sample, Stopped

PROTOCOLS: Mapping[str, Protocol] = {"zero_shot": ZeroShot(), "few_shot": FewShot(), "soft_prompt": SoftPromptConfig(steps=2)}
SERIES = "/checkpoints/run7/step-*"

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is true of a metric at each checkpoint, and how often a row flips by chance."""

    means: Sequence[float]
    flips: float = 0.04

    def draw(self, rng: np.random.Generator, rows: int) -> Bools:
        """`[T, N]`: the same rows at every checkpoint, of which few flip."""
        hardness, found = rng.random(rows), []
        for mean in self.means:
            right = hardness < mean
            odds = np.where(right, self.flips / 4 / max(mean, 0.02), self.flips / 4 / max(1 - mean, 0.02))
            found.append(right ^ (rng.random(rows) < odds))
        return np.stack(found)


def step(at: int, *, of: int = 12, level: float = 0.6, by: float = 0.0, rise: float = 0.0) -> list[float]:
    """A level that rises until the sixth checkpoint, and from checkpoint `at`, counted from 1, on is lower."""
    return [level + rise * min(i, 5) - by * (i + 1 >= at) for i in range(of)]


def write_series(
    folder: Path,
    verdicts: Mapping[tuple[str, str], tuple[Bools, Bools]],
    *,
    names: Sequence[str] = (),
    trained: Mapping[str, Mapping[str, int]] | None = None,
    closed_ended: Sequence[str] = (),
    lacking: Sequence[tuple[str, str]] = (),
    stopped: Mapping[str, int] | None = None,
    series: str | None = SERIES,
) -> Path:
    """Write a run folder, and return it.

    Args:
        folder: new.
        verdicts: (task, protocol) -> format following and knowledge, `[T, N]` each.
        names: of the checkpoints; none: step-1, step-2, ...
        trained: name -> steps and tokens.
        closed_ended: tasks whose knowledge is by likelihood.
        lacking: (checkpoint, task) that is not done.
        stopped: checkpoint -> after how many rows each of its cells was stopped.
        series: its pattern; None: they are single models.
    """
    store = Store(folder)
    count = len(next(iter(verdicts.values()))[0])
    names = names or [f"step-{i + 1}" for i in range(count)]
    cells: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(names):
        for (task, protocol), (form, knows) in verdicts.items():
            cell = _cell(f"run7/{name}", task, protocol)
            place = {"model": cell.model.name, "task": task, "protocol": protocol, "seed": cell.seed}
            cells[cell.key] = {**place, "closed_ended": task in closed_ended, "rests_on": None}
            if (name, task) not in lacking:
                result = result_of(cell, form[i], knows[i], closed=task in closed_ended)
                n = (stopped or {}).get(name)
                if n is None:
                    store.put_result(cell, result)
                else:
                    store.put_stopped(cell, stopped_after(n, result, task))
    about = {} if series is None else {"series": series}
    store.grid_file.put(
        {
            "name": folder.name,
            "models": [
                {"id": f"run7/{name}", "post_trained": None, "chat_template": "never", **about, **_trained(name, trained)}
                for name in names
            ],
            "tasks": [{"task": task, "version": 1, "content": "rows"} for task in dict.fromkeys(task for task, _ in verdicts)],
            "protocols": [{name: {}} for name in dict.fromkeys(label for _, label in verdicts)],
            "engine": {"kind": "echo"},
            "judge": None,
            "spt_fast": "1",
            "cells": cells,
        }
    )
    return folder


def _trained(name: str, trained: Mapping[str, Mapping[str, int]] | None) -> dict[str, Any]:
    return {"trained": dict(trained[name])} if trained and name in trained else {}


def _cell(model: str, task: str, protocol: str) -> Cell:
    of = PROTOCOLS[protocol]
    return Cell(
        model=Model(name=model, source=f"/checkpoints/{model}", fingerprint=f"sha256:{model}"),
        task=TaskRows(name=task, version=1, content="rows"),
        protocol=of,
        seed=0 if of.seeded else None,
        label=protocol,
    )


def result_of(cell: Cell, form: Bools, knows: Bools, *, closed: bool) -> CellResult:
    """What a cell came to, from `[N]` verdicts."""
    at = cell.steps[-1]
    samples = tuple(
        Sample(
            example=f"e{i:05d}",
            step=at,
            prompt="Q?",
            completion="A",
            finish_reason="stop",
            target="A",
            extracted=None,
            rule=None,
            format_ok=bool(follows),
            knows=bool(right),
            correct=bool(follows and right),
            option_logprobs=(-1.0, -2.0) if closed else (),
        )
        for i, (follows, right) in enumerate(zip(form, knows, strict=True))
    )
    return CellResult(metrics={at: aggregate(samples)}, samples=samples, costs={}, provenance={})


def stopped_after(n: int, result: CellResult, task: str) -> CellResult:
    """The same cell, asked no more than its first rows in the order of asking."""
    keys = [sample.example for sample in result.samples]
    asked = Asked.of_keys(task, keys, [""] * len(keys))
    kept = set(asked.examples[:n])
    samples = tuple(sample for sample in result.samples if sample.example in kept)
    metrics = {step: at_every_look(aggregate(samples), samples, asked) for step in result.metrics}
    told = Stopped(n=n, of=len(keys), why="a drop is ruled out", rule="r", looks=2, units=len(keys), largest=1)
    return replace(result, metrics=metrics, samples=samples, stopped=told)
