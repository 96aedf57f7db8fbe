"""What rows do and what seeds do, held against formulae, SciPy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.stats import norm

from spt_fast.analysis.resampling import centred_interval, drawn, percentile_interval
from spt_fast.analysis.variance import clustered_stderr, detectable, mean_range, score_error, signal_to_noise


def test_rows_that_share_nothing_have_the_usual_standard_error() -> None:
    values = np.random.default_rng(0).random(50)
    assert clustered_stderr(values) == pytest.approx(stats.sem(values))


def test_a_clustered_error_is_that_of_the_clusters_means_where_they_are_of_one_size() -> None:
    values = np.random.default_rng(1).random((20, 5))
    found = clustered_stderr(values.ravel(), np.repeat(np.arange(20), 5))
    assert found == pytest.approx(stats.sem(values.mean(1)))
    assert math.isnan(clustered_stderr([0.0, 1.0], np.array([0, 0])))


def test_a_clustered_error_is_what_means_vary_by_in_simulation() -> None:
    generator = np.random.default_rng(2)
    sizes = generator.integers(1, 12, 60)
    of = np.repeat(np.arange(60), sizes)
    errors, means = [], []
    for _ in range(300):
        values = 0.5 + generator.normal(0, 0.2, 60)[of] + generator.normal(0, 0.3, len(of))
        errors.append(clustered_stderr(values, of))
        means.append(values.mean())
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
    naive = 0.36 / math.sqrt(len(of))
    assert np.mean(errors) > 1.3 * naive, "rows of a passage are worth less than as many rows"


def test_seeds_and_rows_are_kept_apart_in_simulation() -> None:
    generator = np.random.default_rng(3)
    rows, seeds, noise, n = 0.4, 0.03, 0.2, 400
    found = [
        score_error(
            0.5 + generator.normal(0, rows, n) + generator.normal(0, seeds, (4, 1)) + generator.normal(0, noise, (4, n)),
            np.arange(n),
        )
        for _ in range(300)
    ]
    assert np.mean([each.between_seeds**2 for each in found]) == pytest.approx(seeds**2, rel=0.15)
    assert np.mean([each.sampling**2 for each in found]) == pytest.approx((rows**2 + noise**2 / 4) / n, rel=0.05)
    total = (rows**2 + noise**2 / 4) / n + seeds**2 / 4
    assert np.mean([each.total**2 for each in found]) == pytest.approx(total, rel=0.1)
    assert np.var([each.value for each in found]) == pytest.approx(total, rel=0.2)


def test_one_seed_says_nothing_of_others() -> None:
    found = score_error(np.array([[0.0, 1.0, 1.0, 1.0]]), np.arange(4))
    assert math.isnan(found.between_seeds)
    assert found.total == found.one_seed == found.sampling
    assert found.degrees_of_freedom == 3


def test_seeds_that_do_nothing_have_no_variance_below_zero() -> None:
    found = score_error(np.tile([0.0, 1.0, 1.0], (3, 1)), np.arange(3))
    assert found.between_seeds == 0.0


def test_the_detectable_difference_is_found_as_often_as_it_says() -> None:
    assert detectable(1.0) == pytest.approx(1.96 + 0.8416, abs=1e-3)
    true = detectable(0.02, alpha=0.05, power=0.9, sided=1)
    power = norm.sf(norm.isf(0.05) - true / 0.02)
    assert power == pytest.approx(0.9)


def test_the_mean_range_is_tippetts() -> None:
    assert [round(mean_range(n), 3) for n in (2, 3, 5, 10)] == [1.128, 1.693, 2.326, 3.078]
    exact, _ = integrate.quad(lambda x: 1 - norm.cdf(x) ** 61 - norm.sf(x) ** 61, -10, 10)
    assert mean_range(61) == pytest.approx(exact, rel=1e-6)


def test_signal_to_noise_is_the_spread_over_the_error_and_that_of_equal_models_is_chance() -> None:
    found = signal_to_noise([0.2, 0.8, 0.5], [0.03, 0.04, math.nan])
    assert found.signal == pytest.approx(0.6)
    assert found.noise == pytest.approx(math.sqrt((0.0009 + 0.0016) / 2))
    generator = np.random.default_rng(4)
    equal = [signal_to_noise(generator.normal(0.5, 0.02, 7).tolist(), [0.02] * 7).ratio for _ in range(2000)]
    assert np.mean(equal) == pytest.approx(signal_to_noise([0.0] * 7, [1.0] * 7).by_chance, rel=0.03)
    assert math.isnan(signal_to_noise([0.1, 0.2], [math.nan, math.nan]).ratio)


def test_a_resample_has_as_many_as_there_are() -> None:
    counts = drawn(7, 500, np.random.default_rng(5))
    assert (counts.sum(1) == 7).all()
    assert counts.mean(0) == pytest.approx(np.ones(7), abs=0.15)


def test_the_percentile_interval_leaves_out_what_is_undefined() -> None:
    found = percentile_interval(np.array([math.nan, *np.linspace(0, 1, 101)]))
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    assert math.isnan(percentile_interval(np.array([math.nan])).low)


def test_the_centred_interval_holds_what_rows_give_on_average() -> None:
    """Tau-b of seven models, each scored with noise: the interval from one scoring, the mean over many."""
    generator = np.random.default_rng(6)
    from spt_fast.analysis.agreement import measures

    sd, held = 0.022, []
    for _ in range(150):
        truth = generator.uniform(0.4, 0.6, 7)
        of_many = measures(truth + sd * generator.standard_normal((400, 7)), truth[None]).tau_b.mean()
        scores = truth + sd * generator.standard_normal(7)
        draws = measures(scores + sd * generator.standard_normal((400, 7)), truth[None]).tau_b
        estimate = float(measures(scores[None], truth[None]).tau_b[0])
        found = centred_interval(draws, estimate, -1, 1)
        assert -1 <= found.low <= estimate <= found.high <= 1
        held.append(found.low <= of_many <= found.high)
    assert np.mean(held) >= 0.9
