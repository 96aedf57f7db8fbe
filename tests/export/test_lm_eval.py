"""What lm-evaluation-harness itself says of the export: its readers, its printer, and the files that it writes itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lm_eval import utils as harness

from spt_fast.export import export
from tests.helpers.planted import CELLS, FOLDER_MODEL, HOSTILE, HUB_MODEL, sample


@pytest.fixture(scope="module")
def exported(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("lm_eval")
    export(run_folder, "lm-eval", to)
    return to


def results(exported: Path, model: str = HUB_MODEL) -> dict[str, Any]:
    (path,) = (exported / harness.sanitize_model_name(model)).glob("results_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def samples(exported: Path, model: str = HUB_MODEL) -> dict[str, list[dict[str, Any]]]:
    """Task -> lines, found as the harness finds them."""
    files = harness.get_sample_results_filenames([str(path) for path in exported.rglob("*.json*")])
    return {
        harness.get_file_task_name(Path(file).name): [json.loads(line) for line in Path(file).read_bytes().split(b"\n") if line]
        for file in files
        if Path(file).parent.name == harness.sanitize_model_name(model)
    }


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder as the harness writes it, with a model that answers "lol", and its results."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.dummy import DummyLM
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("theirs")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"q{i}", "answer": "lol"}) + "\n" for i in range(3)))
    task = {
        "task": "gsm8k@zero_shot",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1},
    }
    unseeded: dict[str, Any] = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"))
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    tracker.general_config_tracker.log_experiment_args("dummy", "pretrained=a/b", None, None, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # asks pip and the shell, for seconds
        found: dict[str, Any] = lm_eval.simple_evaluate(
            model=DummyLM(),
            tasks=[task],
            task_manager=TaskManager(include_defaults=False),
            log_samples=True,
            bootstrap_iters=10,
            **unseeded,
        )
    logged = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=logged)
    for name, lines in logged.items():
        tracker.save_results_samples(task_name=name, samples=lines)
    return folder / "out", found


def test_the_folder_is_laid_out_as_the_harness_lays_out_its_own(exported: Path, theirs: tuple[Path, Any]) -> None:
    for folder, model in ((exported, HUB_MODEL), (exported, FOLDER_MODEL), (theirs[0], "a/b")):
        inside = folder / harness.sanitize_model_name(model)
        files = [str(path) for path in inside.iterdir()]
        (result,) = harness.get_results_filenames(files)
        times = {harness.get_file_datetime(Path(file).name) for file in harness.get_sample_results_filenames(files)}
        assert times == {harness.get_file_datetime(Path(result).name).removesuffix(".json")}
        assert len(files) == 1 + len(samples(folder, model)), "nothing else is there"


def test_what_both_write_is_of_the_same_types(exported: Path, theirs: tuple[Path, dict[str, Any]]) -> None:
    their_results, our_results = results(theirs[0], "a/b"), results(exported)
    assert our_results.keys() - {"spt_fast", "groups"} <= their_results.keys()
    name = "gsm8k@zero_shot"
    for part in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes"):
        same_shape(our_results[part][name], their_results[part][name], f"{part}.{name}")
    assert our_results["configs"][name].keys() <= {*their_results["configs"][name], "dataset_name"}
    (their_sample, *_), (our_sample, *_) = samples(theirs[0], "a/b")[name], samples(exported)[name]
    assert their_sample.keys() <= our_sample.keys()
    same_shape({key: our_sample[key] for key in their_sample}, their_sample, "sample")


def same_shape(ours: Any, theirs: Any, where: str) -> None:
    """Assert that values of the same place are of the same type; lists and mappings go inside."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in (ours.keys() & theirs.keys()) - {"metadata", "dataset_kwargs", "doc"}:
            same_shape(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        for one, other in zip(ours, theirs, strict=False):
            same_shape(one, other, f"{where}[]")
    elif theirs is not None and not (isinstance(ours, int | float) and isinstance(theirs, int | float)):
        assert type(ours) is type(theirs), where


def test_hashes_are_those_that_the_harness_computes(exported: Path, theirs: tuple[Path, dict[str, Any]]) -> None:
    for line in samples(theirs[0], "a/b")["gsm8k@zero_shot"] + samples(exported)["gsm8k@zero_shot"]:
        assert line["doc_hash"] == harness.hash_string(json.dumps(line["doc"], indent=2, ensure_ascii=False))
        assert line["prompt_hash"] == harness.hash_string(line["arguments"]["gen_args_0"]["arg_0"])
        assert line["target_hash"] == harness.hash_string(line["target"])
    for found, folder, model in ((results(exported), exported, HUB_MODEL), (results(theirs[0], "a/b"), theirs[0], "a/b")):
        for task, lines in samples(folder, model).items():
            joined = "".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines)
            assert found["task_hashes"][task] == harness.hash_string(joined)


def test_scores_are_the_means_of_what_the_samples_say(exported: Path) -> None:
    found, lines = results(exported), samples(exported)
    assert found["results"].keys() - found["group_subtasks"].keys() == lines.keys()
    for task in lines:
        for metric in (each["metric"] for each in found["configs"][task]["metric_list"]):
            mean = sum(line[metric] for line in lines[task]) / len(lines[task])
            assert found["results"][task][f"{metric},none"] == pytest.approx(mean)
            assert metric in lines[task][0]["metrics"]


def test_names_are_those_that_users_of_the_harness_look_for(exported: Path) -> None:
    found = results(exported)["results"]
    assert found["gsm8k@few_shot"]["exact_match,none"] == 0.3
    assert found["gsm8k@few_shot"]["exact_match_stderr,none"] == pytest.approx((0.3 * 0.7 / 10) ** 0.5)
    assert found["gsm8k@few_shot"]["f1,none"] == pytest.approx(0.45)
    assert found["mmlu@few_shot"]["acc,none"] == found["mmlu@few_shot"]["knowledge,none"] == 0.6
    assert found["mmlu@few_shot"]["acc_bytes,none"] == found["mmlu@few_shot"]["knowledge_per_byte,none"]
    assert "acc,none" not in found["gsm8k@few_shot"], "knowledge by extraction is not the harness's acc"
    assert results(exported)["n-shot"]["gsm8k@few_shot"] == 5
    assert "exact_match_given_format,none" not in found["gsm8k@zero_shot"], "it is undefined there, and JSON has no NaN"


def test_several_seeds_are_a_group_without_a_standard_error(exported: Path) -> None:
    found = results(exported)
    seeds = ["gsm8k@soft_prompt@seed0", "gsm8k@soft_prompt@seed1"]
    assert found["group_subtasks"]["gsm8k@soft_prompt"] == seeds
    group = found["groups"]["gsm8k@soft_prompt"]
    assert group == found["results"]["gsm8k@soft_prompt"]
    each = [found["results"][seed]["exact_match,none"] for seed in seeds]
    assert each[0] != each[1]
    assert group["exact_match,none"] == pytest.approx(sum(each) / 2)
    assert group["exact_match_stderr,none"] == "N/A"


def test_a_seed_that_waits_is_left_out_and_the_names_stay(exported: Path) -> None:
    found = results(exported, FOLDER_MODEL)
    assert found["group_subtasks"]["zoo-json@soft_prompt"] == ["zoo-json@soft_prompt@seed0"]


def test_hostile_completions_are_a_line_each_and_come_back_as_they_were(exported: Path) -> None:
    for task, lines in samples(exported).items():
        assert [line["resps"] for line in lines] == [[[text]] for text in HOSTILE], task
    raw = next(exported.rglob("samples_*.jsonl")).read_bytes()
    assert len(raw.decode().splitlines()) == len(HOSTILE), "also for readers that take U+2028 or U+0085 for the end of a line"


def test_what_the_model_rules_out_is_null(exported: Path) -> None:
    lines = samples(exported)["mmlu@zero_shot"]
    assert lines[2]["option_logprobs"] == [-1.5, None]
    assert b"Infinity" not in b"".join(path.read_bytes() for path in exported.rglob("*.json*"))


def test_the_data_sets_library_reads_the_samples(exported: Path, tmp_path: Path) -> None:
    """It is what the Hub's viewer and the harness's own cards read them with."""
    import datasets

    (file,) = (exported / harness.sanitize_model_name(HUB_MODEL)).glob("samples_gsm8k@zero_shot_*.jsonl")
    rows = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert [row["resps"][0][0] for row in rows] == list(HOSTILE)
    one = sample(CELLS[0], 1, None)
    assert rows[1]["filtered_resps"] == [one.extracted]
    assert rows[3]["filtered_resps"] == ["[invalid]"]


def test_the_harness_prints_its_table(exported: Path) -> None:
    pytest.importorskip("pytablewriter")
    table = harness.make_table(results(exported))
    assert "|gsm8k@few_shot               |      1|none  |     5|exact_match " in table
    assert "| - gsm8k@soft_prompt@seed1 " in table
    assert "gsm8k@soft_prompt" in harness.make_table(results(exported), "groups")


def test_the_harness_logs_it_to_weights_and_biases(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("pytablewriter")
    from lm_eval.loggers import WandbLogger

    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger({"project": "p"})
    logger.post_init(results(exported))
    logger.log_eval_result()
    assert logger.run.summary["gsm8k@few_shot/exact_match"] == 0.3
    logger.run.finish()


def test_another_export_of_an_unchanged_run_writes_the_same_files(exported: Path, run_folder: Path, tmp_path: Path) -> None:
    export(run_folder, "lm-eval", tmp_path)
    first, again = ({p.relative_to(at): p.read_bytes() for p in at.rglob("*") if p.is_file()} for at in (exported, tmp_path))
    assert first == again
