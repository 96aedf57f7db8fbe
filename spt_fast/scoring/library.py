"""Answers to a task of another library: our verdicts on form and options, with that library's own scores put in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from spt_fast.scoring.metrics import aggregate
from spt_fast.scoring.statistics import wilson
from spt_fast.tasks.library import Verdict
from spt_fast.types import Metric, Sample


def with_verdicts(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
    """Samples with a library's verdicts: its scores; of open-ended tasks what it found, and whether that is right.

    Knowledge is that any of its rules finds a right answer, exact match that the first does and the form is there too.
    """
    return tuple(_with(sample, verdict) for sample, verdict in zip(samples, verdicts, strict=True))


def with_metrics(samples: Sequence[Sample], own: Sequence[Metric]) -> tuple[Metric, ...]:
    """Our metrics of samples, and a library's own, which go before ours of the same name."""
    names = {metric.name for metric in own}
    return (*(metric for metric in aggregate(samples) if metric.name not in names), *(_within(each, samples) for each in own))


def _within(metric: Metric, samples: Sequence[Sample]) -> Metric:
    """A library's metric with an interval that stays in 0 to 1, where it is the mean of scores that do.

    Of verdicts it is Wilson's, as ours have it. Value and standard error are the library's own.
    """
    scores = [sample.scores[metric.name] for sample in samples if metric.name in sample.scores]
    if not scores or len(scores) != metric.n or not math.isclose(sum(scores) / len(scores), metric.value, abs_tol=1e-9):
        return metric
    if set(scores) <= {0.0, 1.0}:
        low, high = wilson(sum(scores), len(scores))
        return replace(metric, ci_low=low, ci_high=high)
    return replace(metric, ci_low=max(0.0, metric.ci_low), ci_high=min(1.0, metric.ci_high))


def _with(sample: Sample, verdict: Verdict) -> Sample:
    if sample.options:
        return replace(sample, scores=verdict.scores)
    return replace(
        sample,
        scores=verdict.scores,
        extracted=verdict.extracted,
        rule=verdict.rule,
        knows=verdict.knows,
        correct=sample.format_ok and verdict.correct,
    )
