"""What is asked of a cell, and which answer belongs where."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

from spt_fast.config import FewShot, Learning, Vectors
from spt_fast.engine.base import Engine, check_request
from spt_fast.errors import DataError, ModelError
from spt_fast.models.chat import is_found
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.prompts.lora import Learnt, LoraAdapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.methods import LEAST_FOR_PRIORS, Choice, OptionScores, Priors, choose
from spt_fast.tasks.base import Task
from spt_fast.tasks.forms import bare_texts
from spt_fast.tasks.library import Answered, Prompt, chat_of
from spt_fast.tasks.rows import Rows
from spt_fast.tasks.template import Template
from spt_fast.types import Answer, Completion, Example, Generate, LogLikelihood, Position, Request, Sampling, Score


def rows_of(stage: Stage, wanted: TaskRows) -> Rows:
    """The rows of a task: those that the stage came with, or else from where the task has them.

    Raises:
        DataError, ConfigError: they cannot be read, or are others than those that the cells' keys name.
    """
    if wanted.name in stage.rows:
        rows: Rows = pickle.loads(stage.rows[wanted.name])
        return rows
    rows = wanted.read()
    if wanted.content not in ("", rows.content):
        raise DataError(f"{wanted.name}: its rows, or its task file, have changed since the run began; start it again")
    return rows


What: TypeAlias = Literal["written", "listed", "cloze", "bare", "beside"]
"""A completion; the likelihood of an option that the prompt lists; of its text behind the question alone; behind the cue; and
what a library's task wants beside."""
Pair: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of its continuation."""
LEAST_UNSEEN = 32
"""Where fewer of the rows to choose by were not learnt on, all are taken, learnt on or not."""
MOST_CUT = 0.05
"""Share of the completions of a cell that may be cut off for want of room. More of them, and the scores are the room's."""


@dataclass(frozen=True)
class Slot:
    """Where an answer belongs."""

    step: int | None
    what: What
    i: int
    """Of `written`, `listed` and `cloze` the question; of `bare` the text (`Questions.bare`)."""
    k: int = 0
    """Of `listed` and `cloze` the option."""


@dataclass(frozen=True)
class Question:
    """One row as it is asked."""

    example: Example
    prompt: str
    token_ids: tuple[int, ...]
    options: tuple[Pair, ...]
    """Prompt and continuation of each option as the prompt lists it, `K` of them; the prompts are all the same."""
    across: str | None = None
    """The token, as text, that reaches from the prompt into an option: then scores begin in front of it."""
    cloze: tuple[Pair, ...] = ()
    """The same of the options' texts behind the question alone; empty: not asked."""
    bare: tuple[int, ...] = ()
    """Of each text, its place among those whose unconditional likelihood is asked; empty: not asked."""
    beside: tuple[Pair, ...] = ()
    """Further likelihoods that the scores of a library's task rest on."""


@dataclass(frozen=True)
class Questions:
    """What a cell asks: its test rows, and for closed-ended tasks the rows by which the best way of scoring is chosen."""

    test: Sequence[Question]
    choosing: Sequence[Question] = ()
    """Tuning rows. No completion is asked of them."""
    learnt: int = 0
    """Those of them that the cell's vectors have learnt on."""
    bare: Sequence[Pair] = ()
    """The options' texts behind the bare cue, each once for all rows."""
    no_cloze: str = ""
    """Why cloze is not asked, where that is not by the task's own word."""

    def count(self, *, last: bool) -> int:
        """Requests of a step; of the last one, by which the best way is chosen, there are more."""
        of_tests = sum(1 + len(question.options) + len(question.cloze) + len(question.beside) for question in self.test)
        of_choosing = sum(len(question.options) + (len(question.cloze) if last else 0) for question in self.choosing)
        return of_tests + of_choosing + len(self.bare_at(last=last))

    def bare_at(self, *, last: bool) -> Sequence[int]:
        """The texts whose unconditional likelihood is asked at a step, by number: those of `choosing` at the last one only."""
        asked = (*self.test, *self.choosing) if last else self.test
        return sorted({number for question in asked for number in question.bare})


@dataclass
class Room:
    """Whether the positions behind the prompts of a cell were enough for what the task allows to write."""

    wanted: int
    """The task's `max_tokens`."""
    positions: int = 0
    """That the model has for one request (`max_model_len`)."""
    longest: int = 0
    """Positions of the longest prompt, soft ones included."""
    prompts: int = 0
    less: int = 0
    """Prompts that leave less room than is wanted."""
    answered: Counter[int | None] = field(default_factory=Counter)
    """Completions by step."""
    cut: Counter[int | None] = field(default_factory=Counter)
    """Those of them that ended because no position was left, while the task allows more tokens."""

    def left(self, prompt: int, positions: int) -> int:
        """How many tokens may be written behind a prompt of so many positions."""
        self.positions, self.longest = positions, max(prompt, self.longest)
        self.prompts += 1
        self.less += positions - prompt < self.wanted
        return min(self.wanted, positions - prompt)

    def see(self, step: int | None, completion: Completion) -> None:
        """Take note of what was written."""
        self.answered[step] += 1
        self.cut[step] += completion.finish_reason == "length" and len(completion.token_ids) < self.wanted

    @property
    def tight(self) -> str:
        """That there are prompts with less room, in words; empty where there are none. Known before anything is written."""
        if not self.less:
            return ""
        return (
            f"{self.less:,} of {self.prompts:,} prompts leave less room than the task's max_tokens of {self.wanted} "
            f"(max_model_len is {self.positions:,} tokens, the longest prompt has {self.longest:,})"
        )

    def fault(self, *, mend: str) -> str:
        """Why the completions say too little of the model to be scored; empty where they do not.

        Args:
            mend: what to do about it.
        """
        worst = max(self.cut, key=lambda step: self.cut[step] / self.answered[step], default=None)
        cut, answered = self.cut[worst], self.answered[worst]
        if not answered or cut <= MOST_CUT * answered:
            return ""
        at = "" if worst is None else f" at step {worst}"
        return (
            f"{cut:,} of {answered:,} completions{at} were cut off for want of room: max_model_len is {self.positions:,} "
            f"tokens, the longest prompt has {self.longest:,}, and the task's max_tokens is {self.wanted}; {mend}"
        )


@dataclass
class Asked:
    """A cell whose requests are in the stream."""

    cell: Cell
    steps: Sequence[int | None]
    asks: Questions
    answers: dict[Slot, Answer] = field(default_factory=dict)
    waiting: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """What was asked and answered: see `count`."""
    room: Room = field(init=False)
    not_finite: int = 0
    """Answers from logits that were NaN or infinite."""

    def __post_init__(self) -> None:
        self.room = Room(wanted=self.cell.task.task.sampling.max_tokens)

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
        self.not_finite += not answer.finite
        if isinstance(answer, Completion):
            self.tokens["generated_tokens"] += len(answer.token_ids)
            self.room.see(slot.step, answer)
        if answer.cached is not None:
            self.tokens["cached_tokens"] += answer.cached

    def completions(self, step: int | None) -> list[Completion]:
        """One a test row."""
        found = [self.answers[Slot(step, "written", i)] for i in range(len(self.asks.test))]
        return [answer for answer in found if isinstance(answer, Completion)]

    def scores(self, step: int | None) -> list[OptionScores]:
        """What is known of the options of each test row, debiased by the rows to choose by."""
        priors = Priors(self._totals(step, "listed", i) for i in self._choosing)
        return [
            replace(self._scores(step, i), priors=priors.of(len(question.options))) for i, question in enumerate(self.asks.test)
        ]

    def choice(self) -> Choice:
        """The way that is best at the last step, on the rows to choose by."""
        step = self.steps[-1]
        priors = Priors(self._totals(step, "listed", i) for i in self._choosing)
        found = [replace(self._scores(step, i), priors=priors.of(len(self._rows[i].options))) for i in self._choosing]
        return choose(found, [self._rows[i].example.gold for i in self._choosing], learnt=self.asks.learnt)

    @cached_property
    def _rows(self) -> Sequence[Question]:
        return (*self.asks.test, *self.asks.choosing)

    @property
    def _choosing(self) -> range:
        return range(len(self.asks.test), len(self._rows))

    def _scores(self, step: int | None, i: int) -> OptionScores:
        question = self._rows[i]
        return OptionScores(
            listed=self._totals(step, "listed", i),
            texts=texts_of(question.example) if question.cloze else (),
            cloze=self._totals(step, "cloze", i),
            unconditional=tuple(self._total(Slot(step, "bare", number)) for number in question.bare),
        )

    def answered(self, step: int | None) -> list[Answered]:
        """What a library's task is to judge, one a test row."""
        found = []
        for i, (question, completion) in enumerate(zip(self.asks.test, self.completions(step), strict=True)):
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


def texts_of(example: Example) -> tuple[str, ...]:
    """The options' texts without letters, `[K]`; none where there are letters alone."""
    return example.texts or bare_texts(example.options)


def questions(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> list[Question]:
    """The prompts of a cell's test rows as text and tokens, with the options to be scored behind them; without cloze.

    Raises:
        DataError: there are fewer rows than shots, or a prompt without its question.
        ModelError: the chat template loses part of a prompt.
    """
    asked = _asking(cell, rows, tokenizer, chat=chat)
    return [asked(example) for example in rows.test]


def _asking(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> Callable[[Example], Question]:
    """How one row of a cell is asked."""
    task = cell.task.task
    if task.library is None:
        shots = _shots(cell, rows)
        return lambda example: _question(example, shots, task, tokenizer, chat=chat)
    wanted = cell.protocol.shots if isinstance(cell.protocol, FewShot) else 0
    prompts = task.library.prompts(rows, shots=wanted, seed=cell.seed, chat=chat_of(tokenizer) if chat else None)
    return lambda example: _library_question(example, prompts.of(example), tokenizer)


def _library_question(example: Example, prompt: Prompt, tokenizer: Tokenizer) -> Question:
    """A row as another library asks it."""
    together = len({before for before, _ in prompt.options}) == 1
    written = [behind for _, behind in prompt.options]
    pairs = tokenizer.pairs(prompt.text, written) if together else [tokenizer.pair(*each) for each in prompt.options]
    return Question(
        example=example,
        prompt=prompt.text,
        token_ids=tokenizer.prompt_ids(prompt.text),
        options=tuple(pairs),
        across=tokenizer.across_the_seam(prompt.text, written) if together else None,
        beside=tuple(tokenizer.pair(*each) for each in prompt.beside),
    )


def all_questions(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> Questions:
    """What a cell asks by all ways of scoring.

    Cloze is a further measure: where one of its requests cannot be made (a text without a token of its own), the cell does
    without.

    Raises:
        DataError: there are fewer rows than shots.
    """
    task = cell.task.task
    ask = _asking(cell, rows, tokenizer, chat=chat)
    test = [ask(example) for example in rows.test]
    if not task.closed_ended:
        return Questions(test)
    examples, learnt = choosing_rows(cell, rows)
    asked = [*test, *map(ask, examples)]
    shots = _shots(cell, rows) if task.library is None else ()
    bare: dict[str, int] = {}
    reason = ""
    try:
        if (template := task.cloze_template) is not None and all(texts_of(question.example) for question in asked):
            asked = [_with_cloze(question, template, shots, tokenizer, bare, chat=chat) for question in asked]
        cue = tokenizer.render(template.cue, chat=chat) if template is not None else ""
        pairs = [tokenizer.pairs(cue, [tokenizer.continuation(cue, text, chat=chat)])[0] for text in bare]
    except DataError as e:
        asked, pairs, reason = [replace(question, cloze=(), bare=()) for question in asked], [], str(e)
    return Questions(asked[: len(test)], asked[len(test) :], learnt, pairs, reason)


def choosing_rows(cell: Cell, rows: Rows) -> tuple[list[Example], int]:
    """The rows by which a cell's best way of scoring is chosen, and how many of them its vectors have learnt on.

    They are learnt on last (`Rows.choosing`); those that were are left out, where enough others are. There are no more of them
    than test rows, but for eight: a small cell is to stay small.
    """
    learnt = 0
    if isinstance(cell.protocol, Learning) and cell.source == cell.task:
        learnt = max(0, cell.protocol.rows_needed - (len(rows.tuning) - len(rows.choosing)))
    learnt = min(learnt, len(rows.choosing))
    most = max(LEAST_FOR_PRIORS, len(rows.test))
    unseen = len(rows.choosing) - learnt
    if unseen >= min(LEAST_UNSEEN, most, len(rows.choosing)):
        return [rows.tuning[i] for i in rows.choosing[learnt:][-most:]], 0
    chosen = rows.choosing[-most:]
    return [rows.tuning[i] for i in chosen], max(0, len(chosen) - unseen)


def _shots(cell: Cell, rows: Rows) -> tuple[Example, ...]:
    shots = cell.protocol.shots if isinstance(cell.protocol, FewShot) else 0
    return draw_shots(rows.few_shot, shots, cell.seed) if shots else ()


def _question(example: Example, shots: Sequence[Example], task: Task, tokenizer: Tokenizer, *, chat: bool) -> Question:
    text = tokenizer.render(task.template.prompt(example, shots), chat=chat)
    if not is_found(example.question, text):
        raise DataError(f"{task.name}: row {example.key}: its question is not in the prompt; the template lacks {{question}}")
    written = [tokenizer.continuation(text, option, chat=chat) for option in example.options]
    return Question(
        example=example,
        prompt=text,
        token_ids=tokenizer.prompt_ids(text),
        options=tuple(tokenizer.pairs(text, written)),
        across=tokenizer.across_the_seam(text, written),
    )


def _with_cloze(
    question: Question, template: Template, shots: Sequence[Example], tokenizer: Tokenizer, bare: dict[str, int], *, chat: bool
) -> Question:
    """A question with its cloze form, the shots in that form too; `bare` is given texts that it does not have."""
    texts = texts_of(question.example)
    worked = [replace(shot, target=texts_of(shot)[shot.gold]) for shot in shots if shot.gold is not None]
    text = tokenizer.render(template.prompt(question.example, worked), chat=chat)
    pairs = tokenizer.pairs(text, [tokenizer.continuation(text, option, chat=chat) for option in texts])
    return replace(question, cloze=tuple(pairs), bare=tuple(bare.setdefault(option, len(bare)) for option in texts))


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
    """The requests of a cell: for each step and test row a completion, and each option's log-likelihood by all ways.

    What stands behind one prompt comes together, so that the engine reads it once.

    Args:
        asked: the cell, its questions and its steps.
        engine: who will be asked; it is given what was learnt.
        prompts: step -> what was learnt; empty for protocols that learn nothing.

    Raises:
        EngineError: a request does not fit the model.
    """
    for step in asked.steps:
        behind = _behind(engine, None if step is None else prompts[step])
        for slot, request in _of_step(asked, step, behind, engine.max_model_len):
            check_request(request, soft_length=behind.length, max_model_len=engine.max_model_len)
            yield slot, request


@dataclass(frozen=True)
class _Behind:
    """What was learnt that requests stand behind."""

    soft_prompt: str | None = None
    position: Position = "front"
    adapter: str | None = None
    length: int = 0

    def score(self, pair: Pair) -> Score:
        return Score(
            token_ids=pair[0], continuation=pair[1], soft_prompt=self.soft_prompt, position=self.position, adapter=self.adapter
        )

    def generate(self, token_ids: tuple[int, ...], sampling: Sampling) -> Generate:
        return Generate(
            token_ids=token_ids, sampling=sampling, soft_prompt=self.soft_prompt, position=self.position, adapter=self.adapter
        )


def _behind(engine: Engine, learnt: Learnt | None) -> _Behind:
    if isinstance(learnt, LoraAdapter):
        return _Behind(adapter=engine.add_adapter(learnt))
    if isinstance(learnt, SoftPrompt):
        return _Behind(engine.add(learnt), learnt.position, length=learnt.length)
    return _Behind()


def _of_step(asked: Asked, step: int | None, behind: _Behind, most: int) -> Iterator[tuple[Slot, Request]]:
    sampling, last = asked.cell.task.task.sampling, step == asked.steps[-1]
    tests = len(asked.asks.test)
    for i, question in enumerate((*asked.asks.test, *asked.asks.choosing)):
        if i < tests:
            room = asked.room.left(behind.length + len(question.token_ids), most)
            tokens = replace(sampling, max_tokens=max(1, room))
            yield Slot(step, "written", i), behind.generate(question.token_ids, tokens)
            yield from ((Slot(step, "beside", i, k), behind.score(pair)) for k, pair in enumerate(question.beside))
        yield from ((Slot(step, "listed", i, k), behind.score(pair)) for k, pair in enumerate(question.options))
        if i < tests or last:
            yield from ((Slot(step, "cloze", i, k), behind.score(pair)) for k, pair in enumerate(question.cloze))
    for number in asked.asks.bare_at(last=last):
        yield Slot(step, "bare", number), behind.score(asked.asks.bare[number])


def draw_shots(rows: Sequence[Example], shots: int, seed: int | None) -> tuple[Example, ...]:
    """The worked examples of a seed: the same for every question of a cell, so that they share a prefix.

    Raises:
        DataError: there are fewer rows than shots.
    """
    if len(rows) < shots:
        raise DataError(f"few_shot wants {shots} shots, and there are {len(rows)} few-shot rows; ask for fewer")
    return tuple(random.Random(f"shots {seed}").sample(list(rows), shots))
