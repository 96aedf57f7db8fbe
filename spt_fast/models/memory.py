"""Memory of the device that models are on: how much is free, whose turn it is to take some, which errors say that it ran out.

What is free is asked of NVML, as nvidia-smi does: asked of CUDA, the answer would cost this process a context (about half a
GiB), which the engine, whose memory is another process's, would then lack.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

FREED_S = 60.0
"""How long a process that was ended may take to give its GPU memory back."""
POLL_S = 0.5

COMPUTING = "/dev/nvidia-uvm"
"""The device that CUDA opens when it is initialised, and that asking NVML does not."""

RAN_OUT = re.compile(
    r"(CUDA|HIP|XPU|MPS)[\w ]*?\]?:? out of memory"
    r"|(CUBLAS|CUSOLVER|CUSPARSE|CUDNN|CUFFT)_(STATUS_)?ALLOC_FAILED"
    # A handle needs a workspace, and cuBLAS does not say that there was no room for it.
    r"|CUBLAS_STATUS_NOT_INITIALIZED"
    r"|Cuda failure (\d+ )?'out of memory'|(cuda|hip)Error(MemoryAllocation|OutOfMemory)|CUDA_ERROR_OUT_OF_MEMORY"
    r"|DefaultCPUAllocator: (not enough|can't allocate) memory"
)
"""What PyTorch 2.13, Triton 3.9 ("Triton Error [CUDA]: out of memory"), NCCL and CUDA's libraries say where memory ran out."""


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one that it came of, says that memory ran out."""
    import torch

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, torch.OutOfMemoryError | MemoryError) or RAN_OUT.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def release() -> None:
    """Give back what nothing points to any more: to the device, and to the system what the C library would keep."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        # Those that cuBLAS works in outlive every tensor, and would count as the peak of what comes next.
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Give the system the free memory that the C library holds between pieces in use. Other libraries than glibc: nothing.

    After some steps on a CPU that were 1.1 GB of 2.1, which the engine that is started next would have had to do without.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""What glibc calls two of its settings (malloc.h)."""
MOST_MMAP_THRESHOLD = 32 * 2**20
"""What the second one becomes by itself at most; the first one twice as much."""


@contextmanager
def kept() -> Iterator[None]:
    """Have the C library keep what is freed meanwhile, as the same is taken again soon, and give it back at the end.

    A training step on a CPU frees what the next one takes, or the next layer. The system gave it back as pages that fault
    when they are written to first: a million faults, a fifth of a step of Gemma 3 270M in bfloat16. Other libraries than
    glibc: nothing.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        yield
        return
    set_option(M_MMAP_THRESHOLD, MOST_MMAP_THRESHOLD)
    set_option(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        set_option(M_TRIM_THRESHOLD, 2 * MOST_MMAP_THRESHOLD)
        trim()


def on_gpu() -> bool:
    """Whether models run on a GPU here."""
    # Counting devices through CUDA would forbid it to every process that is forked from this one, as vLLM's engine can be.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.is_available()


def count_gpus() -> int:
    """How many NVIDIA GPUs this process may use, by NVML; 0 where it cannot be asked. Imports no PyTorch."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return len([name for name in listed.split(",") if name.strip() and name.strip() != "-1"])
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        try:
            return int(nvml.nvmlDeviceGetCount())
        finally:
            nvml.nvmlShutdown()
    except Exception as e:  # not installed, or there is no driver
        if not (isinstance(e, ImportError) or type(e).__name__.startswith("NVMLError")):
            raise
        return 0


def cuda_begun() -> bool:
    """Whether CUDA has been initialised in this process, by whatever: which GPUs it may use, it has read once and for all.

    PyTorch knows of what it has done itself; that the driver was opened for computing, `/proc` tells.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return True
    for opened in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            if os.readlink(opened).startswith(COMPUTING):
                return True
    return False


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them: an index or a UUID each."""
    return _visible(count_gpus())


def free_and_total(devices: int = 1) -> tuple[int, int] | None:
    """Free and total bytes of that of this process's first `devices` GPUs that has the least free.

    Returns:
        None without a GPU, and where neither NVML nor a CUDA context that is there already tells.
    """
    if not on_gpu():
        return None
    import torch

    try:
        seen = _of_nvml(import_module("pynvml"), _visible(devices))
    except Exception as e:  # not installed (ROCm), or it knows the device by another name
        if not (isinstance(e, ImportError) or type(e).__name__.startswith("NVMLError")):
            raise
        seen = [torch.cuda.mem_get_info(i) for i in range(devices)] if torch.cuda.is_initialized() else []
    return min(seen, default=None)


def _visible(devices: int) -> list[str]:
    """What NVML knows the first `devices` GPUs of this process by: an index or a UUID each."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(devices)] if listed is None else [name.strip() for name in listed.split(",")]
    return names[:devices]


def _of_nvml(nvml: Any, names: list[str]) -> list[tuple[int, int]]:
    nvml.nvmlInit()
    try:
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
            for name in names
        ]
        return [(int(memory.free), int(memory.total)) for memory in map(nvml.nvmlDeviceGetMemoryInfo, handles)]
    finally:
        nvml.nvmlShutdown()


def peak(devices: int = 1, *, elsewhere: bool = False) -> dict[str, float]:
    """Most memory, in bytes, since `forget_peak`.

    Args:
        devices: of this process's GPUs, how many it uses.
        elsewhere: the model is in another process, as it is with vLLM: what this one has left of a training is not meant.

    Returns:
        `rss_bytes`: resident memory of this process. On a GPU also `gpu_bytes`: what PyTorch has had on the fullest of them in
        this process; where the model is in another one, what of the fullest is taken, by whomever.
    """
    found = {"rss_bytes": float(_resident())}
    if count_gpus() and on_gpu():
        import torch

        there = range(min(devices, torch.cuda.device_count())) if torch.cuda.is_initialized() else range(0)
        own = max((torch.cuda.max_memory_allocated(i) for i in there), default=0)
        seen = free_and_total(devices) if elsewhere or not own else None
        taken = 0 if seen is None else seen[1] - seen[0]
        if taken or own:
            found["gpu_bytes"] = float(taken or own)
    return found


def forget_peak() -> None:
    """Begin anew: what memory was taken until now is no peak of what follows."""
    with suppress(OSError):  # Linux alone can, and not in every sandbox: then the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for i in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(i)


def _resident() -> int:
    """Peak resident memory of this process in bytes; Linux counts in KiB, macOS in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def described(devices: int = 1) -> str:
    """How much is free, in words: "1.2 of 79.1 GiB of GPU memory are free"."""
    seen, whose = free_and_total(devices), "GPU memory"
    if seen is None:
        page = os.sysconf("SC_PAGE_SIZE")
        seen, whose = (os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page), "memory"
    return f"{gib(seen[0])} of {gib(seen[1])} GiB of {whose} are free"


def gib(size: float) -> str:
    """Bytes as GiB, without the unit."""
    return f"{size / 2**30:.1f}"


def limit(gpus: float) -> None:
    """Hold this process to its share of the GPU, where it has one with others: beyond it, PyTorch is out of memory."""
    if gpus < 1 and on_gpu():
        import torch

        torch.cuda.set_per_process_memory_fraction(gpus)


@contextmanager
def room(needed: Callable[[int], float], *, gpus: float = 1.0, devices: int = 1) -> Iterator[tuple[int, int] | None]:
    """Wait until memory that others are giving back is free, for `FREED_S` at most; keep the GPU's turn while it is taken.

    Args:
        needed: from a GPU's total bytes to those that must be free.
        gpus: this worker's share; below 1 it takes turns with its neighbours (`turn`).
        devices: how many GPUs must have that much.

    Returns:
        What is free, of how much (`free_and_total`): whether that is enough, the caller sees.
    """
    deadline = time.monotonic() + FREED_S
    while True:
        with ExitStack() as held:
            held.enter_context(turn(gpus))
            seen = free_and_total(devices)
            if seen is None or seen[0] >= needed(seen[1]) or time.monotonic() >= deadline:
                yield seen
                return
        # Not in turn: what is waited for may be a neighbour's, who needs the turn to free it.
        time.sleep(POLL_S)


@contextmanager
def turn(gpus: float) -> Iterator[None]:
    """Be the only worker of this GPU, of those that share it, that takes or frees memory by the GiB.

    vLLM measures what its engine takes by what is free before and after. A neighbour that takes some meanwhile makes the KV
    cache smaller than it need be, and one that frees some makes the start fail.

    Args:
        gpus: the share of this worker; a GPU that is not shared is taken without waiting.
    """
    if gpus >= 1:
        yield
        return
    with _lock_file().open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing is not enough: a process that was forked meanwhile, as vLLM's engine can be, has the file open too.
            fcntl.flock(file, fcntl.LOCK_UN)


def _lock_file() -> Path:
    """One for each GPU and user: another user's could not be opened."""
    devices = re.sub(r"\W+", "-", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    return Path(tempfile.gettempdir()) / f"spt-fast-gpu-{devices}-{os.getuid()}.lock"
