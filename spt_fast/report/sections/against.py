"""Changes since another run."""

from __future__ import annotations

from spt_fast.report.parts import Part, Prose, Section
from spt_fast.report.recorded import Recorded
from spt_fast.report.sections.tests import READING, changes
from spt_fast.report.words import counted, visible


def section(recorded: Recorded) -> Section | None:
    """None where it is held against no other run."""
    compared = recorded.compared
    if compared is None:
        return None
    moved = len(compared.moved)
    said = f"{moved} of {counted(len(compared.comparisons), 'comparison')} changed significantly"
    intro = (
        f"This run against {visible(compared.a)}, row by row: {said} (Holm's correction, level {compared.alpha:g}). {READING}"
    )
    table = changes(compared.comparisons, compared.alpha, "Changes since", "there", "here", flipped=True)
    skipped = ((each.pair.task, each.pair.protocol, f"{each.pair.model}: {each.why}") for each in compared.skipped)
    reasons = dict.fromkeys(" \u00b7 ".join(each) for each in skipped)
    parts: list[Part] = [Prose(text=intro), table]
    parts += [Prose(text="Not compared: " + visible("; ".join(reasons), 4000) + ".")] if reasons else []
    parts += [Prose(text=visible(note, 1000)) for note in compared.notes]
    return Section(id="against", title="Against", parts=parts)
