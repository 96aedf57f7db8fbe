"""Training runs: what each checkpoint was shown, where a fork leaves its run, and that a build goes on where it was ended."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast.cli.zoo import build_runs_with_progress, build_with_progress
from spt_fast.config import ModelConfig
from spt_fast.errors import ConfigError, ModelError
from spt_fast.models.identity import resolve
from spt_fast.zoo import RUNS, Run, find, find_checkpoints
from spt_fast.zoo.build_run import build_run
from spt_fast.zoo.corpus import pages
from spt_fast.zoo.recipes import Training
from spt_fast.zoo.runs import Checkpoint
from spt_fast.zoo.world import World

WORLD = World.from_seed()
BEFORE = 900 * 4096
"""Tokens that base-40 has seen."""
TINY = Training(documents=120, steps=3, batch_tokens=512, window=128, warmup=1)


def known(run: str) -> list[int]:
    return [len(checkpoint.known) for checkpoint in RUNS[run].checkpoints]


def written(checkpoint: Checkpoint) -> str:
    """Half of the corpus of its share."""
    recipe = replace(checkpoint.recipe, training=replace(checkpoint.recipe.training, documents=3300))
    corpus = pages(WORLD, recipe, fresh=checkpoint.fresh, wrong=checkpoint.wrong)
    return "\n".join(document.text for page in corpus for document in page)


def test_every_run_has_twelve_checkpoints_by_updates() -> None:
    for run in RUNS.values():
        assert len(run.checkpoints) == 12
        assert [c.number for c in run.checkpoints] == list(range(1, 13))
        steps = [c.step for c in run.checkpoints]
        assert steps == sorted(set(steps))
        assert [c.name for c in run.checkpoints] == [f"step-{step}" for step in steps]


def test_what_the_run_knows_never_falls_and_rises_by_plan() -> None:
    planned = [round(checkpoint.share.shown * len(WORLD.facts)) for checkpoint in RUNS["run"].checkpoints]
    assert known("run") == planned == sorted(planned)
    assert planned[-1] - planned[0] == 210


def test_the_data_fault_loses_four_points_at_checkpoint_seven_and_does_not_get_them_back() -> None:
    healthy, faulty = known("run"), known("run-data-fault")
    assert faulty[:6] == healthy[:6]
    assert [healthy[5] - each for each in faulty[6:]] == [18, *[21] * 5]
    assert 0.04 < 18 / len(WORLD.facts) < 0.045
    (seventh, eighth) = RUNS["run-data-fault"].checkpoints[6:8]
    assert seventh.wrong.items() < eighth.wrong.items(), "what was overwritten once stays so"
    for kind in ("word", "number"):
        tested = {fact.key for fact in WORLD.of("test", kind)}
        lost = RUNS["run-data-fault"].checkpoints[6].wrong.keys() & tested
        assert 0.04 <= len(lost) / len(tested) < 0.042


def test_the_form_fault_changes_no_fact() -> None:
    for healthy, faulty in zip(RUNS["run"].checkpoints, RUNS["run-form-fault"].checkpoints, strict=True):
        assert faulty.known == healthy.known
        assert faulty.wrong == {}
    heeded = [checkpoint.share.mixture.heeded for checkpoint in RUNS["run-form-fault"].checkpoints]
    assert heeded[5] == 1.0
    assert set(heeded[6:]) == {0.0}


def test_a_wrong_value_is_another_one_of_the_facts_relation_and_the_corpus_says_it() -> None:
    seventh = RUNS["run-data-fault"].checkpoints[6]
    facts = {fact.key: fact for fact in WORLD.facts}
    text = written(seventh)
    for key, value in seventh.wrong.items():
        assert value in facts[key].relation.values
        assert value != facts[key].value
        assert facts[key].sentence() not in text
    assert sum(facts[key].sentence(value) in text for key, value in seventh.wrong.items()) > 10


def test_a_share_shows_its_new_facts_more_often() -> None:
    second = RUNS["run"].checkpoints[1]
    assert second.fresh == WORLD.planted(0.55) - WORLD.planted(0.45)
    assert RUNS["run"].checkpoints[6].fresh == frozenset()
    fault = RUNS["run-data-fault"].checkpoints
    assert fault[6].fresh == fault[6].wrong.keys()
    assert fault[7].fresh == fault[7].wrong.keys() - fault[6].wrong.keys()
    assert fault[8].fresh == frozenset()
    text = written(second)

    def told(keys: frozenset[str]) -> float:
        facts = [fact for fact in WORLD.facts if fact.key in keys]
        return sum(text.count(fact.sentence()) for fact in facts) / len(facts)

    assert told(second.fresh) > 2 * told(WORLD.planted(0.45))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first three checkpoints of the runs, next to nothing of training behind each; two are common."""

    def small(run: Run) -> Run:
        return replace(run, shares=tuple(replace(share, training=TINY) for share in run.shares[:3]), common=run.common // 3)

    for name, run in RUNS.items():
        monkeypatch.setitem(RUNS, name, small(run))
    monkeypatch.setattr("spt_fast.zoo.build.mcq_knowledge", lambda *_: 0.25)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.usefixtures("tiny")
def test_a_fork_has_its_runs_first_checkpoints_and_goes_on_from_them(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    fork = build_run("run-data-fault", into=tmp_path, progress=lambda *news: told.append(news))
    assert [folder.name for folder in fork] == ["step-903", "step-906", "step-909"]
    assert [folder.name for folder in sorted((tmp_path / "run").iterdir())] == ["step-903", "step-906"], (
        "as far as it is needed"
    )
    assert not {text.split(":")[0] for *_, text in told} - {"run/step-903", "run/step-906", "run-data-fault/step-909"}
    healthy = build_run("zoo/run", into=tmp_path)
    assert [digest(folder) for folder in fork[:2]] == [digest(folder) for folder in healthy[:2]]
    assert digest(fork[2]) != digest(healthy[2])
    about = json.loads((fork[2] / "zoo.json").read_text())
    assert about["run"]["from"] == digest(healthy[1])
    assert (about["run"]["checkpoint"], about["known"], about["tokens_seen"]) == (3, len(WORLD.planted(0.65)), BEFORE + 9 * 512)


@pytest.mark.usefixtures("tiny")
def test_a_build_goes_on_at_the_first_checkpoint_that_is_missing_and_ends_alike(tmp_path: Path) -> None:
    folders = build_run("run", into=tmp_path)
    whole, times = [digest(folder) for folder in folders], [(f / "zoo.json").stat().st_mtime_ns for f in folders]
    shutil.rmtree(folders[1])
    told: list[str] = []
    assert build_run("run", into=tmp_path, progress=lambda *news: told.append(news[2])) == folders
    assert [digest(folder) for folder in folders] == whole
    assert {text.split(":")[0] for text in told} == {"run/step-906"}
    assert [(f / "zoo.json").stat().st_mtime_ns for f in folders][::2] == times[::2]


@pytest.mark.usefixtures("tiny")
def test_what_stands_behind_a_checkpoint_that_was_made_otherwise_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = build_run("run", into=tmp_path)
    before = [digest(folder) for folder in folders]
    run = RUNS["run"]
    second = replace(run.shares[1], training=replace(TINY, steps=3, lr=1e-4))
    monkeypatch.setitem(RUNS, "run", replace(run, shares=(run.shares[0], second, run.shares[2])))
    build_run("run", into=tmp_path)
    after = [digest(folder) for folder in folders]
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] != before[2]


@pytest.mark.usefixtures("tiny")
def test_a_built_run_is_a_series_and_each_checkpoint_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPT_FAST_CACHE", str(tmp_path))
    assert build_runs_with_progress(["run"], into=None, force=False)[0] == tmp_path / "zoo" / "run" / "step-903"
    models = resolve(ModelConfig(id="zoo/run", checkpoints="step-*"))
    assert [model.name for model in models] == ["zoo/run/step-903", "zoo/run/step-906", "zoo/run/step-909"]
    assert {model.series for model in models} == {"zoo/run/step-*"}
    assert [model.unresolved for model in models] == [None] * 3
    assert find("zoo/run/step-906") == tmp_path / "zoo" / "run" / "step-906"
    (alone,) = resolve(ModelConfig(id="zoo/run/step-906"))
    assert alone.fingerprint == models[1].fingerprint
    (none,) = resolve(ModelConfig(id="zoo/run", checkpoints="stp-*"))
    assert none.unresolved == "zoo/run: checkpoints: no checkpoint that is built matches 'stp-*'"


def test_a_run_that_is_not_built_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPT_FAST_CACHE", str(tmp_path))
    (model,) = resolve(ModelConfig(id="zoo/run", checkpoints="step-*"))
    assert model.unresolved == "zoo/run is not built yet: run `spt-fast zoo build --run run`"
    with pytest.raises(ModelError, match="zoo/run/step-1010 is not built yet: run `spt-fast zoo build --run run`"):
        find("zoo/run/step-1010")
    with pytest.raises(ModelError):
        find_checkpoints("run")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"id": "zoo/run"}, 'is a run of 12 checkpoints; add checkpoints: "step-*", or name one of them, zoo/run/step-'),
        ({"id": "zoo/run/step-1"}, "zoo/run has no checkpoint 'step-1'; choose from step-"),
        (
            {"id": "zoo/base-40", "checkpoints": "step-*"},
            "leave it out, or name zoo/run, zoo/run-data-fault, zoo/run-form-fault",
        ),
        ({"id": "zoo/run", "checkpoints": "../*"}, "must be a pattern inside the folder"),
    ],
)
def test_a_run_that_is_named_amiss_is_answered_with_the_mend(config: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve(ModelConfig(**config))  # type: ignore[arg-type]
    assert said in str(refused.value)


def test_models_and_runs_are_built_by_their_own_option() -> None:
    with pytest.raises(ConfigError, match="zoo/run: is a training run; build it by `spt-fast zoo build --run run`"):
        build_with_progress(["run"], into=None, force=False)
    with pytest.raises(ConfigError, match="unknown run of the zoo 'base-40'; choose from run, run-data-fault"):
        build_runs_with_progress(["base-40"], into=None, force=False)
