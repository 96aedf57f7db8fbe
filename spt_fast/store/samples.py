"""samples.parquet of a cell: a row a `Sample`, a column a field. The columns are derived from the fields' types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from spt_fast.storage.base import Storage
from spt_fast.store.damage import UNREADABLE, Damage
from spt_fast.store.layout import SAMPLES, of_cell
from spt_fast.types import Sample

_TEXT, _TEXTS = (str,), (tuple, str)
ADDED = frozenset({"answer_texts", "answer_logprobs", "answer_bits_per_byte", "answer_logprob_margin"})
"""Columns that files of earlier versions lack: there they are empty."""


class SampleFiles:
    """The samples of one run folder."""

    def __init__(self, storage: Storage, damage: Damage, name: str = SAMPLES) -> None:
        self._storage, self._damage, self._name = storage, damage, name

    def rows(
        self, key: str, columns: Sequence[str] | None = None, *, last: bool = False, rows: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a cell.

        Args:
            key: of the cell.
            columns: only these; None: all.
            last: only the rows of the last step.
            rows: only these of them, by number, in this order; None: all.

        Raises:
            DamagedError: the file is missing or damaged.
        """
        found: list[dict[str, Any]] = self.table(key, columns, last=last, rows=rows).to_pylist()
        return found

    def columns(self, key: str, columns: Sequence[str], *, last: bool = False) -> dict[str, list[Any]]:
        """The same by column, which is faster where it is numbers that are wanted.

        Raises:
            DamagedError: the file is missing or damaged.
        """
        found: dict[str, list[Any]] = self.table(key, columns, last=last).to_pydict()
        return found

    def samples(self, key: str) -> tuple[Sample, ...]:
        """As they were kept.

        Raises:
            DamagedError: the file is missing or damaged.
        """
        try:
            return tuple(_sample(row) for row in self.rows(key))
        except UNREADABLE as e:
            raise self._damage.unreadable(of_cell(key, self._name), e) from None

    def table(
        self, key: str, columns: Sequence[str] | None = None, *, last: bool = False, rows: Sequence[int] | None = None
    ) -> Any:
        """The same as an Arrow table.

        Raises:
            DamagedError: the file is missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(columns) if columns else [field.name for field in fields(Sample)]
        path = of_cell(key, self._name)
        try:
            # read_table would look for a data set of many files first
            with self._storage.local(path) as local, pq.ParquetFile(local) as file:
                table = file.read([*names, *(["step"] if last and "step" not in names else [])], use_threads=False)
            return _chosen(_with_added(table, names), last=last, rows=rows).select(names)
        except (*UNREADABLE, pa.ArrowException) as e:  # KeyError: a column is not there
            raise self._damage.unreadable(path, e) from None


def _with_added(table: Any, names: Sequence[str]) -> Any:
    """A table with the columns that were added since, of nulls."""
    import pyarrow as pa

    for name in names:
        if name in ADDED and name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, schema().field(name).type))
    return table


def _chosen(table: Any, *, last: bool, rows: Sequence[int] | None) -> Any:
    """The rows of the last step, or all; of these the ones with these numbers, or all."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = None
    if last and (step := pc.max(table["step"])).is_valid:
        kept = pc.indices_nonzero(pc.equal(table["step"], step))
    if rows is not None:
        # Not from a list: Arrow would import pandas to look whether it is one of its own.
        numbers = np.asarray(rows, np.int64)
        wanted = pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
        kept = wanted if kept is None else kept.take(wanted)
    return table if kept is None else table.take(kept)


@cache
def _kinds() -> dict[str, tuple[Any, ...]]:
    """Field of a `Sample` -> what it holds: (str,), (int,), (tuple, str), (tuple, int), (Mapping, str, float), ..."""
    return {name: _kind(hint) for name, hint in get_type_hints(Sample).items()}


def _kind(hint: Any) -> tuple[Any, ...]:
    """
    Raises:
        TypeError: it is a type that no column is known for.
    """
    options = [each for each in get_args(hint) if each is not NoneType]
    if NoneType in get_args(hint) and len(options) == 1:
        return _kind(options[0])
    origin, inner = get_origin(hint), [each for each in options if each is not Ellipsis]
    if hint in (str, bool, int, float):
        return (hint,)
    if inner and all(isinstance(each, str) for each in inner):  # Literal["stop", "length"]
        return _TEXT
    if origin is tuple and len(set(inner)) == 1:
        return (tuple, *_kind(inner[0]))
    if origin is Mapping and inner == [str, float]:
        return (Mapping, str, float)
    raise TypeError(f"store/samples.py knows no column for a field of the type {hint}; say there how it is kept")


def schema() -> Any:
    """The Arrow schema of samples.parquet."""
    import pyarrow as pa

    plain = {str: pa.string(), bool: pa.bool_(), int: pa.int32(), float: pa.float64()}

    def column(kind: tuple[Any, ...]) -> Any:
        match kind:
            case (outer, inner) if outer is tuple:
                return pa.list_(plain[inner])
            case (outer, key, value) if outer is Mapping:
                return pa.map_(plain[key], plain[value])
        return plain[kind[0]]

    return pa.schema([(name, column(kind)) for name, kind in _kinds().items()])


def as_parquet(samples: Sequence[Sample]) -> bytes:
    """Samples as they are kept.

    Raises:
        TypeError, ValueError, AttributeError, pyarrow.ArrowException: a sample is not what its type says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [_cell(kind, getattr(sample, name)) for sample in samples] for name, kind in _kinds().items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pydict(columns, schema=schema()), sink, compression="zstd")
    return bytes(sink.getvalue())


def _cell(kind: tuple[Any, ...], value: Any) -> Any:
    """A value as Arrow takes it. Completions are whatever a model wrote; a lone surrogate would be refused."""
    if value is None:
        return None
    if kind == _TEXT:
        return _encodable(value)
    if kind == _TEXTS:
        return [_encodable(text) for text in value]
    return list(value.items()) if kind[0] is Mapping else value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


_READ: Mapping[Any, Callable[[Any], Any]] = {tuple: tuple, Mapping: dict}


def _sample(row: Mapping[str, Any]) -> Sample:
    """A row as the sample that it was."""
    values = {
        name: _READ[kind[0]](row[name]) if kind[0] in _READ and row[name] is not None else row[name]
        for name, kind in _kinds().items()
        if row[name] is not None or name not in ADDED
    }
    return Sample(**values)
