"""Format following and knowledge, apart: what the engine answered -> a verdict an example -> metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypedDict

from spt_fast.errors import ScoringError, boundary
from spt_fast.scoring.statistics import mean, proportion
from spt_fast.scoring.ways import CLOZE, WAYS, OptionScores, Way, first_best
from spt_fast.tasks.answers.extractors import refuses
from spt_fast.tasks.answers.thoughts import answer_of, opens_thought
from spt_fast.tasks.base import Task
from spt_fast.tasks.forms import bound, written
from spt_fast.types import Completion, Example, Extraction, Metric, Sample


def measure(
    task: Task,
    examples: Sequence[Example],
    completions: Sequence[Completion],
    option_logprobs: Sequence[Sequence[float]] | Sequence[OptionScores] | None = None,
    *,
    prompts: Sequence[str],
    step: int | None = None,
    best: Way = "listed",
) -> tuple[Sample, ...]:
    """Judge `N` completions.

    * Format: the completion, stripped of outer white space, has the form that the task asks for, right or wrong. One that was
      cut off by the token limit has not. Of options with letters, `bound`: the text is that letter's.
    * Knowledge, closed-ended: the option of the highest summed log-likelihood is the right one; of equal ones the first
      counts. Per byte: divided by the bytes of the option as it is written, without the space in front. The further ways are
      those of `scoring.ways`; `knows_best` is the verdict of one of them.
      Open-ended: the task's extractor finds a value, and the task accepts it.
    * Correct (exact match): in the form asked for, and right in what was written, to the letter.

    Args:
        task: whose format, extractor and normalisation.
        examples: `N` of them.
        completions: one an example.
        option_logprobs: closed-ended tasks: `[N][K]`, natural logarithms, summed over each option's tokens, or all that is
            known of the options. None else.
        prompts: what the model read, one an example.
        step: of the soft prompt; None for other protocols.
        best: closed-ended tasks: the way of `knows_best`.

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
        return tuple(_closed(task, *row, step, best) for row in rows)
    return tuple(_open(task, example, completion, prompt, step) for example, completion, _, prompt in rows)


def metrics(samples: Sequence[Sample]) -> tuple[Metric, ...]:
    """The metrics of one cell at one step, each with n, standard error and interval; with the groups of rows reckoned in.

    The table of form and knowledge (`format_and_knowledge`, `format_only`, `knowledge_only`, `neither`) means
    `knowledge_best`: a model that binds no letters is not to be said not to know.
    """
    following = [sample for sample in samples if sample.format_ok]
    found = [
        _share("format_following", samples, lambda sample: sample.format_ok),
        _share("knowledge_best", samples, at_best),
        _share("knowledge", samples, lambda sample: sample.knows),
        *_further_ways(samples),
        _share("exact_match", samples, lambda sample: sample.correct),
        _share("exact_match_given_format", following, lambda sample: sample.correct),
        _share("format_and_knowledge", samples, lambda sample: sample.format_ok and at_best(sample)),
        _share("format_only", samples, lambda sample: sample.format_ok and not at_best(sample)),
        _share("knowledge_only", samples, lambda sample: at_best(sample) and not sample.format_ok),
        _share("neither", samples, lambda sample: not sample.format_ok and not at_best(sample)),
    ]
    names = dict.fromkeys(name for sample in samples for name in sample.scores)
    for name in names:
        values = [sample.scores[name] for sample in samples]
        found.append(_clustered(mean(name, values), values, samples, share=False))
    return tuple(found)


def _of(column: str) -> Callable[[Sample], bool]:
    return lambda sample: bool(getattr(sample, column))


def at_best(sample: Sample) -> bool:
    """Its verdict on knowledge by the best way; of open-ended tasks the only one."""
    return sample.knows if sample.knows_best is None else sample.knows_best


def _further_ways(samples: Sequence[Sample]) -> list[Metric]:
    """Closed-ended tasks: of the ways that were asked, and whether letters are bound where the form is there."""
    columns = {"knowledge_per_byte": "knows_per_byte", **KNOWS}
    found = []
    for name, column in columns.items():
        asked = [sample for sample in samples if getattr(sample, column) is not None]
        if asked:
            found.append(_share(name, asked, _of(column)))
    lettered = [sample for sample in samples if sample.bound is not None]
    if lettered or any(sample.options and not written(sample.options) for sample in samples):
        found.append(_share("letter_binding", lettered, lambda sample: bool(sample.bound)))
    return found


KNOWS = {"knowledge_debiased": "knows_debiased", **{WAYS[way]: f"knows_{way}" for way in CLOZE}}
"""Metric -> the field of `Sample` that it is the mean of, of the ways beside the listed options."""


def _share(name: str, samples: Sequence[Sample], verdict: Callable[[Sample], bool]) -> Metric:
    verdicts = [verdict(sample) for sample in samples]
    return _clustered(proportion(name, verdicts), verdicts, samples, share=True)


def _clustered(metric: Metric, values: Sequence[float], samples: Sequence[Sample], *, share: bool) -> Metric:
    groups = [sample.group for sample in samples]
    if not any(groups):
        return metric
    from spt_fast.scoring.clusters import with_clusters  # SciPy's distributions, which the driver has no need of

    return with_clusters(metric, values, groups, share=share)


def _closed(
    task: Task,
    example: Example,
    completion: Completion,
    scores: OptionScores,
    prompt: str,
    step: int | None,
    best: Way,
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


def choices(options: Sequence[str], gold: int | None, scores: OptionScores, best: Way) -> Choices:
    """The options that log-likelihoods choose by every way, and whether they are right.

    Args:
        options: `[K]`, as they are written.
        gold: the right one.
        scores: of these.
        best: the way of `knows_best`; where it was not asked of this row, the listed options count.
    """
    chosen = first_best(scores.listed)
    per_byte = first_best([value / len(option.encode()) for value, option in zip(scores.listed, options, strict=True)])
    by = {way: scores.chosen(way) for way in WAYS}

    def right(way: Way) -> bool | None:
        index = by[way]
        return None if index is None else same(scores.texts if way in CLOZE else options, index, gold)

    at_best = right(best)
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
    }


def same(texts: Sequence[str], chosen: int, gold: int | None) -> bool:
    """Whether an option is the right one, by what is written, not by where it stands: the right text may be there twice."""
    return gold is not None and texts[chosen] == texts[gold]


def _open(task: Task, example: Example, completion: Completion, prompt: str, step: int | None) -> Sample:
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
