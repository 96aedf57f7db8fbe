"""A task of lm-eval as a task of ours."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from spt_fast.errors import ConfigError, boundary
from spt_fast.tasks.base import Cut, Task
from spt_fast.tasks.forms import in_form_asked, in_form_unlisted
from spt_fast.tasks.library import Answered, Chat, Library, LibrarySource, Rows, Verdict
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.config import of_prepared
from spt_fast.tasks.lm_eval.known import Known
from spt_fast.tasks.lm_eval.prompts import LmEvalPrompts
from spt_fast.tasks.lm_eval.rows import LmEvalRows, read_row
from spt_fast.tasks.lm_eval.scores import judge
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Metric, Sampling

PREFIX = "lm-eval:"
ENDS = "(?s).*"
"""The form of an answer that no filter looks for: it has words, and it ends by itself."""


def task_of(task: Known) -> Task:
    """The task of ours. Nothing of lm-eval is imported for it.

    Raises:
        ConfigError: it cannot be asked.
    """
    closed = task.output == "multiple_choice"
    return Task(
        name=f"{PREFIX}{task.name}",
        version=_whole(task.version),
        summary=f"{task.name} of lm-evaluation-harness {door.version()} ({task.output})",
        source=LibrarySource(opener=LmEvalRows(task)),
        library=LmEvalTask(task),
        read_row=partial(read_row, closed=closed),
        cut=None if task.constant else Cut(),
        template=Template(instruction="", item="{question}"),
        cloze=None,
        format=None if closed else task.regex or ENDS,
        form=_form(task),
        sampling=Sampling(
            max_tokens=task.max_tokens, stop=task.until, temperature=task.temperature, top_p=task.top_p, seed=_seed(task)
        ),
        random_baseline=_baseline(task, closed=closed),
        licence="that of its data set",
        definition=_definition(task),
        notes="" if task.use == "tuned" else task.why,
    )


@dataclass(frozen=True)
class LmEvalTask(Library):
    """What lm-eval does for one of its tasks."""

    task: Known

    def prompts(self, rows: Rows, *, shots: int = 0, seed: int | None = None, chat: Chat | None = None) -> LmEvalPrompts:
        """Byte for byte what `lm_eval` asks."""
        if shots and self.task.shots == 0:
            raise ConfigError(
                f"lm-eval:{self.task.name}: lm-eval always asks it without shots (num_fewshot: 0); leave few_shot out"
            )
        ready = self._ready(rows)
        if shots and rows.few_shot and not ready.has_samples:
            ready.show(
                [example.row for example in sorted(rows.few_shot, key=lambda each: each.place) if example.row is not None]
            )
        return LmEvalPrompts(self.task, ready, rows, shots=shots, seed=seed, chat=chat)

    def in_form(self, text: str, example: Example) -> bool:
        """An option, as it is, or where the prompt shows none, what is written like one; what ends with what the first regular
        filter looks for; else any words.

        A filter that does not find even the row's own target cannot say what form an answer has.
        """
        if example.options:
            unlisted = self.task.choices is None and not _listed(example)
            return (in_form_unlisted if unlisted else in_form_asked)(text, example.options)
        if self.task.regex and _ends_with(self.task.regex, example.target):
            return _ends_with(self.task.regex, text)
        return bool(text.strip())

    def judge(self, rows: Rows, answers: Sequence[Answered]) -> tuple[list[Verdict], tuple[Metric, ...]]:
        """By its own filters and metrics."""
        return judge(self.task, self._ready(rows), answers)

    def _ready(self, rows: Rows) -> door.Ready:
        with boundary(ConfigError, f"lm-eval:{self.task.name}: cannot be built"):
            return door.Ready(*of_prepared(self.task, rows.first))


def _listed(example: Example) -> bool:
    """Whether the prompt shows the options: a model that reads them can write one of them as it is."""
    return all(option in example.question for option in example.options)


def _ends_with(pattern: str, text: str) -> bool:
    """Whether a text ends with what a pattern finds, a full stop or a closing mark behind it apart."""
    found = list(re.finditer(pattern, text))
    return bool(found) and not text[found[-1].end() :].strip().strip(".*$\\)]}'\"")


def _form(task: Known) -> str:
    if task.output == "multiple_choice":
        known = "one of the options, as lm-eval scores it, and nothing else"
        return (
            known if task.choices else f"{known}; where the prompt does not show them, a line at most twice as long as they are"
        )
    if task.regex:
        return f"any words that end with what the filter {task.filter!r} looks for: {task.regex}"
    if task.output == "loglikelihood":
        return "any words"
    stops = ", ".join(map(repr, task.until)) or "the end of the text"
    return f"any words that end by themselves (at {stops}) within {task.max_tokens} tokens"


def _definition(task: Known) -> str:
    content = [door.version(), task.digest, json.dumps(dict(task.overrides), sort_keys=True, default=str)]
    if task.output == "multiple_choice" and task.choices is None:
        content.append("unlisted")  # the rule of its form, of which there was another
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def _baseline(task: Known, *, closed: bool) -> float:
    """NaN where the number of options is known of rows alone."""
    if not closed:
        return 0.0
    return 1 / task.choices if task.choices else math.nan


def _seed(task: Known) -> int | None:
    return 0 if task.temperature else None


def _whole(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
