"""The page of results and the table of docs/speed.md: made from the result files, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import page
from benchmarks.harness import RESULTS, ROOT
from benchmarks.real import real

ABOUT = {
    "date": "2026-11-21T09:17:01+00:00",
    "command": "python benchmarks/grid/grid.py --save",
    "commit": "5050a300747e0594a54e74ff45efc0e80801f877+changes",
    "hardware": {"cpu": "AMD EPYC", "cores": 2, "gpu": None},
    "versions": {"python": "3.11.7"},
}


def ratio(what: str, value: float, **target: float) -> dict[str, Any]:
    return {"what": what, "against": "a <script>", "value": value, "at_least": None, "at_most": None, **target}


@pytest.fixture
def results(tmp_path: Path) -> list[page.Result]:
    """One result of a CPU and one of a GPU, as files."""
    timings = [{"case": "one", "side": "ours", "unit": "s", "median": 2.0, "q1": 1.5, "q3": 2.5, "n": 3}]
    ratios = [ratio("grid, time", 12.34, at_least=5), ratio("memory", 0.5, at_most=0.4), ratio("night, hours", 1.05)]
    for device, hardware in (("h200", {"gpu": "NVIDIA H200"}), ("cpu", {})):
        (tmp_path / device).mkdir()
        earlier = [{"ratios": [ratio("grid, time", value), ratio("another grid", 99.0)]} for value in (8.5, 14.0)]
        written = {
            **ABOUT,
            "earlier": earlier,
            "hardware": {**ABOUT["hardware"], **hardware},
            "ratios": ratios,
            "timings": timings,
            "result": {},
        }
        (tmp_path / device / "grid.json").write_text(json.dumps(written))
    return page.read(tmp_path)


def test_the_table_has_what_has_a_target_and_says_what_was_missed(results: list[page.Result]) -> None:
    lines = page.table(results).splitlines()
    assert lines[2:4] == [
        "| grid, time | a <script> | 12.3 | 8.50 to 14.0, 3 | at least 5 | 2 cores, AMD EPYC, 5050a30* |",
        "| memory | a <script> | 0.50 |  | at most 0.4: missed | 2 cores, AMD EPYC, 5050a30* |",
    ]
    assert [line.split("|")[6].strip() for line in lines[4:]] == ["NVIDIA H200, 5050a30*"] * 2


def test_the_page_draws_ratios_and_timings_and_escapes_what_it_is_told(results: list[page.Result]) -> None:
    made = page.page(results)
    assert "<script>" not in made
    figures = [part.split("</svg>")[0] for part in made.split("<svg")[1:]]
    assert len(figures) == 4  # ratios and timings of two devices
    for figure in figures:
        ElementTree.fromstring(f"<svg{figure}</svg>")
    assert "grid, time" in figures[0]
    assert "one: ours" in figures[1]
    assert made.count("at most 0.4: missed") == 2
    assert "python benchmarks/grid/grid.py --save" in made


def test_the_page_about_speed_has_the_table_of_the_result_files() -> None:
    text = page.PAGE.read_text()
    assert page.with_table(text, page.table(page.read(RESULTS))) == text, "python benchmarks/page.py"


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(SystemExit, match="has no place for the table"):
        page.with_table("# A title", "| a |")


def test_a_file_that_no_benchmark_wrote_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "x.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"cpu/x.json: says nothing of hardware"):
        page.read(tmp_path)


@pytest.mark.parametrize(
    ("value", "said"), [(0.97, "0.97"), (3.123, "3.12"), (24.27, "24.3"), (120.4, "120"), (0.0123, "0.012")]
)
def test_a_number_has_the_digits_that_say_something(value: float, said: str) -> None:
    assert page.number(value) == said


@pytest.mark.parametrize(
    ("file", "name", "made"),
    [
        ("README.md", "real table", real.table),
        ("docs/real.md", "real table", real.intervals),
        ("docs/real.md", "step table", real.by_step),
        ("docs/real.md", "seed table", real.by_seed),
        ("docs/real.md", "label table", real.by_labels),
        ("docs/real.md", "claims", real.claims),
        ("docs/real.md", "beside examples", real.beside_examples),
    ],
)
def test_the_tables_of_real_models_are_those_of_the_result_file(file: str, name: str, made: Callable[[Any], str]) -> None:
    _, _, behind = (ROOT / file).read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    shown = behind.partition(f"\n<!-- /{name} -->")[0]
    assert len(shown.splitlines()) >= 4
    result = json.loads((RESULTS / "cpu" / "real.json").read_text())["result"]
    assert shown == made(result), "python benchmarks/real/real.py --pages"


def test_a_claim_says_in_how_many_pairs_it_holds_and_where_it_does_not() -> None:
    def cell(task: str, protocol: str, form: float, knows: float, exact: float) -> dict[str, Any]:
        values = {"format_following": form, "knowledge_best": knows, "exact_match": exact}
        metrics = {name: {"value": value, "low": value, "high": value, "n": 10} for name, value in values.items()}
        return {"model": "m", "task": task, "protocol": protocol, "step": None, "metrics": metrics, "knowledge_by": None}

    cells = [
        cell(task, protocol, 1.0 if protocol == "soft_prompt" and task == "a" else 0.4, 0.5, {"a": 0.5, "b": 0.1}[task])
        for task in ("a", "b")
        for protocol in real.PROTOCOLS
    ]
    change = {"model": "m", "before": "zero_shot", "after": "soft_prompt", "metric": "knowledge_best", "change": -0.2}
    changes = [{**change, "task": "a", "low": -0.3, "high": 0.1}, {**change, "task": "b", "low": -0.3, "high": -0.1}]
    _, _, form, knowledge, exact, _ = real.claims({"cells": cells, "changes": changes}).splitlines()
    assert form.endswith("in 1 of 2 model-task pairs, least 0.40; few-shot in 0, zero-shot in 0 | shown in 1 of 2 |")
    assert knowledge.endswith("in 1 of 2; not in `m` b -0.20 (-0.30 to -0.10); median half-width 0.20 | a change is seen |")
    assert exact.endswith("95 % interval without 0 (not corrected), in 0 of 2 | the order is another; not beyond chance |")


def test_where_worked_examples_come_further_is_told_with_both_numbers() -> None:
    def cell(task: str, protocol: str, form: float, exact: float) -> dict[str, Any]:
        values = {"format_following": form, "exact_match": exact}
        metrics = {name: {"value": value, "low": value, "high": value, "n": 10} for name, value in values.items()}
        return {"model": "m", "task": task, "protocol": protocol, "step": None, "metrics": metrics, "knowledge_by": None}

    near = [cell("a", "few_shot", 0.99, 0.4), cell("a", "soft_prompt", 0.97, 0.5)]
    far = [cell("b", "few_shot", 0.99, 0.4), cell("b", "soft_prompt", 0.9, 0.5)]
    _, _, *lines = real.beside_examples({"cells": [*near, *far, cell("c", "few_shot", 1.0, 1.0)]}).splitlines()
    assert lines == ["| format | 1 of 2 | `m` b 0.90, few-shot 0.99 |", "| exact match | 2 of 2 |  |"]


def test_soft_prompts_are_told_by_step_and_beside_shuffled_labels_a_number_a_seed() -> None:
    def cell(model: str, protocol: str, seed: int, step: int, value: float) -> dict[str, Any]:
        metrics = {name: {"value": value} for name in real.SHOWN}
        return {"model": model, "task": "a", "protocol": protocol, "seed": seed, "step": step, "metrics": metrics}

    curve = [cell("m", "soft_prompt", seed, step, 0.1 * seed + step / 100) for seed in (0, 1) for step in (0, 20, 80)]
    shuffled = [cell("m", "shuffled_labels", seed, 80, 0.3 + seed / 10) for seed in (0, 1)]
    without_a_curve = cell("n", "soft_prompt", 0, 80, 0.5)
    cells = {"cells": [*curve, *shuffled, without_a_curve]}
    head, _, *lines = real.by_step(cells).splitlines()
    assert head == "| model | task | | step 0 | step 20 | step 80 |"
    assert lines == [f"| `m` | `a` | {name} | 0.00, 0.10 | 0.20, 0.30 | 0.80, 0.90 |" for name in real.SHOWN.values()]
    _, _, *beside = real.by_labels(cells).splitlines()
    assert beside == [f"| `m` | `a` {'| 0.80, 0.90 | 0.30, 0.40 ' * 3}|"]


def test_several_seeds_are_told_one_by_one_at_the_last_step_and_tasks_in_their_order() -> None:
    def cell(task: str, protocol: str, seed: int, step: int | None, value: float) -> dict[str, Any]:
        metrics = {name: {"value": value} for name in real.SHOWN}
        return {"model": "m", "task": task, "protocol": protocol, "seed": seed, "step": step, "metrics": metrics}

    several = [
        made
        for task in ("squad", "piqa")
        for seed in (0, 1)
        for made in (
            cell(task, "few_shot", seed, None, 0.1 + seed / 10),
            cell(task, "soft_prompt", seed, 20, 0.5),
            cell(task, "soft_prompt", seed, 80, 0.3 + seed / 10),
        )
    ]
    _, _, *lines = real.by_seed({"cells": [cell("gsm8k", "soft_prompt", 0, 80, 0.9), *several]}).splitlines()
    assert lines == [f"| `m` | `{task}` | 0.10, 0.20 | 0.10, 0.20 | 0.30, 0.40 | 0.30, 0.40 |" for task in ("piqa", "squad")]


def test_what_is_run_anew_takes_the_place_of_the_same_protocol_and_its_changes() -> None:
    def result(rows: int, cells: Sequence[tuple[str, str, str]], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        return {
            "cells": [{"model": model, "task": task, "protocol": name, "rows": rows} for model, task, name in cells],
            "changes": [{"model": "m", "task": "a", "before": one, "after": other, "rows": rows} for one, other in pairs],
            "metrics": real.METRICS,
            "failed": {},
        }

    own = [("m", "a", "zero_shot"), ("m", "a", "soft_prompt"), ("m", "b", "zero_shot")]
    before = result(60, [*own, ("n", "a", "soft_prompt")], [("zero_shot", "few_shot"), ("few_shot", "soft_prompt")])
    after = result(200, [("m", "a", "shuffled_labels"), ("m", "a", "soft_prompt")], [("soft_prompt", "shuffled_labels")])
    made = real.merged(before, after)
    assert [(cell["model"], cell["task"], cell["protocol"], cell["rows"]) for cell in made["cells"]] == [
        ("m", "a", "zero_shot", 60),
        ("m", "b", "zero_shot", 60),
        ("m", "a", "shuffled_labels", 200),
        ("m", "a", "soft_prompt", 200),
        ("n", "a", "soft_prompt", 60),
    ]
    assert [(each["before"], each["after"], each["rows"]) for each in made["changes"]] == [
        ("zero_shot", "few_shot", 60),
        ("soft_prompt", "shuffled_labels", 200),
    ]


def test_a_figure_of_real_models_keeps_a_place_for_what_was_not_run() -> None:
    cells = [
        {
            "model": model,
            "task": task,
            "protocol": "zero_shot",
            "step": None,
            "metrics": {name: {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10} for name in real.SHOWN},
            "knowledge_by": None,
        }
        for model, task in [("one", "piqa"), ("one", "squad"), ("two", "squad")]
    ]
    drawn = ElementTree.fromstring(real.figure({"cells": cells}))
    labels = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert labels.count("zero_shot") == 2  # an axis below each task
    assert {"one", "two", "piqa", "squad"} <= set(labels)
