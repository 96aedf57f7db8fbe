"""What was measured, judged: wrong is bad, slower than wanted is slow. On a CPU nothing is too slow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spt_fast.qualify.contract import Given, Measured, State, Verdict

ROOFLINE = 0.8
"""Share of a kernel's roofline that is wanted, on a GPU."""
MATRIX_RATE = 0.5
"""Share of the measured matrix rate that a training step of billions of weights is to have."""
TO_TOKENS = 0.97
"""Requests a second behind a soft prompt, to those of token prompts of the same length."""
WORTH_TIMING_S = 1e-4
"""Seconds below which a call is bound by its launch, not by the machine."""
LEFT_BYTES = 1.5 * 2**30
"""Most memory that may be taken of a GPU once a model was freed: a CUDA context, and no weights."""


def rates(found: Measured, _: Given) -> Verdict:
    """What the machine does at its best; whatever it is, it is right."""
    said = f"copy {_rate(found['copy_bytes_a_s'], 'B/s')}, matrix product {_rate(found['product_flops_a_s'], 'FLOP/s')}"
    return Verdict("good", said)


def kernel(found: Measured, given: Given) -> Verdict:
    """No further from float64 than eager PyTorch, in all cases; and near its roofline, where that is worth timing."""
    if wrong := [case for case in found["cases"] if case["worse"]]:
        return Verdict("bad", f"further from float64 than PyTorch: {wrong[0]['case']} {_errors(wrong[0]['errors'])}")
    timed = [case for case in found["cases"] if case["share_of_roofline"] is not None and _worth(case)]
    error = max(max(case["errors"]["ours"].values()) for case in found["cases"])
    said = f"right in {len(found['cases'])} cases (error {error:.1e})"
    if not timed:
        return Verdict("good", f"{said}; no share of the roofline: {_why_no_share(given)}")
    least = min(timed, key=lambda case: float(case["share_of_roofline"]))
    state = _state(least["share_of_roofline"], ROOFLINE, given)
    shares = f"{least['share_of_roofline']:.2f} of the roofline at least ({least['case']})"
    return Verdict(state, f"{said}; {shares}{_wanted(state, ROOFLINE)}")


def training(found: Measured, given: Given) -> Verdict:
    """The loss falls; and a step has its share of the matrix rate."""
    first, last = found["losses"][0], found["losses"][-1]
    finite = all(map(math.isfinite, found["losses"]))
    if not finite or not min(found["losses"][1:]) < first:  # the same rows at each step
        return Verdict("bad", f"the loss does not fall: {first:.3f}, after {len(found['losses'])} steps {last:.3f}")
    said = f"{found['model']} {found['dtype']}: {found['examples_a_second']:.1f} examples/s, loss {first:.2f} to {last:.2f}"
    said += f", {found['peak_bytes_above_the_idle_model'] / 2**30:.2f} GiB above the weights"
    share = found["share_of_matrix_rate"]
    if share is None:
        return Verdict("good", f"{said}; no share of the matrix rate: it was not measured")
    state = _state(share, MATRIX_RATE, given)
    return Verdict(state, f"{said}; {share:.2f} of the matrix rate{_wanted(state, MATRIX_RATE)}")


def engine(found: Measured, given: Given) -> Verdict:
    """The fastest ways prove equal; and behind a soft prompt it is as fast as with token prompts."""
    taken = {matter: str(way).split(" ")[0] for matter, way in found["taken"].items()}
    there = found["to_tokens"].get(taken["injection"])
    said = f"started in {found['start_s']:.0f} s; {_ways(found['tried'])}"
    if there is None:
        return Verdict("bad", f"{said}; its own way {taken['injection']} did not prove equal when it was tried again")
    said += f"; {found['requests_a_second'][taken['injection']]:.0f} requests/s, {there:.2f} of token prompts"
    plainer = [way for ways in found["tried"].values() for way, result in ways.items() if result not in ("plain", "equal")]
    state = _state(there, TO_TOKENS, given)
    return Verdict("slow" if plainer else state, said + _wanted(state, TO_TOKENS))


def in_turn(found: Measured, _: Given) -> Verdict:
    """What the trainer had is given back."""
    taken = found["taken_bytes_after_training"]
    said = f"{len(found['losses'])} steps, then an engine in {found['start_s']:.0f} s and {found['answers']} answers"
    if taken is None:
        return Verdict("good", said)
    said += f"; {taken / 2**30:.2f} GiB of the GPU were taken between them"
    return Verdict("good" if taken <= LEFT_BYTES else "slow", said)


def two(found: Measured, _: Given) -> Verdict:
    """Both have answered while the other was there."""
    each = ", ".join(f"{engine['requests_a_second']:.0f} requests/s" for engine in found["engines"])
    return Verdict("good", f"both started in {found['seconds']:.0f} s and answered at once: {each}")


def against_transformers(found: Measured, _: Given) -> Verdict:
    """As `spt-fast verify` says it."""
    return Verdict("good" if found["passed"] else "bad", str(found["said"][-1] if found["said"] else ""))


def model(found: Measured, _: Given) -> Verdict:
    """It is there."""
    return Verdict("good", f"{found['weights_bytes'] / 2**30:.2f} GiB of random weights saved")


def passed(rows: Iterable[Any]) -> bool:
    """Whether nothing is bad and nothing was left out for lack of time."""
    return all(row.state not in ("bad", "late") for row in rows)


def _state(value: float, wanted: float, given: Given) -> State:
    return "good" if value >= wanted or given.device == "cpu" else "slow"


def _worth(case: Mapping[str, Any]) -> bool:
    return float(case["share_of_roofline"]) * float(case["seconds"]["ours"]) >= WORTH_TIMING_S


def _why_no_share(given: Given) -> str:
    return "no case takes long enough" if "rates" in given.measured else "the rates of this machine were not measured"


def _wanted(state: str, value: float) -> str:
    return f" (wanted: {value:g})" if state == "slow" else ""


def _errors(errors: Mapping[str, Mapping[str, float]]) -> str:
    worst = {side: max(each.values()) for side, each in errors.items()}
    return f"({worst['ours']:.1e} against {worst['eager']:.1e})"


def _ways(tried: Mapping[str, Mapping[str, str]]) -> str:
    """`rows, short equal; forced equal`; what is not, with its reason."""
    return "; ".join(f"{matter}: {_of_a_matter(ways)}" for matter, ways in tried.items())


def _of_a_matter(ways: Mapping[str, str]) -> str:
    equal: Sequence[str] = [way for way, said in ways.items() if said == "equal"]
    others = [f"{way} not ({said})" for way, said in ways.items() if said not in ("equal", "plain")]
    return ", ".join([*([f"{', '.join(equal)} equal"] if equal else []), *others]) or "one way only"


def _rate(value: float, unit: str) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}"
