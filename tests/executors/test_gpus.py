"""All GPUs of this machine without a cluster: workers at once, each on GPUs of its own. The GPUs are named, and not there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from spt_fast.cli.dry_run import dry_run
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.executors import LOCAL, open_executor, prestarted, supervisor
from spt_fast.executors.base import Executor
from spt_fast.executors.gpus import Devices, GpusExecutor, _Processes
from spt_fast.executors.local import LocalExecutor
from spt_fast.executors.messages import DeviceFree, ImportAhead
from spt_fast.plan import Stage, expand, stages
from spt_fast.scheduling.limits import Limits
from spt_fast.scheduling.messages import Job, Start
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellStarted,
    Event,
    PhaseStarted,
    StageDone,
    WorkerEnded,
    WorkerStarted,
)
from spt_fast.worker.lease import Given
from spt_fast.worker.stage import run_stage
from tests.helpers.running import Inline
from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(tiny_model(folder / name, hidden_size=32, positions=4096, seed=i)) for i, name in enumerate("abc")]


@pytest.fixture
def grid(models: list[str], tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=tuple(ModelConfig(id=model) for model in models),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(),),
        limit=2,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")


class Here:
    """A worker that is no process of its own: what a worker tells, without the seconds that a process takes to import torch."""

    at_once = threading.Barrier(1)
    """So many workers are at work before any goes on."""
    hangs: Callable[[Stage], bool]
    born: list[Here]

    def __init__(self, log: Path, log_name: str, *, offline: bool, environment: Mapping[str, str] | None = None) -> None:
        self.gpus = (environment or {}).get("CUDA_VISIBLE_DEVICES", "").split(",")
        self.alive = True
        self.ended = threading.Event()
        self.imports: ImportAhead | None = None
        self.alive_when_settled: list[bool] = []
        self.born.append(self)

    def send(self, job: tuple[Stage, Given] | DeviceFree | ImportAhead | object) -> None:
        if isinstance(job, tuple) and job and isinstance(job[0], Stage):
            self.stage = job[0]
        elif isinstance(job, ImportAhead):
            self.imports = job

    def settle(self, log: Path, log_name: str, environment: Mapping[str, str]) -> None:
        assert self.gpus == [""], "it is told once"
        self.gpus = environment["CUDA_VISIBLE_DEVICES"].split(",")
        self.alive_when_settled = [other.alive for other in self.born if other is not self]

    def messages(self) -> Iterator[Event]:
        self.at_once.wait(timeout=60)
        if type(self).hangs(self.stage):
            self.ended.wait(timeout=60)
            return
        events: list[Event] = []
        run_stage(self.stage, {}, events.append)
        yield from [*events, StageDone()]

    def end(self, finished: bool) -> str:
        self.alive = False
        return "it was ended"

    def end_group(self) -> None:
        self.ended.set()

    def kill(self) -> None:
        self.alive = False
        self.ended.set()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        self.alive = False


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    monkeypatch.setattr(supervisor, "WorkerProcess", Here)
    monkeypatch.setattr(prestarted, "WorkerProcess", Here)
    Here.born, Here.at_once, Here.hangs = [], threading.Barrier(1), staticmethod(lambda stage: False)
    return Here


def executor(folder: Path) -> GpusExecutor:
    found = GpusExecutor(lambda model: folder / f"{Path(model).name}.log")
    found.poll_s = 0.05
    return found


def run(executor: Executor, todo: Sequence[Stage]) -> list[tuple[Stage, Event]]:
    return list(executor.run(todo, lambda stage: {}))


def ended(events: Sequence[tuple[Stage, Event]], kind: type[Event]) -> list[str]:
    """Names of the models of which a cell has ended so."""
    return sorted(Path(stage.model.name).name for stage, event in events if isinstance(event, kind))


# who takes which


def test_workers_have_gpus_of_their_own_and_shares_are_put_together() -> None:
    devices = Devices(["0", "1", "2", "3"])
    assert devices.take(1, 2.0) == ("0", "1")
    assert devices.take(2, 0.5) == ("2",)
    assert devices.take(3, 0.5) == ("2",)
    assert devices.take(4, 1.0) == ("3",)
    devices.give_back(1)
    devices.give_back(2)
    assert devices.take(5, 0.4) == ("2",), "the fullest that has room"
    assert devices.take(6, 2.0) == ("0", "1")


def test_giving_back_what_was_never_taken_is_no_error() -> None:
    Devices(["0"]).give_back(7)


@pytest.mark.parametrize(
    ("visible", "needs", "kind"),
    [
        ("", [1.0], LocalExecutor),
        ("0", [0.5], LocalExecutor),
        ("0,1", [1.0, 2.0], GpusExecutor),
        ("0,1,2", [2.0], LocalExecutor),
        ("0,1,2,3", [4.0, 2.0], GpusExecutor),
        ("0,1", [], GpusExecutor),
    ],
)
def test_gpus_are_divided_where_two_workers_fit(
    visible: str, needs: list[float], kind: type[Executor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert type(open_executor(LOCAL, lambda model: tmp_path / "log", needs=needs)) is kind


# what is run


def test_models_run_at_once_on_a_gpu_each_and_the_third_when_one_is_free(
    grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path
) -> None:
    here.at_once = threading.Barrier(2, action=lambda: setattr(here, "at_once", threading.Barrier(1)))
    events = run(executor(tmp_path), stages(expand(grid), set()))
    assert ended(events, CellDone) == ["a", "a", "b", "b", "c", "c"]
    assert sorted(worker.gpus[0] for worker in here.born[:2]) == ["4", "GPU-7"]
    assert len(here.born) == 3
    started = [event for _, event in events if isinstance(event, WorkerStarted)]
    assert sorted(event.where for event in started[:2]) == ["this machine, GPU 4", "this machine, GPU GPU-7"]
    assert [event.gpus for event in started] == [1.0, 1.0, 1.0]


def test_the_next_models_process_imports_while_others_are_evaluated_and_has_the_first_free_gpu(
    grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path
) -> None:
    here.at_once = threading.Barrier(2, action=lambda: setattr(here, "at_once", threading.Barrier(1)))
    events = run(executor(tmp_path), stages(expand(grid), set()))
    assert ended(events, CellDone) == ["a", "a", "b", "b", "c", "c"]
    assert [worker.imports for worker in here.born] == [None, None, ImportAhead("evaluate", "echo")]
    third = here.born[2]
    free = [other.gpus for other, alive in zip(here.born, third.alive_when_settled, strict=False) if not alive]
    assert third.gpus in free, "of one of the two that were before it, which has ended"


def test_a_machine_that_has_no_room_for_processes_ahead_of_time_does_without(
    grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(prestarted, "WorkerProcess", refuse)
    assert len(ended(run(executor(tmp_path), stages(expand(grid), set())), CellDone)) == 6


def test_where_training_is_apart_both_processes_of_the_next_model_import(
    grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path
) -> None:
    learns = replace(grid, tasks=grid.tasks[:1], protocols=(SoftPromptConfig(length=2, steps=1, batch_size=2),))
    todo = stages(expand(learns), set())
    crew = executor(tmp_path).crew(todo)
    assert isinstance(crew, _Processes)
    here.at_once, here.hangs = threading.Barrier(2), staticmethod(lambda stage: True)
    job = Job(name="a", need={"GPU": 1.0}, start_s=1.0, pieces=())
    crew.start(Start(1, "a", ("this machine",), ()), job, todo[0], todo[0], {})
    here.at_once.wait(timeout=60)
    assert [worker.imports for worker in here.born] == [None, None], "there was nobody to take"
    for _ in range(3):
        crew.observe(todo[0], PhaseStarted(phase="evaluate"))
    crew.kill(1)
    crew.close()
    ahead = [worker.imports for worker in here.born if worker.imports]
    assert ahead == [ImportAhead("evaluate", "echo"), ImportAhead("train", "echo")], "for as many models as are at work"
    assert not any(worker.alive for worker in here.born)


def test_one_model_with_much_to_do_has_a_worker_on_each_gpu(
    grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path
) -> None:
    from spt_fast.scheduling.estimates import Measured

    here.at_once = threading.Barrier(2)
    (stage, *_) = stages(expand(grid), set())
    scheduled = executor(tmp_path)
    costs = {"answer_s": 1000.0, "engine_start_s": 1.0}
    scheduled.measured = [Measured(cell=cell, costs=costs) for cell in stage.cells]
    events = run(scheduled, [stage])
    assert ended(events, CellDone) == ["a", "a"]
    assert {len(worker.stage.cells) for worker in here.born} == {1}
    assert {worker.gpus[0] for worker in here.born} == {"4", "GPU-7"}


def test_halves_share_a_gpu(grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path) -> None:
    here.at_once = threading.Barrier(3)
    halves = replace(grid, models=tuple(replace(model, gpus=0.5) for model in grid.models))
    events = run(executor(tmp_path), stages(expand(halves), set()))
    assert len(ended(events, CellDone)) == 6
    assert sorted(worker.gpus[0] for worker in here.born) in (["4", "4", "GPU-7"], ["4", "GPU-7", "GPU-7"])


def test_a_model_that_needs_more_gpus_than_there_are_fails_with_that_and_the_others_are_done(
    grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path
) -> None:
    large = replace(grid.models[0], tensor_parallel=4)
    events = run(executor(tmp_path), stages(expand(replace(grid, models=(large, *grid.models[1:]))), set()))
    assert ended(events, CellFailed) == ["a", "a"]
    assert ended(events, CellDone) == ["b", "b", "c", "c"]
    (reason,) = {event.reason for _, event in events if isinstance(event, CellFailed)}
    assert reason.startswith("a worker needs 4 GPUs of one node, and the largest node has 2")
    assert len(here.born) == 2


def test_a_worker_that_hangs_is_killed_and_its_gpu_goes_to_another(
    grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path
) -> None:
    here.hangs = staticmethod(lambda stage: stage.model.name.endswith("a"))
    impatient = executor(tmp_path)
    impatient.limits = Limits(node_wait_s=0.0, ahead=0, stalled_s=1.0, attempts=1)
    before = threading.active_count()
    events = run(impatient, stages(expand(grid), set()))
    assert ended(events, CellFailed) == ["a", "a"]
    assert ended(events, CellDone) == ["b", "b", "c", "c"]
    reasons = {event.reason for _, event in events if isinstance(event, CellFailed)}
    assert reasons == {"nothing has happened for 1 s, once in this cell"}
    assert [event.reason for _, event in events if isinstance(event, WorkerEnded) and event.reason]
    assert threading.active_count() == before
    assert not any(worker.alive for worker in here.born)


def test_a_run_that_is_left_ends_its_workers(grid: GridConfig, two_gpus: None, here: type[Here], tmp_path: Path) -> None:
    here.hangs = staticmethod(lambda stage: stage.model.name.endswith("a"))
    before = threading.active_count()
    events = executor(tmp_path).run(stages(expand(grid), set()), lambda stage: {})
    assert any(isinstance(event, CellDone) for _, event in events)
    events.close()
    assert threading.active_count() == before
    assert not any(worker.alive for worker in here.born)


def test_a_log_that_cannot_be_written_is_the_reason_of_its_cells(grid: GridConfig, two_gpus: None, tmp_path: Path) -> None:
    events = run(executor(tmp_path / "nowhere"), stages(expand(grid), set())[:1])
    assert ended(events, CellFailed) == ["a", "a"]
    assert all("cannot be written" in event.reason for _, event in events if isinstance(event, CellFailed))


# what is said


def test_a_dry_run_goes_by_all_gpus_of_this_machine(grid: GridConfig, two_gpus: None) -> None:
    (time,) = [line for line in dry_run(grid, {}, fresh=False).splitlines() if line.startswith("time: ")]
    assert " on the 2 GPUs of this machine, " in time


@pytest.mark.slow
def test_a_run_with_two_gpus_says_how_it_divides_them_and_has_the_results_of_one_gpu(
    grid: GridConfig, two_gpus: None, tmp_path: Path
) -> None:
    class Watcher:
        """Sees what the worker processes may use."""

        def __init__(self) -> None:
            self.visible: set[str] = set()
            self.where: set[str] = set()

        def show(self, stage: Stage, event: Event) -> None:
            if isinstance(event, WorkerStarted):
                self.where.add(event.where)
            if isinstance(event, CellStarted):
                for child in psutil.Process().children():
                    if "spt_fast.executors.process" in child.cmdline():
                        self.visible.add(child.environ()["CUDA_VISIBLE_DEVICES"])

    watcher = Watcher()

    @contextmanager
    def watch(*_: Any) -> Iterator[Watcher]:
        yield watcher

    said: list[str] = []
    two = replace(grid, models=grid.models[:2], tasks=grid.tasks[:1], engine={"kind": "echo", "delay_s": 0.2})
    there = run_cells(two, watch=watch, say=said.append)
    assert there.complete, there.failures
    assert said == ["2 models are divided over the 2 GPUs of this machine, 1 to a worker"]
    assert watcher.where == {"this machine, GPU 4", "this machine, GPU GPU-7"}
    assert watcher.visible == {"4", "GPU-7"}
    one = run_cells(replace(two, engine={"kind": "echo"}, output=tmp_path / "one"), executor=Inline())
    assert [each.metrics for each in there.results.values()] == [each.metrics for each in one.results.values()]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,GPU-7"
