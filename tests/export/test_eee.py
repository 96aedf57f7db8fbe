"""Every Eval Ever: its schema always, its own validator where it is installed, and what a record says.

`every_eval_ever/` holds the schemas of every-eval-ever 0.3.0 as they are in the package (MIT, see LICENSE there). The package
wants Python 3.12; `pip install every-eval-ever` into an environment of its own, and name its command in EVERY_EVAL_EVER.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from spt_fast.analysis.cells import METRICS
from spt_fast.export import export
from spt_fast.export.eee import model_id
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Judge
from tests.helpers.planted import CELLS, FOLDER_MODEL, HOSTILE, HUB_MODEL, plant, sample

SCHEMAS = Path(__file__).parent / "every_eval_ever"
VALIDATOR = os.environ.get("EVERY_EVAL_EVER") or shutil.which("every_eval_ever")


@pytest.fixture(scope="module")
def exported(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("eee")
    export(run_folder, "eee", to)
    return to


def records(exported: Path) -> dict[Path, dict[str, Any]]:
    return {path: json.loads(path.read_text()) for path in exported.glob("data/*/*/*/*.json")}


def record(exported: Path, model: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A cell's record and its rows."""
    found = [
        (path, each)
        for path, each in records(exported).items()
        if each["model_info"]["id"] == model and each["evaluation_results"][0]["evaluation_name"] == name
    ]
    ((path, one),) = found
    rows = (exported / one["detailed_evaluation_results"]["file_path"]).read_text().splitlines()
    assert path.with_name(f"{path.stem}_samples.jsonl") == exported / one["detailed_evaluation_results"]["file_path"]
    return one, [json.loads(row) for row in rows]


def test_all_records_and_rows_are_valid_by_the_published_schemas(exported: Path) -> None:
    aggregate, instance = (
        Draft7Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text())) for name in ("eval", "instance_level_eval")
    )
    found = records(exported)
    assert len(found) == len(CELLS) - 1
    for path, one in found.items():
        aggregate.validate(one)
        for line in path.with_name(f"{path.stem}_samples.jsonl").read_text().splitlines():
            instance.validate(json.loads(line))
    assert not aggregate.is_valid({**one, "evaluation_results": [{}]}), "the schema can fail"


@pytest.mark.skipif(VALIDATOR is None, reason="every-eval-ever is not installed: see the top of this file")
def test_its_own_validator_passes_without_a_warning(exported: Path) -> None:
    files = [str(path.relative_to(exported)) for path in exported.glob("data/**/*.json*")]
    command = [str(VALIDATOR), "validate", "--format", "json", *files]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True)
    told = json.loads(done.stdout)
    assert [(each["file"], each["errors"], each["warnings"]) for each in told if each["errors"] or each["warnings"]] == []
    assert done.returncode == 0
    assert len(told) == 2 * (len(CELLS) - 1)


@pytest.mark.skipif(VALIDATOR is None, reason="every-eval-ever is not installed: see the top of this file")
def test_its_converter_reads_our_lm_eval_files(run_folder: Path, tmp_path: Path) -> None:
    """A third party's reader of the harness's format. It leaves U+2028 in its lines as it is, and the validator of 0.3.0 takes
    that for the end of a line: so what it makes of our hostile rows is read here, not validated."""
    export(run_folder, "lm-eval", tmp_path / "harness")
    logs = next((tmp_path / "harness").glob("Qwen__*"))
    (result,) = logs.glob("results_*.json")
    data = json.loads(result.read_text())
    for group in data.pop("groups"):
        del data["results"][group]  # groups have no samples, of the harness's own neither
    result.write_text(json.dumps(data))
    convert = ["convert", "lm_eval", "--log_path", str(logs), "--output_dir", "data", "--include_samples"]
    subprocess.run(
        [str(VALIDATOR), *convert, "--source_organization_name", "me"], cwd=tmp_path, check=True, capture_output=True
    )
    read = {path: json.loads(path.read_text()) for path in (tmp_path / "data").rglob("*.json")}
    scores = {
        each["evaluation_name"]: each["score_details"]["score"]
        for one in read.values()
        for each in one["evaluation_results"]
        if each["metric_config"]["metric_name"] == "exact_match"
    }
    assert len(scores) == 12
    assert scores["gsm8k@soft_prompt@seed1"] == 0.4
    assert all(one["detailed_evaluation_results"]["total_rows"] >= len(HOSTILE) for one in read.values())


def test_a_record_says_what_was_measured_and_how_sure_it_is(exported: Path) -> None:
    one, _ = record(exported, HUB_MODEL, "gsm8k@soft_prompt@seed1")
    results = {each["evaluation_result_id"]: each for each in one["evaluation_results"]}
    exact = results["exact_match"]
    uncertainty = exact["score_details"]["uncertainty"]
    assert exact["score_details"]["score"] == 0.4
    assert uncertainty["num_samples"] == 10
    assert uncertainty["confidence_interval"]["lower"] < 0.4 < uncertainty["confidence_interval"]["upper"]
    assert exact["source_data"]["hf_repo"] == "openai/gsm8k"
    told = exact["generation_config"]["additional_details"]
    assert (told["protocol"], told["length"], told["step"], told["seed"]) == ("soft_prompt", "3", "2", "1")
    assert one["model_info"]["additional_details"]["revision"] == "c" * 40
    assert "exact_match_given_format" in results
    undefined, _ = record(exported, HUB_MODEL, "gsm8k@zero_shot")
    assert "exact_match_given_format" not in {each["evaluation_result_id"] for each in undefined["evaluation_results"]}


def test_what_is_no_share_has_its_own_unit_direction_and_no_ends_that_json_has_not(exported: Path) -> None:
    one, rows = record(exported, HUB_MODEL, "mmlu@few_shot")
    configs = {each["evaluation_result_id"]: each["metric_config"] for each in one["evaluation_results"]}
    bits = configs["answer_bits_per_byte"]
    assert (bits["metric_unit"], bits["metric_kind"], bits["lower_is_better"]) == (
        "bits per byte",
        "answer_bits_per_byte",
        True,
    )
    assert not {"score_type", "min_score", "max_score"} & set(bits)
    assert (configs["exact_match"]["metric_unit"], configs["exact_match"]["max_score"]) == ("proportion", 1.0)
    assert not configs["answer_logprob_margin"]["lower_is_better"]
    of_bits = [row for row in rows if row["evaluation_result_id"] == "answer_bits_per_byte"]
    assert [row["evaluation"]["score"] for row in of_bits] == [1.25 + i for i in range(len(HOSTILE))]
    assert [row["evaluation"]["is_correct"] for row in of_bits] == [
        sample(CELLS[5], i, None).correct for i in range(len(HOSTILE))
    ]
    assert not any(row["answer_attribution"] for row in of_bits), "nothing was taken for the answer"


def test_raw_and_extracted_text_are_both_kept(exported: Path) -> None:
    _, rows = record(exported, HUB_MODEL, "gsm8k@few_shot")
    known = [row for row in rows if row["evaluation_result_id"] == "knowledge"]
    assert [row["output"]["raw"] for row in known] == [[text] for text in HOSTILE]
    few_shot = CELLS[1]
    for i, row in enumerate(known):
        truth = sample(few_shot, i, None)
        values = [each["extracted_value"] for each in row["answer_attribution"]]
        assert values == ([] if truth.extracted is None else [truth.extracted])
        assert row["evaluation"]["is_correct"] == truth.knows
        assert row["metadata"]["finish_reason"] == truth.finish_reason


def test_closed_ended_knowledge_is_attributed_to_the_likeliest_option(exported: Path) -> None:
    _, rows = record(exported, HUB_MODEL, "mmlu@zero_shot")
    by_metric = {row["evaluation_result_id"]: row for row in rows if row["sample_id"] == f"{1:016x}"}
    (chosen,) = by_metric["knowledge"]["answer_attribution"]
    assert (chosen["extracted_value"], chosen["extraction_method"]) == ("option 1", "log_likelihood")
    (written,) = by_metric["exact_match"]["answer_attribution"]
    assert (written["extracted_value"], written["extraction_method"]) == (HOSTILE[1], "exact_match")


def test_scores_are_the_means_of_their_rows(exported: Path) -> None:
    for path, one in records(exported).items():
        rows = [json.loads(line) for line in path.with_name(f"{path.stem}_samples.jsonl").read_text().splitlines()]
        for result in one["evaluation_results"]:
            name = result["evaluation_result_id"]
            scores = [row["evaluation"]["score"] for row in rows if row["evaluation_result_id"] == name]
            if name in ("format_following", "exact_match", "f1") or name in METRICS:
                assert sum(scores) / len(scores) == pytest.approx(result["score_details"]["score"])
            else:
                assert not scores, "a number about the whole table has no rows"


def test_the_checksum_is_that_of_the_rows(exported: Path) -> None:
    for one in records(exported).values():
        detail = one["detailed_evaluation_results"]
        data = (exported / detail["file_path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == detail["checksum"]
        assert len(data.splitlines()) == detail["total_rows"]


def test_another_export_writes_over_the_first(exported: Path, run_folder: Path) -> None:
    before = {path for path in exported.rglob("*") if path.is_file()}
    export(run_folder, "eee", exported)
    assert {path for path in exported.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (HUB_MODEL, HUB_MODEL),
        (FOLDER_MODEL, "local/run7_step-100"),
        ("zoo/base-40", "zoo/base-40"),
        ("gpt2", "local/gpt2"),
        ("../../etc/passwd", "local/etc_passwd"),
        ("data/con", "data_/_con"),
        ("org/a b:c<d>", "org/a_b_c_d_"),
    ],
)
def test_a_model_has_a_place_that_any_system_can_hold(name: str, wanted: str) -> None:
    assert model_id(name) == wanted


def test_verdicts_of_a_judge_are_told_from_those_of_rules(tmp_path: Path) -> None:
    judge = Judge(model=Model(name="org/judge", source="org/judge", fingerprint="hub:0"), engine={}, prompts="p")
    judged = replace(CELLS[1], judge=judge)
    plant(tmp_path / "run", [judged], waiting=())
    export(tmp_path / "run", "eee", tmp_path / "out")
    one, rows = record(tmp_path / "out", HUB_MODEL, "gsm8k@few_shot")
    how = {each["evaluation_result_id"]: each["metric_config"]["additional_details"] for each in one["evaluation_results"]}
    assert how["knowledge"] == {"how": "llm_judge", "judge": "org/judge"}
    assert how["exact_match"]["how"] == "regex", "which no judge decides"
    methods = {(row["evaluation_result_id"], each["extraction_method"]) for row in rows for each in row["answer_attribution"]}
    assert ("knowledge", "llm_judge") in methods
    assert ("exact_match", "regex") in methods
