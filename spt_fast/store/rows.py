"""rows/<task>.json of a run folder: what the rows of a task are: sizes, hashes, near-duplicates between splits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from spt_fast.plan.cell import TaskRows
from spt_fast.storage.base import Storage
from spt_fast.store.damage import UNREADABLE
from spt_fast.store.layout import as_json, rows_path


class RowFiles:
    """The rows' files of one run folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def names(self) -> list[str]:
        """Of the files, in order."""
        return sorted(name for name in self._storage.names("rows") if name.endswith(".json") and not name.startswith("."))

    def read(self) -> list[dict[str, Any]]:
        """What they tell of each task, by name; a damaged file is left out."""
        found = []
        for name in self.names():
            with suppress(*UNREADABLE):
                told = json.loads(self._storage.read(f"rows/{name}"))
                _require_whole(told)
                found.append(told)
        return found

    def describes(self, rows: TaskRows) -> bool:
        """Whether it is told here what these rows are."""
        try:
            known = json.loads(self._storage.read(rows_path(rows.name)))
            return bool(known["key"] == _key(rows))
        except UNREADABLE:
            return False

    def put(self, rows: TaskRows, report: Mapping[str, Any]) -> None:
        """Keep what the rows of a task are.

        Raises:
            StoreError: it cannot be written.
        """
        self._storage.write(rows_path(rows.name), as_json({"key": _key(rows), **report}))

    def copy(self, source: RowFiles, rows: Iterable[TaskRows]) -> None:
        """Have what another run folder tells of these rows, where it is of the same rows and not told here.

        Raises:
            OSError, StoreError: a file cannot be read or written.
        """
        for each in rows:
            if not self.describes(each) and source.describes(each):
                self._storage.write(rows_path(each.name), source._storage.read(rows_path(each.name)))


def _key(rows: TaskRows) -> dict[str, Any]:
    return {"version": rows.version, "content": rows.content, "limit": rows.limit, "cut": rows.cut}


def _require_whole(told: Any) -> None:
    """That a file has what the reports show of it.

    Raises:
        KeyError, TypeError, ...: it has not.
    """
    sizes = [*(told["splits"][split]["rows"] for split in ("tuning", "few_shot", "test")), sum(told["dropped"].values())]
    sizes += [told["near_duplicates"]["overlapping"][split] for split in ("tuning", "few_shot")]
    if not isinstance(told["task"], str) or not all(isinstance(size, int) for size in sizes):
        raise TypeError("a number of rows, or the name of their task, is none")
