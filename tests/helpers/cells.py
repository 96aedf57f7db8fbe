"""A made-up cell, and what it came to."""

from __future__ import annotations

import math

from spt_fast.config import Protocol, ZeroShot
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.types import CellResult, Metric, Sample


def cell(protocol: Protocol | None = None, **changes: object) -> Cell:
    protocol = protocol or ZeroShot()
    given: dict[str, object] = {
        "model": Model(name="m", source="/m", fingerprint="sha256:0"),
        "task": TaskRows(name="t", version=1, content="rows"),
        "protocol": protocol,
        "seed": 0 if protocol.seeded else None,
        "label": protocol.name,
        **changes,
    }
    return Cell(**given)  # type: ignore[arg-type]


def result(*steps: int | None) -> CellResult:
    def metric(name: str, value: float) -> Metric:
        return Metric(name=name, value=value, n=2, stderr=0.1, ci_low=0.0, ci_high=1.0)

    samples = tuple(
        Sample(
            example=f"e{i}",
            step=step,
            prompt="Q \udcff?",  # a lone surrogate, as broken bytes decode to
            completion="<script>",
            finish_reason="stop",
            target="A",
            extracted=None,
            rule=None,
            format_ok=bool(i),
            knows=True,
            correct=False,
            option_logprobs=(-1.0, -2.5),
            chosen=0,
            chosen_per_byte=1,
        )
        for step in steps
        for i in range(2)
    )
    metrics = {s: (metric("format_following", 0.5), metric("given_format", math.nan)) for s in steps}
    return CellResult(metrics=metrics, samples=samples, costs={"train_s": 1.5}, provenance={"torch": "2"})
