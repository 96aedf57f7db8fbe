"""What Ray's dashboard and its Prometheus endpoint show of a run."""

from __future__ import annotations

import time

from ray.util.metrics import Gauge

from spt_fast.plan import Stage
from spt_fast.worker.events import CellDone, CellFailed, Event
from spt_fast.worker.throughput import Throughput


class Metrics:
    """Gauges of a run."""

    def __init__(self, cells: int) -> None:
        """`cells`: that are to be done."""
        self._left, self._done, self._failed = cells, 0, 0
        self._pace = Throughput()
        self._cells = Gauge("spt_fast_cells", "Cells of the run", tag_keys=("state",))
        self._workers = Gauge("spt_fast_workers", "Workers that are placed")
        self._gpus = Gauge("spt_fast_gpus", "GPUs that workers hold")
        self._requests = Gauge("spt_fast_requests_per_second", "Requests that engines answer, all together")
        self._seconds = Gauge("spt_fast_seconds_left", "Expected seconds to the end")

    def take(self, stage: Stage, event: Event) -> None:
        """Count an event."""
        self._pace.take((stage.model.name, stage.worker), event, time.monotonic())
        self._done += isinstance(event, CellDone)
        self._failed += isinstance(event, CellFailed)

    def show(self, *, workers: int, gpus: float, seconds_left: float) -> None:
        """Set the gauges."""
        left = self._left - self._done - self._failed
        for state, count in (("done", self._done), ("failed", self._failed), ("left", left)):
            self._cells.set(count, tags={"state": state})
        self._workers.set(workers)
        self._gpus.set(gpus)
        self._requests.set(self._pace.per_s(time.monotonic()))
        self._seconds.set(seconds_left)
