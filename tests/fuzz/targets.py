"""What is fuzzed: for each kind of input, valid ones to begin with, and the commands that read it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spt_fast.prompts.adapters import save_adapter
from spt_fast.prompts.soft_prompt import SoftPrompt
from tests.fuzz.mutate import mutated, mutated_bytes
from tests.helpers.recorded import write_run

Commands = list[list[str]]
GRID = """\
name: g
models: [zoo/base-40, {id: zoo/base-95, post_trained: zoo/chat-40, soft_prompt: {lr: 0.02}, gpus: 0.5}]
tasks: [zoo-mcq, {task: zoo-json, limit: 20}]
protocols:
  - zero_shot
  - few_shot: {shots: 2}
  - soft_prompt: {length: [4, 8], steps: 10, batch_size: 4, lr: 0.02, weight_decay: 0.1, evaluate_at: [0, 10]}
  - transfer: {from: zoo-json, steps: 10, betas: [0.9, 0.99], max_grad_norm: 1.0}
  - ensemble: {members: 2, steps: 5, init: text, init_text: hello}
  - lora: {rank: 4, alpha: 8, targets: attention, dropout: 0.1, steps: 5}
seeds: [0, 1]
limit: 24
engine: {kind: echo, window: 8}
truth: {zoo-mcq: {zoo/base-40: 0.4, zoo/base-95: 0.95}}
rerun: 2%
price: {per_gpu_hour: 2.5, currency: EUR}
output: "runs/{name}-{date}"
"""
EITHER = (
    "judge: {model: zoo/chat-40, dtype: float32, chat_template_kwargs: {enable_thinking: false}}\n",
    "stop: {when: decided, check: rank, alpha: 0.05, block: 50, least: 100}\n",
)
"""Of a grid: the two do not go together."""
POLICY = """\
alpha: 0.05
power: 0.8
checks:
  - {metric: exact_match, largest_drop: 0.02}
  - {metric: knowledge, largest_drop: 0.05, tasks: ["t*"], protocols: [zero_shot], models: "*", over: mean}
"""
TASK = """\
name: capitals
version: 2
summary: capitals of Europe
rows: {files: rows, cut: {tuning: 3, few_shot: 1, share: 0.5, by: row}}
columns: {question: question, options: choices, answer: {column: label, as: index, first: 0}, group: group}
instruction: "Answer with the letter and the text, as in: B. Paris"
item: "Question: {question}\\n{options}\\nAnswer:"
stop: ["\\nQuestion:"]
max_tokens: 32
random_baseline: 0.5
repeat_rows: true
licence: CC0-1.0
sample: {question: q, choices: [a, b], label: 1, group: x}
"""
OPEN_TASK = """\
name: rivers
rows: {files: {test: rows/test.jsonl}}
columns: {question: question, answer: group, context: question}
format: "[A-Z][a-z]+"
extract: [stated_text, first_line]
target: "{answer}"
normalise: casefold
instruction: Name it in one word.
sample: {question: q, group: Thames}
"""
TABLE = "model,task,value,stderr,seed,step,partner_of\n" + "".join(
    f"m{i},t{j},{(i * 7 + j * 3) % 10 / 10},0.01,0,{i}," + (f"m{i - 1}" if i % 2 else "") + "\n"
    for i in range(4)
    for j in range(2)
)


@dataclass(frozen=True)
class Target:
    """One kind of input."""

    make: Callable[[Path, random.Random, Path], Commands]
    """(folder of this input, the dice, folder of what inputs have in common) -> commands that read it."""
    codes: frozenset[int] = frozenset({0, 1, 2, 130})
    """How they may end."""


def prepare(shared: Path) -> None:
    """Write what inputs have in common: two run folders."""
    for name, right in (("a", 30), ("b", 20)):
        verdicts = {
            (model, task, protocol, seed): [i < right for i in range(40)]
            for model in ("m", "n")
            for task in ("t", "u")
            for protocol, seed in (("zero_shot", None), ("soft_prompt", 0))
        }
        write_run(shared / name, verdicts)


def _grid(folder: Path, draw: random.Random, shared: Path) -> Commands:
    grid = folder / "g.yaml"
    _write(grid, mutated(GRID + draw.choice(EITHER), draw))
    return [["check", str(grid)], ["run", str(grid), "--dry-run", "--output", str(folder / "run")]]


def _policy(folder: Path, draw: random.Random, shared: Path) -> Commands:
    policy = folder / "p.yaml"
    _write(policy, mutated(POLICY, draw))
    return [["gate", str(shared / "a"), str(shared / "b"), "--policy", str(policy)]]


def _task(folder: Path, draw: random.Random, shared: Path) -> Commands:
    rows = "".join(
        json.dumps({"question": f"q{i}", "choices": ["a", "b"], "label": i % 2, "group": f"River{'abcdefghijkl'[i]}"}) + "\n"
        for i in range(12)
    )
    (folder / "rows").mkdir()
    task, test = mutated(draw.choice((TASK, OPEN_TASK)), draw), rows
    if draw.random() < 0.3:
        task, test = draw.choice((TASK, OPEN_TASK)), mutated(rows, draw)
    _write(folder / "rows/test.jsonl", test)
    _write(folder / "task.yaml", task)
    grid = f"name: g\nmodels: [zoo/base-40]\ntasks: ['{folder}/task.yaml']\nprotocols: [zero_shot]\n"
    (folder / "g.yaml").write_text(grid + "engine: {kind: echo}\n")
    return [["tasks", "show", f"{folder}/task.yaml"], ["check", f"{folder}/g.yaml"]]


def _scores(folder: Path, draw: random.Random, shared: Path) -> Commands:
    nested = {"t": {"m": 0.1, "n": 0.2, "o": 0.5}, "u": {"m": 0.4, "n": 0.3, "o": 0.4}, "t_stderr": {"m": 0.01}}
    records = [
        dict(zip(("model", "task", "value", "seed"), (f"m{i}", f"t{j}", i / 4 + j / 9, 0), strict=True))
        for i in range(3)
        for j in (0, 1)
    ]
    name, text = draw.choice((("s.csv", TABLE), ("s.json", json.dumps(nested)), ("s.json", json.dumps(records))))
    truth = "t: {m0: 0.3, m1: 0.5, m2: 0.9}\nt0: {m0: 0.1, m1: 0.2}\n"
    which = draw.randrange(3)
    _write(folder / name, mutated(text, draw) if which == 0 else text)
    _write(folder / "truth.yaml", mutated(truth, draw) if which == 1 else truth)
    _write(folder / "partners.yaml", mutated("m0: m1\nm2: m3\n", draw) if which == 2 else "m0: m1\n")
    beside = [] if which == 0 else [["--truth", f"{folder}/truth.yaml"], ["--partners", f"{folder}/partners.yaml"]][which - 1]
    return [["rank", str(folder / name), "--resamples", "100", *beside]]


def _prompt(folder: Path, draw: random.Random, shared: Path) -> Commands:
    """A soft prompt's file, or a PEFT adapter, as what vectors start from, and to be exported."""
    prompt = SoftPrompt(vectors=np.ones((4, 8), np.float32), provenance={"model": "m", "position": "front"})
    if draw.random() < 0.5:
        path = folder / "p.safetensors"
        prompt.save(path)
        path.write_bytes(mutated_bytes(path.read_bytes(), draw))
    else:
        path = folder / "adapter"
        save_adapter(prompt, path, base_model="m")
        file = draw.choice((path / "adapter_config.json", path / "adapter_model.safetensors"))
        if file.suffix == ".json" and draw.random() < 0.7:
            _write(file, mutated(file.read_text(), draw))
        else:
            file.write_bytes(mutated_bytes(file.read_bytes(), draw))
    settings = f"{{length: 4, steps: 2, init: soft_prompt, init_from: '{path}'}}"
    grid = (
        f"name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols: [{{soft_prompt: {settings}}}]\nengine: {{kind: echo}}\n"
    )
    (folder / "g.yaml").write_text(grid)
    return [["check", f"{folder}/g.yaml"], ["export", str(path), "--format", "peft", "--to", f"{folder}/out"]]


def _run(folder: Path, draw: random.Random, shared: Path) -> Commands:
    """A run folder of which one file is damaged, gone, or something else."""
    run = folder / "run"
    shutil.copytree(shared / "a", run)
    file = draw.choice(sorted(path for path in run.rglob("*") if path.is_file()))
    change = draw.randrange(5)
    if change == 0:
        file.unlink()
    elif change == 1:
        file.unlink()
        file.mkdir()
    elif change == 2 and file.suffix in (".json", ".yaml", ".csv"):
        _write(file, mutated(file.read_text(), draw))
    else:
        file.write_bytes(mutated_bytes(file.read_bytes(), draw))
    b = str(shared / "b")
    some = draw.choice((["rank", str(run), "--resamples", "100"], ["compare", str(run), b, "--resamples", "100"]))
    return [["status", str(run)], some, ["export", str(run), "--format", "lm-eval", "--to", f"{folder}/out"]]


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


TARGETS: Mapping[str, Target] = {
    "grids": Target(_grid),
    "policies": Target(_policy, codes=frozenset({0, 1, 2, 3, 130})),
    "tasks": Target(_task),
    "scores": Target(_scores),
    "prompts": Target(_prompt),
    "runs": Target(_run),
}
