"""Checks of `qualify.py` that compare with others: a tuning step beside PEFT's, by `training/step.py`."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.training import step
from spt_fast.qualify.checks import REPORT, gpu, package
from spt_fast.qualify.contract import Check, Given, Measured, Verdict
from spt_fast.qualify.machine import room_for

TIMES, OF_ITS_MEMORY = 2.0, 0.4
"""Wanted of a tuning step: as many times PEFT's examples a second, in this share of its memory above the weights."""


def peers() -> list[Check]:
    """Behind the checks of the package."""
    needs = (gpu, package("peft", state="absent"))
    small = Check(name="PEFT, 1B", run=measure_1b, judge=judge, mend=REPORT, needs=needs, limit_s=150, least_s=30)
    return [small, replace(small, name="PEFT, 8B", run=measure_8b, needs=(*needs, room_for(80)), limit_s=240)]


def measure_1b(_: Given) -> Measured:
    """A step of a billion weights, ours and PEFT's."""
    return _measure("1B")


def measure_8b(_: Given) -> Measured:
    """A step of eight billion weights, ours and PEFT's."""
    return _measure("8B")


def judge(found: Measured, _: Given) -> Verdict:
    """Whether both is reached."""
    times, memory = found["times_faster_than_peft"], found["memory_against_peft"]
    said = f"{times:.2f} times PEFT's examples/s in {memory:.2f} of its memory above the weights"
    return Verdict("good" if times >= TIMES and memory <= OF_ITS_MEMORY else "slow", said)


def _measure(name: str) -> Measured:
    case = replace(next(case for case in step.CUDA if case.name == name), alone=True)
    measured = step.measure(case, steps=5, warm_up=2)
    return step.summary(case, measured, step.matrix_rate(case.dtype, smoke=False))
