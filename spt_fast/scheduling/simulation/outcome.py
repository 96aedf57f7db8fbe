"""What a simulated run came to, and what no schedule can beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spt_fast.scheduling.messages import Job


@dataclass(kw_only=True)
class Outcome:
    """What a simulated run came to."""

    seconds: float = 0.0
    """From the first start to the end of the last worker."""
    gpu_s: float = 0.0
    """GPU-seconds for which workers held their GPUs."""
    useful_gpu_s: float = 0.0
    """GPU-seconds of training and evaluation whose result came, stragglers' at their own pace."""
    capacity_gpu_s: float = 0.0
    """GPU-seconds for which GPUs were there."""
    starts: int = 0
    moved: int = 0
    """Cells that went from one worker to another before they were begun."""
    lost_workers: int = 0
    lost_nodes: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Cell -> why."""
    waits: dict[str, str] = field(default_factory=dict)
    """Job -> what it waited for."""
    ended: dict[str, int] = field(default_factory=dict)
    """Cell -> how often its result came."""
    in_vain: dict[str, int] = field(default_factory=dict)
    """Cell -> how often a worker was lost that had it in flight, or had done it without the news having come."""
    done: dict[str, int] = field(default_factory=dict)
    """Cell -> how often a worker did it, whether its result came or not."""
    waited: int = 0
    """Workers that were started on a node that had no room for them."""
    observations: int = 0
    """What the scheduler was told."""


def lower_bound(jobs: Sequence[Job], gpus: float) -> float:
    """No schedule is shorter, in seconds: all work shared evenly, or the longest chain of load, train and evaluate of one cell.

    Args:
        jobs: whose workers each take a number of GPUs.
        gpus: how many there are.
    """
    work = chain = 0.0
    for job in jobs:
        seconds = job.start_s if job.pieces else 0.0
        groups = set[str]()
        for piece in job.pieces:
            train_s = 0.0 if piece.group is None else piece.train_s
            seconds += piece.answer_s + (train_s if piece.group not in groups else 0.0)
            chain = max(chain, job.start_s + train_s + piece.answer_s)
            if piece.group is not None:
                groups.add(piece.group)
        work += seconds * job.need.get("GPU", 0.0)
    return max(work / gpus, chain)
