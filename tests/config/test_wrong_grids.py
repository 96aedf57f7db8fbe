"""Bad input gets one sentence that names the file, the place and the mend, and exit code 2; never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from spt_fast.cli import main
from spt_fast.config.reader import parse_grid
from spt_fast.errors import MOST_TOLD, ConfigError

GOOD = """
name: good
models: [zoo/base-40]
tasks: [zoo-mcq]
protocols: [zero_shot]
"""

WRONG: dict[str, tuple[str, str]] = {
    "yaml that is not yaml": ("name: [", "line 2, column 1: not YAML"),
    "a list": ("- zero_shot", "grid: must be a mapping, not a list\n"),
    "nothing": ("", "must be a mapping"),
    "a key twice": (GOOD + "name: again\n", "'name' appears twice"),
    "unknown key": (GOOD.replace("models", "modles"), "did you mean 'models'?"),
    "missing key": (GOOD.replace("tasks: [zoo-mcq]", ""), "tasks: is missing"),
    "empty task list": (GOOD.replace("[zoo-mcq]", "[]"), "tasks: is empty"),
    "models as text": (
        GOOD.replace("[zoo/base-40]", "zoo/base-40"),
        "models: must be a list, not text ('zoo/base-40'); write models: [zoo/base-40]",
    ),
    "a number of seeds": (GOOD + "seeds: 3\n", "seeds: must be a list, not a whole number (3); write seeds: [3]"),
    "an engine's name": (GOOD + "engine: vllm\n", "engine: must be a mapping, not text ('vllm'); write engine: {key: value}"),
    "what others call a key": (
        GOOD.replace("zero_shot", "{soft_prompt: {vectors: 3}}"),
        "protocols[0].soft_prompt: unknown key 'vectors'; did you mean 'length'?",
    ),
    "number as model": (GOOD.replace("[zoo/base-40]", "[7]"), "models[0]"),
    "duplicate model": (GOOD.replace("[zoo/base-40]", "[zoo/base-40, zoo/base-40]"), "models[1]"),
    "duplicate task": (GOOD.replace("[zoo-mcq]", "[zoo-mcq, zoo-mcq]"), "tasks[1]"),
    "unknown task": (GOOD.replace("zoo-mcq", "zoo-mqc"), "zoo-mcq"),
    "unknown zoo model": (GOOD.replace("zoo/base-40", "zoo/bass-40"), "zoo/base-40"),
    "unknown protocol": (GOOD.replace("zero_shot", "zeroshot"), "did you mean 'zero_shot'?"),
    "zero steps": (
        GOOD.replace("zero_shot", "{soft_prompt: {steps: 0}}"),
        "steps: must be a whole number from 1 to 10000000, not 0",
    ),
    "negative rate": (
        GOOD.replace("zero_shot", "{soft_prompt: {lr: -1}}"),
        "lr: must be a number above 0 and at most 1000 or auto, not -1",
    ),
    "text as steps": (GOOD.replace("zero_shot", "{soft_prompt: {steps: many}}"), "steps: must be a whole number"),
    "true as steps": (GOOD.replace("zero_shot", "{soft_prompt: {steps: true}}"), "steps: must be a whole number"),
    "curve beyond the end": (GOOD.replace("zero_shot", "{soft_prompt: {evaluate_at: [99]}}"), "outside 0..80"),
    "unknown setting": (GOOD.replace("zero_shot", "{soft_prompt: {leng: 3}}"), "did you mean 'length'?"),
    "settings beside the name": (
        GOOD.replace("[zero_shot]", "\n- few_shot:\n  shots: 5"),
        "must have one key, the protocol's name, not 2; indent its settings further than its name",
    ),
    "two protocols in one": (GOOD.replace("zero_shot", "{zero_shot: {}, few_shot: {}}"), "must have one key"),
    "no seeds": (GOOD + "seeds: []\n", "seeds: is empty"),
    "a seed twice": (GOOD + "seeds: [1, 1]\n", "seeds[1]"),
    "limit of zero": (GOOD + "limit: 0\n", "limit: must be a whole number from 1 to 2147483647, not 0"),
    "truth as a list": (GOOD + "truth: [1]\n", "truth: must be {model: value}"),
    "truth in words": (GOOD + "truth: {zoo/base-40: much}\n", "truth.zoo/base-40: must be a number"),
    "truth of another model": (GOOD + "truth: {zoo/base-4: 0.4}\n", "truth: zoo/base-4 is not a model of the grid"),
    "truth of another task": (GOOD + "truth: {zoo: {zoo/base-40: 0.4}}\n", "truth.zoo: is not a task of the grid"),
    "a judge": (GOOD + "judge: {modell: x}\n", "judge"),
    "unknown scoring": (GOOD + "engine: {scoring: fast}\n", "engine.scoring: must be one of auto, forced, prompt_logprobs"),
    "unknown injection": (GOOD + "engine: {injection: row}\n", "engine.injection: must be one of auto, rows, mixed"),
    "unknown engine": (GOOD + "engine: {kind: vlm}\n", "engine.kind"),
    "engine's model": (GOOD + "engine: {model: x}\n", "engine.model: is set by spt-fast"),
    "a name with a slash": (GOOD.replace("good", "a/b"), "names the run folder"),
    "python in yaml": (GOOD + "output: !!python/object/apply:os.getcwd []\n", "not YAML"),
    "a folder that is no model": (GOOD.replace("zoo/base-40", "."), "no config.json"),
    "a folder that is not there": (GOOD.replace("zoo/base-40", "./nothing/here"), "no such folder"),
    "a file as model": (GOOD.replace("zoo/base-40", "grid.yaml"), "is a file"),
    "its own post-trained counterpart": (
        GOOD.replace("zoo/base-40", "{id: zoo/base-40, post_trained: zoo/base-40}"),
        "its own post-trained counterpart",
    ),
    "rows that are not there": (
        GOOD.replace("zoo-mcq", "{task: gsm8k, data_files: ./nothing}"),
        "nothing",
    ),
    "no gpus": (GOOD.replace("zoo/base-40", "{id: zoo/base-40, tensor_parallel: 0}"), "tensor_parallel"),
    "an unknown dtype": (GOOD.replace("zoo/base-40", "{id: zoo/base-40, dtype: fp8}"), "dtype"),
    "an override that does not fit": (
        GOOD.replace("zoo/base-40", "{id: zoo/base-40, soft_prompt: {length: 0}}").replace("zero_shot", "soft_prompt"),
        "length: must be a whole number from 1 to 65536, not 0",
    ),
    "a series without a match": (
        GOOD.replace("zoo/base-40", "{id: ., checkpoints: 'step-*'}"),
        "matches 'step-*'",
    ),
}


@pytest.mark.parametrize(("text", "part"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_grid_is_one_sentence_and_exit_code_2(
    text: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["run", "grid.yaml"])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.count("\n") == 1, "one sentence, on one line"
    assert "Traceback" not in err
    assert err.startswith("spt-fast: grid.yaml: ")
    assert part in err
    assert not Path("runs").exists(), "a wrong request leaves nothing behind"


@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_grid_that_is_not_there_is_one_sentence_and_exit_code_2(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([verb, "missing.yaml"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "spt-fast: missing.yaml: no such file; `spt-fast init missing.yaml` writes one to start from\n"
    )


def test_a_grid_that_is_no_text_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(SystemExit) as ended:
        main(["run", "grid.yaml"])
    assert ended.value.code == 2
    assert "grid.yaml: is not text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run"], "Missing argument"),
        (["run", "g.yaml", "--limit", "0"], "--limit"),
        (["fly"], "No such command"),
        (["tune", "zoo/base-40", "zoo-mcq", "--steps", "0"], "steps: must be a whole number from 1 to 10000000"),
        (["tune", "zoo/base-40", "zoo-nothing"], "zoo-nothing"),
        (["tasks", "show", "zoo-mqc"], "spt-fast: no task is called 'zoo-mqc'; did you mean 'zoo-mcq'?"),
        (["inspect", "nothing.safetensors"], "nothing.safetensors"),
        (["status", "nowhere"], "is not a run folder: it has no grid.yaml; name the folder that `spt-fast run` made"),
        (["report", "g.yaml"], "g.yaml: is a file, not a run folder"),
        (["report", "nowhere"], "is not a run folder"),
        (["zoo", "build", "base-nothing"], "unknown zoo model"),
        (["verify", "zoo/base-nothing"], "unknown zoo model"),
        (["run", "g.yaml", "--address", "127.0.0.1:1"], "--address"),
        (["run", "g.yaml", "--only", "task"], "--only"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("g.yaml").write_text(GOOD)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert err.count("\n") == 1
    assert part in err


def test_only_with_a_pattern_that_nothing_matches_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("g.yaml").write_text(GOOD)
    with pytest.raises(SystemExit) as ended:
        main(["run", "g.yaml", "--only", "task=gsm*"])
    assert ended.value.code == 2
    assert "choose from zoo-mcq" in capsys.readouterr().err


ELSEWHERE = {
    "tasks: [{task: zoo-mcq, repeat_rows: true}]": (
        "tasks[0]: unknown key 'repeat_rows' of a task; it is a setting of soft_prompt (protocols: [{soft_prompt: {repeat_rows"
    ),
    "steps: 5": "unknown key 'steps' of the grid; it is a setting of soft_prompt (protocols: [{soft_prompt: {steps: ...}}])",
    "protocols: [{soft_prompt: {limit: 5}}]": (
        "protocols[0].soft_prompt: unknown key 'limit' of soft_prompt; it is a key of the grid (at its top level: limit: ...), "
        "and a key of a task (tasks: [{task: ..., limit: ...}])"
    ),
    "protocols: [{few_shot: {steps: 5}}]": "protocols[0].few_shot: unknown key 'steps' of few_shot; it is a setting of soft_",
    "protocols: [{soft_prompt: {shots: 5}}]": "unknown key 'shots' of soft_prompt; it is a key of a task (tasks: [{task",
    "protocols: [limit]": "protocols[0]: unknown protocol 'limit'; it is a key of the grid",
    "max_model_len: 512": "unknown key 'max_model_len' of the grid; it is a setting of the engine (engine: {max_model_len",
    "models: [{id: zoo/base-40, lr: 1}]": "models[0]: unknown key 'lr' of a model; it is a setting of soft_prompt",
    "models: [{id: zoo/base-40, limit: 1}]": "models[0]: unknown key 'limit' of a model; it is a key of the grid",
    "dtype: float32": "unknown key 'dtype' of the grid; it is a key of a model (models: [{id: ..., dtype: ...}])",
    "judge: {model: zoo/base-40, limit: 3}": "judge: unknown key 'limit' of the judge; it is a key of the grid",
    "few_shot: {shots: 3}": "unknown key 'few_shot' of the grid; it is a protocol (protocols: [few_shot])",
    "fresh: true": "unknown key 'fresh' of the grid; it is an option of the command (spt-fast run --fresh)",
    "currency: EUR": "unknown key 'currency' of the grid; it is a key of the price (price: {per_gpu_hour: ..., currency: ...})",
    "checks: []": "unknown key 'checks' of the grid; it is a key of a policy",
    "tasks: [{task: zoo-mcq, columns: {}}]": "tasks[0]: unknown key 'columns' of a task; it is a key of a task file",
    "model: zoo/base-40": "did you mean 'models'? Or it is a key of the judge (judge: {model: ...})",
    "stop: rank": "stop: must be a mapping, not text ('rank'); write stop: {check: rank}",
    "stop: p.yaml": "stop: must be a mapping, not text ('p.yaml'); write stop: {check: p.yaml, against: MODEL}, {check:",
    "stop: 0.02": "stop: must be a mapping, not a number (0.02); write stop: {check: POLICY.yaml, against: MODEL}, {check:",
    "stop: {check: ranks}": "stop.check: 'ranks': no such file; did you mean 'rank'?",
    "stop: {check: Rank, against: previous}": "stop.check: 'Rank': no such file; did you mean 'rank'?",
    "stop: {width: 0}": "stop.width: must be a share between 0 and 1, 2% or 0.02, not a whole number (0)",
    "stop: {width: 100%}": "stop.width: must be a share between 0 and 1, 2% or 0.02, not text ('100%')",
    "stop: {}": "stop.check: is missing; give check: POLICY.yaml, check: rank, or width: 0.02",
    "stop: {check: rank, width: 0.1}": "stop.check: and width are two things to know; give check: POLICY.yaml, check: rank, or",
    "stop: {check: policy.yaml}": "stop.against: is missing; name a run folder, a model, previous or accepted",
    "stop: {check: rank, against: x}": "stop.against: goes with a policy, and not with rank; leave it out",
    "stop: {check: {depth: 3}}": "stop.check: must be the path of a policy, rank, or {width: 0.02}",
    "stop: {check: rank, alfa: 0.1}": "stop: unknown key 'alfa'; did you mean 'alpha'?",
    "per_gpu_hour: 2": "unknown key 'per_gpu_hour' of the grid; it is a key of the price (price: {per_gpu_hour: ...})",
    "id: zoo/base-40": "unknown key 'id' of the grid; it is a key of a model (models: [{id: ...}])",
}


@pytest.mark.parametrize(("line", "said"), ELSEWHERE.items())
def test_a_key_that_is_known_elsewhere_is_told_where_it_belongs(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    key = line.partition(":")[0]
    kept = [each for each in GOOD.strip().splitlines() if each.partition(":")[0] != key]
    Path("grid.yaml").write_text("\n".join([*kept, line, ""]))
    with pytest.raises(SystemExit) as ended:
        main(["check", "grid.yaml"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


MANY = """
name: many
models: [zoo/base-40, {id: zoo/base-70, dtype: fp8}, ./gone]
tasks: [zoo-mqc, {task: gsm8k, data_files: ./nothing}, zoo-mcq]
protocols: [zero_shot, {soft_prompt: {steps: [0, 80], leng: 3}}, fewshot]
limitt: 5
seeds: [0, x, y]
engine: {window: 0, scoring: fast}
truth: {zoo/base-40: much, zoo/base-70: 0.5}
"""
ALL_OF_THEM = (
    "unknown key 'limitt'; did you mean 'limit'?",
    "models[1].dtype: must be one of auto, bfloat16, float16, float32, not 'fp8'",
    "protocols[1].soft_prompt: unknown key 'leng'; did you mean 'length'?",
    "protocols[1].soft_prompt.steps: must be a whole number from 1 to 10000000, not 0",
    "protocols[2]: unknown protocol 'fewshot'; did you mean 'few_shot'?",
    "seeds[1]: must be a whole number, not text ('x')",
    "seeds[2]: must be a whole number, not text ('y')",
    "engine.scoring: must be one of auto, forced, prompt_logprobs, not 'fast'",
    "engine.window: must be a whole number from 1 to 1000000, not 0",
    "truth.zoo/base-40: must be a number, not text ('much')",
    "./gone: no such folder, and no id of the Hub either; correct the path",
    "tasks[0]: no task is called 'zoo-mqc'; did you mean 'zoo-mcq'?",
    "tasks[1]: data_files: the folder 'nothing' is not there; correct the path",
)


@pytest.mark.parametrize("verb", ["run", "check"])
def test_all_that_is_wrong_with_a_grid_is_told_at_once_a_sentence_on_a_line(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(MANY)
    with pytest.raises(SystemExit) as ended:
        main([verb, "grid.yaml"])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert sorted(err.splitlines()) == sorted(f"spt-fast: grid.yaml: {said}" for said in ALL_OF_THEM)


WHOLE_BUT_WRONG = """
name: whole
models: [zoo/base-40, ./gone, {id: zoo/base-70, revision: main}]
tasks: [zoo-mqc, zoo-shrt, zoo-mcq]
protocols: [zero_shot, {transfer: {from: zoo-jsn}}]
engine: {kind: echo, windw: 3}
"""


def test_what_is_seen_only_with_models_and_tasks_at_hand_is_told_at_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(WHOLE_BUT_WRONG)
    with pytest.raises(SystemExit):
        main(["check", "grid.yaml"])
    said = (
        "tasks[0]: no task is called 'zoo-mqc'",
        "tasks[1]: no task is called 'zoo-shrt'",
        "models[2]: zoo/base-70: revision is for models of the Hub",
        "./gone: no such folder",
        "engine.windw: echo has no such setting; did you mean 'window'?",
    )
    lines = capsys.readouterr().err.splitlines()
    assert [next(line for line in lines if each in line) for each in said] == lines


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("models", "modles"),  # that models is missing follows from it
        GOOD.replace("zoo/base-40", "{idd: zoo/base-40}"),
        # The series, and the model with a score, are there: they only could not be read.
        GOOD.replace("[zoo/base-40]", "[{id: runs, checkpoints: 7}]").replace(
            "zero_shot", "{soft_prompt: {init_from: previous, steps: 5}}"
        ),
        GOOD.replace("zoo/base-40", "{id: zoo/base-40, gpus: 0}") + "truth: {zoo/base-40: 0.4}\n",
        GOOD.replace("zero_shot", "{soft_prompt: {lr: [-1, 0.1], steps: [10, 20, 40]}}"),
    ],
)
def test_what_only_follows_from_a_mistake_is_not_told(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_grid(text)
    assert len(raised.value.sentences) == 1


def test_of_very_many_mistakes_the_first_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    models = ", ".join(f"{{id: m{i}, dtype: fp8, gpus: 0, chat_date: 1}}" for i in range(1000))
    Path("grid.yaml").write_text(GOOD.replace("zoo/base-40", models))
    with pytest.raises(SystemExit):
        main(["check", "grid.yaml"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MOST_TOLD + 1
    assert lines[-1].startswith("spt-fast: and ")
    assert lines[-1].endswith("; mend these first")
