"""Whatever a worker says, and whatever has become of the run folder: cells end done or failed, the grid goes on, and what is
wrong is one sentence."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spt_fast.cli import main
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig
from spt_fast.driver.run import run_cells
from spt_fast.errors import FolderGoneError, StoreError
from spt_fast.executors.base import Executor
from spt_fast.executors.messages import Packed
from spt_fast.plan import Stage
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.store import Store
from spt_fast.types import Metric, TrainingStep
from spt_fast.worker.events import CellDone, CellFailed, CellTrained, Event, RowsRead
from spt_fast.worker.lease import Given
from tests.helpers.cells import result
from tests.helpers.tiny import tiny_model

PROMPT = SoftPrompt(vectors=np.ones((2, 4), np.float32))
CURVE = (TrainingStep(step=1, loss=2.0, grad_norm=1.0), TrainingStep(step=2, loss=1.0, grad_norm=1.0))
GOOD = {None: result(None), 2: result(2)}


class Saying(Executor):
    """A worker that says what it is told to of the first cell, and a good result of every other."""

    def __init__(self, what: Callable[[str], Sequence[Event]]) -> None:
        self._what = what
        self.given: dict[str, Any] = {}

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
        for stage in stages:
            self.given |= earlier(stage)
            for i, cell in enumerate(stage.cells):
                good = CellDone(key=cell.key, result=GOOD[cell.steps[-1]])
                for event in self._what(cell.key) if i == 0 else [good]:
                    yield stage, event


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "one"
    tiny_model(folder, hidden_size=32, positions=4096)
    return folder


@pytest.fixture
def grid(model: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(model)),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(SoftPromptConfig(length=2, steps=2, batch_size=2, evaluate_at=()),),
        limit=4,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


def done(key: str, **changes: Any) -> list[Event]:
    return [CellDone(key=key, result=replace(GOOD[2], **changes))]


def metric(value: Any, name: Any = "knowledge") -> dict[int | None, tuple[Metric, ...]]:
    return {2: (Metric(name=name, value=value, n=2, stderr=0.1, ci_low=0.0, ci_high=1.0),)}


def sample(**changes: Any) -> dict[str, Any]:
    return {"samples": (replace(GOOD[2].samples[0], **changes),)}


UNSTORABLE: dict[str, Callable[[str], Sequence[Event]]] = {
    "an infinite metric": lambda key: done(key, metrics=metric(math.inf)),
    "a metric that is text": lambda key: done(key, metrics=metric("much")),
    "a metric of another type": lambda key: done(key, metrics=metric(np.float32(1))),
    "a metric without a name": lambda key: done(key, metrics=metric(1.0, name=None)),
    "no metrics": lambda key: done(key, metrics={}),
    "costs that are infinite": lambda key: done(key, costs={"train_s": math.inf}),
    "costs that are NaN": lambda key: done(key, costs={"train_s": math.nan}),
    "costs that are text": lambda key: done(key, costs={"train_s": "long"}),
    "provenance that is an object": lambda key: done(key, provenance={"torch": object()}),
    "samples that are none": lambda key: done(key, samples=(object(),)),
    "a completion that is no text": lambda key: done(key, **sample(completion=object())),
    "a verdict that is no verdict": lambda key: done(key, **sample(knows="perhaps")),
    "a step too large": lambda key: done(key, **sample(step=2**40)),
    "scores that are text": lambda key: done(key, **sample(scores={"f1": "high"})),
    "a result that is none": lambda key: [CellDone(key=key, result=None)],  # type: ignore[arg-type]
    "a loss that is NaN": lambda key: [
        CellTrained(key=key, prompts={2: PROMPT}, curve=(replace(CURVE[0], loss=math.nan),)),
        *done(key),
    ],
    "a gradient that is infinite": lambda key: [
        CellTrained(key=key, prompts={2: PROMPT}, curve=(replace(CURVE[0], grad_norm=math.inf),)),
        *done(key),
    ],
    "vectors that are none": lambda key: [CellTrained(key=key, prompts={2: "vectors"}, curve=CURVE), *done(key)],  # type: ignore[dict-item]
    "what cannot be unpickled": lambda key: [Packed(key=key, data=b"\x80\x04cno_such_module\nThing\n.").opened()],
}


@pytest.mark.parametrize("what", UNSTORABLE)
def test_a_result_that_cannot_be_stored_is_that_cells_failure_with_a_reason(what: str, grid: GridConfig) -> None:
    outcome = run_cells(grid, executor=Saying(UNSTORABLE[what]))
    assert len(outcome.results) == 1
    (failure,) = outcome.failures.values()
    assert failure.kind == "UnstorableError"
    assert "cannot be" in failure.reason
    assert len(failure.reason) < 500
    again = run_cells(grid, executor=Saying(lambda key: done(key)))
    assert again.complete, "it is tried again"


@pytest.mark.parametrize("text", ["\ud800", "\udfff\x00\x1b[31m", "a\x00b"])
def test_a_completion_of_any_characters_is_stored(text: str, grid: GridConfig) -> None:
    assert run_cells(grid, executor=Saying(lambda key: done(key, **sample(completion=text)))).complete


def test_what_a_worker_says_of_cells_that_are_not_its_own_or_have_ended_counts_for_nothing(grid: GridConfig) -> None:
    def odd(key: str) -> Sequence[Event]:
        failed = CellFailed(key=key, kind="EngineError", reason="it \ud800 died")
        return [CellFailed(key="f" * 16, kind="EngineError", reason="who?"), failed, failed, *done(key)]

    seen: list[Event] = []

    class Watching:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Watching:
            return self

        def __exit__(self, *_: object) -> None: ...

        def show(self, stage: Stage, event: Event) -> None:
            seen.append(event)

    outcome = run_cells(grid, executor=Saying(odd), watch=Watching)
    assert [failure.reason for failure in outcome.failures.values()] == ["it ? died"]
    assert [type(event) for event in seen] == [CellFailed, CellDone]


def test_rows_that_cannot_be_told_of_fail_no_cell(grid: GridConfig) -> None:
    def odd(key: str) -> Sequence[Event]:
        return [RowsRead(task="zoo-mcq", report={"n": object()}), RowsRead(task="no such task", report={}), *done(key)]

    assert run_cells(grid, executor=Saying(odd)).complete
    told = [event for event in Store(grid.folder).events() if event["event"] == "not_kept"]
    assert len(told) == 2


def learnt(key: str) -> Sequence[Event]:
    """What a worker says that dies after it has learnt."""
    failed = CellFailed(key=key, kind="EngineError", reason="it died")
    return [CellTrained(key=key, prompts={2: PROMPT}, curve=CURVE), failed]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    (path / "x").mkdir(parents=True)


def rows(run: Path, *texts: str) -> None:
    (run / "rows").mkdir()
    for i, text in enumerate(texts):
        (run / "rows" / f"{i}.json").write_text(text)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("harm", [cut, pipe, folder, loop])
def test_a_damaged_soft_prompt_of_an_unfinished_cell_is_learnt_again_with_a_line(
    harm: Callable[[Path], None], grid: GridConfig
) -> None:
    outcome = run_cells(grid, executor=Saying(learnt))
    (key,) = outcome.failures
    harm(grid.folder / "cells" / key / "prompt.safetensors")
    said: list[str] = []
    executor = Saying(lambda key: [learnt(key)[0], *done(key)])
    assert run_cells(grid, executor=executor, say=said.append).complete
    assert key not in executor.given
    assert len(said) == 1
    assert "prompt.safetensors" in said[0]
    assert said[0].endswith("so it is learnt again")


def spt_fast(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def run_folder(grid: GridConfig) -> Path:
    run_cells(grid, executor=Saying(lambda key: [learnt(key)[0], *done(key)]))
    return Path(grid.folder)


ODD: dict[str, Callable[[Path], object]] = {
    "events.jsonl is a folder": lambda run: folder(run / "events.jsonl"),
    "events.jsonl is a pipe": lambda run: pipe(run / "events.jsonl"),
    "events.jsonl is no JSON": lambda run: (run / "events.jsonl").write_bytes(b"\xff\x00\n[]\n1\n{}\n" + b"[" * 100_000),
    "events without what they should have": lambda run: (run / "events.jsonl").write_text(
        "".join(
            json.dumps({"event": kind, "time": 1.0}) + "\n" for kind in ("run", "phase", "worker", "pulse", "expected", "end")
        )
    ),
    "grid.yaml is a pipe": lambda run: pipe(run / "grid.yaml"),
    "grid.yaml is a link to itself": lambda run: loop(run / "grid.yaml"),
    "grid.yaml has cells without a model": lambda run: (run / "grid.yaml").write_text("name: g\ncells:\n a: {task: t}\n"),
    "grid.yaml has cells of another type": lambda run: (run / "grid.yaml").write_text("name: g\ncells: {1: [2]}\n"),
    "grid.yaml is deep": lambda run: (run / "grid.yaml").write_text("[" * 20_000),
    "rows that are no rows": lambda run: rows(run, "[[1]]", "{", '{"task": "t"}', '{"task": [1], "key": 3}'),
    "a lock that is a folder": lambda run: folder(run / ".lock"),
    "a lock that is a pipe": lambda run: pipe(run / ".lock"),
    "tables that are folders": lambda run: [(run / name).mkdir() for name in ("results.csv", "report.html")],
    "a failure that is no JSON": lambda run: [
        (each.unlink(), each.with_name("failure.json").write_text("{")) for each in run.glob("cells/*/result.json")
    ],
    "cells is a file": lambda run: (shutil.rmtree(run / "cells"), (run / "cells").write_text("")),
}


@pytest.mark.parametrize("verb", ["status", "report"])
@pytest.mark.parametrize("harm", ODD)
def test_an_odd_run_folder_is_told_in_a_sentence_and_never_waited_for(
    harm: str, verb: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ODD[harm](run_folder)
    code = spt_fast(verb, str(run_folder))
    told = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in told.err
    assert "fault of spt-fast itself" not in told.err
    if code == 2:
        assert len(told.err.strip().splitlines()) == 1
        assert str(run_folder) in told.err


def test_a_run_that_cannot_write_its_events_says_so_and_what_to_do(run_folder: Path, grid: GridConfig) -> None:
    folder(run_folder / "events.jsonl")
    with pytest.raises(StoreError, match=r"events\.jsonl: cannot be written"):
        run_cells(grid, fresh=True, executor=Saying(lambda key: done(key)))


def test_a_folder_that_is_removed_in_the_middle_is_one_sentence_and_nothing_is_made_anew(grid: GridConfig) -> None:
    def removing(key: str) -> Sequence[Event]:
        shutil.rmtree(grid.folder)
        return done(key)

    with pytest.raises(FolderGoneError, match="was removed while the run was at work in it"):
        run_cells(grid, executor=Saying(removing))
    assert not Path(grid.folder).exists()


def test_a_model_whose_name_is_longer_than_a_files_may_be_has_a_log(tmp_path: Path) -> None:
    names = ["m" * 300, "m" * 299 + "n", "a/\x1b[31m", "\ud800"]
    logs = [Store(tmp_path).log(name) for name in names]
    assert all(log.is_file() for log in logs)
    assert len(set(logs)) == len(names)


@pytest.mark.parametrize("verb", ["compare", "rank"])
def test_an_order_or_a_comparison_rests_on_no_rows_that_were_edited(
    verb: str, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(run_folder, tmp_path / "other")
    assert spt_fast("compare", str(run_folder), str(other)) == 0, "a copy is the same run, whenever its files were written"
    for path in run_folder.glob("cells/*/samples.parquet"):
        table = pq.read_table(path)
        at = table.schema.get_field_index("correct")
        pq.write_table(table.set_column(at, "correct", pa.array([True] * len(table))), path)
    capsys.readouterr()
    assert spt_fast(verb, str(run_folder), *([str(other)] if verb == "compare" else [])) == 2
    assert "samples.parquet: was changed after the run" in capsys.readouterr().err


# Signals


def heard() -> None:
    """Have a child hear signals that whoever started the tests has it ignore: nohup does, and a shell in the background."""
    for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_DFL)


def command(tmp_path: Path, model: Path, delay_s: float) -> list[str]:
    text = {
        "name": "g",
        "models": [str(model)],
        "tasks": ["zoo-mcq", "zoo-json"],
        "protocols": ["zero_shot"],
        "limit": 4,
        "engine": {"kind": "echo", "delay_s": delay_s},
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(text))
    return [sys.executable, "-m", "spt_fast", "run", str(tmp_path / "grid.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_and_a_batch_system_end_a_run_as_ctrl_c_does(
    sign: signal.Signals, tmp_path: Path, model: Path
) -> None:
    with subprocess.Popen(
        command(tmp_path, model, 0.2), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=heard
    ) as driver:
        assert driver.stderr is not None
        assert any(line.startswith("done") for line in driver.stderr)
        driver.send_signal(sign)
        said = driver.stderr.read()
    assert driver.returncode == 130
    assert "interrupted: 1 of 2 cells are done" in said
    assert "resume with: spt-fast run" in said
    assert (tmp_path / "out" / "results.csv").is_file()


IMPORTED = """
import sys
sys.argv[0] = "spt-fast"
class Looking:
    def find_spec(self, name, *_):
        if name == "click":
            print("now", flush=True)
            sys.stdin.readline()
sys.meta_path.insert(0, Looking())
from spt_fast.cli import main
"""


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_libraries_are_imported_ends_the_command_with_a_sentence(sign: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    ) as driver:
        assert driver.stdout is not None
        assert driver.stderr is not None
        assert driver.stdout.readline() == "now\n"
        driver.send_signal(sign)
        said = driver.stderr.read()
    assert driver.returncode == 130
    assert said == "spt-fast: interrupted; the same command goes on\n"


def test_a_program_that_imports_the_command_keeps_its_own_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert before in (signal.SIG_DFL, signal.SIG_IGN) or "spt_fast" not in str(before)
    spt_fast("--help")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_verb_in_another_thread_than_the_main_one_works() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(spt_fast("tasks", "list")))
    thread.start()
    thread.join()
    assert codes == [0]
