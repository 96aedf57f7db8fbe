"""Training in a process of its own, as on GPUs: what is handed over, and what a death of either process costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spt_fast.config import GridConfig, Lora, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_grid
from spt_fast.engine.echo import EchoEngine
from spt_fast.errors import DataError, ModelError
from spt_fast.executors import supervisor
from spt_fast.executors.messages import DeviceFree, FromWorker, WantsTraining
from spt_fast.executors.supervisor import APART, Supervisor, trains_apart
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.models import memory
from spt_fast.plan import Stage, expand, stages
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.types import CellResult
from spt_fast.worker import train
from spt_fast.worker.events import CellDone, CellFailed, CellTrained, Event, PhaseStarted, StageDone
from spt_fast.worker.lease import Given, Handed, Lease, More
from spt_fast.worker.rows import StageRows
from spt_fast.worker.stage import Do, run_stage
from spt_fast.worker.training_group import TrainingGroup
from tests.helpers.tiny import tiny_model

SOFT = SoftPromptConfig(length=2, steps=2, batch_size=2, evaluate_at=(0,))
TASKS = ("zoo-mcq", "zoo-short")


class Killed(BaseException):
    """Ends a process as a signal does: no handler of ours stops it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), hidden_size=32, positions=4096)


@pytest.fixture
def grid(model: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(model)),),
        tasks=tuple(TaskConfig(task=name) for name in TASKS),
        protocols=(ZeroShot(), SOFT),
        limit=2,
        engine={"kind": "echo"},
    )


@pytest.fixture
def stage(grid: GridConfig) -> Stage:
    (only,) = stages(expand(grid), set())
    return only


class Here(Lease):
    """A process that is none of its own, without the seconds which that takes, and remembers what it was told."""

    born: list[Here]
    queue: WorkQueue

    def __init__(self, log: Path, log_name: str, *, offline: bool, environment: Mapping[str, str] | None = None) -> None:
        self.alive = True
        self.free: DeviceFree | None = None
        self.born.append(self)

    def send(self, job: tuple[Stage, Given, Do] | DeviceFree) -> None:
        if isinstance(job, DeviceFree):
            assert not any(other.alive and other.free for other in self.born), "the device is another's"
            self.free = job
        else:
            self.stage, self.given, self.do = job

    def messages(self) -> Iterator[FromWorker]:
        told: list[FromWorker] = []
        try:
            ended = run_stage(self.stage, self.given, told.append, self, self.do)  # type: ignore[arg-type]  # no judge's
            told.append(StageDone() if ended else WantsTraining())
        except Killed:
            pass
        yield from told

    def end(self, finished: bool) -> str:
        self.alive = False
        return "the worker was ended by SIGKILL"

    def kill(self) -> None:
        self.alive = False

    # what the process asks

    def claim(self, keys: Sequence[str]) -> Collection[str]:
        return self.queue.claim(keys)

    def more(self) -> More | None:
        return self.queue.more()

    def wait_for_device(self, meanwhile: Callable[[], None]) -> Handed | None:
        assert self.free is not None
        return self.free.handed


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    monkeypatch.setattr(supervisor, "WorkerProcess", Here)
    monkeypatch.setenv(APART, "1")
    Here.born = []
    return Here


def supervised(stage: Stage, tmp_path: Path, *, queue: WorkQueue | None = None) -> list[Event]:
    Here.queue = queue or WorkQueue(stage.cells, {})
    return list(Supervisor(stage, Here.queue, tmp_path / "log", "the log").events())


def counted(kind: type[Event], events: Sequence[Event]) -> Counter[str]:
    return Counter(str(event.key) for event in events if isinstance(event, kind))  # type: ignore[union-attr]


def jobs(here: type[Here]) -> list[str]:
    return [each.do for each in here.born]


def results(events: Sequence[Event]) -> dict[str, CellResult]:
    return {event.key: event.result for event in events if isinstance(event, CellDone)}


def counts_of(result: CellResult) -> dict[str, float]:
    """Its costs, but seconds and peaks."""
    return {name: cost for name, cost in result.costs.items() if not (name.endswith("_s") or "peak" in name)}


def learning(stage: Stage) -> list[Cell]:
    return [cell for cell in stage.cells if cell.protocol.attaches != "nothing"]


def test_what_comes_of_it_is_what_comes_of_one_process(stage: Stage, tmp_path: Path, here: type[Here]) -> None:
    together: list[Event] = []
    run_stage(stage, {}, together.append)
    apart = supervised(stage, tmp_path)
    assert jobs(here) == ["train", "evaluate"]
    assert here.born[0].stage.cells == tuple(learning(stage))
    assert counted(CellTrained, apart) == counted(CellTrained, together)
    assert counted(CellDone, apart) == dict.fromkeys((cell.key for cell in stage.cells), 1)
    for key, result in results(together).items():
        other = results(apart)[key]
        assert (other.metrics, other.samples) == (result.metrics, result.samples)
        assert other.provenance == result.provenance
        assert other.costs.keys() == result.costs.keys(), "seconds and peaks of the training, too"
        assert counts_of(other) == counts_of(result)
    phases = [event.phase for event in apart if isinstance(event, PhaseStarted)]
    assert phases == ["load", "train", "load", "engine", "evaluate"]


def test_a_stage_without_training_has_one_process(grid: GridConfig, tmp_path: Path, here: type[Here]) -> None:
    (only,) = stages(expand(replace(grid, protocols=(ZeroShot(),))), set())
    assert len(results(supervised(only, tmp_path))) == 2
    assert jobs(here) == ["evaluate"]


def test_what_earlier_runs_have_trained_is_not_trained_again(stage: Stage, tmp_path: Path, here: type[Here]) -> None:
    events: list[Event] = []
    run_stage(stage, {}, events.append)
    first, second = (event for event in events if isinstance(event, CellTrained))
    again = supervised(stage, tmp_path, queue=WorkQueue(stage.cells, {first.key: first.prompts}))
    assert jobs(here) == ["train", "evaluate"]
    assert [event.key for event in again if isinstance(event, CellTrained)] == [second.key]
    everything = WorkQueue(stage.cells, {first.key: first.prompts, second.key: second.prompts})
    assert len(results(supervised(stage, tmp_path, queue=everything))) == 4
    assert jobs(here) == ["train", "evaluate", "evaluate"]


def dying(monkeypatch: pytest.MonkeyPatch, of: Collection[str], times: int) -> None:
    """Have the training of these tasks end its process, so many times."""
    keep = train.Training._keep
    deaths = iter(range(times))

    def dies(self: train.Training, group: TrainingGroup, *rest: object) -> None:
        if group.longest.task.name in of and next(deaths, None) is not None:
            raise Killed
        keep(self, group, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(train.Training, "_keep", dies)


def test_a_trainer_that_dies_once_costs_nothing(
    stage: Stage, tmp_path: Path, here: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(monkeypatch, TASKS[1:], 1)
    events = supervised(stage, tmp_path)
    assert counted(CellDone, events) == dict.fromkeys((cell.key for cell in stage.cells), 1)
    assert set(counted(CellTrained, events).values()) == {1}, "and what was trained before is not trained again"
    assert jobs(here) == ["train", "evaluate"] * 2
    assert not any(each.alive for each in here.born)


def test_a_cell_that_trainers_die_of_fails_and_no_other(
    stage: Stage, tmp_path: Path, here: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(monkeypatch, TASKS[1:], 10)
    events = supervised(stage, tmp_path)
    (culprit,) = (cell for cell in learning(stage) if cell.task.name == TASKS[1])
    assert counted(CellFailed, events) == {culprit.key: 1}
    (failed,) = (event for event in events if isinstance(event, CellFailed))
    assert failed.reason == "the worker was ended by SIGKILL"
    assert len(results(events)) == 3


def test_a_worker_that_dies_while_others_train_for_it_is_replaced_and_nothing_is_trained_again(
    stage: Stage, tmp_path: Path, here: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = train.Training._keep

    def end_the_other(*arguments: object) -> None:
        here.born[1].alive = False
        keep(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train.Training, "_keep", end_the_other)
    events = supervised(stage, tmp_path)
    assert counted(CellDone, events) == dict.fromkeys((cell.key for cell in stage.cells), 1)
    assert jobs(here) == ["train", "evaluate", "evaluate"]
    costs = results(events)[learning(stage)[0].key].costs
    assert {"train_s", "load_s", "train_peak_rss_bytes"} <= costs.keys(), "which the one before never knew of"


def test_a_worker_that_is_given_cells_to_train_for_ends_and_two_others_go_on(
    stage: Stage, tmp_path: Path, here: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tuple(cell for cell in stage.cells if cell not in learning(stage))
    queue = WorkQueue(plain, {}, shared=True)
    more = queue.more

    def assigned_meanwhile() -> More | None:
        if len(here.born) == 1:
            queue.assign(learning(stage), {})
        queue.release()
        return more()

    monkeypatch.setattr(queue, "more", assigned_meanwhile)
    events = supervised(replace(stage, cells=plain), tmp_path, queue=queue)
    assert counted(CellDone, events) == dict.fromkeys((cell.key for cell in stage.cells), 1)
    assert jobs(here) == ["evaluate", "train", "evaluate"]


def test_what_both_processes_find_wrong_is_told_once(
    stage: Stage, tmp_path: Path, here: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one task that cannot be read, in either of them."""
    require = StageRows.require_few_left_out

    def refuse(self: StageRows, task: TaskRows) -> None:
        if task.name == TASKS[1]:
            raise DataError("too few rows are left")
        require(self, task)

    monkeypatch.setattr(StageRows, "require_few_left_out", refuse)
    events = supervised(stage, tmp_path)
    wrong = [cell.key for cell in stage.cells if cell.task.name == TASKS[1]]
    assert counted(CellFailed, events) == dict.fromkeys(wrong, 1)
    assert len(results(events)) == 2


def test_a_model_that_cannot_be_loaded_costs_the_cells_that_learn(
    stage: Stage, tmp_path: Path, here: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(work: object) -> None:
        raise ModelError("too large for this machine")

    monkeypatch.setattr(train, "_load", refused)
    events = supervised(stage, tmp_path)
    assert counted(CellFailed, events) == dict.fromkeys((cell.key for cell in learning(stage)), 1)
    assert len(results(events)) == 2


def test_the_process_that_evaluates_leaves_the_gpu_alone(
    stage: Stage, tmp_path: Path, here: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So vLLM may fork its processes: where CUDA was initialised, it spawns them, and they import everything again."""
    supervised(stage, tmp_path)
    worker = here.born[1]
    assert worker.do == "evaluate"
    touched: list[str] = []
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: touched.append("CUDA was initialised"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(memory, "free_and_total", lambda devices: (60 * 2**30, 80 * 2**30))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    here.queue = WorkQueue(stage.cells, {})
    events: list[Event] = []
    run_stage(worker.stage, {}, events.append, worker, "evaluate")
    assert len(results(events)) == len(stage.cells)
    assert results(events)[stage.cells[0].key].costs["peak_gpu_bytes"] == 20 * 2**30, "and asks the driver what is taken"
    assert touched == []


@pytest.mark.parametrize(("elsewhere", "expected"), [(True, 70.0), (False, 9.0)])
def test_the_peak_of_an_engine_in_another_process_has_nothing_of_the_training_in_it(
    elsewhere: bool, expected: float, grid: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(devices: int = 1, *, elsewhere: bool = False) -> dict[str, float]:
        return {"gpu_bytes": 70.0 if elsewhere else 9.0}

    monkeypatch.setattr(EchoEngine, "elsewhere", elsewhere)
    monkeypatch.setattr(memory, "peak", peak)
    (only,) = stages(expand(replace(grid, tasks=grid.tasks[:1], protocols=(ZeroShot(),))), set())
    events: list[Event] = []
    run_stage(only, {}, events.append)
    (result,) = results(events).values()
    assert result.costs["peak_gpu_bytes"] == expected


def test_training_is_apart_on_gpus_and_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(APART, raising=False)
    for gpus, expected in (("", False), ("0", True), ("0,1", True)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        assert trains_apart() is expected
    monkeypatch.setenv(APART, "0")
    assert not trains_apart()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv(APART, "1")
    assert trains_apart()


def test_real_processes_train_and_evaluate_apart(grid: GridConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A soft prompt and an adapter, through `run`."""
    monkeypatch.setenv(APART, "1")
    protocols = (SOFT, Lora(rank=2, steps=2, batch_size=2))
    two = replace(grid, tasks=grid.tasks[:1], protocols=protocols, engine={"kind": "transformers"}, output=tmp_path / "run")
    done = run_grid(two)
    assert done.complete, done.failures
    assert all(result.costs["train_s"] > 0 for result in done.results.values())
