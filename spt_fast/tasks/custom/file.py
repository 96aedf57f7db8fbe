"""A task in a few lines of YAML: where its rows are, what their columns are, and what form the answer has.

    name: capitals
    rows: {files: capitals}
    columns:
      question: question
      options: choices
      answer: {column: label, as: index}
    random_baseline: 0.25

`keys.py` is the reference. Nothing here is code: a task that needs some is a `.py` file (`__init__.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spt_fast.config.strict import Mistakes
from spt_fast.errors import ConfigError, shortened
from spt_fast.tasks.base import AUTO, SPLITS, Cut, FileSource, HubSource, Task
from spt_fast.tasks.custom.answers import Answers, Columns, closed, opened
from spt_fast.tasks.custom.keys import (
    ColumnsKeys,
    RowsKeys,
    TaskFile,
    fields_of,
    one_of,
    read_keys,
    read_yaml,
    text_of,
    texts_of,
    wrong,
)
from spt_fast.tasks.template import FIELDS, Template, cloze_template
from spt_fast.types import Sampling


def parse(text: str, *, place: str) -> Task:
    """A task from the text of its file.

    Args:
        text: YAML.
        place: the file, for sentences about its rows.

    Raises:
        ConfigError: sentences with the key and the fix, without the file.
    """
    keys, mistakes = read_yaml(text), Mistakes()
    with mistakes.part():
        columns = Columns(read_keys(ColumnsKeys, keys.columns, "columns"), place)
    with mistakes.part():
        source, cut = _source(read_keys(RowsKeys, keys.rows, "rows"))
    mistakes.tell()
    if cut is not None and cut.by == "group" and columns.keys.group is None:
        raise ConfigError("rows.cut.by: group needs columns.group; name that column, or cut by row")
    answers = opened(keys, columns) if columns.keys.options is None else closed(keys, columns)
    template = _template(keys, columns.keys, answers)
    return Task(
        name=keys.name,
        version=keys.version,
        summary=keys.summary or f"a task of {Path(place).name}",
        source=source,
        read_row=answers.read_row,
        cut=cut,
        sample=keys.sample,
        template=template,
        cloze=_cloze(keys, columns.keys),
        format=answers.format,
        form=keys.form or answers.form,
        verbatim=answers.verbatim,
        extract=answers.extract,
        normalise=answers.normalise,
        equal=answers.equal,
        scores=answers.scores,
        sampling=_sampling(keys, template, answers),
        random_baseline=answers.random_baseline if keys.random_baseline is None else keys.random_baseline,
        repeat_rows=keys.repeat_rows,
        licence=keys.licence,
        notes=keys.notes,
    )


def _source(keys: RowsKeys) -> tuple[HubSource | FileSource, Cut | None]:
    if (keys.hub is None) == (keys.files is None):
        raise ConfigError("rows: must have either hub, a data set on the Hub, or files, beside the task file")
    cut = None if keys.cut is None else read_keys(Cut, keys.cut, "rows.cut")
    if keys.hub is None:
        for key in ("config", "revision", "splits"):
            if getattr(keys, key) is not None:
                raise ConfigError(f"rows.{key}: goes with hub; files are named for their splits, or {{split: file}}")
        return FileSource(files=_files(keys.files)), cut
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", keys.hub):
        raise ConfigError(f"rows.hub: must be owner/name, as in cais/mmlu, not {shortened(keys.hub)}")
    if keys.revision is None:
        raise ConfigError(f"rows.revision: is missing; give a full commit ({commits(keys.hub)} lists them)")
    if not keys.splits:
        raise ConfigError("rows.splits: is missing; say which split is which, as in {tuning: train, test: test}")
    config: Any = keys.config
    if config is not None:
        config = texts_of(config, "rows.config") if isinstance(config, list) else text_of(config, "rows.config")
    splits = {
        one_of(split, SPLITS, "rows.splits"): text_of(name, f"rows.splits.{split}") for split, name in keys.splits.items()
    }
    return HubSource(id=keys.hub, revision=keys.revision, config=config, splits=splits), cut


def _files(files: Any) -> str | dict[str, str]:
    if isinstance(files, Mapping) and files:
        return {text_of(split, "rows.files"): text_of(file, f"rows.files.{split}") for split, file in files.items()}
    if isinstance(files, Mapping | list) or files is None:
        raise ConfigError(f"rows.files: must be a folder, or {{split: file}}, {wrong(files)}")
    return text_of(files, "rows.files")


def commits(hub: str) -> str:
    """Where the commits of a data set are listed."""
    return f"https://huggingface.co/datasets/{hub}/commits/main"


def _template(keys: TaskFile, columns: ColumnsKeys, answers: Answers) -> Template:
    asked = {"context": columns.context is not None, "question": True, "options": columns.options is not None}
    lines = {"context": "Passage: {context}", "question": "Question: {question}", "options": "{options}"}
    default = "\n".join([*(line for name, line in lines.items() if asked[name]), "Answer:"])
    item = default if keys.item is None else keys.item
    fields = fields_of(item, FIELDS, "item")
    for name, there in asked.items():
        if there and name not in fields:
            raise ConfigError(f"item: has no {{{name}}} in it, but there is columns.{name}; leave that out, or show it")
        if name in fields and not there:
            raise ConfigError(f"item: has {{{name}}} in it, but columns.{name} is not there; leave it out, or name the column")
    instruction = answers.instruction if keys.instruction is None else keys.instruction
    if not instruction.strip():
        raise ConfigError("instruction: must not be empty; it says in words what form the answer has")
    try:
        return Template(instruction=instruction.strip(), item=item)
    except ConfigError as e:
        raise ConfigError(str(e).removeprefix("template ")) from None


def _cloze(keys: TaskFile, columns: ColumnsKeys) -> str | None:
    """`cloze`, checked; what follows from `item` is."""
    if keys.cloze in (AUTO, None):
        return keys.cloze
    if columns.options is None:
        raise ConfigError("cloze: is for answers that are one of options; leave it out, or name columns.options")
    item = text_of(keys.cloze, "cloze")
    fields = fields_of(item, ("context", "question"), "cloze")
    if "question" not in fields:
        raise ConfigError(
            f"cloze: {shortened(item)} has no {{question}} in it; write it as in Question: {{question}}\\nAnswer:"
        )
    if "context" in fields and columns.context is None:
        raise ConfigError("cloze: has {context} in it, but columns.context is not there; leave it out, or name the column")
    cloze_template(item)
    return item


def _sampling(keys: TaskFile, template: Template, answers: Answers) -> Sampling:
    for i, stop in enumerate(keys.stop or ()):
        if not stop:
            raise ConfigError(f"stop[{i}]: must not be empty")
    # Where the next item would begin: what stands in front of the first field of a line.
    heads = [re.fullmatch(r"([^{]*[^{\s])\s*\{[a-z].*", line) for line in template.item.split("\n")]
    stops = tuple(f"\n{head[1]}" for head in heads if head) if keys.stop is None else keys.stop
    return Sampling(max_tokens=keys.max_tokens or answers.max_tokens, stop=stops)
