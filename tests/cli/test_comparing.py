"""`spt-fast compare` and `spt-fast gate`, as a nightly job uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spt_fast.cli import main
from tests.helpers.recorded import write_run

PLACE = ("m", "t", "zero_shot", None)
BEFORE = [i < 600 for i in range(1000)]
WORSE = [i < 550 for i in range(1000)]
POLICY = "checks:\n- {metric: exact_match, largest_drop: 0.02}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write_run(Path("a"), {PLACE: BEFORE})
    write_run(Path("b"), {PLACE: WORSE}, completion=lambda model, i: f"\x1b]0;owned\x07\x1b[31m{model}\n{i} [bold]" + "x" * 500)
    write_run(Path("few"), {PLACE: [True] * 50})
    Path("p.yaml").write_text(POLICY)


def spt_fast(*arguments: str) -> int:
    """Run a command; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_what_moved_is_shown_with_how_sure_that_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert spt_fast("compare", "a", "b", "--resamples", "100") == 0
    told = capsys.readouterr().out
    for metric in ("exact_match", "knowledge", "format_following"):
        assert f"m: {metric}" in told
    (line, *_) = [line for line in told.splitlines() if line.startswith("t ")]
    assert line.split()[:6] == ["t", "zero_shot", "1000", "0.600", "0.550", "-5.00*"]
    assert "<0.001" in line
    assert "Of 3 comparisons, 3 fell significantly" in told


def test_completions_of_flipped_rows_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert spt_fast("compare", "a", "b", "--metric", "exact_match", "--flips", "2", "--resamples", "100") == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\x07" not in told
    lines = told.splitlines()
    at = lines.index("Flips: m · t · zero_shot · exact_match")
    assert lines[at + 1].split() == ["lost", "e00550", "wanted", "A"]
    assert lines[at + 2] == "         A: m, row 550"
    assert lines[at + 3].startswith("         B: ")
    assert "[bold]" in lines[at + 3]
    assert lines[at + 3].endswith("…")
    assert max(map(len, lines)) <= 120


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert spt_fast("compare", "a", "b", "--json", "--flips", "1", "--metric", "exact_match", "--resamples", "100") == 0
    told = json.loads(capsys.readouterr().out)
    (one,) = told["comparisons"]
    assert (one["lost_rows"], one["gained_rows"]) == (50, 0)
    assert one["difference"]["interval"]["high"] < 0
    assert one["difference"]["bootstrap"]["high"] < 0
    assert one["difference"]["test"] == "McNemar"
    assert one["flips"][0]["example"] == "e00550"


def test_two_models_and_two_protocols_of_one_run_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("r"), {PLACE: BEFORE, ("n", "t", "zero_shot", None): WORSE, ("m", "t", "soft_prompt", 0): WORSE})
    assert spt_fast("compare", "r", "r", "--a-model", "m", "--b-model", "n", "--resamples", "100") == 0
    assert "m -> n: exact_match" in capsys.readouterr().out
    assert spt_fast("compare", "r", "r", "--a-protocol", "zero_shot", "--b-protocol", "soft_prompt", "--a-model", "m") == 0
    assert "soft_prompt" in capsys.readouterr().out
    assert spt_fast("compare", "r", "r") == 2
    assert "it is the same cell; name another with --b-model or --b-protocol" in capsys.readouterr().err


def test_unlike_runs_are_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("v2"), {PLACE: BEFORE}, versions={"t": 2})
    assert spt_fast("compare", "a", "v2") == 2
    err = capsys.readouterr().err
    assert "v2: nothing in it can be compared with a: t: the task is of version 1 in A and 2 in B" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("after", "verdict", "code"), [("a2", "PASS", 0), ("b", "FAIL", 1), ("few", "UNDECIDED", 3)])
def test_the_exit_code_of_a_gate_is_its_verdict(
    after: str, verdict: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(Path("a2"), {PLACE: BEFORE})
    assert spt_fast("gate", "a", after, "--policy", "p.yaml") == code
    assert capsys.readouterr().out.startswith(f"{verdict}: {after} against a\n")
    assert spt_fast("gate", "a", after, "--policy", "p.yaml", "--json") == code
    assert json.loads(capsys.readouterr().out)["verdict"] == verdict.lower()


def test_a_gate_says_why_it_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    spt_fast("gate", "a", "b", "--policy", "p.yaml")
    assert "FAIL m · t · zero_shot · exact_match: it dropped by 5 points, and 2 points is allowed." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("checks: [{largest_drop: 2}]", "p.yaml: checks[0].largest_drop: must be a number from 1e-06 to below 1"),
        ("checks: [{largest_drop: 0.1, tasks: mmlu}]", "p.yaml: checks[0]: matches nothing in a"),
        ("checks: [{largest_drop: 0.1, metric: f1}]", "p.yaml: checks[0].metric: no metric 'f1' in a or b; choose from "),
        ("nonsense", "p.yaml: policy: must be a mapping"),
    ],
)
def test_a_wrong_policy_is_exit_code_2_and_one_sentence(policy: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.yaml").write_text(policy)
    assert spt_fast("gate", "a", "b", "--policy", "p.yaml") == 2
    err = capsys.readouterr().err
    assert f"spt-fast: --policy: {sentence}" in err
    assert err.count("\n") == 1


def test_all_that_is_wrong_with_a_policy_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.yaml").write_text("checks: [{largest_drop: 2}, {metrik: f1, largest_drop: 0.1}, {metric: knowledge}]\nalfa: 0.1\n")
    assert spt_fast("gate", "a", "b", "--policy", "p.yaml") == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("spt-fast: --policy: p.yaml: ") for line in lines)
    assert [line.removeprefix("spt-fast: --policy: p.yaml: ")[:37] for line in lines] == [
        "policy: unknown key 'alfa'; did you m",
        "checks[0].largest_drop: must be a num",
        "checks[1]: unknown key 'metrik'; did ",
        "checks[2].largest_drop: is missing",
    ]
