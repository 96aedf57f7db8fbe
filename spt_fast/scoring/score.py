"""Scores examples: what the engine answered -> verdicts on format following and on knowledge, apart.

`scoring.metrics` aggregates them over a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from spt_fast.errors import ScoringError, boundary
from spt_fast.scoring.likelihood import GoldScores, margin
from spt_fast.scoring.methods import CLOZE, METHODS, Method, OptionScores, first_best
from spt_fast.scoring.metrics import with_registered
from spt_fast.tasks.answers.extractors import refuses
from spt_fast.tasks.answers.thoughts import answer_of, opens_thought
from spt_fast.tasks.base import Task
from spt_fast.tasks.forms import bound
from spt_fast.types import Completion, Example, Extraction, Sample


def score(
    task: Task,
    examples: Sequence[Example],
    completions: Sequence[Completion],
    option_logprobs: Sequence[Sequence[float]] | Sequence[OptionScores] | None = None,
    *,
    prompts: Sequence[str],
    step: int | None = None,
    best: Method = "listed",
    gold: Sequence[GoldScores] | None = None,
) -> tuple[Sample, ...]:
    """Score `N` completions.

    * Format: the completion, stripped of outer white space, has the form that the task asks for, right or wrong. One that was
      cut off by the token limit has not. Of options with letters, `bound`: the text is that letter's.
    * Knowledge, closed-ended: the option of the highest summed log-likelihood is the right one; of equal ones the first
      counts. Per byte: divided by the bytes of the option as it is written, without the space in front. The further methods
      are those of `scoring.methods`; `knows_best` is the verdict of one of them.
      Open-ended: the task's extractor finds a value, and the task accepts it.
    * Correct (exact match): in the form asked for, and right in what was written, to the letter.
    * Bits per byte, and the margin over the other options: see `scoring.likelihood`.

    Args:
        task: whose format, extractor and normalisation.
        examples: `N` of them.
        completions: one an example.
        option_logprobs: closed-ended tasks: `[N][K]`, natural logarithms, summed over each option's tokens, or all that is
            known of the options. None else.
        prompts: what the model read, one an example.
        step: of the soft prompt; None for other protocols.
        best: closed-ended tasks: the scoring method of `knows_best`.
        gold: open-ended tasks: the likelihoods of each row's gold answers; None: not asked.

    Raises:
        ScoringError: the numbers of these do not fit together, or a log-likelihood is NaN.
    """
    n = len(examples)
    logprobs = [()] * n if option_logprobs is None else option_logprobs
    scores = [each if isinstance(each, OptionScores) else OptionScores(listed=tuple(each)) for each in logprobs]
    for what, given in (("completions", completions), ("option_logprobs", logprobs), ("prompts", prompts)):
        if len(given) != n:
            raise ScoringError(f"{task.name}: {n} examples, but {len(given)} {what}")
    rows = zip(examples, completions, scores, prompts, strict=True)
    if task.closed_ended:
        return tuple(with_registered(_closed(task, *row, step, best)) for row in rows)
    answers = [GoldScores()] * n if gold is None else gold
    return tuple(
        with_registered(_open(task, example, completion, prompt, step, likelihoods))
        for (example, completion, _, prompt), likelihoods in zip(rows, answers, strict=True)
    )


def _closed(
    task: Task,
    example: Example,
    completion: Completion,
    scores: OptionScores,
    prompt: str,
    step: int | None,
    best: Method,
) -> Sample:
    if len(scores.listed) != len(example.options):
        k = len(example.options)
        raise ScoringError(f"{task.name}: {k} options of example {example.key}, but {len(scores.listed)} log-likelihoods")
    if any(math.isnan(value) for value in (*scores.listed, *scores.cloze, *scores.unconditional)):
        raise ScoringError(f"{task.name}: a log-likelihood of example {example.key} is NaN")
    format_ok = follows_format(task, example, completion, prompt)
    written = answer_of(completion.text, prompt).strip()
    return Sample(
        example=example.key,
        step=step,
        prompt=prompt,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        target=example.target,
        extracted=None,
        rule=None,
        format_ok=format_ok,
        correct=format_ok and example.gold is not None and written == example.options[example.gold],
        answers=example.answers,
        group=example.group,
        options=example.options,
        gold=example.gold,
        bound=bound(written, example.options) if format_ok else None,
        **choices(example.options, example.gold, scores, best),
    )


class Choices(TypedDict):
    """What follows from the log-likelihoods of options: fields of `Sample`."""

    option_logprobs: tuple[float, ...]
    option_priors: tuple[float, ...]
    cloze_texts: tuple[str, ...]
    cloze_logprobs: tuple[float, ...]
    unconditional_logprobs: tuple[float, ...]
    knows: bool
    chosen: int
    chosen_per_byte: int
    chosen_debiased: int | None
    chosen_cloze: int | None
    chosen_cloze_per_byte: int | None
    chosen_cloze_pmi: int | None
    knows_per_byte: bool
    knows_debiased: bool | None
    knows_cloze: bool | None
    knows_cloze_per_byte: bool | None
    knows_cloze_pmi: bool | None
    knows_best: bool
    answer_texts: tuple[str, ...]
    answer_logprobs: tuple[float, ...]
    answer_bits_per_byte: float | None
    answer_logprob_margin: float | None


def choices(options: Sequence[str], gold: int | None, scores: OptionScores, best: Method) -> Choices:
    """The options that log-likelihoods choose by every method, and whether they are right.

    Args:
        options: `[K]`, as they are written.
        gold: the right one.
        scores: of these.
        best: the method of `knows_best`; where it was not asked of this row, the listed options count.
    """
    chosen = first_best(scores.listed)
    per_byte = first_best([value / len(option.encode()) for value, option in zip(scores.listed, options, strict=True)])
    by = {method: scores.chosen(method) for method in METHODS}

    def right(method: Method) -> bool | None:
        index = by[method]
        return None if index is None else same(scores.texts if method in CLOZE else options, index, gold)

    at_best = right(best)
    texts, logprobs = (scores.texts, scores.cloze) if scores.cloze else (scores.written or tuple(options), scores.listed)
    answer = GoldScores() if gold is None else GoldScores(texts=(texts[gold],), logprobs=(logprobs[gold],))
    return {
        "option_logprobs": scores.listed,
        "option_priors": scores.priors,
        "cloze_texts": scores.texts if scores.cloze else (),
        "cloze_logprobs": scores.cloze,
        "unconditional_logprobs": scores.unconditional,
        "knows": same(options, chosen, gold),
        "chosen": chosen,
        "chosen_per_byte": per_byte,
        "chosen_debiased": by["debiased"],
        "chosen_cloze": by["cloze"],
        "chosen_cloze_per_byte": by["cloze_per_byte"],
        "chosen_cloze_pmi": by["cloze_pmi"],
        "knows_per_byte": same(options, per_byte, gold),
        "knows_debiased": right("debiased"),
        "knows_cloze": right("cloze"),
        "knows_cloze_per_byte": right("cloze_per_byte"),
        "knows_cloze_pmi": right("cloze_pmi"),
        "knows_best": same(options, chosen, gold) if at_best is None else at_best,
        "answer_texts": answer.texts,
        "answer_logprobs": answer.logprobs,
        "answer_bits_per_byte": answer.bits_per_byte,
        "answer_logprob_margin": margin(scores.texts if scores.cloze else options, logprobs, gold),
    }


def same(texts: Sequence[str], chosen: int, gold: int | None) -> bool:
    """Whether an option is the right one, by what is written, not by where it stands: the right text may be there twice."""
    return gold is not None and texts[chosen] == texts[gold]


def _open(
    task: Task, example: Example, completion: Completion, prompt: str, step: int | None, likelihoods: GoldScores
) -> Sample:
    found = _extracted(task, example, completion, prompt)
    format_ok = follows_format(task, example, completion, prompt)
    with boundary(ScoringError, f"{task.name}: an answer to example {example.key} cannot be compared"):
        knows = found is not None and task.accepts(found.value, example)
        if found is not None and not knows and refuses(completion.text, found):
            found = None
        scores = {name: 0.0 if found is None else score(found.value, example) for name, score in task.scores.items()}
    return Sample(
        example=example.key,
        step=step,
        prompt=prompt,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        target=example.target,
        extracted=None if found is None else found.value,
        rule=None if found is None else found.rule,
        format_ok=format_ok,
        knows=knows,
        correct=format_ok and knows,
        answers=example.answers,
        group=example.group,
        span=None if found is None else found.span,
        scores=scores,
        answer_texts=likelihoods.texts,
        answer_logprobs=likelihoods.logprobs,
        answer_bits_per_byte=likelihoods.bits_per_byte,
    )


def follows_format(task: Task, example: Example, completion: Completion, prompt: str = "") -> bool:
    """Whether a completion of `prompt` was not cut off, and has the form that the task asks for behind its thought."""
    if completion.finish_reason == "length" or (opens_thought(prompt) and not answer_of(completion.text, prompt)):
        return False
    return task.follows_format(completion.text, example)


def _extracted(task: Task, example: Example, completion: Completion, prompt: str) -> Extraction | None:
    if not answer_of(completion.text, prompt).strip():
        return None
    with boundary(ScoringError, f"{task.name}: the extractor failed on {completion.text[:80]!r}"):
        found = task.read(completion.text, example)
    if found is None:
        return None
    # A value that reaches to where the completion was cut off may be half a value: "#### 1" of "#### 18".
    cut = completion.finish_reason == "length" and found.span[1] >= len(completion.text.rstrip())
    return None if cut else found
