"""Seconds that report.html takes for a grid as large as the paper's, and to open it in Chromium.

    python benchmarks/report/large.py [--smoke] [--rows N] [--folder DIR] [--save] [--output FILE]

Seven base models with their post-trained counterparts, seven tasks, zero-shot, few-shot and soft prompt, three seeds, six
points of every curve, 1,000 test rows a task: 686 cells and 2.2 million samples, recorded as the echo engine's as a run
writes them. What is in them is scripted: which model knows how much, how often each protocol brings the form, and errors
of many kinds (chatter, a bare letter, cut off, markup, control characters). The page must be under 5 MB and the same when it is
written twice, or nothing is timed. Chromium is asked where it and its driver are installed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Benchmark

if TYPE_CHECKING:
    from spt_fast.plan.cell import Cell
    from spt_fast.types import Sample

MODELS = ("Llama-3.1-8B", "Llama-3.2-1B", "Ministral-3-14B", "Ministral-3-3B", "Olmo-3-7B", "Qwen3-4B", "Qwen3-8B")
TASKS = ("mmlu", "belebele", "chembench", "triviaqa", "gsm8k", "squad", "math500")
CLOSED = TASKS[:3]
STEPS = (0, 10, 20, 40, 80, 120)
LETTERS = "ABCD"
BROKEN = (
    "{letter}",
    "The answer is {answer}.",
    "I think that {answer}, but <b>I am not sure</b>.\n\nQuestion: What else?",
    "<script>alert({answer!r})</script>",
    "\u202eanswer\u202c {answer}\x1b[31m",
    "Let us see. {words}",
    "",
)


def cells(rows: int, models: int, tasks: int) -> Iterator[Cell]:
    """As `plan.expand` makes them."""
    from spt_fast import tasks as registry
    from spt_fast.config import FewShot, SoftPromptConfig, ZeroShot
    from spt_fast.models.identity import Model
    from spt_fast.plan.cell import Cell, TaskRows

    soft = SoftPromptConfig(steps=STEPS[-1], evaluate_at=STEPS[:-1])
    for name in MODELS[:models]:
        for model in (f"base/{name}", f"chat/{name}-Instruct"):
            partner = f"chat/{name}-Instruct" if model.startswith("base/") else None
            about = Model(name=model, source=model, revision="c" * 40, fingerprint=f"hub:{model}", post_trained=partner)
            for task in TASKS[:tasks]:
                asked = TaskRows(name=task, version=registry.get(task).version, content="rows", limit=rows)
                for protocol, seeds in ((ZeroShot(), [None]), (FewShot(shots=5), [0, 1, 2]), (soft, [0, 1, 2])):
                    for seed in seeds:
                        echo = {"kind": "echo"}
                        yield Cell(model=about, task=asked, protocol=protocol, seed=seed, label=protocol.name, engine=echo)


class Script:
    """What is asked, and what is answered: the same whenever it is asked for."""

    def __init__(self) -> None:
        random = Random(0)
        syllables = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "s")]
        self.vocabulary = ["".join(random.choices(syllables, k=random.choice((1, 2, 2, 3)))) for _ in range(4000)]

    def words(self, random: Random, n: int) -> str:
        return " ".join(random.choices(self.vocabulary, k=n))

    def question(self, task: str, i: int) -> tuple[str, list[str], int]:
        """What row `i` asks, its options, and which is right."""
        random = Random(f"{task} {i}")
        options = [f"{letter}. {self.words(random, 2)}" for letter in LETTERS]
        text = f"Question: {self.words(random, 40)}?\n" + ("\n".join(options) + "\n" if task in CLOSED else "") + "Answer:"
        return text, options, random.randrange(4)

    def shots(self, cell: Cell) -> str:
        """The worked examples in front of the prompts of a few-shot cell."""
        if cell.label != "few_shot":
            return ""
        asked = (self.question(cell.task.name, -1 - 5 * (cell.seed or 0) - i) for i in range(5))
        return "".join(f"{text} {options[right]}\n\n" for text, options, right in asked)

    def samples(self, cell: Cell, rows: int) -> Iterator[Sample]:
        """The rows of a cell, at every step."""
        from spt_fast.types import Sample

        task, chat = cell.task.name, cell.model.name.startswith("chat/")
        skill = 0.35 + 0.07 * MODELS.index(cell.model.name.partition("/")[2].removesuffix("-Instruct")) + 0.05 * chat
        shots = self.shots(cell)
        asked = [self.question(task, i) for i in range(rows)]
        for step in cell.steps:
            learnt = 0.99 - 0.8 * 0.5 ** ((step or 0) / 8)
            form = {"zero_shot": 0.2 + 0.6 * chat, "few_shot": 0.85, "soft_prompt": learnt}[cell.label]
            for i, (text, options, right) in enumerate(asked):
                random = Random(f"{cell.model.name} {task} {cell.label} {cell.seed} {step} {i}")
                knows = Random(f"{cell.model.name} {task} {i}").random() < skill
                follows = random.random() < form
                said = options[right if knows else (right + 1) % 4]
                broken = random.choice(BROKEN).format(letter=said[0], answer=said[3:], words=self.words(random, 30))
                closed = task in CLOSED
                logprobs = [-1 - random.random() * 8 for _ in options]
                logprobs[LETTERS.index(said[0])] = -random.random()
                yield Sample(
                    example=f"{abs(hash_of(task, i)):016x}",
                    step=step,
                    prompt=f"Answer with one of the options, in full, as in: B. Paris\n\n{shots}{text}",
                    completion=f" {said}" if follows else f" {broken}",
                    finish_reason="length" if not follows and "Let us see" in broken else "stop",
                    target=options[right],
                    extracted=None if closed else said,
                    rule=None if closed else "stated_text",
                    format_ok=follows,
                    knows=knows,
                    correct=follows and knows,
                    answers=(options[right],),
                    option_logprobs=tuple(logprobs) if closed else (),
                    chosen=LETTERS.index(said[0]) if closed else None,
                    chosen_per_byte=LETTERS.index(said[0]) if closed else None,
                    knows_per_byte=knows if closed else None,
                )


def hash_of(task: str, i: int) -> int:
    """Of a row, as content hashes are: 64 bits without an order."""
    return Random(f"key {task} {i}").getrandbits(64)


def record(folder: Path, rows: int, models: int, tasks: int) -> int:
    """Write the run folder; how many samples it holds."""
    from spt_fast.config import FewShot, GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
    from spt_fast.driver.resolved import resolved
    from spt_fast.scoring.metrics import aggregate
    from spt_fast.store import Store
    from spt_fast.types import CellResult

    store, script, count = Store(folder), Script(), 0
    store.lock()
    made = list(cells(rows, models, tasks))
    config = GridConfig(
        name="as large as the paper's",
        models=tuple(ModelConfig(id=name) for name in dict.fromkeys(cell.model.name for cell in made)),
        tasks=tuple(TaskConfig(task=name) for name in dict.fromkeys(cell.task.name for cell in made)),
        protocols=(ZeroShot(), FewShot(shots=5), SoftPromptConfig(steps=STEPS[-1], evaluate_at=STEPS[:-1])),
        seeds=(0, 1, 2),
        engine={"kind": "echo"},
        output=folder,
    )
    store.grid_file.put(resolved(config, made, folder=folder))
    store.event("run", cells=len(made), todo=len(made))
    for cell in made:
        store.event("worker", model=cell.model.name, worker=0, where="node", gpus=1.0)
        by_step: dict[int | None, list[Sample]] = {}
        for sample in script.samples(cell, rows):
            by_step.setdefault(sample.step, []).append(sample)
        costs = {"load_s": 20.0, "engine_start_s": 45.0, "answer_s": rows / 50 * len(by_step), "score_s": 0.1}
        costs |= {"train_s": 60.0} if cell.label == "soft_prompt" else {}
        result = CellResult(
            metrics={step: aggregate(found) for step, found in by_step.items()},
            samples=tuple(sample for found in by_step.values() for sample in found),
            costs=costs,
            provenance={"spt-fast": metadata.version("spt-fast")},
        )
        store.put_result(cell, result)
        count += len(result.samples)
    store.event("end")
    store.close()
    return count


def write(folder: Path) -> dict[str, Any]:
    """Time what a run does at its end, and report.html in it."""
    from spt_fast.analysis.runs import open_run
    from spt_fast.report.folder import write_tables
    from spt_fast.report.html.build import page

    run = open_run(folder)
    cells = list(run.cells())
    begin = time.perf_counter()
    text = page(run, cells)
    took = time.perf_counter() - begin
    if page(run, cells) != text or len(text.encode()) > 5_000_000:
        raise SystemExit("report.html is not the same twice, or larger than 5 MB, so nothing is timed")
    begin = time.perf_counter()
    write_tables(folder)
    return {"report_html_s": took, "all_tables_s": time.perf_counter() - begin, "bytes": len(text.encode())}


def _is_ready(ready: str, browser: Any) -> bool:
    return bool(browser.execute_script("return document.body.dataset.ready") == ready)


def opened(page: Path) -> dict[str, Any] | None:
    """Milliseconds from the start of the navigation, in a new Chromium; None where there is none."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    profile = tempfile.mkdtemp(prefix="chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        found = []
        for view in ("overview", "samples"):
            browser.get("about:blank")
            browser.get(f"{page.as_uri()}#{view}")
            ready = "page" if view == "overview" else "samples"
            wait = WebDriverWait(browser, 60, poll_frequency=0.01)
            wait.until(partial(_is_ready, ready))
            load = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
            found.append((browser.execute_script(load), browser.execute_script("return performance.now()")))
        shown = browser.execute_script("return browser.rows.length")
        version = browser.capabilities["browserVersion"]
        return {"chromium": version, "loaded_ms": found[0][0], "samples_unpacked_ms": found[1][1], "samples": shown}
    finally:
        browser.quit()
        shutil.rmtree(profile, ignore_errors=True)


def main() -> None:
    """Record, write, open."""
    packages = ("numpy", "pyarrow", "scipy", "vl-convert-python")
    smoke = "two pairs of models, two tasks, 20 rows, in seconds"
    benchmark = Benchmark("report", __doc__, smoke=smoke, packages=packages)
    parser = benchmark.parser
    parser.add_argument("--rows", type=int, default=1000, help="test rows a task")
    parser.add_argument("--folder", type=Path, help="where to keep the run folder (some 1 GB); a temporary one")
    arguments = benchmark.start()
    rows, models, tasks = (20, 2, 2) if arguments.smoke else (arguments.rows, len(MODELS), len(TASKS))
    scratch = Path(tempfile.mkdtemp(prefix="report-"))
    folder = arguments.folder or scratch / "run"
    try:
        if not (folder / "grid.yaml").exists():
            print(f"{record(folder, rows, models, tasks):,} samples recorded", file=sys.stderr)
        result: dict[str, Any] = {"cells": sum(1 for _ in cells(rows, models, tasks)), "rows": rows, **write(folder)}
        result["opened"] = None if arguments.smoke else opened(folder / "report.html")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    benchmark.end(result)


if __name__ == "__main__":
    main()
