"""Scores of a task of lm-eval: its own filters, `process_results`, metrics and aggregation."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import stdev
from typing import Any

from spt_fast.errors import ScoringError, boundary
from spt_fast.tasks.library import Answered, Verdict
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.known import Known
from spt_fast.types import Example, Metric

PREFIX = "lm_eval/"
"""Of the names of its metrics among ours: lm_eval/acc, lm_eval/exact_match/strict-match (behind it, the filter)."""
DRAWS = 100
"""Of the bootstrap, where a metric is no mean; `lm_eval` takes as many for bleu and chrf."""
Z_95 = 1.959964
FIRST = ("exact_match", "em", "acc", "score")
"""What says whether an open-ended answer is right, where a task has several metrics: the first of these, or the first."""


def judge(task: Known, ready: door.Ready, answers: Sequence[Answered]) -> tuple[list[Verdict], tuple[Metric, ...]]:
    """A verdict on each answer, and the metrics over all of them.

    Raises:
        ScoringError: its own code fails on an answer.
    """
    order = sorted(range(len(answers)), key=lambda i: answers[i].example.place)
    docs = [_doc(answers[i].example) for i in order]
    # What its libraries warn of (a draw of one class alone) is in the numbers.
    with boundary(ScoringError, f"lm-eval:{task.name}: its own scoring fails"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ready.results(docs, [_answer(ready, answers[i]) for i in order])
        metrics = tuple(_metrics(ready, found))
    by_row: list[Verdict] = [Verdict()] * len(answers)
    for place, i in enumerate(order):
        of_row = {name: rows[place] for name, rows in found.items()}
        by_row[i] = _verdict(ready, answers[i].example, of_row)
    return by_row, metrics


def _answer(ready: door.Ready, answered: Answered) -> list[Any]:
    """As its own models give it: a text, or log-likelihoods with whether they are greedy."""
    return [answered.completion] if ready.output_type == "generate_until" else [*answered.options, *answered.beside]


def _verdict(ready: door.Ready, example: Example, of_row: Mapping[str, tuple[dict[str, Any], list[Any]]]) -> Verdict:
    scores: dict[str, float] = {}
    right = []
    for name, (metrics, _) in of_row.items():
        numbers = {metric: float(value) for metric, value in metrics.items() if _is_number(value)}
        scores |= {_named(metric, name): value for metric, value in numbers.items() if 0 <= value <= 1}
        first = next((each for each in FIRST if each in numbers), next(iter(numbers), None))
        right.append(first is not None and numbers[first] >= 1 and ready.higher_is_better(first))
    if ready.output_type != "generate_until":
        return Verdict(scores=scores, knows=any(right), correct=bool(right and right[0]))
    name, (_, filtered) = next(iter(of_row.items()))
    value = filtered[0] if isinstance(filtered[0], str) else None
    if not any(_is_number(each) for metrics, _ in of_row.values() for each in metrics.values()):
        right = [value is not None and value.strip() in example.answers]
    missing = value is None or value == "[invalid]" or not value.strip()
    return Verdict(
        scores=scores,
        extracted=None if missing else value,
        rule=None if missing else name,
        knows=any(right),
        correct=bool(right and right[0]),
    )


def _metrics(ready: door.Ready, found: Mapping[str, Sequence[tuple[dict[str, Any], list[Any]]]]) -> list[Metric]:
    metrics = []
    for name, rows in found.items():
        for metric in dict.fromkeys(metric for own, _ in rows for metric in own):
            items = [own[metric] for own, _ in rows if metric in own]
            if (one := _metric(ready, metric, _named(metric, name), items)) is not None:
                metrics.append(one)
    return metrics


def _metric(ready: door.Ready, metric: str, name: str, items: Sequence[Any]) -> Metric | None:
    aggregated = ready.aggregated(metric)
    value = aggregated(items)
    if not _is_number(value, finite=False):
        return None
    error = _error(aggregated, items, mean=ready.is_mean(metric))
    return Metric(
        name=name,
        value=float(value),
        n=len(items),
        stderr=error,
        ci_low=float(value) - Z_95 * error,
        ci_high=float(value) + Z_95 * error,
    )


def _error(aggregated: Callable[[Sequence[Any]], Any], items: Sequence[Any], *, mean: bool) -> float:
    """Standard error: of a mean its own, of other metrics that of a bootstrap over rows; NaN for one row."""
    if len(items) < 2:
        return math.nan
    if mean:
        return stdev(map(float, items)) / math.sqrt(len(items))
    drawn = random.Random(0)
    try:
        found = [float(aggregated(drawn.choices(items, k=len(items)))) for _ in range(DRAWS)]
    except Exception:  # a draw of one class alone is more than some can do with
        return math.nan
    return stdev(found) if all(map(math.isfinite, found)) else math.nan


def _named(metric: str, filter_name: str) -> str:
    return f"{PREFIX}{metric}" if filter_name == "none" else f"{PREFIX}{metric}/{filter_name}"


def _is_number(value: Any, *, finite: bool = True) -> bool:
    if isinstance(value, str | bytes | list | tuple | dict) or value is None:
        return False
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return math.isfinite(number) or not finite


def _doc(example: Example) -> door.Doc:
    assert example.row is not None
    return example.row
