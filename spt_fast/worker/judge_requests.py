"""Building a judge's requests: a completion beside its question, cut to fit the judge."""

from __future__ import annotations

from spt_fast.engine.base import Engine, check_request
from spt_fast.errors import DataError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan import Stage
from spt_fast.plan.cell import TaskRows
from spt_fast.scoring import judge_prompts
from spt_fast.scoring.judge_prompts import NO, YES, Question
from spt_fast.types import Example, Generate, Sample, Sampling
from spt_fast.worker.rows import rows_of

REPLY = Sampling(max_tokens=16, choices=(YES, NO))
"""Enough tokens for one of the two words under any tokenizer."""

CUT = "\n[...]\n"
"""Stands for the middle of a completion that is too long for the judge."""


class JudgeRequests:
    """What a judge is asked about tasks whose rows were read."""

    def __init__(self, stage: Stage, tokenizer: Tokenizer, *, chat: bool) -> None:
        """
        Args:
            stage: the judge's.
            tokenizer: the judge's.
            chat: ask through its chat template.
        """
        self._stage = stage
        self._tokenizer = tokenizer
        self._chat = chat
        self._examples: dict[str, dict[str, Example]] = {}
        """By task and key, the test rows."""
        self._shown: dict[str, str] = {}
        """By task, an answer that shows the form."""

    def read(self, task: TaskRows) -> None:
        """Read what was asked of a task, what is right, and an answer that shows the form; once.

        Raises:
            DataError, ConfigError: its rows cannot be read.
        """
        if task.name in self._examples:
            return
        rows = rows_of(self._stage, task)
        self._examples[task.name] = {example.key: example for example in rows.test}
        # Of a row that is not asked, where there is one.
        self._shown[task.name] = next(iter((*rows.few_shot, *rows.tuning, *rows.test))).target

    def of(self, task: TaskRows, sample: Sample, question: Question, engine: Engine) -> Generate:
        """One request; a completion that is too long for the judge loses its middle, the question nothing.

        Raises:
            DataError: the row is not there any more.
            EngineError: the question alone is too long for the judge.
        """
        example = self._examples[task.name].get(sample.example)
        if example is None:
            raise DataError(f"{task.name}: row {sample.example} is not among the test rows any more; run it with --fresh")

        def ids_with(completion: str) -> tuple[int, ...]:
            text = judge_prompts.prompt(
                question,
                asked=task.task.template.render(example),
                instruction=task.task.template.instruction,
                example=self._shown[task.name],
                answers=example.answers,
                completion=completion,
            )
            return self._tokenizer.prompt_ids(self._tokenizer.render(text, chat=self._chat))

        most = engine.max_model_len - REPLY.max_tokens
        ids, written = ids_with(sample.completion), self._tokenizer.text_ids(sample.completion)
        keep = len(written)
        while len(ids) > most and keep > 0:
            # Encoded anew, what is left can be a little longer than it was as a part: hence the few more, and the loop.
            keep = max(0, keep - (len(ids) - most) - 8)
            head, tail = written[: (keep + 1) // 2], written[len(written) - keep // 2 :]
            ids = ids_with(self._tokenizer.decode(head) + CUT + self._tokenizer.decode(tail))
        request = Generate(token_ids=ids, sampling=REPLY)
        check_request(request, soft_length=0, max_model_len=engine.max_model_len)
        return request
