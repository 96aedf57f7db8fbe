"""What a machine with a GPU must have besides it: a driver that is new enough for CUDA, and a C compiler for Triton. Imports
no PyTorch."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from importlib import util
from pathlib import Path

from spt_fast.errors import shortened

SMI = "nvidia-smi"
SMI_S = 30.0
"""How long it may take: it hangs where the driver does."""

OLDEST_DRIVERS: Mapping[int, tuple[int, ...]] = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}
"""CUDA's major version -> the oldest driver of Linux that runs what is built for any version of it, by its release notes."""


def hidden() -> bool:
    """Whether `CUDA_VISIBLE_DEVICES` hides all GPUs from this process."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")


def ask_driver(what: str, *, gpu: str | None = None) -> tuple[list[str], str]:
    """What nvidia-smi says of the GPUs of this machine.

    Args:
        what: its `--query-gpu`.
        gpu: an index or a UUID; None: all.

    Returns:
        A line for each GPU, and nothing; or no line, and why, in a sentence.
    """
    command = [SMI, f"--query-gpu={what}", "--format=csv,noheader", *([] if gpu is None else [f"--id={gpu}"])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SMI_S, check=False)
    except subprocess.TimeoutExpired:
        return [], f"{SMI} has not answered for {SMI_S:.0f} s"
    except OSError as e:
        return [], f"{SMI} cannot be run: {e.strerror}"
    said = [line.strip() for line in (*done.stdout.splitlines(), *done.stderr.splitlines()) if line.strip()]
    if done.returncode == 0 and done.stdout.strip():
        return [line.strip() for line in done.stdout.splitlines() if line.strip()], ""
    why = shortened(said[0], 120) if said else f"nothing, and ends with exit code {done.returncode}"
    return [], f"{SMI} says: {why}"


def cuda_of_torch() -> str | None:
    """The version of CUDA that the installed PyTorch is built for ("13.0"); None: it is built for none, or not installed."""
    found = util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        tree = ast.parse((Path(found.origin).parent / "version.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return None
    for line in tree.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id == "cuda":
            said = line.value.value if isinstance(line.value, ast.Constant) else None
            return said if isinstance(said, str) else None
    return None


def driver_fault(driver: str, cuda: str) -> str:
    """Why a driver does not run what is built for a version of CUDA, and the mend; empty: it does, or that cannot be told.

    Args:
        driver: its version ("570.86.15").
        cuda: a version of CUDA ("13.0").
    """
    oldest = OLDEST_DRIVERS.get(_numbers(cuda)[0] if _numbers(cuda) else 0)
    found = _numbers(driver)
    if oldest is None or not found or found >= oldest[: len(found)]:
        return ""
    least = ".".join(f"{number:02d}" for number in oldest)
    return f"the driver is {driver}, and torch is built for CUDA {cuda}, which needs {least} or newer: install a newer driver"


def compiler_fault(environment: Mapping[str, str] = os.environ, include: str | None = None) -> str:
    """Why Triton cannot build what it launches its kernels with, and the mend; empty: it can.

    Args:
        environment: its `CC` and `PATH` say which compiler is taken.
        include: the folder of Python.h; None: that of this Python.
    """
    folder = Path(include or sysconfig.get_paths()["include"])
    path = environment.get("PATH")
    named = environment.get("CC")
    if named is not None and not shutil.which(named.split()[0] if named.split() else "", path=path):
        return f"CC is {named!r}, and there is no such compiler, which Triton needs: leave CC out, or name one that is there"
    if named is None and not any(shutil.which(name, path=path) for name in ("gcc", "clang")):
        return "there is no C compiler, which Triton needs: install gcc"
    if not (folder / "Python.h").is_file():
        return f"there is no {folder / 'Python.h'}, which Triton needs: install Python's header files (python3-dev)"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    found = []
    for part in version.strip().split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)
