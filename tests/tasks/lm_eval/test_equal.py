"""Equal to `lm_eval` itself, which runs in a process of its own on the same rows and weights: the kinds that differ most.

The whole list is benchmarks/lm_eval/.
"""

from __future__ import annotations

import pytest

from benchmarks.lm_eval.equal import Counts, run
from benchmarks.lm_eval.parts.cases import CASES
from spt_fast.config import ModelConfig
from spt_fast.models.identity import resolve

pytestmark = pytest.mark.slow

KINDS = ("mmlu_anatomy", "winogrande", "brier.yaml", "prefix.yaml", "lambada_openai")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Counts]:
    """Both sides of all kinds, on a model of the zoo."""
    folder = tmp_path_factory.mktemp("equal")
    (model,) = resolve(ModelConfig(id="zoo/base-95"))
    cases = [case for case in CASES if case.task in KINDS]
    return run(model.source, cases, folder, engine={"kind": "transformers"}, rows=4)


@pytest.mark.parametrize("task", KINDS)
def test_every_sample_is_equal(found: dict[tuple[str, int], Counts], task: str) -> None:
    """Prompts byte for byte, likelihoods, completions, metrics of rows and over all rows; zero-shot and few-shot."""
    mine = {shots: counts for (name, shots), counts in found.items() if name == task}
    assert len(mine) == 2
    for counts in mine.values():
        assert counts.notes == []
        assert counts.equal, counts
