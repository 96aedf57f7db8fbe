"""The answers to what is asked of a cell: where each belongs, what they add up to, and what they have cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

from spt_fast.plan.cell import Cell
from spt_fast.scoring.likelihood import GoldScores
from spt_fast.scoring.methods import Choice, OptionScores, Priors, choose
from spt_fast.tasks.library import Answered
from spt_fast.types import Answer, Completion, LogLikelihood, Request, Score
from spt_fast.worker.context_window import ContextWindow
from spt_fast.worker.questions import Pair, Question, Questions, texts_of

What: TypeAlias = Literal["written", "listed", "cloze", "bare", "beside", "answer"]
"""A completion; the likelihood of an option that the prompt lists; of its text behind the question alone; behind the cue; what
a library's task wants beside; and the likelihood of a gold answer."""


@dataclass(frozen=True)
class Slot:
    """Where an answer belongs."""

    step: int | None
    what: What
    i: int
    """Of `written`, `listed` and `cloze` the question; of `bare` the text (`Questions.bare`)."""
    k: int = 0
    """Of `listed` and `cloze` the option, of `answer` the gold answer."""


@dataclass
class CellAnswers:
    """The answers of one cell."""

    cell: Cell
    steps: Sequence[int | None]
    questions: Questions
    answers: dict[Slot, Answer] = field(default_factory=dict)
    tokens: Counter[str] = field(default_factory=Counter)
    """What was asked and answered: see `count`."""
    window: ContextWindow = field(init=False)
    not_finite: int = 0
    """Answers from logits that were NaN or infinite."""
    asked: Sequence[int] | None = None
    """The test rows that are told of, by number; None: all."""

    def __post_init__(self) -> None:
        self.window = ContextWindow(wanted=self.cell.task.task.sampling.max_tokens)

    def count(self, request: Request) -> None:
        """Count what a request has the engine read.

        `prompt_tokens` that it is given, whether it has them in its cache or not; `soft_positions` in front of them;
        `scored_tokens` of options and gold answers.
        """
        self.tokens["requests"] += 1
        self.tokens["prompt_tokens"] += len(request.token_ids)
        if request.soft_prompt is not None:
            self.tokens["soft_positions"] += self.cell.protocol.soft_length
        if isinstance(request, Score):
            self.tokens["scored_tokens"] += len(request.continuation)

    def take(self, slot: Slot, answer: Answer) -> None:
        """Keep an answer; count its `generated_tokens`, and its `cached_tokens`, soft positions among them, where it tells."""
        self.answers[slot] = answer
        self.not_finite += not answer.finite
        if isinstance(answer, Completion):
            self.tokens["generated_tokens"] += len(answer.token_ids)
            self.window.observe(slot.step, answer)
        if answer.cached is not None:
            self.tokens["cached_tokens"] += answer.cached

    def of(self, rows: Sequence[int]) -> CellAnswers:
        """The same, of some of the test rows: what follows tells of these alone, in this order."""
        found = copy(self)
        found.asked = rows
        return found

    @property
    def tests(self) -> Sequence[Question]:
        """The test rows."""
        return self.questions.test if self.asked is None else [self.questions.test[i] for i in self.asked]

    @property
    def _asked(self) -> Sequence[int]:
        return range(len(self.questions.test)) if self.asked is None else self.asked

    def completions(self, step: int | None) -> list[Completion]:
        """One a test row."""
        found = [self.answers[Slot(step, "written", i)] for i in self._asked]
        return [answer for answer in found if isinstance(answer, Completion)]

    def scores(self, step: int | None) -> list[OptionScores]:
        """What is known of the options of each test row, debiased by the rows to choose by."""
        priors = Priors(self._totals(step, "listed", i) for i in self._choosing)
        return [
            replace(self._scores(step, i), priors=priors.of(len(question.options)))
            for i, question in zip(self._asked, self.tests, strict=True)
        ]

    def choice(self) -> Choice:
        """The way that is best at the last step, on the rows to choose by."""
        step = self.steps[-1]
        priors = Priors(self._totals(step, "listed", i) for i in self._choosing)
        found = [replace(self._scores(step, i), priors=priors.of(len(self._rows[i].options))) for i in self._choosing]
        return choose(found, [self._rows[i].example.gold for i in self._choosing], learnt=self.questions.learnt)

    @cached_property
    def _rows(self) -> Sequence[Question]:
        return (*self.questions.test, *self.questions.choosing)

    @property
    def _choosing(self) -> range:
        return range(len(self.questions.test), len(self._rows))

    def _scores(self, step: int | None, i: int) -> OptionScores:
        question = self._rows[i]
        return OptionScores(
            listed=self._totals(step, "listed", i),
            texts=texts_of(question.example) if question.cloze else (),
            cloze=self._totals(step, "cloze", i),
            unconditional=tuple(self._total(Slot(step, "bare", number)) for number in question.bare),
            written=question.written,
        )

    def gold(self, step: int | None) -> list[GoldScores]:
        """The likelihoods of the gold answers of each test row; of one that was asked without, none."""
        return [self._gold(step, i) for i in self._asked]

    def _gold(self, step: int | None, i: int) -> GoldScores:
        question = self._rows[i]
        slots = [
            Slot(step, "beside", i, question.beside.index(pair)) if pair in question.beside else Slot(step, "answer", i, k)
            for k, pair in enumerate(question.answers)
        ]
        if not all(slot in self.answers for slot in slots):
            return GoldScores()
        return GoldScores(texts=question.answer_texts, logprobs=tuple(map(self._total, slots)))

    def answered(self, step: int | None) -> list[Answered]:
        """What a library's task is to judge, one a test row."""
        found = []
        for i, question, completion in zip(self._asked, self.tests, self.completions(step), strict=True):
            greedy = [_begins(question, pair, completion) for pair in (*question.options, *question.beside)]
            listed, k = self._totals(step, "listed", i), len(question.options)
            beside = [self._total(Slot(step, "beside", i, n)) for n in range(len(question.beside))]
            found.append(
                Answered(
                    example=question.example,
                    completion=completion.text,
                    options=tuple(zip(listed, greedy[:k], strict=True)),
                    beside=tuple(zip(beside, greedy[k:], strict=True)),
                )
            )
        return found

    def _totals(self, step: int | None, what: Literal["listed", "cloze"], i: int) -> tuple[float, ...]:
        pairs = self._rows[i].options if what == "listed" else self._rows[i].cloze
        return tuple(self._total(Slot(step, what, i, k)) for k in range(len(pairs)))

    def _total(self, slot: Slot) -> float:
        answer = self.answers[slot]
        assert isinstance(answer, LogLikelihood)
        return answer.total


def _begins(question: Question, pair: Pair, completion: Completion) -> bool:
    """Whether what the model wrote by itself behind a pair's prompt begins with its continuation."""
    given, continuation = pair
    return question.token_ids == given and completion.token_ids[: len(continuation)] == continuation
