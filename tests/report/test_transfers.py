"""report.html shows what is made of soft prompts: the matrix of transfers, ensembles beside their members, LoRA beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from spt_fast.analysis.cells import RunCell
from spt_fast.report import Recorded, sections
from spt_fast.report.html import html, pack
from spt_fast.types import Metric


def cell(task: str, protocol: str, form: float, seed: int | None = 0, **more: object) -> RunCell:
    """A cell that follows the form so often and knows 0.6."""
    values: Mapping[str, float] = {"format_following": form, "knowledge": 0.6, "exact_match": form * 0.6}
    extra = more.pop("extra", {})
    assert isinstance(extra, dict)
    metrics = [
        Metric(name=name, value=value, n=50, stderr=0.05, ci_low=max(0.0, value - 0.1), ci_high=min(1.0, value + 0.1))
        for name, value in {**values, **extra}.items()
    ]
    return RunCell(model="m", task=task, protocol=protocol, seed=seed, metrics={None: metrics}, **more)  # type: ignore[arg-type]


def section(name: str, cells: list[RunCell]) -> str:
    """Of the page, with this id; empty where there is none."""
    text = html("g", sections(Recorded(name="g", cells=cells, grid={})), lambda room: pack([], [], [], room=room))
    found = re.findall(rf'<section id="{name}".*?</section>', text, re.S)
    return found[0] if found else ""


def test_a_transfer_is_a_heat_map_with_numbers_and_zero_shot_above() -> None:
    carries = {"provenance": {"soft_prompt": "k"}}
    cells = [
        *(cell(task, "zero_shot", 0.1, None) for task in ("a", "b")),
        cell("a", "soft_prompt", 0.9, **carries),
        cell("b", "transfer[from=a]", 0.4, **carries),
    ]
    text = section("transfer", cells)
    assert text.count('data-tip="learnt on a, asked b: format following 0.400, 95% interval 0.300 to 0.500, n = 50"') == 2
    assert text.count("learnt on a, asked a: format following 0.900") == 2, "the diagonal: in the figure, and in the table"
    assert text.count("learnt on zero-shot, asked b: format following 0.100") == 2
    assert {"0.10", "0.40", "0.90"} <= set(re.findall(r"<text[^>]*>([\d.]+)</text>", text)), "numbers stand in the figure"
    assert re.findall(r'<th scope="row">(.*?)</th>', text) == ["zero-shot", "a"] * 3
    assert section("controls", cells) == "", "a transfer is no column of the controls any more"
    assert section("transfer", cells[:3]) == ""


def test_an_ensemble_stands_beside_the_mean_and_the_best_of_its_members() -> None:
    measures = ("format_following", "knowledge", "exact_match")
    members = {f"{name}_member_{what}": value for name in measures for what, value in (("mean", 0.7), ("best", 0.75))}
    text = section("ensembles", [cell("a", "ensemble", 0.8, extra=members)])
    rows = re.findall(r'<th scope="row">format following</th>(.*?)</tr>', text, re.S)
    assert [re.findall(r">(\d\.\d\d) <small>", row) for row in rows] == [["0.70", "0.75", "0.80"]]
    assert section("ensembles", [cell("a", "soft_prompt", 0.8)]) == ""


def test_lora_stands_beside_soft_prompts_with_what_each_trains_and_stores() -> None:
    sizes = {"soft_prompt": (1920, 7680), "lora": (24576, 98304)}
    cells = [
        cell("a", name, 0.9, costs={"trained_parameters": float(trained), "stored_bytes": float(stored)})
        for name, (trained, stored) in sizes.items()
    ]
    text = section("lora", cells)
    assert [re.findall(r"<td>([\d,]+)</td>", row) for row in re.findall(r'<tr><th scope="row">.*?</tr>', text, re.S)] == [
        ["1,920", "7,680"],
        ["24,576", "98,304"],
    ]
    assert section("lora", cells[:1]) == ""
