"""vLLM on this machine: each way to bring a soft prompt and to score options, equal or not and how fast; and what stands
beside it in the memory: the trainer before it, a second engine next to it."""

from __future__ import annotations

import multiprocessing
import queue
import random
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spt_fast.qualify.contract import Given, Measured
from spt_fast.qualify.sizes import Load, asked, dtype_of, load
from spt_fast.qualify.timing import in_turn
from spt_fast.qualify.training import LENGTH

if TYPE_CHECKING:
    from spt_fast.engine.vllm.engine import VllmEngine
    from spt_fast.types import Request

POSITIONS = 512
"""`max_model_len`: more than any request here has."""
OPTIONS = 4
HALF = 0.45
"""Of a GPU, each of two engines."""
POLL_S = 0.2


def saved_model(given: Given) -> Path:
    """The random model that engines are started for, made by whoever comes first."""
    from spt_fast.models.random_model import build, save_tokenizer

    folder, making = Path(given.scratch) / "model", Path(given.scratch) / "model.part"
    if not folder.is_dir():
        shutil.rmtree(making, ignore_errors=True)
        shape = asked(given.size)
        # On the CPU: CUDA that is initialised here would have vLLM import everything again in another process.
        build(shape, dtype=dtype_of(given), device="cpu").save_pretrained(making)
        save_tokenizer(making, shape.vocab)
        making.rename(folder)
    return folder


def measure_model(given: Given) -> Measured:
    """Make the model of the checks that follow."""
    folder = saved_model(given)
    return {"weights_bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors"))}


def measure_eager(given: Given) -> Measured:
    """The engine without CUDA graphs, and with vLLM's prompt embeds: each way that there is to bring vectors along."""
    return _measure(given, {"enforce_eager": True, "enable_prompt_embeds": True})


def measure_graphs(given: Given) -> Measured:
    """The engine as a grid has it on a GPU: compiled, and with CUDA graphs."""
    return _measure(given, {"enforce_eager": False})


def measure_in_turn(given: Given) -> Measured:
    """The trainer, and then the engine, in one process, as a worker has them: what memory the first gives back."""
    from spt_fast.models import memory
    from spt_fast.models.frozen_model import FrozenModel
    from spt_fast.qualify.training import random_rows, steps_of

    folder = str(saved_model(given))
    model = FrozenModel.load(folder, dtype=dtype_of(given), device=given.device)
    losses, _ = steps_of(model, random_rows(model.vocab_size), 5)
    model.free()
    del model
    seen = memory.free_and_total()
    begin = time.perf_counter()
    with _opened(given, {"enforce_eager": True}) as engine:
        start_s = time.perf_counter() - begin
        answers = engine.generate(_completions(engine, load(given.size), behind=True)[:8])
    taken = None if seen is None else seen[1] - seen[0]
    return {"losses": losses, "taken_bytes_after_training": taken, "start_s": start_s, "answers": len(answers)}


def measure_two(given: Given) -> Measured:
    """Two engines at once, each with its part of the GPU, and both answering while the other is there.

    Raises:
        RuntimeError: one of them died; the message says of what.
    """
    saved_model(given)
    context = multiprocessing.get_context("spawn")
    both, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_one_of_two, args=(given, i, both, answers)) for i in range(2)]
    begin = time.perf_counter()
    for process in processes:
        process.start()
    try:
        found = _await_all(processes, answers)
    finally:
        for process in processes:
            process.kill()
    return {"seconds": time.perf_counter() - begin, "engines": found}


def measure_against_transformers(given: Given) -> Measured:
    """vLLM against Transformers on a zoo model in float32, behind soft prompts and without."""
    from spt_fast.inspection.verify import verify

    report = verify("zoo/base-70", dtype="float32")
    return {"passed": report.passed, "said": report.text().splitlines()}


def prompts_of(vocab: int, count: int, most: int) -> list[tuple[int, ...]]:
    """Random prompts of 8 to `most` tokens."""
    rng = random.Random(0)
    return [tuple(rng.randrange(3, vocab) for _ in range(rng.randrange(8, most))) for _ in range(count)]


def ratio(seconds: Mapping[str, Sequence[float]], side: str, other: str) -> float:
    """Requests a second of a side to those of another: the median over rounds, since a machine has better and worse minutes."""
    return statistics.median(theirs / mine for theirs, mine in zip(seconds[other], seconds[side], strict=True))


def _measure(given: Given, options: Mapping[str, Any]) -> Measured:
    begin = time.perf_counter()
    with _opened(given, options) as engine:
        start_s = time.perf_counter() - begin
        tried = {matter: dict(ways) for matter, ways in engine.tried().items()}
        work = load(given.size)
        generation = _generation(engine, work, _usable(tried["injection"]))
        scoring = _scoring(engine, work, _usable(tried["scoring"]))
        return {
            "start_s": start_s,
            "taken": dict(engine.ways),
            "proofs": dict(engine.proofs),
            "tried": tried,
            "requests_a_second": {side: work.prompts / statistics.median(each) for side, each in generation.items()},
            "to_tokens": {side: ratio(generation, side, "tokens") for side in generation},
            "questions_a_second": {side: work.questions / statistics.median(each) for side, each in scoring.items()},
        }


def _usable(tried: Mapping[str, str]) -> list[str]:
    from spt_fast.engine.vllm.engine import SAME

    return [way for way, said in tried.items() if said in SAME]


def _generation(engine: VllmEngine, work: Load, ways: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of all completions by way, and of token prompts of the same length, in turn."""
    behind, plain = (_completions(engine, work, behind=behind) for behind in (True, False))

    def asking(way: str) -> Callable[[], object]:
        def ask() -> object:
            with engine.taking("injection", way):
                return engine.generate(behind)

        return ask

    sides = {"tokens": lambda: engine.generate(plain), **{way: asking(way) for way in ways}}
    return in_turn(sides, work.rounds, warm_up=1, before=engine.forget)


def _completions(engine: VllmEngine, work: Load, *, behind: bool) -> list[Any]:
    """Requests behind a soft prompt; or with as many tokens in its place."""
    import numpy as np

    from spt_fast.prompts.soft_prompt import SoftPrompt
    from spt_fast.types import Generate, Sampling

    vectors = np.random.default_rng(0).normal(scale=0.05, size=(LENGTH, engine.hidden_size)).astype(np.float32)
    prompts, sampling = prompts_of(engine.vocab_size, work.prompts, work.most), Sampling(max_tokens=work.new)
    if not behind:
        return [Generate(token_ids=(*ids[:1] * LENGTH, *ids), sampling=sampling) for ids in prompts]
    key = engine.add(SoftPrompt(vectors=vectors))
    return [Generate(token_ids=ids, sampling=sampling, soft_prompt=key) for ids in prompts]


def _scoring(engine: VllmEngine, work: Load, ways: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of all questions by way, in turn: four options of four tokens each."""
    from spt_fast.types import Score

    rng = random.Random(1)
    questions: list[Request] = [
        Score(token_ids=ids, continuation=tuple(rng.randrange(3, engine.vocab_size) for _ in range(4)))
        for ids in prompts_of(engine.vocab_size, work.questions, work.most)
        for _ in range(OPTIONS)
    ]

    def asking(way: str) -> Callable[[], object]:
        def ask() -> object:
            with engine.taking("scoring", way):
                return list(engine.stream(questions))

        return ask

    return in_turn({way: asking(way) for way in ways}, min(3, work.rounds), warm_up=1, before=engine.forget)


def _opened(given: Given, options: Mapping[str, Any], *, gpus: float = 1.0) -> VllmEngine:
    from spt_fast.engine.base import EngineConfig
    from spt_fast.engine.vllm.engine import VllmEngine

    # On a CPU vLLM is eager in any case, and it is not to be told so.
    chosen = {name: value for name, value in options.items() if given.device == "cuda" or name != "enforce_eager"}
    # A quick look captures fewer graphs.
    fewer = {"max_num_seqs": 128} if given.size == "quick" else {}
    config = EngineConfig(
        model=str(saved_model(given)), dtype=dtype_of(given), gpus=gpus, options={"max_model_len": POSITIONS, **chosen, **fewer}
    )
    return VllmEngine(config)


def _one_of_two(given: Given, place: int, both: Any, answers: Any) -> None:
    """One engine, in its process: it is there until the other one has answered, too."""
    try:
        begin = time.perf_counter()
        with _opened(given, {"enforce_eager": True}, gpus=HALF) as engine:
            start_s = time.perf_counter() - begin
            both.wait()
            asked = _completions(engine, load(given.size), behind=True)
            begin = time.perf_counter()
            engine.generate(asked)
            rate = len(asked) / (time.perf_counter() - begin)
            both.wait()
        answers.put({"place": place, "start_s": start_s, "requests_a_second": rate})
    except Exception as e:
        answers.put({"place": place, "error": f"{type(e).__name__}: {e}"})


def _await_all(processes: Sequence[Any], answers: Any) -> list[Measured]:
    found: list[Measured] = []
    while len(found) < len(processes):
        try:
            found.append(answers.get(timeout=POLL_S))
        except queue.Empty:
            if gone := [i for i, process in enumerate(processes) if process.exitcode not in (None, 0)]:
                raise RuntimeError(f"engine {gone[0] + 1} ended with exit code {processes[gone[0]].exitcode}") from None
            continue
        if "error" in found[-1]:
            raise RuntimeError(f"engine {found[-1]['place'] + 1} of 2: {found[-1]['error']}")
    return sorted(found, key=lambda each: int(each["place"]))
