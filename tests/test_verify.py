"""verify: what is a difference, what is a near tie, and that the two real engines agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from spt_fast.errors import ConfigError
from spt_fast.types import Answer, Completion, LogLikelihood, Score
from spt_fast.verify import Asked, VerifyReport, compare, verify
from tests.engine.asking import generate, ids, score, soft
from tests.tiny import tiny_model

COMPLETING = Asked(name="completing 'a'", request=generate((1, 2), tokens=3))
SCORING = Asked(name="scoring 'b'", request=score((1, 2)))


def completion(*token_ids: int) -> Completion:
    return Completion(text="", token_ids=token_ids, finish_reason="length")


def compared(ours: Answer, theirs: Answer, *, apart: float = 0.0) -> VerifyReport:
    """`apart`: by how many nats the first candidate is likelier than the second, by the referee."""

    def referee(requests: Sequence[Score]) -> list[LogLikelihood]:
        assert [request.token_ids for request in requests] == [(1, 2, 7)] * 2, "the common prefix"
        return [LogLikelihood(token_logprobs=(-1.0 - apart * i,)) for i in range(2)]

    asked = COMPLETING if isinstance(ours, Completion) else SCORING
    return compare([asked], [ours], [theirs], referee, subject="a model", tolerance_nats=1e-4)


def test_equal_answers_pass() -> None:
    report = compared(completion(7, 8, 9), completion(7, 8, 9))
    assert report.passed
    assert "1 equal token for token" in report.text()
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


@pytest.mark.parametrize("other", [(-1.0, -2.001), (-1.0, float("nan")), (-1.0,)])
def test_log_likelihoods_that_are_apart_fail(other: tuple[float, ...]) -> None:
    assert compared(LogLikelihood(token_logprobs=(-1.0, -2.0)), LogLikelihood(token_logprobs=(-1.0, -2.00005))).passed
    report = compared(LogLikelihood(token_logprobs=(-1.0, -2.0)), LogLikelihood(token_logprobs=other))
    assert not report.passed
    assert "scoring 'b': log-probabilities" in report.text()


@pytest.mark.vllm
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
