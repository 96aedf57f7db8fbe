"""Processes that have imported what a worker needs before it is known which model, and which GPUs, they are for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spt_fast.config import GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.errors import StoreError
from spt_fast.executors import worker_process
from spt_fast.executors.prestarted import Prestarted
from spt_fast.executors.supervisor import Supervisor
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.models import memory
from spt_fast.plan import Stage, expand, stages
from spt_fast.worker.events import CellDone, CellFailed
from spt_fast.worker.stage import Do
from tests.helpers.tiny import tiny_model

TELLS = """\
import os, sys
from spt_fast.tasks.base import FileSource, Task, row_key
from spt_fast.tasks.answers.extractors import first_line
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row):
    ahead = "spt_fast.models.frozen_model" in sys.modules
    print("GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"), "imported ahead:", ahead, flush=True)
    return Example(key=row_key(row), question="?", target=row["answer"], answers=(row["answer"],))


TASK = Task(name="tells", version=1, summary="s", source=FileSource(files="."), read_row=read_row,
    template=Template(instruction="Say.", item="Q: {question}"), format="[0-9]+", extract=first_line,
    sampling=Sampling(max_tokens=4), random_baseline=0.0, licence="none")
"""
"""A task whose rows, when they are read, tell of the process that reads them."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("stage")
    (folder / "tells.py").write_text(TELLS)
    (folder / "test.jsonl").write_text('{"answer": "1"}\n')
    grid = GridConfig(
        name="g",
        models=(ModelConfig(id=str(tiny_model(folder / "model", hidden_size=32, positions=4096))),),
        tasks=(TaskConfig(task=str(folder / "tells.py")),),
        protocols=(ZeroShot(),),
        engine={"kind": "echo"},
    )
    (only,) = stages(expand(grid), set())
    return only


@pytest.fixture
def prestarted() -> Iterator[Prestarted]:
    found = Prestarted()
    yield found
    found.close()


def done_by(prestarted: Prestarted, stage: Stage, folder: Path) -> list[str]:
    """Do the stage as a worker with GPUs 5 and 7; what its log says when all of it is done."""
    log = folder / "model.log"
    queue, environment = WorkQueue(stage.cells, {}), {"CUDA_VISIBLE_DEVICES": "5,7"}
    supervisor = Supervisor(stage, queue, log, "the log", environment=environment, prestarted=prestarted)
    events = list(supervisor.events())
    assert [type(event) for event in events if isinstance(event, CellDone | CellFailed)] == [CellDone]
    return log.read_text().splitlines()


def test_a_process_that_waits_has_imported_and_is_told_its_gpus_and_its_log(
    stage: Stage, prestarted: Prestarted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPT_FAST_TRAIN_APART", "0")
    prestarted.start("all", "echo", offline=False)
    assert "GPUs 5,7 imported ahead: True" in done_by(prestarted, stage, tmp_path)
    assert prestarted.count(["all"]) == 0


def test_one_in_which_cuda_was_initialised_begins_anew_with_its_gpus(
    stage: Stage, prestarted: Prestarted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be told them any more: a variable that was read is not read again."""
    begun = "from spt_fast.models import memory; memory.cuda_begun = lambda: True"
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh
exec {sys.executable} -c "{begun}; import sys; from spt_fast.executors.process import main; main(int(sys.argv[1]))" "$3"
""")
    python.chmod(0o755)
    monkeypatch.setenv("SPT_FAST_TRAIN_APART", "1")
    with monkeypatch.context() as first:
        first.setattr(worker_process.sys, "executable", str(python))
        prestarted.start("evaluate", "echo", offline=False)
    assert "GPUs 5,7 imported ahead: False" in done_by(prestarted, stage, tmp_path)


def test_a_process_that_waits_ends_when_nobody_will_tell_it_anything(prestarted: Prestarted) -> None:
    prestarted.start("evaluate", "echo", offline=False)
    process = prestarted.take("evaluate", offline=False)
    assert process is not None
    process._connection.close()  # as the system does for a driver that was killed
    process._process.wait(60)
    assert not process.alive
    process.end_group()


def test_only_one_that_lives_and_suits_is_taken(prestarted: Prestarted) -> None:
    prestarted.start("evaluate", "echo", offline=True)
    others: list[tuple[Do, bool]] = [("evaluate", False), ("train", True), ("all", True)]
    assert [prestarted.take(do, offline=offline) for do, offline in others] == [None] * 3
    prestarted._waiting[0].process._process.kill()
    prestarted._waiting[0].process._process.wait()
    assert prestarted.count(["evaluate"]) == 0
    assert prestarted.take("evaluate", offline=True) is None


def test_one_that_cannot_print_to_its_log_is_ended(prestarted: Prestarted, tmp_path: Path) -> None:
    prestarted.start("evaluate", "echo", offline=False)
    process = prestarted.take("evaluate", offline=False)
    assert process is not None
    with pytest.raises(StoreError, match="cannot be written"):
        process.settle(tmp_path / "nowhere" / "log", "log", {})
    assert not process.alive


def test_that_cuda_was_initialised_is_seen_whoever_did_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not memory.cuda_begun()
    device = tmp_path / "nvidia-uvm"
    device.touch()
    monkeypatch.setattr(memory, "COMPUTING", str(device))
    with device.open():
        assert memory.cuda_begun()
    assert not memory.cuda_begun()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert memory.cuda_begun()


NO_GPU_YET = """
import os, sys, types
import torch

visible = torch.cuda._parse_visible_devices

def refuse(*_, **__):
    raise AssertionError("CUDA was initialised")

torch.cuda._is_compiled = lambda: True
torch.cuda._device_count_nvml = lambda: len(visible())
torch.cuda._lazy_init = refuse

def of_cuda(name):
    if name.startswith("_cuda_"):
        return refuse
    raise AttributeError(name)

torch._C.__getattr__ = of_cuda  # what the CPU build has not

# vLLM's own platform of the CUDA build, over a driver that is made up.
from vllm.utils import import_utils
asked = []
nvml = types.SimpleNamespace(
    nvmlInit=lambda: None,
    nvmlShutdown=lambda: None,
    nvmlDeviceGetCount=lambda: 2,
    nvmlDeviceGetHandleByIndex=lambda index: asked.append(index) or index,
    nvmlDeviceGetCudaComputeCapability=lambda handle: (9, 0),
    nvmlDeviceGetName=lambda handle: "NVIDIA H100",
    NVMLError=type("NVMLError", (Exception,), {}),
)
import_utils.import_pynvml = lambda: nvml
sys.modules.setdefault("vllm._C_stable_libtorch", types.ModuleType("vllm._C_stable_libtorch"))
import vllm.platforms as platforms
from vllm.platforms.cuda import NvmlCudaPlatform
platforms._current_platform = platform = NvmlCudaPlatform()

from spt_fast.models import memory
from spt_fast.worker.stage import import_ahead
import_ahead("all", "vllm")
assert "vllm.v1.engine.llm_engine" in sys.modules and "spt_fast.models.frozen_model" in sys.modules
assert not asked, f"vLLM has asked what GPU {asked[0]} is, and would remember it"
assert torch.cuda.is_available() and torch.cuda.device_count() == 2

os.environ["CUDA_VISIBLE_DEVICES"] = "1"
assert torch.cuda.device_count() == 1
assert platform.device_count() == 1
assert platform.device_id_to_physical_device_id(0) == 1
assert platform.get_device_capability() == (9, 0) and asked == [1]
assert memory.visible_gpus() == ["1"]
"""


@pytest.mark.slow
@pytest.mark.vllm
def test_which_gpus_there_are_is_read_after_all_is_imported_and_no_cuda_is_initialised_before() -> None:
    """With vLLM's own platform for CUDA, and PyTorch as if it were built for it, over a driver that is made up."""
    import subprocess

    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    done = subprocess.run([sys.executable, "-c", NO_GPU_YET], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
