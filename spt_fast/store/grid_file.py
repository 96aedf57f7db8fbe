"""grid.yaml of a run folder: the grid as resolved, with a line a cell."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from spt_fast.config.output import joined
from spt_fast.errors import ConfigError, shortened
from spt_fast.storage.base import Storage
from spt_fast.store.layout import GRID

_LINE = json.JSONEncoder(ensure_ascii=False)
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""What JSON has as it is and YAML refuses, or takes for the end of a line."""
_LISTS: Mapping[str, tuple[str, ...]] = {"models": ("id", "post_trained"), "tasks": ("task",), "protocols": ()}
"""Lists of mappings that it has, and what each mapping must have."""
_OF_A_CELL = ("model", "task", "protocol", "seed")


class GridFile:
    """grid.yaml of one run folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def put(self, resolved: Mapping[str, Any]) -> None:
        """Write it, unless it says so already.

        Raises:
            StoreError: it cannot be written.
        """
        data = _as_yaml(resolved)
        with suppress(OSError):
            if self._storage.read(GRID) == data:
                return
        self._storage.write(GRID, data)

    def read(self) -> Any:
        """What it says: also where a person has written it anew.

        Raises:
            OSError: it is not there.
            ValueError: it is no YAML.
        """
        return _parsed(self._storage.read(GRID).decode("utf-8"))

    def resolved(self) -> dict[str, Any]:
        """What it says, as a run has written it.

        Raises:
            ConfigError: this is not a run folder.
        """
        root = self._storage.root
        try:
            grid = self.read()
        except FileNotFoundError:
            raise ConfigError(
                f"{root}: is not a run folder: it has no grid.yaml; name the folder that `spt-fast run` made"
            ) from None
        except NotADirectoryError:
            raise ConfigError(f"{root}: is a file, not a run folder; name the folder that `spt-fast run` made") from None
        except OSError as e:
            raise ConfigError(f"{root}: is not a run folder: its grid.yaml cannot be read ({e.strerror or e})") from None
        except ValueError:
            grid = None
        place = joined(root, GRID)
        if not isinstance(grid, dict) or not isinstance(grid.get("cells"), dict):
            raise ConfigError(f"{place}: was not written by a run; name the folder that `spt-fast run` made")
        grid = {"name": "", "models": [], "tasks": [], "protocols": [], "spt_fast": "", **grid}
        if wrong := _wrong(grid):
            raise ConfigError(f"{place}: {wrong}; run the grid again, which writes this file anew")
        return grid


def broken(key: str, entry: Mapping[str, Any], failed: Collection[str]) -> str | None:
    """The key of the failure that a cell, as grid.yaml has it, failed of: its own, or that of a cell that it rests on."""
    return min({key, entry.get("rests_on"), *entry.get("members", ())}.intersection(failed), default=None)


def _as_yaml(resolved: Mapping[str, Any]) -> bytes:
    import yaml

    head = {name: value for name, value in resolved.items() if name != "cells"}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(head, Dumper=dumper, sort_keys=False, allow_unicode=True)
    # JSON is YAML, and by far the fastest way to write it and to read it: there may be 100,000 cells.
    lines = "".join(f" {_LINE.encode(key)}: {_LINE.encode(cell)}\n" for key, cell in resolved["cells"].items())
    return f"{text}cells:\n{_NOT_IN_YAML.sub(_escaped, lines)}".encode("utf-8", "replace")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _parsed(text: str) -> Any:
    """
    Raises:
        ValueError: it is no YAML.
    """
    import yaml

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


def _wrong(grid: Mapping[str, Any]) -> str:
    """What of a grid.yaml is not as a run has written it; empty: nothing that matters."""
    for name, wanted in _LISTS.items():
        items = grid[name]
        if not isinstance(items, list) or not all(isinstance(each, dict) and each for each in items):
            return f"{name!r} is no list of mappings"
        for missing in (key for each in items for key in wanted if key not in each):
            return f"one of its {name} has no {missing!r}"
    return next(filter(None, (_wrong_cell(key, cell) for key, cell in grid["cells"].items())), "")


def _wrong_cell(key: Any, cell: Any) -> str:
    if not isinstance(key, str) or not isinstance(cell, dict):
        return f"cell {shortened(key)} is no mapping"
    for missing in (name for name in _OF_A_CELL if name not in cell):
        return f"cell {shortened(key)} has no {missing!r}"
    if not all(isinstance(cell[name], str) for name in ("model", "task", "protocol")):
        return f"cell {shortened(key)} has a model, task or protocol that is no name"
    if not isinstance(cell["seed"], int | None) or not isinstance(cell.get("members", []), list):
        return f"cell {shortened(key)} has a seed that is no integer, or members that are no list"
    return ""
