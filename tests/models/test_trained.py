"""How far a checkpoint has been trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from spt_fast.models.trained import trained_for


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("run7/step-7", {"steps": 7}),
        ("run7/step_0001000", {"steps": 1000}),
        ("out/checkpoint-500", {"steps": 500}),
        ("EleutherAI/pythia-160m@step143000", {"steps": 143_000}),
        ("allenai/OLMo-2@stage1-step1000-tokens5B", {"steps": 1000, "tokens": 5 * 10**9}),
        ("olmo@step38000-tokens168B", {"steps": 38_000, "tokens": 168 * 10**9}),
        ("x/tokens-1.5T", {"tokens": 1_500_000_000_000}),
        ("x/20B-tokens", {"tokens": 20 * 10**9}),
        ("x/iter_0000100", {"steps": 100}),
        ("x/1000", {"steps": 1000}),
        ("step-7/hf", {"steps": 7}),
        ("run7/final", {}),
        ("run7/llama-3-8b", {}),
        ("run7/8b", {}),
    ],
)
def test_steps_and_tokens_are_read_from_the_name_of_a_checkpoint(name: str, found: dict[str, int]) -> None:
    assert trained_for(name) == found


def test_what_the_trainer_wrote_goes_before_the_name(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text('{"global_step": 40, "num_input_tokens_seen": 81920}')
    assert trained_for("x/checkpoint-5", tmp_path) == {"steps": 40, "tokens": 81_920}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"global_step": "7"}', '{"global_step": true, "num_input_tokens_seen": 0}'])
def test_a_state_that_says_nothing_leaves_the_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "trainer_state.json").write_text(text)
    assert trained_for("x/checkpoint-5", tmp_path) == {"steps": 5}
