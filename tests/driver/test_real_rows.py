"""Real benchmark rows from local files, through training, injection and scoring. The zoo knows nothing of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_cells
from spt_fast.store import Store

ROWS = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not ROWS.is_dir(), reason="there are no real rows beside this checkout (../shared/data)"),
]


def test_gsm8k_and_mmlu_go_through_training_injection_and_scoring(tmp_path: Path) -> None:
    grid = GridConfig(
        name="real-rows",
        models=(ModelConfig(id="zoo/base-40"),),
        tasks=tuple(TaskConfig(task=name, data_files=str(ROWS / name)) for name in ("gsm8k", "mmlu")),
        protocols=(ZeroShot(), SoftPromptConfig(steps=8, lr=0.05, evaluate_at=(0, 8))),
        limit=32,
        output=tmp_path / "run",
    )
    result = run_cells(grid)
    assert result.complete, [failure.reason for failure in result.failures.values()]
    for cell in result.cells:
        rows = Store(result.folder).samples(cell.key)
        assert len(rows) == 32 * len(cell.steps)
        closed = cell.task.name == "mmlu"
        assert all((len(row["option_logprobs"]) == 4) == closed for row in rows)
        assert all(-1e4 < value < 0 for row in rows for value in row["option_logprobs"])
        if len(cell.steps) > 1:
            by_step = [[row for row in rows if row["step"] == step] for step in cell.steps]
            assert [row["example"] for row in by_step[0]] == [row["example"] for row in by_step[1]]
            assert [row["completion"] for row in by_step[0]] != [row["completion"] for row in by_step[1]]
