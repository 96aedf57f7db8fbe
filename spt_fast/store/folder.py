"""The run folder: what is done, and what it came to. Only the driver writes here.

    grid.yaml            as resolved; a line a cell
    events.jsonl         what happened when; in parts below events/ where files cannot be appended to
    rows/<task>.json     what the rows of a task are: sizes, hashes, near-duplicates between tuning and test rows
    cells/<key>/         prompt.safetensors (LoRA: adapter.safetensors), curve.csv, samples.parquet, and result.json, written
                         last: the cell is done
                         meaning.json, what the vectors lie next to; probe.json, what `inspect` has asked of them
                         failure.json instead, where it failed; rerun.json, where some rows were asked again
                         stopped.json instead, where it was asked no further than was needed, with what was asked (`stopped`)
    threads/<id>.json    the cells along which a soft prompt is carried through a series of checkpoints
    verdicts/            <number>.json, what `watch` has said of a checkpoint, and <number>.told where it has told it
    logs/                what the workers and their engines printed
    .asked               keys of the cells that were looked for in earlier folders (`reuse`)

It may be a folder of this machine or a URL; `storage` knows the difference. Every file appears whole or not at all, so that
killing the driver at any moment loses the cell in flight and nothing else.

Each kind of file has a module that knows its format. What was changed by hand is noticed by its checksum when it is read
(`DamagedError`). Files that cannot be read, or are not what they should be (a folder, a pipe), are met with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spt_fast.config.output import Location
from spt_fast.errors import DamagedError
from spt_fast.plan.cell import Cell
from spt_fast.storage import Version, open_storage
from spt_fast.store.damage import Damage
from spt_fast.store.events import EventLog
from spt_fast.store.grid_file import GridFile
from spt_fast.store.layout import CURVE, FAILURE, GRID, LEARNT, RERUN, RESULT, SAMPLES, STOPPED, encoded, log_path, of_cell
from spt_fast.store.learnt import LearntFiles
from spt_fast.store.reruns import RerunFiles
from spt_fast.store.results import Failure, ResultFiles, StoredResult
from spt_fast.store.rows import RowFiles
from spt_fast.store.samples import SampleFiles
from spt_fast.store.stopped import StoppedFiles
from spt_fast.store.threads import ThreadFiles
from spt_fast.store.verdicts import VerdictFiles
from spt_fast.types import CellResult


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
        self.storage = open_storage(root)
        self.root = self.storage.root
        self.grid_file = GridFile(self.storage)
        self.rows = RowFiles(self.storage)
        self.reruns = RerunFiles(self.storage)
        self.threads = ThreadFiles(self.storage)
        self.verdicts = VerdictFiles(self.storage)
        damage = Damage(self.storage, self.grid_file)
        self.learnt = LearntFiles(self.storage, damage)
        self._events = EventLog(self.storage)
        self._samples = SampleFiles(self.storage, damage)
        self._results = ResultFiles(self.storage, damage, self.learnt)
        self.stopped = StoppedFiles(self.storage, damage)

    def name(self, path: str) -> str:
        """How a person is told of one of its files."""
        return self.storage.name(path)

    # whose it is

    def lock(self) -> None:
        """Take the folder, making it where it is not there, and remove what a killed driver left half-written.

        Raises:
            StoreError: another driver has it, or it cannot be written.
        """
        self.storage.lock()
        if self.storage.half_written:
            self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed driver left half-written.

        Not in done cells, where nothing can be: their marker is written last, and not before this has been here.
        """
        self.storage.sweep("", deep=False)
        for name in ("rows", "threads", "logs"):
            self.storage.sweep(name)
        for key in set(self.storage.names("cells")) - self.done():
            self.storage.sweep(f"cells/{key}")

    @property
    def in_use(self) -> bool:
        """Whether a driver is at work in the folder."""
        return self.storage.in_use

    def close(self) -> None:
        """Give the folder back.

        Raises:
            StoreError: events or logs could not be brought to where they belong.
        """
        self.storage.close()

    # what is done

    def done(self) -> set[str]:
        """Keys of the cells that are done."""
        return set(self.storage.versions("cells", [RESULT]))

    def settled(self) -> set[str]:
        """Keys of the cells that are done, and of those that were stopped."""
        done = self.done()
        return done | self.stopped.among(done)

    def failed(self) -> set[str]:
        """Keys of the cells that failed when they were last tried."""
        return {key for key, (name, _) in self.versions().items() if name == FAILURE}

    def versions(self) -> dict[str, tuple[str, Version]]:
        """How each cell that is done or failed stands, without reading it: another result, another version."""
        return self.storage.versions("cells", [RESULT, FAILURE])

    def made_from(self) -> list[Any]:
        """Versions of all that tables are made from: the grid, the rows, and how each cell stands. JSON can hold it.

        Raises:
            OSError: there is no grid.
        """
        rows = [(name, self.storage.version(f"rows/{name}")) for name in self.rows.names()]
        names_of = ([RERUN], [SAMPLES], [CURVE], LEARNT, [STOPPED])
        beside = [sorted(self.storage.versions("cells", names).items()) for names in names_of]
        return [self.storage.version(GRID), rows, sorted(self.versions().items()), *beside, *self.verdicts.numbers()]

    def discard(self, key: str) -> None:
        """Forget a cell. The marker goes first, so that half a removal is not a done cell."""
        self.storage.remove(of_cell(key, RESULT))
        self.storage.remove_folder(f"cells/{key}")

    # what cells came to

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
        return self._results.each(keys)

    def check_files(self, result: StoredResult) -> None:
        """That the files beside a result are those that it was written with. Those that look older than it are believed.

        Raises:
            DamagedError: one is missing, or was changed.
        """
        self._results.check_files(result)

    def cell_result(self, key: str) -> CellResult:
        """A done cell whole, samples included: what a judge rules on.

        Raises:
            StoreError: it is not done, or one of its files is damaged.
        """
        stored, samples = self.result(key), self._samples.samples(key)
        return CellResult(metrics=stored.metrics, samples=samples, costs=stored.costs, provenance=stored.provenance)

    def samples(
        self, key: str, columns: Sequence[str] | None = None, *, last: bool = False, rows: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a cell's samples.parquet: `SampleFiles.rows`."""
        return self._samples.rows(key, columns, last=last, rows=rows)

    def sample_columns(self, key: str, columns: Sequence[str], *, last: bool = False) -> dict[str, list[Any]]:
        """The same by column: `SampleFiles.columns`."""
        return self._samples.columns(key, columns, last=last)

    def sample_table(self, key: str) -> Any:
        """The same as an Arrow table: `SampleFiles.table`."""
        return self._samples.table(key)

    def put_result(self, cell: Cell, result: CellResult) -> None:
        """Keep a done cell; the marker is written last: `ResultFiles.put`."""
        self._results.put(cell, result)
        self.stopped.forget(cell.key)

    def put_stopped(self, cell: Cell, result: CellResult) -> None:
        """Keep a cell that was asked no further than was needed: `StoppedFiles.put`."""
        self.stopped.put(cell, result)
        self.storage.remove(of_cell(cell.key, FAILURE))

    def failure(self, key: str) -> Failure:
        """Why a cell failed; where that cannot be read, that it cannot: the cell is tried again anyway."""
        return self._results.failure(key)

    def put_failure(self, cell: Cell, kind: str, reason: str) -> None:
        """Keep why a cell failed; it is tried again when the grid is run again."""
        self._results.put_failure(cell, kind, reason)

    # what is told of the run

    def resolved(self) -> dict[str, Any]:
        """What grid.yaml says, as a run has written it.

        Raises:
            ConfigError: this is not a run folder.
        """
        return self.grid_file.resolved()

    def event(self, what: str, **details: Any) -> None:
        """Append a line to events.jsonl."""
        self._events.add(what, **details)

    def events(self) -> list[dict[str, Any]]:
        """The lines of events.jsonl: `EventLog.read`."""
        return self._events.read()

    def put(self, name: str, text: str) -> None:
        """Write one of the run's tables: results.csv, results.json, report.md, report.html."""
        self.storage.write(name, encoded(text))

    def text(self, name: str) -> str:
        """One of the run's tables: results.csv, results.json, report.md.

        Raises:
            OSError: it is not there.
        """
        return self.storage.read(name).decode("utf-8")

    def version(self, name: str) -> Version:
        """Of one of the run's tables; differs when it has been written anew.

        Raises:
            OSError: it is not there.
        """
        return self.storage.version(name)

    def log(self, model: str) -> Path:
        """Where a model's workers print: a file of this machine, which ends up at `log_name`."""
        return self.storage.printed(log_path(model))

    def log_name(self, model: str) -> str:
        """Where a person finds what a model's workers have printed."""
        return self.name(log_path(model))


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
