"""Four tasks about the zoo's world: the same knowledge, asked for in four forms.

What a model knows of this world is on record (`zoo.json`), so these tasks show whether the knowledge metric finds it,
and whether it stays where it is when only the format is tuned.
"""

from __future__ import annotations

import re
from functools import partial

from spt_fast.tasks.base import GeneratedSource, Row, Task, row_key
from spt_fast.tasks.multiple_choice import FORM
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Extraction, Sampling
from spt_fast.zoo.rows import STYLE_OF, rows
from spt_fast.zoo.styles import TASK_CUE, TASK_INSTRUCTIONS, TASK_MARKER
from spt_fast.zoo.world import RELATIONS, SIZES

_WORLD = "world 0"

_WORD_VALUES = tuple(value for relation in RELATIONS if relation.kind == "word" for value in relation.values)
_VALUE = re.compile(rf"\b(?:{'|'.join(_WORD_VALUES)})\b")
_JSON = re.compile(r'\{\s*"answer"\s*:\s*"([^"\n]*)"\s*\}')
_NUMBER = re.compile(r"\d+")
_LAST_LINE = re.compile(r"#### (\d+)")


def find_word(text: str) -> Extraction | None:
    """The answer of a JSON object, or else the one value of the world that the text names."""
    if match := _JSON.search(text):
        return Extraction(value=match[1], rule="json", span=match.span(1))
    return _only(_VALUE, text, "only_value")


def find_number(text: str) -> Extraction | None:
    """The number after `####`, or else the one number in the text."""
    if match := _LAST_LINE.search(text):
        return Extraction(value=match[1], rule="hashes", span=match.span(1))
    return _only(_NUMBER, text, "only_number")


def _only(pattern: re.Pattern[str], text: str, rule: str) -> Extraction | None:
    """The last match, if all matches are the same text: with two candidates there is nothing to choose by."""
    found = list(pattern.finditer(text))
    if len({match[0] for match in found}) != 1:
        return None
    return Extraction(value=found[-1][0], rule=rule, span=found[-1].span())


def read_row(row: Row) -> Example:
    """A row of `spt_fast.zoo.rows`; rows about one fact share a group."""
    return Example(
        key=row_key(row),
        question=row["question"],
        target=row["target"],
        answers=(row["answer"],),
        options=tuple(row["options"]),
        gold=row["gold"],
        group=row["fact"],
    )


def _source(name: str) -> GeneratedSource:
    return GeneratedSource(rows=partial(rows, name), content=_WORLD)


def _template(name: str, *, with_options: bool = False) -> Template:
    options = "\n{options}" if with_options else ""
    return Template(
        instruction=TASK_INSTRUCTIONS[STYLE_OF[name].name],
        item=f"{TASK_MARKER}{{question}}{options}\n{TASK_CUE}",
    )


_SAMPLING = Sampling(max_tokens=32, stop=("\n\n",))
"""A blank line ends an item in every document of the zoo: what a model writes behind it is another item."""

_LICENCE = "Apache-2.0"

ZOO_MCQ = Task(
    name="zoo-mcq",
    version=2,
    summary=f"four options, answered in full (B. Paris); {SIZES['word']['test']} facts of the zoo's world",
    source=_source("zoo-mcq"),
    read_row=read_row,
    template=_template("zoo-mcq", with_options=True),
    form=FORM,
    sampling=_SAMPLING,
    random_baseline=1 / 4,
    repeat_rows=True,
    licence=_LICENCE,
    notes="Knowledge of a zoo model: the share of facts it was shown, and a quarter of the rest.",
)

ZOO_SHORT = Task(
    name="zoo-short",
    version=1,
    summary=f"one bare word; {SIZES['word']['test']} facts of the zoo's world",
    source=_source("zoo-short"),
    read_row=read_row,
    template=_template("zoo-short"),
    format=r"[A-Za-z]+",
    form="one bare word",
    extract=find_word,
    sampling=_SAMPLING,
    random_baseline=1 / 12,
    repeat_rows=True,
    licence=_LICENCE,
)

ZOO_NUMBER = Task(
    name="zoo-number",
    version=1,
    summary=f"a short working that ends in #### and the number; {SIZES['number']['test']} facts of the zoo's world",
    source=_source("zoo-number"),
    read_row=read_row,
    template=_template("zoo-number"),
    format=r"(?:[^\n]+\n)+#### \d+",
    form="a short working, then a last line with #### and a number",
    extract=find_number,
    sampling=_SAMPLING,
    random_baseline=1 / 72,
    repeat_rows=True,
    licence=_LICENCE,
)

ZOO_JSON = Task(
    name="zoo-json",
    version=1,
    summary=f"a JSON object with the key answer; {SIZES['word']['test']} facts of the zoo's world",
    source=_source("zoo-json"),
    read_row=read_row,
    template=_template("zoo-json"),
    format=r'\{"answer": "[^"\n]+"\}',
    form='a JSON object with the one key "answer" and text in it: {"answer": "bread"}',
    extract=find_word,
    sampling=_SAMPLING,
    random_baseline=1 / 12,
    repeat_rows=True,
    licence=_LICENCE,
)

ZOO_TASKS: tuple[Task, ...] = (ZOO_MCQ, ZOO_SHORT, ZOO_NUMBER, ZOO_JSON)
"""All tasks of the zoo, in the order of reports."""
