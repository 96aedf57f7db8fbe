"""The check at an engine's start: what is equal passes at any noise, and what is not is found as long as it is larger."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from spt_fast.engine.vllm import equivalence
from spt_fast.engine.vllm.equivalence import Ask, Trial
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Request, Score

BFLOAT16, FLOAT32 = 2.0**-7, 2.0**-23
KEYS = ("a" * 16, "b" * 16)


def asked(keys: Sequence[str | None] = KEYS) -> list[Request]:
    prompts = equivalence.prompts(vocab_size=1000, block=32, most=200)
    scored = equivalence.scores(prompts, end=2, keys=keys)
    return [*scored, *equivalence.completions(prompts, keys=[key for key in keys if key is not None])]


def number(*what: object) -> np.random.Generator:
    """Random numbers of some content."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "little"))


class Model:
    """Log-probabilities that depend on all that a request has, and noise that is drawn anew each time.

    What a fault changes of the soft rows moves every log-probability by `reads` nats or so.
    """

    def __init__(self, noise: float = 0.0, *, seed: int = 0, reads: float = 2.0) -> None:
        self.noise, self.reads = noise, reads
        self._rng = np.random.default_rng(seed)
        self.asked: list[int | None] = []

    def ask(self, wrong: Callable[[Request], Request] = lambda request: request, scale: float = 1.0) -> Ask:
        """A way of asking it, with a fault or without."""

        def answers(requests: Sequence[Request], at_once: int | None) -> list[Answer]:
            self.asked.append(at_once)
            return [self._answer(wrong(request), scale) for request in requests]

        return answers

    def _answer(self, request: Request, scale: float) -> Answer:
        behind = number(request.soft_prompt, request.position, request.token_ids)
        if isinstance(request, Score):
            own = number(request.token_ids, request.continuation)
            n = len(request.continuation)
            told = -6.0 + own.normal(size=n) + self.reads * behind.normal(size=n)
            token, margin = self._likeliest(request)
            if request.continuation in ((token,), (token + 1,)):
                told = np.array([-1.0 - margin * (request.continuation != (token,))])
            return LogLikelihood(token_logprobs=tuple(scale * told + self.noise * self._rng.normal(size=n)))
        token, margin = self._likeliest(request)
        flips = abs(self.noise * self._rng.normal()) > margin
        return Completion(text="", token_ids=(token + flips, 5, 6, 7), finish_reason="length")

    def _likeliest(self, request: Request) -> tuple[int, float]:
        """The likeliest token behind a prompt; the next number is the next likeliest, by so many nats."""
        behind = number("next", request.soft_prompt, request.position, request.token_ids)
        return int(behind.integers(1000, 2000)), behind.exponential()


def swapped(request: Request) -> Request:
    return replace(request, soft_prompt=f"{request.soft_prompt}, rows swapped")


def late(request: Request) -> Request:
    return replace(request, position={"front": "after_bos", "after_bos": "front"}[request.position])


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.5])
def test_what_is_equal_passes_at_any_noise(noise: float) -> None:
    for seed in range(12):
        model = Model(noise, seed=seed)
        assert Trial(asked(), model.ask(), step=BFLOAT16).judge(model.ask()).differs == ""


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.5])
def test_planted_faults_are_found_at_any_noise(noise: float) -> None:
    for seed in range(5):
        model = Model(noise, seed=seed)
        trial = Trial(asked(), model.ask(), step=BFLOAT16)
        for fault in (model.ask(swapped), model.ask(late), model.ask(scale=1.5)):
            assert trial.judge(fault).differs.startswith("log-probabilities differ by ")


def test_a_fault_that_is_smaller_than_the_noise_is_found_without_it() -> None:
    for noise in (0.0, 0.02):
        model = Model(noise)
        trial = Trial(asked(), model.ask(), step=BFLOAT16)
        assert trial.judge(model.ask(scale=1.05)).differs.startswith("log-probabilities differ by ")


def test_answers_that_are_equal_need_no_noise_and_no_further_requests() -> None:
    model = Model()
    verdict = Trial(asked(), model.ask(), step=FLOAT32).judge(model.ask())
    assert (verdict.differs, verdict.noise) == ("", None)
    assert model.asked == [None, None]
    assert verdict.against("mixed") == "equal to mixed"


def test_the_noise_is_measured_once_in_other_batches_and_told() -> None:
    model = Model(0.1)
    trial = Trial([request for request in asked() if isinstance(request, Score)], model.ask(), step=BFLOAT16)
    verdicts = [trial.judge(model.ask()) for _ in range(2)]
    other = equivalence.OTHER_BATCHES
    assert model.asked == [None, None, *other, *other, None, *other], "the plain way, a faster one; the plain one only once"
    found = re.fullmatch(
        r"(\S+) \(largest \S+\) nats from mixed, which differs from itself by (\S+) \(largest \S+\)",
        verdicts[0].against("mixed"),
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(0.1 * math.sqrt(2 / 3), rel=0.3), "of the means of three"
    assert float(found[2]) == pytest.approx(0.1 * math.sqrt(2), rel=0.3)


def test_completions_that_part_away_from_a_near_tie_are_found_however_alike_the_scores_are() -> None:
    model = Model()

    def other(requests: Sequence[Request], at_once: int | None) -> list[Answer]:
        found = model.ask()(requests, at_once)
        return [replace(each, token_ids=(3, 5, 6, 7)) if isinstance(each, Completion) else each for each in found]

    differs = Trial(asked(), model.ask(), step=BFLOAT16).judge(other).differs
    assert differs.startswith("greedy completions differ where tokens are ")


def test_a_completion_that_ends_sooner_is_found() -> None:
    model = Model()

    def sooner(requests: Sequence[Request], at_once: int | None) -> list[Answer]:
        found = model.ask()(requests, at_once)
        return [replace(each, token_ids=each.token_ids[:2]) if isinstance(each, Completion) else each for each in found]

    assert "inf nats apart" in Trial(asked(), model.ask(), step=BFLOAT16).judge(sooner).differs


def test_equal_answers_prove_nothing_where_prompts_change_nothing() -> None:
    model = Model(reads=0.0)
    alike = [request for request in asked() if isinstance(request, Score)]
    half = alike[: len(alike) // 2]
    trial = Trial([*half, *half], model.ask(), step=FLOAT32)
    assert trial.judge(model.ask()).differs.startswith("other prompts make too little difference to this model to see it")


@pytest.mark.parametrize("wrong", [math.nan, -math.inf])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_what_is_no_number_is_never_equal(wrong: float, noise: float) -> None:
    model = Model(noise)

    def broken(requests: Sequence[Request], at_once: int | None) -> list[Answer]:
        found = model.ask()(requests, at_once)
        first = next((i for i, request in enumerate(requests) if request == asked()[0]), None)
        return [LogLikelihood(token_logprobs=(wrong,)) if i == first else each for i, each in enumerate(found)]

    assert "differ by inf" in Trial(asked(), model.ask(), step=BFLOAT16).judge(broken).differs
    # A plain way that gives no numbers itself proves nothing either.
    assert Trial(asked(), broken, step=BFLOAT16).judge(model.ask()).differs


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9, 40, 4000])
def test_prompts_are_an_even_number_and_fit_whatever_room_there_is(most: int) -> None:
    found = equivalence.prompts(vocab_size=300, block=16, most=most)
    assert len(found) % 2 == 0
    assert found
    assert all(1 <= len(ids) <= most and max(ids) < 300 for ids in found)
    assert equivalence.prompts(vocab_size=300, block=16, most=0) == []


def test_completions_are_asked_behind_every_soft_prompt_in_both_places() -> None:
    found = [each for each in asked() if isinstance(each, Generate)]
    assert {(each.soft_prompt, each.position) for each in found} == {
        (key, place) for key in KEYS for place in equivalence.PLACES
    }
