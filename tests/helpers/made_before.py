"""A run folder that an earlier version has made: `made_before.zip` holds its grid.yaml and run/, made at commit 4701043."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

from spt_fast.config import GridConfig
from spt_fast.config.reader import load_grid


def made_before(folder: Path) -> GridConfig:
    """Unpack it into a folder; its grid, whose output is there."""
    with zipfile.ZipFile(Path(__file__).with_suffix(".zip")) as packed:
        packed.extractall(folder)
    return replace(load_grid(folder / "grid.yaml"), output=folder / "run")
