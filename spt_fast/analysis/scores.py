"""Plain tables of scores: a CSV or JSON file that anybody may have measured."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spt_fast.config.documents import json_values, plain_values, read_text
from spt_fast.config.ranges import SCORE, Range, part_of_place, require
from spt_fast.config.reader import known_scores
from spt_fast.config.strict import did_you_mean, not_this
from spt_fast.errors import ConfigError

_STDERR = "_stderr"
MOST_BYTES = 256 << 20
"""Of a table of scores: results.csv of a hundred thousand cells is one."""
_ERROR = Range(least=0, most=1e15)
"""What a standard error may be."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "task": ("task", "benchmark"),
    "value": ("value", "score"),
    "protocol": ("protocol", "condition"),
    "seed": ("seed",),
    "stderr": ("stderr",),
    "metric": ("metric",),
    "step": ("step",),
    "partner_of": ("partner_of",),
}
"""What a column may be called. The first three must be there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One measured number."""

    model: str
    task: str
    value: float
    stderr: float = math.nan
    """Of the choice of rows; NaN where it is not known."""
    protocol: str = "score"
    """How the model was asked; `score` where the file does not tell."""
    seed: str = ""
    metric: str = ""
    step: float = math.nan

    @property
    def place(self) -> tuple[str, ...]:
        """What tells it from other scores of its metric."""
        return (self.model, self.task, self.protocol, self.seed)


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores of models on tasks, under one protocol or several."""

    source: str
    """The file."""
    scores: tuple[Score, ...]
    partners: Mapping[str, str] = field(default_factory=dict)
    """Base model -> its post-trained counterpart, where that is known."""
    metric: str = ""
    """The metric, where the file names it."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(dict.fromkeys(score.task for score in self.scores))

    @property
    def models(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(dict.fromkeys(score.model for score in self.scores))

    @property
    def protocols(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(dict.fromkeys(score.protocol for score in self.scores))


def read_scores(file: str | os.PathLike[str], *, metric: str | None = None) -> ScoreTable:
    """Read a table of scores.

    * CSV with the columns `model`, `task`, `value` (or `score`), and if it has them `protocol` (or `condition`), `seed`,
      `stderr`, `metric`, `step`, `partner_of`: our results.csv is one. Or a JSON list of objects with such keys.
    * JSON {task: {model: value}}, or {protocol: {task: {model: value}}}; what ends in `_stderr` are the errors of its namesake.
    * Our results.json.

    Of several steps the last counts. An empty value, null or "N/A" is one that is missing.

    Args:
        file: ends in .csv, .json or .jsonl.
        metric: which, where the file has several; None: `exact_match` if it is there, else the only one.

    Raises:
        ConfigError: the file cannot be read, or is none of these.
    """
    path = Path(file)
    text = read_text(path, most=MOST_BYTES)
    partners: Mapping[str, str] = {}
    if path.suffix.lower() == ".csv":
        records = _csv(path, text)
        records = [(i, record) for i, record in records if not record.get("mean_of")]  # ours of suites: their tasks are there
        scores = [_record(path, f"line {i}", record) for i, record in records]
        partners = _partners_of(record for _, record in records)
    else:
        data = _json(path, text)
        if isinstance(data, dict) and isinstance(data.get("cells"), list):
            data = [{**cell, **metric} for cell in data["cells"] for metric in cell.get("metrics", ())]
        if isinstance(data, list):
            scores = [_record(path, f"[{i}]", record) for i, record in enumerate(data)]
            partners = _partners_of(data)
        else:
            scores = _nested(path, data)
    kept = _last_steps(_of_metric(path, [score for score in scores if score is not None], metric))
    if not kept:
        raise ConfigError(f"{path}: has no scores; it needs the columns model, task and value, or {{task: {{model: value}}}}")
    _no_repeats(path, kept)
    return ScoreTable(source=str(path), scores=tuple(kept), partners=partners, metric=kept[0].metric)


def read_partners(file: str | os.PathLike[str]) -> dict[str, str]:
    """Base model -> post-trained counterpart, from YAML or JSON: {base: partner}.

    Raises:
        ConfigError: the file cannot be read, or is something else.
    """
    data = _mapping(Path(file), "{base model: post-trained counterpart}")
    for base, partner in data.items():
        if not isinstance(partner, str):
            raise ConfigError(f"{file}: {base}: must be the name of a model, {not_this(partner)}")
    return {str(base): partner for base, partner in data.items()}


def read_truth(file: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """Scores that are known otherwise, from YAML or JSON: {model: value}, or {task: {model: value}}.

    Returns:
        task -> model -> value; the task "" stands for all.

    Raises:
        ConfigError: the file cannot be read, or is something else.
    """
    data = _mapping(Path(file), "{model: value}, or {task: {model: value}}")
    try:
        return known_scores(data, "")
    except ConfigError as e:
        raise e.within(file) from None


def only(table: ScoreTable, *, tasks: Sequence[str] = (), models: Sequence[str] = ()) -> ScoreTable:
    """The scores of these tasks and models; nothing given is all of them."""
    kept = tuple(
        score for score in table.scores if (not tasks or score.task in tasks) and (not models or score.model in models)
    )
    return replace(table, scores=kept)


def _csv(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as e:
        raise ConfigError(f"{path}: line {reader.line_num}: not CSV: {e}") from None
    columns = list(reader.fieldnames or ())
    for name in ("model", "task", "value"):
        if not set(_NAMES[name]) & set(columns):
            close = did_you_mean(name, [str(column) for column in columns])
            raise ConfigError(f"{path}: there is no column {' or '.join(_NAMES[name])}{close}")
    for line, row in rows:
        if None in row or None in row.values():
            raise ConfigError(f"{path}: line {line}: has another number of fields than the {len(columns)} of the first line")
    return rows


def _json(path: Path, text: str) -> Any:
    try:
        if path.suffix.lower() == ".jsonl":
            return [json_values(line, data=True) for line in text.split("\n") if line.strip()]
        return json_values(text, data=True)
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}; a table of scores ends in .csv or .json") from None


def _record(path: Path, place: str, record: Any) -> Score | None:
    if not isinstance(record, Mapping):
        raise ConfigError(f"{path}: {place}: must be an object with model, task and value, {not_this(record)}")
    found: dict[str, Any] = {}
    for name, spellings in _NAMES.items():
        spelling = next((each for each in spellings if each in record), None)
        if spelling is None:
            if name in ("model", "task", "value"):
                raise ConfigError(f"{path}: {place}: {name} is missing")
        elif name in ("value", "stderr", "step"):
            number = _number(path, f"{place}: {spelling}", record[spelling], _ERROR if name == "stderr" else SCORE)
            if number is not None:
                found[name] = number
        elif name != "partner_of" and record[spelling] not in (None, ""):
            found[name] = str(record[spelling])
    for name in ("model", "task"):
        if name not in found:
            raise ConfigError(f"{path}: {place}: {name} is empty")
    return Score(**found) if "value" in found else None


def _partners_of(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {str(record["partner_of"]): str(record["model"]) for record in records if record.get("partner_of")}


def _nested(path: Path, data: Any) -> list[Score | None]:
    """{task: {model: value}} or {protocol: {task: {model: value}}}."""
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be {{task: {{model: value}}}} or a list of objects, {not_this(data)}")
    deep = any(isinstance(inner, dict) and any(isinstance(v, dict) for v in inner.values()) for inner in data.values())
    tables: Mapping[str, Any] = data if deep else {"score": data}
    found: list[Score | None] = []
    for protocol, by_task in tables.items():
        if protocol.endswith(_STDERR) and protocol.removesuffix(_STDERR) in tables:
            continue
        errors = tables.get(protocol + _STDERR, {})
        for task, by_model in _object(path, protocol, by_task).items():
            for model, value in _object(path, f"{protocol}.{task}", by_model).items():
                at = f"{part_of_place(task)}.{part_of_place(model)}"
                number = _number(path, f"{part_of_place(protocol)}.{at}", value)
                error = errors.get(task, {}).get(model) if isinstance(errors, dict) else None
                stderr = _number(path, f"{part_of_place(protocol)}{_STDERR}.{at}", error, _ERROR)
                if number is not None:
                    known = math.nan if stderr is None else stderr
                    found.append(Score(model=model, task=task, value=number, stderr=known, protocol=protocol))
    return found


def _object(path: Path, place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {place}: must be {{name: value}}, {not_this(value)}")
    return value


def _number(path: Path, place: str, value: Any, allowed: Range = SCORE) -> float | None:
    """None where there is none; lm-evaluation-harness writes "N/A" for that."""
    if value in (None, "", "N/A"):
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
    except OverflowError:
        number = math.inf
    except ValueError:
        raise ConfigError(f"{path}: {place}: must be a number, {not_this(value)}") from None
    if math.isnan(number):
        return None
    require(allowed, value if isinstance(value, int) else number, f"{path}: {place}")
    return number + 0.0


def _of_metric(path: Path, scores: list[Score], metric: str | None) -> list[Score]:
    names = list(dict.fromkeys(score.metric for score in scores))
    if metric is None:
        if len(names) > 1 and "exact_match" not in names:
            raise ConfigError(f"{path}: has several metrics; choose one with --metric: {', '.join(names)}")
        metric = "exact_match" if "exact_match" in names else "".join(names)
    elif metric not in names and names != [""]:
        raise ConfigError(f"{path}: has no metric {metric!r}; choose from {', '.join(names)}")
    return [score for score in scores if score.metric in (metric, "")]


def _last_steps(scores: list[Score]) -> list[Score]:
    last: dict[tuple[str, ...], float] = {}
    for score in scores:
        if not math.isnan(score.step):
            last[score.place] = max(score.step, last.get(score.place, -math.inf))
    return [score for score in scores if math.isnan(score.step) or score.step == last[score.place]]


def _no_repeats(path: Path, scores: list[Score]) -> None:
    seen = set()
    for score in scores:
        if score.place in seen:
            raise ConfigError(f"{path}: {score.model} on {score.task} appears twice; add a column seed or protocol")
        seen.add(score.place)


def _mapping(path: Path, what: str) -> Mapping[Any, Any]:
    text = read_text(path)
    try:
        data = plain_values(text)
    except ConfigError as e:
        raise e.within(path) from None
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{path}: must be {what}, {not_this(data)}")
    return data
