"""The checks, in their order: what is quick and what most depends on comes first."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from spt_fast.qualify import engines, kernels, machine, training, verdicts
from spt_fast.qualify.contract import Check, Given, Need, Size, State, Verdict

REPORT = "report it, with this table and the JSON beside it"


def gpu(given: Given) -> Verdict | None:
    """A GPU."""
    return None if given.device == "cuda" else Verdict("absent", "there is no GPU here")


def package(name: str, *, state: State = "bad") -> Need:
    """An installed package, without which a machine does not do everything; or `absent`: one that it may lack."""

    def need(_: Given) -> Verdict | None:
        found = find_spec(name) is not None
        return None if found else Verdict(state, f"{name} is not installed", "`make install`")

    return need


def checks(size: Size) -> list[Check]:
    """All of them.

    Args:
        size: of what is measured. What takes long on a CPU's engine is left to GPUs.
    """
    more = 1 if size != "full" else 2
    found = [
        Check(name="driver", run=machine.measure_driver, judge=machine.judge_driver, mend=machine.MEND_DRIVER, needs=(gpu,)),
        Check(name="compiler", run=machine.measure_compiler, judge=machine.judge_compiler, mend=machine.MEND_COMPILER),
        Check(name="memory", run=machine.measure_memory, judge=machine.judge_memory, mend=machine.MEND_MEMORY),
        Check(name="rates", run=kernels.measure_rates, judge=verdicts.rates, mend=machine.MEND_MEMORY),
        *_kernels(),
        Check(
            name="training step",
            run=training.measure_first,
            judge=verdicts.training,
            mend=REPORT,
            limit_s=90 * more,
            least_s=8,
        ),
        Check(name="random model", run=engines.measure_model, judge=verdicts.model, mend="make room in TMPDIR", limit_s=90),
        *_engines(more),
    ]
    if size == "full":
        found.append(_larger_step())
    return found


def _kernels() -> list[Check]:
    measures = {
        "linear_cross_entropy": kernels.measure_cross_entropy,
        "linear_logprob": kernels.measure_logprob,
        "splice_embeds": kernels.measure_splice,
    }
    return [
        Check(name=f"kernel {name}", run=run, judge=verdicts.kernel, mend=REPORT, limit_s=90) for name, run in measures.items()
    ]


def _engines(more: int) -> list[Check]:
    plain = Check(
        name="vLLM, graphs",
        run=engines.measure_graphs,
        judge=verdicts.engine,
        mend="`engine: {enforce_eager: true}` in the grid where only graphs fail; and " + REPORT,
        needs=(gpu, package("vllm")),
        limit_s=150 * more,
        least_s=20,
    )
    return [
        plain,
        replace(plain, name="vLLM, eager", run=engines.measure_eager, mend=REPORT, needs=(package("vllm"),)),
        Check(
            name="trainer, then engine",
            run=engines.measure_in_turn,
            judge=verdicts.in_turn,
            mend="`engine: {gpu_memory_utilization: 0.8}` in the grid; and " + REPORT,
            needs=(package("vllm"),),
            limit_s=90 * more,
            least_s=20,
        ),
        Check(
            name="two engines",
            run=engines.measure_two,
            judge=verdicts.two,
            mend="`gpus: 1` for each model in the grid; and " + REPORT,
            needs=(package("vllm"),),
            limit_s=120 * more,
            least_s=20,
        ),
        Check(
            name="vLLM against Transformers",
            run=engines.measure_against_transformers,
            judge=verdicts.against_transformers,
            mend="spt-fast verify zoo/base-70 --dtype float32 says where they differ; " + REPORT,
            needs=(package("vllm"),),
            limit_s=120 * more,
            least_s=20,
        ),
    ]


def _larger_step() -> Check:
    return Check(
        name="training step, 8B",
        run=training.measure_second,
        judge=verdicts.training,
        mend=REPORT,
        needs=(gpu, machine.room_for(24)),
        limit_s=120,
        least_s=20,
    )
