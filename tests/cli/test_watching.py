"""`watch` on the command line: what it refuses, what it says, its exit codes, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spt_fast.cli import main
from spt_fast.cli.watching import exit_code
from spt_fast.storage import open_storage
from spt_fast.watch.verdict import Kind, Verdict
from tests.helpers.tiny import tiny_model

GRID = "name: w\ntasks: [zoo-mcq]\nprotocols: [zero_shot]\nlimit: 120\nengine: {kind: echo}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(GRID)


def spt_fast(*arguments: str) -> int:
    """Run a command; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["checkpoints/step-*"], "Missing argument: CHECKPOINTS and GRID.yaml."),
        (["run7/step-1", "run7/step-2", "grid.yaml"], "write it in quotation marks: '/checkpoints/run7/step-*'"),
        (["s3://bucket/run7/step-*", "grid.yaml"], "checkpoints are watched in a folder of this machine"),
        (["run7/*/../x", "grid.yaml"], "spt-fast: run7/*/../x: '..' must not stand behind the pattern"),
        (["grid.yaml/step-*", "grid.yaml"], "grid.yaml is a file; name the folder that the checkpoints are in"),
        (["run7/step-*", "none.yaml"], "none.yaml: no such file"),
        (["run7/step-*", "two.yaml"], "two.yaml: models: a watch evaluates the checkpoints that it waits for"),
        (["run7/step-*", "dated.yaml"], "is another folder each day, and a watch has one; give it by --output DIR"),
        (["run7/step-*", "task.yaml"], "task.yaml: "),
        (["run7/step-*", "grid.yaml", "--policy", "none.yaml"], "spt-fast: --policy: none.yaml: no such file"),
        (
            ["run7/step-*", "grid.yaml", "--policy", "wrong.yaml"],
            "spt-fast: --policy: wrong.yaml: checks[0]: matches nothing in the grid",
        ),
        (
            ["run7/step-*", "grid.yaml", "--policy", "misspelt.yaml"],
            "spt-fast: --policy: misspelt.yaml: checks[1].metric: no metric 'exact_mach'; did you mean 'exact_match'?",
        ),
        (
            ["run7/step-*", "misspelt-stop.yaml"],
            "misspelt-stop.yaml: stop.check: misspelt.yaml: checks[1].metric: no metric 'exact_mach'",
        ),
        (["run7/step-*", "stop.yaml"], "stop.yaml: stop.check: wide.yaml: checks[0]: answer_bits_per_byte is not from 0 to 1"),
        (["run7/step-*", "grid.yaml", "--notify", "ftp://x"], "--notify: 'ftp://x' must be a URL of http or https"),
        (["run7/step-*", "grid.yaml", "--every", "0"], "0.0 is not in the range"),
        (["run7/step-*", "grid.yaml"], "run7; correct it, or watch without --once to wait for it"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.yaml").write_text(GRID + "models: [zoo/base-40, zoo/base-70]\n")
    Path("dated.yaml").write_text(GRID + "output: 'runs/{name}/{date}'\n")
    Path("task.yaml").write_text(GRID.replace("zoo-mcq", "zoo-mcp"))
    Path("wrong.yaml").write_text("checks: [{metric: exact_match, tasks: mmlu, largest_drop: 0.1}]\n")
    two = "{largest_drop: 0.1}, {metric: exact_mach, largest_drop: 0.1}"
    Path("misspelt.yaml").write_text(f"checks: [{two}]\n")
    Path("misspelt-stop.yaml").write_text(GRID + "stop: {check: misspelt.yaml, against: accepted}\n")
    Path("wide.yaml").write_text("checks: [{metric: answer_bits_per_byte, largest_drop: 0.1}]\n")
    Path("stop.yaml").write_text(GRID + "stop: {check: wide.yaml, against: accepted}\n")
    assert spt_fast("watch", "--once", *arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert not Path("runs").exists()


def test_one_checkpoint_is_no_series(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run7/step-1").mkdir(parents=True)
    Path("run7/step-1/config.json").write_text("{}")
    assert spt_fast("watch", "run7/step-1", "grid.yaml", "--once") == 2
    assert "is one checkpoint; name those to come by a pattern in quotation marks, like '" in capsys.readouterr().err


def test_checkpoints_are_judged_once_told_and_told_of_with_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2):
        tiny_model(Path(f"run7/step-{step}"), hidden_size=32, positions=4096, seed=step)
    Path("run7/step-3").mkdir()
    Path("run7/step-3/config.json").write_text("{}")
    Path("p.yaml").write_text("checks: [{metric: knowledge_best, largest_drop: 0.05}]\n")
    arguments = ["watch", "run7/step-*", "grid.yaml", "--once", "--notify", "tee -a heard", "--policy", "p.yaml"]
    assert spt_fast(*arguments) == 0
    out, err = capsys.readouterr()
    assert [line.partition(": ")[::2] for line in out.splitlines()] == [
        ("run7/step-1", "FIRST: it is the first, and the next are held against it."),
        (
            "run7/step-2",
            "PASS against run7/step-1: the check passes: knowledge_best (zero_shot, zoo-mcq): "
            "it did not change, and dropped by no more than 2.2 points, so a drop of 5 points or more is ruled out.",
        ),
    ]
    said = "accepted is (by p.yaml) what shows that knowledge_best (each protocol, each task) drops by less than 5 points\n"
    assert said in err
    assert "waiting for step-3: has no weights in safetensors yet" in err
    assert spt_fast(*arguments) == 0, "there is nothing new"
    assert capsys.readouterr().out == ""
    heard = Path("heard").read_text().replace("}{", "}\n{").splitlines()
    assert [json.loads(line)["verdict"] for line in heard] == ["first", "pass"]
    (Path("run7/step-3") / "pytorch_model.bin").write_bytes(b"x")
    (Path("run7/step-3") / "tokenizer.json").write_text("{}")
    assert spt_fast(*arguments) == 1
    assert capsys.readouterr().out.startswith("run7/step-3: BROKEN: ")


def test_two_watches_do_not_share_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    other = open_storage(Path("runs/w/verdicts"))
    other.lock()
    Path("run7").mkdir()
    assert spt_fast("watch", "run7/step-*", "grid.yaml", "--once") == 2
    assert "runs/w: another `spt-fast watch` is at work here; end it, or choose another --output" in capsys.readouterr().err
    said = (
        "(without --policy) what shows that knowledge_best (each protocol, mean over tasks) drops by less than 2 points; "
        "format_following (each protocol, mean over tasks) drops by less than 2 points\n"
    )
    assert spt_fast("watch", "run7/step-*", "grid.yaml", "--once", "--output", "other") == 0
    assert said in capsys.readouterr().err
    other.close()


def test_a_copy_has_the_exit_code_of_its_twin() -> None:
    def same(twin: Kind) -> Verdict:
        return Verdict(id="1", checkpoint="run7/step-2", verdict="same", accepted=False, twin=twin)

    kinds: tuple[Kind, ...] = ("first", "pass", "fail", "undecided")
    assert [exit_code([same(kind)]) for kind in kinds] == [0, 0, 1, 3]


def test_the_policy_of_stop_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run7").mkdir()
    Path("pz.yaml").write_text("checks: [{metric: format_following, protocols: zero_shot, largest_drop: 0.15}]\n")
    Path("stop.yaml").write_text(GRID + "stop: {check: pz.yaml, against: accepted}\n")
    assert spt_fast("watch", "run7/step-*", "stop.yaml", "--once") == 0
    shows = "what shows that format_following (zero_shot, each task) drops by less than 15 points\n"
    assert f"(by pz.yaml, the policy of stop) {shows}" in capsys.readouterr().err


def test_ctrl_c_ends_a_watch_that_waits_with_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spt_fast", "watch", "run7/step-*", "grid.yaml", "--every", "3600"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert next(line for line in lines if "watch: accepted is" in line)
        process.send_signal(signal.SIGINT)
        said = "".join(lines)
        assert process.wait() == 130
    assert "interrupted" in said
    assert "Traceback" not in said
