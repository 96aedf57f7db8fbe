"""The harness: rounds in turn, medians with quartiles, targets, and a result file that says where its numbers come from."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.harness import Benchmark, Ratio, Timing, in_turn, spread


def test_sides_take_turns_and_warm_up_rounds_do_not_count() -> None:
    seen: list[str] = []
    sides = {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}
    seconds = in_turn(sides, 2, warm_up=1, before=lambda: seen.append("-"))
    assert "".join(seen) == "-a-b-a-b-a-b"
    assert {side: len(took) for side, took in seconds.items()} == {"a": 2, "b": 2}


def test_a_spread_is_the_median_between_its_quartiles() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0, "n": 5}
    assert spread([7.0]) == {"median": 7.0, "q1": 7.0, "q3": 7.0, "n": 1}


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "reached"),
    [(3.0, 3.0, None, True), (2.9, 3.0, None, False), (0.4, None, 0.4, True), (0.5, None, 0.4, False), (9.0, None, None, None)],
)
def test_a_ratio_says_whether_it_reaches_its_target(
    value: float, at_least: float | None, at_most: float | None, reached: bool | None
) -> None:
    assert Ratio(what="x", against="y", value=value, at_least=at_least, at_most=at_most).reached is reached


@pytest.mark.parametrize(
    ("argument", "kept"),
    [("/a/b/gemma", "DIR/gemma"), ("/a/one,/b/two", "DIR/one,DIR/two"), ("--limit", "--limit"), ("../models/x", "../models/x")],
)
def test_a_result_names_folders_and_not_where_they_lie_on_this_machine(argument: str, kept: str) -> None:
    assert harness.without_place(argument) == kept


PLACE = re.compile(r"(^|[\s\"'=,:(])/[\w.-]+/[\w.-]")
"""An absolute path of two parts or more, wherever it stands in a text; not that of an address (https://...)."""


def strings(value: Any) -> Iterator[str]:
    """All that stand in a JSON document, keys included."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from strings(each)
    if isinstance(value, str):
        yield value


@pytest.mark.parametrize("file", sorted(harness.RESULTS.rglob("*.json")), ids=lambda file: file.stem)
def test_no_committed_result_names_a_path_of_the_machine_that_it_is_from(file: Path) -> None:
    assert [text for text in strings(json.loads(file.read_text())) if PLACE.search(text)] == []


@pytest.mark.parametrize("text", ["/a/b", "python x.py --data=/a/b", "one,/a/b/c", "(/a/b)"])
def test_a_path_is_seen_wherever_it_stands(text: str) -> None:
    assert PLACE.search(text)
    assert not PLACE.search("DIR/b, examples/s, 3 / 4, https://a.b/c/d, zoo/base")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """A benchmark from its command line to its result file."""
    monkeypatch.setattr(sys, "argv", [str(harness.ROOT / "benchmarks" / "engine" / "made_up.py"), *arguments])
    for name in ("HF_HUB_OFFLINE", "VLLM_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "1")
    benchmark = Benchmark("made-up", "What it measures.", smoke="in no time", packages=("numpy", "no-such-package"))
    benchmark.start()
    timings = [Timing(case="small", side="ours", values=[1.0, 3.0, 2.0])]
    result = {"cases": [{"model": "/a/b/gemma", "rows": 8, "data": ("/c/data", None)}]}
    benchmark.end(result, timings=timings, ratios=[Ratio(what="speed", against="theirs", value=2.0, at_least=3.0)])


def test_a_saved_result_stands_under_its_device_and_says_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    run(monkeypatch, "--save")
    said = capsys.readouterr()
    written = json.loads((tmp_path / "cpu" / "made-up.json").read_text())
    assert written == {**json.loads(said.out), "earlier": []}
    assert written["command"] == "python benchmarks/engine/made_up.py --save"
    assert len(written["commit"].removesuffix("+changes")) == 40
    assert written["hardware"]["cores"] >= 1
    assert written["hardware"]["gpu"] is None
    assert set(written["versions"]) == {"python", "spt-fast", "numpy"}
    assert written["timings"] == [{"case": "small", "side": "ours", "unit": "s", "median": 2.0, "q1": 1.5, "q3": 2.5, "n": 3}]
    assert written["ratios"][0]["value"] == 2.0
    assert written["result"] == {"cases": [{"model": "DIR/gemma", "rows": 8, "data": ["DIR/data", None]}]}
    assert said.err == "speed: 2.00 x theirs (wanted: at least 3; MISSED)\n"


def test_a_saved_result_keeps_the_ratios_of_the_runs_before_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    file = tmp_path / "cpu" / "made-up.json"
    dates = []
    for _ in range(3):
        run(monkeypatch, "--save")
        dates.append(json.loads(file.read_text())["date"])
    kept = json.loads(file.read_text())["earlier"]
    assert [each["date"] for each in kept] == dates[:2]
    assert [each["ratios"] for each in kept] == 2 * [[{"what": "speed", "against": "theirs", "value": 2.0}]]
    assert all(each["hardware"]["cores"] >= 1 and each["commit"] for each in kept)


def test_numbers_of_a_smoke_run_are_not_saved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--smoke", "--save")
    assert "--smoke makes none; leave one of them out" in capsys.readouterr().err
