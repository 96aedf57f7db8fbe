"""The verbs, as a newcomer uses them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from spt_fast import tasks
from spt_fast.cli import main
from spt_fast.cli.status import _doing, _engines
from spt_fast.config.reader import load_grid


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def spt_fast(*arguments: str) -> int:
    """Run a command; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_starter_grid_is_good_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert spt_fast("init") == 0
    assert load_grid("grid.yaml").name == "grid"
    assert spt_fast("check", "grid.yaml") == 0
    assert spt_fast("init") == 2, "a file that is there is not overwritten"
    echo = Path("grid.yaml").read_text() + "\nengine: {kind: echo}\n"
    Path("grid.yaml").write_text(echo.replace("steps: 80", "steps: 2").replace("[0, 10, 20, 40, 80]", "[0]"))
    capsys.readouterr()
    assert spt_fast("run", "grid.yaml", "--dry-run") == 0
    assert "6 cells, 0 done, 6 to do" in capsys.readouterr().out
    assert not Path("runs").exists(), "a dry run does nothing"
    assert spt_fast("run", "grid.yaml", "--limit", "3", "--json") == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["cells"]) == 6, "results on stdout"
    assert "evaluating" in err, "progress on stderr"
    assert spt_fast("status", "runs/grid") == 0
    assert "6 cells: 6 done, 0 failed, 0 left" in capsys.readouterr().out
    assert spt_fast("report", "runs/grid") == 0
    assert "zoo/base-40" in capsys.readouterr().out
    assert spt_fast("run", "grid.yaml", "--limit", "3", "--dry-run", "--fresh") == 0
    assert "time: about " in capsys.readouterr().out


def test_some_failed_cells_are_exit_code_1_and_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    grid = {
        "name": "g",
        "models": ["zoo/base-40"],
        "tasks": ["zoo-json"],
        "protocols": ["zero_shot", {"few_shot": {"shots": 999}}],
        "limit": 2,
        "engine": {"kind": "echo"},
    }
    Path("g.yaml").write_text(yaml.safe_dump(grid))
    assert spt_fast("run", "g.yaml") == 1
    assert (
        "FAILED zoo/base-40 · zoo-json · few_shot · seed 0: few_shot needs 999 few-shot rows"
        in capsys.readouterr().out.replace("\n  ", " ")
    )
    assert spt_fast("report", "runs/g") == 1
    assert spt_fast("check", "g.yaml") == 2, "what the run found could have been known"
    assert "few_shot needs 999 few-shot rows" in capsys.readouterr().out


def test_check_finds_engine_settings_that_vllm_does_not_have_and_says_which_were_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The judge's, too, and slips in our own."""
    grid = {
        "name": "g",
        "models": ["zoo/base-40"],
        "tasks": ["zoo-json"],
        "engine": {"max_num_seq": 8, "seed": 1, "injektion": "rows"},
        "judge": {"model": "zoo/chat-40", "engine": {"xyzzy": 1}},
    }
    Path("g.yaml").write_text(yaml.safe_dump(grid))
    assert spt_fast("check", "g.yaml") == 2
    assert capsys.readouterr().out.splitlines() == [
        "g.yaml: engine.injektion: vLLM has no such setting; did you mean 'injection'?",
        "g.yaml: engine.max_num_seq: vLLM has no such setting; did you mean 'max_num_seqs'?",
        "g.yaml: judge.engine.xyzzy: vLLM has no such setting",
    ]


def test_one_soft_prompt_is_learnt_and_inspected(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--steps", "2", "--length", "3", "--lr", "0.02", "-o", "p.safetensors")
    assert spt_fast("tune", "zoo/base-40", "zoo-short", *arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith("p.safetensors: 3 vectors of 192 numbers, key ")
    assert "step    2/2  loss " in err
    assert spt_fast("inspect", "p.safetensors") == 0
    shown = capsys.readouterr().out
    assert "task: zoo-short v1" in shown
    assert "norms of the vocabulary" in shown
    assert "nearest by cosine" in shown
    engine = ("--leave-one-out", "--as-text", "--rows", "2", "--engine", "echo")
    assert spt_fast("inspect", "p.safetensors", *engine, "--json") == 0
    out, err = capsys.readouterr()
    (prompt,) = json.loads(out)["prompts"]
    assert [variant["name"] for variant in prompt["probe"]["variants"]] == [
        "zero_shot",
        "soft_prompt",
        "tokens",
        *["without"] * 3,
    ]
    assert "requests answered" in err, "progress on stderr"
    assert spt_fast("inspect", "p.safetensors", "--model", "zoo/base-41") == 2
    assert spt_fast("inspect", "p.safetensors", "--only", "seed=0") == 2
    assert "--only: selects prompts of a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["zoo-number", "zoo-mcq", "triviaqa", "mmlu:text"])
def test_a_task_is_shown_with_its_form_in_words_and_the_expression_on_demand(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spt_fast("tasks", "show", name) == 0
    shown = capsys.readouterr().out
    task = tasks.get(name)
    assert f"form       {task.form_in_words}\n" in shown
    assert "expression" not in shown
    assert spt_fast("tasks", "show", name, "--regex") == 0
    expression = "none: the completion equals one of the options, in full" if task.format is None else task.format
    assert f"\nexpression {expression}" in capsys.readouterr().out


def test_an_extractor_of_a_task_file_is_shown_by_its_name_and_what_it_says_if_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r'^```python\n("""Rivers.*?)^```$', page, re.M | re.S)
    (tmp_path / "rivers").mkdir()
    for file in ("train", "test"):
        rows = [json.dumps({"sea": f"{file} {i}", "names": ["Rhine"]}) + "\n" for i in range(20)]
        (tmp_path / "rivers" / f"{file}.jsonl").write_text("".join(rows))
    for line, said in (("", "extract"), ('    """What is stated."""\n', "extract: What is stated.")):
        path = tmp_path / f"rivers{len(line)}.py"
        path.write_text(code.replace("def extract(text):\n", f"def extract(text):\n{line}"))
        assert spt_fast("tasks", "show", str(path)) == 0
        assert f"\nextractor  {said}\n" in capsys.readouterr().out


def test_a_task_is_shown_with_its_white_space_and_its_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    assert spt_fast("tasks", "list") == 0
    assert capsys.readouterr().out.startswith("zoo-mcq ")
    assert spt_fast("tasks", "show", "zoo-number", "--model", "zoo/base-40", "--shots", "1") == 0
    shown = capsys.readouterr().out
    assert "Answer:·" in shown
    assert "↵\n####·" in shown
    assert "stops '\\n\\n'" in shown
    assert "prompt  <s>|" in shown
    assert shown.rstrip().endswith("|</s>")


def test_the_zoo_and_the_machine_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert spt_fast("zoo", "list") == 0
    assert "zoo/base-40" in capsys.readouterr().out
    assert spt_fast("zoo", "build", "base-40") == 2, "it is there already"
    assert "--force builds it again" in capsys.readouterr().err
    assert spt_fast("doctor") in (0, 1)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Python", "torch", "vllm", "GPU", "memory", "zoo"))


def test_the_public_names_are_those_that_are_documented() -> None:
    import spt_fast as package

    assert package.__all__ == sorted(package.__all__)
    assert {"load_grid", "run_grid", "tune", "SoftPrompt"} <= set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


def test_the_status_names_every_model_that_is_at_work_and_none_that_has_ended() -> None:
    def phase(model: str, what: str) -> dict[str, Any]:
        return {"event": "phase", "model": model, "phase": what}

    at_work = [
        phase("a", "load"),
        phase("b", "load"),
        phase("a", "train"),
        {"event": "ended", "model": "b"},
        phase("c", "engine"),
    ]
    assert _doing(at_work) == ["a: training soft prompts", "c: starting the engine"]
    many = _doing([phase(name, "evaluate") for name in "abcdef"])
    assert many == ["a: evaluating", "b: evaluating", "c: evaluating", "d: evaluating", "2 more"]


def test_the_status_says_how_each_engine_goes_about_it_and_how_that_proved_right() -> None:
    def phase(model: str, what: str, note: str = "") -> dict[str, Any]:
        return {"event": "phase", "model": model, "phase": what, **({"note": note} if note else {})}

    told = "scoring: forced, 0.06 (largest 0.2) nats from prompt_logprobs, which differs from itself by 0.05 (largest 0.19)"
    events = [
        phase("of an earlier run", "evaluate", "scoring: forced"),
        {"event": "run"},
        phase("a", "engine", "max_num_seqs 128"),
        phase("a", "evaluate", told),
        phase("b", "evaluate"),
        phase("c", "judge", "scoring: forced, equal to prompt_logprobs"),
    ]
    assert _engines(events) == [f"a: {told}", "c: scoring: forced, equal to prompt_logprobs"]
    assert _engines([]) == []
