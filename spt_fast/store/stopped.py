"""What a cell came to that was asked no further than was needed: stopped.json, with its samples and answers.

    stopped.json             as result.json has it, of the rows that were asked; and how many of how many these are, and why
    stopped.parquet          the samples of these rows, as samples.parquet has them
    stopped-answers.parquet  all that was answered, for a run that goes on

There is no result.json beside them: the cell is not done, and nobody who asks for done cells sees these numbers. Written last
is stopped.json. When the cell is done the three are removed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from spt_fast.errors import StoreError, UnstorableError, boundary
from spt_fast.plan.cell import Cell
from spt_fast.storage.base import Storage
from spt_fast.store.damage import UNREADABLE, Damage
from spt_fast.store.layout import STOPPED, STOPPED_ANSWERS, STOPPED_SAMPLES, as_json, of_cell, sha256
from spt_fast.store.results import CHECKSUM, StoredResult, checksum, read_result, told
from spt_fast.store.samples import SampleFiles, as_parquet
from spt_fast.types import Answer, CellResult, Completion, Kept, LogLikelihood, Stopped

_NOT_KEPT = "the stopped cell cannot be kept"


@dataclass(frozen=True, kw_only=True)
class StoredStopped:
    """A stopped cell, as stopped.json tells it."""

    result: StoredResult
    """Of the rows that were asked."""
    stopped: Stopped
    """Without its answers."""
    stopped_at: str
    """When, in UTC."""


class StoppedFiles:
    """The stopped cells of one run folder."""

    def __init__(self, storage: Storage, damage: Damage) -> None:
        self._storage, self._damage = storage, damage
        self.samples = SampleFiles(storage, damage, STOPPED_SAMPLES)
        self._there: set[str] | None = None
        """Keys of the cells that have such files, as far as is known; None: nobody has looked."""

    def among(self, done: Collection[str]) -> set[str]:
        """Keys of the cells that were stopped and are not done."""
        return set(self._storage.versions("cells", [STOPPED])) - set(done)

    def read(self, key: str) -> StoredStopped:
        """A stopped cell.

        Raises:
            DamagedError: its file cannot be read, or was changed; or one beside it was.
        """
        path = of_cell(key, STOPPED)
        try:
            data = json.loads(self._storage.read(path))
            found = StoredStopped(
                result=read_result(key, data),
                stopped=Stopped(**{**data["stopped"], "answers": ()}),
                stopped_at=str(data["stopped_at"]),
            )
        except (*UNREADABLE, StoreError) as e:
            raise self._damage.unreadable(path, e) from None
        if data.get(CHECKSUM) != checksum(data):
            raise self._damage.changed(path)
        return found

    def check_files(self, found: StoredStopped) -> None:
        """That the files beside it are those that it was written with.

        Raises:
            DamagedError: one is missing, or was changed.
        """
        for name, digest in found.result.files.items():
            path = of_cell(found.result.key, name)
            try:
                same = sha256(self._storage.read(path)) == digest
            except OSError as e:
                raise self._damage.unreadable(path, e) from None
            if not same:
                raise self._damage.changed(path)

    def whole(self, key: str) -> Stopped:
        """A stopped cell with all that was answered.

        Raises:
            DamagedError: a file is missing or damaged, or was changed.
        """
        found = self.read(key)
        self.check_files(found)
        path = of_cell(key, STOPPED_ANSWERS)
        try:
            return replace(found.stopped, answers=_answers(self._storage.read(path)))
        except UNREADABLE as e:
            raise self._damage.unreadable(path, e) from None

    def put(self, cell: Cell, result: CellResult) -> None:
        """Keep a stopped cell; the marker is written last.

        Raises:
            UnstorableError: it is not what a worker should say; then nothing is written.
            StoreError: it cannot be written.
        """
        assert result.stopped is not None
        with boundary(UnstorableError, _NOT_KEPT):
            files = {STOPPED_SAMPLES: as_parquet(result.samples), STOPPED_ANSWERS: _as_parquet(result.stopped.answers)}
            data = told(cell, result)
            data["stopped"] = {
                key: each for key, each in asdict(replace(result.stopped, answers=())).items() if key != "answers"
            }
            data["stopped_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            data["files"] = {name: sha256(content) for name, content in files.items()}
            data[CHECKSUM] = checksum(data)
            read_result(cell.key, data)
            files[STOPPED] = as_json(data)
        for name, content in files.items():
            self._storage.write(of_cell(cell.key, name), content)
        if self._there is not None:
            self._there.add(cell.key)

    def forget(self, key: str) -> None:
        """Remove what is kept of a cell as stopped; the marker first."""
        if self._there is None:  # one look: through a network, three for each cell would be many
            self._there = set(self._storage.versions("cells", [STOPPED]))
        if key not in self._there:
            return
        for name in (STOPPED, STOPPED_SAMPLES, STOPPED_ANSWERS):
            self._storage.remove(of_cell(key, name))


def _as_parquet(answers: Iterable[Kept]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(each) for each in answers]
    columns = {name: [row[name] for row in rows] for name in _schema().names}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pydict(columns, schema=_schema()), sink, compression="zstd")
    return bytes(sink.getvalue())


def _schema() -> Any:
    import pyarrow as pa

    whole, text = pa.int32(), pa.string()
    return pa.schema(
        [
            *(("step", whole), ("what", text), ("i", whole), ("k", whole), ("cached", whole)),
            *(("text", text), ("token_ids", pa.list_(whole)), ("finish_reason", text), ("finite", pa.bool_())),
            ("token_logprobs", pa.list_(pa.float64())),
        ]
    )


def _row(kept: Kept) -> dict[str, Any]:
    step, what, i, k, answer = kept
    row: dict[str, Any] = {"step": step, "what": what, "i": i, "k": k, "cached": answer.cached}
    if isinstance(answer, LogLikelihood):
        return {**dict.fromkeys(_schema().names), **row, "token_logprobs": list(answer.token_logprobs)}
    text = answer.text.encode("utf-8", "replace").decode()  # as it is kept in samples
    written = {
        "text": text,
        "token_ids": list(answer.token_ids),
        "finish_reason": answer.finish_reason,
        "finite": answer.finite,
    }
    return {**dict.fromkeys(_schema().names), **row, **written}


def _answers(data: bytes) -> tuple[Kept, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    return tuple(Kept(row["step"], row["what"], row["i"], row["k"], _answer(row)) for row in rows)


def _answer(row: Mapping[str, Any]) -> Answer:
    if row["token_logprobs"] is not None:
        return LogLikelihood(token_logprobs=tuple(row["token_logprobs"]), cached=row["cached"])
    return Completion(
        text=row["text"],
        token_ids=tuple(row["token_ids"]),
        finish_reason=row["finish_reason"],
        finite=row["finite"],
        cached=row["cached"],
    )
