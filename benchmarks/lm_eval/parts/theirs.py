"""What `lm_eval` itself says of some tasks and one model, in a process of its own.

    python -m benchmarks.lm_eval.parts.theirs JOB.json OUT.json

Nothing of spt-fast is imported here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import lm_eval.tasks
from lm_eval import simple_evaluate
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from benchmarks.lm_eval.parts.on_vllm import harness_on_vllm

# What it gathers of the machine for its results takes seconds a call, and is of no interest here.
lm_eval.evaluator.add_env_info = lambda _: None
lm_eval.evaluator.get_git_commit_hash = lambda: ""


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    """The task's own config, with local rows in place of the Hub's."""
    file = Path(case["file"])
    config = load_yaml(file if file.is_absolute() else Path(lm_eval.tasks.__file__).parent / file)
    files = {split: f"{case['folder']}/{split}.jsonl" for split in case["splits"]}
    return {
        **config,
        "task": case["name"],
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }


def asked(lm: Any, case: dict[str, Any], shots: int, *, chat: bool) -> dict[str, Any]:
    """Samples and results of one task."""
    found = simple_evaluate(
        model=lm,
        tasks=[config_of(case)],
        task_manager=TaskManager(include_defaults=False),  # the config is whole; its index takes seconds a call
        num_fewshot=shots,
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    assert found is not None
    (name,) = found["samples"]
    samples = [
        {
            "doc": sample["doc"],
            "doc_id": sample["doc_id"],
            "filter": sample["filter"],
            "prompt": sample["arguments"][0][0],
            "answers": [response[0] for response in sample["resps"]],
            "metrics": {metric: sample[metric] for metric in sample["metrics"]},
        }
        for sample in found["samples"][name]
    ]
    wanted = found["configs"][name].get("generation_kwargs") or {}
    drawn = found["configs"][name]["output_type"] == "generate_until" and not {"do_sample", "temperature"} & wanted.keys()
    return {"samples": samples, "results": found["results"][name], "no_temperature": drawn}


def main(job: str, out: str) -> None:
    """Ask all tasks of a job."""
    wanted = json.loads(Path(job).read_text(encoding="utf-8"))
    kind = harness_on_vllm() if wanted["backend"] == "vllm" else get_model(wanted["backend"])
    lm = kind.create_from_arg_obj(wanted["model_args"], {"batch_size": wanted.get("batch_size", 1)})
    found = {}
    for case in wanted["cases"]:
        for shots in case["shots"]:
            try:
                found[f"{case['name']} {shots}"] = asked(lm, case, shots, chat=wanted["chat"])
            except Exception as e:  # what it cannot do is a line of the table
                found[f"{case['name']} {shots}"] = {"error": f"{type(e).__name__}: {e}"[:500]}
    Path(out).write_text(json.dumps(found, default=str), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
