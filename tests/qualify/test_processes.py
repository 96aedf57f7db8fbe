"""A check that dies, whatever of, is a row with its reason, and the next one begins."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spt_fast.qualify.checks import gpu, package
from spt_fast.qualify.contract import Check, Given, Row, Verdict
from spt_fast.qualify.processes import run_all
from spt_fast.qualify.table import line
from spt_fast.qualify.verdicts import passed

PLANTED = """
import os, signal, subprocess, sys, time

def counts(given):
    return {"seen": sorted(given.measured), "device": given.device}

def raises(given):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def is_killed(given):
    os.kill(os.getpid(), signal.SIGKILL)

def crashes(given):
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", file=sys.stderr, flush=True)
    os._exit(3)

def imports_nothing(given):
    import a_package_that_is_not_there

def hangs(given):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(given.scratch + "/child", "w").write(str(child.pid))
    time.sleep(600)

def says_nothing_of_use(given):
    return {}
"""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "planted_checks.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    yield import_module("planted_checks")
    sys.modules.pop("planted_checks", None)


def judged(found: dict[str, Any], _: Given) -> Verdict:
    return Verdict("good", f"seen {found['seen']} on {found['device']}")


def check(run: Any, **more: Any) -> Check:
    return Check(name=run.__name__, run=run, judge=judged, mend="the mend", **more)


def rows_of(checks: list[Check], tmp_path: Path, *, device: Any = "cuda", seconds: float = 60) -> dict[str, Row]:
    given = Given(device=device, size="tiny", scratch=str(tmp_path))
    return {row.check: row for row in run_all(checks, given, seconds=seconds)}


def test_whatever_a_check_dies_of_is_a_row_and_the_last_one_still_runs(planted: ModuleType, tmp_path: Path) -> None:
    names = ("raises", "is_killed", "crashes", "imports_nothing", "says_nothing_of_use", "counts")
    rows = rows_of([check(getattr(planted, name)) for name in names], tmp_path)
    assert {name: row.state for name, row in rows.items()} == {**dict.fromkeys(names, "bad"), "counts": "good"}
    assert rows["raises"].said == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert rows["is_killed"].said == "its process was ended by SIGKILL; the machine may be out of memory"
    died = "its process ended with exit code 3 (torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB)"
    assert rows["crashes"].said == died
    assert "No module named 'a_package_that_is_not_there'" in rows["imports_nothing"].said
    assert rows["says_nothing_of_use"].said == "what was measured cannot be judged: KeyError: 'seen'"
    assert all(row.mend == "the mend" for name, row in rows.items() if name != "counts")
    assert not passed(rows.values())


def test_a_check_that_hangs_is_ended_with_all_that_it_has_started(planted: ModuleType, tmp_path: Path) -> None:
    rows = rows_of([check(planted.hangs, limit_s=6.0)], tmp_path)
    assert (rows["hangs"].state, rows["hangs"].said) == ("bad", "not done after 6 s")
    child = (tmp_path / "child").read_text()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_was_measured_before_is_given_to_those_behind(planted: ModuleType, tmp_path: Path) -> None:
    first = Check(name="first", run=planted.counts, judge=judged, mend="")
    rows = rows_of([first, check(planted.counts)], tmp_path)
    assert rows["counts"].said == "seen ['first'] on cuda"
    assert passed(rows.values())


def test_what_a_check_lacks_is_said_without_running_it(planted: ModuleType, tmp_path: Path) -> None:
    missing = package("a_package_that_is_not_there")
    checks = [check(planted.counts, needs=(gpu,)), check(planted.raises, needs=(missing,))]
    rows = rows_of(checks, tmp_path, device="cpu")
    assert (rows["counts"].state, rows["counts"].said) == ("absent", "there is no GPU here")
    assert (rows["raises"].state, rows["raises"].mend) == ("bad", "`make install`")
    assert rows["raises"].said == "a_package_that_is_not_there is not installed"
    assert passed([rows["counts"]])


def test_what_there_is_no_time_for_is_not_begun_and_does_not_pass(planted: ModuleType, tmp_path: Path) -> None:
    rows = rows_of([check(planted.hangs, least_s=30.0)], tmp_path, seconds=3)
    assert rows["hangs"].state == "late"
    assert not (tmp_path / "child").exists()
    assert not passed(rows.values())
    assert "--minutes" in line(rows["hangs"], [check(planted.hangs)])


def test_a_check_ends_when_whoever_asked_for_it_is_killed(planted: ModuleType, tmp_path: Path) -> None:
    script = (
        "import planted_checks, sys\nfrom spt_fast.qualify.contract import Check, Given\n"
        "from spt_fast.qualify.processes import run_all\n"
        "check = Check(name='hangs', run=planted_checks.hangs, judge=None, mend='')\n"
        f"list(run_all([check], Given(device='cuda', size='tiny', scratch={str(tmp_path)!r}), seconds=60))\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", script])
    until = time.monotonic() + 60
    while not ((tmp_path / "child").exists() and (tmp_path / "child").read_text()) and time.monotonic() < until:
        asking.poll()
    asking.kill()
    asking.wait()
    stat = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until, "the check's own child outlived it"


def test_what_is_cut_off_because_the_time_of_all_is_over_is_late_and_not_bad(planted: ModuleType, tmp_path: Path) -> None:
    """It may be whole: nobody has waited for it."""
    rows = rows_of([check(planted.hangs, limit_s=600.0, least_s=0.0)], tmp_path, seconds=3)
    assert rows["hangs"].state == "late"
    assert rows["hangs"].said.startswith("not done after 3 s")
    assert rows["hangs"].mend == "--minutes gives it more time"
