"""A series of models: the branches and tags of a Hub repository that match a pattern. The Hub is one on localhost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from spt_fast.config import JudgeConfig, ModelConfig
from spt_fast.errors import ConfigError
from spt_fast.models.hub import AT_ONCE, natural
from spt_fast.models.identity import resolve
from tests.helpers.hub import Hub, Repo, environment
from tests.helpers.weights import model_folder

ASK = """
import json
from spt_fast.cli import main
from spt_fast.config import ModelConfig
from spt_fast.errors import SptError
from spt_fast.models.identity import resolve

def models(id="some/series", **named):
    try:
        found = resolve(ModelConfig(id=id, **named))
    except SptError as e:
        return type(e).__name__ + ": " + str(e)
    return [[m.name, m.revision, m.from_cache, m.unresolved, m.weight_bytes, m.parameters] for m in found]
"""

SERIES = 'print(json.dumps({"series": models(revision="step*")}))'


def commit(number: int) -> str:
    return f"{number:040x}"


def revision(number: int, files: Mapping[str, bytes]) -> Repo:
    return Repo(kind="models", files=files, commit=commit(number))


def answers(environment: Mapping[str, str], script: str) -> Any:
    """What `script` prints: one JSON object."""
    command = [sys.executable, "-c", ASK + script]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing is said beside the answer"
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    branches = {name: revision(number, files) for name, number in {"step10": 10, "step2": 2, "runs/step3": 3}.items()}
    notes = revision(7, {"README.md": b""})
    series = Repo(
        kind="models",
        files=files,
        branches={**branches, "step-notes": notes},
        tags={"step1": revision(1, files), "step2-again": revision(2, files), "step10": revision(11, files)},
    )
    gated = Repo(
        kind="models", files=files, gated=True, branches={f"step{number}": revision(number, files) for number in range(40)}
    )
    with Hub({"some/series": series, "some/gated": gated}) as hub:
        yield hub


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def first(hub: Hub, cache: Path) -> Any:
    """What was told the first time, with the Hub there, and what it was asked for."""
    script = """
print(json.dumps({
    "series": models(revision="step*"),
    "below": models(revision="runs/*"),
    "partner": models(revision="step1*", post_trained="some/series"),
    "no match": models(revision="stp*"),
    "no config": models(revision="*-notes"),
    "gated": models("some/gated", revision="step*"),
    "nothing": models("some/nothing", revision="step*"),
}))
"""
    told = answers(environment(hub.endpoint, cache), script)
    return {**told, "requests": list(hub.requests)}


@pytest.fixture(scope="module")
def nowhere() -> str:
    """Where no Hub is any more."""
    with Hub({}) as hub:
        return hub.endpoint


def names(found: list[list[Any]]) -> list[str]:
    return [model[0] for model in found]


def commits(found: list[list[Any]]) -> list[str]:
    return [model[1] for model in found]


def test_every_branch_and_tag_that_matches_is_a_model_in_natural_order(first: Any) -> None:
    series = first["series"]
    assert names(series) == ["some/series@step1", "some/series@step2-again", "some/series@step10"]
    assert commits(series) == [commit(1), commit(2), commit(10)], "a commit once; a branch goes before a tag of its name"
    assert [model[2:4] for model in series] == [[False, None]] * 3
    assert names(first["below"]) == ["some/series@runs/step3"]


def test_a_series_has_one_partner(first: Any) -> None:
    assert names(first["partner"]) == ["some/series@step1", "some/series@step10", "some/series"]


def test_a_model_of_the_hub_tells_its_size(first: Any, files: dict[str, bytes]) -> None:
    assert {tuple(model[4:]) for model in first["series"]} == {(len(files["model.safetensors"]), 128)}


@pytest.mark.parametrize(
    ("what", "sentence"),
    {
        "no match": "some/series: revision: no branch or tag matches 'stp*'; choose from main, runs/step3, step1, step2, ...",
        "no config": "some/series: revision: nothing with a config.json matches '*-notes'",
        "nothing": "some/nothing: no such folder, and the Hub has no such model (or it is private: set HF_TOKEN)",
    }.items(),
)
def test_a_series_without_a_model_is_a_sentence(what: str, sentence: str, first: Any) -> None:
    ((*_, reason, _, _),) = first[what]
    assert reason == sentence


def test_every_model_of_a_gated_series_says_so_and_the_hub_is_not_asked_for_each(first: Any) -> None:
    assert names(first["gated"]) == [f"some/gated@step{number}" for number in range(40)]
    asked = [request for request in first["requests"] if "some/gated" in request and "config.json" in request]
    assert 1 <= len(asked) <= AT_ONCE
    assert {model[3] for model in first["gated"]} == {"some/gated: is gated; accept its licence on the Hub and set HF_TOKEN"}


def test_a_series_in_the_cache_takes_two_requests(first: Any, hub: Hub, cache: Path) -> None:
    hub.requests.clear()
    again = answers(environment(hub.endpoint, cache), 'print(json.dumps({"series": models(revision="step[12]*")}))')
    assert again["series"] == first["series"]
    asked = [request for request in hub.requests if "some/series" in request]
    assert asked == ["GET /api/models/some/series?blobs=true", "GET /api/models/some/series/refs"]


@pytest.mark.parametrize("offline", [{}, {"HF_HUB_OFFLINE": "1"}], ids=str)
def test_without_a_hub_the_series_is_what_the_cache_has_of_it(
    offline: dict[str, str], first: Any, nowhere: str, cache: Path
) -> None:
    script = 'print(json.dumps({"series": models(revision="step*"), "none": models(revision="v*")}))'
    again = answers(environment(nowhere, cache, **offline), script)
    assert names(again["series"]) == names(first["series"])
    assert commits(again["series"]) == commits(first["series"])
    assert {model[2] for model in again["series"]} == {not offline}, "where the Hub is to be left alone, everybody knows"
    assert {tuple(model[4:]) for model in again["series"]} == {(None, None)}, "the weights are not in the cache yet"
    ((name, found, _, reason, *_),) = again["none"]
    assert (name, found) == ("some/series@v*", None)
    assert reason == (
        "some/series: nothing in the Hub's cache matches 'v*', and the Hub cannot be reached (HF_HUB_OFFLINE is set); "
        "connect, or name a folder"
        if offline
        else "some/series: is no folder here, and the Hub cannot be reached (ConnectError); connect, or name a folder"
    )


def test_check_and_dry_run_show_the_models_of_a_series(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """Beside it a single revision of the same model, which is called by its revision because the model appears twice."""
    grid = {
        "name": "series",
        "models": [{"id": "some/series", "revision": "step*"}, {"id": "some/series", "revision": "runs/step3"}, "zoo/base-40"],
        "tasks": ["zoo-mcq"],
        "protocols": ["zero_shot"],
        "output": str(tmp_path / "run"),
    }
    (path := tmp_path / "grid.yaml").write_text(json.dumps(grid))
    script = f"""
import io
from contextlib import redirect_stdout
told = {{}}
for verb in (["check"], ["run", "--dry-run"]):
    with redirect_stdout(io.StringIO()) as out:
        try:
            main([*verb, {str(path)!r}])
        except SystemExit as e:
            told["code"] = e.code
    told[verb[0]] = out.getvalue()
print(json.dumps(told))
"""
    told = answers(environment(hub.endpoint, cache), script)
    assert told["code"] in (0, None)
    assert told["check"].splitlines() == [
        f"{path}: some/series@step*: 3 models, some/series@step1 to some/series@step10",
        f"{path}: good; 5 cells",
    ]
    shown = [line.split(":")[0] for line in told["run"].splitlines() if line.startswith("some/")]
    assert shown == [f"some/series@{name}" for name in ("step1", "step2-again", "step10", "runs/step3")]


def test_a_series_of_folders_says_which_it_is(tmp_path: Path) -> None:
    for step in (100, 20):
        model_folder(tmp_path / f"step-{step}" / "hf", seed=step)
    models = resolve(ModelConfig(id=str(tmp_path), checkpoints="step-*/hf"))
    assert [model.name for model in models] == ["step-20/hf", "step-100/hf"]
    assert {model.series for model in models} == {f"{tmp_path}/step-*/hf"}


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"id": "zoo/base-40", "revision": "step*"}, "revision is for models of the Hub; leave it out"),
        ({"id": ".", "revision": "step*"}, "name a series inside the folder by checkpoints"),
        ({"id": ".", "checkpoints": "../step*"}, "must be a pattern inside the folder"),
    ],
)
def test_a_series_of_another_kind_is_refused_with_the_mend(config: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve(ModelConfig(**config))  # type: ignore[arg-type]
    assert part in str(refused.value)


def test_a_series_of_folders_that_are_not_there_is_one_model_that_says_so(tmp_path: Path) -> None:
    (model,) = resolve(ModelConfig(id="some/series", checkpoints="step*"))
    assert 'a pattern of revisions (revision: "step*")' in str(model.unresolved)
    (model,) = resolve(ModelConfig(id=str(tmp_path), checkpoints="step*"))
    assert "nothing with a config.json matches 'step*'" in str(model.unresolved)


def test_a_checkpoint_without_a_config_is_not_left_out_of_its_series_in_silence(tmp_path: Path) -> None:
    for step in (1, 2):
        model_folder(tmp_path / f"step-{step}", seed=step)
    (tmp_path / "step-2" / "config.json").unlink()
    (tmp_path / "step-logs").mkdir()
    whole, broken = resolve(ModelConfig(id=str(tmp_path), checkpoints="step-*"))
    assert whole.unresolved is None
    assert broken.unresolved == f"{tmp_path / 'step-2'}: is no model folder: it has no config.json"


def test_a_judge_is_one_model() -> None:
    with pytest.raises(ConfigError, match=r"revision: 'v\*' is a pattern, and the judge is one model; name one revision"):
        JudgeConfig(model="some/judge", revision="v*")


def test_numbers_in_names_are_counted_not_spelled() -> None:
    assert sorted(["step10", "step9", "2-b", "10-a", "main", ""], key=natural) == ["", "2-b", "10-a", "main", "step9", "step10"]
