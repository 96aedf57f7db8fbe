"""The run folder: what is done, and what it came to. Only the driver writes here.

    grid.yaml            as resolved; a line a cell
    events.jsonl         what happened when; in parts below events/ where files cannot be appended to
    rows/<task>.json     what the rows of a task are: sizes, hashes, near-duplicates between tuning and test rows
    cells/<key>/         prompt.safetensors (LoRA: adapter.safetensors), curve.csv, samples.parquet, and result.json, written
                         last: the cell is done
                         meaning.json, what the vectors lie next to; probe.json, what `inspect` has asked of them
                         failure.json instead, where it failed; rerun.json, where some rows were asked again
    logs/                what the workers and their engines printed
    .asked               keys of the cells that earlier nights have been asked for (`nights`)

It may be a folder of this machine or a URL; `storage` knows the difference. Every file appears whole or not at all, so that
killing the driver at any moment loses the cell in flight and nothing else.

result.json holds checksums of itself and of the cell's other files: what was changed by hand is noticed when it is read
(`DamagedError`). Files that cannot be read, or are not what they should be (a folder, a pipe), are met with a sentence.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import re
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from spt_fast.config.output import Location, joined
from spt_fast.errors import ConfigError, DamagedError, StoreError, UnstorableError, boundary, shortened
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.prompts.lora import Learnt, LoraAdapter, adapters_as_bytes, load_adapters
from spt_fast.prompts.meaning import Meaning, Probe, as_json, meaning_of, probe_of
from spt_fast.prompts.soft_prompt import SoftPrompt, load_steps, steps_as_bytes
from spt_fast.scoring.rerun import FLIPS, Flipped, Rerun
from spt_fast.storage import Version, open_storage
from spt_fast.types import CellResult, Metric, Sample, TrainingStep

RESULT, FAILURE, RERUN = "result.json", "failure.json", "rerun.json"
PROMPT, CURVE, SAMPLES = "prompt.safetensors", "curve.csv", "samples.parquet"
ADAPTER = "adapter.safetensors"
LEARNT = (PROMPT, ADAPTER)
"""What a cell has learnt is in one of these."""
MEANING, PROBE = "meaning.json", "probe.json"
LATER_COLUMNS = (
    "group",
    "options",
    "span",
    "bound",
    "gold",
    "option_priors",
    "cloze_texts",
    "cloze_logprobs",
    "unconditional_logprobs",
    "chosen_debiased",
    "chosen_cloze",
    "chosen_cloze_per_byte",
    "chosen_cloze_pmi",
    "knows_debiased",
    "knows_cloze",
    "knows_cloze_per_byte",
    "knows_cloze_pmi",
    "knows_best",
)
"""Of samples.parquet, those that older run folders lack: there they are null."""
EVENTS = "events.jsonl"
GRID = "grid.yaml"
ASKED = ".asked"
CHECKSUM = "checksum"
CHECKED = (SAMPLES, CURVE, *LEARNT)
"""Of these result.json holds hashes."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError)
"""What reading a file that is not what we wrote can raise."""
_TOLD = {
    "run": ("cells", "todo"),
    "expected": ("seconds", "gpu_seconds", "basis"),
    "phase": ("model", "worker", "phase"),
    "worker": ("model", "worker", "where", "gpus"),
    "ended": ("model", "worker"),
}
"""Event -> what a line of it must have, beside its time."""


_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A done cell, as result.json tells it."""

    key: str
    metrics: Mapping[int | None, tuple[Metric, ...]]
    costs: Mapping[str, float]
    provenance: Mapping[str, str]
    content: Mapping[str, Any] = field(default_factory=dict)
    """`Cell.content`: what the key is the hash of."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The cell's other files, and the SHA-256 of each; none in older run folders."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell that failed, and why, in a sentence."""

    key: str
    kind: str
    """The boundary it failed at: "TrainingError", "EngineError", ..."""
    reason: str


class Store:
    """A run folder.

    Opened with `lock`, it belongs to this process until it is closed: two drivers in one folder would do everything twice.
    """

    def __init__(self, root: Location) -> None:
        """
        Args:
            root: a folder, or any URL that fsspec knows. Nothing is asked of a network yet.

        Raises:
            ConfigError: a URL that cannot be used: an unknown scheme, or a package that is missing.
        """
        self._storage = open_storage(root)
        self.root = self._storage.root
        self._hashes: dict[str, str] = {}
        """Of files that this process has written."""
        self._commands: dict[str, str] | None = None

    def name(self, path: str) -> str:
        """How a person is told of one of its files."""
        return self._storage.name(path)

    def lock(self) -> None:
        """Take the folder, making it where it is not there, and remove what a killed driver left half-written.

        Raises:
            StoreError: another driver has it, or it cannot be written.
        """
        self._storage.lock()
        if self._storage.half_written:
            self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed driver left half-written.

        Not in done cells, where nothing can be: their marker is written last, and not before this has been here.
        """
        self._storage.sweep("", deep=False)
        for name in ("rows", "logs"):
            self._storage.sweep(name)
        for key in set(self._storage.names("cells")) - self.done():
            self._storage.sweep(f"cells/{key}")

    @property
    def in_use(self) -> bool:
        """Whether a driver is at work in the folder."""
        return self._storage.in_use

    def close(self) -> None:
        """Give the folder back.

        Raises:
            StoreError: events or logs could not be brought to where they belong.
        """
        self._storage.close()

    # what is there

    def done(self) -> set[str]:
        """Keys of the cells that are done."""
        return set(self._storage.versions("cells", [RESULT]))

    def failed(self) -> set[str]:
        """Keys of the cells that failed when they were last tried."""
        found = self._storage.versions("cells", [RESULT, FAILURE])
        return {key for key, (name, _) in found.items() if name == FAILURE}

    def versions(self) -> dict[str, tuple[str, Version]]:
        """How each cell that is done or failed stands, without reading it: another result, another version."""
        return self._storage.versions("cells", [RESULT, FAILURE])

    def made_from(self) -> list[Any]:
        """Versions of all that tables are made from: the grid, the rows, and how each cell stands. JSON can hold it.

        Raises:
            OSError: there is no grid.
        """
        rows = [(name, self._storage.version(f"rows/{name}")) for name in self._row_files()]
        beside = [sorted(self._storage.versions("cells", names).items()) for names in ([RERUN], [SAMPLES], [CURVE], LEARNT)]
        return [self._storage.version(GRID), rows, sorted(self.versions().items()), *beside]

    def version(self, name: str) -> Version:
        """Of one of the run's tables; differs when it has been written anew.

        Raises:
            OSError: it is not there.
        """
        return self._storage.version(name)

    def text(self, name: str) -> str:
        """One of the run's tables: results.csv, results.json, report.md.

        Raises:
            OSError: it is not there.
        """
        return self._storage.read(name).decode("utf-8")

    def result(self, key: str) -> StoredResult:
        """A done cell.

        Raises:
            StoreError: it is not done, or its file is damaged.
        """
        (found,) = self.results([key])
        return found

    def results(self, keys: Iterable[str]) -> Iterator[StoredResult]:
        """Done cells, in this order; where they come through a network, many at a time.

        Raises:
            StoreError: one is not done, or its file is damaged.
        """
        for found in self.results_or_damage(keys):
            if isinstance(found, DamagedError):
                raise found
            yield found

    def results_or_damage(self, keys: Iterable[str]) -> Iterator[StoredResult | DamagedError]:
        """The same, and of a cell whose result.json is damaged, or was changed by hand, what is wrong with it."""
        keys = list(keys)
        found = self._storage.read_each(f"cells/{key}/{RESULT}" for key in keys)
        for i, key in enumerate(keys):
            try:
                yield self._stored(key, json.loads(next(found)))
            except DamagedError as e:
                yield e
            except (*UNREADABLE, StoreError) as e:
                yield self._damaged(f"cells/{key}/{RESULT}", e)
                # What has raised may tell no more.
                found = self._storage.read_each(f"cells/{key}/{RESULT}" for key in keys[i + 1 :])

    def _stored(self, key: str, data: dict[str, Any]) -> StoredResult:
        """A result as it was written.

        Raises:
            DamagedError: it was changed since.
            KeyError, TypeError, ...: it is none.
        """
        stored = _read_result(key, data)
        if CHECKSUM in data and data[CHECKSUM] != _checksum(data):
            raise self._changed(f"cells/{key}/{RESULT}")
        return stored

    def check_files(self, result: StoredResult) -> None:
        """That the files beside a result are those that it was written with. Those that look older than it are believed.

        Raises:
            DamagedError: one is missing, or was changed.
        """
        for name, digest in result.files.items():
            path = f"cells/{result.key}/{name}"
            try:
                same = (
                    not self._storage.newer(path, f"cells/{result.key}/{RESULT}") or _hash(self._storage.read(path)) == digest
                )
            except OSError as e:
                raise self._damaged(path, e) from None
            if not same:
                raise self._changed(path)

    def reruns(self, keys: Iterable[str], *, damaged: bool = True) -> dict[str, Rerun]:
        """What came of asking rows again, by key, of those of these cells where that was done.

        Args:
            keys: of the cells.
            damaged: refuse a file that is damaged; else it counts as not there.

        Raises:
            StoreError: a file is damaged.
        """
        there = self._storage.versions("cells", [RERUN])
        wanted = [key for key in dict.fromkeys(keys) if key in there]
        found = self._storage.read_each(f"cells/{key}/{RERUN}" for key in wanted)
        reruns = {}
        for i, key in enumerate(wanted):
            try:
                reruns[key] = _rerun(json.loads(next(found)))
            except (*UNREADABLE, StoreError) as e:
                if damaged:
                    place = self.name(f"cells/{key}/{RERUN}")
                    raise DamagedError(f"{place}: cannot be read ({_said(e)}); ask the rows again with --rerun") from None
                found = self._storage.read_each(f"cells/{key}/{RERUN}" for key in wanted[i + 1 :])
        return reruns

    def failure(self, key: str) -> Failure:
        """Why a cell failed; where that cannot be read, that it cannot: the cell is tried again anyway."""
        path = f"cells/{key}/{FAILURE}"
        try:
            data = json.loads(self._storage.read(path))
            return Failure(key=key, kind=str(data["kind"]), reason=str(data["reason"]))
        except UNREADABLE as e:
            reason = f"{self.name(path)}: cannot be read ({_said(e)}); run the grid again, and the cell is tried again"
            return Failure(key=key, kind=DamagedError.__name__, reason=reason)

    def _damaged(self, path: str, error: Exception) -> DamagedError:
        if isinstance(error, StoreError):  # which names the place, and why, itself
            return DamagedError(str(error))
        return DamagedError(f"{self.name(path)}: cannot be read ({_said(error)}); {self._again(path)}")

    def _changed(self, path: str) -> DamagedError:
        return DamagedError(
            f"{self.name(path)}: was changed after the run (its checksum is another one); put it back as it was, or "
            f"{self._again(path)}"
        )

    def _again(self, path: str) -> str:
        """How to have a cell done anew, and no other."""
        if self._commands is None:
            try:
                self._commands = {key: _only(cell) for key, cell in self.resolved()["cells"].items()}
            except (StoreError, ConfigError):
                self._commands = {}
        options = self._commands.get(path.split("/")[1], "")
        return f"run the grid again with --fresh{options} to do this cell anew"

    def prompts(self, cell: Cell) -> Mapping[int, Learnt] | None:
        """What a cell has learnt by step, or None where it is not all there yet."""
        if cell.steps == (None,):
            return None
        found: Mapping[int, Learnt] = self.soft_prompts(cell.key) or self.adapters(cell.key)
        return found if set(found) == set(cell.steps) else None

    def forget_learnt(self, key: str) -> None:
        """Have a cell learn anew: what it has learnt is damaged."""
        for name in LEARNT:
            self._storage.remove(f"cells/{key}/{name}")

    def adapters(self, key: str) -> dict[int, LoraAdapter]:
        """The LoRA adapters of a cell by step; none where it has none.

        Raises:
            DamagedError: the file is damaged.
        """
        return self._learnt(f"cells/{key}/{ADAPTER}", load_adapters)

    def _learnt(self, path: str, load: Callable[[Path], dict[int, _T]]) -> dict[int, _T]:
        try:
            with self._storage.local(path) as file:
                return load(file)
        except FileNotFoundError:
            return {}
        except (*UNREADABLE, StoreError) as e:
            raise self._damaged(path, e) from None

    def soft_prompts(self, key: str) -> dict[int, SoftPrompt]:
        """The soft prompts of a cell by step, those that there are; none where it has none.

        Raises:
            DamagedError: the file is damaged.
        """

        def load(file: Path) -> dict[int, SoftPrompt]:
            return {step: prompt for step, prompt in load_steps(file).items() if step is not None}

        return self._learnt(f"cells/{key}/{PROMPT}", load)

    def meaning(self, key: str) -> Meaning | None:
        """What a cell's vectors lie next to; None where nobody has looked, or at other vectors.

        Raises:
            StoreError: the file is damaged.
        """
        return self._told(key, MEANING, meaning_of)

    def probe(self, key: str) -> Probe | None:
        """What `inspect` has asked of a cell's vectors; None where it has not.

        Raises:
            StoreError: the file is damaged.
        """
        return self._told(key, PROBE, probe_of)

    def _told(self, key: str, name: str, read: Callable[[str], _T]) -> _T | None:
        path = f"cells/{key}/{name}"
        try:
            return read(self._storage.read(path).decode())
        except FileNotFoundError:
            return None
        except UNREADABLE as e:
            raise DamagedError(
                f"{self.name(path)}: cannot be read ({_said(e)}); delete it, and inspect the run again"
            ) from None

    def samples(
        self, key: str, columns: Sequence[str] | None = None, *, last: bool = False, rows: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a cell's samples.parquet.

        Args:
            key: of the cell.
            columns: only these; None: all.
            last: only the rows of the last step.
            rows: only these of them, by number, in this order; None: all.

        Raises:
            StoreError: the file is missing or damaged.
        """
        found: list[dict[str, Any]] = self._samples(key, columns, last=last, rows=rows).to_pylist()
        return found

    def sample_columns(self, key: str, columns: Sequence[str], *, last: bool = False) -> dict[str, list[Any]]:
        """The same by column, which is faster where it is numbers that are wanted.

        Raises:
            StoreError: the file is missing or damaged.
        """
        found: dict[str, list[Any]] = self._samples(key, columns, last=last, rows=None).to_pydict()
        return found

    def _samples(self, key: str, columns: Sequence[str] | None, *, last: bool, rows: Sequence[int] | None) -> Any:
        """An Arrow table."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        path = f"cells/{key}/{SAMPLES}"
        try:
            # read_table would look for a data set of many files first
            with self._storage.local(path) as local, pq.ParquetFile(local) as file:
                there = file.schema_arrow.names
                names = list(columns) if columns else [*there, *(name for name in LATER_COLUMNS if name not in there)]
                missing = [name for name in LATER_COLUMNS if name in names and name not in there]
                wanted = [name for name in names if name not in missing]
                table = file.read([*wanted, *(["step"] if last and "step" not in names else [])], use_threads=False)
            for name in missing:
                table = table.append_column(name, pa.nulls(len(table)))
            kept = None
            if last and (step := pc.max(table["step"])).is_valid:
                kept = pc.indices_nonzero(pc.equal(table["step"], step))
            if rows is not None:
                # Not from a list: Arrow would import pandas to look whether it is one of its own.
                numbers = np.asarray(rows, np.int64)
                wanted = pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
                kept = wanted if kept is None else kept.take(wanted)
            table = table if kept is None else table.take(kept)
            return table.select(names)
        except (*UNREADABLE, pa.ArrowException) as e:  # KeyError: a column is not there
            raise self._damaged(path, e) from None

    def cell_result(self, key: str) -> CellResult:
        """A done cell whole, samples included: what a judge rules on.

        Raises:
            StoreError: it is not done, or one of its files is damaged.
        """
        stored = self.result(key)
        try:
            samples = tuple(_sample(row) for row in self.samples(key))
        except UNREADABLE as e:
            raise self._damaged(f"cells/{key}/{SAMPLES}", e) from None
        return CellResult(metrics=stored.metrics, samples=samples, costs=stored.costs, provenance=stored.provenance)

    def describes(self, rows: TaskRows) -> bool:
        """Whether rows/ holds what these rows are."""
        try:
            known = json.loads(self._storage.read(_rows_path(rows.name)))
            return bool(known["key"] == _rows_key(rows))
        except UNREADABLE:
            return False

    def rows(self) -> list[dict[str, Any]]:
        """What rows/ tells of each task, by name; a damaged file is left out."""
        found = []
        for name in self._row_files():
            with suppress(*UNREADABLE):
                told = json.loads(self._storage.read(f"rows/{name}"))
                _require_rows(told)
                found.append(told)
        return found

    def _row_files(self) -> list[str]:
        return sorted(name for name in self._storage.names("rows") if name.endswith(".json") and not name.startswith("."))

    def asked(self) -> set[str]:
        """Keys of the cells that earlier nights have been asked for."""
        try:
            return set(self._storage.read(ASKED).decode("ascii", "replace").split())
        except OSError:
            return set()

    # what is new

    def put_rows(self, rows: TaskRows, report: Mapping[str, Any]) -> None:
        """Keep what the rows of a task are: sizes, hashes, near-duplicates."""
        self._storage.write(_rows_path(rows.name), _json({"key": _rows_key(rows), **report}))

    def put_asked(self, keys: Collection[str]) -> None:
        """Keep that earlier nights have been asked for these cells, beside those that they were asked for before."""
        self._storage.write(ASKED, "".join(f"{key}\n" for key in sorted({*self.asked(), *keys})).encode())

    def take_cells(self, source: Store, keys: Collection[str]) -> None:
        """Have cells that are done in another run folder here too, whole: their marker comes last."""
        files = source._storage.files("cells", keys)
        order = {
            f"cells/{key}": [*(name for name in names if name not in (RESULT, FAILURE)), RESULT]
            for key, names in files.items()
            if RESULT in names
        }
        self._storage.take(source._storage, order)

    def learnt(self, keys: Collection[str]) -> set[str]:
        """Those of these cells that have learnt something here, of all steps or of some."""
        return set(self._storage.versions("cells", LEARNT)) & set(keys)

    def take_prompts(self, source: Store, keys: Collection[str]) -> None:
        """Have what was learnt in another run folder here too, with the curves, of cells that are not done there either."""
        files = source._storage.files("cells", keys)
        order = {
            f"cells/{key}": [*(name for name in (CURVE, MEANING) if name in names), *learnt]
            for key, names in files.items()
            if (learnt := [name for name in LEARNT if name in names])
        }
        self._storage.take(source._storage, order)

    def take_rows(self, source: Store, rows: Iterable[TaskRows]) -> None:
        """Have what another run folder tells of the rows of tasks, where it is of the same rows and not told here."""
        for each in rows:
            if not self.describes(each) and source.describes(each):
                self._storage.write(_rows_path(each.name), source._storage.read(_rows_path(each.name)))

    def share_prompts(self, source: Cell, cell: Cell) -> None:
        """Give a judged cell what was learnt by the cell whose completions it rules on, and the curve."""
        for name in (*LEARNT, CURVE, MEANING):
            with suppress(FileNotFoundError):
                self._write(f"cells/{cell.key}/{name}", self._storage.read(f"cells/{source.key}/{name}"))

    def _write(self, path: str, data: bytes) -> None:
        self._storage.write(path, data)
        self._hashes[path] = _hash(data)

    def put_grid(self, resolved: Mapping[str, Any]) -> None:
        """Write grid.yaml as resolved, unless it says so already."""
        import yaml

        head = {name: value for name, value in resolved.items() if name != "cells"}
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text: str = yaml.dump(head, Dumper=dumper, sort_keys=False, allow_unicode=True)
        # JSON is YAML, and by far the fastest way to write it and to read it: there may be 100,000 cells.
        cells = resolved["cells"]
        lines = "".join(f" {_LINE.encode(key)}: {_LINE.encode(cell)}\n" for key, cell in cells.items())
        data = f"{text}cells:\n{_NOT_IN_YAML.sub(_escaped, lines)}".encode("utf-8", "replace")
        with suppress(OSError):
            if self._storage.read(GRID) == data:
                return
        self._storage.write(GRID, data)

    def grid(self) -> Any:
        """What grid.yaml says: also where a person has written it anew.

        Raises:
            OSError: it is not there.
            ValueError: it is no YAML.
        """
        import yaml

        text = self._storage.read(GRID).decode("utf-8")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        head, mark, lines = text.partition("\ncells:\n")
        try:
            if mark:
                with suppress(ValueError):
                    cells = json.loads("{" + lines.strip().replace("\n", ",") + "}")
                    return {**yaml.load(head, Loader=loader), "cells": cells}
            return yaml.load(text, Loader=loader)
        except (yaml.YAMLError, TypeError, RecursionError) as e:
            raise ValueError(f"not YAML: {e}") from None

    def resolved(self) -> dict[str, Any]:
        """What grid.yaml says, as a run has written it.

        Raises:
            ConfigError: this is no run folder.
        """
        try:
            grid = self.grid()
        except FileNotFoundError:
            raise ConfigError(f"{self.root}: is no run folder: it has no grid.yaml") from None
        except OSError as e:
            raise ConfigError(f"{self.root}: is no run folder: its grid.yaml cannot be read ({_said(e)})") from None
        except ValueError:
            grid = None
        place = joined(self.root, "grid.yaml")
        if not isinstance(grid, dict) or not isinstance(grid.get("cells"), dict):
            raise ConfigError(f"{place}: was not written by a run; name the folder that `spt-fast run` made")
        grid = {"name": "", "models": [], "tasks": [], "protocols": [], "spt_fast": "", **grid}
        if wrong := _not_resolved(grid):
            raise ConfigError(f"{place}: {wrong}; run the grid again, which writes this file anew")
        return grid

    def put_prompts(
        self, cell: Cell, steps: Mapping[int, Learnt], curve: Sequence[TrainingStep], meaning: Meaning | None = None
    ) -> None:
        """Keep what was trained, so that it is not trained again.

        Raises:
            UnstorableError: it is not what a worker should say; then nothing is written.
            StoreError: it cannot be written.
        """
        with boundary(UnstorableError, "what was learnt cannot be kept"):
            lies_next_to = None if meaning is None else _text(as_json(meaning))
            curve_csv = _curve(curve)
            adapters = {step: learnt for step, learnt in steps.items() if isinstance(learnt, LoraAdapter)}
            prompts = {step: learnt for step, learnt in steps.items() if isinstance(learnt, SoftPrompt)}
            if len(adapters or prompts) != len(steps):
                kinds = ", ".join(sorted({type(each).__name__ for each in steps.values()}))
                raise UnstorableError(f"what was learnt cannot be kept: it is {kinds}, not vectors or an adapter a step")
            name, learnt = (ADAPTER, adapters_as_bytes(adapters)) if adapters else (PROMPT, steps_as_bytes(prompts))
        if lies_next_to is not None:
            self._storage.write(f"cells/{cell.key}/{MEANING}", lies_next_to)
        self._write(f"cells/{cell.key}/{CURVE}", curve_csv)
        self._write(f"cells/{cell.key}/{name}", learnt)

    def put_meaning(self, key: str, meaning: Meaning) -> None:
        """Keep what a cell's vectors lie next to."""
        self._storage.write(f"cells/{key}/{MEANING}", _text(as_json(meaning)))

    def put_probe(self, key: str, probe: Probe) -> None:
        """Keep what was asked of a cell's vectors."""
        self._storage.write(f"cells/{key}/{PROBE}", _text(as_json(probe)))

    def put_result(self, cell: Cell, result: CellResult) -> None:
        """Keep a done cell: the samples, the metrics beside the curve's losses, and last the marker.

        Raises:
            UnstorableError: it is not what a worker should say; then nothing is written.
            StoreError: it cannot be written.
        """
        folder = f"cells/{cell.key}"
        files: dict[str, bytes] = {}
        with boundary(UnstorableError, "the result cannot be kept"):
            files[SAMPLES] = _parquet(result.samples)
            with suppress(FileNotFoundError):
                curve = self._storage.read(f"{folder}/{CURVE}").decode("utf-8", "replace")
                files[CURVE] = _text(_with_metrics(curve, result.metrics))
            data = self._result(cell, result)
            data["files"] = {name: _hash(content) for name, content in files.items()}
            if cell.steps != (None,):
                data["files"] |= self._learnt_hashes(folder)
            data[CHECKSUM] = _checksum(data)
            _read_result(cell.key, data)  # what cannot be read again is not written
            files[RESULT] = _json(data)
        for name, content in files.items():
            self._storage.write(f"{folder}/{name}", content)
        self._storage.remove(f"{folder}/{FAILURE}")

    def _learnt_hashes(self, folder: str) -> dict[str, str]:
        """Of what a cell has learnt, by this process or an earlier one."""
        found = {}
        for name in LEARNT:
            with suppress(FileNotFoundError):
                path = f"{folder}/{name}"
                found[name] = self._hashes.get(path) or _hash(self._storage.read(path))
        return found

    def _result(self, cell: Cell, result: CellResult) -> dict[str, Any]:
        """What result.json tells, but for the checksums."""
        data = {
            "key": cell.key,
            "cell": {
                "model": cell.model.name,
                "task": cell.task.name,
                "protocol": cell.label,
                "seed": cell.seed,
            },
            "content": cell.content,
            "points": [
                {"step": step, "metrics": [_without_nan(asdict(metric)) for metric in metrics]}
                for step, metrics in result.metrics.items()
            ],
            "costs": dict(result.costs),
            "provenance": dict(result.provenance),
        }
        if wrong := _not_json(data):
            raise UnstorableError(f"the result cannot be kept: {wrong}")
        return data

    def put_rerun(self, cell: Cell, rerun: Rerun) -> None:
        """Keep what came of asking rows of a done cell again, beside its result, which stays as it is.

        Raises:
            UnstorableError: it is not what a worker should say; then nothing is written.
            StoreError: it cannot be written.
        """
        with boundary(UnstorableError, "what came of asking again cannot be kept"):
            data = _json(_without_nan({"key": cell.key, **asdict(rerun)}))
        self._storage.write(f"cells/{cell.key}/{RERUN}", data)

    def put_failure(self, cell: Cell, kind: str, reason: str) -> None:
        """Keep why a cell failed; it is tried again when the grid is run again."""
        data = {"key": cell.key, "cell": cell.title, "kind": str(kind), "reason": str(reason)}
        self._storage.write(f"cells/{cell.key}/{FAILURE}", _json(data))

    def discard(self, key: str) -> None:
        """Forget a cell. The marker goes first, so that half a removal is not a done cell."""
        self._storage.remove(f"cells/{key}/{RESULT}")
        self._storage.remove_folder(f"cells/{key}")

    def event(self, what: str, **details: Any) -> None:
        """Append a line to events.jsonl."""
        line = {"time": round(time.time(), 3), "event": what, **details}
        self._storage.append(EVENTS, _text(json.dumps(line, ensure_ascii=False, default=str) + "\n").decode())

    def events(self) -> list[dict[str, Any]]:
        """The lines of events.jsonl; what is no line of ours, as a last one that was cut short by a kill, is left out.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            told = self._storage.appended(EVENTS)
        except OSError as e:
            mend = "move it away, and the run writes another one"
            raise StoreError(f"{self.name(EVENTS)}: cannot be read ({_said(e)}); {mend}") from None
        return [line for line in map(_event, told.split("\n")) if line is not None]

    def put(self, name: str, text: str) -> None:
        """Write one of the run's tables: results.csv, results.json, report.md, report.html."""
        self._storage.write(name, _text(text))

    def log(self, model: str) -> Path:
        """Where a model's workers print: a file of this machine, which ends up at `log_name`."""
        return self._storage.printed(_log_path(model))

    def log_name(self, model: str) -> str:
        """Where a person finds what a model's workers have printed."""
        return self.name(_log_path(model))


class Results(Mapping[str, StoredResult]):
    """Done cells by key, each read when it is asked for: a grid of 100,000 cells is not read to be counted."""

    def __init__(self, store: Store, keys: Iterable[str]) -> None:
        self._store = store
        self._keys = dict.fromkeys(keys)

    def __getitem__(self, key: str) -> StoredResult:
        """A done cell.

        Raises:
            KeyError: it was not done.
            StoreError: its file is damaged.
        """
        if key not in self._keys:
            raise KeyError(key)
        return self._store.result(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def broken(key: str, entry: Mapping[str, Any], failed: Collection[str]) -> str | None:
    """The key of the failure that a cell, as grid.yaml has it, failed of: its own, or that of a cell that it rests on."""
    return min({key, entry.get("rests_on"), *entry.get("members", ())}.intersection(failed), default=None)


_LINE = json.JSONEncoder(ensure_ascii=False)
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""What JSON has as it is and YAML refuses, or takes for the end of a line."""


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


MOST_BYTES = 150
"""Of a file's name; file systems take 255."""


def _rows_path(task: str) -> str:
    return f"rows/{_as_file(task)}.json"


def _log_path(model: str) -> str:
    return f"logs/{_as_file(model.strip('/'))}.log"


def _as_file(name: str) -> str:
    """A name as that of a file: as it is but for slashes, where it is short and printable; else its end, and a hash of all."""
    told = name.replace("/", "--")
    if len(told.encode("utf-8", "replace")) <= MOST_BYTES and told.isprintable():
        return told
    safe = "".join(ch if ch.isprintable() else "-" for ch in told).encode("utf-8", "replace")[-MOST_BYTES:]
    return f"{safe.decode('utf-8', 'ignore')}-{_hash(name.encode('utf-8', 'surrogatepass'))[:8]}"


def _only(cell: Mapping[str, Any]) -> str:
    """The option that chooses a cell of a resolved grid: " --only model=m,task=t,protocol=zero_shot"."""
    names = [(name, cell[name]) for name in ("model", "task", "protocol", "seed") if cell[name] is not None]
    # A comma ends a pattern, and "?" is any one sign.
    patterns = (f"{name}={glob.escape(str(value)).replace(',', '?')}" for name, value in names)
    return f" --only {shlex.quote(','.join(patterns))}"


def _said(error: Exception) -> str:
    """What is wrong with a file, from what reading it raised: in a few words."""
    match error:
        case OSError():
            return error.strerror or str(error)
        case KeyError():
            return f"it has no {shortened(error.args[0] if error.args else '')}"
        case json.JSONDecodeError():
            return f"it is no JSON: {error.msg}, line {error.lineno}"
        case _:
            text = " ".join(str(error).split()) or type(error).__name__
            return text if len(text) <= 200 else f"{text[:200]}..."


def _not_resolved(grid: Mapping[str, Any]) -> str:
    """What of a grid.yaml is not as a run has written it; empty: nothing that matters."""
    lists: dict[str, tuple[str, ...]] = {"models": ("id", "post_trained"), "tasks": ("task",), "protocols": ()}
    for name, wanted in lists.items():
        items = grid[name]
        if not isinstance(items, list) or not all(isinstance(each, dict) and each for each in items):
            return f"{name!r} is no list of mappings"
        for missing in (key for each in items for key in wanted if key not in each):
            return f"one of its {name} has no {missing!r}"
    for key, cell in grid["cells"].items():
        if not isinstance(key, str) or not isinstance(cell, dict):
            return f"cell {shortened(key)} is no mapping"
        for missing in (name for name in ("model", "task", "protocol", "seed") if name not in cell):
            return f"cell {shortened(key)} has no {missing!r}"
        if not all(isinstance(cell[name], str) for name in ("model", "task", "protocol")):
            return f"cell {shortened(key)} has a model, task or protocol that is no name"
        if not isinstance(cell["seed"], int | None) or not isinstance(cell.get("members", []), list):
            return f"cell {shortened(key)} has a seed that is no integer, or members that are no list"
    return ""


def _require_rows(told: Any) -> None:
    """That rows/<task>.json has what the reports show of it.

    Raises:
        KeyError, TypeError, ...: it has not.
    """
    sizes = [*(told["splits"][split]["rows"] for split in ("tuning", "few_shot", "test")), sum(told["dropped"].values())]
    sizes += [told["near_duplicates"]["overlapping"][split] for split in ("tuning", "few_shot")]
    if not isinstance(told["task"], str) or not all(isinstance(size, int) for size in sizes):
        raise TypeError("a number of rows, or the name of their task, is none")


def _event(line: str) -> dict[str, Any] | None:
    """A line of events.jsonl; None where it is none."""
    if not line.strip():
        return None
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("event"), str) or not isinstance(told.get("time"), int | float):
        return None
    return told if all(name in told for name in _TOLD.get(told["event"], ())) else None


def _read_result(key: str, data: Mapping[str, Any]) -> StoredResult:
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


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checksum(data: Mapping[str, Any]) -> str:
    """Of what result.json tells, in whatever order and with whatever white space."""
    told = {name: value for name, value in data.items() if name != CHECKSUM}
    return _hash(_text(json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))))


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


def _text(text: str) -> bytes:
    """As UTF-8; half of a surrogate pair, which that has no bytes for, becomes a question mark."""
    return text.encode("utf-8", "replace")


def _curve(curve: Sequence[TrainingStep]) -> bytes:
    for each in curve:
        for name, value in (("loss", each.loss), ("norm of the gradient", each.grad_norm)):
            if not math.isfinite(value):
                raise UnstorableError(f"what was learnt cannot be kept: the {name} of step {each.step} is {value}")
    lines = ["step,loss,grad_norm", *(f"{int(s.step)},{float(s.loss)!r},{float(s.grad_norm)!r}" for s in curve)]
    return ("\n".join(lines) + "\n").encode()


def _rows_key(rows: TaskRows) -> dict[str, Any]:
    return {"version": rows.version, "content": rows.content, "limit": rows.limit, "cut": rows.cut}


def _metric(plain: Mapping[str, Any]) -> Metric:
    known: dict[str, Any] = {k: math.nan if v is None else v for k, v in plain.items()}
    for name, value in known.items():
        if name != "name" and not isinstance(value, int | float):
            raise TypeError(f"{name} of a metric is {shortened(value)}, no number")
    if not isinstance(known["name"], str):
        raise TypeError("the name of a metric is no text")
    return Metric(**known)


_TUPLES = (
    "answers",
    "option_logprobs",
    "options",
    "option_priors",
    "cloze_texts",
    "cloze_logprobs",
    "unconditional_logprobs",
)


def _sample(row: Mapping[str, Any]) -> Sample:
    tuples = {name: tuple(row[name] or ()) for name in _TUPLES}
    span = tuple(row["span"]) if row["span"] else None
    return Sample(**{**row, **tuples, "scores": dict(row["scores"] or ()), "group": row["group"] or "", "span": span})


def _rerun(plain: Mapping[str, Any]) -> Rerun:
    difference = plain["largest_difference"]
    return Rerun(
        share=plain["share"],
        n=plain["n"],
        flips={name: int(plain["flips"][name]) for name in FLIPS},
        largest_difference=math.nan if difference is None else difference,
        flipped=tuple(Flipped(**{**each, "what": tuple(each["what"])}) for each in plain["flipped"]),
        costs=plain["costs"],
        provenance=plain["provenance"],
    )


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _json(data: Any) -> bytes:
    return _text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _parquet(samples: Sequence[Sample]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("example", pa.string()),
            ("step", pa.int32()),
            ("prompt", pa.string()),
            ("completion", pa.string()),
            ("finish_reason", pa.string()),
            ("target", pa.string()),
            ("extracted", pa.string()),
            ("rule", pa.string()),
            ("format_ok", pa.bool_()),
            ("knows", pa.bool_()),
            ("correct", pa.bool_()),
            ("answers", pa.list_(pa.string())),
            ("scores", pa.map_(pa.string(), pa.float64())),
            ("option_logprobs", pa.list_(pa.float64())),
            ("chosen", pa.int32()),
            ("chosen_per_byte", pa.int32()),
            ("knows_per_byte", pa.bool_()),
            ("format_by_rule", pa.bool_()),
            ("knows_by_rule", pa.bool_()),
            ("group", pa.string()),
            ("options", pa.list_(pa.string())),
            ("span", pa.list_(pa.int32())),
            ("bound", pa.bool_()),
            ("gold", pa.int32()),
            ("option_priors", pa.list_(pa.float64())),
            ("cloze_texts", pa.list_(pa.string())),
            ("cloze_logprobs", pa.list_(pa.float64())),
            ("unconditional_logprobs", pa.list_(pa.float64())),
            ("chosen_debiased", pa.int32()),
            ("chosen_cloze", pa.int32()),
            ("chosen_cloze_per_byte", pa.int32()),
            ("chosen_cloze_pmi", pa.int32()),
            ("knows_debiased", pa.bool_()),
            ("knows_cloze", pa.bool_()),
            ("knows_cloze_per_byte", pa.bool_()),
            ("knows_cloze_pmi", pa.bool_()),
            ("knows_best", pa.bool_()),
        ]
    )
    # Completions are whatever a model wrote; a lone surrogate would be refused by Arrow.
    columns: dict[str, list[Any]] = {name: [getattr(sample, name) for sample in samples] for name in schema.names}
    for name in schema.names:
        if schema.field(name).type == pa.string():
            columns[name] = [None if text is None else _encodable(text) for text in columns[name]]
    for name in ("options", "cloze_texts"):
        columns[name] = [[_encodable(text) for text in getattr(sample, name)] for sample in samples]
    columns["scores"] = [list(scores.items()) for scores in columns["scores"]]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _with_metrics(curve: str, points: Mapping[int | None, Sequence[Metric]]) -> str:
    """Curve lines with the metrics of evaluated steps behind them; step 0 has metrics and no loss."""
    header, *lines = curve.splitlines() or [""]
    names = [metric.name for metric in next(iter(points.values()))]
    if header != "step,loss,grad_norm":  # metrics are there already, from an earlier try
        header = "step,loss,grad_norm"
        lines = [",".join(line.split(",")[:3]) for line in lines]
    losses = {int(first): line for line in lines if (first := line.split(",", 1)[0]).isdecimal()}
    out = [",".join([header, *names])]
    for step in sorted({*losses, *(s for s in points if s is not None)}):
        values = {m.name: m.value for m in points.get(step, ())}
        cells = ["" if name not in values or math.isnan(values[name]) else repr(values[name]) for name in names]
        out.append(",".join([losses.get(step, f"{step},,"), *cells]))
    return "\n".join(out) + "\n"
