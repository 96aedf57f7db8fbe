"""Make `.venv` hold exactly what the lock files say, and spt-fast itself, editable. Pip alone; nothing happens twice.

    python3 requirements/install.py [--device auto|cpu|cuda]

Everything comes from `requirements/<device>.txt`: complete, so that pip resolves nothing (`--no-deps`), and hashed. One
exception: on a CPU, torch is the CPU build, whose file differs from one source to the next, so it has a version and no
hash. Resolving instead would drag in CUDA builds of torchvision, torchaudio and torchcodec, with which a CPU torch
cannot even import transformers.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "spt-fast-installed"
"""What was installed, as digests; written last."""

OLDEST, TOO_NEW = (3, 11), (3, 15)
CPU_TORCH = "torch==2.13.0+cpu"
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    device = parser.parse_args().device
    version = ".".join(map(str, sys.version_info[:2]))
    if not OLDEST <= sys.version_info < TOO_NEW:
        sys.exit(
            f"spt-fast needs Python 3.11 to 3.14, and {sys.executable} is {version}: "
            "name another one, as in `make install PYTHON=python3.11`"
        )
    if device == "auto":
        device = "cuda" if has_nvidia_gpu() else "cpu"
    lock = ROOT / "requirements" / f"{device}.txt"
    wanted = {
        "device": device,
        "packages": digest(lock, Path(__file__)),
        "project": digest(ROOT / "pyproject.toml"),
    }
    found = read_stamp()
    if found == wanted:
        return

    started = time.monotonic()
    if not PYTHON.exists() or found.get("device", device) != device:
        say(f"making .venv for {device} with Python {version}")
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        found = {}
    if found.get("packages") != wanted["packages"]:
        if device == "cpu":
            install_cpu_torch()
        install_locked(lock)
    run(pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)))
    STAMP.write_text("".join(f"{key}: {value}\n" for key, value in wanted.items()))
    say(f"done in {time.monotonic() - started:.0f} s")


def has_nvidia_gpu() -> bool:
    try:
        found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True)
    except OSError:
        return False
    return found.returncode == 0 and b"GPU" in found.stdout


def install_cpu_torch() -> None:
    """From where pip already looks, if the CPU build is there; otherwise from PyTorch's own index."""
    say("installing torch, the CPU build")
    command = pip("install", "--no-deps", CPU_TORCH)
    if subprocess.run(command, capture_output=True).returncode != 0:
        run([*command, "--index-url", CPU_TORCH_INDEX])


def install_locked(lock: Path) -> None:
    """Install a complete, hashed lock file; on a terminal, pip's progress is one line."""
    total = sum(line[0].isalnum() for line in lock.read_text().splitlines())
    say(f"installing some {total} packages; the first time this takes a few minutes")
    command = pip("install", "--no-deps", "--require-hashes", "--requirement", str(lock))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines, seen, on_terminal = [], 0, sys.stderr.isatty()
    for line in process.stdout:
        lines.append(line)
        if line.startswith(("Collecting ", "Requirement already satisfied: ")):
            seen += 1
            step = f"{seen}/{total} {line.split('==')[0].split()[-1]}"
        elif line.startswith("Installing collected packages"):
            step = "unpacking"
        else:
            continue
        if on_terminal:
            print(f"\r\033[K  {step}", end="", file=sys.stderr, flush=True)
    if on_terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if process.wait() != 0:
        sys.exit("".join(lines[-15:]) + f"make install: pip could not install {lock.name}")


def pip(*args: str) -> list[str]:
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *args]


def run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout[-3000:]}make install: this failed: {' '.join(command)}")


def read_stamp() -> dict[str, str]:
    if not STAMP.exists():
        return {}
    return dict(line.split(": ", 1) for line in STAMP.read_text().splitlines())


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def say(text: str) -> None:
    print(f"make install: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
