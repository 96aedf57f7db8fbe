"""result.json and failure.json: what a cell came to, with checksums of itself and of the cell's other files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from spt_fast.errors import DamagedError, StoreError, UnstorableError, boundary, shortened
from spt_fast.plan.cell import Cell
from spt_fast.storage.base import Storage
from spt_fast.store.curve import with_metrics
from spt_fast.store.damage import UNREADABLE, Damage, said
from spt_fast.store.layout import CURVE, FAILURE, RESULT, SAMPLES, as_json, encoded, of_cell, sha256, without_nan
from spt_fast.store.learnt import LearntFiles
from spt_fast.store.samples import as_parquet
from spt_fast.types import CellResult, Metric

CHECKSUM = "checksum"
_NOT_KEPT = "the result cannot be kept"


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A done cell, as result.json tells it."""

    key: str
    metrics: Mapping[int | None, tuple[Metric, ...]]
    """Step (None where the protocol has none) -> metrics."""
    costs: Mapping[str, float]
    provenance: Mapping[str, str]
    content: Mapping[str, Any] = field(default_factory=dict)
    """`Cell.content`: what the key is the hash of."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The cell's other files, and the SHA-256 of each."""

    @property
    def last_step(self) -> int | None:
        """The step that tables show."""
        return max((step for step in self.metrics if step is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell that failed, and why, in a sentence."""

    key: str
    kind: str
    """The boundary it failed at: "TrainingError", "EngineError", ..."""
    reason: str


class ResultFiles:
    """The results of one run folder."""

    def __init__(self, storage: Storage, damage: Damage, learnt: LearntFiles) -> None:
        self._storage, self._damage, self._learnt = storage, damage, learnt

    def each(self, keys: Iterable[str]) -> Iterator[StoredResult | DamagedError]:
        """Done cells, in this order; of one whose result.json is damaged, or was changed by hand, what is wrong with it.

        Where they come through a network, many are read at a time.
        """
        keys = list(keys)
        found = self._storage.read_each(of_cell(key, RESULT) for key in keys)
        for i, key in enumerate(keys):
            try:
                yield self._stored(key, json.loads(next(found)))
            except DamagedError as e:
                yield e
            except (*UNREADABLE, StoreError) as e:
                yield self._damage.unreadable(of_cell(key, RESULT), e)
                # What has raised may tell no more.
                found = self._storage.read_each(of_cell(key, RESULT) for key in keys[i + 1 :])

    def _stored(self, key: str, data: dict[str, Any]) -> StoredResult:
        """A result as it was written.

        Raises:
            DamagedError: it was changed since.
            KeyError, TypeError, ...: it is none.
        """
        stored = read_result(key, data)
        if CHECKSUM in data and data[CHECKSUM] != checksum(data):
            raise self._damage.changed(of_cell(key, RESULT))
        return stored

    def check_files(self, result: StoredResult) -> None:
        """That the files beside a result are those that it was written with. Those that look older than it are believed.

        Raises:
            DamagedError: one is missing, or was changed.
        """
        for name, digest in result.files.items():
            path = of_cell(result.key, name)
            try:
                older = not self._storage.newer(path, of_cell(result.key, RESULT))
                same = older or sha256(self._storage.read(path)) == digest
            except OSError as e:
                raise self._damage.unreadable(path, e) from None
            if not same:
                raise self._damage.changed(path)

    def put(self, cell: Cell, result: CellResult) -> None:
        """Keep a done cell: the samples, the metrics beside the curve's losses, and last the marker.

        Raises:
            UnstorableError: it is not what a worker should say; then nothing is written.
            StoreError: it cannot be written.
        """
        files: dict[str, bytes] = {}
        with boundary(UnstorableError, _NOT_KEPT):
            files[SAMPLES] = as_parquet(result.samples)
            with suppress(FileNotFoundError):
                curve = self._storage.read(of_cell(cell.key, CURVE)).decode("utf-8", "replace")
                files[CURVE] = encoded(with_metrics(curve, result.metrics))
            data = told(cell, result)
            data["files"] = {name: sha256(content) for name, content in files.items()}
            if cell.steps != (None,):
                data["files"] |= self._learnt.hashes(cell.key)
            data[CHECKSUM] = checksum(data)
            read_result(cell.key, data)  # what cannot be read again is not written
            files[RESULT] = as_json(data)
        for name, content in files.items():
            self._storage.write(of_cell(cell.key, name), content)
        self._storage.remove(of_cell(cell.key, FAILURE))

    def failure(self, key: str) -> Failure:
        """Why a cell failed; where that cannot be read, that it cannot: the cell is tried again anyway."""
        path = of_cell(key, FAILURE)
        try:
            data = json.loads(self._storage.read(path))
            return Failure(key=key, kind=str(data["kind"]), reason=str(data["reason"]))
        except UNREADABLE as e:
            name = self._storage.name(path)
            reason = f"{name}: cannot be read ({said(e)}); run the grid again, and the cell is tried again"
            return Failure(key=key, kind=DamagedError.__name__, reason=reason)

    def put_failure(self, cell: Cell, kind: str, reason: str) -> None:
        """Keep why a cell failed; it is tried again when the grid is run again."""
        data = {"key": cell.key, "cell": cell.title, "kind": str(kind), "reason": str(reason)}
        self._storage.write(of_cell(cell.key, FAILURE), as_json(data))


def checksum(data: Mapping[str, Any]) -> str:
    """Of what result.json tells, in whatever order and with whatever white space."""
    told = {name: value for name, value in data.items() if name != CHECKSUM}
    return sha256(encoded(json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))))


def told(cell: Cell, result: CellResult) -> dict[str, Any]:
    """What result.json tells, but for the checksums.

    Raises:
        UnstorableError: JSON cannot hold it.
    """
    data = {
        "key": cell.key,
        "cell": {"model": cell.model.name, "task": cell.task.name, "protocol": cell.label, "seed": cell.seed},
        "content": cell.content,
        "points": [
            {"step": step, "metrics": [without_nan(asdict(metric)) for metric in metrics]}
            for step, metrics in result.metrics.items()
        ],
        "costs": dict(result.costs),
        "provenance": dict(result.provenance),
    }
    if wrong := _not_json(data):
        raise UnstorableError(f"{_NOT_KEPT}: {wrong}")
    return data


def _not_json(value: object, place: str = "") -> str:
    """What of some data JSON has not, in words; empty: nothing."""
    match value:
        case None | bool() | int() | str():
            return ""
        case float():
            return "" if math.isfinite(value) else f"{place} is {value}, which is no finite number"
        case dict():
            found = (_not_json(each, f"{place}.{key}" if place else str(key)) for key, each in value.items())
        case list() | tuple():
            found = (_not_json(each, f"{place}[{i}]") for i, each in enumerate(value))
        case _:
            return f"{place} is of the type {type(value).__name__}"
    return next(filter(None, found), "")


def read_result(key: str, data: Mapping[str, Any]) -> StoredResult:
    """What result.json tells.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    metrics = {
        None if point["step"] is None else int(point["step"]): tuple(_metric(metric) for metric in point["metrics"])
        for point in data["points"]
    }
    if not metrics:
        raise ValueError("it has no points")
    costs, provenance, content, files = data["costs"], data["provenance"], data["content"], data.get("files", {})
    for name, mapping in (("costs", costs), ("provenance", provenance), ("content", content), ("files", files)):
        if not isinstance(mapping, dict):
            raise TypeError(f"{name} is no mapping")
    for name, cost in costs.items():
        if not isinstance(cost, int | float):
            raise TypeError(f"costs.{name} is {shortened(cost)}, no number")
    return StoredResult(key=key, metrics=metrics, costs=costs, provenance=provenance, content=content, files=files)


def _metric(plain: Mapping[str, Any]) -> Metric:
    known: dict[str, Any] = {k: math.nan if v is None else v for k, v in plain.items()}
    for name, value in known.items():
        if name != "name" and not isinstance(value, int | float):
            raise TypeError(f"{name} of a metric is {shortened(value)}, no number")
    if not isinstance(known["name"], str):
        raise TypeError("the name of a metric is no text")
    return Metric(**known)
