"""Rows of a task of lm-eval: its own preprocessing, from the Hub's data set or from local files in the columns of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from spt_fast.config.output import at_home
from spt_fast.errors import ConfigError, DataError, SptError, first_line
from spt_fast.tasks.base import LeftOut, Row, row_key
from spt_fast.tasks.library import Opened, Opener
from spt_fast.tasks.lm_eval import door
from spt_fast.tasks.lm_eval.config import of_rows
from spt_fast.tasks.lm_eval.known import Known
from spt_fast.tasks.loading import hub
from spt_fast.tasks.loading.splits import in_folder_by_name, the_file
from spt_fast.types import Example

OURS = {"tuning": ("training", "validation"), "few_shot": ("fewshot",), "test": ("test",)}
"""Our names of splits in `data_files`, where a data set does not use them itself -> lm-eval's."""


@dataclass(frozen=True)
class LmEvalRows(Opener):
    """Where the rows of one task are."""

    task: Known

    def __str__(self) -> str:
        splits = ", ".join(f"{what} = {name}" for what, name in self.task.splits.items())
        cut = "" if self.task.learnt else "; where something is learnt, it is from a cut of the scored rows"
        return f"{self.task.hub}{f' ({self.task.config})' if self.task.config else ''}; {splits}{cut}"

    def locate(self, data_files: str | Mapping[str, str]) -> dict[str, tuple[Path, ...]]:
        """The local files by the data set's own names of its splits."""
        names = list(dict.fromkeys(self.task.splits.values()))
        if isinstance(data_files, str):
            found = in_folder_by_name(at_home(data_files), names)
        else:
            found = {self._split(name, names): (the_file(name, file),) for name, file in data_files.items()}
        if self.task.scored not in found:
            where = data_files if isinstance(data_files, str) else "{" + ", ".join(data_files) + "}"
            raise ConfigError(
                f"data_files: no rows to score in {where}; lm-eval:{self.task.name} scores {self.task.scored!r}: "
                f"give a file {self.task.scored}.jsonl, .json, .csv or .parquet"
            )
        return found

    def _split(self, name: str, names: Sequence[str]) -> str:
        if name in names:
            return name
        if name == "test":
            return self.task.scored
        for what in OURS.get(name, ()):
            if (split := self.task.splits.get(what)) is not None and split != self.task.scored:
                return split
        raise ConfigError(f"data_files: unknown split {name!r}; lm-eval:{self.task.name} has {', '.join(names)}")

    def content(self) -> str:
        """The commit of its data set."""
        revision = self.task.kwargs.get("revision")
        return str(revision or hub.commit_of(self.task.hub) or "")

    def open(self, files: Mapping[str, tuple[Path, ...]] | None, *, learns: bool) -> Opened:
        """Its rows as its own preprocessing leaves them."""
        task = self.task
        data = self._published() if files is None else {split: hub.as_dataset(each) for split, each in files.items()}
        try:
            ready = door.Ready(of_rows(task, data), data)
            docs = {"test": ready.eval_docs}
            if task.learnt and task.splits[task.learnt] in data:
                docs["tuning"] = ready.docs(task.learnt)
            shown = task.splits.get("fewshot")
            apart = shown is not None and shown not in (task.scored, task.splits.get(task.learnt or ""))
            if apart or not learns or "samples" in of_rows(task, data).get("fewshot_config", {}):
                docs["few_shot"] = ready.pool
        except SptError:
            raise
        except Exception as e:
            where = "the Hub" if files is None else ", ".join(str(file) for each in files.values() for file in each)
            raise DataError(
                f"lm-eval:{task.name}: its rows cannot be prepared from {where} ({_words(e)}); "
                "they must have the columns of its data set"
            ) from e
        if not learns:
            docs.pop("tuning", None)
        rows = {split: [_row(task, ready, doc, i, split) for i, doc in enumerate(own)] for split, own in docs.items()}
        return Opened(rows=rows, first=ready.eval_docs[0] if ready.eval_docs else None)

    def _published(self) -> Mapping[str, Any]:
        task = self.task
        if task.own_rows:
            raise DataError(f"lm-eval:{task.name}: {task.why}")
        data: Mapping[str, Any] = hub.published(task.hub, task.config, self.content(), dict(task.kwargs))
        return data


def _row(task: Known, ready: door.Ready, doc: door.Doc, place: int, split: str) -> Row:
    """What `read_row` wants of a prepared row."""
    try:
        context = ready.context(doc)
        choices, target = ready.choices(doc), ready.target(doc)
    except Exception as e:
        if split == "few_shot":  # worked examples may have columns of their own
            return {"doc": doc, "place": place, "context": str(doc), "choices": [], "target": "?", "shown": True}
        raise DataError(
            f"lm-eval:{task.name}: {split} row {place + 1} cannot be asked ({_words(e)}); fix the row, or remove it"
        ) from e
    asked = context if isinstance(context, str) else context[0]
    return {"doc": doc, "place": place, "context": asked, "choices": choices, "target": target}


def read_row(row: Row, *, closed: bool) -> Example:
    """A prepared row as an example."""
    shared = {"key": row_key(row["doc"]), "question": row["context"], "row": row["doc"], "place": row["place"]}
    if row.get("shown"):
        return Example(**shared, target="?", answers=("?",), options=("?",) if closed else (), gold=0 if closed else None)
    choices, target = [str(each) for each in row["choices"]], row["target"]
    if not closed:
        known = [(_index(each, choices), each) for each in _all(target)]
        texts = [str(each) if gold is None or isinstance(each, str) else choices[gold] for gold, each in known]
        answers = tuple(text.strip() for text in texts if text.strip())
        if not answers:
            raise LeftOut("with no answer")
        return Example(**shared, target=answers[0], answers=answers)
    golds = [gold for each in _all(target) if (gold := _index(each, choices)) is not None]
    options = tuple(each.strip() for each in choices)
    if not golds or not options[golds[0]]:
        raise LeftOut("whose answer is none of its options")
    return Example(
        **shared,
        target=options[golds[0]],
        answers=tuple(dict.fromkeys(options[gold] for gold in golds)),
        options=options,
        gold=golds[0],
    )


def _all(target: Any) -> list[Any]:
    return list(target) if isinstance(target, list | tuple) else [target]


def _index(target: Any, choices: Sequence[str]) -> int | None:
    if isinstance(target, str):
        return choices.index(target) if target in choices else None
    value = float(target) if isinstance(target, Real) else math.nan  # numpy's numbers, too
    return int(value) if value.is_integer() and 0 <= value < len(choices) else None


def _words(e: Exception) -> str:
    return f"{type(e).__name__}: {first_line(e)[:200]}"
