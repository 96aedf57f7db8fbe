"""Make `.venv-peers` hold the tools that benchmarks compare with, as their users have them. Nothing happens twice.

    python3 requirements/peers.py

An environment of their own, because our versions are not theirs to follow. peers.txt names them exactly and pip finds what they
need; torch is of the version and build that `.venv` has, so that it makes no difference.
"""

from __future__ import annotations

import subprocess
import sys

from install import CPU_TORCH, CPU_TORCH_INDEX, ROOT, digest, read_stamp

VENV = ROOT / ".venv-peers"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "spt-fast-peers"
"""What was installed, as a digest; written last."""
LIST = ROOT / "requirements" / "peers.txt"


def main() -> None:
    device = read_stamp().get("device")
    if device is None:
        sys.exit("make bench-peers: there is no .venv to take torch's build from; run `make install` first")
    wanted = f"{device} {digest(LIST)}"
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    print("make bench-peers: making .venv-peers; this takes a few minutes", file=sys.stderr, flush=True)
    run(sys.executable, "-m", "venv", "--clear", str(VENV))
    if device != "cpu":
        pip("install", CPU_TORCH.partition("+")[0], "--requirement", str(LIST))
    else:
        # From where pip already looks, or else from PyTorch's own index; what torch needs comes with the rest.
        if not pip("install", "--no-deps", CPU_TORCH, must=False):
            pip("install", "--no-deps", CPU_TORCH, "--index-url", CPU_TORCH_INDEX)
        pip("install", CPU_TORCH, "--requirement", str(LIST))
    STAMP.write_text(wanted)


def pip(*args: str, must: bool = True) -> bool:
    return run(str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *args, must=must)


def run(*command: str, must: bool = True) -> bool:
    """Whether it went well; where it must and does not, the end."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0 and must:
        sys.exit(f"{done.stdout[-3000:]}make bench-peers: this failed: {' '.join(command)}")
    return done.returncode == 0


if __name__ == "__main__":
    main()
