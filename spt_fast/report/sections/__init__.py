"""The sections of a report, in their order. Each is drawn in report.html and report.md; the first in the terminal too.

To add one: a module here with

    def section(recorded: Recorded) -> Section | None:      # None: this run has nothing to say about it
        rows = [[visible(cell.model), f"{cell.costs['train_s']:.1f}"] for cell in recorded.cells if cell.status == "done"]
        return Section(id="speed", title="Speed", parts=[table("Seconds of training", ["model", "seconds"], rows)])

and its name in `SECTIONS`; in a package of your own, an entry point of the group `spt_fast.sections` that names the function.
`recorded` is what the run folder holds (`report.recorded`); a section is made of the paragraphs, tables and figures of
`report.parts`, and says nothing of how they look. `visible` (`report.words`) makes names, and whatever models wrote, safe to
show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from spt_fast.config import plugins
from spt_fast.config.plugins import Plugins
from spt_fast.errors import SptError, in_words
from spt_fast.report.parts import Prose, Section
from spt_fast.report.recorded import Recorded
from spt_fast.report.words import visible

Make: TypeAlias = Callable[[Recorded], Section | None]
SECTIONS = (
    "overview",
    "series",
    "stopped",
    "means",
    "against",
    "curves",
    "sweeps",
    "quadrants",
    "methods",
    "likelihood",
    "further",
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
    """What a run has to say, section by section; those of installed packages come last."""
    modules = {name: f"{__name__}.{name}:section" for name in SECTIONS}  # imported one by one: some compute with scipy
    table: Plugins[Make] = Plugins(plugins.SECTIONS, "report section", modules, plugins.callable_)
    found = [*(table[name](recorded) for name in SECTIONS), *(_theirs(table, name, recorded) for name in table.theirs)]
    return [section for section in found if section is not None]


def _theirs(table: Mapping[str, Make], name: str, recorded: Recorded) -> Section | None:
    try:
        return table[name](recorded)
    except Exception as e:  # other people's code is no reason to lose a report
        said = str(e) if isinstance(e, SptError) else f"{name}: could not be made: {in_words(e)}"
        return Section(id=name, title=name, parts=[Prose(text=visible(said))])
