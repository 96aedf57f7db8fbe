"""lm-evaluation-harness 0.4: `<model>/results_<time>.json` and `<model>/samples_<task>_<time>.jsonl`, as it writes them.

Names of metrics are the harness's where it has one that means the same: `acc` is knowledge by cloze where the task has that
form (arc_easy, piqa and others), else by the listed options; `acc_bytes` the same per byte; `exact_match` is right
and in the form asked for. The file's time is that of the run's end: a run that went on
makes new files, and readers take the newest; an unchanged one makes the same again.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import Run
from spt_fast.export.files import growing
from spt_fast.export.source import Written, definition, done_cells, done_models, on_hub
from spt_fast.scoring.metrics import QUADRANTS, spec
from spt_fast.storage.files import write_whole
from spt_fast.types import Metric

ALIASES: Mapping[str, tuple[str, ...]] = {
    "acc": ("knowledge_cloze", "knowledge"),
    "acc_bytes": ("knowledge_cloze_per_byte", "knowledge_per_byte"),
}
"""Closed-ended tasks: the harness's name -> ours, the first that there is."""
_PARTS = ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes")
_ENGINES = {"transformers": "hf"}
_UNANSWERED = "[invalid]"
"""What the harness's filters write where nothing was extracted."""

NOT_CARRIED = (
    "confidence intervals: the harness has standard errors only",
    "the n of exact_match_given_format and letter_binding, which count only the rows that follow the format: the harness has "
    "one n a task",
    "the 2 x 2 table of format and knowledge, which the samples hold row by row",
    "metrics at the steps before the last, and the loss",
    "costs and peak memory",
    "the columns of the data set and the texts of the options: a sample's doc is the row's key, its answers and its group",
)


def write(source: Run, to: Path) -> Written:
    """Write a folder a model below `to`.

    Raises:
        StoreError: a file is damaged, or nothing can be written there.
    """
    undefined: set[str] = set()
    for model in done_models(source):
        folder = to / folder_of(model)
        written = _Results(source, model)
        for cell in done_cells(source, model):
            hashes = _write_samples(cell, written.generation(cell), folder / f"samples_{cell.name}_{written.time}.jsonl")
            written.add(cell, hashes)
            undefined |= {metric.name for metric in cell.metrics[cell.last_step]} - set(cell.last_metrics)
        text = json.dumps(written.whole(), indent=2) + "\n"
        write_whole(folder / f"results_{written.time}.json", text.encode())
    nan = [f"metrics of a cell where they are undefined ({', '.join(sorted(undefined))}): JSON has no NaN"] if undefined else []
    return Written(count=len(source), what="cells", not_carried=(*NOT_CARRIED, *nan))


def folder_of(model: str) -> str:
    """The harness's name of a model's folder."""
    name = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model)
    return f"_{name}" if set(name) <= {"."} else name


def named(metrics: Mapping[str, Any], *, closed_ended: bool | None) -> dict[str, Any]:
    """Metrics or scores under the harness's names; those of ours that it has under another are there under both."""
    there = {alias: next((name for name in ours if name in metrics), None) for alias, ours in ALIASES.items()}
    more = {alias: metrics[name] for alias, name in there.items() if closed_ended and name is not None}
    return {**metrics, **more}


class _Results:
    """What becomes results_<time>.json of one model."""

    def __init__(self, source: Run, model: str) -> None:
        self.source, self.model = source, model
        self.time = source.ended.replace(tzinfo=None).isoformat(timespec="microseconds").replace(":", "-")
        self.of_seeds: dict[str, list[RunCell]] = {}
        self.engine, self.seconds, self.chat_template = "unknown", 0.0, ""
        self.data: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}

    def generation(self, cell: RunCell) -> dict[str, Any]:
        """How completions were decoded, as far as the task's definition is at hand."""
        task = definition(cell)
        if task is None:
            return {}
        sampling = task.sampling
        return {
            "until": list(sampling.stop),
            "max_gen_toks": sampling.max_tokens,
            "do_sample": sampling.temperature > 0,
            "temperature": sampling.temperature,
        }

    def add(self, cell: RunCell, hashes: Iterable[str]) -> None:
        ours = {name: metric for name, metric in cell.last_metrics.items() if name not in QUADRANTS}
        metrics = named(ours, closed_ended=cell.closed_ended)
        n = cell.last_metrics["format_following"].n if "format_following" in cell.last_metrics else 0
        self.data["results"][cell.name] = {"name": cell.name, "alias": cell.name, "sample_len": n, **_plain(metrics)}
        self.data["configs"][cell.name] = self._config(cell, metrics)
        self.data["versions"][cell.name] = cell.task_version
        self.data["n-shot"][cell.name] = cell.shots
        self.data["higher_is_better"][cell.name] = {name: spec(name).higher_is_better for name in metrics}
        self.data["n-samples"][cell.name] = {"original": n, "effective": n}
        self.data["task_hashes"][cell.name] = _hash("".join(hashes))
        if cell.name.endswith(f"@seed{cell.seed}"):
            self.of_seeds.setdefault(cell.name.removesuffix(f"@seed{cell.seed}"), []).append(cell)
        self.engine = _ENGINES.get(cell.engine, cell.engine)
        self.seconds += sum(value for name, value in cell.costs.items() if name.endswith("_s"))
        self.chat_template = cell.provenance.get("chat_template", "")

    def _config(self, cell: RunCell, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        hub = on_hub(self.source, cell)
        data = {} if hub is None else {"dataset_path": hub.id, "dataset_kwargs": {"revision": hub.revision}}
        if hub is not None and isinstance(hub.config, str):
            data["dataset_name"] = hub.config
        if hub is not None and "test" in hub.splits:
            data["test_split"] = hub.splits["test"]
        told = [name for name in metrics if not spec(name).some_rows]
        return {
            "task": cell.name,
            **data,
            "output_type": "generate_until",
            "num_fewshot": cell.shots,
            "metric_list": [
                {"metric": name, "aggregation": "mean", "higher_is_better": spec(name).higher_is_better} for name in told
            ],
            "generation_kwargs": self.generation(cell),
            "repeats": 1,
            "should_decontaminate": False,
            "metadata": {
                "version": cell.task_version,
                "protocol": cell.protocol,
                "seed": cell.seed,
                "step": cell.last_step,
                **{name: value for name, value in cell.key_settings.items() if value is not None},
                "judge": cell.judge,
                "cell": cell.key,
                "closed_ended": cell.closed_ended,
            },
        }

    def whole(self) -> dict[str, Any]:
        model = self.source.model(self.model)
        groups = {name: self._group(name, cells) for name, cells in self.of_seeds.items()}
        name = folder_of(self.model)
        return {
            **self.data,
            # As the harness does, a group stands among the results too.
            "results": {**self.data["results"], **groups},
            **({"groups": groups} if groups else {}),
            "config": {
                "model": self.engine,
                "model_args": {"pretrained": model.get("source", self.model), "revision": model.get("revision")},
                "model_dtype": model.get("dtype"),
                "model_revision": model.get("revision") or "",
                "model_sha": model.get("fingerprint") or "",
                "batch_size": None,
                "device": None,
                "use_cache": None,
                "limit": self.source.grid.get("limit"),
                "bootstrap_iters": 0,
                "gen_kwargs": None,
            },
            "date": self.source.ended.timestamp(),
            "model_source": self.engine,
            "model_name": self.model,
            "model_name_sanitized": name,
            "system_instruction": None,
            "system_instruction_sha": None,
            "fewshot_as_multiturn": False,
            "chat_template": None,
            "chat_template_sha": self.chat_template or None,
            "total_evaluation_time_seconds": str(self.seconds),
            "spt_fast": {"version": self.source.grid.get("spt_fast"), "grid": self.source.name, "not_carried": NOT_CARRIED},
        }

    def _group(self, name: str, cells: list[RunCell]) -> dict[str, Any]:
        """The mean over seeds. They answer the same rows, so their standard errors do not pool, and none is given."""
        each = [named(cell.last_metrics, closed_ended=cell.closed_ended) for cell in cells]
        shared = [metric for metric in each[0] if metric not in QUADRANTS and all(metric in one for one in each)]
        self.data["group_subtasks"][name] = [cell.name for cell in cells]
        self.data["versions"][name] = cells[0].task_version
        self.data["n-shot"][name] = cells[0].shots
        self.data["higher_is_better"][name] = {name: spec(name).higher_is_better for name in shared}
        numbers: dict[str, Any] = {}
        for metric in shared:
            numbers[f"{metric},none"] = fmean(one[metric].value for one in each)
            numbers[f"{metric}_stderr,none"] = "N/A"
        return {"name": name, "alias": name, "sample_len": self.data["n-samples"][cells[0].name]["effective"], **numbers}


def _plain(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, metric in metrics.items():
        numbers[f"{name},none"] = metric.value
        numbers[f"{name}_stderr,none"] = metric.stderr if math.isfinite(metric.stderr) else "N/A"
    return numbers


def _write_samples(cell: RunCell, generation: Mapping[str, Any], path: Path) -> list[str]:
    """A line a row; the hashes that the task's hash is made of."""
    hashes = []
    with growing(path) as beside, open(beside, "w", encoding="ascii") as file:
        for i, row in enumerate(cell.samples()):
            sample = _sample(cell, generation, row, i)
            hashes.append(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"])
            # All but ASCII is escaped: some readers take U+2028 or U+0085 in a completion for the end of a line.
            file.write(json.dumps(sample) + "\n")
    return hashes


def _sample(cell: RunCell, generation: Mapping[str, Any], row: Mapping[str, Any], i: int) -> dict[str, Any]:
    doc = {"key": row["example"], "answers": row["answers"], "target": row["target"], "group": row.get("group") or ""}
    read = row["completion"].strip() if cell.closed_ended else row["extracted"]
    scores = named(cell.scores(row), closed_ended=cell.closed_ended)
    return {
        "doc_id": i,
        "doc": doc,
        "target": row["target"],
        "arguments": {"gen_args_0": {"arg_0": row["prompt"], "arg_1": generation}},
        "resps": [[row["completion"]]],
        "filtered_resps": [_UNANSWERED if read is None else read],
        "filter": "none",
        "metrics": list(scores),
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(row["prompt"]),
        "target_hash": _hash(row["target"]),
        **scores,
        "finish_reason": row["finish_reason"],
        "extraction_rule": row["rule"],
        # An option that the model rules out has -inf, which JSON has not.
        "option_logprobs": [value if math.isfinite(value) else None for value in row["option_logprobs"] or ()],
        "chosen_option": row["chosen"],
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
