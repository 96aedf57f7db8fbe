"""The questions of a cell: its rows as text and tokens, and the options or gold answers that are scored behind them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from spt_fast.errors import DataError, ModelError
from spt_fast.models.chat import is_found
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan.cell import Cell
from spt_fast.scoring.methods import LEAST_FOR_PRIORS
from spt_fast.tasks.base import Task
from spt_fast.tasks.forms import bare_texts
from spt_fast.tasks.gold import gold_of, lead_in
from spt_fast.tasks.library import Continued, Prompt, chat_of
from spt_fast.tasks.rows import Rows
from spt_fast.tasks.template import Template
from spt_fast.types import Example

Pair: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of its continuation."""
LEAST_UNSEEN = 32
"""Where fewer of the rows to choose by were not trained on, all are taken, trained on or not."""


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
    written: tuple[str, ...] = ()
    """Tasks of a library: what of `options` is scored, as text, `K` of them."""
    answers: tuple[Pair, ...] = ()
    """Open-ended tasks: prompt and continuation of each gold answer; empty: not asked."""
    answer_texts: tuple[str, ...] = ()
    """The same as text."""

    @property
    def own_answers(self) -> Sequence[int]:
        """The numbers of the gold answers that have requests of their own: those not in `beside`."""
        return [k for k, pair in enumerate(self.answers) if pair not in self.beside]


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
    lead_in: str = ""
    """Open-ended tasks: what is given of the target in front of gold answers."""
    no_answers: str = ""
    """Why the likelihood of gold answers is not asked."""

    @property
    def all_rows(self) -> Sequence[Question]:
        """Test rows, then the rows to choose by."""
        return (*self.test, *self.choosing)

    def digest(self, steps: Sequence[int | None], learnt: Sequence[str]) -> str:
        """Hash of all that is asked at some steps, behind what was trained: 16 hexadecimal digits.

        Args:
            steps: at which it is asked.
            learnt: keys of what was trained.
        """
        digest = hashlib.sha256(repr((list(steps), list(learnt), self.learnt, self.bare)).encode())
        for each in self.all_rows:
            likelihoods = [pair[1] for pair in (*each.options, *each.cloze, *each.beside, *each.answers)]
            digest.update(repr((each.example.key, each.prompt, each.bare, likelihoods)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    def count(self, *, last: bool) -> int:
        """Requests of a step; of the last one, by which the best way is chosen, there are more."""
        of_tests = sum(1 + len(each.options) + len(each.cloze) + len(each.beside) + len(each.own_answers) for each in self.test)
        of_choosing = sum(len(question.options) + (len(question.cloze) if last else 0) for question in self.choosing)
        return of_tests + of_choosing + len(self.bare_at(last=last))

    def bare_at(self, *, last: bool, rows: Sequence[int] | None = None) -> Sequence[int]:
        """The texts whose unconditional likelihood is asked at a step, by number: those of `choosing` at the last one only.

        Args:
            last: it is the last one.
            rows: those of these rows: test rows, then `choosing`; None: of all.
        """
        asked = (*self.test, *self.choosing) if last else self.test
        chosen = asked if rows is None else [asked[i] for i in rows if i < len(asked)]
        return sorted({number for question in chosen for number in question.bare})


def texts_of(example: Example) -> tuple[str, ...]:
    """The options' texts without letters, `[K]`; none where there are letters alone."""
    return example.texts or bare_texts(example.options)


def questions(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> list[Question]:
    """The prompts of a cell's test rows as text and tokens, with the options to be scored behind them; without cloze.

    Raises:
        DataError: there are fewer rows than shots, or a prompt without its question.
        ModelError: the chat template loses part of a prompt.
    """
    ask = asking(cell, rows, tokenizer, chat=chat)
    return [ask(example) for example in rows.test]


def asking(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> Callable[[Example], Question]:
    """How one row of a cell is asked."""
    task = cell.task.task
    if task.library is None:
        shots = _shots(cell, rows)
        return lambda example: _question(example, shots, task, tokenizer, chat=chat)
    prompts = task.library.prompts(rows, shots=cell.protocol.shots, seed=cell.seed, chat=chat_of(tokenizer) if chat else None)
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
        written=tuple(behind.strip() for behind in written),
        beside=tuple(tokenizer.pair(*each) for each in prompt.beside),
        answers=tuple(_pairs_of_answers(prompt.answers, tokenizer)),
        answer_texts=tuple(behind.strip() for _, behind in prompt.answers),
    )


def _pairs_of_answers(answers: Sequence[Continued], tokenizer: Tokenizer) -> list[Pair]:
    """None where one has no token of its own: then the row is asked without. All stand behind one prompt."""
    try:
        return tokenizer.pairs(answers[0][0], [behind for _, behind in answers]) if answers else []
    except DataError:
        return []


def all_questions(cell: Cell, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> Questions:
    """What a cell asks by all ways of scoring.

    Cloze is a further measure: where one of its requests cannot be made (a text without a token of its own), the cell does
    without.

    Raises:
        DataError: there are fewer rows than shots.
    """
    task = cell.task.task
    ask = asking(cell, rows, tokenizer, chat=chat)
    test = [ask(example) for example in rows.test]
    if not task.closed_ended:
        return _with_answers(test, task, rows, tokenizer, chat=chat)
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
    if cell.protocol.learns and cell.source == cell.task:
        learnt = max(0, cell.protocol.rows_needed - (len(rows.tuning) - len(rows.choosing)))
    elif cell.protocol.learns and cell.source == cell.task.learnt_with:
        learnt = len(rows.choosing)  # which of its rows the group has learnt on is not known here
    learnt = min(learnt, len(rows.choosing))
    most = max(LEAST_FOR_PRIORS, len(rows.test))
    unseen = len(rows.choosing) - learnt
    if unseen >= min(LEAST_UNSEEN, most, len(rows.choosing)):
        return [rows.tuning[i] for i in rows.choosing[learnt:][-most:]], 0
    chosen = rows.choosing[-most:]
    return [rows.tuning[i] for i in chosen], max(0, len(chosen) - unseen)


def _shots(cell: Cell, rows: Rows) -> tuple[Example, ...]:
    shots = cell.protocol.shots
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


def _with_answers(asked: Sequence[Question], task: Task, rows: Rows, tokenizer: Tokenizer, *, chat: bool) -> Questions:
    """Questions of an open-ended task with the gold answers to be scored behind them.

    That is a further measure: a row where it cannot be done (an answer without a token of its own) is asked without.
    """
    if chat and (thought := thought_of(tokenizer, "gold answers would be scored inside it")):
        return Questions(asked, no_answers=thought)
    if task.library is not None:  # it writes them itself
        return Questions(asked)
    lead = lead_in(task, (*rows.test, *rows.tuning, *rows.few_shot))
    return Questions([_with_answer(each, task, lead, tokenizer, chat=chat) for each in asked], lead_in=lead or "")


def _with_answer(question: Question, task: Task, lead: str | None, tokenizer: Tokenizer, *, chat: bool) -> Question:
    """A lead-in is part of the prompt, and so is the white space in front of it."""
    gold = gold_of(task, question.example, lead)
    seam = tokenizer.continuation(question.prompt, gold.given, chat=chat)
    prompt, before = (question.prompt + seam, "") if gold.given else (question.prompt, seam)
    pairs = _pairs_of_answers([(prompt, before + text) for text in gold.texts], tokenizer)
    return replace(question, answers=tuple(pairs), answer_texts=gold.texts if pairs else ())


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
    """A sentence about the thought that a chat template's cue leaves open, what comes of it, and the fix; None: it does not.

    Raises:
        ModelError: the template fails.
    """
    if tokenizer.open_thought is None:
        return None
    settings = ", ".join(f"{key}: {json.dumps(value)}" for key, value in (tokenizer.switch or {}).items())
    fix = f"chat_template_kwargs: {{{settings}}}" if settings else "chat_template: false (no chat_template_kwargs close it)"
    return f"{tokenizer.name}: its chat template opens a thought ({tokenizer.open_thought}), and {so}; set {fix}"


def seam_of(asked: Sequence[Question]) -> str:
    """In how many questions a token reaches from the prompt into an option, and which; empty: in none."""
    across = [question.across for question in asked if question.across is not None]
    if not across:
        return ""
    return f"{across[0]!r} reaches into the options of {len(across)} of {len(asked)} rows, which are scored from it on"


def draw_shots(rows: Sequence[Example], shots: int, seed: int | None) -> tuple[Example, ...]:
    """The worked examples of a seed: the same for every question of a cell, so that they share a prefix.

    Raises:
        DataError: there are fewer rows than shots.
    """
    if len(rows) < shots:
        raise DataError(f"few_shot needs {shots} few-shot rows, and the task has {len(rows)}; use fewer shots")
    return tuple(random.Random(f"shots {seed}").sample(list(rows), shots))
