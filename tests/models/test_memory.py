"""Memory: which errors say that it ran out, what is free, and whose turn it is. Of the GPU only its driver is made up."""

from __future__ import annotations

import fcntl
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from spt_fast.errors import EngineError, ModelError
from spt_fast.models import memory
from spt_fast.models.frozen_model import FrozenModel
from tests.helpers.tiny import tiny_model

GIB = 2**30


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A GPU that nobody else uses, as far as its locks go; returns its name."""
    name = f"GPU-{tmp_path.name}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))
    return name


def error_of(act: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011  (any: what it is, is looked at)
        act()
    return caught.value


def test_an_allocation_that_fails_for_want_of_memory_is_known_and_so_is_what_came_of_it() -> None:
    failed = error_of(lambda: torch.empty(2**60))
    assert memory.ran_out(failed)
    wrapped = EngineError("scoring went wrong")
    wrapped.__cause__ = failed
    assert memory.ran_out(wrapped)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB", True),
        ("CUDA error: out of memory", True),
        ("HIP out of memory. Tried to allocate 2 MiB", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", True),
        ("CUDA driver error: out of memory", True),
        ("Triton Error [CUDA]: out of memory", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: CUDA_ERROR_OUT_OF_MEMORY", True),
        ("ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'", True),
        ("NCCL WARN Cuda failure 'out of memory'", True),
        ("NCCL WARN Cuda failure 700 'an illegal memory access was encountered'", False),
        ("Triton Error [CUDA]: device kernel image is invalid", False),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", False),
        ("out of resource: shared memory, Required: 147456, Hardware limit: 101376.", False),
        ("CUDA error: an illegal memory access was encountered", False),
        ("the worker was ended by SIGKILL; the machine may be out of memory", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_what_pytorch_says_of_memory_is_told_from_its_other_errors(said: str, expected: bool) -> None:
    assert memory.ran_out(RuntimeError(said)) is expected


def test_an_error_of_pythons_own_allocator_counts_too() -> None:
    assert memory.ran_out(MemoryError())
    assert memory.ran_out(torch.OutOfMemoryError("on some device"))


def test_without_a_gpu_nothing_is_asked_and_nothing_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    assert memory.free_and_total() is None
    with memory.room(lambda total: total) as seen:
        assert seen is None
    assert "GiB of memory are free" in memory.described()


def nvml(**free_gib: float) -> SimpleNamespace:
    """The five functions of NVML that are called, for GPUs with so many free GiB of 80; `open` counts who has begun."""
    made = SimpleNamespace(open=0)

    def by_uuid(name: str) -> str:
        if name not in free_gib:
            raise type("NVMLError_NotFound", (Exception,), {})
        return name

    def info(handle: str) -> SimpleNamespace:
        assert made.open == 1
        return SimpleNamespace(free=int(free_gib[handle] * GIB), total=80 * GIB)

    made.nvmlInit = lambda: setattr(made, "open", made.open + 1)
    made.nvmlShutdown = lambda: setattr(made, "open", made.open - 1)
    made.nvmlDeviceGetHandleByIndex = lambda index: f"gpu{index}"
    made.nvmlDeviceGetHandleByUUID = by_uuid
    made.nvmlDeviceGetMemoryInfo = info
    return made


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = nvml(gpu0=70, gpu1=5, gpu2=60, gpu3=50, MIG7=9)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    return made


@pytest.mark.parametrize(
    ("visible", "devices", "free"),
    [(None, 1, 70), (None, 2, 5), ("2", 1, 60), ("3, 2", 2, 50), ("3,2", 1, 50), ("MIG7", 1, 9)],
)
def test_the_fullest_of_the_gpus_that_the_process_sees_decides(
    visible: str | None, devices: int, free: int, driver: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert memory.free_and_total(devices) == (free * GIB, 80 * GIB)
    assert memory.described(devices) == f"{free}.0 of 80.0 GiB of GPU memory are free"
    assert driver.open == 0


def test_a_gpu_that_the_driver_does_not_know_by_that_name_is_asked_of_no_new_context(
    driver: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1234")
    assert memory.free_and_total() is None
    assert not torch.cuda.is_initialized()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (device + 3, 80))
    assert memory.free_and_total() == (3, 80)


def held(file: Path) -> bool:
    """Whether somebody has the lock."""
    with file.open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_room_is_waited_for_and_the_turn_given_up_meanwhile(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([10, 20, 75])
    turns: list[bool] = []

    def seen(devices: int) -> tuple[int, int]:
        turns.append(held(memory._lock_file()))
        return next(free), 100

    monkeypatch.setattr(memory, "free_and_total", seen)
    monkeypatch.setattr(memory.time, "sleep", lambda _: turns.append(held(memory._lock_file())))
    with memory.room(lambda total: 0.7 * total, gpus=0.5) as found:
        assert found == (75, 100)
        assert held(memory._lock_file())
    assert turns == [True, False, True, False, True]
    assert not held(memory._lock_file())


def test_room_that_does_not_come_ends_the_waiting_and_the_numbers_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 25))
    asked: list[int] = []
    monkeypatch.setattr(memory, "free_and_total", lambda devices: asked.append(devices) or (10, 100))
    monkeypatch.setattr(memory.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(memory.time, "sleep", lambda _: None)
    with memory.room(lambda total: 0.7 * total, devices=4) as found:
        assert found == (10, 100)
    assert asked == [4, 4, 4]  # at 25, 50 and 75 s


TURN = """
import fcntl, os, sys
from spt_fast.models import memory

def say(what):
    os.write(1, what.encode() + b"\\n")

if sys.argv[1] == "holds":
    with memory.turn(0.5):
        say("has it")
        sys.stdin.readline()
        say("gives it up")
elif sys.argv[1] == "wants":
    say("asks")
    with memory.turn(0.5):
        say("has it")
else:
    with memory.turn(0.5):
        child = os.fork()
        if not child:
            sys.stdin.readline()  # outlives the turn, with the file open
            os._exit(0)
    with memory._lock_file().open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            say("is free")
        except BlockingIOError:
            say("is kept")
    sys.stdin.readline()
"""


def process(*role: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TURN, *role], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def line(of: subprocess.Popen[str]) -> str:
    assert of.stdout is not None
    return of.stdout.readline().strip()


@pytest.mark.parametrize("end", ["gives it up", "is killed"])
def test_workers_that_share_a_gpu_take_turns(end: str, gpu: str) -> None:
    with process("holds") as first:
        assert line(first) == "has it"
        assert held(memory._lock_file())
        with process("wants") as second:
            assert line(second) == "asks"
            if end == "is killed":
                first.kill()
            else:
                assert first.stdin is not None
                first.stdin.write("go on\n")
                assert line(first) == "gives it up"
            assert line(second) == "has it"


def test_a_process_that_was_forked_during_a_turn_does_not_keep_it(gpu: str) -> None:
    with process("forks") as forks:
        assert line(forks) == "is free"


def test_workers_of_other_gpus_do_not_wait(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with memory.turn(0.5):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        assert not held(memory._lock_file())


def test_a_worker_that_has_its_gpu_alone_takes_no_turn(gpu: str) -> None:
    with memory.turn(1.0):
        assert not memory._lock_file().exists()


def test_a_share_of_a_gpu_is_a_limit_and_a_whole_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    memory.limit(1.0)
    memory.limit(0.25)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    memory.limit(0.5)
    assert limits == [0.25]


def test_a_model_that_its_device_has_no_memory_for_says_how_large_it_is_and_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moved = tiny_model(tmp_path), transformers.PreTrainedModel.to
    modules: list[Any] = []

    def to(module: Any, device: str) -> Any:
        modules.append(module)
        return moved(module, device) if device == "meta" else torch.empty(2**60)

    monkeypatch.setattr(transformers.PreTrainedModel, "to", to)
    with pytest.raises(ModelError, match=r"its weights of 0\.0 GiB do not fit \(.* are free: .*allocate.*\); it needs"):
        FrozenModel.load(folder)
    assert all(parameter.device.type == "meta" for parameter in modules[0].parameters())


def test_a_model_that_shares_a_gpu_waits_for_room_keeps_to_its_share_and_takes_turns(
    gpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the GPU, its free memory, the limit and the copy to it are made up: the copy stays where it is."""
    folder = tiny_model(tmp_path / "model")
    weights = sum(value.nbytes for value in FrozenModel.load(folder).module.parameters())
    free, told, limits, turns = iter([weights, 10 * GIB]), [], [], []
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    monkeypatch.setattr(memory, "free_and_total", lambda devices: (next(free), 80 * GIB))
    monkeypatch.setattr(memory.time, "sleep", told.append)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    monkeypatch.setattr(
        transformers.PreTrainedModel, "to", lambda module, device: turns.append(held(memory._lock_file())) or module
    )
    released = memory.release
    monkeypatch.setattr(memory, "release", lambda: turns.append(held(memory._lock_file())) or released())
    model = FrozenModel.load(folder, gpus=0.5)
    assert (len(told), limits, turns) == (1, [0.5], [True]), "80 GiB x 0.5 x 0.1 beside the weights are waited for"
    assert not held(memory._lock_file())
    model.free()
    assert turns == [True, True]
    assert not held(memory._lock_file())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give it back or not, as they like")
def test_memory_between_pieces_in_use_goes_back_to_the_system() -> None:
    pieces = [b"x" * 40_000 for _ in range(5000)]
    held_pieces = pieces[::100]
    full = resident()
    del pieces
    kept = resident()
    memory.release()
    assert full - resident() > 150e6
    assert kept - resident() > 100e6, "without it the C library would have it still"
    assert len(held_pieces) == 50


def resident() -> int:
    """Bytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def gpu_with(monkeypatch: pytest.MonkeyPatch, *, own: int, free: int) -> None:
    """A GPU of 80 GiB, of which this process has had so many bytes, and so many are free."""
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    monkeypatch.setattr(memory, "count_gpus", lambda: 1)
    monkeypatch.setattr(memory, "free_and_total", lambda devices=1: (free, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: own)


def test_the_engines_memory_is_not_what_a_training_has_left_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_with(monkeypatch, own=9 * 2**20, free=10 * GIB)
    assert memory.peak(elsewhere=True)["gpu_bytes"] == 70 * GIB
    assert memory.peak()["gpu_bytes"] == 9 * 2**20


def test_a_model_in_this_process_takes_what_pytorch_has_had_whoever_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_with(monkeypatch, own=30 * GIB, free=10 * GIB)
    assert memory.peak()["gpu_bytes"] == 30 * GIB
    gpu_with(monkeypatch, own=0, free=10 * GIB)
    assert memory.peak()["gpu_bytes"] == 70 * GIB


def test_what_cublas_works_in_is_given_back_before_the_cache_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: did.append("workspaces"), raising=False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: did.append("cache"))
    memory.release()
    assert did == ["workspaces", "cache"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its settings are glibc's")
def test_what_is_freed_is_kept_for_a_while_and_given_back_at_the_end() -> None:
    """Blocks as large as a layer's activations, twice what glibc keeps by itself. In a process whose memory is untouched."""
    code = (
        "import resource, torch\n"
        "from spt_fast.models import memory\n"
        "torch.set_num_threads(1)\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    taken = [torch.ones(4_000_000) for _ in range(10)]\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "faults(); idle = resident()\n"
        "with memory.kept():\n"
        "    faults(); print(faults(), resident() - idle)\n"
        "print(resident() - idle)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, kept, left = map(int, done.stdout.split())
    assert found < 4000, "of 39,000 pages; a busy system may take some back"
    assert kept > 120e6
    assert left < 40e6
