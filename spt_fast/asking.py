"""What is asked of a cell, and which answer belongs where."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spt_fast.cell import Cell, TaskRows
from spt_fast.config import FewShot, Vectors
from spt_fast.engine.base import Engine, check_request
from spt_fast.errors import DataError, ModelError
from spt_fast.models.chat import is_found
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan import Stage
from spt_fast.prompts.lora import Learnt, LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import Answer, Completion, Example, Generate, LogLikelihood, Position, Request, Score


def rows_of(stage: Stage, wanted: TaskRows) -> Rows:
    """The rows of a task: those that the stage came with, or else from where the task has them.

    Raises:
        DataError, ConfigError: they cannot be read.
    """
    if wanted.name in stage.rows:
        rows: Rows = pickle.loads(stage.rows[wanted.name])
        return rows
    return load_rows(wanted.task, data_files=wanted.data_files, limit=wanted.limit, need={"test"})


@dataclass(frozen=True)
class Slot:
    """Where an answer belongs: the completion of question `i` (`option` None), or the likelihood of one of its options."""

    step: int | None
    i: int
    option: int | None


@dataclass(frozen=True)
class Question:
    """One test row as it is asked."""

    example: Example
    prompt: str
    token_ids: tuple[int, ...]
    options: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    across: str | None = None
    """The token, as text, that reaches from the prompt into an option: then scores begin in front of it."""


@dataclass
class Asked:
    """A cell whose requests are in the stream."""

    cell: Cell
    steps: Sequence[int | None]
    questions: Sequence[Question]
    answers: dict[Slot, Answer] = field(default_factory=dict)
    waiting: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """What was asked and answered: see `count`."""

    def count(self, request: Request) -> None:
        """Count what a request has the engine read.

        `prompt_tokens` that it is given, whether it has them in its cache or not; `soft_positions` in front of them;
        `scored_tokens` of options.
        """
        self.tokens["requests"] += 1
        self.tokens["prompt_tokens"] += len(request.token_ids)
        if request.soft_prompt is not None:
            assert isinstance(self.cell.protocol, Vectors)
            self.tokens["soft_positions"] += self.cell.protocol.length
        if isinstance(request, Score):
            self.tokens["scored_tokens"] += len(request.continuation)

    def take(self, slot: Slot, answer: Answer) -> None:
        """Keep an answer; count its `generated_tokens`, and its `cached_tokens`, soft positions among them, where it tells."""
        self.answers[slot] = answer
        self.waiting -= 1
        if isinstance(answer, Completion):
            self.tokens["generated_tokens"] += len(answer.token_ids)
        if answer.cached is not None:
            self.tokens["cached_tokens"] += answer.cached

    def completions(self, step: int | None) -> list[Completion]:
        """One a question."""
        found = [self.answers[Slot(step, i, None)] for i in range(len(self.questions))]
        return [answer for answer in found if isinstance(answer, Completion)]

    def option_logprobs(self, step: int | None) -> list[tuple[float, ...]]:
        """`[N][K]` log-likelihoods."""
        rows = []
        for i, question in enumerate(self.questions):
            found = [self.answers[Slot(step, i, k)] for k in range(len(question.options))]
            rows.append(tuple(answer.total for answer in found if isinstance(answer, LogLikelihood)))
        return rows


def questions(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> list[Question]:
    """The prompts of a cell's test rows as text and tokens, with the continuations to be scored.

    Raises:
        DataError: there are fewer rows than shots, or a prompt without its question.
        ModelError: the chat template loses part of a prompt.
    """
    task, protocol = cell.task.task, cell.protocol
    shots = draw_shots(rows.few_shot, protocol.shots, cell.seed) if isinstance(protocol, FewShot) else ()
    asked = []
    for example in rows.test:
        text = tokenizer.render(task.template.prompt(example, shots), chat=chat)
        if not is_found(example.question, text):
            raise DataError(
                f"{task.name}: row {example.key}: its question is not in the prompt; the template lacks {{question}}"
            )
        written = [tokenizer.continuation(text, option, chat=chat) for option in example.options]
        asked.append(
            Question(
                example=example,
                prompt=text,
                token_ids=tokenizer.prompt_ids(text),
                options=tuple(tokenizer.pairs(text, written)),
                across=tokenizer.across_the_seam(text, written),
            )
        )
    return asked


def require_no_thought(task: Task, tokenizer: Tokenizer, *, chat: bool) -> None:
    """Refuse to score options where a model is thinking: what it would say there is no answer.

    Raises:
        ModelError: the chat template's cue opens a thought, and the task has options.
    """
    if (
        chat
        and task.closed_ended
        and (thought := thought_of(tokenizer, f"the options of {task.name} would be scored inside it"))
    ):
        raise ModelError(thought)


def thought_of(tokenizer: Tokenizer, so: str) -> str | None:
    """A sentence about the thought that a chat template's cue leaves open, what comes of it, and the mend; None: it does not.

    Raises:
        ModelError: the template fails.
    """
    if tokenizer.open_thought is None:
        return None
    settings = ", ".join(f"{key}: {json.dumps(value)}" for key, value in (tokenizer.switch or {}).items())
    mend = f"chat_template_kwargs: {{{settings}}}" if settings else "chat_template: false (no chat_template_kwargs close it)"
    return f"{tokenizer.name}: its chat template opens a thought ({tokenizer.open_thought}), and {so}; set {mend}"


def seam_of(asked: Sequence[Question]) -> str:
    """In how many questions a token reaches from the prompt into an option, and which; empty: in none."""
    across = [question.across for question in asked if question.across is not None]
    if not across:
        return ""
    return f"{across[0]!r} reaches into the options of {len(across)} of {len(asked)} rows, which are scored from it on"


def requests_of(asked: Asked, engine: Engine, prompts: Mapping[int, Learnt]) -> Iterator[tuple[Slot, Request]]:
    """The requests of a cell: for each step and question a completion, and each option's log-likelihood.

    Args:
        asked: the cell, its questions and its steps.
        engine: who will be asked; it is given what was learnt.
        prompts: step -> what was learnt; empty for protocols that learn nothing.

    Raises:
        EngineError: a request does not fit the model.
    """
    cell = asked.cell
    sampling = cell.task.task.sampling
    for step in asked.steps:
        key, adapter, length = None, None, 0
        position: Position = "front"
        learnt = None if step is None else prompts[step]
        if isinstance(learnt, LoraAdapter):
            adapter = engine.add_adapter(learnt)
        elif isinstance(learnt, SoftPrompt):
            key = engine.add(learnt)
            length, position = learnt.length, learnt.position
        for i, question in enumerate(asked.questions):
            room = engine.max_model_len - length - len(question.token_ids)
            tokens = replace(sampling, max_tokens=max(1, min(sampling.max_tokens, room)))
            requests: list[Request] = [
                Generate(token_ids=question.token_ids, sampling=tokens, soft_prompt=key, position=position, adapter=adapter)
            ]
            requests += [
                Score(token_ids=ids, continuation=option, soft_prompt=key, position=position, adapter=adapter)
                for ids, option in question.options
            ]
            for k, request in enumerate(requests):
                check_request(request, soft_length=length, max_model_len=engine.max_model_len)
                yield Slot(step, i, k - 1 if k else None), request


def draw_shots(rows: Sequence[Example], shots: int, seed: int | None) -> tuple[Example, ...]:
    """The worked examples of a seed: the same for every question of a cell, so that they share a prefix.

    Raises:
        DataError: there are fewer rows than shots.
    """
    if len(rows) < shots:
        raise DataError(f"few_shot wants {shots} shots, and there are {len(rows)} few-shot rows; ask for fewer")
    return tuple(random.Random(f"shots {seed}").sample(list(rows), shots))
