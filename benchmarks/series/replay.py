"""Do a stopped and a full gate decide alike? `stop` replayed on runs that were asked all rows.

    python benchmarks/series/replay.py RUN_FOLDER ... [--protocol soft_prompt] [--allowed 0.02,0.05] [--block 40] [--save]

The verdicts of all rows are there, so what `stop` would have seen is there too: the same order, blocks and questions
(`worker.together`), without an engine. Each model is held against each other one, either way round: half of the pairs have
lost what a training run gained, which is a regression as real as there is. For each pair and each largest allowed drop:

* the rows that `stop` would have asked, and what the gate says of them by bounds that hold at every look; where no look
  decides, all rows are asked, and what is left of alpha goes to the test of a fixed number of rows (`analysis.watched`);
* what the full gate says of all rows.

The policy is knowledge and format following, the mean over tasks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio
from spt_fast.analysis.compare import compare_runs
from spt_fast.analysis.gate import Check, Gate, Policy, decide, gate_runs
from spt_fast.analysis.paired import PairedDifference
from spt_fast.analysis.runs import Run, read_run
from spt_fast.analysis.watched import WatchedDifference
from spt_fast.config import GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.scoring.metrics import FORMAT, KNOWLEDGE
from spt_fast.scoring.stopping import Asked, Part, Question, Scores, Stopping, paired_stream
from spt_fast.worker.together import Together


def policy_of(allowed: float, protocol: str) -> Policy:
    """Neither knowledge nor the form may drop by more, in the mean over tasks."""
    checks = (Check(metric=name, largest_drop=allowed, over="mean", protocols=(protocol,)) for name in (KNOWLEDGE, FORMAT))
    return Policy(checks=tuple(checks))


@dataclass(eq=False)
class Answered:
    """A cell whose answers are all there, and come block by block."""

    key: str
    task: str
    values: Mapping[str, Scores]
    """By metric."""
    together: Together | None = None
    whole_blocks: int = 0
    stopped_at: int | None = None
    """Blocks."""

    def rows(self, blocks: int) -> list[str]:
        """Of so many blocks."""
        assert self.together is not None
        count = sum(len(block[self.task]) for block in self.together.blocks[:blocks])
        return list(self.together.tasks[self.task].examples[:count])

    def scores(self, metric: str, blocks: int) -> Scores:
        """What they count in a metric."""
        return {row: self.values[metric][row] for row in self.rows(blocks)}

    def stop(self, blocks: int, why: str, looks: int) -> None:
        """It was asked enough."""
        self.stopped_at = blocks


class Replay:
    """One model held against another."""

    def __init__(self, run: Run, a: str, b: str, protocol: str, policy: Policy, block: int) -> None:
        self.run, self.a, self.b, self.protocol, self.policy = run, a, b, protocol, policy
        tasks = [task["task"] for task in run.grid["tasks"]]
        places = [place for place in run.done if place.model == b and place.protocol == protocol]
        self.before = {
            (task, check.metric): _means(run, a, task, protocol, check.metric) for task in tasks for check in policy.checks
        }
        keys = {task: tuple(run.done[place] for place in places if place.task == task) for task in tasks}
        questions = tuple(
            Question(
                kind="drop",
                metric=check.metric,
                size=check.largest_drop,
                alpha=policy.alpha,
                among=len(policy.checks),
                parts=tuple(Part(task=task, cells=keys[task], against=self.before[task, check.metric]) for task in tasks),
            )
            for check in policy.checks
        )
        scored = {place: run.scores(place) for place in places}
        one = Stopping(questions=questions, together="", rule="", block=block, least=2 * block)
        asked = {place.task: Asked.of_keys(place.task, each.examples, each.groups) for place, each in scored.items()}
        self.together = Together({run.done[place]: one for place in places}, asked)
        self.cells = [
            Answered(
                key=run.done[place],
                task=place.task,
                values={name: dict(zip(each.examples, values.tolist(), strict=True)) for name, values in each.values.items()},
                together=self.together,
            )
            for place, each in scored.items()
        ]
        for cell in self.cells:
            self.together.join(cell)
        self.blocks = self._play()

    def _play(self) -> int:
        """Blocks that were asked."""
        for blocks in range(1, len(self.together.blocks) + 1):
            for cell in self.cells:
                cell.whole_blocks = blocks
            if self.together.look():
                return blocks
        return len(self.together.blocks)

    @property
    def share(self) -> float:
        """Of the rows, those that were asked."""
        asked = {cell.task: len(cell.rows(self.blocks)) for cell in self.cells}
        return sum(asked.values()) / sum(len(each.examples) for each in self.together.tasks.values())

    def gate(self) -> Gate:
        """What the gate says of the rows that were asked."""
        metrics = tuple(dict.fromkeys(check.metric for check in self.policy.checks))
        compared = compare_runs(self.run, self.run, metrics=metrics, a_model=self.a, b_model=self.b, resamples=0)
        mine = [each for each in compared.comparisons if each.pair.b_protocol == self.protocol]
        watched = (replace(each, difference=self._watched(each.pair.task, each.metric, each.difference)) for each in mine)
        return decide(replace(compared, comparisons=tuple(watched)), self.policy)

    def _watched(self, task: str, metric: str, difference: PairedDifference) -> PairedDifference:
        mine = [cell.scores(metric, self.blocks) for cell in self.cells if cell.task == task]
        return WatchedDifference(
            **{each.name: getattr(difference, each.name) for each in fields(PairedDifference)},
            stream=paired_stream(self.together.tasks[task], mine, self.before[task, metric]),
            watched=True,
            whole=self.blocks == len(self.together.blocks),
        )


def _means(run: Run, model: str, task: str, protocol: str, metric: str) -> Scores:
    rows = run.rows(model, task, protocol, metric)
    assert rows is not None, f"{model} has no {metric} on {task}"
    return dict(zip(rows.examples, rows.values.mean(0).tolist(), strict=True))


def pairs(run: Run, protocol: str) -> Iterator[tuple[str, str]]:
    """Models whose cells are all done, either way round."""
    missing = {place.model for place in run.missing if place.protocol == protocol}
    yield from permutations([model for model in run.models if model not in missing], 2)


def replayed(run: Run, protocol: str, allowed: Sequence[float], block: int) -> Iterator[dict[str, Any]]:
    """A line a pair and largest allowed drop."""
    for size in allowed:
        policy = policy_of(size, protocol)
        for a, b in pairs(run, protocol):
            replay, full = Replay(run, a, b, protocol, policy, block), gate_runs(run, run, policy, a_model=a, b_model=b)
            stopped = replay.gate()
            yield {
                "allowed_points": 100 * size,
                "a": a,
                "b": b,
                "asked": round(replay.share, 4),
                "stopped": stopped.verdict,
                "full": full.verdict,
                "checks": [[each.verdict for each in gate.findings] for gate in (stopped, full)],
                "drops": [round(100 * each.drop, 2) for each in full.findings],
            }


def tiny(folder: Path) -> Path:
    """A run of two models without an engine, for a smoke test."""
    grid = GridConfig(
        name="tiny",
        models=(ModelConfig(id="zoo/base-40"), ModelConfig(id="zoo/base-70")),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(),),
        limit=40,
        engine={"kind": "echo"},
        output=folder / "run",
    )
    run_cells(grid)
    return folder / "run"


def main() -> None:
    """Replay run folders."""
    benchmark = Benchmark("replay", __doc__, smoke="two models, one task, no engine")
    benchmark.parser.add_argument("folders", nargs="*", type=Path)
    benchmark.parser.add_argument("--protocol", default="soft_prompt")
    benchmark.parser.add_argument("--allowed", default="0.02,0.03,0.05")
    benchmark.parser.add_argument("--block", type=int, default=40)
    arguments = benchmark.start()
    with tempfile.TemporaryDirectory() as folder:
        folders = [tiny(Path(folder))] if arguments.smoke else arguments.folders
        protocol, allowed = ("zero_shot", [0.3]) if arguments.smoke else (arguments.protocol, arguments.allowed.split(","))
        block = 5 if arguments.smoke else arguments.block
        lines = [line for each in folders for line in replayed(read_run(each), protocol, list(map(float, allowed)), block)]
    by_drop = [summed(lines, size) for size in dict.fromkeys(line["allowed_points"] for line in lines)]
    differ = [line for line in lines if line["stopped"] != line["full"]]
    opposite = sum({line["stopped"], line["full"]} == {"pass", "fail"} for line in lines)
    ratios = [
        Ratio(
            what="stopped and full gate decide alike", against="all pairs", value=1 - len(differ) / len(lines), at_least=0.95
        ),
        Ratio(what="stopped and full gate contradict", against="all pairs", value=opposite / len(lines), at_most=0.01),
    ]
    benchmark.end({"by_allowed_drop": by_drop, "differ": differ}, ratios=ratios)


def summed(lines: Sequence[dict[str, Any]], size: float) -> dict[str, Any]:
    """Of all pairs, with one largest allowed drop."""
    mine = [line for line in lines if line["allowed_points"] == size]
    alike = sum(line["stopped"] == line["full"] for line in mine)
    asked = round(sum(line["asked"] for line in mine) / len(mine), 4)
    return {"allowed_points": size, "pairs": len(mine), "alike": alike, "asked": asked}


if __name__ == "__main__":
    main()
