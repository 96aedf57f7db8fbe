"""Cloze scores beside those of lm-evaluation-harness's own task files, on the same rows, item by item.

The harness reads its own `arc_easy` and `piqa` (prompt, choices, metrics), with rows of ../shared/data in place of the Hub's;
ours go the way of a grid.

Its `acc_norm` is per character (0.4.13), ours per byte: the same where a row is ASCII.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from spt_fast import tasks
from spt_fast.config import ZeroShot
from spt_fast.models.identity import Model
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.tasks.rows import load_rows
from spt_fast.types import Sample
from spt_fast.worker.events import CellDone, CellFailed, Event
from spt_fast.worker.stage import run_stage
from tests.helpers.tiny import byte_tokenizer, tiny_model

pytestmark = pytest.mark.slow

REAL_ROWS = Path(__file__).parents[3] / "shared" / "data"
FILES = {"arc_easy": ("arc_easy/test.jsonl", "arc/arc_easy.yaml"), "piqa": ("piqa/validation.jsonl", "piqa/piqa.yaml")}
ROWS = 20
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    folder = tmp_path_factory.mktemp("cloze") / "tiny"
    return tiny_model(folder, hidden_size=64, vocab=768, positions=2048, tokenizer=byte_tokenizer(), **ids)


def rows_of(name: str) -> list[dict[str, Any]]:
    """Short rows; among PIQA's some with two blanks in a row or one at the end."""
    file = REAL_ROWS / FILES[name][0]
    if not file.is_file():
        pytest.skip("there are no real rows beside this checkout (../shared/data)")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    short = [row for row in rows if len(json.dumps(row)) < 600]
    odd = [row for row in short if name == "piqa" and any(row[s] != " ".join(row[s].split()) for s in ("sol1", "sol2"))]
    return [*odd[:5], *[row for row in short if row not in odd[:5]]][:ROWS]


def theirs_of(name: str, file: Path, model: Path) -> list[dict[str, Any]]:
    """The harness's logged samples."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    config = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks" / FILES[name][1]).read_text())
    config |= {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(file.parent / "cache")},
        "test_split": "test",
    }
    for key in ("tag", "dataset_name", "training_split", "validation_split"):
        config.pop(key, None)
    config["metric_list"].append({"metric": "acc_bytes", "aggregation": "mean", "higher_is_better": True})
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model), backend="causal", device="cpu", dtype="float32", batch_size=4),
        tasks=[config],
        task_manager=TaskManager(include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
        fewshot_random_seed=None,
    )
    return list(found["samples"][name])


def ours_of(name: str, file: Path, model: Path) -> Mapping[str, Sample]:
    told = Model(name="tiny", source=str(model), fingerprint="test", dtype="float32", chat_template="never")
    rows = TaskRows(name=name, version=tasks.get(name).version, content="", data_files={"test": str(file)})
    engine = {"kind": "transformers", "device": "cpu"}
    cell = Cell(model=told, task=rows, protocol=ZeroShot(), seed=None, label="zero_shot", engine=engine)
    events: list[Event] = []
    run_stage(Stage(model=told, cells=(cell,)), {}, events.append)
    assert not [event.reason for event in events if isinstance(event, CellFailed)]
    (done,) = (event for event in events if isinstance(event, CellDone))
    return {sample.example: sample for sample in done.result.samples}


@pytest.mark.parametrize("name", FILES)
def test_cloze_is_acc_of_the_harness_item_by_item(name: str, model: Path, tmp_path: Path) -> None:
    rows = rows_of(name)
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    theirs, ours = theirs_of(name, file, model), ours_of(name, file, model)
    keys = {example.key: example for example in load_rows(tasks.get(name), data_files={"test": str(file)}, need=set()).test}
    assert len(theirs) == len(ours) == len(keys) == len(rows)
    by_choices = {sample.cloze_texts: sample for sample in ours.values()}
    compared = 0
    for row in theirs:
        prompt, texts = row["arguments"][0][0], tuple(arguments[1].removeprefix(" ") for arguments in row["arguments"])
        sample = by_choices[texts]
        logprobs = [logprob for logprob, _ in row["filtered_resps"]]
        assert sample.cloze_logprobs == pytest.approx(logprobs, abs=TOLERANCE, rel=0)
        assert sample.gold is not None
        bits = -logprobs[sample.gold] / math.log(2) / len(texts[sample.gold].encode())
        assert sample.answer_bits_per_byte == pytest.approx(bits, abs=TOLERANCE, rel=0)
        template = tasks.get(name).cloze_template
        assert template is not None
        assert template.prompt(keys[sample.example]) == prompt
        best, second = sorted(logprobs)[-1], sorted(logprobs)[-2]
        if best - second > 2 * TOLERANCE:
            compared += 1
            assert float(bool(sample.knows_cloze)) == row["acc"]
        per_byte = sorted(value / len(text.encode()) for value, text in zip(logprobs, texts, strict=True))
        if per_byte[-1] - per_byte[-2] > TOLERANCE:
            assert float(bool(sample.knows_cloze_per_byte)) == row["acc_bytes"]
            if all(text.isascii() for text in texts):
                assert float(bool(sample.knows_cloze_per_byte)) == row["acc_norm"]
    assert compared >= len(rows) - 2, "so many near ties that the comparison says little"
