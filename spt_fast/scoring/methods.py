"""The methods by which knowledge is scored where the answer is one of several options, and which of them a model can do.

A small base model may know that Paris is the capital of France and still not find the letter in front of "Paris" in a list:
gemma-3-270m chooses the right option of ARC-easy in 0.27 of the rows by the listed options, and in 0.53 by cloze. So one number
cannot say what a model knows. Five can, each blind to something:

    method          metric                    chooses the option that is
    listed          knowledge                 the likeliest of "A. Rome", "B. Paris", ... behind the prompt that lists them
    debiased        knowledge_debiased        the same, less what its place in the list has by itself: its mean log-softmax over
                                              the options of tuning rows
    cloze           knowledge_cloze           the likeliest of "Rome", "Paris", ... behind the question alone
    cloze_per_byte  knowledge_cloze_per_byte  the same, divided by the bytes of the text
    cloze_pmi       knowledge_cloze_pmi       made likeliest by the question: log p(text | question) - log p(text | "Answer:")

What each is blind to. Listed: what a model knows that binds no letters to texts. Debiased: the same; it undoes only that a
letter is written whatever is asked. Cloze: long texts, which are never likely, and answers that need the others ("all of
these"). Per byte: short texts, a little. PMI: a text that is rare by itself gains by noise. So none is the truth: a model knows
at least what one of them shows.

* Cloze is what lm-evaluation-harness (0.4.13) does for arc_easy, piqa and others: `acc` is its sum, `acc_bytes` is per byte,
  and `acc_norm` per character, which is the same where texts are ASCII.
* The unconditional likelihood behind the bare cue is that of Brown et al. 2020 (arXiv 2005.14165, section 2.4), "pmi" in OLMES
  (arXiv 2406.08446).
* What a place has by itself is the prior of PriDe (Zheng et al., arXiv 2309.03882), and of contextual and batch calibration
  (Zhao et al., arXiv 2102.09690; Zhou et al., arXiv 2309.17249), estimated on tuning rows; right options are not looked at.
* `knowledge_best` is the method that is right most often on tuning rows (`Choice`), never on test rows. OLMES takes the better
  of two for each model and task in the same sense.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from spt_fast.scoring.statistics import Z_95
from spt_fast.types import Metric, Sample

Method: TypeAlias = Literal["listed", "debiased", "cloze", "cloze_per_byte", "cloze_pmi"]
METHODS: Mapping[Method, str] = {
    "listed": "knowledge",
    "debiased": "knowledge_debiased",
    "cloze": "knowledge_cloze",
    "cloze_per_byte": "knowledge_cloze_per_byte",
    "cloze_pmi": "knowledge_cloze_pmi",
}
"""Method -> the metric that it is. Of methods that are equally good on tuning rows the first is taken."""
LISTED: tuple[Method, ...] = ("listed", "debiased")
CLOZE: tuple[Method, ...] = ("cloze", "cloze_per_byte", "cloze_pmi")

Ability: TypeAlias = Literal["both", "cloze only", "listed only", "neither"]

LEAST_FOR_PRIORS = 8
"""Rows below which what a place has by itself is not estimated."""
_Z_OF_MEMBERS = {1: 1.959964, 2: 2.241403, 3: 2.393980}
"""Two-sided normal quantiles for 95 % over one, two and three intervals together (Bonferroni)."""


@dataclass(frozen=True, kw_only=True)
class OptionScores:
    """The log-likelihoods of one row's options: what all methods choose by. `K` options, natural logarithms."""

    listed: tuple[float, ...]
    """`[K]` behind the prompt that lists them."""
    priors: tuple[float, ...] = ()
    """`[K]` what each place has by itself (`Priors`); empty: not known."""
    texts: tuple[str, ...] = ()
    """`[K]` what cloze scores."""
    cloze: tuple[float, ...] = ()
    """`[K]` behind the question alone; empty: not asked."""
    unconditional: tuple[float, ...] = ()
    """`[K]` behind the bare cue; empty: not asked."""
    written: tuple[str, ...] = ()
    """`[K]` what `listed` is of, where that is not the options: another library's continuations; empty: the options."""

    def by(self, method: Method) -> list[float] | None:
        """What is compared, `[K]`; None where the method was not asked."""
        if method == "listed":
            return list(self.listed)
        if method == "debiased":
            return [value - prior for value, prior in zip(self.listed, self.priors, strict=True)] if self.priors else None
        if not self.cloze:
            return None
        if method == "cloze":
            return list(self.cloze)
        if method == "cloze_per_byte":
            return [value / max(1, len(text.encode())) for value, text in zip(self.cloze, self.texts, strict=True)]
        return [_less(a, b) for a, b in zip(self.cloze, self.unconditional, strict=True)] if self.unconditional else None

    def chosen(self, method: Method) -> int | None:
        """The option that a method chooses, of equal ones the first; None where the method was not asked."""
        values = self.by(method)
        return None if values is None else first_best(values)


def first_best(values: Sequence[float]) -> int:
    """The index of the largest, of equal ones the first."""
    return max(range(len(values)), key=values.__getitem__)


def _less(a: float, b: float) -> float:
    """a - b of log-likelihoods, one of which may be -inf: what the question rules out is not chosen."""
    return a if a == -math.inf else a - b


class Priors:
    """What each place in a list of options has by itself: its mean log-softmax over rows, whatever the options are."""

    def __init__(self, listed: Iterable[Sequence[float]]) -> None:
        """`listed`: a row's log-likelihoods `[K]` each; `K` may differ."""
        self._rows = [tuple(row) for row in listed if all(map(math.isfinite, row))]
        self._known: dict[int, tuple[float, ...]] = {}

    def of(self, k: int) -> tuple[float, ...]:
        """For a list of `k` options, `[k]`: from the rows that have as many or more, of which the first `k` count.

        Nought, where these are fewer than `LEAST_FOR_PRIORS`; empty, where all rows together are.
        """
        if len(self._rows) < LEAST_FOR_PRIORS:
            return ()
        if k not in self._known:
            rows = [_log_softmax(row[:k]) for row in self._rows if len(row) >= k]
            enough = len(rows) >= LEAST_FOR_PRIORS
            self._known[k] = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True)) if enough else (0.0,) * k
        return self._known[k]


def _log_softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    total = top + math.log(sum(math.exp(value - top) for value in values))
    return [value - total for value in values]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The method that `knowledge_best` goes, and what it was chosen by."""

    method: Method = "listed"
    shares: Mapping[Method, float] = field(default_factory=dict)
    """Method -> the share of rows that it is right in; empty: there were none to choose by."""
    rows: int = 0
    """Tuning rows that it was chosen by."""
    learnt: int = 0
    """Those of them that the vectors have learnt on: none, where there are others."""

    def told(self) -> dict[str, str]:
        """For the provenance of a cell."""
        shares = {method: round(share, 4) for method, share in self.shares.items()}
        return {
            "knowledge_best": self.method,
            "knowledge_best_rows": f"{self.rows}, {self.learnt} of them learnt on" if self.learnt else str(self.rows),
            "knowledge_best_shares": json.dumps(shares),
        }


def choose(scores: Sequence[OptionScores], golds: Sequence[int | None], *, learnt: int = 0) -> Choice:
    """The method that is right most often in rows whose answers may be looked at: tuning rows.

    A method counts if all rows have it. Of equal ones the first of `METHODS`.

    Args:
        scores: of `N` rows.
        golds: `[N]` the right option.
        learnt: rows of these that vectors have learnt on.
    """
    shares: dict[Method, float] = {}
    for method in METHODS if scores else ():
        chosen = [each.chosen(method) for each in scores]
        if None not in chosen:
            shares[method] = sum(a == b for a, b in zip(chosen, golds, strict=True)) / len(scores)
    best: Method = max(shares, key=shares.__getitem__, default="listed")
    return Choice(method=best, shares=shares, rows=len(scores), learnt=learnt)


def commonest(methods: Sequence[Method]) -> Method:
    """The method that most members of an ensemble go; of equal ones the first of `METHODS`."""
    count = Counter(methods)
    return max(METHODS, key=lambda method: count[method])


def guess(samples: Sequence[Sample], random_baseline: float) -> float:
    """What a model comes to that knows nothing.

    That of the task (NaN: one in the number of each row's options); or, where all rows have the same options ("no", "yes"), the
    share of the commonest right one if it is more: who always says yes is right in 62 % of BoolQ.
    """
    golds = Counter(sample.gold for sample in samples if sample.gold is not None)
    if math.isnan(random_baseline):
        random_baseline = sum(1 / len(sample.options) for sample in samples) / max(1, len(samples))
    if not golds or len({sample.cloze_texts or sample.options for sample in samples}) > 1:
        return random_baseline
    return max(random_baseline, max(golds.values()) / sum(golds.values()))


def ability(metrics: Iterable[Metric], baseline: float) -> Ability:
    """Which methods a model can do at all: by the listed options, by cloze, by both, or by neither.

    A kind counts if one of its methods is above guessing: the lower end of its 95 % interval, widened for the number of methods
    that were tried (Bonferroni), is above `baseline`.
    """
    by_name = {metric.name: metric for metric in metrics}
    listed, cloze = (_above([by_name.get(METHODS[method]) for method in methods], baseline) for methods in (LISTED, CLOZE))
    if listed and cloze:
        return "both"
    return "listed only" if listed else "cloze only" if cloze else "neither"


def _above(metrics: Sequence[Metric | None], baseline: float) -> bool:
    found = [metric for metric in metrics if metric is not None and not math.isnan(metric.value)]
    wider = _Z_OF_MEMBERS[len(found)] / Z_95 if found else 1.0
    return any(metric.value - wider * (metric.value - metric.ci_low) > baseline for metric in found)


def letters(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """How often each place in the list is chosen by the listed options, and how often it is right: shares, by letter.

    A model that writes one letter whatever is asked has a prior, not knowledge.
    """
    chosen = Counter(sample.chosen for sample in samples if sample.chosen is not None)
    right = Counter(sample.gold for sample in samples if sample.gold is not None)
    places = sorted({*chosen, *right})
    n = max(1, len(samples))
    return {"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place]: (chosen[place] / n, right[place] / n) for place in places}


def are_listed(samples: Sequence[Sample]) -> bool:
    """Whether prompts list the options that are scored behind them: those of most rows have the text of each.

    Another library may ask without: its "listed" likelihoods are then those of cloze.
    """
    found = [all(option.strip() in sample.prompt for option in sample.options) for sample in samples if sample.options]
    return 2 * sum(found) >= len(found)


def knowledge_told(
    samples: Sequence[Sample], metrics: Iterable[Metric], random_baseline: float, *, listed: bool = True
) -> dict[str, str]:
    """What is told of a closed-ended cell's knowledge at one step, for its provenance: what it can do, and its letters.

    Args:
        samples: of the step.
        metrics: of these.
        random_baseline: the task's, where its rows do not tell.
        listed: the prompt lists the options; else what it can do is by cloze, and there are no letters.
    """
    baseline = guess(samples, random_baseline)
    can = ability(metrics, baseline)
    told = {"knowledge_by": can, "knowledge_guess": f"{baseline:.4g}"}
    if not listed:
        return {**told, "knowledge_by": "cloze only" if can == "listed only" else can}
    shares = {letter: [round(share, 4) for share in pair] for letter, pair in letters(samples).items()}
    return {**told, "letters": json.dumps(shares)}
