"""MLflow, by its client: an experiment a grid, a run a cell. The door of `mlflow`.

A cell that the experiment has already is not logged again, so that the export of a growing run adds what is new.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import Run
from spt_fast.export.source import Written, done_cells
from spt_fast.export.tables import write_samples
from spt_fast.export.tracking import asking, config_of, curve, needing

CELL = "spt_fast.cell"
"""The tag that a cell's run is known by."""
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
_MOST_METRICS, _LONGEST = 1000, 500
"""What MLflow takes at once, and how long a parameter or tag may be anywhere."""

NOT_CARRIED = ("failed and waiting cells", "the report: samples.parquet of each run has the completions")


def write(source: Run, to: Path | str) -> Written:
    """Log every done cell that is not there yet.

    Args:
        source: the run folder.
        to: a folder, in which a database and artifacts are made; or the URI of a tracking server or store.

    Raises:
        ConfigError: MLflow is not installed, or refuses.
        StoreError: a file is damaged.
    """
    with needing("mlflow"):
        import mlflow
    with asking("mlflow"):
        uri, where = str(to), None
        if isinstance(to, Path):
            folder = to.absolute()
            folder.mkdir(parents=True, exist_ok=True)
            # MLflow's default beside a database is a folder of where the command was started.
            uri, where = f"sqlite:///{folder / DATABASE}", (folder / ARTIFACTS).as_uri()
        tracking = mlflow.MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", source.name)
        known = tracking.get_experiment_by_name(name)
        experiment = known.experiment_id if known else tracking.create_experiment(name, artifact_location=where)
        logged = _logged(tracking, experiment)
        count = 0
        for cell in done_cells(source):
            if cell.key not in logged:
                _log(tracking, experiment, source, cell)
                count += 1
    return Written(count=count, what="new runs", not_carried=NOT_CARRIED)


def _logged(tracking: Any, experiment: str) -> set[str]:
    """Keys of the cells that are there whole."""
    found, token = set(), None
    while True:
        page = tracking.search_runs([experiment], filter_string="attributes.status = 'FINISHED'", page_token=token)
        found |= {run.data.tags[CELL] for run in page if CELL in run.data.tags}
        token = page.token
        if not token:
            return found


def _log(tracking: Any, experiment: str, source: Run, cell: RunCell) -> None:
    from mlflow import entities

    at = int(source.ended.timestamp() * 1000)
    tags = {CELL: cell.key, "spt_fast.grid": source.name, "mlflow.source.name": "spt-fast", **cell.provenance}
    short = {name: str(value)[:_LONGEST] for name, value in tags.items() if value}
    title = f"{cell.model} {cell.name}"[:_LONGEST]
    run = tracking.create_run(experiment, tags=short, run_name=title).info.run_id
    params = [entities.Param(name, str(value)[:_LONGEST]) for name, value in config_of(cell).items() if value is not None]
    metrics = [
        entities.Metric(_name(name), value, at, step) for step, point in curve(cell).items() for name, value in point.items()
    ]
    metrics += [entities.Metric(f"cost/{_name(name)}", value, at, 0) for name, value in cell.costs.items()]
    tracking.log_batch(run, params=params)
    for first in range(0, len(metrics), _MOST_METRICS):
        tracking.log_batch(run, metrics=metrics[first : first + _MOST_METRICS])
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.parquet"
        write_samples(cell, samples)
        tracking.log_artifact(run, str(samples))
    # Last, so that a run that was cut short does not count as logged.
    tracking.set_terminated(run, status="FINISHED")


def _name(text: str) -> str:
    """MLflow takes letters, digits, and a few signs."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in "_-. /" else "_" for c in text)
