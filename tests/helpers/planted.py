"""A run folder with everything in it that an export can stumble over: hostile completions, several seeds, an undefined
metric, a folder as a model, a cell that is still to be done. Written through `Store`, as a run writes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from spt_fast import tasks
from spt_fast.config import FewShot, GridConfig, ModelConfig, Protocol, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.resolved import resolved
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.scoring.metrics import aggregate
from spt_fast.store import Store
from spt_fast.types import CellResult, Sample, TrainingStep

Place = TypeVar("Place", Path, str)

HUB_MODEL, FOLDER_MODEL = "Qwen/Qwen3-4B-Base", "/checkpoints/run7/step-100"
HOSTILE = (
    "#### 4",
    "=HYPERLINK(0)",
    "<script>alert(1)</script>",
    'a "quoted", comma;\nnew line\r\nand \u2028 \u0085 \x0b \x1c',
    "\x1b[31mred\x1b[0m \0 NUL",
    "-5",
    "\U0001f600 emoji, \u202e right to left",
    "{}%s{{7*7}}$(id)`id`",
    "",
    "#### 1,000",
)
"""Completions of the ten rows of each cell."""
SOFT = SoftPromptConfig(length=3, steps=2, evaluate_at=(0,))
MODELS = (
    Model(name=HUB_MODEL, source=HUB_MODEL, revision="c" * 40, fingerprint=f"hub:{'c' * 40}"),
    Model(name=FOLDER_MODEL, source=FOLDER_MODEL, fingerprint="sha256:0"),
)


def cell(model: Model, task: str, protocol: Protocol, seed: int | None = None) -> Cell:
    """A cell as `plan.expand` makes it."""
    rows = TaskRows(name=task, version=tasks.get(task).version, content="rows")
    return Cell(model=model, task=rows, protocol=protocol, seed=seed, label=protocol.name, engine={"kind": "echo"})


CELLS = tuple(
    cell(model, task, protocol, seed)
    for model in MODELS
    for task in ("gsm8k", "mmlu", "zoo-json")
    for protocol, seed in ((ZeroShot(), None), (FewShot(shots=5), 0), (SOFT, 0), (SOFT, 1))
)
WAITING = CELLS[-1]


def sample(of: Cell, i: int, step: int | None) -> Sample:
    """Row `i`: the even ones follow the format at the last step, none do before it and under zero-shot."""
    closed = of.task.task.closed_ended
    format_ok = i % 2 == 0 and step != 0 and not isinstance(of.protocol, ZeroShot)
    knows = i % 3 != (of.seed or 0)
    return Sample(
        example=f"{i:016x}",
        step=step,
        prompt=f"Question {i}: how many \u2028 lines?\nAnswer:",
        completion=HOSTILE[i],
        finish_reason="length" if i == 4 else "stop",
        target="A. one" if closed else "so it is 4\n#### 4",
        extracted=None if closed or i % 4 == 3 else HOSTILE[i][:5],
        rule=None if closed or i % 4 == 3 else "hash_number",
        format_ok=format_ok,
        knows=knows,
        correct=format_ok and knows,
        answers=("A. one",) if closed else ("4",),
        scores={} if closed else {"f1": i / 10},
        option_logprobs=(-1.5, -math.inf if i == 2 else -0.25 * i) if closed else (),
        chosen=0 if closed else None,
        chosen_per_byte=1 if closed else None,
        knows_per_byte=(not knows) if closed else None,
        group=f"group {i // 3}",
        answer_texts=("one",) if closed else ("so it is 4\n#### 4",),
        answer_logprobs=(-1.5,) if closed else (-2.0 - i,),
        answer_bits_per_byte=1.25 + i,
        answer_logprob_margin=0.5 - i if closed else None,
    )


def prompts(of: Cell) -> dict[int, SoftPrompt]:
    """The soft prompts of a cell by step; in front where the protocol leaves the place to the model."""
    asked = getattr(of.protocol, "position", "front")
    place = "front" if asked == "auto" else asked
    return {
        step: SoftPrompt(
            vectors=np.random.RandomState(step + 10 * (of.seed or 0)).standard_normal((3, 8)).astype(np.float32),
            provenance={"model": of.model.name, "task": of.task.name, "step": str(step), "position": place},
        )
        for step in (0, 2)
    }


def plant(folder: Place, cells: Sequence[Cell] = CELLS, waiting: Sequence[Cell] = (WAITING,)) -> Place:
    """Write the run folder."""
    store = Store(folder)
    store.lock()
    store.event("run", cells=len(cells))
    config = GridConfig(
        name="night 7/8",
        models=tuple(ModelConfig(id=name) for name in dict.fromkeys(one.model.name for one in cells)),
        tasks=tuple(TaskConfig(task=name) for name in dict.fromkeys(one.task.name for one in cells)),
        protocols=(ZeroShot(), FewShot(shots=5), SOFT),
        seeds=(0, 1),
        engine={"kind": "echo"},
        output=folder,
    )
    store.grid_file.put(resolved(config, cells, folder=folder))
    for one in cells:
        if one in waiting:
            continue
        steps: tuple[int | None, ...] = one.steps
        if isinstance(one.protocol, SoftPromptConfig):
            curve = [TrainingStep(step=s, loss=1 / s, grad_norm=0.5) for s in (1, 2)]
            store.learnt.put(one, prompts(one), curve)
        samples = {step: [sample(one, i, step) for i in range(len(HOSTILE))] for step in steps}
        result = CellResult(
            metrics={step: aggregate(found) for step, found in samples.items()},
            samples=tuple(row for found in samples.values() for row in found),
            costs={"evaluate_s": 1.5, "peak_memory_bytes": 2.0**30},
            provenance={"spt-fast": "0.1.0", "torch": "2.13.0", "source": one.model.source, "chat_template": ""},
        )
        store.put_result(one, result)
    store.event("end")
    store.close()
    return folder
