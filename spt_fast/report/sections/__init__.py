"""The sections of a report, in their order. Each is drawn in report.html and report.md; the first in the terminal too.

To add one: a module here with

    def section(recorded: Recorded) -> Section | None:      # None: this run has nothing to say about it
        rows = [[visible(cell.model), f"{cell.costs['train_s']:.1f}"] for cell in recorded.cells if cell.status == "done"]
        return Section(id="speed", title="Speed", parts=[table("Seconds of training", ["model", "seconds"], rows)])

and its name in `SECTIONS`. `recorded` is what the run folder holds (`report.recorded`); a section is made of the paragraphs,
tables and figures of `report.parts`, and says nothing of how they look. `visible` (`report.words`) makes names, and whatever
models wrote, safe to show.
"""

from __future__ import annotations

from importlib import import_module

from spt_fast.report.parts import Section
from spt_fast.report.recorded import Recorded

SECTIONS = (
    "overview",
    "means",
    "against",
    "curves",
    "sweeps",
    "quadrants",
    "methods",
    "ranking",
    "tests",
    "cost",
    "determinism",
    "judge",
    "controls",
    "transfer",
    "ensembles",
    "lora",
    "training",
    "meaning",
    "rows",
)
"""Modules of this package."""


def sections(recorded: Recorded) -> list[Section]:
    """What a run has to say, section by section."""
    found = (import_module(f"{__name__}.{name}").section(recorded) for name in SECTIONS)  # some compute with scipy
    return [section for section in found if section is not None]
