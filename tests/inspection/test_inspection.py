"""What a soft prompt lies next to and what its vectors do: measured in a run, kept in its folder, asked of an engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spt_fast import tasks
from spt_fast.cli.inspecting import inspect
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, Transfer, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.echo import EchoEngine
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.errors import ConfigError, ModelError, StoreError
from spt_fast.inspection.ablation import Subject, probe
from spt_fast.inspection.inspected import Wanted
from spt_fast.models import nearest_tokens
from spt_fast.models.frozen_model import FrozenModel
from spt_fast.models.identity import Model
from spt_fast.models.nearest_tokens import Lexicon
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan.cell import TaskRows
from spt_fast.prompts.meaning import Probe
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.store import Store
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import Answer, Generate, Request, Score
from tests.helpers.running import Inline
from tests.helpers.tiny import tiny_model

BYTES = 259
"""Tokens of the byte tokenizer; the table of a tiny model has 272 rows."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny", hidden_size=32, positions=4096)


@pytest.fixture(scope="module")
def lexicon(tiny: Path) -> Lexicon:
    return Lexicon(FrozenModel.load(tiny), Tokenizer.load(tiny))


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two tasks and two seeds, whose model is not there any more."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny, folder / "model")
    run_cells(grid_of(folder), executor=Inline())
    shutil.move(folder / "model", folder / "moved")
    return folder


def grid_of(folder: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(folder / "model")),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(
            ZeroShot(),
            SoftPromptConfig(length=3, steps=2, batch_size=2, lr=0.05, init="vocabulary"),
            Transfer(from_task="zoo-mcq", length=3, steps=2, batch_size=2, lr=0.05, init="vocabulary"),
        ),
        seeds=(0, 1),
        limit=4,
        engine={"kind": "echo"},
        output=folder / "run",
    )


# beside the vocabulary


def test_a_vector_that_is_a_token_lies_next_to_it(lexicon: Lexicon, tiny: Path) -> None:
    rows = lexicon.rows(list(Tokenizer.load(tiny).text_ids("AB")))
    found = lexicon.meaning(SoftPrompt(vectors=rows * [[1.0], [2.0]]), start=rows)
    a, b = found.vectors
    assert (a.by_cosine[0].token, b.by_cosine[0].token) == ("A", "B")
    assert (a.by_cosine[0].value, b.by_cosine[0].value) == pytest.approx((1, 1))
    assert (a.by_distance[0].token, a.by_distance[0].value) == ("A", 0)
    assert (a.moved, b.moved) == pytest.approx((0, np.linalg.norm(rows[1])))
    assert b.norm == pytest.approx(2 * np.linalg.norm(rows[1]))


def test_neighbours_and_norms_are_those_of_the_whole_table(
    lexicon: Lexicon, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    prompt = SoftPrompt(vectors=np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32))
    table = lexicon.rows(list(range(BYTES)))
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)  # the padding token has a row of zeros
    cosines = prompt.vectors @ unit.T / np.linalg.norm(prompt.vectors, axis=1, keepdims=True)
    distances = np.linalg.norm(prompt.vectors[:, None] - table, axis=2)
    found = lexicon.meaning(prompt, top=7)
    for p, vector in enumerate(found.vectors):
        assert [near.token_id for near in vector.by_cosine] == np.argsort(-cosines[p])[:7].tolist()
        assert [near.value for near in vector.by_distance] == pytest.approx(np.sort(distances[p])[:7].tolist())
        assert vector.norm_above == np.mean(np.linalg.norm(table, axis=1) < vector.norm)
    assert found.vocabulary_norms.middle == pytest.approx(np.median(np.linalg.norm(table, axis=1)))
    monkeypatch.setattr(nearest_tokens, "_NUMBERS", 32 * 50)
    in_pieces = Lexicon(FrozenModel.load(tiny), Tokenizer.load(tiny)).meaning(prompt, top=7)
    assert [[near.token for near in v.by_cosine] for v in in_pieces.vectors] == [
        [near.token for near in v.by_cosine] for v in found.vectors
    ]
    assert in_pieces.chance == pytest.approx(found.chance)


def test_rows_behind_the_last_token_are_no_neighbours(lexicon: Lexicon) -> None:
    found = lexicon.meaning(SoftPrompt(vectors=lexicon.rows([BYTES + 5])), top=1000)
    assert len(found.vectors[0].by_cosine) == BYTES
    assert {near.token_id for near in found.vectors[0].by_cosine} == set(range(BYTES))


def test_random_directions_have_tokens_as_near_as_chance_says(lexicon: Lexicon) -> None:
    directions = np.random.default_rng(7).standard_normal((200, 32)).astype(np.float32)
    found = lexicon.meaning(SoftPrompt(vectors=directions))
    nearest = [vector.by_cosine[0].value for vector in found.vectors]
    assert np.median(nearest) == pytest.approx(found.chance.middle, abs=0.03)
    assert 0.8 < np.mean([found.chance.low < value < found.chance.high for value in nearest]) < 0.98


# a run and its folder


def test_a_run_keeps_what_its_vectors_lie_next_to_and_nobody_needs_the_model_again(run: Path) -> None:
    shown = json.loads(inspect(run / "run", Wanted(), as_json=True))
    assert len(shown["prompts"]) == 6
    assert all(each["note"] is None and len(each["meaning"]["vectors"]) == 3 for each in shown["prompts"])
    mcq = [each for each in shown["prompts"] if each["protocol"] == "soft_prompt" and each["task"] == "zoo-mcq"]
    assert all(vector["moved"] > 0 for each in mcq for vector in each["meaning"]["vectors"]), "two steps of Adam move"
    kinds = {(tuple(each["tasks"]), each["same_seed"]): each["pairs"] for each in shown["similarity"]}
    assert kinds == {
        (("zoo-mcq",), False): 1,
        (("zoo-json",), False): 1,
        (("zoo-mcq", "zoo-json"), True): 2,
        (("zoo-mcq", "zoo-json"), False): 2,
    }
    text = inspect(run / "run", Wanted(only={"task": "zoo-json", "protocol": "soft_prompt"}))
    assert text.count("Vectors beside the vocabulary") == 2
    assert "How alike soft prompts are" in text
    page = Path(shown["prompts"][0]["file"]).parents[2] / "report.html"
    assert not page.exists(), "nothing was found out, so nothing is written"


def test_one_cell_is_inspected_by_its_folder_or_its_file(run: Path) -> None:
    (file, *_) = (each["file"] for each in json.loads(inspect(run / "run", Wanted(), as_json=True))["prompts"])
    by_file, by_folder = inspect(Path(file), Wanted()), inspect(Path(file).parent, Wanted())
    assert by_file == by_folder
    assert by_file.count("Vectors beside the vocabulary") == 1


def test_what_is_missing_is_found_out_and_kept(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run / "run", tmp_path / "run")
    file = next(folder.glob("cells/*/meaning.json"))
    key, before = file.parent.name, Store(folder).learnt.meaning(file.parent.name)
    file.unlink()
    assert "no nearest tokens" in inspect(folder, Wanted())
    inspect(folder, Wanted(model=str(run / "moved")))
    after = Store(folder).learnt.meaning(key)
    assert before is not None
    assert after is not None
    assert after == replace(before, vectors=tuple(replace(vector, moved=None) for vector in before.vectors))
    assert "Meaning</h2>" in (folder / "report.html").read_text()
    file.write_text("{}")
    with pytest.raises(StoreError, match=r"meaning\.json: cannot be read .*; delete it, and inspect the run again"):
        inspect(folder, Wanted())


def test_what_an_engine_answered_is_kept_and_the_report_shows_it(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run / "run", tmp_path / "run")
    wanted = Wanted(
        model=str(run / "moved"), only={"protocol": "soft_prompt", "seed": "0"}, leave_one_out=True, as_text=True, rows=2
    )
    said: list[str] = []
    text = inspect(folder, wanted, say=said.append)
    assert text.count("What they do: zoo-") == 2
    assert "answered" in said[-1]
    probes = [
        found
        for key in Store(folder).learnt.among(Store(folder).resolved()["cells"])
        if (found := Store(folder).learnt.probe(key))
    ]
    assert [(found.rows, len(found.variants)) for found in probes] == [(2, 6), (2, 6)]
    page = (folder / "report.html").read_text()
    assert page.count("what its vectors do, n = 2") == 2 * 3, "caption, label of the region, and the line that opens it"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (Wanted(only={"task": "zoo-nothing"}), "no soft prompts that match --only"),
        (Wanted(only={"tusk": "x"}), "--only: unknown key 'tusk'"),
        (Wanted(leave_one_out=True), "no such folder"),
    ],
)
def test_what_cannot_be_inspected_is_one_sentence(run: Path, wanted: Wanted, part: str) -> None:
    with pytest.raises((ConfigError, ModelError), match=part):
        inspect(run / "run", wanted)


# what vectors do


class Recording(EchoEngine):
    """Remembers what it was asked."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.asked: list[Request] = []
        self.prompts: dict[str, SoftPrompt] = {}

    def add(self, soft_prompt: SoftPrompt) -> str:
        self.prompts[soft_prompt.key] = soft_prompt
        return super().add(soft_prompt)

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        def seen() -> Iterator[Request]:
            for request in requests:
                self.asked.append(request)
                yield request

        return super().stream(seen())


def rows_of(task: str, limit: int) -> dict[str, Rows]:
    return {task: load_rows(tasks.get(task), limit=limit, need={"test"})}


def subject(task: str, prompt: SoftPrompt, **more: Any) -> Subject:
    return Subject(prompt=prompt, task=TaskRows(name=task, version=1, content="", ref=task), **more)


def test_each_vector_is_taken_away_once_and_equal_ways_are_asked_once(tiny: Path) -> None:
    prompt = SoftPrompt(vectors=np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32))
    single = SoftPrompt(vectors=prompt.vectors[:1])
    tokenizer, model = Tokenizer.load(tiny), Model(name="m", source=str(tiny), fingerprint="f")
    abc = tokenizer.text_ids("ABC")
    wanted = [
        subject("zoo-mcq", prompt, leave_one_out=True, token_ids=abc),
        subject("zoo-mcq", single, leave_one_out=True),  # without its only vector it is zero-shot
    ]
    with Recording(EngineConfig(kind="echo", model=str(tiny))) as engine:
        first, second = probe(wanted, rows_of("zoo-mcq", 2), engine, tokenizer, model, chat=False)
    named = [(variant.name, variant.left_out) for variant in first.variants]
    assert named == [("zero_shot", None), ("soft_prompt", None), ("tokens", None), *(("without", p) for p in range(3))]
    assert [(variant.name, variant.left_out) for variant in second.variants] == [
        ("zero_shot", None),
        ("soft_prompt", None),
        ("without", 0),
    ]
    ways = {(each.soft_prompt, each.token_ids[1:4] == abc) for each in engine.asked if isinstance(each, Generate)}
    vectors = [np.delete(prompt.vectors, p, axis=0) for p in range(3)]
    keys = {SoftPrompt(vectors=each).key for each in (prompt.vectors, single.vectors, *vectors)}
    assert ways == {(None, False), (None, True), *((key, False) for key in keys)}
    assert len(engine.asked) == len(ways) * 2 * (1 + 4), "two rows, a completion and four options each"
    of_text = [request for request in engine.asked if request.token_ids[:4] == (256, *abc)]
    assert sum(isinstance(request, Score) for request in of_text) == 2 * 4
    assert second.variants[2].metrics == second.variants[0].metrics
    assert first.tokens == ("A", "B", "C")


@pytest.mark.parametrize("place", ["after_bos", "end"])
def test_tokens_do_exactly_what_vectors_do_that_are_these_tokens(place: Any) -> None:
    from spt_fast import zoo

    folder = zoo.find("zoo/base-70")
    tokenizer = Tokenizer.load(folder)
    ids = tokenizer.text_ids(" several questions, one line of json")[:6]
    prompt = SoftPrompt(vectors=Lexicon(FrozenModel.load(folder), tokenizer).rows(list(ids)))
    with TransformersEngine(EngineConfig(kind="transformers", model=str(folder), dtype="float32")) as engine:
        (found,) = probe(
            [subject("zoo-mcq", prompt, position=place, token_ids=ids)],
            rows_of("zoo-mcq", 8),
            engine,
            tokenizer,
            Model(name="m", source=str(folder), fingerprint="f"),
            chat=False,
        )
    (tokens,), (vectors,), (plainly,) = (found.named(name) for name in ("tokens", "soft_prompt", "zero_shot"))
    assert tokens.metrics == vectors.metrics
    assert all(change.value == 0 for change in tokens.changes.values())
    assert plainly.metrics != vectors.metrics, "these tokens make a difference"
    assert isinstance(found, Probe)
