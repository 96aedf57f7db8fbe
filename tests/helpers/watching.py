"""A watch whose checkpoints are folders of tiny models, and whose results a test has planned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from spt_fast.analysis.gate import Check, Policy
from spt_fast.config import GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.driver.result import GridResult
from spt_fast.driver.run import run_cells
from spt_fast.executors.base import Executor
from spt_fast.plan import Stage
from spt_fast.store import Store
from spt_fast.watch.checkpoints import Pattern, pattern_of
from spt_fast.watch.loop import Wait, Watch
from spt_fast.watch.night import Night
from spt_fast.watch.notify import Target
from spt_fast.watch.verdict import Verdict
from spt_fast.worker.events import CellDone, CellFailed, Event
from spt_fast.worker.lease import Given
from tests.helpers.series import result_of

ROWS = 400
POLICY = Policy(checks=(Check(metric="knowledge_best", largest_drop=0.03),))


class Planned(Executor):
    """Answers cells as a test has planned: by the name of the checkpoint, the share of the rows that are right."""

    def __init__(self, shares: Mapping[str, float], fail: Mapping[str, str] | None = None) -> None:
        self.shares = shares
        self.fail = fail or {}
        self.asked: list[str] = []
        """The checkpoints of the cells that were done, in order."""

    def run(self, stages: Sequence[Stage], earlier: Callable[[Stage], Given]) -> Generator[tuple[Stage, Event]]:
        for stage in stages:
            name = stage.model.name.rpartition("/")[2]
            for cell in stage.cells:
                if name in self.fail:
                    yield stage, CellFailed(key=cell.key, kind="EngineError", reason=self.fail[name])
                    continue
                self.asked.append(name)
                right = np.arange(ROWS) < self.shares.get(name, 0.5) * ROWS
                yield stage, CellDone(key=cell.key, result=result_of(cell, right, right, closed=cell.task.task.closed_ended))


def checkpoint(template: Path, folder: Path, seed: int) -> Path:
    """A checkpoint with weights of its own, copied from a tiny model."""
    shutil.copytree(template, folder)
    tensors = {name: value + np.float32(seed) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class Nights:
    """A folder of checkpoints, a run folder, and watches over them, one after the other."""

    def __init__(self, template: Path, folder: Path, **planned: float) -> None:
        """`planned`: name without "step-" -> share of its rows that are right: s7=0.4."""
        self.template, self.base, self.run = template, folder / "run7", folder / "run"
        self.executor = Planned({f"step-{name[1:]}": share for name, share in planned.items()})
        self.said: list[str] = []
        self.shown: list[Verdict] = []
        self.policy = POLICY

    def add(self, step: int, *, seed: int | None = None) -> Path:
        """A whole checkpoint appears."""
        return checkpoint(self.template, self.base / f"step-{step}", step if seed is None else seed)

    @property
    def pattern(self) -> Pattern:
        return pattern_of(f"{self.base}/step-*")

    def evaluate(self, config: GridConfig, series: str, against: str | None) -> GridResult:
        return run_cells(config, executor=self.executor, series=series, against=against)

    def watch(self, targets: Sequence[Target] = (), **settings: Any) -> Watch:
        """As a process that was started anew has it; without a report, which takes longer than all else."""
        report = settings.pop("report", lambda _: None)
        config = GridConfig(
            name="w",
            models=(ModelConfig(id=str(self.base), checkpoints="step-*"),),
            tasks=(TaskConfig(task="zoo-mcq"),),
            protocols=(ZeroShot(),),
            limit=ROWS,
            engine={"kind": "echo"},
            output=self.run,
        )
        night = Night(
            config=config,
            pattern=self.pattern,
            policy=self.policy,
            store=Store(self.run),
            evaluate=settings.pop("evaluate", self.evaluate),
            say=self.said.append,
            **settings,
        )
        return Watch(night, targets, show=self.shown.append, report=report)

    def look(self, wait: Wait = lambda: False, targets: Sequence[Target] = (), **settings: Any) -> list[tuple[str, str]]:
        """A watch of its own looks until `wait` says no: checkpoint and verdict of each that it has judged."""
        return [(each.checkpoint, each.verdict) for each in self.watch(targets, **settings).run(wait)]

    @property
    def kept(self) -> list[dict[str, Any]]:
        """Verdicts of the run folder."""
        return [json.loads(path.read_text()) for path in sorted((self.run / "verdicts").glob("*.json"))]
