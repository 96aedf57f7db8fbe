"""Run folders with verdicts that a test has written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spt_fast.config import FewShot, SoftPromptConfig, ZeroShot
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.scoring.metrics import aggregate
from spt_fast.store import Store
from spt_fast.types import CellResult, Extraction, Sample

Verdicts = Mapping[tuple[str, str, str, int | None], Sequence[bool]]
"""(model, task, protocol, seed) -> a verdict a row; of exact match, knowledge and format following alike."""

_PROTOCOLS = {"zero_shot": ZeroShot(), "few_shot": FewShot(), "soft_prompt": SoftPromptConfig(steps=2)}


def write_run(
    folder: Path,
    verdicts: Verdicts,
    *,
    partners: Mapping[str, str] | None = None,
    versions: Mapping[str, int] | None = None,
    keys: Callable[[int], str] = "e{:05d}".format,
    groups: Callable[[int], str] = lambda _: "",
    prompt: str = "Q?",
    completion: Callable[[str, int], str] = "{}, row {}".format,
    waiting: Sequence[tuple[str, str, str, int | None]] = (),
    f1: float | None = None,
    judge: str | None = None,
    truth: Mapping[str, Mapping[str, float]] | None = None,
    extract: Callable[[str], Extraction | None] = lambda _: None,
    format: str | None = None,
    closed_ended: Sequence[str] = (),
    provenance: Callable[[str, str, str, int | None], Mapping[str, str]] = lambda *_: {},
    bits: Callable[[str, int], float | None] = lambda *_: None,
) -> Path:
    """Write a run folder, and return it.

    Args:
        folder: new.
        verdicts: what was done, and what it came to.
        partners: base model -> post-trained counterpart.
        versions: of tasks; 1 where it is not said.
        keys: of a row, from its number.
        groups: which passage a row shares, from its number.
        prompt: what every row was asked.
        completion: from model and number of the row.
        waiting: cells of the grid that are not done.
        f1: a further score of every row.
        judge: who ruled.
        extract: from a completion.
        format: of all tasks.
        truth: what the grid says that models are known to score.
        closed_ended: tasks whose knowledge is by likelihood.
        provenance: of a cell, from its model, task, protocol and seed.
        bits: per byte of the answer, from model and number of the row.
    """
    store = Store(folder)
    cells: dict[str, dict[str, object]] = {}
    versions = versions or {}
    for place in (*verdicts, *waiting):
        model, task, protocol, seed = place
        cell = Cell(
            model=Model(name=model, source=f"/{model}", fingerprint=f"sha256:{model}"),
            task=TaskRows(name=task, version=versions.get(task, 1), content="rows"),
            protocol=_PROTOCOLS[protocol],
            seed=seed,
            label=protocol,
        )
        cells[cell.key] = {
            "model": model,
            "task": task,
            "protocol": protocol,
            "seed": seed,
            "closed_ended": task in closed_ended,
            "rests_on": None if judge is None else "0" * 16,
        }
        if place not in verdicts:
            continue
        step = 2 if protocol == "soft_prompt" else None
        samples = tuple(
            Sample(
                example=keys(i),
                step=step,
                prompt=prompt,
                completion=completion(model, i),
                finish_reason="stop",
                target="A",
                extracted=found.value if (found := extract(completion(model, i))) else None,
                rule=found.rule if found else None,
                span=found.span if found else None,
                format_ok=bool(right),
                knows=bool(right),
                correct=bool(right),
                group=groups(i),
                scores={} if f1 is None else {"f1": f1},
                answer_bits_per_byte=bits(model, i),
                option_logprobs=(-1.0, -2.0) if task in closed_ended else (),
            )
            for i, right in enumerate(verdicts[place])
        )
        before = () if step is None else tuple(wrong(sample) for sample in samples)  # step 0, which is not the last
        store.put_result(
            cell, CellResult(metrics={step: aggregate(samples)}, samples=before + samples, provenance=provenance(*place))
        )
    names = dict.fromkeys(place[0] for place in (*verdicts, *waiting))
    store.grid_file.put(
        {
            "name": folder.name,
            "models": [{"id": name, "post_trained": (partners or {}).get(name), "chat_template": "never"} for name in names],
            "tasks": [
                {"task": task, "version": versions.get(task, 1), "content": "rows", "limit": None, "format": format}
                for task in dict.fromkeys(place[1] for place in (*verdicts, *waiting))
            ],
            "protocols": [{name: {}} for name in dict.fromkeys(place[2] for place in (*verdicts, *waiting))],
            "engine": {"kind": "echo"},
            "judge": None if judge is None else {"model": judge, "fingerprint": judge, "prompts": "p"},
            "truth": truth or {},
            "spt_fast": "1",
            "cells": cells,
        }
    )
    return folder


def wrong(sample: Sample) -> Sample:
    """The sample at step 0, where nothing was right."""
    return replace(sample, step=0, format_ok=False, knows=False, correct=False)
