"""When a fault began: found where it was planted, seldom where there is none, and undecided where nobody can know."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean

import numpy as np
import pytest
from numpy.typing import NDArray

from spt_fast.analysis.checkpoint_noise import BEFORE, SHRINKAGE, Noise, noise_of
from spt_fast.analysis.onset import Course, Dip, Trajectory, alarms, follow, share_of_look
from spt_fast.analysis.paired import paired_difference
from spt_fast.analysis.pooled import Pooled
from tests.helpers.series import Plan, step

TASKS, SERIES = 4, 24


def trajectory(seed: int, means: list[float], *, rows: int = 600, flips: float = 0.04, noise: float = 0.0) -> Trajectory:
    """Four tasks; `noise` moves what is true of a checkpoint, in each task by itself."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(TASKS):
        moved = [min(0.99, mean + float(rng.normal(0, noise))) for mean in means]
        values.append(Plan(means=moved, flips=flips).draw(rng, rows)[:, None].astype(float))
    return Trajectory(values=values, clusters=[np.arange(rows)] * TASKS)


def courses(means: list[float], **settings: float) -> list[Course]:
    """Of so many series with other rows, at a third of the level: as where three things are followed."""
    return [follow(trajectory(seed, means, **settings), alpha=0.05 / 3) for seed in range(SERIES)]  # type: ignore[arg-type]


def test_the_shares_of_all_looks_together_are_the_level() -> None:
    shares = [share_of_look(look) for look in range(1, 100_000)]
    assert sum(shares) == pytest.approx(1, abs=2e-4)
    assert sorted(shares, reverse=True) == shares


@pytest.mark.parametrize("at", [3, 7, 12])
def test_a_planted_fall_of_three_points_is_found_at_its_checkpoint(at: int) -> None:
    found = Counter(course.first for course in courses(step(at, by=0.03)) if course.state == "fell")
    assert found[at - 1] >= SERIES - 1


def test_a_fall_is_found_in_a_series_that_has_risen_until_then() -> None:
    found = Counter(course.first for course in courses(step(7, level=0.3, rise=0.08, by=0.03)) if course.state == "fell")
    assert found[6] >= SERIES - 1


@pytest.mark.parametrize(
    "means", [step(1), step(1, rise=0.06, level=0.3), step(1, level=0.97), [0.3 + 0.02 * i for i in range(12)]]
)
def test_a_healthy_series_is_taken_for_a_faulty_one_in_a_twentieth_at_most(means: list[float]) -> None:
    assert sum(course.state == "fell" for course in courses(means)) <= 1


def test_a_healthy_series_whose_checkpoints_are_noisy_is_not_taken_for_a_faulty_one_either() -> None:
    found = Counter(course.state for course in courses(step(1), noise=0.01))
    assert found["fell"] <= 1
    assert found["undecided"] > 0


def test_noise_between_checkpoints_is_learnt_from_those_since_a_fall_too() -> None:
    """Held against one that happened to be high, all later ones are lower; but they differ as much among themselves."""
    found = [follow(trajectory(seed, step(1), noise=0.02), alpha=0.04) for seed in range(SERIES)]
    assert sum(course.state == "fell" for course in found) <= 1


def changes(*points: float) -> list[Pooled]:
    """Of one task of 1,000 rows, none of which changes both ways."""
    before = np.tile([1.0, 0.0], 500)
    return [Pooled(parts=[paired_difference(before, before + _lost(before, each), resamples=0)]) for each in points]


def _lost(before: NDArray[np.float64], points: float) -> NDArray[np.float64]:
    at = np.flatnonzero(before == (1.0 if points < 0 else 0.0))[: round(abs(points) * 10)]
    change = np.zeros(len(before))
    change[at] = math.copysign(1.0, points)
    return change


def test_what_checkpoints_differ_by_is_taken_for_granted_until_something_tells() -> None:
    assert noise_of([], changes(-5)) == Noise(variance=BEFORE**2)
    assert noise_of(changes(3, 4, 8), []) == Noise(variance=BEFORE**2), "a rise is what training is for"


def test_falls_that_are_no_fault_and_differences_since_one_both_tell_of_noise() -> None:
    quiet, low = changes(-6, -5, 4), changes(-2, -8, -5)
    alone = noise_of(quiet, [])
    assert alone.degrees_of_freedom == 2 + SHRINKAGE
    assert alone.variance == pytest.approx(
        sum(each.change**2 - each.stderr**2 for each in quiet[:2]) / (2 + SHRINKAGE), rel=1e-9
    )
    both = noise_of(quiet, low)
    assert both.degrees_of_freedom == 4 + SHRINKAGE
    squares = 2 * (0.03**2 + 0.03**2) - 2 * fmean(each.stderr**2 for each in low)
    assert both.variance * (4 + SHRINKAGE) == pytest.approx(alone.variance * (2 + SHRINKAGE) + squares, rel=1e-9)


def test_a_step_that_stays_alike_tells_of_no_noise() -> None:
    assert noise_of([], changes(-5, -5, -5)).variance <= BEFORE**2


def test_no_alarm_is_raised_at_any_look_at_a_healthy_series_which_grows() -> None:
    found = [alarms(trajectory(seed, step(1)), alpha=0.05 / 3) for seed in range(SERIES)]
    assert sum(bool(looks) for looks in found) <= 1


def test_few_rows_leave_it_undecided() -> None:
    found = Counter(course.state for course in courses(step(7, by=0.03), rows=40, flips=0.3))
    assert found["undecided"] >= 0.9 * SERIES
    assert found["fell"] <= 1


def test_a_large_rise_is_no_fault() -> None:
    assert {course.state for course in courses(step(7, level=0.3, by=-0.3))} == {"healthy"}


def test_a_fall_that_came_back_is_a_dip() -> None:
    means = step(1)
    means[3:5] = [0.3, 0.3]
    for seed in range(5):
        course = follow(trajectory(seed, means))
        assert (course.state, course.first) == ("healthy", None)
        assert course.dips == (Dip(first=3, back=5),)
        assert alarms(trajectory(seed, means)) == [3, 4]


def test_a_fall_that_has_stayed_is_found_behind_one_that_came_back() -> None:
    means = step(8, by=0.3)
    means[3] = 0.3
    course = follow(trajectory(0, means))
    assert (course.state, course.first, course.dips) == ("fell", 7, (Dip(first=3, back=4),))


def test_a_fall_of_less_than_a_point_is_none_however_many_rows_there_are() -> None:
    values = np.zeros((3, 1, 200_000))
    values[:, :, :100_000] = 1
    values[1:, :, :1600] = 0  # 0.8 points
    course = follow(Trajectory(values=[values], clusters=[np.arange(200_000)]))
    assert course.state == "healthy"


def test_one_passage_says_nothing_of_others() -> None:
    values = np.ones((4, 1, 100))
    values[2:] = 0
    course = follow(Trajectory(values=[values], clusters=[np.zeros(100, np.int64)]))
    assert course.state == "undecided"


def test_a_series_of_one_checkpoint_is_healthy() -> None:
    assert follow(trajectory(0, [0.5])) == Course(state="healthy", reference=0)
