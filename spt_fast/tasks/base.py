"""Task: a benchmark as spt-fast sees it: where its rows are, what is asked, what form the answer has, what is right."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from spt_fast.config.ranges import number, whole
from spt_fast.tasks.answers.thoughts import answer_of, answer_start
from spt_fast.tasks.forms import in_form_asked
from spt_fast.tasks.library import Library, LibrarySource
from spt_fast.tasks.template import Template, cloze_of, cloze_template
from spt_fast.types import Example, Extraction, Sampling

Row: TypeAlias = Mapping[str, Any]
Split: TypeAlias = Literal["tuning", "few_shot", "test"]
SPLITS: tuple[Split, ...] = ("tuning", "few_shot", "test")
AUTO = "auto"
"""`Task.cloze` that follows from the template."""


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Rows of a data set on the Hub, or of local files in the same columns."""

    id: str
    revision: str
    """Full commit."""
    config: str | tuple[str, ...] | None = None
    """Of several, the rows one after the other."""
    splits: Mapping[Split, str]
    """Ours -> the data set's name of it. `few_shot` may be the same as `tuning`: shots are then drawn from its end,
    and tuning leaves those rows alone."""
    elsewhere: Mapping[Split, HubSource] = field(default_factory=dict)
    """Splits whose rows are another data set's: MATH-500 has test rows only, and is tuned on MATH."""
    sizes: Mapping[Split, int] = field(default_factory=dict, compare=False)
    """Published rows of each split, where they are known; for people who read about the task."""

    def of(self, split: Split) -> HubSource:
        """The data set that holds a split."""
        return self.elsewhere.get(split, self)

    @property
    def all_splits(self) -> dict[Split, str]:
        """Ours -> the name of it in the data set that holds it."""
        found = {split: source.splits[split] for split, source in self.elsewhere.items()}
        return {split: name for split in SPLITS if (name := {**self.splits, **found}.get(split)) is not None}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How test rows that are a data set's only ones are cut into tuning, few-shot and test rows.

    Rows (or groups: all questions of a passage) go by content hash, the same for everybody: first to tuning until it has
    `tuning` rows, or `share` of them all where there are few; then to few-shot until it has its own; the rest is test.
    """

    tuning: int = field(default=640, metadata=whole(least=1, most=2**31 - 1))
    """80 steps of 8."""
    few_shot: int = field(default=32, metadata=whole(least=0, most=2**31 - 1))
    share: float = field(default=0.72, metadata=number(above=0, below=1, note="a share of the rows"))
    by: Literal["row", "group"] = "row"


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """Rows of local files: a user's own task. Paths as `data_files` in grid.yaml has them."""

    files: str | Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class GeneratedSource:
    """Rows that the package makes itself: the zoo's worlds."""

    rows: Callable[[Split], Sequence[Row]]
    content: str
    """What the rows depend on beside the code (the world's seed); part of the cell's key."""


class LeftOut(Exception):  # noqa: N818  (no error: what a task says of a row)
    """Raised by `Task.read_row`: a row that is not asked."""

    def __init__(self, why: str, *, column: str = "", by_design: bool = False) -> None:
        """Say why.

        Args:
            why: in words that stand behind the number of such rows: "with no answer".
            column: where it is seen.
            by_design: the row is no question of this task at all, as one without an answer is none of SQuAD 1.1. Other rows
                that are left out are lost to the task, and count in the share that may be (`tasks.losses`).
        """
        super().__init__(f"{why} (column {column!r})" if column else why)
        self.why = why
        self.column = column
        self.by_design = by_design


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark. Raise `version` with every change that can move a score: it is part of the cell's key."""

    name: str
    version: int
    summary: str
    source: HubSource | FileSource | GeneratedSource | LibrarySource
    read_row: Callable[[Row], Example | None]
    """Raises KeyError, TypeError or ValueError on a row that is not what the task expects, and `LeftOut` (or returns None) on
    one that is not asked."""
    cut: Cut | None = None
    """The data set has test rows only; this is how tuning and few-shot rows are cut from them."""
    sample: Row | None = field(default=None, compare=False)
    """A made-up row in the data set's columns: documents them, and shows the prompt where there is no network."""
    template: Template
    cloze: str | None = AUTO
    """Closed-ended tasks: the question without instruction and options, behind which the options' texts are scored
    (`knowledge_cloze`), as `Template.item`. `auto`: the template's item without the lines of its {options}. None: the task has
    no such form."""
    format: str | None = None
    """Open-ended tasks: one regular expression; a completion stripped of outer white space follows the format when the
    whole of it matches. None: closed-ended: a letter that is listed, its mark and a text (`forms.in_form_asked`), or one of the
    options where these have no letters."""
    form: str = field(default="", compare=False)
    """What `format` asks for, in words: "one line of at most 10 words, no label in front". Empty: see `form_in_words`."""
    verbatim: bool = False
    """Open-ended tasks: a right answer is written as it is published. So each of `Example.answers` has the form asked for, and
    is read as it stands, whatever `format` and `extract` say of its words."""
    extract: Callable[[str], Extraction | None] | None = None
    """Open-ended tasks: completion -> value, rule and span, or None. Never guesses."""
    normalise: Callable[[str], str] = str.strip
    """Applied to the extracted value and to the gold answers before they are compared."""
    equal: Callable[[str, Example], bool] | None = None
    """Open-ended tasks: whether an extracted value is right, where that takes more than equality after `normalise`."""
    scores: Mapping[str, Callable[[str, Example], float]] = field(default_factory=dict)
    """Open-ended tasks: further scores of an extracted value, by name (`f1`), 0 to 1; 0 where nothing was extracted."""
    sampling: Sampling
    random_baseline: float
    """Knowledge of a model that guesses."""
    repeat_rows: bool = False
    """There are few tuning rows by design: tuning goes through them several times without being asked to."""
    licence: str
    definition: str = ""
    """Content hash of the file that defines the task, where that is a user's; part of the cell's key."""
    library: Library | None = field(default=None, compare=False)
    """Who makes its prompts and scores its answers, where the task is another library's; None: what stands here."""
    notes: str = field(default="", compare=False)

    @property
    def closed_ended(self) -> bool:
        """Whether the answer is one of options that are given."""
        return self.format is None

    @property
    def form_in_words(self) -> str:
        """What form an answer must have, for people."""
        if self.form:
            return self.form
        return "one of the options, in full" if self.closed_ended else " ".join(self.template.instruction.split())

    def follows_format(self, text: str, example: Example) -> bool:
        """Whether `text` has the form that the task asks for, right or wrong: what stands behind its thought, without outer
        white space."""
        answer = answer_of(text).strip()
        if self.library is not None:
            return self.library.in_form(answer, example)
        if self.format is None:
            return in_form_asked(answer, example.options)
        return re.fullmatch(self.format, answer) is not None or self._published(answer, example)

    def read(self, text: str, example: Example) -> Extraction | None:
        """The value that a completion gives as its answer; None for closed-ended tasks."""
        start = answer_start(text)
        answer = text[start:].strip()
        if not re.fullmatch(self.format or "", answer) and self._published(answer, example):
            start = text.index(answer, start)
            return Extraction(value=answer, rule="published", span=(start, start + len(answer)))
        found = None if self.extract is None else self.extract(text[start:])
        return found and replace(found, span=(found.span[0] + start, found.span[1] + start))

    def _published(self, answer: str, example: Example) -> bool:
        return self.verbatim and answer.casefold().removesuffix(".") in {
            known.casefold().removesuffix(".") for known in example.answers
        }

    @property
    def cloze_template(self) -> Template | None:
        """The prompt of cloze; None where the task has no such form.

        Raises:
            ConfigError: `cloze` is no item, or shows the options.
        """
        if self.cloze is None or not self.closed_ended:
            return None
        return cloze_of(self.template.item) if self.cloze == AUTO else cloze_template(self.cloze)

    def accepts(self, value: str, example: Example) -> bool:
        """Whether an extracted value is right."""
        if self.equal is not None:
            return self.equal(value, example)
        return self.normalise(value) in {self.normalise(answer) for answer in example.answers}


def typical(task: Task) -> Example | None:
    """Its made-up row as an example, or the first row that it makes itself; None where it has neither."""
    row = task.sample
    if row is None and isinstance(task.source, GeneratedSource):
        try:
            row = next(iter(task.source.rows("test")), None)
        except Exception:  # a user's own code: the cells will tell what is wrong with it
            return None
    try:
        return None if row is None else task.read_row(row)
    except LeftOut:
        return None


def row_key(row: Row) -> str:
    """Content hash of a row, whatever the order of its columns: 16 hexadecimal digits of SHA-256."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
