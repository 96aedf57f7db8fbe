"""What the vectors of a soft prompt do.

The test rows are asked again, in one stream: without each of them, without all, and behind their nearest tokens instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spt_fast.analysis.paired import paired_difference
from spt_fast.config import ZeroShot
from spt_fast.engine.base import Engine, check_request
from spt_fast.models.identity import Model
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.prompts.meaning import Change, Probe, Variant
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.clusters import clusters
from spt_fast.scoring.metrics import ABLATION, aggregate, counted
from spt_fast.scoring.score import score
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import Rows
from spt_fast.types import Answer, Completion, LogLikelihood, Position, Request, Sample
from spt_fast.worker.questions import Question, questions
from spt_fast.worker.requests import Prefix
from spt_fast.worker.stream import Plan, Stream


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A soft prompt that is to be probed."""

    prompt: SoftPrompt
    task: TaskRows
    """On whose test rows."""
    position: Position = "front"
    leave_one_out: bool = False
    """Ask without each of the vectors."""
    token_ids: tuple[int, ...] = ()
    """Ask with these tokens instead of the vectors: the nearest ones, `[P]`. Empty: do not."""


@dataclass(frozen=True)
class _Input:
    """What stands with the prompts of a task: vectors, or tokens instead of them, or nothing."""

    task: str
    prefix: Prefix = field(default_factory=Prefix)
    token_ids: tuple[int, ...] = ()


class _Variant(NamedTuple):
    """One of the variants of a subject."""

    name: str
    left_out: int | None
    """Which vector is left out."""
    input: _Input


class _Ablation(Plan[tuple[int, int]]):
    """The rows of a task behind one input; the place of an answer is its row, and its option from 1 (0: the completion)."""

    def __init__(self, input: _Input, task: Task, questions: Sequence[Question], tokenizer: Tokenizer) -> None:
        self.input = input
        self._task = task
        self._questions = questions
        self._tokenizer = tokenizer
        self._answers: dict[tuple[int, int], Answer] = {}

    @property
    def expected(self) -> int:
        """A completion of each row, and the log-likelihood of each option."""
        return sum(1 + len(question.options) for question in self._questions)

    def begin(self, engine: Engine) -> Sequence[tuple[tuple[int, int], Request]]:
        """Build the requests.

        Raises:
            EngineError: one does not fit the model.
        """
        most, length = engine.max_model_len, self.input.prefix.length
        planned = [
            ((i, k), request)
            for i, question in enumerate(self._questions)
            for k, request in enumerate(self._requests(question, most))
        ]
        for _, request in planned:
            check_request(request, soft_length=length, max_model_len=most)
        return planned

    def take(self, place: tuple[int, int], answer: Answer) -> None:
        """Keep an answer."""
        self._answers[place] = answer

    def samples(self) -> tuple[Sample, ...]:
        """A verdict a row."""
        questions = self._questions
        completions = [self._answers[i, 0] for i in range(len(questions))]
        logprobs = [
            [each.total for k in range(len(q.options)) if isinstance(each := self._answers[i, k + 1], LogLikelihood)]
            for i, q in enumerate(questions)
        ]
        return score(
            self._task,
            [question.example for question in questions],
            [each for each in completions if isinstance(each, Completion)],
            logprobs if self._task.closed_ended else None,
            prompts=[question.prompt for question in questions],
        )

    def _requests(self, question: Question, most: int) -> Iterator[Request]:
        prefix, sampling = self.input.prefix, self._task.sampling
        ids = self._with_tokens(question.token_ids)
        left = most - prefix.length - len(ids)
        yield prefix.generate(ids, replace(sampling, max_tokens=max(1, min(sampling.max_tokens, left))))
        for prompt_ids, option in question.options:
            yield prefix.score((self._with_tokens(prompt_ids), option))

    def _with_tokens(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """A prompt with the tokens where the vectors stand; in front, they are behind BOS all the same, as text is."""
        bos = self._tokenizer.prefix_ids
        begin = len(bos) if ids[: len(bos)] == bos else 0
        if self.input.prefix.position == "end":
            begin = len(ids)
        return (*ids[:begin], *self.input.token_ids, *ids[begin:])


def probe(
    subjects: Sequence[Subject],
    rows: Mapping[str, Rows],
    engine: Engine,
    tokenizer: Tokenizer,
    model: Model,
    *,
    chat: bool,
    tell: Callable[[int, int], None] | None = None,
) -> list[Probe]:
    """Probe soft prompts of one model, each with zero-shot beside it.

    A vector is left out by taking it away: those behind it move up. Tokens stand where a text stands that is put in front of
    the prompt, behind BOS.

    Args:
        subjects: soft prompts and tasks.
        rows: task -> its rows; the test rows are asked.
        engine: of the model.
        tokenizer: of the model.
        model: as resolved.
        chat: ask through the chat template.
        tell: is told how many requests are answered, and of how many.

    Raises:
        EngineError: a request does not fit the model, or the engine died.
        ScoringError: an answer cannot be judged.
    """
    variants = [list(_variants(subject, engine)) for subject in subjects]
    tasks = {subject.task.name: subject.task for subject in subjects}
    asked = {name: _questions(model, task, rows[name], tokenizer, chat=chat) for name, task in tasks.items()}
    inputs = dict.fromkeys(variant.input for each in variants for variant in each)  # each once, however many want it
    plans = [_Ablation(input, tasks[input.task].task, asked[input.task], tokenizer) for input in inputs]
    telling = None if tell is None else lambda done, total, _: tell(done, total)
    samples = {plan.input: plan.samples() for plan in Stream(engine, plans, telling)}
    return [_judged(subject, each, samples, tokenizer) for subject, each in zip(subjects, variants, strict=True)]


def _questions(model: Model, task: TaskRows, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> list[Question]:
    plainly = Cell(model=model, task=task, protocol=ZeroShot(), seed=None, label="zero_shot")
    return questions(plainly, rows, tokenizer, chat=chat)


def _variants(subject: Subject, engine: Engine) -> Iterator[_Variant]:
    task, vectors = subject.task.name, subject.prompt.vectors

    def behind(vectors: npt.NDArray[np.float32]) -> _Input:
        if not len(vectors):
            return _Input(task)
        prompt = SoftPrompt(vectors=vectors)
        return _Input(task, Prefix(engine.add(prompt), subject.position, length=prompt.length))

    yield _Variant("zero_shot", None, _Input(task))
    yield _Variant("soft_prompt", None, behind(vectors))
    if subject.token_ids:
        yield _Variant("tokens", None, _Input(task, Prefix(position=subject.position), subject.token_ids))
    if subject.leave_one_out:
        for p in range(subject.prompt.length):
            yield _Variant("without", p, behind(np.delete(vectors, p, axis=0)))


def _judged(
    subject: Subject,
    variants: Sequence[_Variant],
    samples: Mapping[_Input, tuple[Sample, ...]],
    tokenizer: Tokenizer,
) -> Probe:
    whole = samples[next(variant.input for variant in variants if variant.name == "soft_prompt")]
    return Probe(
        prompt=subject.prompt.key,
        task=subject.task.name,
        rows=len(whole),
        tokens=tuple(tokenizer.tokens(subject.token_ids)),
        variants=tuple(
            Variant(
                name=name,
                left_out=left_out,
                metrics=tuple(metric for metric in aggregate(samples[input]) if metric.name in ABLATION),
                changes={metric: _change(whole, samples[input], metric) for metric in ABLATION},
            )
            for name, left_out, input in variants
        ),
    )


def _change(before: Sequence[Sample], after: Sequence[Sample], metric: str) -> Change:
    of = counted(metric)
    first, second = ([float(of(sample) or 0.0) for sample in samples] for samples in (before, after))
    found = paired_difference(np.array(first), np.array(second), clusters([sample.group for sample in before]), resamples=0)
    return Change(value=found.change, low=found.interval.low, high=found.interval.high)
