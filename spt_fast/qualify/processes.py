"""Checks, one after the other, each in a process of its own; what dies, hangs or is missing is a row like any other."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from spt_fast.executors.worker_process import end_group, environment_of
from spt_fast.qualify.contract import Check, Given, Measured, Row, Verdict

MOST_SAID = 300
"""Characters of a reason that a row holds."""

EXCEPTION = re.compile(
    r"^(?:\(\w+ pid=\d+\) )?(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)\b.*|^.*[Ee]rror: .*"
)
"""A line of a log that says what a process died of."""


class CheckFailedError(Exception):
    """A check's process has not measured anything; the message says why."""


class TimeOverError(CheckFailedError):
    """It took longer than it was given."""


def run_all(checks: Sequence[Check], given: Given, *, seconds: float) -> Iterator[Row]:
    """Run checks in their order, and yield a row for each as soon as it is known.

    Args:
        checks: what is looked at.
        given: to the first of them; each later one is given what those before have measured, too.
        seconds: for all together. Those that are not reached are rows too (`late`).
    """
    deadline = time.monotonic() + seconds
    measured = dict(given.measured)
    for check in checks:
        row = _row(check, replace(given, measured=measured), deadline - time.monotonic())
        if row.measured:
            measured[check.name] = row.measured
        yield row


def _row(check: Check, given: Given, left: float) -> Row:
    begin = time.monotonic()
    found: Measured = {}
    if missing := next((lack for need in check.needs if (lack := need(given)) is not None), None):
        verdict = missing
    elif left < check.least_s:
        verdict = Verdict("late", f"not reached: {max(0.0, left):.0f} s were left, and it takes {check.least_s:.0f}")
    else:
        try:
            # A CPU does the same in many times as long, and nobody waits for it with a clock.
            most = min(check.limit_s, left) if given.device == "cuda" else left
            found = measure(check, given, most)
            verdict = check.judge(found, given)
        except CheckFailedError as e:
            cut = isinstance(e, TimeOverError) and most == left  # the time of all checks was over, which tells nothing of it
            verdict = Verdict("late" if cut else "bad", str(e))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as e:  # measured, and not what is judged
            verdict = Verdict("bad", f"what was measured cannot be judged: {type(e).__name__}: {e}")
    took = time.monotonic() - begin
    mend = {"bad": verdict.mend or check.mend, "late": "--minutes gives it more time"}.get(verdict.state, "")
    return Row(check=check.name, state=verdict.state, said=verdict.said, mend=mend, measured=found, seconds=round(took, 2))


def measure(check: Check, given: Given, limit_s: float) -> Measured:
    """Run a check's function in a process of its own.

    Raises:
        TimeOverError: it took longer than `limit_s`.
        CheckFailedError: it raised, or was ended.
    """
    stem = Path(given.scratch) / re.sub(r"\W+", "-", check.name)
    result, log, asked = (stem.with_suffix(suffix) for suffix in (".json", ".log", ".given"))
    result.unlink(missing_ok=True)
    asked.write_text(json.dumps(asdict(given)), encoding="utf-8")
    with log.open("wb") as out:
        code = _run(check, given, [asked, result], out, limit_s)
    answer = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
    if "measured" in answer:
        found: Measured = answer["measured"]
        return found
    if code is None:
        raise TimeOverError(_short(f"not done after {limit_s:.0f} s", _last_words(log)))
    raise CheckFailedError(_short(answer.get("error") or _ended(code), _last_words(log)))


def _run(check: Check, given: Given, files: Sequence[Path], out: IO[bytes], limit_s: float) -> int | None:
    """The exit code; None: it was ended because its time was over."""
    command = [sys.executable, "-m", "spt_fast.qualify.child", check.run.__module__, check.run.__qualname__, *map(str, files)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True, env=_environment(given)
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_group(process)
        assert process.stdin is not None
        process.stdin.close()


def _environment(given: Given) -> Mapping[str, str]:
    """Quiet, off the Hub, and with the caches of compilers in the scratch folder: a first start is what is measured."""
    own = {"HF_HUB_OFFLINE": "1", "SPT_FAST_LOG": "WARNING"}
    caches = {"TRITON_CACHE_DIR": "triton", "VLLM_CACHE_ROOT": "vllm", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    return environment_of(offline=True, its_own={**own, **{name: f"{given.scratch}/{at}" for name, at in caches.items()}})


def _ended(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}{'; the machine may be out of memory' if name == 'SIGKILL' else ''}"
    return f"its process ended with exit code {code}"


def _last_words(log: Path) -> str:
    """The first line of the log's end that names an error: what a child of an engine died of stands there alone."""
    text = log.read_bytes()[-(1 << 20) :].decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if EXCEPTION.match(line.strip())]
    return lines[-1] if lines else ""


def _short(why: str, beside: str) -> str:
    """One line of both, where the second says more."""
    line = " ".join(why.split())
    if beside and beside not in line and line not in beside:
        line = f"{line} ({' '.join(beside.split())})"
    return line if len(line) <= MOST_SAID else f"{line[: MOST_SAID // 2]} ... {line[-MOST_SAID // 2 :]}"
