"""The fuzzer: inputs that are nearly valid, read by the commands that read them, in this process.

    python -m tests.fuzz --minutes 30 [--seed 7] [--only grids,tasks]

A finding is a traceback, an exit code that a command does not have, a call of more than 5 s or 500 MB, or raw
control characters on the terminal. What it was is kept in `build/fuzz/`, and the same `--seed` and number make it again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spt_fast.cli import main as spt_fast
from spt_fast.engine.vllm.start import setting_names
from tests.fuzz.targets import TARGETS, Target, prepare

MOST_S = 5.0
MOST_BYTES = 500e6
KEPT = Path("build/fuzz")
_RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


class _TooLong(BaseException):
    """A call takes longer than it may: no `except Exception` is to hold it up."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with one call."""

    kind: str
    number: str
    """Seed and number of the input."""
    command: Sequence[str]
    what: str


def fuzz(kind: str, seed: int, number: int, shared: Path) -> list[Finding]:
    """One input of a kind, through all commands that read it."""
    draw = random.Random(f"{kind} {seed} {number}")
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=shared.parent))
    try:
        target = TARGETS[kind]
        commands = target.make(folder, draw, shared)
        wrong = [(command, what) for command in commands if (what := call(command, target))]
        if wrong:
            shutil.copytree(folder, KEPT / f"{kind}-{seed}-{number}", dirs_exist_ok=True)
        return [Finding(kind, f"{seed}/{number}", command, what) for command, what in wrong]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def call(command: Sequence[str], target: Target, most_s: float = MOST_S) -> str:
    """What is wrong with how a command ends; empty: nothing."""
    out, err = io.StringIO(), io.StringIO()
    before = _peak(reset=True)
    begin = time.process_time()  # other processes may have the processor meanwhile
    try:
        with _alarm(6 * most_s), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            spt_fast(list(command))
    except SystemExit as e:
        code = e.code
    except _TooLong:
        return f"takes more than {6 * most_s} s"
    except BaseException:
        return traceback.format_exc()
    took, more = time.process_time() - begin, _peak() - before
    told = out.getvalue() + err.getvalue()
    if code not in target.codes:
        return f"exit code {code}: {told[-300:]}"
    if "Traceback (most recent call last)" in told or "a bug in spt-fast" in told:
        return told
    if found := _RAW.search(told):
        return f"{found[0]!a} on the terminal: {told[max(0, found.start() - 80) : found.end()]!a}"
    if code == 2 and not told.strip():
        return "exit code 2 without a word"
    if took > most_s or more > MOST_BYTES:
        return f"takes {took:.1f} s and {more / 1e6:.0f} MB"
    return ""


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak(*, reset: bool = False) -> float:
    """Bytes of memory: what this process has now, or the most it had since that was asked for."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * float(re.findall(r"VmHWM:\s+(\d+)", status)[0])


def warm_up(shared: Path) -> None:
    """Import what commands import, which is no fault of the first input."""
    for kind in TARGETS:
        fuzz(kind, 0, 0, shared)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz for some minutes; 1 where something was found."""
    parser = argparse.ArgumentParser(description="Fuzz what spt-fast reads.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default=",".join(TARGETS))
    asked = parser.parse_args(arguments)
    kinds, end, number, found = asked.only.split(","), time.monotonic() + 60 * asked.minutes, 0, 0
    with tempfile.TemporaryDirectory() as parent:
        shared = Path(parent) / "shared"
        prepare(shared)
        warm_up(shared)
        with contextlib.suppress(ImportError):
            setting_names()  # what `check` asks vLLM where a grid has settings for it: an import of many seconds
        while time.monotonic() < end:
            number += 1
            for kind in kinds:
                for finding in fuzz(kind, asked.seed, number, shared):
                    found += 1
                    print(f"{finding.kind} {finding.number}: {' '.join(finding.command)}\n{finding.what}\n", flush=True)
    print(f"seed {asked.seed}: {number} inputs of each of {', '.join(kinds)}; {found} findings, kept in {KEPT}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
