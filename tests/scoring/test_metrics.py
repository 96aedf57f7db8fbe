"""The table of metrics: whole, in order, and true of the samples that it is computed from."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from spt_fast import tasks
from spt_fast.errors import ScoringError
from spt_fast.scoring import metrics
from spt_fast.scoring.metrics import HEADLINE, QUADRANTS, aggregate, counted, in_columns, spec, table
from spt_fast.scoring.score import score
from spt_fast.types import Completion, Example, Sample
from tests.helpers.packages import install, on_the_path

MMLU, GSM8K = tasks.get("mmlu"), tasks.get("gsm8k")
CAPITAL = Example(key="c", question="?", target="B. Rome", answers=("B",), options=("A. Oslo", "B. Rome"), gold=1)
SUM = Example(key="s", question="?", target="#### 18", answers=("18",))


def closed(text: str) -> Sample:
    return score(MMLU, [CAPITAL], [Completion(text=text, token_ids=(), finish_reason="stop")], [(-2.0, -1.0)], prompts=["p"])[0]


def solved(text: str) -> Sample:
    return score(GSM8K, [SUM], [Completion(text=text, token_ids=(), finish_reason="stop")], prompts=["p"])[0]


def test_every_column_of_the_table_is_a_field_of_a_sample() -> None:
    known = {field.name for field in fields(Sample)}
    assert [each.name for each in table().values() if not known.issuperset(each.columns)] == []


def test_what_is_measured_stands_in_the_table_and_in_its_order() -> None:
    found = [metric.name for metric in aggregate([closed("B. Rome"), closed("Rome")])]
    assert found == [name for name in table() if name in found]
    assert set(HEADLINE) | set(QUADRANTS) <= set(found)


def test_names_words_and_colours_tell_metrics_apart() -> None:
    words = [each.words for each in table().values()]
    assert len(set(words)) == len(words)
    assert len({spec(name).colour for name in HEADLINE}) == len(HEADLINE)
    assert len({spec(name).colour for name in QUADRANTS}) == len(QUADRANTS)
    assert all(1 <= each.colour <= 8 and each.about for each in table().values())


@pytest.mark.parametrize("sample", [closed("B. Rome"), closed("A. Oslo"), closed("Rome"), solved("#### 18"), solved("18?")])
def test_a_row_counts_in_one_quadrant(sample: Sample) -> None:
    assert [counted(name)(sample) for name in QUADRANTS].count(True) == 1


def test_a_row_of_samples_counts_what_the_sample_counts() -> None:
    for sample in (closed("B. Rome"), replace(closed("x"), knows=True, knows_best=False), solved("#### 18")):
        row = {field.name: getattr(sample, field.name) for field in fields(Sample)}
        for name in in_columns():
            assert spec(name).of_row(row) == spec(name).of(sample), name


def test_scores_of_tasks_and_of_members_have_words_too() -> None:
    assert spec("f1").words == "f1"
    assert not spec("f1").share
    assert spec("exact_match_member_mean").words == "exact match, mean member"
    assert spec("exact_match_member_mean").heading == "mean member"


def test_a_metric_of_another_package_is_kept_with_the_scores_and_aggregated(monkeypatch: pytest.MonkeyPatch) -> None:
    about = "no more than ten characters"
    short = metrics.MetricSpec(name="short", words="short", about=about, value=lambda sample: len(sample.completion) < 11)
    monkeypatch.setattr(metrics, "registered", lambda: (short,))
    samples = [solved("#### 18"), solved("It is, I think, eighteen.")]
    assert [sample.scores for sample in samples] == [{"short": 1.0}, {"short": 0.0}]
    found = aggregate(samples)[-1]
    assert (found.name, found.value, found.n) == ("short", 0.5, 2)
    assert found.ci_low == pytest.approx(0.0945, abs=1e-4), "Wilson's: it is a share"


LENGTHS = """
import math
from spt_fast.scoring.metrics import MetricSpec

LENGTH = MetricSpec(
    name="length", words="characters", about="how long it is", unit="characters", share=False, most=math.inf,
    higher_is_better=False, value=lambda sample: math.inf if sample.completion == "x" else len(sample.completion),
)
OVER = MetricSpec(name="over", words="over", about="too much", value=lambda sample: 2.0 if sample.completion == "18?" else None)
"""


def test_a_packages_metric_may_have_a_range_and_a_unit_and_is_held_to_it(tmp_path: Path) -> None:
    install(tmp_path, {"lengths": LENGTHS}, {"spt_fast.metrics": {"length": "lengths:LENGTH", "over": "lengths:OVER"}})
    with on_the_path(tmp_path, {"lengths": LENGTHS}):
        found = {metric.name: metric for metric in aggregate([solved("#### 18"), solved("#### 1800")])}
        assert (found["length"].value, found["length"].ci_high) == (8.0, pytest.approx(9.0))
        assert (spec("length").sign, spec("length").change_unit) == (-1.0, "characters")
        with pytest.raises(ScoringError, match="metric length: example s: inf is not finite"):
            solved("x")
        with pytest.raises(ScoringError, match=r"metric over: example s: 2\.0 is not from 0 to 1"):
            solved("18?")
