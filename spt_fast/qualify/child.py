"""The process of a check: `python -m spt_fast.qualify.child MODULE FUNCTION GIVEN RESULT`, the last two files of JSON.

Writes what was measured, or what went wrong, to RESULT. Stdin is a pipe to whoever started it: when that end closes, whatever
the reason, this process ends itself and its group.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from spt_fast.qualify.contract import Given


def main(module: str, function: str, given_file: str, result: str) -> None:
    """Run the check's function."""
    given = Given(**json.loads(Path(given_file).read_text(encoding="utf-8")))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: dict[str, Any]
    try:
        answer = {"measured": getattr(import_module(module), function)(given)}
    except Exception as e:
        import traceback

        traceback.print_exc()
        answer = {"error": f"{type(e).__name__}: {e}".rstrip(": ")}
    written = Path(f"{result}.part")
    written.write_text(json.dumps(answer), encoding="utf-8")
    written.replace(result)
    # An engine's or CUDA's threads have nothing more to say, and may hang at a regular end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    while os.read(0, 1):  # not `sys.stdin`, whose lock a process that is forked meanwhile would find taken
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
