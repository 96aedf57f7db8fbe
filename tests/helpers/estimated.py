"""Made-up models, tasks and cells whose time is estimated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spt_fast.config import FewShot, Protocol, RandomVectors, SoftPromptConfig, ZeroShot
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, Judge, TaskRows
from spt_fast.scheduling.estimates import Measured

SEVEN = Model(
    name="some/seven-7b", source="some/seven-7b", fingerprint="commit:7", parameters=7 * 10**9, weight_bytes=14 * 10**9
)


ONE = replace(SEVEN, name="some/one-1b", source="some/one-1b", fingerprint="commit:1", parameters=10**9, weight_bytes=2 * 10**9)


MMLU = TaskRows(name="mmlu", version=1, content="hub:mmlu")


GSM8K = TaskRows(name="gsm8k", version=1, content="hub:gsm8k")


SQUAD = TaskRows(name="squad", version=1, content="hub:squad")


JUDGE = Judge(model=replace(SEVEN, name="some/judge-32b", fingerprint="commit:32"), engine={}, prompts="p")


PROTOCOLS: tuple[Protocol, ...] = (ZeroShot(), FewShot(), SoftPromptConfig(evaluate_at=(0, 80)), RandomVectors())


def cell(model: Model = SEVEN, task: TaskRows = MMLU, protocol: Protocol = PROTOCOLS[0], **more: Any) -> Cell:
    seed = 0 if protocol.seeded else None
    return Cell(**{"model": model, "task": task, "protocol": protocol, "seed": seed, "label": protocol.name, **more})


def measured(of: Cell, rows: int | None = None, **costs: float) -> Measured:
    return Measured(cell=of, costs=costs, rows=rows)
