"""What the result files say, drawn: results/index.html, and the table of docs/speed.md.

    python benchmarks/page.py

Everything comes from results/<device>/*.json. The page is not kept in the repository, because this command makes it; the table
is, because people read it there, and a test holds it equal to what this command makes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Ratio

PAGE = ROOT / "docs" / "speed.md"
BLUE, ORANGE = "#0072b2", "#d55e00"
"""After Okabe and Ito (2008), told apart by colour-blind readers."""
BEGIN, END = "<!-- speed table -->", "<!-- /speed table -->"
STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 14px; } th, td { padding: .2rem .8rem .2rem 0; text-align: left; }
th, td { border-bottom: 1px solid #ddd; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
code, .about { font-size: 13px; color: #555; } svg { max-width: 100%; height: auto; } .missed { color: #b00; }
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A result file."""

    name: str
    device: str
    """Its folder: `cpu`, or the GPU's name."""
    written: Mapping[str, Any]

    @cached_property
    def ratios(self) -> list[Ratio]:
        """As the benchmark gave them."""
        return [Ratio(**ratio) for ratio in self.written.get("ratios", ())]

    def runs(self, ratio: Ratio) -> list[float]:
        """A ratio in all runs that the file knows, this one last."""
        same = [
            float(other["value"])
            for run in self.written.get("earlier", ())
            for other in run["ratios"]
            if (other["what"], other["against"]) == (ratio.what, ratio.against)
        ]
        return [*same, ratio.value]

    @property
    def hardware(self) -> str:
        """In words: the GPU, or the processor and its cores."""
        hardware = self.written["hardware"]
        return str(hardware.get("gpu") or f"{hardware['cores']} cores, {hardware['cpu']}")

    @property
    def commit(self) -> str:
        """Short; a star says that files had been changed."""
        commit, _, changed = str(self.written["commit"]).partition("+")
        return commit[:7] + ("*" if changed else "")


def read(folder: Path) -> list[Result]:
    """All results, CPUs first.

    Raises:
        SystemExit: a file that no benchmark has written.
    """
    found = []
    for file in sorted(folder.glob("*/*.json"), key=lambda file: (file.parent.name != "cpu", file)):
        written = json.loads(file.read_text())
        if not {"command", "commit", "date", "hardware", "versions"} <= set(written):
            raise SystemExit(f"{file}: says nothing of hardware, versions, commit or command; let a benchmark write it anew")
        found.append(Result(name=file.stem, device=file.parent.name, written=written))
    return found


def number(value: float) -> str:
    """Three digits that say something: 0.97, 3.12, 24.3, 120."""
    if value == 0:
        return "0"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}" if abs(value) >= 0.1 else f"{value:.2g}"


def target(ratio: Ratio) -> str:
    """What was to be reached, and whether it was missed."""
    if ratio.reached is None:
        return ""
    wanted = f"at least {ratio.at_least:g}" if ratio.at_least is not None else f"at most {ratio.at_most:g}"
    return wanted if ratio.reached else f"{wanted}: missed"


def spread(values: Sequence[float]) -> str:
    """From the least to the greatest, and of how many; nothing of one alone."""
    return f"{number(min(values))} to {number(max(values))}, {len(values)}" if len(values) > 1 else ""


def table(results: Sequence[Result]) -> str:
    """That of docs/speed.md: every ratio that has a target."""
    lines = ["| measured | against | times | in all runs, so many | target | on, at commit |", "|---|---|---|---|---|---|"]
    for result in results:
        for ratio in result.ratios:
            if ratio.reached is not None:
                where = f"{result.hardware}, {result.commit}"
                times = f"{number(ratio.value)} | {spread(result.runs(ratio))}"
                lines.append(f"| {ratio.what} | {ratio.against} | {times} | {target(ratio)} | {where} |")
    return "\n".join(lines)


def with_table(text: str, made: str) -> str:
    """A text whose table between the markers is this one.

    Raises:
        SystemExit: there are no markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"docs/speed.md has no place for the table; put {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def page(results: Sequence[Result]) -> str:
    """The page: what is ahead of what, and then each file with its timings."""
    parts = ["<h1>spt-fast: benchmarks</h1>"]
    for device in dict.fromkeys(result.device for result in results):
        own = [result for result in results if result.device == device]
        parts.append(f"<h2>{escape(device)}</h2>")
        parts += _ratios(own)
        for result in own:
            parts += _section(result)
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>spt-fast: benchmarks</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'


def _ratios(results: Sequence[Result]) -> Iterator[str]:
    """How far ahead, drawn and as a table."""
    ratios = [ratio for result in results for ratio in result.ratios]
    if not ratios:
        return
    rows = [
        {"what": f"{ratio.what}, against {ratio.against}", "times": ratio.value, "target": ratio.at_least or ratio.at_most}
        for ratio in ratios
    ]
    yield draw(
        [
            {"mark": {"type": "bar", "height": 9, "color": BLUE}, "encoding": {**_x("times", "times"), "x2": {"datum": 1}}},
            {"mark": {"type": "tick", "color": ORANGE, "thickness": 3}, "encoding": _x("target", "times")},
        ],
        rows,
        y="what",
    )
    yield "<p>Blue: times the other side. Orange: the target.</p>"
    cells = [
        [
            escape(ratio.what),
            escape(ratio.against),
            number(ratio.value),
            spread(result.runs(ratio)),
            _marked(ratio),
            f"<code>{escape(result.commit)}</code>",
        ]
        for result in results
        for ratio in result.ratios
    ]
    yield _table(["measured", "against", "times", "in all runs, so many", "target", "commit"], cells)


def _section(result: Result) -> Iterator[str]:
    """One file."""
    written = result.written
    versions = ", ".join(f"{name} {version}" for name, version in written["versions"].items())
    load = f", load before {written['load_before'][0]:.1f}" if "load_before" in written else ""
    yield f"<h3>{escape(result.name)}</h3>"
    about = f"{result.hardware}{load}; {written['date'][:10]}, commit {result.commit}; {versions}"
    yield f'<p class="about"><code>{escape(written["command"])}</code><br>{escape(about)}</p>'
    timings = written.get("timings", ())
    for unit in dict.fromkeys(timing["unit"] for timing in timings):
        own = [{**timing, "row": f"{timing['case']}: {timing['side']}"} for timing in timings if timing["unit"] == unit]
        yield draw(
            [
                {"mark": {"type": "rule", "color": BLUE}, "encoding": {**_x("q1", unit), "x2": {"field": "q3"}}},
                {"mark": {"type": "point", "filled": True, "color": BLUE, "size": 50}, "encoding": _x("median", unit)},
            ],
            own,
            y="row",
        )
    cells = [
        [
            *(escape(timing[name]) for name in ("case", "side")),
            *(number(timing[name]) for name in ("median", "q1", "q3")),
            *(escape(str(timing[name])) for name in ("unit", "n")),
        ]
        for timing in timings
    ]
    if cells:
        yield _table(["case", "side", "median", "lower quartile", "upper", "unit", "rounds"], cells)


def draw(layers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], *, y: str) -> str:
    """An SVG element: a line of the figure for each row, in the order given."""
    import vl_convert

    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 420,
        "height": {"step": 18},
        "background": None,
        "data": {"values": list(rows)},
        "encoding": {"y": {"field": y, "type": "nominal", "sort": None, "title": None}},
        "layer": list(layers),
        "config": {"font": "system-ui, sans-serif", "axis": {"labelLimit": 480, "grid": True}, "view": {"stroke": None}},
    }
    svg: str = vl_convert.vegalite_to_svg(spec)
    return svg


def _x(name: str, title: str) -> dict[str, Any]:
    """A column along the logarithmic axis: twice as fast is as far as half as fast."""
    return {"x": {"field": name, "type": "quantitative", "scale": {"type": "log"}, "title": title}}


def _marked(ratio: Ratio) -> str:
    said = escape(target(ratio))
    return f'<span class="missed">{said}</span>' if ratio.reached is False else said


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{each}</th>" for each in head)
    return f"<table><tr>{heads}</tr>{''.join('<tr>' + ''.join(_cell(each) for each in row) + '</tr>' for row in rows)}</table>"


def _cell(text: str) -> str:
    return f'<td class="n">{text}</td>' if text[:1].isdigit() else f"<td>{text}</td>"


def main() -> None:
    """Write both."""
    results = read(RESULTS)
    file = RESULTS / "index.html"
    file.write_text(page(results))
    PAGE.write_text(with_table(PAGE.read_text(), table(results)))
    print(f"{file.relative_to(ROOT)}, and the table in docs/speed.md", file=sys.stderr)


if __name__ == "__main__":
    main()
