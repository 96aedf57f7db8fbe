"""What is said of a file that is not what was written: which, what is wrong with it, and what to do."""

from __future__ import annotations

import glob
import json
import shlex
from collections.abc import Mapping
from typing import Any

from spt_fast.errors import ConfigError, DamagedError, StoreError, shortened
from spt_fast.storage.base import Storage
from spt_fast.store.grid_file import GridFile

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError)
"""What reading a file that is not what we wrote can raise."""


def said(error: Exception) -> str:
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


class Damage:
    """Says of a cell's damaged files how that cell, and no other, is done anew."""

    def __init__(self, storage: Storage, grid: GridFile) -> None:
        self._storage, self._grid = storage, grid
        self._options: dict[str, str] | None = None
        """Cell key -> the option that chooses the cell; read when it is first wanted."""

    def unreadable(self, path: str, error: Exception) -> DamagedError:
        """A file of a cell could not be read."""
        if isinstance(error, StoreError):  # which names the place, and why, itself
            return DamagedError(str(error))
        return DamagedError(f"{self._storage.name(path)}: cannot be read ({said(error)}); {self._again(path)}")

    def changed(self, path: str) -> DamagedError:
        """A file of a cell has another checksum than when it was written."""
        return DamagedError(
            f"{self._storage.name(path)}: was changed after the run (its checksum is another one); put it back as it was, or "
            f"{self._again(path)}"
        )

    def _again(self, path: str) -> str:
        if self._options is None:
            try:
                self._options = {key: _only(cell) for key, cell in self._grid.resolved()["cells"].items()}
            except (StoreError, ConfigError):
                self._options = {}
        option = self._options.get(path.split("/")[1], "")
        return f"run the grid again with --fresh{option} to do this cell anew"


def _only(cell: Mapping[str, Any]) -> str:
    """The option that chooses a cell of a resolved grid: " --only model=m,task=t,protocol=zero_shot"."""
    names = [(name, cell[name]) for name in ("model", "task", "protocol", "seed") if cell[name] is not None]
    # A comma ends a pattern, and "?" is any one sign.
    patterns = (f"{name}={glob.escape(str(value)).replace(',', '?')}" for name, value in names)
    return f" --only {shlex.quote(','.join(patterns))}"
