"""How the cells of a job are divided over its workers, so that they end together. Pure functions of the ledger."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from spt_fast.scheduling.ledger import JobEntry, WorkerEntry

LEAST_S = 2.0
"""Work of fewer seconds is not worth moving."""

_TINY = 1e-6


def divide(job: JobEntry, workers: Sequence[WorkerEntry]) -> dict[WorkerEntry, tuple[str, ...]]:
    """The cells that no worker has, divided over these workers; each begins with the longest."""
    shares: dict[WorkerEntry, list[str]] = {worker: [] for worker in workers}
    ends = [(0.0 if worker.idle else job.start_s, i) for i, worker in enumerate(workers)]
    heapq.heapify(ends)
    bundles = [(job.expected_s(bundle), bundle) for bundle in job.bundles(job.unassigned)]
    for seconds, bundle in sorted(bundles, key=lambda each: each[0], reverse=True):
        end, i = heapq.heappop(ends)
        shares[workers[i]] += bundle
        heapq.heappush(ends, (end + seconds * job.pace, i))
    return {worker: tuple(keys) for worker, keys in shares.items()}


def even_end(job: JobEntry, start_s: float, now: float, least_s: float) -> float:
    """When all would end, in seconds, if one more worker took its even part from those that end later than that.

    0: that is not worth its start.
    """
    end, workers = start_s, 1
    for left in sorted((worker.left_s(now) for worker in job.workers.values() if worker.cells), reverse=True):
        if left <= end:
            break
        end, workers = end + (left - end) / (workers + 1), workers + 1
    return end if end - start_s >= max(start_s, least_s) else 0.0


def to_move(
    job: JobEntry, start_s: float, now: float, least_s: float, *, trained: bool = False
) -> Mapping[WorkerEntry, tuple[str, ...]]:
    """The cells to be taken from each of a job's workers so that one more ends with them; empty: that is not worth it.

    Args:
        job: whose workers.
        start_s: what the newcomer has to do first.
        now: seconds.
        least_s: work of fewer seconds is not worth moving.
        trained: only cells for which nothing has to be trained.
    """
    end = even_end(job, start_s, now, least_s)
    if not end:
        return {}
    left = {worker: worker.left_s(now) for worker in job.workers.values() if worker.cells}
    found: dict[WorkerEntry, tuple[str, ...]] = {}
    moved = 0.0
    for worker in sorted(left, key=left.__getitem__, reverse=True):
        keys, seconds = _movable(worker, (left[worker] - end) / worker.pace, trained=trained)
        if keys:
            found[worker] = tuple(keys)
            moved += seconds * job.pace
    worth = moved >= max(start_s, least_s) and start_s + moved < max(left.values())
    return found if worth else {}


def _movable(worker: WorkerEntry, wanted_s: float, *, trained: bool) -> tuple[list[str], float]:
    """Movable cells of a worker that come to so many expected seconds, long and short ones alike, and their seconds.

    A worker that has only long ones left at the end of the grid keeps everybody waiting.
    """
    bundles = [(worker.job.expected_s(bundle), bundle) for bundle in worker.movable(trained=trained)]
    share = min(1.0, wanted_s / max(sum(seconds for seconds, _ in bundles), _TINY))
    keys, taken, due = list[str](), 0.0, 0.0
    for seconds, bundle in bundles:
        due += share * seconds
        if due >= seconds / 2:
            keys += bundle
            taken += seconds
            due -= seconds
    return keys, taken
