"""kill -9 at any moment of a watch: the same verdicts, nothing done twice, everybody told under the same ids."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from spt_fast.store import Store
from tests.helpers.tiny import tiny_model
from tests.helpers.watching import Nights

KILLS = int(os.environ.get("SPT_FAST_KILLS", "2"))
"""Each takes some two seconds."""
CHANGES = ("time", "run", "report", "number")
"""Of a verdict, what differs between two run folders."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("nights")
    found = Nights(tiny_model(folder / "m", hidden_size=32, positions=4096), folder)
    for step in range(1, 6):
        found.add(step)
    return found


def watch(nights: Nights, run: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    """A watch in a process of its own."""
    words = [nights.base.parent, run, run.with_suffix(".heard"), kill_at]
    command = [sys.executable, "-m", "tests.helpers.killed_watch", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def verdicts(run: Path) -> list[dict[str, Any]]:
    """Those of a run folder, without what differs between two."""
    kept = [json.loads(path.read_text()) for path in sorted((run / "verdicts").glob("*.json"))]
    return [{name: value for name, value in each.items() if name not in CHANGES} for each in kept]


def require_as_undisturbed(run: Path, expected: list[dict[str, Any]]) -> None:
    """The verdicts are those of a watch that nobody killed, each was told, and each cell was done once."""
    assert verdicts(run) == expected
    heard = [json.loads(line)["id"] for line in run.with_suffix(".heard").read_text().splitlines() if line]
    assert set(heard) == {each["id"] for each in expected}
    done = Counter(event["key"] for event in Store(run).events() if event["event"] == "done")
    assert len(Store(run).done()) == len(expected)
    assert set(done) <= Store(run).done(), "a kill may come between a result and what is said of it"
    assert set(done.values()) == {1}


def test_a_watch_that_is_killed_at_any_moment_comes_to_the_same(nights: Nights, tmp_path: Path) -> None:
    undisturbed = watch(nights, tmp_path / "undisturbed", 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = verdicts(tmp_path / "undisturbed")
    assert [each["verdict"] for each in expected] == ["first", "pass", "fail", "pass", "undecided"]
    moments, rng = int(undisturbed.stdout), random.Random(KILLS)
    run = tmp_path / "killed"
    killed = 0
    while killed < KILLS:
        ended = watch(nights, run, rng.randrange(1, moments // 2))
        if ended.returncode == -signal.SIGKILL:
            killed += 1
        else:
            assert ended.returncode == 0, ended.stderr
            require_as_undisturbed(run, expected)
            run = tmp_path / f"killed-{killed}"
    assert watch(nights, run, 0).returncode == 0
    require_as_undisturbed(run, expected)
