"""How long a run still takes, told while it runs, held against how long it then took: on made-up machines, to the second."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spt_fast.config import FewShot, SoftPromptConfig, ZeroShot
from spt_fast.models.identity import Model
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.scheduling.estimates import Estimates
from spt_fast.scheduling.foresight import Foresight
from spt_fast.types import CellResult
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, CellTrained, Event, PhaseStarted, Progress, RowsRead

SOFT = SoftPromptConfig(evaluate_at=(0, 80))
LENGTHS = {
    "gsm8k": {"instruction": 100.0, "item": 260.0, "target": 330.0, "option": 0.0, "options": 0.0},
    "squad": {"instruction": 130.0, "item": 900.0, "target": 20.0, "option": 0.0, "options": 0.0},
    "arc_easy": {"instruction": 160.0, "item": 300.0, "target": 25.0, "option": 24.0, "options": 4.0},
}


def stage(name: str, parameters: float) -> Stage:
    model = Model(name=name, source=f"/{name}", fingerprint=f"sha256:{name}", parameters=int(parameters))
    cells = [
        Cell(
            model=model,
            task=TaskRows(name=task, version=1, content="rows", limit=200),
            protocol=protocol,
            seed=None if isinstance(protocol, ZeroShot) else 0,
            label=protocol.name,
        )
        for protocol in (ZeroShot(), SOFT)
        for task in LENGTHS
    ]
    return Stage(model=model, cells=tuple(cells))


def night(
    stages: list[Stage], *, slower: float, asking_slower: float, rng: random.Random
) -> Iterator[tuple[float, Stage, Event]]:
    """What a machine tells that is slower than the guess; each training and cell by its own noise."""
    true, now = Estimates(gpu=False, lengths=LENGTHS), 0.0
    for each in stages:
        for task in LENGTHS if each is stages[0] else ():
            yield now, each, RowsRead(task=task, report={"lengths": LENGTHS[task]})
        yield now, each, PhaseStarted(phase="load")
        now += true.start_s(each.model, training=True)
        yield now, each, PhaseStarted(phase="train")
        for cell in each.cells:
            if cell.protocol is not SOFT:
                continue
            yield now, each, CellStarted(key=cell.key, phase="train")
            takes = true.train_s(cell) * slower * rng.uniform(0.8, 1.25)
            for step in range(1, 81):
                now += takes / 80
                yield now, each, Progress(phase="train", key=cell.key, done=step, total=80)
            yield now, each, CellTrained(key=cell.key, prompts={}, curve=())
        yield now, each, PhaseStarted(phase="evaluate")
        asked = {cell.key: round(true.requests(cell) / 4) for cell in each.cells}
        done = 0
        for cell in each.cells:
            takes, requests = true.answer_s(cell) * asking_slower * rng.uniform(0.8, 1.25), asked[cell.key]
            for _ in range(requests):
                now, done = now + takes / requests, done + 1
                yield now, each, Progress(phase="evaluate", done=done, total=sum(asked.values()))
            result = CellResult(metrics={}, samples=(), costs={"requests": float(requests)})
            yield now, each, CellDone(key=cell.key, result=result)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("known_lengths", [True, False])
def test_from_the_fifth_minute_on_the_time_left_is_within_a_factor_of_two(seed: int, known_lengths: bool) -> None:
    rng = random.Random(seed)
    stages = [stage("a", 268e6), stage("b", 135e6), stage("c", 630e6)]
    slower, asking_slower = rng.uniform(0.5, 6), rng.uniform(0.5, 6)
    events = list(night(stages, slower=slower, asking_slower=asking_slower, rng=rng))
    end = events[-1][0]
    foresight = Foresight(stages, (), gpu=False, lengths=dict(LENGTHS) if known_lengths else {})
    told = []
    for now, of, event in events:
        foresight.take(of, event, now)
        if (left := foresight.seconds_left(now)) is not None and now > 300 and end - now > 60:
            told.append((left, end - now))
    assert len(told) > 50
    # How much slower asking is than it was guessed is not known before something was asked: the worst there is.
    inside = [0.5 < left / truth < 2 for left, truth in told if truth < end - _first_asked(events) - 60]
    assert all(inside)
    assert sum(0.5 < left / truth < 2 for left, truth in told) > 0.6 * len(told)


def _first_asked(events: list[tuple[float, Stage, Event]]) -> float:
    return next(now for now, _, event in events if isinstance(event, Progress) and event.phase == "evaluate")


def test_nothing_is_told_before_anything_was_seen_and_nothing_is_left_at_the_end() -> None:
    (one,) = stages = [stage("a", 1e6)]
    foresight = Foresight(stages, (), gpu=False)
    assert foresight.seconds_left(0.0) is None
    foresight.take(one, PhaseStarted(phase="load"), 0.0)
    before = foresight.seconds_left(0.0)
    assert before is not None
    assert before > 0
    for cell in one.cells:
        foresight.take(one, CellFailed(key=cell.key, kind="ModelError", reason="x"), 1.0)
    assert foresight.seconds_left(2.0) == 0


def test_the_lengths_of_rows_that_were_read_go_before_those_of_a_sample_row() -> None:
    (one,) = stages = [stage("a", 268e6)]
    foresight = Foresight(stages, (), gpu=False)
    foresight.take(one, PhaseStarted(phase="load"), 0.0)
    before = foresight.seconds_left(0.0)
    foresight.take(one, RowsRead(task="squad", report={"lengths": LENGTHS["squad"]}), 0.0)
    after = foresight.seconds_left(0.0)
    assert before is not None
    assert after is not None
    assert after > 1.3 * before, "passages of 900 characters, where the sample row has 180"


# runs that were recorded

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
"""Of real models, on one core: what they told as they went on, and the lengths of their tasks' texts."""


def recorded_stage(run: dict[str, Any]) -> Stage:
    protocols = {"zero_shot": ZeroShot(), "few_shot": FewShot(), "soft_prompt": SoftPromptConfig(repeat_rows=True)}
    size = run["parameters"]
    model = Model(name=run["model"], source="/m", fingerprint="sha256:m", parameters=size, weight_bytes=2 * size)
    cells = [
        Cell(
            model=model,
            task=TaskRows(name=task, version=1, content="rows", limit=run["limit"]),
            protocol=protocols[protocol],
            seed=0 if protocols[protocol].seeded else None,
            label=protocol,
        )
        for task, protocol, _ in run["cells"]
    ]
    return Stage(model=model, cells=tuple(cells))


def replayed(run: dict[str, Any], one: Stage) -> Iterator[tuple[float, Event]]:
    """What the run told; between two that were trained each step took the same."""
    requests = [cell[2] for cell in run["cells"]]
    since = 0.0
    for now, what, *more in run["events"]:
        match what, more:
            case "trained", [i]:
                key = one.cells[i].key
                for step in range(1, 81):
                    yield since + (now - since) * step / 80, Progress(phase="train", key=key, done=step, total=80)
                yield now, CellTrained(key=key, prompts={}, curve=())
            case "done", [i]:
                costs = {"requests": float(requests[i])}
                yield now, CellDone(key=one.cells[i].key, result=CellResult(metrics={}, samples=(), costs=costs))
            case "asked", [count]:
                yield now, Progress(phase="evaluate", done=count, total=sum(requests))
            case _:
                if what == "load":
                    for task, lengths in run["lengths"].items():
                        yield now, RowsRead(task=task, report={"lengths": lengths})
                yield now, PhaseStarted(phase=what)
        if what != "done":
            since = now


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_what_a_recorded_run_is_told_from_its_fifth_minute_on_is_within_a_factor_of_two(file: Path) -> None:
    """But for 3 moments of 100: where a cell of short answers ends, and where a model rambles to the end."""
    run = json.loads(file.read_text(encoding="utf-8"))
    one = recorded_stage(run)
    end = run["events"].pop()[0]
    foresight, told = Foresight([one], (), gpu=False), []
    for now, event in replayed(run, one):
        foresight.take(one, event, now)
        if foresight.is_due(now) and (left := foresight.seconds_left(now)) is not None:
            told.append((now, left, end - now))
    late = [left / truth for now, left, truth in told if now > 300 and truth > 60]
    assert all(1 / 3 < ratio < 3 for ratio in late)
    assert sum(1 / 2 < ratio < 2 for ratio in late) >= 0.97 * len(late)
