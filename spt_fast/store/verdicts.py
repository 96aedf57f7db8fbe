"""verdicts/: what `watch` has said of each checkpoint, a file each, written once and never changed.

    00007.json    the seventh verdict, as it is sent to who is told
    00007.told    it has been sent; where it is missing, it is sent (again)

Files appear whole or not at all, so that a kill leaves either no verdict, which is then reached again, or one that is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from spt_fast.errors import StoreError
from spt_fast.storage.base import Storage
from spt_fast.store.layout import VERDICTS, as_json

_VERDICT = re.compile(r"(\d{5,})\.json")
_TOLD = re.compile(r"(\d{5,})\.told")


class VerdictFiles:
    """verdicts/ of one run folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def numbers(self) -> list[int]:
        """Of all verdicts, in the order in which they were reached."""
        return sorted(int(found[1]) for name in self._storage.names(VERDICTS) if (found := _VERDICT.fullmatch(name)))

    def read(self) -> list[dict[str, Any]]:
        """All verdicts, in the order in which they were reached, each with its `number`.

        Raises:
            StoreError: one cannot be read, or is not what was written.
        """
        return [self._one(number) for number in self.numbers()]

    def _one(self, number: int) -> dict[str, Any]:
        path = f"{VERDICTS}/{number:05d}.json"
        name = self._storage.name(path)
        try:
            found = json.loads(self._storage.read(path))
        except OSError as e:
            raise StoreError(f"{name}: cannot be read: {e.strerror or e}") from None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in ("id", "checkpoint", "verdict")):
            raise StoreError(f"{name}: is no verdict of ours; remove it, and the checkpoint is judged again")
        return {**found, "number": number}

    def put(self, verdict: Mapping[str, Any]) -> int:
        """Keep the next verdict; its number.

        Raises:
            StoreError: it cannot be written.
        """
        number = max([*self.numbers(), *self._told()], default=0) + 1  # none that was removed is taken again
        self._storage.write(f"{VERDICTS}/{number:05d}.json", as_json({**verdict, "number": number}))
        return number

    def untold(self) -> list[int]:
        """Of those that nobody has been told of, in order."""
        told = self._told()
        return [number for number in self.numbers() if number not in told]

    def _told(self) -> set[int]:
        return {int(found[1]) for name in self._storage.names(VERDICTS) if (found := _TOLD.fullmatch(name))}

    def tell(self, number: int) -> None:
        """Note that a verdict has been told.

        Raises:
            StoreError: it cannot be written.
        """
        self._storage.write(f"{VERDICTS}/{number:05d}.told", b"")
