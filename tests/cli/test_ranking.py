"""`spt-fast rank`, as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spt_fast.cli import main
from tests.helpers.recorded import write_run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def spt_fast(*arguments: str) -> int:
    """Run a command; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def recorded() -> Path:
    verdicts = {}
    for i, model in enumerate(("b1", "b2", "b3")):
        for task in ("t1", "t2"):
            verdicts[model, task, "zero_shot", None] = [row < 2 * (i == 0) for row in range(60)]
            verdicts["c" + model, task, "zero_shot", None] = [row < 15 * (i + 1) for row in range(60)]
            for seed in (0, 1):
                verdicts[model, task, "soft_prompt", seed] = [row < 10 + 15 * i + seed for row in range(60)]
                verdicts["c" + model, task, "soft_prompt", seed] = [row < 12 + 15 * i + seed for row in range(60)]
    return write_run(Path("r"), verdicts, partners={f"b{i}": f"cb{i}" for i in (1, 2, 3)})


def test_a_run_folder_is_ranked_against_both_ground_truths(capsys: pytest.CaptureFixture[str]) -> None:
    recorded()
    assert spt_fast("rank", "r", "--resamples", "100") == 0
    told = capsys.readouterr().out
    assert "r: order of 3 models by exact_match" in told
    for truth in ("zero_shot", "soft_prompt"):
        assert f"against that of their post-trained counterparts, {truth} (3 pairs)" in told
    (line, *_) = [line for line in told.splitlines() if line.startswith("t1 ") and " soft_prompt " in line]
    assert "0 of 3" in line
    assert "0.167" in line, "one of six orders agrees so well by chance"
    (line, *_) = [line for line in told.splitlines() if line.startswith("t1 ") and " zero_shot " in line]
    assert line.rstrip().endswith("1/0"), "two models tie"
    assert "Gain of a soft prompt over another protocol" in told
    assert "Signal to noise" in told
    assert "1. 0.68" in told
    assert max(map(len, told.splitlines())) <= 120


def test_json_holds_each_interval_alone(capsys: pytest.CaptureFixture[str]) -> None:
    recorded()
    Path("truth.yaml").write_text("b1: 1\nb2: 2\nb3: 3\n")
    assert spt_fast("rank", "r", "--resamples", "100", "--json", "--truth", "truth.yaml", "--tasks", "t1") == 0
    told = json.loads(capsys.readouterr().out)
    assert {each["task"] for each in told["agreements"]} == {"t1"}
    (given,) = (a for a in told["agreements"] if (a["truth"], a["protocol"]) == ("given", "soft_prompt"))
    assert given["agreement"]["tau_b"] == 1.0
    assert given["agreement"]["most"] == 3
    assert set(given["intervals"]["tau_b"]) == {"rows", "seeds", "models", "all"}
    assert given["chance"]["how"] == "exact"


def test_results_csv_of_the_run_gives_the_same_order_as_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    recorded()
    assert spt_fast("report", "r") == 0
    capsys.readouterr()
    orders = []
    for source in ("r", "r/results.csv", "r/results.json"):
        assert spt_fast("rank", source, "--resamples", "100", "--json", "--metric", "knowledge") == 0
        told = json.loads(capsys.readouterr().out)
        (order,) = (o for o in told["orders"] if (o["task"], o["protocol"]) == ("all tasks", "soft_prompt"))
        orders.append([each["model"] for each in order["models"] if each["model"].startswith("b")])
    assert orders == [["b3", "b2", "b1"]] * 3


def test_a_plain_table_is_ranked_between_its_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.csv").write_text(
        "model,task,value\n" + "".join(f"m{i},{t},{v}\n" for i in range(4) for t, v in (("u", i), ("v", i), ("ppl", -i)))
    )
    assert spt_fast("rank", "s.csv", "--resamples", "100", "--lower-is-better", "p*") == 0
    told = capsys.readouterr().out
    assert "1.000" in told
    assert "There is no reference order: no model has a post-trained counterpart" in told
    Path("p.yaml").write_text("m0: m1\nm2: m3\n")
    assert spt_fast("rank", "s.csv", "--resamples", "100", "--partners", "p.yaml", "--tasks", "u,v", "--models", "m*") == 0
    assert "post-trained counterparts, score (2 pairs)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere: is not a run folder"),
        (["r", "--metric", "exact"], "--metric: no 'exact' in r; did you mean 'exact_match'?"),
        (["r", "--tasks", "mmlu"], "--tasks: nothing matches 'mmlu'; choose from t1, t2"),
        (["r", "--models", "b*"], "--models: is only for tables of scores"),
        (["s.csv"], "s.csv: there is no column task or benchmark"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    recorded()
    Path("s.csv").write_text("model,score\n")
    assert spt_fast("rank", *arguments) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_names_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "m\x1b[2J\u202e[red]"
    Path("s.json").write_text(json.dumps({"t\x1b[1m": {hostile: 0.1, "n": 0.2}}))
    assert spt_fast("rank", "s.json", "--resamples", "100") == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert "[red]" in told, "brackets are no markup"
