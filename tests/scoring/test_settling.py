"""Updates until format following has settled: against its definition, worked out row by row, and by how often it is right."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from spt_fast.scoring.metrics import STEPS_TO_FORMAT, aggregate, spec
from spt_fast.scoring.settling import of_checks, of_samples, steps_to_format
from spt_fast.types import Sample


def sample(example: str, *, step: int | None = None, format_ok: bool = True) -> Sample:
    said = {"prompt": "", "completion": "", "target": "", "extracted": None, "rule": None}
    return Sample(example=example, step=step, finish_reason="stop", format_ok=format_ok, knows=True, correct=format_ok, **said)  # type: ignore[arg-type]


def curve_of(shares: dict[int, float], n: int, seed: int = 0) -> dict[int, list[bool]]:
    """Rows that get the form at some step and keep it, in these shares."""
    when = np.random.default_rng(seed).random(n)
    return {step: [bool(each < share) for each in when] for step, share in shares.items()}


def by_hand(verdicts: dict[int, list[bool]]) -> int:
    """The definition: SciPy's Wilson interval at the last step, and one step after the other from the end."""
    steps = sorted(verdicts)
    last = verdicts[steps[-1]]
    ends = stats.binomtest(sum(last), len(last)).proportion_ci(0.95, "wilson")
    settled = steps[-1]
    for step in steps[::-1]:
        share = sum(verdicts[step]) / len(last)
        if not ends.low - 1e-12 <= share <= ends.high + 1e-12:
            return settled
        settled = step
    return settled


def bootstrap_by_hand(verdicts: dict[int, list[bool]], clusters: list[list[int]], draws: int, seed: int) -> list[int]:
    dice, found = random.Random(seed), []
    for _ in range(draws):
        rows = [row for _ in clusters for row in dice.choice(clusters)]
        found.append(by_hand({step: [each[row] for row in rows] for step, each in verdicts.items()}))
    return sorted(found)


def test_the_interval_is_that_of_a_bootstrap_by_hand_over_rows() -> None:
    verdicts = curve_of({0: 0.2, 1: 0.45, 2: 0.66, 5: 0.71, 10: 0.78, 20: 0.8}, 80)
    found = steps_to_format(verdicts, [""] * 80)
    assert found is not None
    assert (found.name, found.n, found.value) == (STEPS_TO_FORMAT, 80, by_hand(verdicts))
    drawn = bootstrap_by_hand(verdicts, [[i] for i in range(80)], 1000, 3)
    assert (found.ci_low, found.ci_high) == (drawn[25], drawn[-26])
    assert found.ci_low < found.ci_high
    assert found.stderr == pytest.approx(np.std(drawn, ddof=1), rel=0.2)


def test_rows_that_share_a_passage_make_it_less_sure() -> None:
    """Ten passages of eight rows that all get the form together: there are ten answers, and not eighty."""
    few = curve_of({0: 0.0, 1: 0.3, 2: 0.5, 5: 0.7, 10: 0.9, 20: 1.0}, 10, seed=1)
    verdicts = {step: [each for each in rows for _ in range(8)] for step, rows in few.items()}
    groups = [f"passage {i // 8}" for i in range(80)]
    together, apart = steps_to_format(verdicts, groups), steps_to_format(verdicts, [""] * 80)
    assert together is not None
    assert apart is not None
    assert together.value <= apart.value
    assert together.ci_low < apart.ci_low or together.value < apart.value
    alone = steps_to_format({step: rows * 1 for step, rows in verdicts.items()}, ["one passage"] * 80)
    assert alone is not None
    assert (alone.ci_low, alone.ci_high) == (0, 20)
    assert math.isnan(alone.stderr)


@pytest.mark.parametrize(
    ("shares", "value"),
    [
        ({0: 0.9, 10: 0.9}, 0),  # it follows the form from the start
        ({0: 0.0, 10: 1.0}, 10),
        ({0: 0.0, 5: 1.0, 10: 1.0}, 5),
        ({0: 1.0, 5: 0.2, 10: 1.0}, 10),  # what comes and goes has not settled
        ({0: 0.0, 5: 0.0, 10: 0.0}, 0),  # and what never comes has been where it ends from the start
    ],
)
def test_it_is_the_first_step_from_which_on_all_lie_within_the_last_interval(shares: dict[int, float], value: int) -> None:
    found = steps_to_format(curve_of(shares, 50), [""] * 50)
    assert found is not None
    assert found.value == value
    assert found.ci_low <= value <= found.ci_high


def test_of_one_step_or_no_row_there_is_none() -> None:
    assert steps_to_format({80: [True]}, [""]) is None
    assert steps_to_format({0: [], 80: []}, []) is None
    assert of_samples([], {}) is None
    assert of_samples([sample("a")], {}) is None
    for told in ("", "[]", '{"x": "01"}', '{"80": "01"}', "{"):
        assert of_checks(told) is None


def test_the_interval_holds_the_answer_of_all_rows_about_as_often_as_it_says() -> None:
    shares = {0: 0.1, 1: 0.3, 2: 0.5, 5: 0.74, 10: 0.86, 20: 0.9, 40: 0.9}
    nights = [steps_to_format(curve_of(shares, 60, seed=seed), [""] * 60) for seed in range(200)]
    usual = stats.mode([night.value for night in nights if night]).mode
    held = [night.ci_low <= usual <= night.ci_high for night in nights if night]
    assert len(held) == 200
    assert np.mean(held) >= 0.95


def test_a_training_that_stopped_early_has_the_updates_that_it_took() -> None:
    rows = [sample(f"{i}", step=step, format_ok=step > 0) for step in (0, 80) for i in range(9)]
    found = of_samples(rows, {"steps_taken": 30.0})
    assert found is not None
    assert (found.value, found.n) == (30, 9)
    assert of_checks('{"0": "000000000", "30": "111111111"}') == found
    known = spec(STEPS_TO_FORMAT)
    assert not known.higher_is_better
    assert known.unit == "updates"
    assert STEPS_TO_FORMAT not in {metric.name for metric in aggregate(rows)}


def test_many_clusters_are_drawn_in_bundles() -> None:
    verdicts = curve_of({0: 0.2, 5: 0.79, 10: 0.8}, 25_000)
    found = steps_to_format(verdicts, [""] * 25_000)
    assert found is not None
    assert found.value == by_hand(verdicts)
