"""What is said of cells that were stopped, or looked at, holds at every look."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from spt_fast.analysis.compare_types import Compared, Comparison, Pair
from spt_fast.analysis.gate import Check, Gate, Policy, decide
from spt_fast.analysis.paired import PairedDifference, paired_difference
from spt_fast.analysis.watched import END, WatchedDifference, together
from spt_fast.scoring.sequential import LOOKS, Change, Walk, of_rows


def difference(
    lost: int, gained: int, rows: int, *, of: int | None = None, watched: bool = True, seed: int = 0
) -> WatchedDifference:
    """Of rows of which some were lost and some gained, in a random order; `of`: those that there are."""
    change = np.array([-1.0] * lost + [1.0] * gained + [0.0] * (rows - lost - gained))
    np.random.default_rng(seed).shuffle(change)
    before = np.where(change < 0, 1.0, 0.0)
    fixed = paired_difference(before, before + change, resamples=0)
    keys = [str(i) for i in range(rows)]
    stream = of_rows(-change, keys, rows=of or rows, in_all=of or rows, largest=1, paired=True)
    kept = {each.name: getattr(fixed, each.name) for each in fields(PairedDifference)}
    return WatchedDifference(**kept, stream=stream, watched=watched, whole=of is None)


def gate(*parts: PairedDifference, largest: float = 0.02, over: str = "each") -> Gate:
    comparisons = tuple(
        Comparison(pair=Pair(f"t{i}", "m", "m", "zero_shot", "zero_shot"), metric="exact_match", difference=part)
        for i, part in enumerate(parts)
    )
    compared = Compared(a="a", b="b", alpha=0.05, comparisons=comparisons, skipped=(), notes=())
    return decide(compared, Policy(checks=(Check(largest_drop=largest, over=over),)))  # type: ignore[arg-type]


def test_what_was_not_looked_at_is_as_it_always_was() -> None:
    plain = difference(30, 20, 1000, watched=False)
    assert plain.limits(0.9) == plain.fixed.limits(0.9)
    assert (plain.p, plain.p_drop) == (plain.fixed.p, plain.fixed.p_drop)
    assert gate(plain).findings == gate(plain.fixed).findings


def test_a_stopped_cell_has_no_bound_of_a_fixed_number_of_rows() -> None:
    stopped = difference(12, 12, 800, of=5000)
    bounds, fixed = stopped.limits(0.9), stopped.fixed.limits(0.9)
    assert bounds.high - bounds.low > fixed.high - fixed.low
    drop = Change(walk=Walk([stopped.stream])).limits(1 - LOOKS * 0.1)
    assert (bounds.low, bounds.high) == pytest.approx((-drop[1], -drop[0]))
    worse = difference(40, 5, 800, of=5000)
    assert worse.fixed.p < worse.p < 0.05
    assert worse.p_drop < 0.05
    assert worse.reversed().p_drop > 0.5


def test_where_all_rows_were_asked_the_better_of_both_counts_at_its_share_of_alpha() -> None:
    looked, stopped = difference(12, 12, 800), difference(12, 12, 800, of=5000)
    assert looked.p_drop <= stopped.p_drop
    assert looked.limits(0.9).high <= stopped.limits(0.9).high
    assert looked.limits(0.9).high > looked.fixed.limits(0.9).high, "it has but a part of alpha"
    assert together(0.03, None) == 0.03 / LOOKS
    assert together(0.03, 0.001) == 0.001 / END
    assert together(0.9, 0.9) == 1.0


def test_before_and_after_exchanged_are_a_rise_for_a_drop() -> None:
    worse = difference(40, 5, 800, of=5000)
    better = worse.reversed()
    assert better.change == -worse.change
    assert better.p == pytest.approx(worse.p)
    assert (better.limits(0.9).low, better.limits(0.9).high) == pytest.approx(
        (-worse.limits(0.9).high, -worse.limits(0.9).low), abs=1e-6
    )


@pytest.mark.parametrize(
    ("lost", "gained", "rows", "verdict"), [(8, 8, 900, "pass"), (40, 4, 500, "fail"), (4, 4, 200, "undecided")]
)
def test_the_gate_of_a_stopped_cell(lost: int, gained: int, rows: int, verdict: str) -> None:
    answer = gate(difference(lost, gained, rows, of=5000))
    assert answer.verdict == verdict
    (finding,) = answer.findings
    assert finding.rows == rows
    assert (finding.bounds.high < 0.02) == (verdict == "pass")


def test_a_drop_that_is_likely_more_than_is_allowed_but_not_surely_is_no_fail_at_a_look() -> None:
    """Of a fixed number of rows the estimate is enough; looked at again and again, it would be beyond sooner or later."""
    near = difference(24, 4, 900, of=5000)  # 2.2 points
    assert near.fixed.p_drop < 0.01
    assert gate(near.fixed).verdict == "fail"
    assert gate(near).verdict == "undecided"


def test_a_mean_over_tasks_of_which_one_was_looked_at_holds_at_every_look() -> None:
    parts = [difference(3, 3, 300, seed=1), difference(3, 3, 300, watched=False, seed=2)]
    (finding,) = gate(*parts, over="mean").findings
    (fixed,) = gate(*(part.fixed for part in parts), over="mean").findings
    assert finding.task == fixed.task == "mean of 2 tasks"
    assert finding.drop == fixed.drop
    assert finding.bounds.high > fixed.bounds.high
    whole = [replace(part, whole=False) for part in parts]
    assert gate(*whole, over="mean").findings[0].bounds.high >= finding.bounds.high
