"""verify: what is a difference, what is a near tie, and that the two real engines agree."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spt_fast.engine.base import EngineConfig
from spt_fast.engine.transformers import TransformersEngine
from spt_fast.engine.vllm.engine import VllmEngine
from spt_fast.errors import ConfigError
from spt_fast.inspection.verify import STEPS, verify
from spt_fast.inspection.verify_compare import Repeat, compare
from spt_fast.inspection.verify_report import VerifyReport
from spt_fast.inspection.verify_requests import Asked, behind
from spt_fast.types import Answer, Completion, LogLikelihood, Score
from tests.helpers.engine_faults import FAULTS, Remembered
from tests.helpers.engine_requests import generate, ids, score, soft
from tests.helpers.tiny import tiny_model

COMPLETING = Asked(name="completing 'a'", request=generate((1, 2), tokens=3))
SCORING = Asked(name="scoring 'b'", request=score((1, 2)))
STEP = STEPS["bfloat16"]


def completion(*token_ids: int, text: str = "", finite: bool = True) -> Completion:
    return Completion(text=text, token_ids=token_ids, finish_reason="length", finite=finite)


def compared(ours: Answer, theirs: Answer, *, apart: float = 0.0, step: float | None = None) -> VerifyReport:
    """`apart`: by how many nats the first candidate is likelier than the second, by the referee."""

    def referee(requests: Sequence[Score]) -> list[LogLikelihood]:
        assert [request.token_ids for request in requests] == [(1, 2, 7)] * 2, "the common prefix"
        return [LogLikelihood(token_logprobs=(-1.0 - apart * i,)) for i in range(2)]

    asked = COMPLETING if isinstance(ours, Completion) else SCORING
    return compare([asked], [ours], [theirs], referee, subject="a model", step=step)


def test_equal_answers_pass() -> None:
    report = compared(completion(7, 8, 9), completion(7, 8, 9))
    assert report.passed
    assert "1 equal in tokens and text" in report.text()
    assert report.text().endswith("vLLM and Transformers agree")


def test_a_first_difference_at_a_near_tie_passes_and_is_shown() -> None:
    report = compared(completion(7, 8, 9), completion(7, 5, 6), apart=0.01)
    assert report.passed
    assert "1 differs first at a near tie" in report.text()
    assert "token 2 is '8' by vLLM (-1.0000 nats) and '5' by Transformers (-1.0100): a near tie" in report.text()


def test_a_difference_that_is_no_near_tie_fails() -> None:
    report = compared(completion(7, 8, 9), completion(7, 5, 6), apart=0.4)
    assert not report.passed
    assert "no near tie" in report.text()
    assert "DISAGREE" in report.text()


def test_a_completion_that_ends_earlier_fails() -> None:
    report = compared(completion(7, 8), completion(7, 8, 9))
    assert not report.passed
    assert "vLLM ended after 2 tokens" in report.text()


def test_another_text_of_the_same_tokens_fails() -> None:
    report = compared(completion(7, 8, text="B."), completion(7, 8, text="B. Which\x1b[2J"))
    assert not report.passed
    assert "of the same tokens the text is 'B.' by vLLM and 'B. Which\\x1b[2J' by Transformers" in report.text()


def test_equal_answers_from_logits_that_are_not_finite_fail() -> None:
    report = compared(completion(7, 8, finite=False), completion(7, 8, finite=False))
    assert not report.passed
    assert "logits of vLLM and Transformers are not finite" in report.text()
    nan = LogLikelihood(token_logprobs=(math.nan, -1.0))
    assert not compared(nan, nan).passed
    assert not compared(nan, nan, step=STEP).passed


@pytest.mark.parametrize("other", [(-1.0, -2.001), (-1.0, float("nan")), (-1.0,)])
def test_log_likelihoods_that_are_apart_fail(other: tuple[float, ...]) -> None:
    assert compared(LogLikelihood(token_logprobs=(-1.0, -2.0)), LogLikelihood(token_logprobs=(-1.0, -2.00005))).passed
    report = compared(LogLikelihood(token_logprobs=(-1.0, -2.0)), LogLikelihood(token_logprobs=other))
    assert not report.passed
    assert "scoring 'b': log-probabilities" in report.text()


# In half precision: differences of a normal distribution, held against noise of one


def drawn(*, of: float, seed: int, base: LogLikelihood | None = None, n: int = 200) -> LogLikelihood:
    """`n` log-probabilities that differ from those of `base` by `of` nats, root mean square."""
    rng = np.random.default_rng(seed)
    values = -rng.exponential(2.0, n) if base is None else np.array(base.token_logprobs)
    return LogLikelihood(token_logprobs=tuple((values + rng.normal(scale=of, size=n)).tolist()))


TRUTH = drawn(of=0, seed=0)


def against_noise(ours: LogLikelihood, noise: float) -> VerifyReport:
    repeat = Repeat(said="vLLM in other batches", first=[TRUTH], second=[drawn(of=noise, seed=5, base=TRUTH)])
    return compare([SCORING], [ours], [TRUTH], lambda _: [], subject="a model", noise=[repeat], step=STEP)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.03, 0.07, 0.3])
def test_differences_as_large_as_the_noise_are_rounding_and_three_times_as_large_are_not(noise: float, seed: int) -> None:
    assert against_noise(drawn(of=1.3 * noise, seed=seed + 10, base=TRUTH), noise).passed
    assert not against_noise(drawn(of=3 * noise, seed=seed + 10, base=TRUTH), noise).passed


def test_one_token_that_is_far_off_fails_though_the_mean_is_small() -> None:
    values = list(TRUTH.token_logprobs)
    values[7] -= 1.5
    report = against_noise(LogLikelihood(token_logprobs=tuple(values)), 0.07)
    assert not report.passed
    assert "scoring 'b': log-probabilities 1.5 nats apart" in report.text()


def test_the_output_says_what_is_held_against_what() -> None:
    text = against_noise(drawn(of=0.07, seed=1, base=TRUTH), 0.07).text()
    assert "in half precision the same model differs from itself" in text
    assert re.search(
        r"plain: 0\.0\d+ \(largest 0\.\d+\) in 200 tokens, 0\.1\d \(largest 0\.\d+\) allowed; vLLM in other batches 0\.0", text
    )


def test_a_token_of_minus_thirteen_nats_may_be_rounded_as_a_number_of_that_size_is() -> None:
    one, other = (LogLikelihood(token_logprobs=(-13.0 - apart, -0.2)) for apart in (0.0, 0.05))
    assert compared(one, other, step=STEP).passed
    assert not compared(one, other).passed, "in float32 it may not"


# Planted faults


@pytest.fixture(scope="module", params=[(family, dtype) for family in ("llama", "gemma3") for dtype in ("float32", "bfloat16")])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Remembered]:
    """A small model of a family, a dtype, and the answers of a sound engine."""
    family, dtype = request.param
    # Narrower than most of our tiny models: wide ones amplify rounding more than any real one does.
    model = tiny_model(tmp_path_factory.mktemp(family), family, positions=1024, std=0.16)
    return str(model), dtype, Remembered(on_cpu(TransformersEngine))


def on_cpu(engine: type[TransformersEngine]) -> Callable[[EngineConfig], TransformersEngine]:
    return lambda config: engine(replace(config, kind="transformers", options={"device": "cpu"}))


def check_found(model: str, dtype: str, sound: Remembered, open_faulty: Callable[..., TransformersEngine]) -> VerifyReport:
    report = verify(model, dtype=dtype, engine=sound, reference=open_faulty)
    assert not report.passed, report.text()
    return report


def test_a_sound_engine_agrees_with_itself(sound: tuple[str, str, Remembered]) -> None:
    model, dtype, engine = sound
    report = verify(model, dtype=dtype, engine=engine, reference=on_cpu(TransformersEngine))
    assert report.passed, report.text()
    assert len(report.held) == (3 if dtype == "bfloat16" else 0)
    assert dtype in report.subject


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(sound: tuple[str, str, Remembered], fault: type[TransformersEngine]) -> None:
    model, dtype, engine = sound
    check_found(model, dtype, engine, on_cpu(fault))


REAL = [folder for folder in os.environ.get("SPT_FAST_REAL_MODELS", "").split(os.pathsep) if folder]
"""Folders of real models, for a machine that has some and time for them."""


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(not REAL, reason="SPT_FAST_REAL_MODELS names no folders")
@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize("model", REAL)
def test_on_a_real_model_the_engines_agree_and_planted_faults_are_found(model: str, dtype: str) -> None:
    engine = Remembered(VllmEngine)
    try:
        report = verify(model, dtype=dtype, engine=engine)
        print(report.text())
        for fault in FAULTS:
            found = check_found(model, dtype, engine, fault)
            print(fault.__name__, found.text(), sep="\n")
    finally:
        engine.end()
    assert report.passed


@pytest.mark.vllm
@pytest.mark.parametrize("place", ["front", "after_bos", "end"])
def test_a_saved_soft_prompt_is_asked_where_it_was_learnt_to_stand(place: str) -> None:
    drawn, saved = soft(0), replace(soft(1), provenance={"position": place})
    asked = list(behind([Asked(name="a", request=generate(ids(6)))], {"drawn": drawn, "saved": saved}))
    places = [(each.request.soft_prompt, each.request.position) for each in asked[1:]]
    assert places[:2] == [(drawn.key, "front"), (drawn.key, "after_bos")]
    assert places[2:] == [(saved.key, where) for where in dict.fromkeys(("front", place))]


def test_the_two_engines_agree_on_a_model_and_a_saved_soft_prompt(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", hidden_size=128)
    soft(1).save(tmp_path / "saved.safetensors")
    requests = [generate(ids(6)), score(ids(6)), generate(ids(40))]
    report = verify(str(model), prompt=tmp_path / "saved.safetensors", requests=requests)
    assert report.passed, report.text()
    assert (report.completions, report.scores) == (8, 4)
    assert "float32" in report.subject
    soft(1, hidden_size=64).save(tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="vectors of 64 numbers"):
        verify(str(model), prompt=tmp_path / "other.safetensors", requests=requests)
