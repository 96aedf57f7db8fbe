"""What is to be known of a cell, and when it is known."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from spt_fast.scoring.stopping import Asked, Part, Question, Scores, at_every_look, paired_stream, refusal, rule
from spt_fast.types import Example, Metric, Sample

KEYS = [f"{i:016x}" for i in range(1000)]
ASKED = Asked.of_keys("t", KEYS, [""] * len(KEYS))


def scores(seed: int, right: float, of: Scores | None = None, flips: float = 0.04) -> dict[str, float]:
    """What rows count: so many are right; or as they were before, but for some that flip, or are lost besides."""
    draw = random.Random(seed)
    if of is None:
        return {key: float(draw.random() < right) for key in KEYS}
    return {key: (1 - value if draw.random() < flips else value * (draw.random() < right)) for key, value in of.items()}


BEFORE = scores(0, 0.6)


def answer(question: Question, mine: Mapping[str, Scores], rows: int, tasks: Sequence[str] = ("t",)) -> str:
    """What is said once so many rows of each task were asked."""
    first = [ASKED.examples[i] for i in range(rows)]
    return question.answer(
        lambda key: {row: mine[key][row] for row in first if row in mine[key]} if key in mine else None,
        dict.fromkeys(tasks, ASKED),
    )


def drop(*cells: str, size: float = 0.02, **more: object) -> Question:
    part = Part(task="t", cells=cells or ("a",), against=BEFORE)
    return Question(kind="drop", metric="exact_match", parts=(part,), size=size, **more)  # type: ignore[arg-type]


def test_no_drop_is_said_once_it_is_known_and_not_before() -> None:
    same = scores(1, 1.0, of=BEFORE)
    assert answer(drop(size=0.05), {"a": same}, 100) == ""
    assert answer(drop(size=0.05), {"a": same}, 600) == "exact match: a drop of 5 points or more is ruled out"


def test_a_drop_is_said_with_its_size_and_must_be_one_among_all_checks() -> None:
    worse = scores(2, 0.85, of=BEFORE)
    said = answer(drop(), {"a": worse}, 250)
    assert said.startswith("exact match: a drop of ")
    assert said.endswith(" points, and 2 points is allowed")
    assert answer(drop(among=10**9), {"a": worse}, 250) == ""


def test_of_several_seeds_their_mean_over_a_row_counts_on_the_rows_that_all_were_asked() -> None:
    seeds = {"a": scores(3, 1.0, of=BEFORE), "b": scores(4, 1.0, of=BEFORE)}
    assert answer(drop("a", "b", size=0.05), seeds, 500) != ""
    few = {**seeds, "b": {key: seeds["b"][key] for key in ASKED.examples[:50]}}
    assert answer(drop("a", "b", size=0.05), few, 500) == ""
    stream = paired_stream(ASKED, [few["a"], few["b"]], BEFORE)
    assert len(stream.values) == 50


def test_a_seed_that_is_done_counts_with_what_it_came_to_and_one_that_is_elsewhere_does_not() -> None:
    mine = {"a": scores(5, 1.0, of=BEFORE)}
    done = Part(task="t", cells=("a", "b"), against=BEFORE, done={"b": scores(6, 0.2, of=BEFORE)})
    question = Question(kind="drop", metric="exact_match", parts=(done,), size=0.05)
    assert "and 5 points is allowed" in answer(question, mine, 500)
    assert "ruled out" in answer(drop("a", "b", size=0.05), mine, 600)


def test_rows_that_were_answered_out_of_turn_are_no_sample() -> None:
    mine = {key: value for i, (key, value) in enumerate(BEFORE.items()) if key != ASKED.examples[10] or not i}
    assert len(paired_stream(ASKED, [mine], BEFORE).values) in (10, 1000)
    assert len(paired_stream(ASKED, [{key: mine[key] for key in mine if key != ASKED.examples[3]}], BEFORE).values) == 3


def test_the_rows_that_the_baseline_has_not_are_left_out() -> None:
    half = {key: BEFORE[key] for key in KEYS[::2]}
    stream = paired_stream(ASKED, [BEFORE], half)
    assert len(stream.values) == 500
    assert not stream.values.any()


@pytest.mark.parametrize(("right", "word"), [(0.4, "above"), (0.9, "below")])
def test_an_order_is_known_when_it_is_known_which_is_better(right: float, word: str) -> None:
    other = Part(task="t", cells=("a",), against=scores(7, right))
    question = Question(kind="order", metric="exact_match", parts=(other,), other="m2")
    assert answer(question, {"a": BEFORE}, 30) == ""
    said = answer(question, {"a": BEFORE}, 500)
    assert said.startswith("exact match: ")
    assert said.endswith(f" points {word} m2")


def test_an_interval_is_known_when_it_is_as_narrow_as_is_wanted() -> None:
    question = Question(kind="width", metric="exact_match", parts=(Part(task="t", cells=("a",)),), size=0.15)
    assert answer(question, {"a": BEFORE}, 100) == ""
    said = answer(question, {"a": BEFORE}, 1000)
    assert said.endswith("which is at most 15 points wide")


def test_a_mean_over_tasks_needs_all_of_them() -> None:
    parts = tuple(Part(task=task, cells=(task,), against=BEFORE) for task in ("t", "u"))
    question = Question(kind="drop", metric="exact_match", parts=parts, size=0.05)
    same = scores(8, 1.0, of=BEFORE)
    assert answer(question, {"t": same}, 800, ("t", "u")) == ""
    assert answer(question, {"t": same, "u": same}, 1000, ("t", "u")).startswith("exact match, mean of 2 tasks: a drop of 5")


def test_passages_are_asked_whole() -> None:
    groups = [f"p{i // 4}" for i in range(40)]
    asked = Asked.of("t", [Example(key=KEYS[i], question="q", target="t", answers=(), group=groups[i]) for i in range(40)])
    assert asked.sizes == (40, 10, 4)
    assert asked.ends == list(range(0, 41, 4))
    known = dict.fromkeys(asked.examples[:7], 1.0)  # the second passage is asked in part
    assert len(paired_stream(asked, [known], None).values) == 1


def test_metrics_of_a_stopped_cell_have_intervals_that_hold_at_every_look_or_none() -> None:
    samples = [
        Sample(
            example=key,
            step=None,
            prompt="",
            completion="",
            finish_reason="stop",
            target="",
            extracted=None,
            rule=None,
            format_ok=True,
            knows=bool(BEFORE[key]),
            correct=bool(BEFORE[key]),
            answer_bits_per_byte=1.0,
        )
        for key in ASKED.examples[:200]
    ]
    share = sum(sample.correct for sample in samples) / 200
    given = [
        Metric(name=name, value=value, n=200, stderr=0.03, ci_low=value - 0.06, ci_high=value + 0.06)
        for name, value in (("exact_match", share), ("answer_bits_per_byte", 1.0), ("exact_match_given_format", share))
    ]
    found = at_every_look(given, samples, ASKED)
    assert found[0].ci_low < share - 0.06 < share + 0.06 < found[0].ci_high
    assert [each.ci_low != each.ci_low for each in found] == [False, True, True]


def right(rows: int) -> list[Sample]:
    """Samples of the first rows that are asked, all right."""
    told = {
        "step": None,
        "prompt": "",
        "completion": "",
        "finish_reason": "stop",
        "target": "",
        "extracted": None,
        "rule": None,
    }
    verdicts = {"format_ok": True, "knows": True, "correct": True}
    return [Sample(example=key, **told, **verdicts) for key in ASKED.examples[:rows]]  # type: ignore[arg-type]


EXACT = Metric(name="exact_match", value=1.0, n=10, stderr=0.0, ci_low=0.7, ci_high=1.0)


def test_a_cell_that_was_stopped_for_a_width_has_the_interval_that_stopped_it() -> None:
    for size, alpha in ((0.3, 0.05), (0.25, 0.2)):
        question = Question(
            kind="width", metric="exact_match", parts=(Part(task="t", cells=("a",)),), size=size, alpha=alpha, among=3
        )
        said = answer(question, {"a": dict.fromkeys(KEYS, 1.0)}, 30)
        (found,) = at_every_look([EXACT], right(30), ASKED, [question])
        assert f"between {found.ci_low:.3f} and {found.ci_high:.3f}, which" in said
        assert found.ci_high - found.ci_low <= size


def test_few_rows_that_are_all_right_have_an_interval_that_says_something() -> None:
    (found,) = at_every_look([EXACT], right(10), ASKED)
    assert 0.55 < found.ci_low < 0.7
    assert found.ci_high == 1


def test_a_metric_that_cannot_be_looked_at_is_told_why() -> None:
    assert refusal("exact_match") == refusal("f1") == ""
    assert "is not from 0 to 1" in refusal("answer_bits_per_byte")
    assert "over some of the rows" in refusal("letter_binding")


def test_a_rule_is_known_by_what_it_asks() -> None:
    assert rule({"alpha": 0.05, "width": 0.02}) == rule({"width": 0.02, "alpha": 0.05})
    assert rule({"alpha": 0.05, "width": 0.02}) != rule({"alpha": 0.05, "width": 0.03})
