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
from spt_fast.errors import EngineError
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
from spt_fast.types import Answer, Completion, Generate, LogLikelihood, Position, Request, Sample, Score
from spt_fast.worker.requests import Question, questions


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
    """Ask behind these tokens instead of the vectors: the nearest ones, `[P]`. Empty: do not."""


class _Way(NamedTuple):
    """One way of asking the rows of a task: what stands in front of them."""

    task: str
    soft_prompt: str | None = None
    position: Position = "front"
    length: int = 0
    token_ids: tuple[int, ...] = ()


@dataclass
class _Asked:
    """The rows of a task, asked one way."""

    way: _Way
    questions: Sequence[Question]
    answers: dict[tuple[int, int], Answer] = field(default_factory=dict)
    """Row, and option from 1 (0: the completion)."""

    def samples(self, task: Task) -> tuple[Sample, ...]:
        """A verdict a row."""
        completions = [self.answers[i, 0] for i in range(len(self.questions))]
        logprobs = [
            [each.total for k in range(len(q.options)) if isinstance(each := self.answers[i, k + 1], LogLikelihood)]
            for i, q in enumerate(self.questions)
        ]
        return score(
            task,
            [question.example for question in self.questions],
            [each for each in completions if isinstance(each, Completion)],
            logprobs if task.closed_ended else None,
            prompts=[question.prompt for question in self.questions],
        )


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
    ways = [list(_ways(subject, engine)) for subject in subjects]
    tasks = {subject.task.name: subject.task for subject in subjects}
    asked_of = {name: _questions(model, task, rows[name], tokenizer, chat=chat) for name, task in tasks.items()}
    asked = {way: _Asked(way, asked_of[way.task]) for each in ways for _, _, way in each}
    _ask(list(asked.values()), tasks, engine, tokenizer, tell)
    return [
        _judged(subject, each, {way: asked[way].samples(subject.task.task) for _, _, way in each}, tokenizer)
        for subject, each in zip(subjects, ways, strict=True)
    ]


def _questions(model: Model, task: TaskRows, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> list[Question]:
    plainly = Cell(model=model, task=task, protocol=ZeroShot(), seed=None, label="zero_shot")
    return questions(plainly, rows, tokenizer, chat=chat)


def _ways(subject: Subject, engine: Engine) -> Iterator[tuple[str, int | None, _Way]]:
    """Name of a variant, which vector is left out, and how the rows are asked; each way once, however many want it."""
    task = subject.task.name

    def behind(vectors: npt.NDArray[np.float32]) -> _Way:
        if not len(vectors):
            return _Way(task)
        prompt = SoftPrompt(vectors=vectors)
        return _Way(task, engine.add(prompt), subject.position, prompt.length)

    vectors = subject.prompt.vectors
    yield "zero_shot", None, _Way(task)
    yield "soft_prompt", None, behind(vectors)
    if subject.token_ids:
        yield "tokens", None, _Way(task, token_ids=subject.token_ids)
    if subject.leave_one_out:
        for p in range(subject.prompt.length):
            yield "without", p, behind(np.delete(vectors, p, axis=0))


def _ask(
    asked: Sequence[_Asked],
    tasks: Mapping[str, TaskRows],
    engine: Engine,
    tokenizer: Tokenizer,
    tell: Callable[[int, int], None] | None,
) -> None:
    """Stream the requests of all ways."""
    total = sum(1 + len(question.options) for each in asked for question in each.questions)
    places: list[tuple[_Asked, tuple[int, int]]] = []

    def requests() -> Iterator[Request]:
        for each in asked:
            for i, question in enumerate(each.questions):
                for k, request in enumerate(_requests(each.way, question, tasks[each.way.task].task, engine, tokenizer)):
                    check_request(request, soft_length=each.way.length, max_model_len=engine.max_model_len)
                    places.append((each, (i, k)))
                    yield request

    answered = 0
    for index, answer in engine.stream(requests()):
        each, place = places[index]
        each.answers[place] = answer
        answered += 1
        if tell is not None:
            tell(answered, total)
    if answered < total:
        raise EngineError("the engine ended its stream before every request was answered")


def _requests(way: _Way, question: Question, task: Task, engine: Engine, tokenizer: Tokenizer) -> Iterator[Request]:
    """A completion, and the log-likelihood of each option."""

    prefix = tokenizer.prefix_ids

    def behind_tokens(ids: tuple[int, ...]) -> tuple[int, ...]:
        begin = len(prefix) if ids[: len(prefix)] == prefix else 0
        return (*ids[:begin], *way.token_ids, *ids[begin:])

    ids = behind_tokens(question.token_ids)
    room = engine.max_model_len - way.length - len(ids)
    sampling = replace(task.sampling, max_tokens=max(1, min(task.sampling.max_tokens, room)))
    yield Generate(token_ids=ids, sampling=sampling, soft_prompt=way.soft_prompt, position=way.position)
    for prompt_ids, option in question.options:
        yield Score(
            token_ids=behind_tokens(prompt_ids), continuation=option, soft_prompt=way.soft_prompt, position=way.position
        )


def _judged(
    subject: Subject,
    ways: Sequence[tuple[str, int | None, _Way]],
    samples: Mapping[_Way, tuple[Sample, ...]],
    tokenizer: Tokenizer,
) -> Probe:
    whole = samples[next(way for name, _, way in ways if name == "soft_prompt")]
    return Probe(
        prompt=subject.prompt.key,
        task=subject.task.name,
        rows=len(whole),
        tokens=tuple(tokenizer.tokens(subject.token_ids)),
        variants=tuple(
            Variant(
                name=name,
                left_out=left_out,
                metrics=tuple(metric for metric in aggregate(samples[way]) if metric.name in ABLATION),
                changes={metric: _change(whole, samples[way], metric) for metric in ABLATION},
            )
            for name, left_out, way in ways
        ),
    )


def _change(before: Sequence[Sample], after: Sequence[Sample], metric: str) -> Change:
    of = counted(metric)
    first, second = ([float(of(sample) or 0.0) for sample in samples] for samples in (before, after))
    found = paired_difference(np.array(first), np.array(second), clusters([sample.group for sample in before]), resamples=0)
    return Change(value=found.change, low=found.interval.low, high=found.interval.high)
