"""What a person sees while a grid runs."""

from __future__ import annotations

import io

import numpy as np
import pytest

from spt_fast.cell import Cell
from spt_fast.config import SoftPromptConfig, ZeroShot
from spt_fast.events import CellDone, CellFailed, CellStarted, CellTrained, Event, PhaseStarted, Progress
from spt_fast.plan import Stage
from spt_fast.progress import BarWatcher, LineWatcher, spoken, watch
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import CellResult, TrainingStep

from .test_store import cell


@pytest.fixture
def cells() -> dict[str, Cell]:
    return {c.key: c for c in (cell(ZeroShot()), cell(SoftPromptConfig(steps=2)))}


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
            watcher.show(Stage(model=next(iter(cells.values())).model, cells=tuple(cells.values())), event)
    lines = out.getvalue().splitlines()
    assert lines[:5] == [
        "m: reading the model's tokenizer and the rows",
        "m: learning soft prompts",
        "learnt  m · t · soft_prompt · seed 0: loss 2.00 -> 1.00 in 2 steps",
        "m: starting the engine",
        "m: asking",
    ]
    assert lines[5].startswith("done    m · t · zero_shot  [1/2, about ")
    assert lines[6] == "FAILED  m · t · soft_prompt · seed 0: it [bold]died[/bold]  [2/2]"


def test_bars_show_every_event_and_print_a_failure_as_it_is(cells: dict[str, Cell], capsys: pytest.CaptureFixture[str]) -> None:
    with BarWatcher(cells, 0) as watcher:
        for event in story(cells):
            watcher.show(Stage(model=next(iter(cells.values())).model, cells=tuple(cells.values())), event)
    assert "it [bold]died[/bold]" in capsys.readouterr().err


def test_the_time_left_counts_what_is_still_to_be_learnt(cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = LineWatcher(cells, 0, io.StringIO())
    assert watcher.time_left == "", "nothing is behind, so nothing can be told"
    events = story(cells)
    for event in events[:-1]:
        watcher.count(event)
    monkeypatch.setattr("time.monotonic", lambda: watcher.began + 20.0)
    assert watcher.time_left == "about 10 s left", "one learnt and one done in 20 s; one cell to ask"


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (89, "89 s"), (150, "2 min"), (4800, "80 min"), (7200, "2 h 0 min")]
)
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
