"""Make `.venv-docs` hold what builds the documentation, exactly as docs.txt says. Nothing happens twice.

    python3 requirements/docs.py

An environment of their own, because the site's tools and spt-fast have nothing to do with each other's versions: pages that are
made from the code are made by the Python of `.venv` (docs/reference.py).
"""

from __future__ import annotations

import subprocess
import sys

from install import ROOT, digest

VENV = ROOT / ".venv-docs"
STAMP = VENV / "spt-fast-docs"
"""What was installed, as a digest; written last."""
LIST = ROOT / "requirements" / "docs.txt"


def main() -> None:
    wanted = digest(LIST)
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    print("make docs: making .venv-docs; this takes half a minute", file=sys.stderr, flush=True)
    run(sys.executable, "-m", "venv", "--clear", str(VENV))
    pip = (str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input")
    run(*pip, "install", "--no-deps", "--require-hashes", "--requirement", str(LIST))
    STAMP.write_text(wanted)


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout[-3000:]}make docs: this failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
