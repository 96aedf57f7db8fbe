"""What a person sees while a grid runs."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from spt_fast.cli.progress import BarWatcher, LineWatcher, spoken, watch
from spt_fast.config import SoftPromptConfig, ZeroShot
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell
from spt_fast.prompts.carried import provenance_of
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import CellResult, TrainingStep
from spt_fast.worker.events import (
    THIS_MACHINE,
    CellDone,
    CellFailed,
    CellStarted,
    CellTrained,
    Event,
    Outlook,
    PhaseStarted,
    Progress,
    WorkerEnded,
    WorkerStarted,
)
from tests.helpers.cells import cell


@pytest.fixture
def cells() -> dict[str, Cell]:
    return {c.key: c for c in (cell(ZeroShot()), cell(SoftPromptConfig(steps=2)))}


def stage_of(cells: dict[str, Cell], worker: int = 0) -> Stage:
    return Stage(model=next(iter(cells.values())).model, cells=tuple(cells.values()), worker=worker)


def story(cells: dict[str, Cell]) -> list[Event]:
    """A stage from its first event to its last: one cell is done, one fails."""
    plain, tuned = cells
    prompt = SoftPrompt(vectors=np.ones((2, 3), np.float32))
    curve = tuple(TrainingStep(step=step, loss=3.0 - step, grad_norm=1.0) for step in (1, 2))
    return [
        PhaseStarted(phase="load"),
        PhaseStarted(phase="train"),
        CellStarted(key=tuned, phase="train"),
        Progress(phase="train", key=tuned, done=1, total=2, note="loss 2.000"),
        CellTrained(key=tuned, prompts={2: prompt}, curve=curve),
        PhaseStarted(phase="engine"),
        PhaseStarted(phase="evaluate"),
        CellStarted(key=plain, phase="evaluate"),
        Progress(phase="evaluate", done=3, total=9, note="7 requests/s"),
        CellDone(key=plain, result=CellResult(metrics={}, samples=())),
        CellFailed(key=tuned, kind="EngineError", reason="it [bold]died[/bold]"),
    ]


def test_a_log_gets_a_line_a_phase_and_a_cell(cells: dict[str, Cell]) -> None:
    out = io.StringIO()
    with watch(cells, 0, out) as watcher:
        assert isinstance(watcher, LineWatcher), "a file is no terminal"
        for event in story(cells):
            watcher.show(stage_of(cells), event)
    lines = out.getvalue().splitlines()
    assert lines[:5] == [
        "m: reading the model's tokenizer and the rows",
        "m: training soft prompts",
        "trained m · t · soft_prompt · seed 0: loss 2.00 -> 1.00 in 2 steps",
        "m: starting the engine",
        "m: evaluating",
    ]
    assert lines[5].startswith("done    m · t · zero_shot  [1/2, about ")
    assert lines[6] == "FAILED  m · t · soft_prompt · seed 0: it [bold]died[/bold]  [2/2]"


VECTORS = np.ones((2, 3), np.float32)
COLD = SoftPrompt(vectors=VECTORS, provenance={"step": "80", "model": "run/step-1"})
CARRIED = SoftPrompt(vectors=VECTORS, provenance={"step": "2", "model": "run/step-1", **provenance_of(COLD, thread="t")})


@pytest.mark.parametrize(
    ("start", "said"),
    [(COLD, "after 80 from a cold start"), (CARRIED, "after 82 before it (from run/step-1)")],
    ids=["cold", "carried"],
)
def test_a_carried_soft_prompt_is_told_with_the_steps_that_its_start_had(
    start: SoftPrompt, said: str, cells: dict[str, Cell]
) -> None:
    out, (_, tuned) = io.StringIO(), cells
    prompts = {2: SoftPrompt(vectors=VECTORS, provenance=provenance_of(start, thread="t"))}
    curve = tuple(TrainingStep(step=step, loss=3.0 - step, grad_norm=1.0) for step in (1, 2))
    with watch(cells, 0, out) as watcher:
        watcher.show(stage_of(cells), CellTrained(key=tuned, prompts=prompts, curve=curve))
    assert out.getvalue() == f"trained m · t · soft_prompt · seed 0: loss 2.00 -> 1.00 in 2 steps, {said}\n"


def test_bars_show_every_event_and_print_a_failure_as_it_is(cells: dict[str, Cell], capsys: pytest.CaptureFixture[str]) -> None:
    with BarWatcher(cells, 0) as watcher:
        for event in story(cells):
            watcher.show(stage_of(cells), event)
    assert "it [bold]died[/bold]" in capsys.readouterr().err


def test_the_time_left_counts_what_is_still_to_be_learnt(cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = LineWatcher(cells, 0, io.StringIO())
    assert watcher.time_left == "", "nothing is behind, so nothing can be told"
    events = story(cells)
    for event in events[:-1]:
        watcher.count(stage_of(cells), event)
    monkeypatch.setattr("time.monotonic", lambda: watcher.began + 20.0)
    assert watcher.time_left == "about 10 s left", "one learnt and one done in 20 s; one cell to ask"


def test_an_executor_that_knows_better_is_believed_about_the_time_left(
    cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = LineWatcher(cells, 0, io.StringIO())
    watcher.count(stage_of(cells), Outlook(seconds_left=60.0))
    then = watcher.began
    monkeypatch.setattr("time.monotonic", lambda: then + 20.0)
    watcher.count(stage_of(cells), Outlook(seconds_left=60.0))
    monkeypatch.setattr("time.monotonic", lambda: then + 30.0)
    assert watcher.time_left == "about 50 s left"
    monkeypatch.setattr("time.monotonic", lambda: then + 900.0)
    assert watcher.time_left == "about 0 s left"


def test_a_log_says_where_workers_are_and_which_were_lost(cells: dict[str, Cell]) -> None:
    out = io.StringIO()
    watcher = LineWatcher(cells, 0, out)
    first, second = stage_of(cells), stage_of(cells, worker=1)
    watcher.show(first, WorkerStarted(where="node-a", gpus=2.0))
    watcher.show(second, WorkerStarted(where="node-b", gpus=0.5))
    watcher.show(second, PhaseStarted(phase="engine", note="max_num_seqs 128"))
    watcher.show(second, WorkerEnded(reason="its node is gone"))
    watcher.show(replace(second, worker=2), WorkerStarted(where="node-c", gpus=0.0))
    watcher.show(first, PhaseStarted(phase="wait", note="a worker needs 2 GPUs"))
    watcher.show(first, WorkerEnded())
    assert out.getvalue().splitlines() == [
        "m: on node-a with 2 GPUs",
        "m [1]: on node-b with 0.5 of a GPU",
        "m [1]: starting the engine (max_num_seqs 128)",
        "m [1]: its worker was lost (its node is gone); what it had not done goes to another",
        "m [2]: on node-c",
        "m: waiting for room (a worker needs 2 GPUs)",
    ], "that a worker has ended as it should is not worth a line"


def test_a_worker_beside_the_driver_is_not_worth_a_line(cells: dict[str, Cell]) -> None:
    out = io.StringIO()
    watcher = LineWatcher(cells, 0, out)
    watcher.show(stage_of(cells), WorkerStarted(where=THIS_MACHINE, gpus=1.0))
    watcher.show(stage_of(cells), WorkerEnded())
    assert out.getvalue() == ""


def test_beside_the_bar_of_the_grid_stand_the_workers_their_gpus_and_how_fast_they_are(
    cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    with BarWatcher(cells, 0) as watcher:
        for worker in (0, 1):
            watcher.show(stage_of(cells, worker), WorkerStarted(where="node", gpus=0.5))
            watcher.show(stage_of(cells, worker), PhaseStarted(phase="evaluate"))
            watcher.show(stage_of(cells, worker), Progress(phase="evaluate", done=5, total=50))
        monkeypatch.setattr("time.monotonic", lambda: 2.0)
        for worker in (0, 1):
            watcher.show(stage_of(cells, worker), Progress(phase="evaluate", done=25, total=50))
        assert watcher._note == "2 workers on 1 GPU, 25 requests/s"
        watcher.show(stage_of(cells, 1), WorkerEnded(reason="it has been silent for 60 s"))
        assert watcher._note == "", "one worker alone says what it does on its own bar"


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (89, "89 s"), (150, "2 min"), (4800, "80 min"), (7200, "2 h 0 min")]
)
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
