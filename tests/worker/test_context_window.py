"""Scores that would say nothing of the model: completions cut off for want of room, and logits that are not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from spt_fast.config import FewShot, GridConfig, ModelConfig, Protocol, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.result import GridResult
from spt_fast.report.folder import write_tables
from spt_fast.types import Completion
from spt_fast.worker.context_window import ContextWindow
from spt_fast.worker.events import Event, Noticed
from tests.helpers.running import Listener, run_grid
from tests.helpers.tiny import tiny_model

TOKENS = 8
"""The task's `max_tokens`."""
PROMPT = (
    len("Answer each question with a plain number, as in: 42\nWrite nothing else.\n\nQuestion: Which number is 3?\nAnswer:") + 1
)
"""Tokens of a prompt, one a byte, and BOS."""


def completion(tokens: int, reason: Any = "length") -> Completion:
    return Completion(text="x" * tokens, token_ids=(65,) * tokens, finish_reason=reason)


def room(cut: int, of: int, *, step: int | None = None) -> ContextWindow:
    found = ContextWindow(wanted=TOKENS)
    for i in range(of):
        found.tokens_left(30 if i < cut else 20, 32)
        found.observe(step, completion(2 if i < cut else 8))
    return found


def test_what_was_cut_is_what_ended_before_the_tasks_own_limit_for_want_of_room() -> None:
    found = ContextWindow(wanted=TOKENS)
    assert [found.tokens_left(length, 32) for length in (20, 24, 25, 30)] == [8, 8, 7, 2]
    for answer in (completion(8), completion(8), completion(7), completion(2, "stop")):
        found.observe(None, answer)
    assert (found.short, found.cut.total(), found.longest) == (2, 1, 30)
    assert "2 of 4 prompts leave less room than the task's max_tokens of 8" in found.warning
    assert room(0, 5).warning == ""


@pytest.mark.parametrize(("cut", "of", "fails"), [(0, 20, False), (1, 20, False), (2, 20, True), (1, 19, True), (1, 1, True)])
def test_more_than_a_twentieth_is_too_many(cut: int, of: int, fails: bool) -> None:
    said = room(cut, of).fault(fix="mend it")
    assert bool(said) is fails
    if fails:
        assert said.startswith(f"{cut} of {of} completions were cut off for want of room: max_model_len is 32 tokens")
        assert "the longest prompt has 30" in said
        assert said.endswith("; mend it")


def test_each_point_of_a_curve_is_judged_by_itself() -> None:
    found = room(0, 20, step=0)
    for _ in range(20):
        found.observe(80, completion(2))
    assert found.fault(fix="").startswith("20 of 20 completions at step 80 were cut off")


def test_nothing_asked_is_nothing_cut() -> None:
    assert ContextWindow(wanted=TOKENS).fault(fix="") == ContextWindow(wanted=TOKENS).warning == ""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task of open questions, six of them, whose prompts are `PROMPT` tokens; one each to learn and to show."""
    (tmp_path / "num").mkdir()
    rows = [{"question": f"Which number is {i}?", "answer": str(i)} for i in range(10)]
    for split, part in (("train", rows[6:]), ("test", rows[:6])):
        (tmp_path / "num" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "num.yaml").write_text(
        "name: num\nrows: {files: num}\ncolumns: {question: question, answer: answer}\nanswer_form: number\n"
        f"max_tokens: {TOKENS}\nrepeat_rows: true\n"
    )
    return tmp_path / "num.yaml"


@pytest.fixture
def ask(task: Path, tmp_path: Path) -> Callable[..., tuple[GridResult, list[Event]]]:
    def asked(model: Path, *protocols: Protocol, dtype: str = "auto") -> tuple[GridResult, list[Event]]:
        listener = Listener()
        grid = GridConfig(
            name="g",
            models=(ModelConfig(id=str(model), dtype=dtype),),
            tasks=(TaskConfig(task=str(task)),),
            protocols=protocols or (ZeroShot(),),
            engine={"kind": "transformers", "device": "cpu"},
            output=tmp_path / "run",
        )
        return run_grid(grid, watch=listener.watch), listener.seen

    return asked


def reasons(result: GridResult) -> list[str]:
    return [failure.reason for failure in result.failures.values()]


def test_a_cell_whose_completions_have_no_room_fails_and_says_what_would_make_some(ask: Any, tmp_path: Path) -> None:
    result, seen = ask(tiny_model(tmp_path / "model", positions=PROMPT + 2), ZeroShot())
    (reason,) = reasons(result)
    assert f"max_model_len is {PROMPT + 2} tokens, the longest prompt has {PROMPT}, and the task's max_tokens is 8" in reason
    assert f"{PROMPT + TOKENS} are needed" in reason
    (noticed,) = [event for event in seen if isinstance(event, Noticed)]
    assert noticed.said.startswith("6 of 6 prompts leave less room")


def test_soft_positions_and_shots_take_room_too(ask: Any, tmp_path: Path) -> None:
    soft = SoftPromptConfig(length=5, steps=1, batch_size=2, evaluate_at=())
    shot = len("\n\nQuestion: Which number is 3?\nAnswer: 3")
    model = tiny_model(tmp_path / "model", positions=PROMPT + max(shot + 2, 8))
    result, _ = ask(model, ZeroShot(), FewShot(shots=1), replace(soft, length=shot))
    assert len(result.results) == 1
    assert len(reasons(result)) == 2
    assert all("cut off for want of room" in reason and f"has {PROMPT + shot}" in reason for reason in reasons(result))


def test_less_room_that_cut_nothing_is_told_in_the_summary_and_in_results_json(ask: Any, tmp_path: Path) -> None:
    # The first token that it writes ends it: room for two is enough.
    model = tiny_model(tmp_path / "model", positions=PROMPT + 2)
    config = json.loads((model / "generation_config.json").read_text())
    config["eos_token_id"] = list(range(272))
    (model / "generation_config.json").write_text(json.dumps(config))
    result, _ = ask(model)
    assert len(result.results) == 1
    write_tables(result.folder)
    (cell,) = json.loads((Path(str(result.folder)) / "results.json").read_text())["cells"]
    assert (cell["less_room"], cell["cut_by_context"]) == (6, 0)
    for name in ("report.md", "report.html"):
        text = (Path(str(result.folder)) / name).read_text()
        assert "6 completions had less room than the task" in text, name


def harm(model: Path, name: str, row: int, value: float) -> Path:
    weights = load_file(model / "model.safetensors")
    weights[name][row] = value
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return model


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_open_tasks_fail_where_some_prompts_lead_to_logits_that_are_not_finite(ask: Any, tmp_path: Path, value: float) -> None:
    """One token's row: no short look at a model would find it."""
    model = tiny_model(tmp_path / "model")
    harm(model, "model.embed_tokens.weight", ord("5") - ord("!"), value)
    result, _ = ask(model)
    (reason,) = reasons(result)
    assert "logits are not finite (NaN or infinite) in" in reason
    assert "model.embed_tokens.weight in model.safetensors holds " in reason


def test_learning_on_such_weights_blames_them_and_not_the_rate(ask: Any, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    harm(model, "model.embed_tokens.weight", ord("Q") - ord("!"), math.nan)
    settings = {"length": 3, "steps": 2, "batch_size": 2}
    result, _ = ask(model, SoftPromptConfig(**settings), SoftPromptConfig.paper(**settings))
    from_vocabulary, from_nothing = reasons(result)
    assert "embeddings of tokens are not finite: the weights are damaged: model.embed_tokens.weight" in from_vocabulary
    assert "step 1: the loss is nan; the weights are damaged: model.embed_tokens.weight holds NaN" in from_nothing
    assert "lr" not in from_vocabulary + from_nothing


def test_a_whole_model_of_nan_is_refused_for_all_its_cells_before_anything_is_asked(ask: Any, tmp_path: Path) -> None:
    model = harm(tiny_model(tmp_path / "model"), "model.norm.weight", 0, math.nan)
    result, seen = ask(model, ZeroShot(), FewShot(shots=1), SoftPromptConfig(length=3, steps=2, batch_size=2))
    assert len(reasons(result)) == 3
    assert all("model.norm.weight holds NaN" in reason for reason in reasons(result))
    assert not [event for event in seen if isinstance(event, Noticed)]
