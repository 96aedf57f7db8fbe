"""lm_eval with `--model spt_fast`: the same numbers as in the run whose soft prompts it asks behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lm_eval.parts.made_rows import made
from spt_fast import tasks
from spt_fast.analysis.runs import open_run
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_grid
from spt_fast.errors import ConfigError
from spt_fast.harness.model import SptFastLM, sampling
from tests.helpers.hub import environment

pytestmark = pytest.mark.slow

YAML = """task: made_arc
dataset_path: json
test_split: test
training_split: train
dataset_kwargs: {{data_files: {{train: {folder}/train.jsonl, test: {folder}/test.jsonl}}}}
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{choices.label.index(answerKey)}}}}"
doc_to_choice: "{{{{choices.text}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task, its rows, and a run of it with a soft prompt."""
    folder = tmp_path_factory.mktemp("harness")
    for split, count in (("train", 40), ("test", 6)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made("arc", split, count)))
    (folder / "made.yaml").write_text(YAML.format(folder=folder))
    run_grid(
        GridConfig(
            name="harness",
            models=(ModelConfig(id="zoo/base-95"),),
            tasks=(TaskConfig(task=f"lm-eval:{folder / 'made.yaml'}", data_files=str(folder)),),
            protocols=(ZeroShot(), SoftPromptConfig(steps=2, batch_size=8, lr=1.0)),
            engine={"kind": "transformers"},
            output=str(folder / "run"),
        )
    )
    return folder


def asked(folder: Path, **arguments: Any) -> list[dict[str, Any]]:
    """What lm_eval logs of each sample."""
    from lm_eval import simple_evaluate

    lm = SptFastLM(pretrained="zoo/base-95", engine="transformers", batch_size=1, **arguments)
    found = simple_evaluate(model=lm, tasks=[str(folder / "made.yaml")], bootstrap_iters=0)
    assert found is not None
    return list(found["samples"]["made_arc"])


@pytest.mark.parametrize("protocol", ["zero_shot", "soft_prompt"])
def test_likelihoods_are_those_of_the_run(folder: Path, protocol: str) -> None:
    """With the run's soft prompt in front, and without one. In half precision other batches round otherwise."""
    run = open_run(folder / "run")
    by_protocol = {place.protocol: key for place, key in run.done.items()}
    mine, others = (
        {row["target"]: row["option_logprobs"] for row in run.store.samples(by_protocol[each])}
        for each in (protocol, "zero_shot" if protocol == "soft_prompt" else "soft_prompt")
    )
    given = {} if protocol == "zero_shot" else {"soft_prompts": str(folder / "run")}
    samples = asked(folder, **given)
    assert len(samples) == 6
    for sample in samples:
        theirs = [response[0][0] for response in sample["resps"]]
        target = sample["doc"]["choices"]["text"]["ABCD".index(sample["doc"]["answerKey"])]
        assert theirs == pytest.approx(mine[target], abs=0.3)
        assert theirs != pytest.approx(others[target], abs=0.3)


def test_a_task_without_a_soft_prompt_in_the_run_is_refused(folder: Path) -> None:
    """Rather than asked without one."""
    lm = SptFastLM(pretrained="zoo/base-95", engine="echo", soft_prompts=str(folder / "run"))
    with pytest.raises(ConfigError, match=r"has none for the task other; there are made_arc"):
        lm._behind("other")


def test_a_run_without_the_model_is_refused(folder: Path) -> None:
    """With the nearest name."""
    with pytest.raises(ConfigError, match=r"no soft prompt of zoo/base-40 .*did you mean 'zoo/base-95'"):
        SptFastLM(pretrained="zoo/base-40", engine="echo", soft_prompts=str(folder / "run"))


def test_settings_of_completions_are_read_as_lm_evals_own_models_do() -> None:
    """Other names of the token limit, stops, and sampling only where it is asked for."""
    greedy = sampling({"until": ["\\n", ""], "max_new_tokens": 7, "temperature": 0.7, "do_sample": False})
    assert (greedy.max_tokens, greedy.stop, greedy.temperature) == (7, ("\\n",), 0.0)
    drawn = sampling({"until": "Q:", "temperature": 0.7, "do_sample": True, "top_p": 0.9})
    assert (drawn.max_tokens, drawn.stop, drawn.temperature, drawn.top_p) == (256, ("Q:",), 0.7, 0.9)


def test_the_tasks_rows_are_named_in_its_yaml(folder: Path) -> None:
    """lm_eval reads them there; spt-fast from data_files."""
    assert tasks.get(f"lm-eval:{folder / 'made.yaml'}").name == "lm-eval:made_arc"


def test_a_model_that_is_not_named_is_asked_for() -> None:
    """Rather than a TypeError of lm_eval's."""
    with pytest.raises(ConfigError, match="model_args: pretrained is missing"):
        SptFastLM(engine="echo")


def test_rows_that_cannot_be_had_are_a_sentence(tmp_path: Path) -> None:
    """And not the traceback of a process of vLLM's."""
    (tmp_path / "task.yaml").write_text(YAML.format(folder=tmp_path).replace("path: json", "path: owner/rows"))
    model = ["--model", "spt_fast", "--model_args", "pretrained=zoo/base-95,engine=echo"]
    command = [sys.executable, "-m", "spt_fast.harness", "run", *model, "--tasks", str(tmp_path / "task.yaml")]
    nobody = environment("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    done = subprocess.run(command, env=nobody, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("spt-fast: lm_eval: Couldn't reach 'owner/rows' on the Hub")
    assert "Traceback" not in done.stderr
