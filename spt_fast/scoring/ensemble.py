"""Several soft prompts of a task answer together: how they vote, and what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from spt_fast.errors import ScoringError, boundary
from spt_fast.scoring.likelihood import GoldScores
from spt_fast.scoring.methods import Method, OptionScores
from spt_fast.scoring.metrics import OF_MEMBERS, aggregate, counted
from spt_fast.scoring.score import choices
from spt_fast.scoring.statistics import mean, proportion
from spt_fast.tasks.answers.thoughts import answer_of
from spt_fast.tasks.base import Task
from spt_fast.types import Example, Metric, Sample


def majority_vote(task: Task, example: Example, ballots: Sequence[Sample], best: Method = "listed") -> Sample:
    """The answer of an ensemble to one example (Lester et al., arXiv 2104.08691, section 6: majority voting).

    * What was written: each member votes for the value that its completion gives, closed-ended for the option that it is;
      members whose completion gives none abstain. Values that the task takes for the same are one candidate. Of equal votes
      the candidate of the lowest member wins. Did all abstain, completions are voted on as they stand.
    * How it was written: the form is that which most of the winner's members have (equal: the lowest member's), and the
      completion that of the lowest of these members. Format following and exact match are verdicts on that completion.
    * Options: their log-likelihoods are means over the members, and knowledge is judged by those, by all methods. So are those
      of gold answers.

    Args:
        task: whose rules say which values are the same.
        example: that was asked.
        ballots: the members' samples of it at one step, in the order of the members; at least one.
        best: the method of `knows_best`.

    Raises:
        ScoringError: the task's rules fail on a value.
    """
    values = [_value(task, ballot) for ballot in ballots]
    with boundary(ScoringError, f"{task.name}: the answers to example {example.key} cannot be counted"):
        if any(value is not None for value in values):
            votes = [(value, ballot) for value, ballot in zip(values, ballots, strict=True) if value is not None]
            winners = _largest(votes, lambda a, b: a == b or (not task.closed_ended and _same(task, example, a, b)))
        else:
            winners = _largest([(ballot.completion.strip(), ballot) for ballot in ballots], str.__eq__)
    formed = Counter(ballot.format_ok for ballot in winners)
    kept = next(ballot for ballot in winners if 2 * formed[ballot.format_ok] >= len(winners))
    if not task.closed_ended:
        gold = GoldScores(texts=kept.answer_texts, logprobs=_means([ballot.answer_logprobs for ballot in ballots]))
        return replace(kept, answer_logprobs=gold.logprobs, answer_bits_per_byte=gold.bits_per_byte)
    written = [kept.answer_texts[0] if i == example.gold and kept.answer_texts else o for i, o in enumerate(example.options)]
    scores = OptionScores(
        listed=_means([ballot.option_logprobs for ballot in ballots]),
        priors=_means([ballot.option_priors for ballot in ballots]),
        texts=kept.cloze_texts,
        cloze=_means([ballot.cloze_logprobs for ballot in ballots]),
        unconditional=_means([ballot.unconditional_logprobs for ballot in ballots]),
        written=tuple(written),
    )
    if task.library is not None:
        kept = replace(kept, scores={})  # those are of one member's likelihoods
    return replace(kept, **choices(example.options, example.gold, scores, best))


def _means(of_members: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """`[K]` over the members; empty where one of them has none."""
    if not all(of_members):
        return ()
    return tuple(sum(of_option) / len(of_members) for of_option in zip(*of_members, strict=True))


def beside(members: Sequence[Sequence[Sample]]) -> tuple[Metric, ...]:
    """What the members come to by themselves, as Lester et al. have it beside the ensemble: their mean and the best of them.

    The best one is chosen by these very rows (in their table too), so it is more than a member that was chosen beforehand
    would come to. The standard error of the mean is that of rows whose value is a mean over the members.

    Args:
        members: the samples of each, of the same rows in the same order.
    """
    found: list[Metric] = []
    shared = set.intersection(*(set(sample.scores) for rows in members for sample in rows)) if all(members) else set()
    for name in (*OF_MEMBERS, *sorted(shared)):
        of = counted(name)
        values = [[float(of(sample) or 0.0) for sample in rows] for rows in members]
        found.append(mean(f"{name}_member_mean", (sum(row) / len(row) for row in zip(*values, strict=True))))
        best = max(values, key=sum)
        whole = all(value in (0.0, 1.0) for value in best)
        title = f"{name}_member_best"
        found.append(proportion(title, (value == 1.0 for value in best)) if whole else mean(title, best))
    return tuple(found)


def ensemble_metrics(samples: Sequence[Sample], members: Sequence[Sequence[Sample]]) -> tuple[Metric, ...]:
    """The metrics of an ensemble at one step: its own by their usual names, and `beside`."""
    return (*aggregate(samples), *beside(members))


def _value(task: Task, ballot: Sample) -> str | None:
    """What a member votes for; None: it abstains."""
    if not task.closed_ended:
        return ballot.extracted
    in_form = ballot.format_ok and ballot.bound is not False
    return answer_of(ballot.completion, ballot.prompt).strip() if in_form else None


def _same(task: Task, example: Example, a: str, b: str) -> bool:
    """Whether the task would accept one value where the other were the answer."""
    return task.accepts(a, replace(example, answers=(b,), target=b))


def _largest(votes: Sequence[tuple[str, Sample]], same: Callable[[str, str], bool]) -> list[Sample]:
    """The ballots of the candidate with most votes; of equal ones that which was named first."""
    candidates: list[tuple[str, list[Sample]]] = []
    for value, ballot in votes:
        mine = next((ballots for name, ballots in candidates if same(value, name)), None)
        if mine is None:
            candidates.append((value, [ballot]))
        else:
            mine.append(ballot)
    return max(candidates, key=lambda candidate: len(candidate[1]))[1]
