"""Seconds, memory and error of the operations in `kernels/`: against PyTorch, Liger, Cut Cross-Entropy, and the machine.

    python benchmarks/kernels/kernels.py [--smoke] [--rounds N] [--tune] [--save] [--output FILE]

A step is the mean loss of N rows and its gradient; the head is frozen. Each side's loss and gradient are compared with float64
(on a CPU, where that is too large, with float32) before anything is timed: ours are to be no further from it than eager PyTorch
in the same dtype, and who is far off is not timed. Sides, where they can run:

    naive             logits of all B x T positions, as a model's own forward pass has them
    eager             the definition: the head on the N rows that are asked for
    compiled          the same under torch.compile (GPU)
    ours              spt_kernels, impl="auto": on a GPU the Triton kernels, on a CPU the definition in chunks of rows
    liger             LigerFusedLinearCrossEntropyFunction as it comes (GPU, where liger-kernel is installed)
    liger, one chunk  the same with all rows in one chunk
    cce, cce exact    cut_cross_entropy as it comes, and without its filter of small gradients (GPU, where it is installed)

The roofline of a step is the head read twice at the rate of a copy, or its two products at the rate of the largest bf16 product
that was seen, whichever takes longer; both rates are measured here. On a CPU Triton is not run, and the result says so.
--tune times other tile sizes (GPU) and prints the table; tiles() in linear_cross_entropy/triton.py is to hold the best.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Ratio, Timing, spread
from spt_fast.qualify import kernels as measures
from spt_fast.qualify.kernels import Splice, Step, Work, bound_of, eager, ours, rates, seconds_of, step_of, work_of, worse

PACKAGES = ("torch", "triton", "liger-kernel", "cut-cross-entropy")
PROMPT = 128
"""Positions of a row in front of its targets, for the naive side; 8 rows make a case's N."""
LARGEST_ON_CPU = 200_000_000
"""`V * H` up to which a case takes seconds on a CPU."""
FAR_OFF = 0.2
"""Relative error from which on a side does something else, and is not timed."""
MEASURABLE = 1 << 20
"""Bytes from which on a process's peak says something."""


def naive(work: Work) -> Step:
    """The rows stand among others, all of which get logits."""
    import torch
    import torch.nn.functional as F

    B, targets = 8, work.case.N // 8
    others = work.hidden.new_zeros(B, PROMPT, work.case.H)
    labels = torch.full((B, PROMPT + targets), -100, device=work.hidden.device)
    labels[:, PROMPT:] = work.targets.view(B, targets)

    def loss(leaf: Any) -> Any:
        logits = torch.cat([others, leaf.view(B, targets, -1)], dim=1) @ work.weight.T
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())

    return lambda: step_of(loss, work.hidden)


def compiled(work: Work) -> Step:
    """The definition, compiled."""
    import torch

    from spt_kernels.linear_cross_entropy import reference

    loss = torch.compile(reference.linear_cross_entropy)
    return lambda: step_of(lambda h: loss(h, work.weight, work.targets, "mean"), work.hidden)


def liger(work: Work, *, one_chunk: bool = False) -> Step:
    """Liger's fused loss; by default it cuts the rows such that a chunk's logits are no larger than the hidden states."""
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction as Function

    more = {"chunk_mem_const": -(-work.case.V // work.case.H)} if one_chunk else {}
    return lambda: step_of(lambda h: _positional(Function, h, work, more), work.hidden)


def _positional(function: Any, hidden: Any, work: Work, more: Mapping[str, int]) -> Any:
    """autograd.Function.apply takes no keywords; the last parameter of `forward` is the chunks' budget."""
    import inspect

    parameters = list(inspect.signature(function.forward).parameters.values())[4:]
    return function.apply(hidden, work.weight, work.targets, *(more.get(p.name, p.default) for p in parameters))[0]


def cce(work: Work, *, exact: bool = False) -> Step:
    """Apple's kernels."""
    from cut_cross_entropy import linear_cross_entropy

    more = {"filter_eps": None} if exact else {}
    return lambda: step_of(lambda h: linear_cross_entropy(h, work.weight, work.targets, **more), work.hidden)


ANYWHERE: dict[str, Callable[[Work], Step]] = {"naive": naive, "eager": eager, "ours": ours}
ON_GPU: dict[str, Callable[[Work], Step]] = {
    "compiled": compiled,
    "liger": liger,
    "liger, one chunk": partial(liger, one_chunk=True),
    "cce": cce,
    "cce exact": partial(cce, exact=True),
}


def sides_of(work: Work, device: str) -> tuple[dict[str, Step], dict[str, str]]:
    """The sides that can run here, and why others cannot."""
    steps, left_out = {}, {}
    for name, make in {**ANYWHERE, **ON_GPU}.items():
        if name in ON_GPU and device == "cpu":
            left_out[name] = "runs on a GPU"
            continue
        try:
            steps[name] = make(work)
            steps[name]()
        except ImportError as e:
            left_out[name] = str(e)
        except Exception as e:  # a peer's own trouble is its result
            if name in ANYWHERE:
                raise
            left_out[name] = f"{type(e).__name__}: {str(e).splitlines()[0]}"
            steps.pop(name, None)
    return steps, left_out


def errors_of(work: Work, steps: dict[str, Step], left_out: dict[str, str]) -> dict[str, dict[str, float]]:
    """Distance from the truth of each side; who is far off leaves `steps`.

    Raises:
        SystemExit: ours is further off than eager PyTorch.
    """
    errors = measures.errors_of(work, steps)
    if worse(errors):
        raise SystemExit(f"{work.case}: ours is further from the truth than eager PyTorch, so nothing is timed: {errors}")
    for name, found in errors.items():
        if max(found.values()) > FAR_OFF:
            left_out[name] = f"far off: {found}"
            del steps[name]
    return errors


def peak_of(name: str, case: Any, dtype: str, device: str) -> int:
    """Most bytes that a side's step takes above its arguments."""
    import torch

    work = work_of(case, getattr(torch, dtype), device)
    step = {**ANYWHERE, **ON_GPU}[name](work)
    if device == "cuda":
        step()
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here (Linux, "man 5 proc")
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def forward_seconds(work: Work, rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of log-probabilities alone."""
    import torch

    from spt_kernels import linear_logprob
    from spt_kernels.linear_cross_entropy import reference

    arguments = work.hidden, work.weight, work.targets

    @torch.no_grad()
    def eagerly() -> Any:
        return -reference.linear_cross_entropy(*arguments, "none")

    torch.testing.assert_close(eagerly(), linear_logprob(*arguments), rtol=2e-2, atol=2e-2)
    return seconds_of({"eager": eagerly, "ours": lambda: linear_logprob(*arguments)}, rounds, device)


def peaks_of(names: list[str], case: Any, dtype: str, device: str) -> dict[str, int]:
    """`peak_of` each side; on a CPU in a process each, for what one has freed and kept would hide what the next one takes."""
    if device == "cuda":
        return {name: peak_of(name, case, dtype, device) for name in names}
    small = case.V * case.H < 1_000_000  # where only the way is to be seen, not the numbers
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=None if small else 1) as pool:
        return {name: pool.apply(peak_of, (name, case, dtype, device)) for name in names}


def loss_case(case: Any, dtype: str, device: str, rounds: int, measured: Mapping[str, float]) -> dict[str, Any]:
    """Errors, seconds and memory of all sides of a step, and of log-probabilities alone."""
    import torch

    work = work_of(case, getattr(torch, dtype), device)
    steps, left_out = sides_of(work, device)
    errors = errors_of(work, steps, left_out)
    raw = {"step": seconds_of(steps, rounds, device), "logprob": forward_seconds(work, rounds, device)}
    names, itemsize = list(steps), work.hidden.element_size()
    del work, steps
    gc.collect()
    peaks = peaks_of(names, case, dtype, device)
    roofline = {part: bound_of(case, itemsize, measured, passes) for part, passes in (("step", 2), ("logprob", 1))}

    def timed(part: str, name: str) -> dict[str, Any]:
        seconds = spread(raw[part][name])
        return {"seconds": seconds, "share_of_roofline": roofline[part]["seconds"] / seconds["median"]}

    return {
        "case": str(case),
        "reason": case.reason,
        "dtype": dtype,
        "left_out": left_out,
        "step": {name: {**timed("step", name), "error": errors[name], "peak_bytes": peaks[name]} for name in names},
        "logprob": {name: timed("logprob", name) for name in raw["logprob"]},
        "roofline": roofline,
        "raw": raw,
    }


def splice_case(case: Any, dtype: str, device: str, rounds: int, measured: Mapping[str, float]) -> dict[str, Any]:
    """Seconds of soft rows among token rows and of their gradient, against embedding, cast and concatenation."""
    import torch

    work = Splice.of(case, getattr(torch, dtype), device)
    (theirs, their_gradient), (found, gradient) = work.concatenated(), work.spliced()
    if not torch.equal(theirs, found):
        raise SystemExit(f"{case}: the rows differ, so nothing is timed")
    torch.testing.assert_close(gradient, their_gradient, rtol=5e-2, atol=5e-2)
    seconds = seconds_of({"concatenation": work.concatenated, "ours": work.spliced}, rounds, device)
    return {
        "case": str(case),
        "reason": case.reason,
        "dtype": dtype,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "roofline_seconds": work.bytes / measured["copy_bytes_a_s"],
        "raw": seconds,
    }


def tune(cases: list[Any], dtype: str) -> list[dict[str, Any]]:
    """Seconds of a step with other tile sizes, the fastest first (GPU)."""
    import torch

    from spt_kernels.linear_cross_entropy import triton as kernels

    vars(kernels)["OutOfResources"] = ()  # what does not fit is to fail, not to be PyTorch's
    usual, found = kernels.tiles, []
    for case in cases:
        work = work_of(case, getattr(torch, dtype), "cuda")
        mine = usual(case.N, getattr(torch, dtype).itemsize, kernels.shared_bytes(0))
        # Forward and backward share warps and stages; else their sizes have nothing to do with each other.
        choices = [
            *(
                replace(mine, vocab=vocab, warps=warps, stages=stages)
                for vocab, warps, stages in itertools.product((128, 256), (4, 8), (3, 4, 5))
                if mine.rows * vocab <= 128 * 32 * warps  # float32 sums in a thread's registers
            ),
            *(
                replace(mine, vocab_step=step, hidden_out=out)
                for step, out in itertools.product((32, 64, 128), (128, 256))
                if mine.rows * out <= 64 * 32 * mine.warps
            ),
        ]
        for tiles in choices:
            kernels.tiles = lambda rows, itemsize, shared_bytes=0, tiles=tiles: tiles  # type: ignore[misc]
            try:
                median = spread(seconds_of({"ours": ours(work)}, 1, "cuda")["ours"])["median"]
            except Exception as e:  # does not fit: that is what is to be found out
                print(f"{case} {tiles}: {type(e).__name__}", file=sys.stderr)
                continue
            found.append({"case": str(case), "tiles": str(tiles), "seconds": median, "chosen": tiles == mine})
            print(f"{case} {median * 1e3:.3f} ms {tiles}", file=sys.stderr, flush=True)
        kernels.tiles = usual
    return sorted(found, key=lambda line: (line["case"], line["seconds"]))


def ratios_of(losses: list[dict[str, Any]], device: str) -> list[Ratio]:
    """Against eager PyTorch and the naive way everywhere; on a GPU against the best peer and the machine too."""
    ratios = []
    for found in losses:
        step, what = found["step"], f"loss and gradient of a frozen head, {found['case']} {found['dtype']}"
        medians = {name: side["seconds"]["median"] for name, side in step.items()}
        for other in medians:
            if other != "ours":
                ratios.append(
                    Ratio(what=f"{what}, seconds of the other", against=other, value=medians[other] / medians["ours"])
                )
        for other in ("naive", "eager"):
            if step[other]["peak_bytes"] > MEASURABLE:
                taken = step["ours"]["peak_bytes"] / step[other]["peak_bytes"]
                ratios.append(Ratio(what=f"{what}, peak memory", against=other, value=taken))
        if device == "cuda":
            for part in ("step", "logprob"):
                share = found[part]["ours"]["share_of_roofline"]
                ratios.append(Ratio(what=f"{what}, {part}", against="the roofline", value=share, at_least=0.8))
    return ratios


def main() -> None:
    """Correctness, then all measurements."""
    benchmark = Benchmark("kernels", __doc__, smoke="tiny shapes, in seconds", packages=PACKAGES, on_gpu=True)
    benchmark.parser.add_argument("--rounds", type=int, default=5, help="timed rounds a side")
    benchmark.parser.add_argument("--tune", action="store_true", help="time other tile sizes instead (GPU)")
    arguments = benchmark.start()
    import torch

    from spt_kernels.linear_cross_entropy import cases as loss_cases
    from spt_kernels.splice_embeds import cases as splice_cases

    device, rounds = "cuda" if torch.cuda.is_available() else "cpu", 1 if arguments.smoke else arguments.rounds
    dtype = "float32" if arguments.smoke and device == "cpu" else "bfloat16"
    if arguments.tune:
        if device == "cpu":
            benchmark.parser.error("--tune needs an NVIDIA GPU: tile sizes are those of its kernels")
        benchmark.name = "kernels-tiles"
        benchmark.end({"tune": tune(list(loss_cases.REAL), dtype)})
        return
    large = device == "cuda"
    sizes = (measures.SQUARE, measures.COPIED) if large else (256, 1 << 20) if arguments.smoke else (2048, 1 << 28)
    measured = rates(device, *sizes)
    real = [case for case in loss_cases.REAL if large or case.V * case.H <= LARGEST_ON_CPU]
    losses = [loss_case(case, dtype, device, rounds, measured) for case in (loss_cases.SMALL[3:4] if arguments.smoke else real)]
    splices = [
        splice_case(case, dtype, device, rounds, measured)
        for case in (splice_cases.SMALL[1:] if arguments.smoke else splice_cases.REAL)
    ]
    timings = [
        Timing(case=f"{found['case']}, {part}", side=side, values=values)
        for found in losses
        for part, sides in found.pop("raw").items()
        for side, values in sides.items()
    ]
    timings += [
        Timing(case=f"splice {found['case']}", side=side, values=values)
        for found in splices
        for side, values in found.pop("raw").items()
    ]
    triton = "run" if device == "cuda" else "not run: there is no GPU; `ours` is the definition in chunks of rows"
    result = {"triton": triton, "rates": measured, "linear_cross_entropy": losses, "splice_embeds": splices}
    benchmark.end(result, timings=timings, ratios=ratios_of(losses, device))


if __name__ == "__main__":
    main()
