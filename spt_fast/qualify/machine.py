"""The machine before anything computes: its driver, its compiler, its memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from spt_fast.models import gpu_needs, memory
from spt_fast.qualify.contract import Given, Measured, Need, Verdict

FREE_SHARE = 0.92
"""Of a GPU's memory, what vLLM asks for unless it is told."""
HOST_BYTES, DISK_BYTES = 8 * 2**30, 5 * 2**30

MEND_DRIVER = "install a newer NVIDIA driver, or a PyTorch that was built for this one's CUDA (nvidia-smi names it)"
MEND_COMPILER = "install a C compiler and Python's headers (gcc and python3-dev): Triton compiles its launchers with them"
MEND_MEMORY = "end what else uses the GPU (nvidia-smi names it), or set `engine: {gpu_memory_utilization: ...}` in the grid"

LAUNCHER = '#include "Python.h"\nint spt_fast(void) { return (int)sizeof(PyObject); }\n'


def missing_for_gpu() -> str | None:
    """Why nothing can be computed on a GPU here, in a sentence with its fix; None: there is a GPU, and a PyTorch for it.

    Imports no PyTorch.
    """
    if gpu_needs.hidden():
        return "CUDA_VISIBLE_DEVICES hides all GPUs from this process; unset it"
    if shutil.which(gpu_needs.SMI) is None:
        newest = max(gpu_needs.OLDEST_DRIVERS.values())[0]
        return (
            "there is no NVIDIA driver here (no nvidia-smi on the PATH); run this on a machine with a GPU, or install driver "
            f"{newest} or newer; `spt-fast doctor` says what this machine can do without"
        )
    gpus, why = _query("name")
    if gpus is None:
        return f"nvidia-smi is there and finds no GPU that it can talk to ({why})"
    from importlib import metadata

    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "PyTorch is not installed; `make install`"
    if "+cpu" in version:
        return f"there is a GPU ({gpus}), but PyTorch {version} is the CPU build; `make install DEVICE=cuda`"
    return None


def measure_driver(_: Given) -> Measured:
    """What the driver, and PyTorch through it, say of the GPU; a sum is computed on it."""
    import torch

    found: Measured = {name: _query(name)[0] for name in ("name", "driver_version", "compute_cap")}
    found |= {"torch": torch.__version__, "torch_cuda": torch.version.cuda, "gpus": memory.count_gpus()}
    found["sum"] = float(torch.ones(8, device="cuda").sum())
    return found


def judge_driver(found: Measured, _: Given) -> Verdict:
    """Whether the driver is new enough for PyTorch's CUDA."""
    said = f"{found['gpus']} x {found['name']} (sm_{str(found['compute_cap']).replace('.', '')}), driver "
    said += f"{found['driver_version']}, PyTorch {found['torch']} of CUDA {found['torch_cuda']}"
    if fault := gpu_needs.driver_fault(str(found["driver_version"] or ""), str(found["torch_cuda"] or "")):
        return Verdict("bad", f"{said}; {fault}")
    return Verdict("good" if found["sum"] == 8.0 else "bad", said)


def measure_compiler(given: Given) -> Measured:
    """Compile what Triton compiles first: a module in C that includes Python.h.

    Raises:
        RuntimeError: there is no compiler, or it does not find the header.
    """
    if fault := gpu_needs.compiler_fault():
        raise RuntimeError(fault)
    compiler = os.environ.get("CC") or next(path for name in ("gcc", "clang") if (path := shutil.which(name)))
    source = Path(given.scratch) / "launcher.c"
    source.write_text(LAUNCHER, encoding="utf-8")
    include = sysconfig.get_path("include")
    command = [*compiler.split(), str(source), "-shared", "-fPIC", f"-I{include}", "-o", str(source.with_suffix(".so"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{compiler} does not compile a module of Python: {_error_in(done.stderr)}")
    return {"compiler": compiler, "include": include}


def judge_compiler(found: Measured, _: Given) -> Verdict:
    """It compiled."""
    return Verdict("good", f"{found['compiler']}, with Python's headers in {found['include']}")


def measure_memory(given: Given) -> Measured:
    """Free and total bytes: of the GPU, of the machine, of the disk."""
    seen = memory.free_and_total()
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        "gpu_free_bytes": seen and seen[0],
        "gpu_total_bytes": seen and seen[1],
        "host_bytes": os.sysconf("SC_PHYS_PAGES") * page,
        "disk_free_bytes": shutil.disk_usage(given.scratch).free,
    }


def judge_memory(found: Measured, _: Given) -> Verdict:
    """Whether an engine with its usual share fits; and whether the machine beside it is large enough."""
    said = f"{memory.gib(found['host_bytes'])} GiB of memory, {memory.gib(found['disk_free_bytes'])} GiB of disk free"
    small = found["host_bytes"] < HOST_BYTES or found["disk_free_bytes"] < DISK_BYTES
    if found["gpu_total_bytes"] is None:
        return Verdict("slow" if small else "good", said)
    free, total = found["gpu_free_bytes"], found["gpu_total_bytes"]
    said = f"{memory.gib(free)} of {memory.gib(total)} GiB of GPU memory are free; {said}"
    if free < FREE_SHARE * total:
        return Verdict("bad", f"{said}; vLLM asks for {FREE_SHARE:g} of it")
    return Verdict("slow" if small else "good", said)


def room_for(gib: float) -> Need:
    """So much memory of a GPU."""

    def need(given: Given) -> Verdict | None:
        total = given.measured.get("memory", {}).get("gpu_total_bytes")
        if total is None or total >= gib * 2**30:
            return None
        return Verdict("absent", f"it takes {gib:g} GiB of GPU memory, and this has {memory.gib(total)}")

    return need


def _query(what: str) -> tuple[str | None, str]:
    """What nvidia-smi says of the first GPU that this process may use; or nothing, and why."""
    lines, why = gpu_needs.ask_driver(what, gpu=os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip())
    return (lines[0] if lines else None), why


def _error_in(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if "error" in line.lower()), text.strip()[:200])
