"""`status`: where a run stands, also from another terminal while several workers are at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast.cli.status import status_of
from spt_fast.config import FewShot, GridConfig, ModelConfig, TaskConfig
from spt_fast.driver.heartbeat import Heartbeat
from spt_fast.driver.run import run_cells
from spt_fast.executors.crew import Crew
from spt_fast.executors.scheduled import ScheduledExecutor
from spt_fast.plan import Stage
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellStarted,
    Event,
    Outlook,
    Phase,
    PhaseStarted,
    Progress,
    WorkerEnded,
    WorkerStarted,
)
from spt_fast.worker.lease import Given
from tests.helpers.cells import result


class Scripted(ScheduledExecutor):
    """Two workers of one model, four cells: one cell is done, one fails, one is in flight, and nobody has the last."""

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
        (stage,) = stages
        first, second, third, _ = stage.by_key

        def begins(worker: int, phase: Phase) -> tuple[int, Event]:
            return worker, PhaseStarted(phase=phase)

        story: list[tuple[int, Event]] = [
            begins(0, "wait"),
            (0, WorkerStarted(where="node-a", gpus=1.0)),
            (1, WorkerStarted(where="node-b", gpus=1.0)),
            begins(0, "evaluate"),
            begins(1, "engine"),
            (0, CellStarted(key=first, phase="evaluate")),
            (0, CellStarted(key=second, phase="evaluate")),
            begins(1, "evaluate"),
            (1, CellStarted(key=third, phase="evaluate")),
            (0, Progress(phase="evaluate", done=60, total=100)),
            (0, CellDone(key=first, result=result(None))),
            (0, Outlook(seconds_left=1200.0)),
            (1, Progress(phase="evaluate", done=1, total=50)),
            (1, WorkerEnded(reason="its node is gone")),
            (0, CellFailed(key=second, kind="EngineError", reason="it died")),
            (0, WorkerEnded()),
        ]
        for worker, event in story:
            yield replace(stage, worker=worker), event

    def nodes(self) -> dict[str, dict[str, float]]:
        return {"node-a": {"GPU": 1.0, "CPU": 4.0}}

    def uses_gpus(self) -> bool:
        return True

    def crew(self, stages: Sequence[Stage]) -> Crew:
        raise AssertionError("nobody runs anything")


class Looking:
    """Asks for the status before each event is shown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[tuple[Event, str]] = []

    @contextmanager
    def __call__(self, cells: object, before: int) -> Iterator[Looking]:
        yield self

    def show(self, stage: Stage, event: Event) -> None:
        self.seen.append((event, status_of(self.folder)))

    def at(self, kind: type[Event], nth: int = 0) -> str:
        """What it said at an event, in one line."""
        text = [text for event, text in self.seen if isinstance(event, kind)][nth]
        return re.sub(r"\d+ requests/s", "N requests/s", text.splitlines()[1])


@pytest.fixture
def looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Looking:
    monkeypatch.setattr(Heartbeat, "EVERY_S", 0.0)
    grid = GridConfig(
        name="g",
        models=(ModelConfig(id="zoo/base-40"),),
        tasks=(TaskConfig(task="zoo-json"),),
        protocols=(FewShot(shots=1),),
        seeds=(0, 1, 2, 3),
        limit=2,
        output=tmp_path / "run",
    )
    looking = Looking(tmp_path / "run")
    run_cells(grid, watch=looking, executor=Scripted())
    return looking


def test_a_run_that_has_only_begun_waits_for_room(looking: Looking) -> None:
    assert looking.at(PhaseStarted) == "running for 0 s; 0 workers; zoo/base-40: waiting for room; 0 of 4 cells in this run"


def test_the_status_says_how_many_workers_are_at_it_on_what_and_how_fast_and_how_long_still(looking: Looking) -> None:
    assert looking.at(CellStarted) == (
        "running for 0 s; 2 workers on 2 GPUs; zoo/base-40: evaluating; zoo/base-40: starting the engine; "
        "0 of 4 cells in this run"
    )
    assert looking.at(Progress, 1) == (
        "running for 0 s; 2 workers on 2 GPUs; N requests/s; zoo/base-40: evaluating; "
        "1 of 4 cells in this run, 2 in flight, about 20 min left"
    )


def test_a_worker_that_is_lost_is_counted_no_more_and_nor_is_what_it_had_in_flight(looking: Looking) -> None:
    assert looking.at(CellFailed) == (
        "running for 0 s; 1 worker on 1 GPU; N requests/s; zoo/base-40: evaluating; "
        "2 of 4 cells in this run, 1 in flight, about 20 min left"
    )


def test_when_it_has_ended_the_status_says_what_is_left_and_why_cells_failed(looking: Looking) -> None:
    head, ended, became, *failed = status_of(looking.folder).splitlines()
    assert head == "g: 4 cells: 1 done, 1 failed, 2 left"
    assert re.fullmatch(r"the last run ended \d+ s ago; run the grid again to go on", ended)
    assert re.fullmatch(r"it took 0 s, \S+ GPU-hours; expected were \d+ s, \S+ GPU-hours \(a guess from .*\)", became)
    assert failed == ["FAILED  zoo/base-40 · zoo-json · few_shot · 1: it died"]
