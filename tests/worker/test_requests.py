"""What is asked of a cell by all ways of scoring, and what becomes of the answers, held against a model with known numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast import tasks, zoo
from spt_fast.config import FewShot, Protocol, SoftPromptConfig, ZeroShot
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.echo import EchoEngine
from spt_fast.errors import DataError
from spt_fast.models.identity import Model
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.scoring.methods import METHODS
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import CellResult, Example, LogLikelihood
from spt_fast.worker.answers import CellAnswers
from spt_fast.worker.events import CellDone, Event
from spt_fast.worker.questions import Questions, all_questions, choosing_rows
from spt_fast.worker.requests import requests_of
from spt_fast.worker.stage import run_stage
from tests.helpers.lm_eval_rows import files
from tests.helpers.tiny import byte_tokenizer

MODEL = Model(name="m", source="zoo/base-40", fingerprint="f")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(zoo.find("zoo/base-40"))


def cell_of(task: Task, protocol: Protocol | None = None, seed: int | None = None) -> Cell:
    protocol = protocol or ZeroShot()
    rows = TaskRows(name=task.name, version=1, content="")
    return Cell(model=MODEL, task=rows, protocol=protocol, seed=seed, label=protocol.name)


@pytest.fixture
def mcq() -> tuple[Task, Rows]:
    task = tasks.get("zoo-mcq")
    return task, load_rows(task, limit=3)


def text_of(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(ids)


def test_cloze_is_the_question_alone_and_its_texts_have_no_letters(mcq: tuple[Task, Rows], tokenizer: Tokenizer) -> None:
    task, rows = mcq
    asks = all_questions(cell_of(task), rows, tokenizer, chat=False)
    question, example = asks.test[0], rows.test[0]
    assert [text_of(tokenizer, ids) for ids, _ in question.cloze] == [f"Question: {example.question}\nAnswer:"] * 4
    assert [text_of(tokenizer, ids) for _, ids in question.cloze] == [f" {option[3:]}" for option in example.options]
    bare = [asks.bare[number] for number in question.bare]
    assert [(text_of(tokenizer, a), text_of(tokenizer, b)) for a, b in bare] == [
        ("Answer:", f" {option[3:]}") for option in example.options
    ]
    assert len(asks.bare) == len({option[3:] for q in (*asks.test, *asks.choosing) for option in q.example.options})


def test_shots_are_in_cloze_form_too(mcq: tuple[Task, Rows], tokenizer: Tokenizer) -> None:
    task, rows = mcq
    asks = all_questions(cell_of(task, FewShot(shots=2), seed=0), rows, tokenizer, chat=False)
    shots = text_of(tokenizer, asks.test[0].cloze[0][0]).split("\n\n")
    assert len(shots) == 3
    known = {f"Question: {shot.question}\nAnswer: {shot.options[shot.gold or 0][3:]}" for shot in rows.few_shot}
    assert set(shots[:2]) <= known
    assert shots[2] == f"Question: {rows.test[0].question}\nAnswer:"
    assert text_of(tokenizer, asks.bare[0][0]) == "Answer:"


def test_a_task_without_a_cloze_form_is_not_asked_for_it(mcq: tuple[Task, Rows], tokenizer: Tokenizer) -> None:
    task, rows = mcq
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "get", lambda name: replace(task, cloze=None))
        asks = all_questions(cell_of(task), rows, tokenizer, chat=False)
    assert not asks.bare
    assert not any(question.cloze or question.bare for question in asks.test)
    assert asks.choosing, "the debiased way needs rows all the same"


def test_letters_alone_have_no_texts_to_score(mcq: tuple[Task, Rows], tokenizer: Tokenizer) -> None:
    task, rows = mcq
    bare = tuple(replace(e, options=("A", "B", "C", "D"), target="A", answers=("A",)) for e in rows.test)
    asks = all_questions(cell_of(task), replace(rows, test=bare), tokenizer, chat=False)
    assert not any(question.cloze for question in asks.test)


class Refusing(Tokenizer):
    """One that finds no tokens in a text: what it knows no letter of, it leaves out."""

    def pairs(self, prompt: str, texts: Sequence[str]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        if " ?" in texts:
            raise DataError("the continuation ' ?' has no tokens of its own behind the prompt")
        return super().pairs(prompt, texts)


def test_a_cell_whose_cloze_cannot_be_asked_says_why_and_does_without(mcq: tuple[Task, Rows]) -> None:
    task, rows = mcq
    odd = replace(rows.test[0], texts=("?", "b", "c", "d"))
    asks = all_questions(cell_of(task), replace(rows, test=(odd, *rows.test[1:])), Refusing(byte_tokenizer()), chat=False)
    assert "' ?' has no tokens of its own" in asks.no_cloze
    assert len(asks.test) == 3
    assert all(question.options and not question.cloze and not question.bare for question in (*asks.test, *asks.choosing))


def example(number: int) -> Example:
    options = ("A. x", "B. y")
    return Example(key=f"{number:016x}", question=str(number), target="A. x", answers=("A. x",), options=options, gold=0)


@pytest.mark.parametrize(
    ("tuning", "steps", "asked", "learnt"),
    [
        (704, 80, 64, 0),  # 640 are learnt on, and 64 are left alone
        (688, 80, 48, 0),  # 16 of the 64 are learnt on
        (660, 80, 64, 44),  # too few are left: all of them, and it is told
        (704, 10, 64, 0),
        (40, 5, 10, 10),
        (40, 3, 10, 0),
        (2, 1, 0, 0),
    ],
)
def test_rows_to_choose_by_are_those_that_are_learnt_on_last(tuning: int, steps: int, asked: int, learnt: int) -> None:
    test = tuple(example(i) for i in range(9000, 9100))
    rows = Rows(tuning=tuple(example(i) for i in range(tuning)), few_shot=(), test=test, content="")
    soft = cell_of(tasks.get("zoo-mcq"), SoftPromptConfig(steps=steps, batch_size=8, repeat_rows=True), seed=0)
    found, seen = choosing_rows(soft, rows)
    assert (len(found), seen) == (asked, learnt)
    plain, never = choosing_rows(cell_of(tasks.get("zoo-mcq")), rows)
    assert (len(plain), never) == (len(rows.choosing), 0)
    assert {each.key for each in found} <= {each.key for each in plain}


def test_each_answer_comes_to_its_place_and_is_summed(mcq: tuple[Task, Rows], tokenizer: Tokenizer) -> None:
    task, rows = mcq
    cell = cell_of(task)
    asked = CellAnswers(cell, cell.steps, all_questions(cell, rows, tokenizer, chat=False))
    with EchoEngine(EngineConfig(kind="echo", model=str(zoo.find("zoo/base-40")))) as engine:
        planned = list(requests_of(asked, engine, {}))
        assert len(planned) == asked.questions.count(last=True)
        slots = [slot for slot, _ in planned]
        assert len(set(slots)) == len(slots)
        for i, slot in enumerate(slots):
            if slot.what != "written":
                asked.answers[slot] = LogLikelihood(token_logprobs=(-float(i), -1.0))
    place = {slot: -float(i) - 1 for i, slot in enumerate(slots)}
    first = asked.scores(None)[0]
    assert first.cloze == tuple(v for s, v in place.items() if s.what == "cloze" and s.i == 0)
    assert first.listed == tuple(v for s, v in place.items() if s.what == "listed" and s.i == 0)
    bare = {s.i: v for s, v in place.items() if s.what == "bare"}
    assert first.unconditional == tuple(bare[number] for number in asked.questions.test[0].bare)
    assert len(first.priors) == 4
    assert asked.choice().rows == 8, "no more than test rows, but for eight"


def open_ended(name: str, tokenizer: Tokenizer, **changes: object) -> Questions:
    task = tasks.get(name)
    rows = load_rows(task, limit=3)
    test = tuple(replace(example, **changes) for example in rows.test)  # type: ignore[arg-type]
    return all_questions(cell_of(task, FewShot(shots=2), seed=0), replace(rows, test=test), tokenizer, chat=False)


@pytest.mark.parametrize("name", ["zoo-short", "zoo-number", "zoo-json"])
def test_gold_answers_are_asked_behind_the_prompt_that_is_completed(name: str, tokenizer: Tokenizer) -> None:
    asks = open_ended(name, tokenizer)
    lead = '{"answer": "' if name == "zoo-json" else ""
    assert asks.lead_in == lead
    for question in asks.test:
        ((given, answer),) = question.answers
        scored = question.example.target if name == "zoo-number" else question.example.answers[0]
        assert question.answer_texts == (scored,)
        assert text_of(tokenizer, (*given, *answer)) == f"{question.prompt} {lead}{scored}"
        assert text_of(tokenizer, answer) == (scored if lead else f" {scored}")
        assert given[: len(question.token_ids)] == question.token_ids, "so the engine reads the prompt once"


def test_a_row_whose_answer_is_too_long_or_empty_is_asked_without(tokenizer: Tokenizer) -> None:
    assert [question.answers for question in open_ended("zoo-short", tokenizer, target="", answers=("",)).test] == [()] * 3
    long = open_ended("zoo-short", tokenizer, target="bread " * 5000, answers=("bread " * 5000,))
    cell = cell_of(tasks.get("zoo-short"), FewShot(shots=2), seed=0)
    asked = CellAnswers(cell, cell.steps, long)
    with EchoEngine(EngineConfig(kind="echo", model=str(zoo.find("zoo/base-40")))) as engine:
        assert {slot.what for slot, _ in requests_of(asked, engine, {})} == {"written"}
    assert [each.texts for each in asked.gold(None)] == [()] * 3


def test_closed_ended_tasks_ask_nothing_more(mcq: tuple[Task, Rows], tokenizer: Tokenizer) -> None:
    task, rows = mcq
    asks = all_questions(cell_of(task), rows, tokenizer, chat=False)
    assert not any(question.answers for question in asks.test)
    assert asks.count(last=True) == sum(1 + len(q.options) + len(q.cloze) for q in asks.test) + sum(
        len(q.options) + len(q.cloze) for q in asks.choosing
    ) + len(asks.bare)


@pytest.mark.parametrize(
    ("name", "layout", "splits", "scored"),
    [
        ("mmlu_anatomy", "mmlu", {"dev": 5, "test": 3}, "ABCD"),
        ("gsm8k", "gsm8k", {"train": 3, "test": 3}, ""),
    ],
)
def test_tasks_of_lm_eval_are_scored_as_it_writes_them(
    name: str, layout: str, splits: dict[str, int], scored: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    task = tasks.get(f"lm-eval:{name}")
    rows = load_rows(task, data_files=files(tmp_path, layout, **splits), need={"test"}, cut=False)
    asks = all_questions(cell_of(task), rows, tokenizer, chat=False)
    for question in asks.test:
        assert question.written == tuple(scored), "a letter is one byte"
        assert question.answer_texts == (() if scored else (question.example.target,))
        assert [text_of(tokenizer, answer) for _, answer in question.answers] == [f" {text}" for text in question.answer_texts]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zoo-mcq", "zoo-short", "zoo-number", "zoo-json"])
def test_bits_per_byte_are_those_of_transformers_own_logits_in_float64(name: str, tokenizer: Tokenizer) -> None:
    """Of the model in float64 on the plain text of prompt and answer, without anything of ours but the prompt."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(zoo.find("zoo/base-40"))
    model, plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64), AutoTokenizer.from_pretrained(folder)
    for sample in result_of("zoo/base-40", name, limit=4, dtype="float32").samples:
        example = next(e for e in load_rows(tasks.get(name), limit=4).test if e.key == sample.example)
        before = f"Question: {example.question}\nAnswer:" if name == "zoo-mcq" else sample.prompt
        before += ' {"answer": "' if name == "zoo-json" else ""
        answer = example.target if name == "zoo-number" else example.answers[0]
        given, whole = (
            plain(text, return_tensors="pt").input_ids for text in (before, before + " " * (name != "zoo-json") + answer)
        )
        with torch.inference_mode():
            logprobs = model(whole).logits[0].log_softmax(-1)
        total = sum(float(logprobs[i - 1, whole[0, i]]) for i in range(given.shape[1], whole.shape[1]))
        assert sample.answer_bits_per_byte == pytest.approx(-total / math.log(2) / len(answer.encode()), abs=1e-4)


def result_of(name: str, task: str = "zoo-mcq", limit: int | None = None, dtype: str = "auto") -> CellResult:
    """A model of the zoo, asked zoo-mcq plainly."""
    model = Model(name=name, source=str(zoo.find(name)), fingerprint="f", chat_template="never", dtype=dtype)
    cell = replace(cell_of(tasks.get(task)), model=model, engine={"kind": "transformers", "device": "cpu"})
    cell = replace(cell, task=replace(cell.task, limit=limit))
    events: list[Event] = []
    run_stage(Stage(model=model, cells=(cell,)), {}, events.append)
    (done,) = (event for event in events if isinstance(event, CellDone))
    return done.result


@pytest.mark.slow
@pytest.mark.parametrize(("name", "planted"), [("zoo/base-40", 0.40), ("zoo/base-95", 0.95)])
def test_every_way_of_scoring_recovers_what_was_planted_in_a_model_whose_letters_are_bound(name: str, planted: float) -> None:
    result = result_of(name)
    metrics = {metric.name: metric for metric in result.metrics[None]}
    for metric in (*METHODS.values(), "knowledge_best"):
        found = metrics[metric]
        assert found.ci_low <= planted + (1 - planted) / 4 <= found.ci_high, metric
    assert result.provenance["knowledge_by"] == "both"


@pytest.mark.slow
def test_of_a_model_that_binds_no_letters_the_texts_alone_show_what_was_planted() -> None:
    result = result_of("zoo/unbound-70")
    metrics = {metric.name: metric for metric in result.metrics[None]}
    for metric in ("knowledge_cloze", "knowledge_cloze_per_byte", "knowledge_cloze_pmi", "knowledge_best"):
        assert metrics[metric].ci_low <= 0.70 + 0.30 / 4 <= metrics[metric].ci_high, metric
    for metric in ("knowledge", "knowledge_debiased"):
        assert metrics[metric].ci_high < 0.40, "about a guess, 0.25"
    assert result.provenance["knowledge_by"] == "cloze only"
