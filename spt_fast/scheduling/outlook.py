"""How long a grid would take, before it is run: the scheduler at work on made-up time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spt_fast.plan import Stage
from spt_fast.scheduling.estimates import Estimates
from spt_fast.scheduling.jobs import jobs
from spt_fast.scheduling.messages import Resources
from spt_fast.scheduling.simulation import simulate


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a grid is expected to take."""

    seconds: float
    """To its end."""
    gpu_hours: float
    """For which its workers hold GPUs; 0 on a CPU."""
    worker_hours: float
    """Of its workers, whatever they run on; on GPUs of a cluster, as if there were one a model."""
    impossible: tuple[str, ...] = ()
    """What keeps stages from being run at all, a sentence each."""


def on_one_machine(stages: Sequence[Stage], estimates: Estimates, *, gpu: bool) -> Expected:
    """One model after the other."""
    seconds = [estimates.stage(stage).total_s for stage in stages]
    hours = sum(each * stage.model.gpus for each, stage in zip(seconds, stages, strict=True)) / 3600
    return Expected(seconds=sum(seconds), gpu_hours=hours if gpu else 0.0, worker_hours=sum(seconds) / 3600)


def expected(stages: Sequence[Stage], estimates: Estimates, nodes: Mapping[str, Resources] | None, *, gpu: bool) -> Expected:
    """On nodes where several models are worked on at once; or, None, on this machine, one model after the other.

    Args:
        stages: what is to be done.
        estimates: of how long it takes.
        nodes: node -> its CPUs and GPUs.
        gpu: whether workers take GPUs.
    """
    return on_one_machine(stages, estimates, gpu=gpu) if nodes is None else on_cluster(stages, estimates, nodes, gpu=gpu)


def on_cluster(stages: Sequence[Stage], estimates: Estimates, nodes: Mapping[str, Resources], *, gpu: bool) -> Expected:
    """On nodes, as the scheduler would divide the stages.

    Args:
        stages: what is to be done.
        estimates: of how long it takes.
        nodes: node -> its CPUs and GPUs.
        gpu: whether workers take GPUs.
    """
    outcome = simulate(list(jobs(stages, estimates, gpu=gpu).values()), nodes)
    impossible = tuple(f"{name.partition(' ')[2]}: {reason}" for name, reason in outcome.waits.items())
    hours = sum(estimates.stage(stage).total_s for stage in stages) / 3600
    return Expected(seconds=outcome.seconds, gpu_hours=outcome.gpu_s / 3600, worker_hours=hours, impossible=impossible)


def nodes_of_eight(count: int) -> Mapping[str, Resources]:
    """A cluster of so many GPUs, eight to a node."""
    return {f"node {i}": {"GPU": 8.0, "CPU": 64.0} for i in range(count // 8)}
