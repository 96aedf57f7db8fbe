"""Seconds and peak memory of one tuning step: spt-fast's trainer against PEFT's prompt tuning, side by side in one run.

    python benchmarks/training/step.py [--smoke] [--case NAME ...] [--output FILE]

Random Llama-shaped weights; every step sees the same 8 rows of 128 tokens, 6 of them targets, behind 10 vectors. The losses
of both are compared before anything is timed. Each side runs in a process of its own, so that its peak memory is its own.
The JSON on stdout (and in FILE) says what machine, versions, commit and command the numbers come from.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BATCH, PROMPT, TARGET, LENGTH, LR = 8, 122, 6, 10, 1e-3


@dataclass(frozen=True, kw_only=True)
class Case:
    """A shape of model."""

    name: str
    vocab: int
    hidden: int
    layers: int
    dtype: str
    reason: str


CASES = (
    Case(name="small-vocabulary", vocab=32_000, hidden=512, layers=8, dtype="float32", reason="the body dominates"),
    Case(name="large-vocabulary", vocab=128_000, hidden=512, layers=8, dtype="float32", reason="the head dominates"),
    Case(name="bf16", vocab=128_000, hidden=1024, layers=8, dtype="bfloat16", reason="the dtype of real checkpoints"),
)
SMOKE = Case(name="smoke", vocab=512, hidden=64, layers=2, dtype="float32", reason="seconds")

# Largest difference of the two first losses: bf16 sums in another order.
SAME_LOSS = {"float32": 1e-4, "bfloat16": 2e-2}


def build(case: Case) -> Any:
    """The model, the same for both sides."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=case.vocab,
        hidden_size=case.hidden,
        intermediate_size=4 * case.hidden,
        num_hidden_layers=case.layers,
        num_attention_heads=case.hidden // 64,
        num_key_value_heads=case.hidden // 64,
        max_position_embeddings=512,
    )
    module: Any = transformers.LlamaForCausalLM(config)
    return module.to(getattr(torch, case.dtype)).to("cuda" if torch.cuda.is_available() else "cpu").eval()


def make_rows(case: Case) -> list[Any]:
    """The batch, the same for both sides and for every step."""
    import random

    from spt_fast.training.batches import TuningRow

    rng = random.Random(0)
    ids = [tuple(rng.randrange(case.vocab) for _ in range(PROMPT + TARGET)) for _ in range(BATCH)]
    return [TuningRow(prompt_ids=row[:PROMPT], target_ids=row[PROMPT:]) for row in ids]


def start_vectors(case: Case) -> Any:
    """The vectors before the first step, the same for both sides."""
    import torch

    from spt_fast.config import SoftPromptConfig
    from spt_fast.prompts.initialize import initialize

    return torch.from_numpy(initialize(SoftPromptConfig(length=LENGTH), case.hidden, 0))


def ours(case: Case) -> Callable[[], float]:
    """One step of spt-fast's trainer, and its loss."""
    import torch

    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.training.batches import collate
    from spt_fast.training.trainer import target_loss

    model = FrozenModel(build(case))
    vectors = start_vectors(case).to(model.device).requires_grad_(True)
    optimizer = torch.optim.AdamW([vectors], lr=LR, weight_decay=0.0)
    rows = make_rows(case)

    def step() -> float:
        loss = target_loss(model, vectors, collate(rows).to(model.device))
        (vectors.grad,) = torch.autograd.grad(loss, [vectors])
        optimizer.step()
        return loss.item()

    return step


def peft(case: Case) -> Callable[[], float]:
    """One step of a plain loop over PEFT's prompt tuning, and its loss."""
    import peft
    import torch

    settings = peft.PromptTuningConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        num_virtual_tokens=LENGTH,
        prompt_tuning_init=peft.PromptTuningInit.RANDOM,
    )
    model: Any = peft.get_peft_model(build(case), settings).eval()
    vectors = model.prompt_encoder["default"].embedding.weight
    vectors.data.copy_(start_vectors(case))
    optimizer = torch.optim.AdamW([vectors], lr=LR, weight_decay=0.0)
    ids = torch.tensor([[*row.prompt_ids, *row.target_ids] for row in make_rows(case)], device=vectors.device)
    labels = ids.clone()
    labels[:, :PROMPT] = -100

    def step() -> float:
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


SIDES = {"spt_fast": ours, "peft": peft}


def serve(side: str, case: Case, link: Any) -> None:
    """One side, in its own process: does a step when asked and answers (loss, seconds); then its memory in bytes."""
    import torch

    warnings.simplefilter("ignore")
    step = SIDES[side](case)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated()
    else:
        # Building the model took more than it holds now; the peak counts from here (Linux, "man 5 proc").
        Path("/proc/self/clear_refs").write_text("5")
        idle = _status("VmRSS")
    while link.recv():
        begin = time.perf_counter()
        loss = step()  # reads the loss, so the device is done
        link.send((loss, time.perf_counter() - begin))
    peak = torch.cuda.max_memory_allocated() if cuda else _status("VmHWM")
    link.send((peak, peak - idle))


def _status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def measure(case: Case, steps: int, warm_up: int) -> dict[str, Any]:
    """Both sides of one case, step by step in turn, so that both see the same noise.

    Raises:
        SystemExit: their losses differ.
    """
    context = multiprocessing.get_context("spawn")
    links, processes = {}, []
    for side in SIDES:
        links[side], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(side, case, theirs), daemon=True))
        processes[-1].start()
    losses: dict[str, list[float]] = {side: [] for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for i in range(warm_up + steps):
        for side, link in links.items():
            link.send(True)
            loss, took = link.recv()
            losses[side].append(loss)
            if i >= warm_up:
                seconds[side].append(took)
        if i == 0 and abs(losses["spt_fast"][0] - losses["peft"][0]) > SAME_LOSS[case.dtype]:
            raise SystemExit(f"{case.name}: the losses differ, so nothing is timed: {losses}")
    memory = {}
    for side, link in links.items():
        link.send(False)
        memory[side] = link.recv()
    for process in processes:
        process.join()
    result: dict[str, Any] = {"case": asdict(case), "first_loss": {side: losses[side][0] for side in SIDES}}
    for side in SIDES:
        result[side] = {
            "seconds_a_step": {
                "median": statistics.median(seconds[side]),
                "least": min(seconds[side]),
                "most": max(seconds[side]),
            },
            "peak_bytes": memory[side][0],
            "peak_bytes_above_the_idle_model": memory[side][1],
        }
    medians = {side: result[side]["seconds_a_step"]["median"] for side in SIDES}
    result["times_faster_than_peft"] = medians["peft"] / medians["spt_fast"]
    return result


def certificate() -> dict[str, Any]:
    """Where the numbers come from."""
    import torch

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    cuda = torch.cuda.is_available()
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpus = [line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    packages = ("torch", "transformers", "peft", "numpy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", str(Path(__file__).resolve().relative_to(ROOT)), *sys.argv[1:]]),
        "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
        "hardware": {
            "cpu": cpus[0] if cpus else platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if cuda else None,
        },
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        "batch": {"rows": BATCH, "tokens": PROMPT + TARGET, "targets": TARGET, "soft_positions": LENGTH},
    }


def main() -> None:
    """Run the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one tiny case, in seconds")
    parser.add_argument("--case", nargs="*", choices=[case.name for case in CASES], help="which cases; all")
    parser.add_argument("--steps", type=int, default=10, help="timed steps a side")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    chosen = [SMOKE] if arguments.smoke else [c for c in CASES if not arguments.case or c.name in arguments.case]
    results = []
    for case in chosen:
        results.append(measure(case, steps=3 if arguments.smoke else arguments.steps, warm_up=2))
        medians = {side: results[-1][side]["seconds_a_step"]["median"] for side in SIDES}
        print(
            f"{case.name}: {medians['spt_fast']:.3f} s a step, PEFT {medians['peft']:.3f} s: "
            f"{results[-1]['times_faster_than_peft']:.2f} times faster",
            file=sys.stderr,
        )
    text = json.dumps({**certificate(), "results": results}, indent=2)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    # An idle side must not spin on the cores that the other one is timed on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The file also runs from a clone that is not installed.
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    main()
