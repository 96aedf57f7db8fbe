"""Differences in nats, and what rounding explains of them."""

from __future__ import annotations

import math

import pytest

from spt_fast.engine.noise import Bound, Spread, apart, bound, spread
from spt_fast.types import LogLikelihood

STEP = 2.0**-7


def said(*logprobs: float) -> LogLikelihood:
    return LogLikelihood(token_logprobs=logprobs)


def test_a_spread_is_over_all_tokens_of_all_answers() -> None:
    found = spread([(said(-1.0, -2.0), said(-1.3, -2.4)), (said(-5.0), said(-5.0))])
    assert (found.n, found.rms, found.largest) == (3, pytest.approx(math.sqrt((0.09 + 0.16) / 3)), pytest.approx(0.4))
    assert spread([]) == Spread(n=0, rms=0.0, largest=0.0)


@pytest.mark.parametrize("other", [(-1.0,), (-1.0, math.nan), (-1.0, -math.inf)])
def test_what_is_no_number_and_what_is_missing_are_infinitely_far_apart(other: tuple[float, ...]) -> None:
    assert max(apart(said(-1.0, -2.0), said(*other))) == math.inf
    assert max(apart(said(*other), said(*other, *(-1.0,) * (2 - len(other))))) == math.inf
    assert not Bound(rms=9.0, largest=9.0).holds(spread([(said(-1.0, -2.0), said(*other))]))


def test_the_largest_noise_counts_and_few_tokens_are_allowed_more() -> None:
    noise = [Spread(n=100, rms=0.05, largest=0.1), Spread(n=100, rms=0.02, largest=0.3)]
    many = bound(noise, [said(*[-1.0] * 100)], step=STEP)
    assert (many.rms, many.largest) == (pytest.approx(0.05 * 2.4), pytest.approx(0.3 * 2.5))
    assert bound(noise, [said(-1.0)], step=STEP).rms == pytest.approx(0.05 * 6)


def test_without_noise_what_rounding_a_number_of_that_size_does_is_allowed() -> None:
    small, large = (bound([], [said(*[logprob] * 100)], step=STEP) for logprob in (-0.01, -13.0))
    assert (small.rms, small.largest) == (pytest.approx(2.4 * STEP / 8), pytest.approx(2.5 * STEP / 2))
    assert large.rms == pytest.approx(13 * small.rms)
    assert large.holds(Spread(n=100, rms=0.02, largest=0.1))
    assert not large.holds(Spread(n=100, rms=0.04, largest=0.1))
    assert not large.holds(Spread(n=100, rms=0.02, largest=0.2))
