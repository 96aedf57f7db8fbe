"""The matrix of transfers: learnt on one task, asked another, beside the task's own soft prompt and the model by itself."""

from __future__ import annotations

import pytest

from spt_fast.analysis.cells import RunCell
from spt_fast.report import transfer_matrices
from spt_fast.scoring.statistics import proportion
from tests.helpers.reports import markdown


def cell(task: str, protocol: str, hits: int, *, seed: int | None = 0, vectors: str = "", model: str = "m") -> RunCell:
    """10 rows, of which so many follow the form and are known."""
    verdicts = [i < hits for i in range(10)]
    step = None if protocol == "zero_shot" else 80
    metrics = {step: tuple(proportion(name, verdicts) for name in ("format_following", "knowledge", "exact_match"))}
    return RunCell(
        model=model,
        task=task,
        protocol=protocol,
        seed=seed,
        metrics=metrics,
        provenance={"soft_prompt": vectors} if vectors else {},
    )


CELLS = [
    cell("a", "zero_shot", 1, seed=None),
    cell("a", "soft_prompt[length=5]", 7, vectors="a5"),
    cell("a", "soft_prompt[length=10]", 9, vectors="a10"),
    cell("a", "transfer[from=b]", 4, vectors="b10"),
    cell("b", "zero_shot", 2, seed=None),
    cell("b", "soft_prompt[length=10]", 8, vectors="b10"),
    cell("b", "soft_prompt[length=10]", 10, seed=1, vectors="b10 of seed 1"),
    cell("b", "transfer[from=a]", 6, vectors="a10"),
    cell("b", "transfer[from=elsewhere]", 5, vectors="e"),
]


def test_the_matrix_has_every_soft_prompt_on_every_task_with_its_own_on_the_diagonal() -> None:
    (matrix,) = transfer_matrices(CELLS)
    assert (matrix.model, matrix.settings) == ("m", "")
    assert matrix.sources == ("a", "b", "elsewhere")
    assert matrix.targets == ("a", "b")
    found = {(each.learnt_on, each.asked): each for each in matrix.values("knowledge")}
    assert {place: each.shown.value for place, each in found.items()} == pytest.approx(
        {
            ("zero_shot", "a"): 0.1,
            ("zero_shot", "b"): 0.2,
            ("a", "a"): 0.9,  # the one whose vectors are moved, not that of another length
            ("a", "b"): 0.6,
            ("b", "a"): 0.4,
            ("b", "b"): 0.9,  # two seeds
            ("elsewhere", "b"): 0.5,
        }
    )
    assert found["b", "b"].n == (10, 10)
    assert found["a", "b"].n == (10,)
    assert found["a", "b"].shown.low < 0.6 < found["a", "b"].shown.high


def test_transfers_of_other_settings_are_a_matrix_of_their_own_and_other_models_too() -> None:
    short = [cell("b", "transfer[from=a,length=5]", 3, vectors="a5"), cell("a", "transfer[from=b]", 2, model="n")]
    matrices = {(each.model, each.settings): each for each in transfer_matrices([*CELLS, *short])}
    assert set(matrices) == {("m", ""), ("m", "length=5"), ("n", "")}
    other = matrices["m", "length=5"].at("a", "a", "knowledge")
    assert other is not None
    assert other.shown.value == 0.7
    assert matrices["n", ""].at("zero_shot", "a", "knowledge") is None


def test_a_grid_without_transfers_has_no_matrix() -> None:
    assert transfer_matrices(CELLS[:3]) == []


def test_the_report_has_the_matrix_as_a_table() -> None:
    text = markdown(CELLS)
    assert "| metric | learnt on | asked a | asked b |" in text
    assert "| knowledge | zero-shot | 0.10 (0.02\u20130.40) | 0.20 (0.06\u20130.51) |" in text
    assert "| format following | `elsewhere` | \u2013 | 0.50 (0.24\u20130.76) |" in text
    assert "learnt on" not in markdown(CELLS[:3])
