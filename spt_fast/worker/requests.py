"""Requests: the questions of a cell, at each step, behind what was trained for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from spt_fast.engine.base import Engine, check_request
from spt_fast.prompts.lora import Learnt, LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.types import Generate, Position, Request, Sampling, Score
from spt_fast.worker.answers import CellAnswers, Slot
from spt_fast.worker.questions import Pair, Question


def requests_of(
    answers: CellAnswers, engine: Engine, learnt: Mapping[int, Learnt], rows: Sequence[int] | None = None
) -> Iterator[tuple[Slot, Request]]:
    """The requests of a cell: for each step and test row a completion, and each option's log-likelihood by all ways.

    What stands behind one prompt comes together, so that the engine reads it once.

    Args:
        answers: of the cell, whose questions and steps they are.
        engine: who will be asked; it is given what was trained.
        learnt: step -> what was trained; empty for protocols that train nothing.
        rows: those of these rows, by number: test rows, then the rows to choose by; None: of all.

    Raises:
        EngineError: a request does not fit the model.
    """
    for step in answers.steps:
        prefix = _prefix(engine, None if step is None else learnt[step])
        for slot, request in _of_step(answers, step, prefix, engine.max_model_len, rows):
            check_request(request, soft_length=prefix.length, max_model_len=engine.max_model_len)
            yield slot, request


@dataclass(frozen=True)
class Prefix:
    """What was trained for the requests: vectors in front of the prompt, or an adapter of the weights."""

    soft_prompt: str | None = None
    position: Position = "front"
    adapter: str | None = None
    length: int = 0

    def score(self, pair: Pair) -> Score:
        """A request for the log-likelihood of a continuation."""
        return Score(
            token_ids=pair[0], continuation=pair[1], soft_prompt=self.soft_prompt, position=self.position, adapter=self.adapter
        )

    def generate(self, token_ids: tuple[int, ...], sampling: Sampling) -> Generate:
        """A request for a completion."""
        return Generate(
            token_ids=token_ids, sampling=sampling, soft_prompt=self.soft_prompt, position=self.position, adapter=self.adapter
        )


def _prefix(engine: Engine, trained: Learnt | None) -> Prefix:
    if isinstance(trained, LoraAdapter):
        return Prefix(adapter=engine.add_adapter(trained))
    if isinstance(trained, SoftPrompt):
        return Prefix(engine.add(trained), trained.position, length=trained.length)
    return Prefix()


def _of_step(
    answers: CellAnswers, step: int | None, prefix: Prefix, most: int, rows: Sequence[int] | None
) -> Iterator[tuple[Slot, Request]]:
    sampling, last = answers.cell.task.task.sampling, step == answers.steps[-1]
    tests = len(answers.questions.test)
    questions = (*answers.questions.test, *answers.questions.choosing)
    for i in range(len(questions)) if rows is None else rows:
        question = questions[i]
        if i < tests:
            room = answers.window.tokens_left(prefix.length + len(question.token_ids), most)
            tokens = replace(sampling, max_tokens=max(1, room))
            yield Slot(step, "written", i), prefix.generate(question.token_ids, tokens)
            yield from ((Slot(step, "beside", i, k), prefix.score(pair)) for k, pair in enumerate(question.beside))
            yield from _of_answers(question, step, i, prefix, most)
        yield from ((Slot(step, "listed", i, k), prefix.score(pair)) for k, pair in enumerate(question.options))
        if i < tests or last:
            yield from ((Slot(step, "cloze", i, k), prefix.score(pair)) for k, pair in enumerate(question.cloze))
    for number in answers.questions.bare_at(last=last, rows=rows):
        yield Slot(step, "bare", number), prefix.score(answers.questions.bare[number])


def _of_answers(question: Question, step: int | None, i: int, prefix: Prefix, most: int) -> Iterator[tuple[Slot, Request]]:
    """The gold answers of a row; none where one of them is too long for the model, which may well answer in fewer words."""
    longest = max((len(given) + len(answer) for given, answer in question.answers), default=0)
    if prefix.length + longest + 1 <= most:
        for k in question.own_answers:
            yield Slot(step, "answer", i, k), prefix.score(question.answers[k])
