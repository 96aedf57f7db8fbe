"""Files for model pages of the Hub, as the Hub's own library reads them: never a plain score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import EvalResultEntry, parse_eval_result_entries

from spt_fast.errors import ConfigError
from spt_fast.export import export
from tests.helpers.planted import CELLS, FOLDER_MODEL, HUB_MODEL, plant


def entries(folder: Path) -> dict[str, EvalResultEntry]:
    """File name without its end -> the one entry in it."""
    found = {}
    for path in folder.glob("*/.eval_results/*.yaml"):
        (found[path.name.removesuffix(".yaml")],) = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    return found


def test_each_score_says_its_protocol_and_that_it_is_not_to_be_compared(run_folder: Path, tmp_path: Path) -> None:
    done = export(run_folder, "hub", tmp_path)
    found = entries(tmp_path)
    assert set(found) == {f"{task}@{how}" for task in ("gsm8k", "mmlu") for how in ("zero_shot", "few_shot", "soft_prompt")}
    assert done.count == len(found)
    for name, entry in found.items():
        protocol = name.partition("@")[2]
        assert entry.notes is not None
        assert entry.notes.startswith(f"Protocol {protocol}")
        assert "Not comparable with scores of other prompts." in entry.notes
        assert protocol in str(entry.source_name)
        assert ("tuned for this benchmark" in entry.notes) == (protocol == "soft_prompt")
    soft = found["gsm8k@soft_prompt"]
    assert (soft.dataset_id, soft.task_id, len(str(soft.dataset_revision))) == ("openai/gsm8k", "main", 40)
    assert soft.value == pytest.approx(35.0), "the mean of 30 and 40"
    assert "length 3, steps 2" in str(soft.notes)
    assert "mean over seeds 0, 1" in str(soft.notes)
    assert found["gsm8k@few_shot"].value == 30.0
    assert "shots 5" in str(found["gsm8k@few_shot"].notes)


def test_what_is_not_of_the_hub_is_left_out_and_told(run_folder: Path, tmp_path: Path) -> None:
    done = export(run_folder, "hub", tmp_path)
    assert f"{FOLDER_MODEL}: is no model of the Hub" in done.not_carried
    assert "zoo-json: its rows are no data set of the Hub" in done.not_carried
    assert [path.parent.parent.name for path in tmp_path.glob("*/.eval_results/gsm8k@zero_shot.yaml")] == ["Qwen_Qwen3-4B-Base"]


def test_a_run_without_anything_of_the_hub_is_refused(tmp_path: Path) -> None:
    plant(tmp_path / "run", [cell for cell in CELLS if cell.model.name == FOLDER_MODEL][:2], waiting=())
    with pytest.raises(ConfigError, match=r"nothing can go to the Hub: .*is no model of the Hub"):
        export(tmp_path / "run", "hub")


def test_local_rows_are_not_called_the_data_set_of_the_hub(tmp_path: Path) -> None:
    local = [
        replace(cell, task=replace(cell.task, data_files="/data/gsm8k"))
        for cell in CELLS
        if cell.model.name == HUB_MODEL and cell.task.name == "gsm8k"
    ]
    plant(tmp_path / "run", local, waiting=())
    with pytest.raises(ConfigError, match="gsm8k: its rows are no data set of the Hub"):
        export(tmp_path / "run", "hub")
