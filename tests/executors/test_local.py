"""One worker process a model on this machine: the next one starts early, puts nothing on the device before it is free, and is
never left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.executors import supervisor
from spt_fast.executors.local import LocalExecutor
from spt_fast.executors.messages import DeviceFree
from spt_fast.executors.process import _Line
from spt_fast.plan import Stage, expand, stages
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.worker.events import CellDone, CellFailed, CellTrained, Event, PhaseStarted, StageDone
from spt_fast.worker.lease import Given, SoleLease
from spt_fast.worker.stage import Do, run_stage
from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    """The same cell of two models."""
    folder = tmp_path_factory.mktemp("models")
    models = [tiny_model(folder / name, hidden_size=32, positions=4096, seed=seed) for seed, name in enumerate(("one", "two"))]
    grid = GridConfig(
        name="g",
        models=tuple(ModelConfig(id=str(model)) for model in models),
        tasks=(TaskConfig(task="zoo-mcq"),),
        protocols=(ZeroShot(),),
        limit=2,
        engine={"kind": "echo"},
    )
    return stages(expand(grid), set())


class Here:
    """A worker that is no process of its own, and remembers what happened to it."""

    born: list[Here]
    alive_when_free: list[list[bool]]
    """Each time the device was free, in order: which of the workers before it were still there."""

    def __init__(self, log: Path, log_name: str, *, offline: bool, environment: Mapping[str, str] | None = None) -> None:
        self.alive = True
        self.born.append(self)

    def send(self, job: tuple[Stage, Given, Do] | DeviceFree) -> None:
        if isinstance(job, DeviceFree):
            self.alive_when_free.append([worker.alive for worker in self.born if worker is not self])
        else:
            self._stage, self._given, do = job
            assert do == "all"

    def messages(self) -> Iterator[Event]:
        events: list[Event] = []
        run_stage(self._stage, self._given, events.append)
        yield from [*events, StageDone()]

    def end(self, finished: bool) -> str:
        self.alive = False
        return ""

    def kill(self) -> None:
        self.alive = False


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    monkeypatch.setattr(supervisor, "WorkerProcess", Here)
    monkeypatch.setenv(supervisor.APART, "0")
    Here.born, Here.alive_when_free = [], []
    return Here


def events_of(two: list[Stage], folder: Path, *, ahead: bool = True) -> Generator[tuple[Stage, Event]]:
    return LocalExecutor(lambda name: folder / f"{Path(name).name}.log", ahead=ahead).run(two, lambda stage: {})


def until_asked(run: Generator[tuple[Stage, Event]]) -> None:
    """Go on until the first model is asked."""
    for _, event in run:
        if isinstance(event, PhaseStarted) and event.phase == "evaluate":
            return


def done(rest: Generator[tuple[Stage, Event]]) -> list[str]:
    """The models whose cell is done, in order."""
    found = []
    for stage, event in rest:
        assert not isinstance(event, CellFailed), event
        if isinstance(event, CellDone):
            found.append(Path(stage.model.name).name)
    return found


def test_the_next_worker_starts_while_a_model_is_asked_and_has_the_device_when_that_has_ended(
    two: list[Stage], tmp_path: Path, here: type[Here]
) -> None:
    run = events_of(two, tmp_path)
    until_asked(run)
    assert [worker.alive for worker in here.born] == [True, True]
    assert done(run) == ["one", "two"]
    assert len(here.born) == 2
    assert here.alive_when_free == [[], [False]]


def test_a_worker_that_dies_while_it_waits_costs_nothing(two: list[Stage], tmp_path: Path, here: type[Here]) -> None:
    run = events_of(two, tmp_path)
    until_asked(run)
    here.born[1].alive = False
    assert done(run) == ["one", "two"]
    assert len(here.born) == 3


def test_a_run_that_is_left_ends_the_worker_that_waits(two: list[Stage], tmp_path: Path, here: type[Here]) -> None:
    run = events_of(two, tmp_path)
    until_asked(run)
    run.close()
    assert [worker.alive for worker in here.born] == [False, False]


def test_no_worker_starts_early_where_that_is_not_wanted(two: list[Stage], tmp_path: Path, here: type[Here]) -> None:
    run = events_of(two, tmp_path, ahead=False)
    until_asked(run)
    assert len(here.born) == 1
    assert done(run) == ["one", "two"]


def test_a_worker_that_waits_ends_when_its_driver_is_gone(two: list[Stage], tmp_path: Path) -> None:
    with supervisor.employ(two[0], {}, tmp_path / "log", "the log", apart=False) as employed:
        worker = employed.worker
        assert employed.alive
        worker._connection.close()  # as the system does for a driver that was killed
        assert worker._process.wait(60) == -signal.SIGKILL
        assert not worker.alive


def test_nothing_is_put_on_the_device_before_the_device_is_free(two: list[Stage]) -> None:
    events: list[Event] = []
    before: list[Event] = []

    class Waits(SoleLease):
        def wait_for_device(self, meanwhile: Callable[[], None]) -> None:
            meanwhile()
            before.extend(events)

    run_stage(two[0], {}, events.append, Waits())
    phases = [event.phase for event in before if isinstance(event, PhaseStarted)]
    assert phases == ["load"]
    assert isinstance(events[-1], CellDone)


def test_a_worker_works_ahead_only_as_long_as_it_waits() -> None:
    line = object.__new__(_Line)  # without its thread, which ends this process when the other end is gone
    line._device_free, line._handed = threading.Event(), None
    did: list[str] = []
    line.wait_for_device(lambda: (did.append("imported"), line._device_free.set())[0])
    line.wait_for_device(lambda: did.append("too late"))
    assert did == ["imported"]


@pytest.mark.parametrize("trained", [False, True])
def test_the_next_checkpoint_is_told_what_it_starts_from_when_all_of_that_is_kept(
    trained: bool, tmp_path: Path, here: type[Here]
) -> None:
    for seed, name in enumerate(("step-1", "step-2")):
        tiny_model(tmp_path / "run" / name, hidden_size=32, positions=4096, seed=seed)
    grid = GridConfig(
        name="g",
        models=(ModelConfig(id=str(tmp_path / "run"), checkpoints="step-*"),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(SoftPromptConfig(init_from="previous", steps=1, cold_steps=1, batch_size=2, length=2), ZeroShot()),
        limit=1,
        engine={"kind": "echo"},
    )
    kept: set[str] = set()
    asked: list[tuple[str, set[str]]] = []

    def earlier(stage: Stage) -> Given:
        asked.append((Path(stage.model.name).name, set(kept)))
        return {key: {1: SoftPrompt(vectors=np.ones((2, 32), np.float32))} for key in stage.carried} if trained else {}

    first, second = stages(expand(grid), set())
    for _, event in LocalExecutor(lambda name: tmp_path / "log").run([first, second], earlier):
        if isinstance(event, CellTrained):
            kept.add(event.key)
    assert asked == [("step-1", set()), ("step-2", set() if trained else set(first.carried))]
    assert len(here.born) == 2
