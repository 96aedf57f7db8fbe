"""What a task file says of columns and answers -> how its rows are read, and its answers written, recognised and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from spt_fast.errors import ConfigError, shortened
from spt_fast.tasks.answers import latex
from spt_fast.tasks.answers.extractors import (
    HASH_FORM,
    HASH_FORMAT,
    JSON_FORM,
    JSON_FORMAT,
    NUMBER_RULES,
    SHORT_FORMAT,
    SHORT_WORDS,
    Rule,
    first_found,
    first_line,
    json_answer,
    short_form_in_words,
    short_rules,
    stated_text,
)
from spt_fast.tasks.answers.latex import BOXED_FORM, BOXED_FORMAT, MATH_RULES, unboxed
from spt_fast.tasks.answers.numbers import canonical
from spt_fast.tasks.answers.text import f1, normalise_squad
from spt_fast.tasks.answers.thoughts import answer_of
from spt_fast.tasks.base import LeftOut, Row, row_key
from spt_fast.tasks.columns import (
    NO_ANSWER,
    NO_QUESTION,
    a_kind,
    as_text,
    chosen,
    decoded,
    label,
    one_line,
    options_in,
)
from spt_fast.tasks.custom.keys import (
    AnswerKeys,
    ColumnsKeys,
    OptionsKeys,
    TaskFile,
    fields_of,
    meant,
    one_of,
    read_keys,
    texts_of,
    wrong,
)
from spt_fast.tasks.forms import LETTERS
from spt_fast.tasks.multiple_choice import FORM, INSTRUCTION
from spt_fast.types import Example, Extraction

ReadRow: TypeAlias = Callable[[Row], Example]
Options: TypeAlias = Callable[[Row], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What of a task depends on the form of its answers."""

    read_row: ReadRow
    instruction: str
    max_tokens: int
    random_baseline: float
    form: str = ""
    verbatim: bool = False
    format: str | None = None
    extract: Callable[[str], Extraction | None] | None = None
    normalise: Callable[[str], str] = str.strip
    equal: Callable[[str, Example], bool] | None = None
    scores: Mapping[str, Callable[[str, Example], float]] = field(default_factory=dict)


_SHORT_RULES = short_rules()
RULES: Mapping[str, tuple[Rule, ...]] = {
    **{rule.__name__: (rule,) for rule in (*NUMBER_RULES, json_answer, stated_text, first_line)},
    "short_answer": _SHORT_RULES,
    "math_answer": MATH_RULES,
}
"""What `extract` can name."""

NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "exact": one_line,
    "casefold": lambda text: " ".join(text.casefold().split()),
    "number": canonical,
    "words": normalise_squad,
    "latex": str.strip,
}


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A form of an open answer: how it is asked for, written, recognised, found and compared."""

    instruction: str
    format: str
    rules: Sequence[Rule]
    normalise: str
    form: str = ""
    """`format` in words."""
    verbatim: bool = False
    """`Task.verbatim`."""
    target: str = "{answer}"
    written: Callable[[str], str] = str
    """How the answer is put into `target`."""
    worked: Callable[[str], str] = str
    """How the working is."""
    max_tokens: int = 64
    also: tuple[str, ...] = ()
    """Other values of `normalise` that make sense."""


_NUMBER_FORMAT = r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
_BOX_FORMAT = BOXED_FORMAT.rpartition("Answer: ")[2]  # the box alone
_FORMS: Mapping[str, _Form] = {
    "line": _Form(
        instruction=f"Answer each question with a name, a number or a few words, at most {SHORT_WORDS} and no sentence, "
        "as in: Paris\nWrite nothing else.",
        format=SHORT_FORMAT,
        form=short_form_in_words(),
        verbatim=True,
        rules=_SHORT_RULES,
        normalise="words",
        also=("exact", "casefold"),
        written=one_line,
    ),
    "json": _Form(
        instruction='Answer each question with a JSON object that has the one key "answer", as in: {"answer": "Paris"}\n'
        "Write nothing else.",
        format=JSON_FORMAT,
        form=JSON_FORM,
        rules=(json_answer, *_SHORT_RULES),
        normalise="words",
        also=("exact", "casefold", "number"),
        target='{{"answer": {answer}}}',
        written=lambda answer: json.dumps(answer, ensure_ascii=False),
    ),
    "number": _Form(
        instruction="Answer each question with a plain number, as in: 42\nWrite nothing else.",
        format=_NUMBER_FORMAT,
        form="a plain number and nothing else: 42",
        rules=NUMBER_RULES,
        normalise="number",
        written=canonical,
    ),
    "number with working": _Form(
        instruction="Solve each problem step by step. End with a line that has #### and the answer as a plain number, "
        "as in: #### 42",
        format=HASH_FORMAT,
        form=HASH_FORM,
        rules=NUMBER_RULES,
        normalise="number",
        target="{working}\n#### {answer}",
        written=canonical,
        max_tokens=512,
    ),
    "boxed": _Form(
        instruction="Answer each question with the answer in a box, as in: \\boxed{42}\nWrite nothing else.",
        format=_BOX_FORMAT,
        form=r"the answer in a box and nothing else: \boxed{42}",
        rules=MATH_RULES,
        normalise="latex",
        target="\\boxed{{{answer}}}",
        written=one_line,
    ),
    "boxed with working": _Form(
        instruction="Solve each problem step by step. End with a line that has the answer in a box, as in: Answer: \\boxed{42}",
        format=BOXED_FORMAT,
        form=BOXED_FORM,
        rules=MATH_RULES,
        normalise="latex",
        target="{working}\nAnswer: \\boxed{{{answer}}}",
        written=one_line,
        worked=unboxed,
        max_tokens=2048,
    ),
}


# ------------------------------------------------------------------------------------------ columns


@dataclass(frozen=True)
class Columns:
    """Reads rows by `columns`."""

    keys: ColumnsKeys
    place: str
    """The task file, for sentences about columns that are not there."""

    def value(self, row: Row, path: str, key: str) -> Any:
        """What a row has in a column, or inside of one.

        Raises:
            ValueError: there is no such column.
        """
        if path in row:
            return row[path]
        found: Any = row
        try:
            for name in path.split("."):
                found = _inside(found, name)
        except (LookupError, ValueError):
            inner = [f"{column}.{name}" for column, value in row.items() if isinstance(value, Mapping) for name in value]
            there = meant(path, [*row, *inner])
            raise ValueError(f"{self.place}: columns.{key}: there is no column {path!r}{there}") from None
        return found

    def text(self, row: Row, key: Literal["question", "context", "group", "working"]) -> str:
        """A column of text; empty where there is no such column, or nothing in it."""
        path: str | None = getattr(self.keys, key)
        return "" if path is None else as_text(self.value(row, path, key), path)


def _inside(value: Any, name: str) -> Any:
    """A member of an object, or of JSON text of one (a CSV file has no objects); of a list, that of each item."""
    value = decoded(value, name)
    if isinstance(value, list | tuple):
        return [_inside(item, name) for item in value]
    if not isinstance(value, Mapping):
        raise LookupError(name)
    return value[name]


# ------------------------------------------------------------------------------------------ options are given


def closed(keys: TaskFile, columns: Columns) -> Answers:
    """Of a task whose answer is one of several options.

    Raises:
        ConfigError: keys that do not go together.
    """
    if keys.answer_form not in (None, "choice"):
        raise ConfigError(f"answer_form: is choice where there are columns.options, not {keys.answer_form}; leave one out")
    for key, value in {
        "format": keys.format,
        "extract": keys.extract,
        "target": keys.target,
        "normalise": keys.normalise,
        "columns.working": columns.keys.working,
    }.items():
        if value is not None:
            raise ConfigError(f"{key}: is for open answers; where there are columns.options, the answer is one of them")
    options, count = _options(columns)
    right = _right(columns)
    if keys.random_baseline is None and count is None:
        raise ConfigError("random_baseline: is missing; the list in a column may have any length, so say 0.25 if it has four")

    def read_row(row: Row) -> Example:
        """A row by the columns of the task file."""
        texts = options(row)
        gold = right(row, texts)
        return chosen(
            question=columns.text(row, "question"),
            context=columns.text(row, "context"),
            options=texts,
            gold=gold,
            group=columns.text(row, "group"),
        )

    return Answers(
        read_row=read_row,
        instruction=INSTRUCTION,
        form=FORM,
        max_tokens=256,
        random_baseline=1 / count if count else 0.0,
    )


def _options(columns: Columns) -> tuple[Options, int | None]:
    """How the options of a row are read, and how many there are where that is known."""
    given: Any = columns.keys.options
    if isinstance(given, Mapping):
        fixed = texts_of(read_keys(OptionsKeys, given, "columns.options").fixed, "columns.options.fixed", least=2)
        return lambda row: fixed, len(fixed)
    if isinstance(given, list):
        paths = texts_of(given, "columns.options", least=2)
        return lambda row: options_in((columns.value(row, path, "options") for path in paths), *paths), len(paths)
    if not isinstance(given, str):
        raise ConfigError(f"columns.options: must be a column, a list of columns, or {{fixed: [...]}}, {wrong(given)}")

    def listed(row: Row) -> Sequence[str]:
        value = decoded(columns.value(row, given, "options"), given)
        if not isinstance(value, list | tuple):
            raise TypeError(f"column {given!r} is {a_kind(value)}, not a list of options")
        return options_in(value, given)

    return listed, None


def _right(columns: Columns) -> Callable[[Row, Sequence[str]], int]:
    """How the index of the right option is read; a row that is published without it is left out."""
    given: Any = columns.keys.answer
    if isinstance(given, str):
        given = {"column": given}
    if isinstance(given, Mapping) and "as" not in given:
        raise ConfigError(
            f"columns.answer: must say how the column names the right option: {{column: {given.get('column', 'label')}, "
            "as: index}, as: letter or as: text"
        )
    answer = read_keys(AnswerKeys, given, "columns.answer")
    path = answer.column
    if answer.first not in ((0, 1) if answer.as_ == "index" else (0,)):
        raise ConfigError(f"columns.answer.first: goes with as: index and is 0 or 1, not {answer.first}")

    def right(row: Row, options: Sequence[str]) -> int:
        value = columns.value(row, path, "answer")
        if answer.as_ == "index":
            number = int(value) if isinstance(value, bool) else value
            return label({path: number}, path, first=answer.first, count=len(options))
        names = list(LETTERS[: len(options)] if answer.as_ == "letter" else map(one_line, options))
        name = one_line(as_text(value, path))
        if not name:
            raise LeftOut(NO_ANSWER, column=path)
        if names.count(name) != 1:
            there = shortened(", ".join(names))
            raise ValueError(f"column {path!r} is {shortened(name)}, which is {names.count(name) or 'none'} of {there}")
        return names.index(name)

    return right


# ------------------------------------------------------------------------------------------ open answers


def opened(keys: TaskFile, columns: Columns) -> Answers:
    """Of a task with an open answer.

    Raises:
        ConfigError: keys that do not go together.
    """
    form = _own_form(keys, columns.keys) if keys.format is not None or keys.extract is not None else _form(keys, columns.keys)
    path: Any = columns.keys.answer
    if not isinstance(path, str):
        raise ConfigError(f"columns.answer: must be the name of a column where there are no columns.options, {wrong(path)}")

    def extract(text: str) -> Extraction | None:
        found = first_found(text, *form.rules, whole=form.format)
        return _as_it_stands(text, form) if found is None and form.target == "{answer}" else found

    extract.__doc__ = f"The first of {', '.join(rule.__name__ for rule in form.rules)} that finds something."
    normalise = NORMALISERS[form.normalise]
    equal = latex.accepts if form.normalise == "latex" else None

    def right(value: str, example: Example) -> bool:
        return equal(value, example) if equal else normalise(value) in map(normalise, example.answers)

    def read_row(row: Row) -> Example:
        """A row by the columns of the task file."""
        value = columns.value(row, path, "answer")
        texts = (as_text(text, path) for text in (value if isinstance(value, list | tuple) else [value]))
        answers = tuple(dict.fromkeys(filter(None, map(one_line if form.verbatim else str, texts))))
        question, context, working = columns.text(row, "question"), columns.text(row, "context"), columns.text(row, "working")
        if not question:
            raise LeftOut(NO_QUESTION, column=columns.keys.question)
        if not answers:
            raise LeftOut(NO_ANSWER, column=path)
        target = form.target.format(answer=form.written(answers[0]), working=form.worked(working)).strip()
        example = Example(
            key=row_key({"question": question, "context": context, "answers": answers, "working": working}),
            question=question,
            context=context,
            target=target,
            answers=answers,
            group=columns.text(row, "group"),
        )
        found = None if form.verbatim else extract(target)
        if not form.verbatim and re.fullmatch(form.format, target) and (found is None or not right(found.value, example)):
            # Nothing that a model could write would be right.
            what = "nothing" if found is None else shortened(found.value)
            raise ValueError(
                f"column {path!r}: the answer {shortened(answers[0])} could never count as right: extract finds {what} in "
                f"{target[-60:]!r}"
            )
        return example

    return Answers(
        read_row=read_row,
        instruction=form.instruction,
        max_tokens=form.max_tokens,
        random_baseline=0.0,
        form=form.form,
        verbatim=form.verbatim,
        format=form.format,
        extract=extract,
        normalise=normalise,
        equal=equal,
        scores={"f1": f1} if form.normalise == "words" else {},
    )


def _as_it_stands(text: str, form: _Form) -> Extraction | None:
    """The whole of an answer that has the form asked for, where that is the bare answer."""
    whole = answer_of(text).strip()
    if not re.fullmatch(form.format, whole):
        return None
    start = text.rindex(whole)
    return Extraction(value=whole, rule="whole", span=(start, start + len(whole)))


def _form(keys: TaskFile, columns: ColumnsKeys) -> _Form:
    if keys.answer_form is None:
        raise ConfigError("answer_form: is missing; without columns.options it is line, number, json or boxed")
    if keys.answer_form == "choice":
        raise ConfigError("columns.options: is missing; answer_form: choice needs it")
    if keys.target is not None:
        raise ConfigError(f"target: goes with format; answer_form: {keys.answer_form} has its own")
    name = keys.answer_form if columns.working is None else f"{keys.answer_form} with working"
    if name not in _FORMS:
        raise ConfigError(f"columns.working: does not go with answer_form: {keys.answer_form}; leave one out")
    form = _FORMS[name]
    if keys.normalise not in (None, form.normalise, *form.also):
        raise ConfigError(
            f"normalise: must be {' or '.join((form.normalise, *form.also))} with answer_form: {keys.answer_form}, "
            f"not {keys.normalise}"
        )
    return replace(form, normalise=keys.normalise or form.normalise)


def _own_form(keys: TaskFile, columns: ColumnsKeys) -> _Form:
    if keys.answer_form is not None:
        raise ConfigError("answer_form: does not go with format and extract; leave out it or them")
    if not (keys.format and keys.extract and keys.instruction):
        key = "format" if not keys.format else "extract" if not keys.extract else "instruction"
        raise ConfigError(f"{key}: is missing; format, extract and instruction go together, or answer_form stands for them")
    try:
        empty = re.fullmatch(keys.format, "")
    except (re.error, OverflowError, RecursionError) as e:
        raise ConfigError(f"format: {shortened(keys.format)} is not a regular expression ({e})") from None
    if empty:
        raise ConfigError(f"format: {shortened(keys.format)} matches an empty answer; write + for *")
    target = "{answer}" if keys.target is None else keys.target
    fields = fields_of(target, ("answer", "working"), "target")
    if "working" in fields and columns.working is None:
        raise ConfigError("target: has {working} in it, but columns.working is not there; leave it out, or name the column")
    if columns.working is not None and "working" not in fields:
        raise ConfigError("target: has no {working} in it, but there is columns.working; leave that out, or write it")
    if not fields:
        raise ConfigError("target: has no {answer} in it")
    return _Form(
        instruction=keys.instruction,
        format=keys.format,
        rules=[rule for i, name in enumerate(keys.extract) for rule in RULES[one_of(name, RULES, f"extract[{i}]")]],
        normalise=keys.normalise or "exact",
        target=target,
        max_tokens=512,
    )
