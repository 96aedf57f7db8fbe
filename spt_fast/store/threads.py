"""threads/<thread>.json: the cells whose soft prompts are carried along a series, also those that the grid no longer has.

A checkpoint may be deleted when it is evaluated, and the grid then has no cells of it; the next one starts from its vectors all
the same. A cell is named here before its vectors are written: one whose vectors are not there is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from spt_fast.errors import StoreError, boundary
from spt_fast.plan.cell import Cell
from spt_fast.storage.base import Storage
from spt_fast.store.layout import as_json, thread_path


class ThreadFiles:
    """The threads of one run folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def cells(self, thread: str) -> Mapping[str, str]:
        """Key of each cell of a thread -> name of its model. A file that is none of ours tells of none.

        Raises:
            StoreError: it is there, and cannot be read.
        """
        path = thread_path(thread)
        with boundary(StoreError, f"reading {self._storage.name(path)}"):
            try:
                found = json.loads(self._storage.read(path))
            except (FileNotFoundError, ValueError, RecursionError):
                return {}
        if not isinstance(found, dict):
            return {}
        return {key: name for key, name in found.items() if isinstance(name, str)}

    def add(self, cells: Iterable[Cell]) -> None:
        """Note the carried cells among these.

        Raises:
            StoreError: it cannot be written.
        """
        new: dict[str, dict[str, str]] = {}
        for cell in cells:
            if cell.thread:
                new.setdefault(cell.thread, {})[cell.key] = cell.model.name
        for thread, own in new.items():
            self.note(thread, own)

    def note(self, thread: str, cells: Mapping[str, str]) -> None:
        """Note cells of a thread: key -> name of the model.

        Raises:
            StoreError: it cannot be written.
        """
        there = self.cells(thread)
        if any(there.get(key) != name for key, name in cells.items()):
            self._storage.write(thread_path(thread), as_json({**there, **cells}))
