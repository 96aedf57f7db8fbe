"""Format following and knowledge, apart: what the engine answered -> a verdict an example -> metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypedDict

from spt_fast.errors import ScoringError, boundary
from spt_fast.scoring.statistics import mean, proportion
from spt_fast.tasks.answers.extractors import refuses
from spt_fast.tasks.answers.thoughts import answer_of, opens_thought
from spt_fast.tasks.base import Task
from spt_fast.types import Completion, Example, Extraction, Metric, Sample


def measure(
    task: Task,
    examples: Sequence[Example],
    completions: Sequence[Completion],
    option_logprobs: Sequence[Sequence[float]] | None = None,
    *,
    prompts: Sequence[str],
    step: int | None = None,
) -> tuple[Sample, ...]:
    """Judge `N` completions.

    * Format: the completion, stripped of outer white space, has the form that the task asks for. One that was cut off
      by the token limit has not.
    * Knowledge, closed-ended: the option of the highest summed log-likelihood is the right one; of equal ones the first
      counts. Per byte: divided by the bytes of the option's text, without the space in front.
      Open-ended: the task's extractor finds a value, and the task accepts it.
    * Correct (exact match): in the form asked for, and right in what was written.

    Args:
        task: whose format, extractor and normalisation.
        examples: `N` of them.
        completions: one an example.
        option_logprobs: closed-ended tasks: `[N][K]`, natural logarithms, summed over each option's tokens. None else.
        prompts: what the model read, one an example.
        step: of the soft prompt; None for other protocols.

    Raises:
        ScoringError: the numbers of these do not fit together, or a log-likelihood is NaN.
    """
    n = len(examples)
    logprobs = [()] * n if option_logprobs is None else option_logprobs
    for what, given in (("completions", completions), ("option_logprobs", logprobs), ("prompts", prompts)):
        if len(given) != n:
            raise ScoringError(f"{task.name}: {n} examples, but {len(given)} {what}")
    judge = _closed if task.closed_ended else _open
    return tuple(judge(task, *row, step) for row in zip(examples, completions, logprobs, prompts, strict=True))


def metrics(samples: Sequence[Sample]) -> tuple[Metric, ...]:
    """The metrics of one cell at one step, each with n, standard error and interval; with the groups of rows reckoned in."""
    following = [sample for sample in samples if sample.format_ok]
    found = [
        _share("format_following", samples, lambda sample: sample.format_ok),
        _share("knowledge", samples, lambda sample: sample.knows),
        _share("exact_match", samples, lambda sample: sample.correct),
        _share("exact_match_given_format", following, lambda sample: sample.correct),
        _share("format_and_knowledge", samples, lambda sample: sample.format_ok and sample.knows),
        _share("format_only", samples, lambda sample: sample.format_ok and not sample.knows),
        _share("knowledge_only", samples, lambda sample: sample.knows and not sample.format_ok),
        _share("neither", samples, lambda sample: not sample.format_ok and not sample.knows),
    ]
    per_byte = [sample for sample in samples if sample.knows_per_byte is not None]
    if per_byte:
        found.insert(2, _share("knowledge_per_byte", per_byte, lambda sample: bool(sample.knows_per_byte)))
    names = dict.fromkeys(name for sample in samples for name in sample.scores)
    for name in names:
        values = [sample.scores[name] for sample in samples]
        found.append(_clustered(mean(name, values), values, samples, share=False))
    return tuple(found)


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
    logprobs: Sequence[float],
    prompt: str,
    step: int | None,
) -> Sample:
    if len(logprobs) != len(example.options):
        k = len(example.options)
        raise ScoringError(f"{task.name}: {k} options of example {example.key}, but {len(logprobs)} log-likelihoods")
    if any(math.isnan(value) for value in logprobs):
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
        option_logprobs=tuple(logprobs),
        **choices(example, logprobs),
    )


class Choices(TypedDict):
    """What follows from the log-likelihoods of options: fields of `Sample`."""

    knows: bool
    chosen: int
    chosen_per_byte: int
    knows_per_byte: bool


def choices(example: Example, logprobs: Sequence[float]) -> Choices:
    """The options that log-likelihoods `[K]` choose, whole and per byte, and whether they are right."""
    chosen = _first_best(logprobs)
    per_byte = _first_best([value / len(option.encode()) for value, option in zip(logprobs, example.options, strict=True)])
    return {
        "knows": _is_right(example, chosen),
        "chosen": chosen,
        "chosen_per_byte": per_byte,
        "knows_per_byte": _is_right(example, per_byte),
    }


def _is_right(example: Example, chosen: int) -> bool:
    """By what is written, not by where it stands: the right text may be there twice."""
    return example.gold is not None and example.options[chosen] == example.options[example.gold]


def _open(task: Task, example: Example, completion: Completion, _: Sequence[float], prompt: str, step: int | None) -> Sample:
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


def _first_best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
