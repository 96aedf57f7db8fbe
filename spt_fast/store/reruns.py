"""rerun.json of a cell: what came of asking some of its rows again. The cell's result stays as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from spt_fast.errors import DamagedError, StoreError, UnstorableError, boundary
from spt_fast.plan.cell import Cell
from spt_fast.scoring.rerun import FLIPS, Flipped, Rerun
from spt_fast.storage.base import Storage
from spt_fast.store.damage import UNREADABLE, said
from spt_fast.store.layout import RERUN, as_json, of_cell, without_nan


class RerunFiles:
    """The reruns of one run folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, keys: Iterable[str], *, damaged: bool = True) -> dict[str, Rerun]:
        """What came of asking rows again, by key, of those of these cells where that was done.

        Args:
            keys: of the cells.
            damaged: refuse a file that is damaged; else it counts as not there.

        Raises:
            DamagedError: a file is damaged.
        """
        there = self._storage.versions("cells", [RERUN])
        wanted = [key for key in dict.fromkeys(keys) if key in there]
        found = self._storage.read_each(of_cell(key, RERUN) for key in wanted)
        reruns = {}
        for i, key in enumerate(wanted):
            try:
                reruns[key] = _rerun(json.loads(next(found)))
            except (*UNREADABLE, StoreError) as e:
                if damaged:
                    place = self._storage.name(of_cell(key, RERUN))
                    raise DamagedError(f"{place}: cannot be read ({said(e)}); ask the rows again with --rerun") from None
                found = self._storage.read_each(of_cell(key, RERUN) for key in wanted[i + 1 :])
        return reruns

    def put(self, cell: Cell, rerun: Rerun) -> None:
        """Keep what came of asking rows of a done cell again.

        Raises:
            UnstorableError: it is not what a worker should say; then nothing is written.
            StoreError: it cannot be written.
        """
        with boundary(UnstorableError, "what came of asking again cannot be kept"):
            data = as_json(without_nan({"key": cell.key, **asdict(rerun)}))
        self._storage.write(of_cell(cell.key, RERUN), data)


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
