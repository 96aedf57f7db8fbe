"""Weights & Biases, by its client: a project a grid, a run a model. The door of `wandb`.

The client's own settings hold (WANDB_MODE=offline, WANDB_PROJECT, WANDB_ENTITY, ...). Each export makes new runs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import Run
from spt_fast.export.source import Written, done_cells, done_models
from spt_fast.export.tables import RESULTS, results_of, write_samples
from spt_fast.export.tracking import asking, config_of, curve, needing

STEP = "tuning_step"
"""The horizontal axis of all curves."""
_NOT_OF_THIS_MACHINE = {
    **dict.fromkeys(("x_disable_stats", "x_disable_meta", "disable_git", "disable_code"), True),
    "x_save_requirements": False,
}
"""What the client would tell of the process that exports: the run was elsewhere, and is over."""
NOT_CARRIED = (
    "failed and waiting cells",
    "completions as a table: they are in the run's artifact, a Parquet file a cell",
)


def write(source: Run, to: Path) -> Written:
    """Log a run a model.

    Args:
        source: the run folder.
        to: where the client keeps its files; what it could not send can be synced from there.

    Raises:
        ConfigError: wandb is not installed, or refuses: nobody is logged in.
        StoreError: a file is damaged.
    """
    with needing("wandb"):
        import wandb  # noqa: F401  (whether it is there)
    to.mkdir(parents=True, exist_ok=True)
    with asking("wandb"):
        for model in done_models(source):
            _log(source, model, to)
    return Written(count=len(done_models(source)), what="runs", not_carried=NOT_CARRIED)


def _log(source: Run, model: str, to: Path) -> None:
    import wandb

    about = source.model(model)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or re.sub(r"[/\\#?%:]", "-", source.name)[:128],
        name=model,
        group=source.name,
        job_type="spt-fast",
        dir=str(to),
        config={"model": model, "revision": about.get("revision"), "fingerprint": about.get("fingerprint")},
        settings=wandb.Settings(silent=True, console="off", **_NOT_OF_THIS_MACHINE),
    )
    try:
        table = wandb.Table(columns=list(RESULTS))
        artifact = wandb.Artifact(f"samples-{re.sub(r'[^A-Za-z0-9_.-]', '-', model)}"[:128], type="samples")
        history: dict[int, dict[str, float]] = {}
        for cell in done_cells(source, model):
            run.config.update({cell.name: {**config_of(cell), "cell": cell.key, **cell.provenance}})
            for row in results_of(cell, None):
                table.add_data(*(row[name] for name in RESULTS))
            for step, point in curve(cell).items():
                history.setdefault(step, {}).update({f"{cell.name}/{name}": value for name, value in point.items()})
            run.summary.update(_last(cell))
            file = to / f"{cell.key}.parquet"
            write_samples(cell, file)
            artifact.add_file(str(file), name=f"{cell.name}.parquet", skip_cache=True)
            file.unlink()
        run.define_metric("*", step_metric=STEP, step_sync=False)
        for step, point in sorted(history.items()):
            run.log({STEP: step, **point})
        run.log({"results": table})
        run.log_artifact(artifact)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _last(cell: RunCell) -> dict[str, Any]:
    """The numbers of the last step, and the costs."""
    found: dict[str, Any] = {f"{cell.name}/cost/{name}": value for name, value in cell.costs.items()}
    for name, metric in cell.last_metrics.items():
        found |= {f"{cell.name}/{name}": metric.value}
    return found
