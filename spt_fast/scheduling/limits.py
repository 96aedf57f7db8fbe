"""How long a worker, or the wait for a node, may take before the scheduler gives it up."""

from __future__ import annotations

from dataclasses import dataclass

from spt_fast.engine.base import READY_S
from spt_fast.scheduling.balance import LEAST_S
from spt_fast.scheduling.ledger import WorkerEntry

PATIENCE = 10.0
"""A worker that evaluates may be quiet for so many times what its cell should take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How patient a scheduler is."""

    attempts: int = 3
    """A cell that was in flight in so many lost workers is what they were lost to: it fails."""
    silent_s: float = 60.0
    """A worker that has not answered for so long is killed: its node is gone, or cut off."""
    stalled_s: float = READY_S + 600.0
    """A worker that answers, and has had nothing to tell for so long, hangs. Loading and compiling a large model takes a
    while, and an engine that is not ready in its time says itself what it waited for."""
    quiet_s: float = 300.0
    """A worker that evaluates has an engine open and tells of every few answers: it hangs sooner, after so long and
    `PATIENCE` times what its cell should take."""
    node_wait_s: float = 3600.0
    """So long a job waits for a node that could hold it at all. An autoscaler may take a while to find one."""
    ahead: int = 2
    """Workers that may wait for room beyond those that fit: by them an autoscaler sees what is wanted."""
    least_s: float = LEAST_S
    """Work of fewer seconds is not worth moving."""


LIMITS = Limits()
"""Unless somebody says otherwise."""


def why_dead(worker: WorkerEntry, limits: Limits, now: float) -> str:
    """Why a worker is to be killed: it is silent, or hangs; empty: it lives."""
    silent_s, still_s = now - worker.heard, now - worker.progressed
    if not worker.placed:
        waits = worker.floating or still_s <= limits.stalled_s
        return "" if waits else f"its node has had no room for {limits.stalled_s:.0f} s"
    if silent_s > limits.silent_s:
        return f"it has been silent for {limits.silent_s:.0f} s"
    if worker.released and still_s > limits.silent_s:
        return f"it has not ended within {limits.silent_s:.0f} s"
    if still_s > (patience_s := _patience_s(worker, limits)):
        return f"nothing has happened for {patience_s:.0f} s"
    return ""


def _patience_s(worker: WorkerEntry, limits: Limits) -> float:
    """How long a worker may have nothing to tell."""
    if not worker.evaluating:
        return limits.stalled_s
    return min(limits.stalled_s, max(limits.quiet_s, PATIENCE * worker.doing_s * worker.pace))
