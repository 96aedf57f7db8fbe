"""`.eval_results/*.yaml` of a model's repository on the Hub, to be looked at and uploaded by hand.

Numbers under a soft prompt, or under prompts of ours, are not what a leaderboard of the same benchmark lists. So a file never
holds a plain score: its name, its source and its notes say the protocol. The format: https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.names import portable
from spt_fast.analysis.runs import Run
from spt_fast.errors import ConfigError
from spt_fast.export.source import Written, done_cells, on_hub
from spt_fast.scoring.metrics import EXACT_MATCH, FORMAT, KNOWLEDGE, spec
from spt_fast.storage.files import write_whole

PAPER = "https://arxiv.org/abs/2606.12117"
METRIC = EXACT_MATCH
NOT_CARRIED = (
    "all metrics but exact match, which the notes name; standard errors, intervals and samples",
    "whether the data set is a benchmark of the Hub and lists this task: no others are taken, and task_id may need its name",
)


def write(source: Run, to: Path) -> Written:
    """Write `<model>/.eval_results/<task>@<protocol>.yaml` for models and tasks of the Hub.

    Raises:
        ConfigError: no done cell is of a model and a data set of the Hub.
        StoreError: a file is damaged, or nothing can be written there.
    """
    cells: dict[tuple[str, str, str], list[RunCell]] = {}
    elsewhere: dict[str, None] = {}
    for cell in done_cells(source):
        if not source.model(cell.model).get("revision"):
            elsewhere[f"{cell.model}: is no model of the Hub"] = None
        elif on_hub(source, cell) is None:
            elsewhere[f"{cell.task}: its rows are no data set of the Hub"] = None
        elif METRIC in cell.last_metrics:
            cells.setdefault(cell.place[:3], []).append(cell)
    if not cells:
        raise ConfigError(f"--format hub: nothing can go to the Hub: {'; '.join(elsewhere) or 'no cell has an exact match'}")
    for (model, _, _), seeds in cells.items():
        name = seeds[0].name.removesuffix(f"@seed{seeds[0].place.seed}")
        text = yaml.safe_dump([_entry(source, seeds)], sort_keys=False, allow_unicode=True)
        write_whole(to / portable(model) / ".eval_results" / f"{name}.yaml", text.encode())
    return Written(count=len(cells), what="scores", not_carried=(*NOT_CARRIED, *elsewhere))


def _entry(source: Run, seeds: list[RunCell]) -> dict[str, Any]:
    cell = seeds[0]
    hub = on_hub(source, cell)
    assert hub is not None
    protocol = cell.protocol
    return {
        "dataset": {
            "id": hub.id,
            "task_id": hub.config if isinstance(hub.config, str) else "default",
            "revision": hub.revision,
        },
        "value": round(100 * fmean(one.last_metrics[METRIC].value for one in seeds), 2),
        "date": source.ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": {"url": PAPER, "name": f"spt-fast {source.grid.get('spt_fast', '')}, protocol {protocol}"},
        "notes": _notes(cell, seeds),
    }


def _notes(cell: RunCell, seeds: list[RunCell]) -> str:
    settings = {
        name: cell.key_settings[name] for name in ("shots", "length", "steps", "batch_size", "lr") if name in cell.key_settings
    }
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
    means = [
        f"{spec(name).words} {_percent(seeds, name)}"
        for name in (FORMAT, KNOWLEDGE)
        if all(name in one.last_metrics for one in seeds)
    ]
    low, high = (100 * fmean(getattr(one.last_metrics[METRIC], end) for one in seeds) for end in ("ci_low", "ci_high"))
    over = f", mean over seeds {', '.join(str(one.place.seed) for one in seeds)}" if len(seeds) > 1 else ""
    tuned = " The prompt was tuned for this benchmark." if cell.last_step is not None else ""
    return (
        f"Protocol {cell.protocol}{f' ({told})' if told else ''}: exact match in percent, n = {cell.last_metrics[METRIC].n}, "
        f"95% interval {low:.1f} to {high:.1f}{over}; {', '.join(means)}.{tuned} Not comparable with scores of other prompts."
    )


def _percent(seeds: list[RunCell], metric: str) -> str:
    found = [one.last_metrics[metric].value for one in seeds if metric in one.last_metrics]
    return f"{100 * fmean(found):.1f}" if found else "unknown"
