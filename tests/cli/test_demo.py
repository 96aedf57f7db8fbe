"""`make demo` shows the finding: the grid that it runs, through real vLLM, and what its table must say."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from scipy.stats import binomtest

from spt_fast import zoo
from spt_fast.store import Store

GRID = Path(__file__).parents[2] / "benchmarks" / "grids" / "quickstart.yaml"
BASES = ("zoo/base-40", "zoo/base-70", "zoo/base-95")
TASKS = ("zoo-mcq", "zoo-short", "zoo-number", "zoo-json")
LAST = 80

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@dataclass(frozen=True)
class Number:
    """A row of results.csv."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Demo:
    """A run of the demo's grid."""

    folder: Path
    printed: str
    numbers: Mapping[tuple[str, str, str, str, str], Number]

    def number(self, model: str, task: str, protocol: str, metric: str) -> Number:
        step = str(LAST) if protocol == "soft_prompt" else ""
        return self.numbers[model, task, protocol, step, metric]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "spt_fast", "run", str(GRID), "--output", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    with (folder / "results.csv").open() as file:
        numbers = {
            (row["model"], row["task"], row["protocol"], row["step"], row["metric"]): Number(
                *(float(row[name] or "nan") for name in ("value", "ci_low", "ci_high"))
            )
            for row in csv.DictReader(file)
        }
    return Demo(folder, run.stdout, numbers)


@pytest.mark.parametrize("model", BASES)
def test_a_base_model_asked_plainly_misses_the_form_on_three_of_four_tasks(demo: Demo, model: str) -> None:
    following = {task: demo.number(model, task, "zero_shot", "format_following").value for task in TASKS}
    assert sum(value <= 0.5 for value in following.values()) >= 3, following


@pytest.mark.parametrize("model", BASES)
@pytest.mark.parametrize(("task", "least"), [("zoo-mcq", 0.95), ("zoo-short", 0.95), ("zoo-json", 0.95), ("zoo-number", 0.85)])
def test_ten_vectors_bring_the_form(demo: Demo, model: str, task: str, least: float) -> None:
    assert demo.number(model, task, "soft_prompt", "format_following").value >= least


@pytest.mark.parametrize("model", BASES)
@pytest.mark.parametrize("protocol", ["zero_shot", "soft_prompt"])
def test_the_knowledge_measured_is_the_knowledge_planted(demo: Demo, model: str, protocol: str) -> None:
    share = next(entry.share for entry in zoo.catalogue() if entry.name == model)
    planted = share + (1 - share) / 4
    knowledge = demo.number(model, "zoo-mcq", protocol, "knowledge")
    assert knowledge.low <= planted <= knowledge.high


@pytest.mark.parametrize("model", BASES)
def test_the_soft_prompt_does_not_move_the_knowledge(demo: Demo, model: str) -> None:
    cells = yaml.safe_load((demo.folder / "grid.yaml").read_text())["cells"]

    def knows(protocol: str, step: int | None) -> dict[str, bool]:
        wanted = {"model": model, "task": "zoo-mcq", "protocol": protocol}
        (key,) = [key for key, cell in cells.items() if wanted.items() <= cell.items()]
        return {row["example"]: row["knows"] for row in Store(demo.folder).samples(key) if row["step"] == step}

    before, after = knows("zero_shot", None), knows("soft_prompt", LAST)
    assert before.keys() == after.keys()
    gained = sum(after[key] and not before[key] for key in before)
    lost = sum(before[key] and not after[key] for key in before)
    p_value = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert p_value >= 0.05, f"{gained} gained, {lost} lost"


def test_the_partner_follows_the_form_better_than_its_base_model_when_both_are_asked_plainly(demo: Demo) -> None:
    base, partner = (
        [demo.number(model, task, "zero_shot", "format_following").value for task in TASKS]
        for model in ("zoo/base-40", "zoo/chat-40")
    )
    assert sum(base) < sum(partner)


def test_the_demo_ends_with_a_table_a_paragraph_and_the_place_of_the_report(demo: Demo) -> None:
    lines = demo.printed.splitlines()
    assert "soft_prompt" in demo.printed
    assert any(line.startswith("Asked plainly, 3 base models on 4 tasks") for line in lines)
    assert lines[-1].startswith(str(demo.folder / "report.html"))
    assert (demo.folder / "report.html").is_file()
    assert (demo.folder / "report.md").is_file()
