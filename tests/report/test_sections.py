"""A section is made once, of neutral parts, and drawn in every medium."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from spt_fast.analysis.cells import RunCell
from spt_fast.report import Recorded, sections
from spt_fast.report.html import html, pack
from spt_fast.report.markdown import markdown
from spt_fast.report.parts import Beside, Facts, Failures, Figure, Figures, Group, Linked, Part, Prose, Section, Table, table
from spt_fast.report.tables import terminal
from spt_fast.report.words import Number, visible
from spt_fast.types import Metric

HOSTILE = "<b>@you|`x`_\n# y\u202e"
CELLS = [RunCell(model=HOSTILE, task="t", protocol="zero_shot", costs={"train_s": 12.5})]


def page(found: list[Section]) -> str:
    return html("g", found, lambda room: pack([], [], [], room=room))


def test_every_module_of_the_package_is_a_section_of_the_report() -> None:
    package = sys.modules["spt_fast.report.sections"]
    there = {path.stem for path in Path(package.__file__ or "").parent.glob("*.py")} - {"__init__"}
    assert there == set(package.SECTIONS)


def test_the_section_that_the_documentation_adds_is_drawn_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    package = sys.modules["spt_fast.report.sections"]
    lines = (inspect.getdoc(package) or "").splitlines()
    code = [line for line in lines if line.startswith("    ")]
    speed = ModuleType("spt_fast.report.sections.speed")
    exec("from spt_fast.report.parts import *\nfrom spt_fast.report.recorded import Recorded\n", speed.__dict__)
    exec("from spt_fast.report.words import visible\n" + textwrap.dedent("\n".join(code)), speed.__dict__)
    monkeypatch.setitem(sys.modules, speed.__name__, speed)
    monkeypatch.setattr(package, "SECTIONS", ("speed",))
    found = sections(Recorded(name="g", cells=CELLS))
    assert "## Speed\n\n**Seconds of training**\n\n| model | seconds |" in markdown("g", found)
    assert '<section id="speed"' in page(found)
    assert "<td>12.5</td>" in page(found)


PARTS: list[Part] = [
    Prose(text=visible(HOSTILE)),
    Prose(text="bars are cells", of_figures=True),
    Facts(facts=[("Engine", visible(HOSTILE))]),
    Failures(title="1 cell failed", failures=[(visible(HOSTILE), visible(HOSTILE))]),
    table("numbers", ["task", "share"], [[visible(HOSTILE), Number(text="0.50", interval="0.40\u20130.60")]]),
    Table(
        caption="behind",
        head=["a", "b"],
        over=[("", 1), ("over", 1)],
        groups=[Group(title="m", rows=[["x", "y"]])],
        folded=True,
    ),
    Beside(parts=[Prose(text="beside")]),
    Figures(figures=[Figure(drawing="cost", rows=[], label="no rows")]),
]


def test_every_kind_of_part_is_drawn_and_nothing_hostile_is_markup() -> None:
    section = Section(id="s", title="S", parts=PARTS)
    text = markdown("g", [section])
    assert "| model | a | over: b |\n| --- | --- | --- |\n| m | x | y |" in text
    assert "<details><summary>behind</summary>" in text
    assert "bars are cells" not in text, "there are no figures"
    assert "0.50 (0.40\u20130.60) |" in text
    outside = [line for line in text.splitlines() if "`" not in line]
    assert not [line for line in outside if "@" in line or "<b>" in line or line.startswith("# y")]
    shown = page([section])
    assert "<b>@you" not in shown
    assert "bars are cells" in shown
    assert shown.count("\u27e8U+202E\u27e9") == 5
    lines = terminal(section, width=60)
    assert lines.startswith("FAILED <b>@you|`x`_ # y: <b>@you|`x`_ # y\n\nbeside\n")


def test_a_table_that_is_too_long_for_a_log_says_how_much_is_left_out() -> None:
    long = Section(id="s", title="S", parts=[table("numbers", ["i"], [[str(i)] for i in range(1301)])])
    assert "1,001 more rows are in report.html." in markdown("g", [long])
    assert ">1300<" in page([long])


def of_bits(value: float, low: float, high: float) -> Metric:
    return Metric(name="answer_bits_per_byte", value=value, n=9, stderr=0.1, ci_low=low, ci_high=high)


def test_bits_per_byte_are_shown_in_their_unit_and_in_no_colour_of_a_share() -> None:
    new = RunCell(model="m", task="t", protocol="zero_shot", metrics={None: (of_bits(3.21, 2.5, 4.75),)})
    old = RunCell(model="m", task="t", protocol="few_shot", metrics={None: ()})
    recorded = Recorded(name="g", cells=[new, old])
    (found,) = [each for each in sections(recorded) if each.id == "likelihood"]
    (told,) = [part for part in found.parts if isinstance(part, Table)]
    assert told.head == ["protocol", "bits per byte"]
    (first, number), (_, absent) = told.groups[0].rows
    assert (first, absent) == ("zero_shot", "\u2013")
    assert isinstance(number, Linked)
    shown = number.number
    assert (shown.text, shown.interval, shown.tint) == ("3.210", "2.500\u20134.750", None)
    assert shown.tip.endswith("bits per byte of the answer 3.210, 95% interval 2.500 to 4.750, n = 9")
    assert "3.210" in markdown("g", [found])
    assert re.search(r'class="t\d', page([found])) is None


def test_a_run_of_an_earlier_version_has_no_section_on_bits_per_byte() -> None:
    assert "likelihood" not in {each.id for each in sections(Recorded(name="g", cells=CELLS))}
