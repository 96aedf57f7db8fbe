"""A grid on a Ray cluster comes to what it comes to on this machine, whatever happens to actors and nodes on the way.

Two real Ray nodes of one core each, on this machine.
"""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
from safetensors.numpy import load_file, save_file

from spt_fast.cli.dry_run import dry_run
from spt_fast.config import FewShot, GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.result import GridResult
from spt_fast.driver.run import run_cells
from spt_fast.executors.ray.executor import RayExecutor
from spt_fast.plan import Stage
from spt_fast.plan.cell import TaskRows
from spt_fast.report.folder import write_tables
from spt_fast.scheduling.estimates import Measured
from spt_fast.scheduling.limits import Limits
from spt_fast.store import Store
from spt_fast.tasks.rows import load_rows
from spt_fast.worker.events import (
    CellDone,
    CellFailed,
    CellStarted,
    CellTrained,
    Event,
    PhaseStarted,
    Progress,
    WorkerEnded,
    WorkerStarted,
)
from spt_fast.worker.lease import Given
from tests.helpers.running import Inline
from tests.helpers.tiny import tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Events: TypeAlias = Generator[tuple[Stage, Event]]

OURS = "SPT_FAST_TEST_CLUSTER"
NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 * 2**20}

RECOVERY_S = 60.0
"""From a kill to a new worker at work. Some two seconds, and two more where an actor has to start; the machine may be busy."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    os.environ[OURS] = str(os.getpid())  # every process of the cluster, and what those start, has it from us
    started = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    for _ in range(2):
        started.add_node(**NODE)
    ray.init(address=started.address, namespace="spt-fast", log_to_driver=False, logging_level="ERROR")
    started.wait_for_nodes()
    yield started
    ray.shutdown()
    started.shutdown()
    del os.environ[OURS]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two")):
        tiny_model(folder / name, hidden_size=32, positions=4096, seed=seed)
    return folder


@pytest.fixture
def grid(models: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=tuple(ModelConfig(id=str(models / name)) for name in ("one", "two")),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(), FewShot(shots=2), SoftPromptConfig(length=2, steps=2, batch_size=2, evaluate_at=(0,))),
        limit=4,
        engine={"kind": "echo"},
        output=tmp_path / "ray",
    )


def as_numbers(cells: Sequence[str]) -> list[float]:
    return [float(cell or "nan") for cell in cells]


def table(result: GridResult) -> list[list[str]]:
    write_tables(result.folder)
    with (result.folder / "results.csv").open() as file:
        return list(csv.reader(file))


class Interfering:
    """Does something to the cluster when an event first shows."""

    def __init__(self, when: Callable[[Event], bool], what: Callable[[], None]) -> None:
        self.when, self.what, self.done = when, what, False
        self.events: list[Event] = []
        self.stages: list[Stage] = []

    @contextmanager
    def __call__(self, cells: object, before: int) -> Iterator[Interfering]:
        yield self

    def show(self, stage: Stage, event: Event) -> None:
        self.events.append(event)
        self.stages.append(stage)
        if not self.done and self.when(event):
            self.done = True
            self.what()


def drain(cluster: Any, node: Any) -> None:
    """Tell a node to go, as a cloud does with a spot instance."""
    settings = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "300")
    command = ["ray", "drain-node", "--address", cluster.address, "--node-id", node.node_id, *settings]
    subprocess.run([Path(sys.executable).with_name("ray"), *command[1:]], check=True, capture_output=True)


def processes(name: str) -> list[psutil.Process]:
    """Those of this test that have a word in their command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(name in word for word in process.cmdline()) and process.environ().get(OURS) == str(os.getpid()):
                found.append(process)
    return found


def actors() -> list[psutil.Process]:
    return processes("ray::ModelWorker")


def none_is_left() -> bool:
    """Whether all actors and workers have ended; those that are about to are awaited. A killed actor's worker ends itself."""
    found = [*actors(), *processes("ray::Follower"), *processes("spt_fast.executors.process"), *processes("VllmWorker")]
    _, alive = psutil.wait_procs(found, timeout=60)
    return not alive


def no_room_is_held() -> bool:
    """Whether all placement groups are removed; Ray removes a dead driver's in its own time."""
    from ray.util import placement_group_table

    until = time.monotonic() + RECOVERY_S
    while {group["state"] for group in placement_group_table().values()} - {"REMOVED"}:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)  # Ray tells nobody
    return True


def follower() -> psutil.Process:
    """The actor that has the second part of a worker."""
    (found,) = processes("ray::Follower")
    return found


def actor_of(stage: Stage) -> psutil.Process:
    """The actor that has a model."""
    import ray

    (name,) = [name for name in ray.util.list_named_actors() if name.startswith(f"{stage.model.name} ")]
    return psutil.Process(ray.get(ray.get_actor(name).__ray_call__.remote(lambda _: os.getpid())))


def worker_of(stage: Stage) -> psutil.Process:
    """The worker process of a model's actor."""
    (process,) = set(actor_of(stage).children()) & set(processes("spt_fast.executors.process"))
    return process


@dataclass
class Blow:
    """A process of a model is killed when an event of that model first shows."""

    model: str
    when: Callable[[Event], bool]
    victim: Callable[[Stage], psutil.Process]
    struck: float | None = None
    recovery_s: float = math.inf
    """Seconds until a new worker is at work."""


class Blows(Interfering):
    """Strikes blow after blow, a model's next one when it has recovered from the last."""

    def __init__(self, blows: Sequence[Blow]) -> None:
        super().__init__(lambda event: False, lambda: None)
        self.all = blows

    def show(self, stage: Stage, event: Event) -> None:
        blow = next((each for each in self.all if each.model == stage.model.name and each.recovery_s == math.inf), None)
        if blow is None:
            return
        if blow.struck is None:
            if blow.when(event):
                blow.victim(stage).kill()
                blow.struck = time.monotonic()
        elif isinstance(event, PhaseStarted) and event.phase == "load":
            blow.recovery_s = time.monotonic() - blow.struck


def test_a_grid_on_two_nodes_has_the_results_of_this_machine(cluster: Any, grid: GridConfig) -> None:
    there = run_cells(grid, address="auto")
    assert there.complete, there.failures
    here = run_cells(replace(grid, output=grid.folder.with_name("local")))
    assert table(there) == table(here)
    assert none_is_left()


def test_rows_are_asked_again_on_a_cluster_as_on_this_machine(cluster: Any, grid: GridConfig, tmp_path: Path) -> None:
    unsteady = replace(grid, engine={"kind": "echo", "unsteady": 0.3}, rerun=0.5, protocols=(ZeroShot(),))
    here = run_cells(replace(unsteady, output=tmp_path / "here"), executor=Inline())
    there = run_cells(unsteady, executor=RayExecutor("auto", log=lambda model: tmp_path / "log"))
    assert set(there.results) == set(here.results)
    found = [Store(result.folder).reruns.read(result.results) for result in (here, there)]
    assert [{key: rerun.n for key, rerun in each.items()} for each in found] == [dict.fromkeys(here.results, 2)] * 2


def test_checkpoints_of_a_series_are_trained_in_turn_on_two_nodes(
    cluster: Any, grid: GridConfig, models: Path, tmp_path: Path
) -> None:
    for number, name in ((9, "one"), (10, "two")):
        shutil.copytree(models / name, tmp_path / "run" / f"step-{number}")
    series = replace(
        grid,
        models=(ModelConfig(id=str(tmp_path / "run"), checkpoints="step-*"),),
        tasks=grid.tasks[1:],
        protocols=(SoftPromptConfig(init_from="previous", length=2, steps=2, cold_steps=2, batch_size=2),),
        limit=1,
    )
    watcher = Interfering(lambda event: False, lambda: None)
    there = run_cells(series, watch=watcher, address="auto")
    assert there.complete, there.failures
    told = [
        (stage.model.name.removeprefix("run/"), type(event))
        for stage, event in zip(watcher.stages, watcher.events, strict=True)
    ]
    last_trained = max(i for i, each in enumerate(told) if each == ("step-9", CellTrained))
    assert last_trained < told.index(("step-10", WorkerStarted))
    here = run_cells(replace(series, output=tmp_path / "here"), executor=Inline())
    keys = [[Store(run.folder).learnt.soft_prompts(cell.key)[2].key for cell in run.cells] for run in (there, here)]
    assert keys[0] == keys[1]
    assert {result.costs["carried_checkpoints"] for result in there.results.values()} == {0.0, 1.0}


def test_a_dry_run_goes_by_the_nodes_of_the_cluster(cluster: Any, grid: GridConfig) -> None:
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    *_, last = dry_run(grid, {}, fresh=False, address="auto").splitlines()
    assert re.fullmatch(rf"time: about \d+ s on {nodes} nodes \(a guess from the size of the models; .+\)", last)
    assert ray.is_initialized(), "what was connected before stays so"


def test_a_killed_actor_costs_nothing_but_time_and_leaves_no_process(cluster: Any, grid: GridConfig) -> None:
    slow = replace(grid, engine={"kind": "echo", "delay_s": 0.05})

    def kill() -> None:
        for process in actors():
            os.kill(process.pid, signal.SIGKILL)

    watcher = Interfering(lambda event: isinstance(event, CellDone), kill)
    result = run_cells(slow, watch=watcher, address="auto")
    assert watcher.done
    assert result.complete, result.failures
    done = [event.key for event in watcher.events if isinstance(event, CellDone)]
    assert len(done) == len(set(done)) == len(result.cells)
    assert none_is_left()


def test_a_cell_that_actors_die_of_is_set_aside_with_its_reason_and_the_rest_goes_on(cluster: Any, grid: GridConfig) -> None:
    one = replace(grid, models=grid.models[:1], protocols=(ZeroShot(),), engine={"kind": "echo", "delay_s": 0.05})

    class Cursed(Interfering):
        def show(self, stage: Stage, event: Event) -> None:
            self.events.append(event)
            if isinstance(event, CellStarted) and event.phase == "evaluate" and event.key == self.cursed(stage):
                for process in actors():
                    os.kill(process.pid, signal.SIGKILL)

        def cursed(self, stage: Stage) -> str:
            (key,) = {cell.key for cell in stage.cells if cell.task.name == "zoo-json"}
            return key

    watcher = Cursed(lambda event: False, lambda: None)
    result = run_cells(one, watch=watcher, executor=RayExecutor("auto", Store(one.folder).log, limits=Limits(attempts=2)))
    (failure,) = result.failures.values()
    assert "2 times in this cell" in failure.reason
    assert len(result.results) == len(result.cells) - 1 == 1
    assert [event for event in watcher.events if isinstance(event, CellFailed)]


def test_an_engine_that_hangs_is_given_up_and_the_other_models_go_on(cluster: Any, grid: GridConfig) -> None:
    hangs = replace(grid.models[0], engine={"kind": "echo", "delay_s": 3600})
    mixed = replace(grid, models=(hangs, *grid.models[1:2]), tasks=grid.tasks[1:], protocols=(ZeroShot(),))
    result = run_cells(mixed, executor=RayExecutor("auto", Store(mixed.folder).log, limits=Limits(stalled_s=20, attempts=1)))
    failed = {cell.model.name for cell in result.cells if cell.key in result.failures}
    assert failed == {result.cells[0].model.name}
    assert all("nothing has happened for 20 s, once in this cell" in failure.reason for failure in result.failures.values())
    assert {cell.model.name for cell in result.cells if cell.key in result.results} == {result.cells[-1].model.name}
    assert none_is_left()


def test_a_model_that_cannot_be_loaded_fails_its_cells_once(
    cluster: Any, grid: GridConfig, models: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(models / "one", tmp_path / "broken"))
    tensors = load_file(folder / "model.safetensors")
    # One tensor, not a layer: what the headers show is refused before anything runs.
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith("layers.1.mlp.up_proj.weight")}
    assert len(kept) == len(tensors) - 1
    save_file(kept, folder / "model.safetensors")
    broken = replace(grid, models=(ModelConfig(id=str(folder), engine={"refuse": True}),), seeds=(0, 1))
    watcher = Interfering(lambda event: False, lambda: None)
    result = run_cells(broken, watch=watcher, address="auto")
    assert len(result.failures) == len(result.cells) == 10
    reasons = {(failure.kind, failure.reason) for failure in result.failures.values()}
    assert sorted(kind for kind, _ in reasons) == ["EngineError", "ModelError"]
    assert [event for event in watcher.events if isinstance(event, WorkerEnded)] == [WorkerEnded()]
    phases = [event.phase for event in watcher.events if isinstance(event, PhaseStarted)]
    assert phases == ["load", "engine"], "one load and one start for all of them"


class Expecting(RayExecutor):
    """Expects every cell to take so long that another worker is worth its start."""

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Events:
        costs = {"answer_s": 100.0, "train_s": 100.0, "engine_start_s": 1.0, "load_s": 1.0}
        self.measured = [Measured(cell=cell, costs=costs) for stage in stages for cell in stage.cells]
        return super().run(stages, earlier)


def test_a_model_with_much_to_do_has_a_worker_on_every_node_also_on_one_that_comes_later(
    cluster: Any, grid: GridConfig
) -> None:
    """What the later one does was somebody else's before; a node that is told to go begins nothing new."""
    doomed = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    slow = replace(
        grid,
        models=grid.models[:1],
        tasks=grid.tasks[1:],
        protocols=(FewShot(shots=2), SoftPromptConfig(length=2, steps=2, batch_size=2)),
        seeds=tuple(range(10)),
        engine={"kind": "echo", "delay_s": 0.4},
    )
    late: list[Any] = []

    def change() -> None:
        late.append(cluster.add_node(**NODE))
        drain(cluster, doomed)

    watcher = Interfering(lambda event: isinstance(event, CellDone), change)
    executor = Expecting("auto", Store(slow.folder).log, poll_s=0.5)
    result = run_cells(slow, watch=watcher, executor=executor)
    for node in (doomed, *late):
        cluster.remove_node(node)
    assert result.complete, result.failures
    done = [event.key for event in watcher.events if isinstance(event, CellDone)]
    assert len(done) == len(set(done)) == len(result.cells) == 20
    by_worker: dict[int, list[Event]] = {}
    for stage, event in zip(watcher.stages, watcher.events, strict=True):
        by_worker.setdefault(stage.worker, []).append(event)
    assert len(by_worker) == 4, "three at first, and one on the node that came"
    for worker, events in by_worker.items():
        assert any(isinstance(event, CellDone) for event in events), f"worker {worker} has done nothing"
    here = run_cells(replace(slow, engine={"kind": "echo"}, output=grid.folder.with_name("local")), executor=Inline())
    assert [row[1:] for row in table(result)] == [row[1:] for row in table(here)]
    assert none_is_left()


def test_rows_are_read_once_for_all_workers_and_each_says_itself_what_it_cannot_read(
    cluster: Any, grid: GridConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    for split, first in (("train", 0), ("test", 10)):
        lines = [{"question": f"{i} + 1?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"} for i in range(first, first + 8)]
        (rows / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    both = replace(
        grid,
        tasks=(TaskConfig(task="gsm8k", data_files=str(rows)), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(),),
    )
    reads = tmp_path / "reads"

    def counted(wanted: TaskRows) -> bytes:
        with reads.open("a") as file:
            file.write(f"{wanted.name}\n")
        found = pickle.dumps(load_rows(wanted.task, data_files=wanted.data_files, limit=wanted.limit, need={"test"}))
        (rows / "test.jsonl").unlink()  # whoever looks for it now looks in vain
        return found

    monkeypatch.setattr("spt_fast.executors.ray.executor.read_rows", counted)
    result = run_cells(both, executor=RayExecutor("auto", Store(both.folder).log))
    assert result.complete, result.failures
    assert reads.read_text() == "gsm8k\n", "once for two models; rows that are made are not sent"
    (rows / "test.jsonl").write_text("{not json\n")
    broken = replace(both, output=grid.folder.with_name("broken"))
    failed = run_cells(broken, executor=RayExecutor("auto", Store(broken.folder).log))
    assert all("test.jsonl" in failure.reason for failure in failed.failures.values())
    assert len(failed.failures) == len(failed.results) == 2


def test_models_share_a_gpu_where_the_grid_says_so_and_one_too_large_says_what_it_needs(
    cluster: Any, grid: GridConfig, models: Path
) -> None:
    """A node that says it has a GPU: Ray takes its word, and the engine without a model needs none."""
    node = cluster.add_node(**{**NODE, "num_cpus": 3, "num_gpus": 1})
    cluster.wait_for_nodes()
    tiny_model(models / "large", hidden_size=32, positions=4096, seed=2)
    shared = tuple(replace(model, gpus=0.5) for model in grid.models)
    large = ModelConfig(id=str(models / "large"), tensor_parallel=2)
    both = replace(grid, models=(*shared, large), protocols=(ZeroShot(),), engine={"kind": "echo", "delay_s": 0.1})
    watcher = Interfering(lambda event: False, lambda: None)
    result = run_cells(both, watch=watcher, executor=RayExecutor("auto", Store(both.folder).log, limits=Limits(node_wait_s=3)))
    cluster.remove_node(node)
    started = [event for event in watcher.events if isinstance(event, WorkerStarted)]
    assert [event.gpus for event in started] == [0.5, 0.5]
    kinds = [type(event) for event in watcher.events if isinstance(event, WorkerStarted | WorkerEnded)]
    assert kinds[:2] == [WorkerStarted, WorkerStarted], "at the same time"
    (waits,) = {event.note for event in watcher.events if isinstance(event, PhaseStarted) and event.phase == "wait"}
    assert waits == "a worker needs 2 GPUs of one node, and the largest node has 1"
    assert {cell.model.name for cell in result.cells if cell.key in result.failures} == {result.cells[-1].model.name}
    assert all(failure.reason.startswith(waits) for failure in result.failures.values())
    assert len(result.results) == 4
    assert none_is_left()


SHIPS = """
import subprocess, sys
import ray
from pathlib import Path
from spt_fast import load_grid
from spt_fast.driver.run import run_cells
from spt_fast.executors.ray.executor import RayExecutor

address, grid, logs = sys.argv[1:]
executor = RayExecutor(address, lambda model: Path(logs), ship=True)

@ray.remote
def of_a_worker_process():
    code = "import spt_fast, spt_kernels, spt_fast.version as v; print(spt_fast.__file__, spt_kernels.__file__, v.version())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout

print(ray.get(of_a_worker_process.remote()))
print(run_cells(grid, executor=executor).complete)
executor.close()
"""


def test_nodes_are_given_the_very_spt_fast_of_the_driver(cluster: Any, models: Path, tmp_path: Path) -> None:
    """Ray takes modules for a whole connection only, so it is one of its own here."""
    text = {
        "name": "g",
        "models": [str(models / "one")],
        "tasks": ["zoo-json"],
        "protocols": ["zero_shot"],
        "limit": 2,
        "engine": {"kind": "echo"},
        "output": str(tmp_path / "ray"),
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(text))
    command = [sys.executable, "-c", SHIPS, cluster.address, str(tmp_path / "grid.yaml"), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    package, kernels, version, complete = done.stdout.split()
    assert "py_modules" in package
    assert "py_modules" in kernels
    assert version == metadata.version("spt-fast")
    assert complete == "True"


def test_a_killed_driver_leaves_no_process_and_the_same_command_does_the_rest(
    cluster: Any, grid: GridConfig, models: Path, tmp_path: Path
) -> None:
    """Of a worker on two nodes too."""
    slow = {"kind": "echo", "delay_s": 0.1}
    text = {
        "name": "g",
        "models": [{"id": str(models / "one"), "pipeline_parallel": 2}],
        "tasks": ["zoo-mcq", "zoo-json"],
        "protocols": ["zero_shot", {"few_shot": {"shots": 2}}],
        "limit": 4,
        "engine": slow,
        "output": str(tmp_path / "ray"),
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(text))
    command = [sys.executable, "-m", "spt_fast", "run", str(tmp_path / "grid.yaml"), "--address", cluster.address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        assert any(line.startswith("done") for line in driver.stderr)
        driver.kill()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray" / "cells").glob("*/result.json")}
    assert before
    assert none_is_left()
    assert no_room_is_held()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray" / "cells").glob("*/result.json")}
    assert len(after) == 4
    assert {path: after[path] for path in before} == before


def test_a_driver_that_is_told_to_end_drains_and_says_how_to_go_on(cluster: Any, models: Path, tmp_path: Path) -> None:
    text = {
        "name": "g",
        "models": [str(models / "one")],
        "tasks": ["zoo-mcq", "zoo-json"],
        "protocols": ["zero_shot"],
        "limit": 4,
        "engine": {"kind": "echo", "delay_s": 0.2},
        "output": str(tmp_path / "ray"),
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(text))
    command = [sys.executable, "-m", "spt_fast", "run", str(tmp_path / "grid.yaml"), "--address", cluster.address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        assert any(line.startswith("done") for line in driver.stderr)
        driver.terminate()
        said = driver.stderr.read()
    assert driver.returncode == 130
    assert "interrupted: 1 of 2 cells are done" in said
    assert none_is_left()


@pytest.mark.vllm
def test_vllm_in_actors_answers_as_on_this_machine_though_it_is_killed_in_every_phase(
    cluster: Any, grid: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines at once, each trained for first. The order of floating-point sums depends on the number of threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray has it for an actor of one core
    real = replace(
        grid,
        models=(ModelConfig(id="zoo/base-40"), ModelConfig(id="zoo/base-70")),
        tasks=grid.tasks[1:],
        protocols=(ZeroShot(), FewShot(shots=2), SoftPromptConfig(steps=20, lr=0.02, evaluate_at=(0,))),
        engine={"max_num_seqs": 4},  # all in flight, and done one after the other
        limit=16,
    )
    blows = Blows(
        [
            Blow("zoo/base-40", lambda event: isinstance(event, Progress) and event.phase == "train", actor_of),
            Blow("zoo/base-70", lambda event: isinstance(event, Progress) and event.phase == "evaluate", worker_of),
            Blow("zoo/base-40", lambda event: isinstance(event, CellDone), actor_of),
        ]
    )
    executor = RayExecutor("auto", Store(real.folder).log, poll_s=0.1)  # so soon it tells of progress
    there = run_cells(real, watch=blows, executor=executor)
    assert there.complete, there.failures
    assert max(blow.recovery_s for blow in blows.all) < RECOVERY_S, [blow.recovery_s for blow in blows.all]
    told = [event["key"] for event in Store(real.folder).events() if event["event"] == "done"]
    assert len(told) == len(set(told)) == len(there.cells) == 6
    here = run_cells(replace(real, output=real.folder.with_name("local")))
    # What was asked in one batch depends on where a blow fell, and the last digits of likelihoods on the batch.
    for one, other in zip(table(there)[1:], table(here)[1:], strict=True):
        assert one[:6] == other[:6]
        assert as_numbers(one[6:]) == pytest.approx(as_numbers(other[6:]), rel=1e-3, abs=1e-6, nan_ok=True), one[:6]
    assert none_is_left()


def test_a_model_larger_than_a_node_is_on_two_and_a_lost_part_is_a_lost_worker(cluster: Any, grid: GridConfig) -> None:
    slow = {"kind": "echo", "delay_s": 0.1}
    large = replace(grid, models=(replace(grid.models[0], pipeline_parallel=2),), protocols=(ZeroShot(),), engine=slow)
    watcher = Interfering(lambda event: isinstance(event, CellDone), lambda: follower().kill())
    result = run_cells(large, watch=watcher, executor=RayExecutor("auto", Store(large.folder).log))
    assert result.complete, result.failures
    assert [event.where.count(" + ") for event in watcher.events if isinstance(event, WorkerStarted)] == [1, 1]
    first, second = (event for event in watcher.events if isinstance(event, WorkerEnded))
    assert first.reason.startswith("its node or process was lost")
    assert second == WorkerEnded()
    done = [event.key for event in watcher.events if isinstance(event, CellDone)]
    assert len(done) == len(set(done)) == len(result.cells) == 2
    assert none_is_left()
    assert no_room_is_held()
    *_, last = dry_run(replace(large, output=large.folder.with_name("dry")), {}, fresh=False, address="auto").splitlines()
    assert "cannot be run there" not in last
    wider = replace(large, models=(replace(grid.models[0], pipeline_parallel=5),), output=large.folder.with_name("wider"))
    *_, last = dry_run(wider, {}, fresh=False, address="auto").splitlines()
    assert re.search(r"cannot be run there: .*a worker needs 1 CPU of each of 5 nodes, and there is room for \d of these", last)


@pytest.mark.vllm
def test_vllm_on_two_nodes_answers_as_transformers_on_this_machine(
    cluster: Any, grid: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the model's layers on each node, its soft prompt learnt on one of them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    large = replace(
        grid,
        models=(ModelConfig(id="zoo/base-70", pipeline_parallel=2, dtype="float32"),),
        tasks=grid.tasks[:1],
        protocols=(ZeroShot(), SoftPromptConfig(steps=5, lr=0.02)),
        engine={"max_num_seqs": 4},
    )
    watcher = Interfering(lambda event: False, lambda: None)
    there = run_cells(large, watch=watcher, executor=RayExecutor("auto", Store(large.folder).log))
    assert there.complete, there.failures
    (started,) = (event for event in watcher.events if isinstance(event, WorkerStarted))
    assert " + " in started.where
    here = replace(large, models=(ModelConfig(id="zoo/base-70", dtype="float32"),), output=grid.folder.with_name("local"))
    reference = run_cells(replace(here, engine={"kind": "transformers"}), executor=Inline())
    for ours, theirs in zip(table(there), table(reference), strict=True):  # bits per byte are sums of two engines' float32
        assert ours[:6] == theirs[:6]
        if ours[5] != "metric":
            numbers = [[float(number or "nan") for number in line[6:]] for line in (ours, theirs)]
            assert numbers[0] == pytest.approx(numbers[1], abs=1e-4, nan_ok=True)
    assert none_is_left()
    assert no_room_is_held()


def test_a_node_that_goes_without_a_word_costs_nothing_but_time(cluster: Any, grid: GridConfig) -> None:
    """The last one here: until Ray has noticed, it would place another test's actors there."""
    node = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    slow = replace(
        grid, models=grid.models[:1], protocols=(FewShot(shots=2),), seeds=(0, 1, 2), engine={"kind": "echo", "delay_s": 0.2}
    )
    went: list[float] = []

    def take_away() -> None:
        cluster.remove_node(node, allow_graceful=False)
        went.append(time.monotonic())

    class Clocked(Interfering):
        noticed: float | None = None

        def show(self, stage: Stage, event: Event) -> None:
            super().show(stage, event)
            if isinstance(event, WorkerEnded) and event.reason and self.noticed is None:
                self.noticed = time.monotonic()

    watcher = Clocked(lambda event: isinstance(event, CellDone), take_away)
    result = run_cells(slow, watch=watcher, executor=Expecting("auto", Store(slow.folder).log, limits=Limits(silent_s=5)))
    assert result.complete, result.failures
    done = [event.key for event in watcher.events if isinstance(event, CellDone)]
    assert len(done) == len(set(done)) == len(result.cells)
    assert watcher.noticed is not None, "there was a worker on it"
    assert watcher.noticed - went[0] < RECOVERY_S
    # An actor can outlive its node for a while, and so can its worker; it is not believed any more, and ends by itself.
    assert none_is_left()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "--address 127.0.0.1:1: there is no Ray cluster"),
        ("nearby", "--address nearby: must be local, auto, or HOST:PORT"),
        ("ray://127.0.0.1:10001", "must be local, auto, or HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_sentence_and_exit_code_2(address: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\noutput: " + str(tmp_path / "run"))
    command = [sys.executable, "-m", "spt_fast", "run", str(tmp_path / "grid.yaml"), "--address", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
