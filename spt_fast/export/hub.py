"""`.eval_results/*.yaml` of a model's repository on the Hub, to be looked at and uploaded by hand.

Numbers under a soft prompt, or under prompts of ours, are not what a leaderboard of the same benchmark lists. So a file never
holds a plain score: its name, its source and its notes say the protocol. The format: https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from spt_fast.errors import ConfigError
from spt_fast.export.source import DoneCell, Source, Written, portable
from spt_fast.storage.files import write_whole

PAPER = "https://arxiv.org/abs/2606.12117"
METRIC = "exact_match"
NOT_CARRIED = (
    "all metrics but exact match, which the notes name; standard errors, intervals and samples",
    "whether the data set is a benchmark of the Hub and lists this task: no others are taken, and task_id may need its name",
)


def write(source: Source, to: Path) -> Written:
    """Write `<model>/.eval_results/<task>@<protocol>.yaml` for models and tasks of the Hub.

    Raises:
        ConfigError: no done cell is of a model and a data set of the Hub.
        StoreError: a file is damaged, or nothing can be written there.
    """
    cells: dict[tuple[str, str, str], list[DoneCell]] = {}
    elsewhere: dict[str, None] = {}
    for cell in source.cells():
        if not source.model(cell.place.model).get("revision"):
            elsewhere[f"{cell.place.model}: is no model of the Hub"] = None
        elif source.on_hub(cell) is None:
            elsewhere[f"{cell.place.task}: its rows are no data set of the Hub"] = None
        elif METRIC in cell.metrics:
            cells.setdefault(cell.place[:3], []).append(cell)
    if not cells:
        raise ConfigError(f"--format hub: nothing can go to the Hub: {'; '.join(elsewhere) or 'no cell has an exact match'}")
    for (model, _, _), seeds in cells.items():
        name = seeds[0].name.removesuffix(f"@seed{seeds[0].place.seed}")
        text = yaml.safe_dump([_entry(source, seeds)], sort_keys=False, allow_unicode=True)
        write_whole(to / portable(model) / ".eval_results" / f"{name}.yaml", text.encode())
    return Written(count=len(cells), what="scores", not_carried=(*NOT_CARRIED, *elsewhere))


def _entry(source: Source, seeds: list[DoneCell]) -> dict[str, Any]:
    cell = seeds[0]
    hub = source.on_hub(cell)
    assert hub is not None
    protocol = cell.place.protocol
    return {
        "dataset": {
            "id": hub.id,
            "task_id": hub.config if isinstance(hub.config, str) else "default",
            "revision": hub.revision,
        },
        "value": round(100 * fmean(one.metrics[METRIC].value for one in seeds), 2),
        "date": source.ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": {"url": PAPER, "name": f"spt-fast {source.grid.get('spt_fast', '')}, protocol {protocol}"},
        "notes": _notes(cell, seeds),
    }


def _notes(cell: DoneCell, seeds: list[DoneCell]) -> str:
    settings = {name: cell.protocol[name] for name in ("shots", "length", "steps", "batch_size", "lr") if name in cell.protocol}
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
    means = [
        f"{name.replace('_', ' ')} {_percent(seeds, name)}"
        for name in ("format_following", "knowledge_best")
        if all(name in one.metrics for one in seeds)
    ]
    low, high = (100 * fmean(getattr(one.metrics[METRIC], end) for one in seeds) for end in ("ci_low", "ci_high"))
    over = f", mean over seeds {', '.join(str(one.place.seed) for one in seeds)}" if len(seeds) > 1 else ""
    tuned = " The prompt was tuned for this benchmark." if cell.step is not None else ""
    return (
        f"Protocol {cell.place.protocol}{f' ({told})' if told else ''}: exact match in percent, n = {cell.metrics[METRIC].n}, "
        f"95% interval {low:.1f} to {high:.1f}{over}; {', '.join(means)}.{tuned} Not comparable with scores of other prompts."
    )


def _percent(seeds: list[DoneCell], metric: str) -> str:
    found = [one.metrics[metric].value for one in seeds if metric in one.metrics]
    return f"{100 * fmean(found):.1f}" if found else "unknown"
