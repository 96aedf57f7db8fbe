"""The keys of a task file, and their strict reading. A field's docstring is its help."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from spt_fast.config import MOST_NAME
from spt_fast.config.documents import plain_values
from spt_fast.config.ranges import number, path, whole
from spt_fast.config.strict import did_you_mean, home, mapping_of, not_this, read, scalar
from spt_fast.errors import ConfigError, shortened
from spt_fast.tasks.base import Cut

T = TypeVar("T")
U = TypeVar("U", bound=str)
AnswerForm: TypeAlias = Literal["choice", "line", "number", "json", "boxed"]


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """The keys of a task file."""

    name: str = field(metadata=path(MOST_NAME))
    """What tables call the task; none of ours."""
    rows: Mapping[str, Any]
    """Where the rows are: `RowsKeys`."""
    columns: Mapping[str, Any]
    """What is in which column: `ColumnsKeys`."""
    version: int = field(default=1, metadata=whole(least=1, most=2**31 - 1))
    """For people; an edited file makes new cells anyway."""
    summary: str = ""
    """One line for lists."""
    answer_form: AnswerForm | None = None
    """`choice` ("B. Paris"; what it is where there are options), `line` (a short text), `number` (42; with `columns.working`
    a working that ends in "#### 42"), `json` ({"answer": "Paris"}) or `boxed` (\\boxed{42}; a working may stand in front).
    Null: `format`, `extract`, `target` and `instruction` say what form it has."""
    format: str | None = None
    """A regular expression; a completion has the form when the whole of it matches, white space around it apart."""
    form: str = ""
    """The same in words, for reports: "two words in capitals". Empty: what the answer form says, or the instruction."""
    extract: tuple[str, ...] | None = None
    """Names of `answers.RULES`, tried in this order: how the answer is found in a completion, whatever its form."""
    target: str | None = None
    """With `format`: what a right completion looks like; {answer} is the first right answer, {working} its column. Null:
    {answer}."""
    normalise: Literal["exact", "casefold", "number", "words", "latex"] | None = None
    """How answers are compared: `exact`, `casefold` (neither case nor white space count), `number` (1,000 is 1000), `words`
    (neither case, punctuation nor articles, as SQuAD; F1 is reported too) or `latex` (what means the same, as MATH). With
    `line` and `json` the default is `words`, with `format` it is `exact`; the other forms have their own."""
    instruction: str | None = None
    """Says in words what form the answer must have. Null: what the answer form says."""
    item: str | None = None
    """The question with {question}, {context} and {options} in it. Null: "Passage: {context}", "Question: {question}",
    {options} and "Answer:", a line each, without those that there are no columns for."""
    cloze: str | None = "auto"
    """With options: the question without them, behind which their texts are scored (`knowledge_cloze`), with {question} and
    {context} in it. `auto`: `item` without the lines of its {options}. Null: there is no such form of the question."""
    stop: tuple[str, ...] | None = None
    """Strings that a completion ends in front of. Null: the beginnings of the lines of `item` ("\\nQuestion:")."""
    max_tokens: int | None = field(default=None, metadata=whole(least=1, most=1_000_000))
    """Most tokens of a completion. Null: 256 for choices, 512 with `format` or a working (2,048 if boxed), else 64."""
    random_baseline: float | None = field(default=None, metadata=number(least=0, below=1))
    """Knowledge of a model that guesses. Null: one in the number of options, 0 where there are none; needed where a column
    holds the options, because their number is not known then."""
    repeat_rows: bool = False
    """There are few tuning rows by design: tuning goes through them several times without being asked to."""
    licence: str = "unknown"
    """Of the rows."""
    notes: str = ""
    """What a reader of the results should know."""
    sample: Mapping[str, Any] | None = None
    """A made-up row in these columns; it is checked, and shows the prompt where the rows are not at hand."""


@dataclass(frozen=True, kw_only=True)
class RowsKeys:
    """`rows:` either `hub`, `revision`, `splits` and perhaps `config`, or `files`; with test rows only, perhaps `cut`."""

    hub: str | None = field(default=None, metadata=path(193))
    """owner/name of a data set on the Hub."""
    config: str | tuple[str, ...] | None = None
    """Its configuration; of a list, the rows one after the other."""
    revision: str | None = None
    """Full commit."""
    splits: Mapping[str, Any] | None = None
    """{tuning: train, few_shot: train, test: test}: ours -> the data set's. `few_shot` may be left out: shots are then a
    small part of the tuning rows. So may `tuning`: then there is no soft prompt, unless `cut` says where its rows are."""
    files: str | Mapping[str, str] | None = field(default=None, metadata=path())
    """A folder with a file for each split (train.jsonl, test.jsonl), or {split: file}; relative to the task file."""
    cut: Mapping[str, Any] | None = None
    """{tuning: 640, few_shot: 32, share: 0.72, by: row}: how the others are cut from the test rows (`base.Cut`); `by: group`
    keeps rows together that share `columns.group`."""


@dataclass(frozen=True, kw_only=True)
class ColumnsKeys:
    """`columns:` ours -> the rows' own. A dot goes inside: `answers.text`."""

    question: str
    """What is asked."""
    answer: str | Mapping[str, Any]
    """Without options: the column of the right answer, or of the list of all that count. With options: `AnswerKeys`.
    A row whose answer is empty or null is published without it, and is left out: `allow_left_out` of the grid says how many
    may be."""
    options: str | list[str] | Mapping[str, Any] | None = None
    """The column that holds the list of options; or a list of columns, one an option; or {fixed: [negative, positive]}.
    Those at the end of a row that are null or empty are not there: rows may have four or five options."""
    context: str | None = None
    """A passage or subject that goes with the question."""
    group: str | None = None
    """What rows about one thing share: errors are clustered by it."""
    working: str | None = None
    """How the answer is worked out, for `number`, `boxed` and `format`."""


@dataclass(frozen=True, kw_only=True)
class AnswerKeys:
    """`columns.answer:` where there are options."""

    column: str
    """What says which option is right."""
    as_: Literal["index", "letter", "text"] = field(metadata={"key": "as"})
    """`index` (a number), `letter` (A, B, ...) or `text` (the option itself)."""
    first: int = field(default=0, metadata=whole(least=0, most=1))
    """The index of the first option: 0 or 1."""


@dataclass(frozen=True, kw_only=True)
class OptionsKeys:
    """`columns.options:` where they are the same for all rows."""

    fixed: list[str] | tuple[str, ...]
    """The options."""


def read_yaml(text: str) -> TaskFile:
    """The keys of a task file.

    Raises:
        ConfigError: one sentence with the line or the key, without the file.
    """
    return read_keys(TaskFile, plain_values(text), "")


def read_keys(cls: type[T], mapping: Any, place: str) -> T:
    """One of the classes above from a mapping; `place` is the key that holds it, empty for the file itself.

    Raises:
        ConfigError: an unknown or a missing key, or a value of another type.
    """
    try:
        return read(cls, mapping_of(mapping, place or "file"), place or "file")
    except ConfigError as e:
        if place:
            raise
        raise e.reworded(lambda sentence: sentence.removeprefix("file: ").removeprefix("file.")) from None


def text_of(value: Any, place: str) -> str:
    """A value that must be text, and not empty."""
    if isinstance(value, bool | int | float):  # YAML reads no as false, and 1 as a number
        raise ConfigError(f"{place}: must be text, {not_this(value)}; write it in quotation marks")
    text = scalar(str, value, place)
    if not text.strip():
        raise ConfigError(f"{place}: must not be empty")
    return text


def texts_of(value: Any, place: str, least: int = 1) -> tuple[str, ...]:
    """A value that must be a list of texts."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{place}: must be a list, {not_this(value)}")
    if len(value) < least:
        raise ConfigError(f"{place}: must have at least {least} entries, not {len(value)}")
    return tuple(text_of(item, f"{place}[{i}]") for i, item in enumerate(value))


def one_of(word: Any, words: Iterable[U], place: str) -> U:
    """The one of `words` that `word` is."""
    known = list(words)
    for one in known:
        if word == one:
            return one
    raise ConfigError(f"{place}: unknown {shortened(word)}{meant(str(word), known)}")


def meant(word: str, words: Sequence[str]) -> str:
    """The end of a sentence about a word that is none of `words`."""
    return did_you_mean(word, words) or f"; choose from {', '.join(words) or 'none'}"


def wrong(value: Any) -> str:
    """The end of a sentence about a value of the wrong type: "not a list"."""
    return not_this(value)


def fields_of(pattern: str, known: Sequence[str], place: str) -> set[str]:
    """The {fields} of a pattern."""
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
        for name in sorted(fields - set(known)):
            raise ConfigError(f"{place}: unknown field {{{name[:60]}}}{meant(name, known)}")
        pattern.format(**dict.fromkeys(known, ""))
    except ConfigError:
        raise
    except (ValueError, LookupError) as e:
        raise ConfigError(f"{place}: {shortened(pattern)}: {e}; write {{{{ and }}}} for literal braces") from None
    return fields


_IN = "in a task file, "
home(TaskFile, of="a task file", where=_IN + "{key}: ...")
home(RowsKeys, of="rows", where=_IN + "rows: {{{key}: ...}}")
home(ColumnsKeys, of="columns", where=_IN + "columns: {{{key}: ...}}")
home(AnswerKeys, of="columns.answer", where=_IN + "columns: {{answer: {{{key}: ...}}}}")
home(Cut, of="rows.cut", where=_IN + "rows: {{cut: {{{key}: ...}}}}")
