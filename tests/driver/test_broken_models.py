"""One broken model fails its own cells, and the others run; a grid of nothing else is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spt_fast.cli import main
from spt_fast.driver.run import run_cells
from tests.helpers.weights import in_shards, sound_folder

GRID = """
name: grid
models: [{models}]
tasks: [zoo-short]
protocols: [zero_shot]
limit: 4
engine: {{kind: echo}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    in_shards(sound_folder(tmp_path / "shardless"))[1].unlink()
    (sound_folder(tmp_path / "mute") / "tokenizer.json").unlink()
    return tmp_path


def grid(models: str, more: str = "") -> str:
    Path("grid.yaml").write_text(GRID.format(models=models) + more)
    return "grid.yaml"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return (ended.value.code, *capsys.readouterr())


@pytest.mark.usefixtures("here")
def test_the_others_of_a_grid_run_and_each_broken_one_says_why() -> None:
    result = run_cells(grid("shardless, zoo/base-40, ./nothing/here, mute"))
    whys = {cell.model.name: result.failures[cell.key].reason for cell in result.cells if cell.key in result.failures}
    assert [cell.model.name for cell in result.cells if cell.key in result.results] == ["zoo/base-40"]
    assert list(whys) == [f"{Path.cwd().name}/shardless", "./nothing/here", f"{Path.cwd().name}/mute"]
    missing, nowhere, mute = whys.values()
    assert "model-00002-of-00003.safetensors: is not there" in missing
    assert "no such folder" in nowhere
    assert "mute: has no tokenizer" in mute
    assert not result.left


@pytest.mark.usefixtures("here")
def test_check_names_every_broken_model_partner_and_judge(capsys: pytest.CaptureFixture[str]) -> None:
    sound_folder(Path("partner"), hidden_size=16)
    models = "{id: zoo/base-40, post_trained: ./partner}, shardless, ./nothing/here"
    code, out, _ = told(capsys, "check", grid(models, "judge: {model: ./mute}\n"))
    assert code == 2
    lines = out.splitlines()
    assert all(line.startswith("grid.yaml: ") for line in lines)
    for part in (
        "and [300, 16] (vocab_size, hidden_size) by its",
        "00002-of-00003",
        "no such folder",
        "mute: has no tokenizer",
    ):
        assert sum(part in line for line in lines) == 1


@pytest.mark.usefixtures("here")
def test_run_ends_in_1_and_says_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "run", grid("shardless, zoo/base-40"))
    assert code == 1
    assert " ".join(out.split()).count("is not there, and model.safetensors.index.json names it") == 1


@pytest.mark.parametrize("arguments", [["run"], ["run", "--dry-run"]], ids=["run", "dry run"])
@pytest.mark.usefixtures("here")
def test_a_grid_of_which_nothing_can_run_is_refused_and_leaves_nothing(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = told(capsys, *arguments, grid("shardless, mute"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "00002-of-00003" in err
    assert "has no tokenizer" in err
    assert not Path("runs").exists()


@pytest.mark.usefixtures("here")
def test_a_broken_judge_refuses_what_only_it_could_end(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "run", grid("zoo/base-40", "judge: {model: ./mute}\n"))
    assert code == 2
    assert "mute: has no tokenizer" in err


def test_a_model_is_looked_at_without_torch_or_transformers(tmp_path: Path) -> None:
    look = (
        "import sys; from spt_fast.models.identity import resolve; from spt_fast.config import ModelConfig; "
        f"[model] = resolve(ModelConfig(id={str(sound_folder(tmp_path / 'm'))!r})); "
        "print(model.unresolved, sorted({'torch', 'transformers', 'vllm'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "None []\n"
