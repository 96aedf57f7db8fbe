"""Reports of cells, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spt_fast import report
from spt_fast.analysis.cells import RunCell
from spt_fast.report import Recorded


def markdown(cells: Sequence[RunCell], **more: Any) -> str:
    """report.md.

    Args:
        cells: of the grid, which is called `g`.
        more: of `Recorded`.
    """
    recorded = Recorded(**{"name": "g", "cells": cells, **more})
    return report.markdown(recorded.name, report.sections(recorded))


def terminal(cells: Sequence[RunCell], *, width: int = 80, colour: bool = False) -> str:
    """What `report` shows."""
    return report.terminal(report.overview(Recorded(name="g", cells=cells)), width=width, colour=colour)
