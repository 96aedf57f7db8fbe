"""Groups of lm-eval: tasks that are defined inside one, what it says of all its tasks, and one soft prompt for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spt_fast import tasks
from spt_fast.analysis.cells import RunCell
from spt_fast.analysis.runs import open_run
from spt_fast.config import FewShot, GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.driver.run import run_grid
from spt_fast.errors import ConfigError
from spt_fast.plan import expand
from spt_fast.report.means import mean_over
from spt_fast.tasks.rows import load_rows
from spt_fast.types import Metric
from tests.helpers.lm_eval_rows import files

GROUP = """group: mine
task:
  - task: first
    dataset_path: json
    test_split: test
    training_split: train
    output_type: multiple_choice
    doc_to_text: "Q: {{question}}\\nA:"
    doc_to_target: "{{choices.label.index(answerKey)}}"
    doc_to_choice: "{{choices.text}}"
  - group: lower
    task:
      - task: second
        dataset_path: json
        test_split: test
        output_type: multiple_choice
        doc_to_text: !function code.text
        doc_to_target: "{{choices.label.index(answerKey)}}"
        doc_to_choice: "{{choices.text}}"
  - arc_easy
description: "Answer.\\n"
aggregate_metric_list: [{metric: acc, weight_by_size: false}]
"""
TASKS = ["lm-eval:mine::first", "lm-eval:mine::lower::second", "lm-eval:arc_easy"]


@pytest.fixture
def group(tmp_path: Path) -> TaskConfig:
    """A group of three tasks, two of which are defined in it; each with rows of its own."""
    (tmp_path / "mine.yaml").write_text(GROUP)
    (tmp_path / "code.py").write_text("def text(doc):\n    return 'Say: ' + doc['question']\n")
    for name, count in (("mine::first", 12), ("mine::lower::second", 150), ("arc_easy", 12)):
        files(tmp_path / name, "arc", train=40, test=count)
    made_up = [json.loads(line) for line in (tmp_path / "mine::lower::second" / "test.jsonl").read_text().splitlines()]
    for i, row in enumerate(made_up):  # rows that the others do not have
        row["question"] = f"In case {i}, {row['question']}"
    (tmp_path / "mine::lower::second" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made_up))
    return TaskConfig(task=f"lm-eval:{tmp_path / 'mine.yaml'}", data_files=str(tmp_path))


def test_tasks_that_are_defined_in_a_groups_yaml_are_asked(group: TaskConfig) -> None:
    """By lm-eval's names of them, with the group's own settings, Python included; the YAML itself names the group."""
    entries = tasks.entries(group)
    assert [tasks.get(entry.task).name for entry in entries] == TASKS
    asked = []
    for entry in entries:
        task = tasks.get(entry.task)
        rows = load_rows(task, data_files=entry.data_files, need={"test"}, cut=False)
        assert task.library is not None
        asked.append(task.library.prompts(rows).of(rows.test[0]).text)
    assert [text.split(":")[0] for text in asked] == ["Answer.\nQ", "Answer.\nSay", "Answer.\nQuestion"]
    assert tasks.means(group) == {
        "name": "lm-eval:mine",
        "tasks": dict.fromkeys(TASKS, 1.0),
        "by_rows": False,
        "metrics": ["acc"],
    }


def test_what_a_group_says_of_generation_is_what_its_tasks_are_asked_with(tmp_path: Path) -> None:
    """Stops and the token limit; a task outside the group keeps its own."""
    (tmp_path / "short.yaml").write_text(
        "group: short\ntask:\n- {task: gsm8k, generation_kwargs: {until: ['!'], max_gen_toks: 9}}\n"
    )
    (entry,) = tasks.entries(TaskConfig(task="lm-eval:short", include_path=str(tmp_path)))
    within, alone = tasks.get(entry.task).sampling, tasks.get("lm-eval:gsm8k").sampling
    assert (within.stop, within.max_tokens) == (("!",), 9)
    assert alone.stop != within.stop


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("{task: x, include: other, doc_to_text: a}", "`include` inside the group's list"),
        ("{dataset_path: json, output_type: generate_until}", "has no name"),
        ("{task: nowhere}", "neither a task of lm-eval nor defined there"),
    ],
)
def test_an_item_that_lm_eval_makes_no_task_of_is_refused_with_the_reason(tmp_path: Path, item: str, said: str) -> None:
    """lm-eval 0.4.13 itself ends with a TypeError or ValueError on these."""
    (tmp_path / "odd.yaml").write_text(f"group: odd\ntask:\n- {item}\n")
    with pytest.raises(ConfigError, match=said):
        tasks.entries(TaskConfig(task="lm-eval:odd", include_path=str(tmp_path)))


def test_python_that_a_group_puts_over_a_task_is_refused(tmp_path: Path) -> None:
    """It is no part of the key of its cells."""
    (tmp_path / "code.py").write_text("def text(doc):\n    return 'x'\n")
    (tmp_path / "over.yaml").write_text("group: over\ntask:\n- {task: arc_easy, doc_to_text: !function code.text}\n")
    with pytest.raises(ConfigError, match=r"none of its 1 tasks can be asked: its group puts Python"):
        tasks.entries(TaskConfig(task="lm-eval:over", include_path=str(tmp_path)))


def test_a_group_learns_on_no_row_that_any_of_its_tasks_asks_or_shows(group: TaskConfig, tmp_path: Path) -> None:
    """A tuning row of one task that another asks is dropped; each row is rendered as its own task has it."""
    asked = (tmp_path / "arc_easy" / "test.jsonl").read_text().splitlines()[0]
    with (tmp_path / "mine::first" / "train.jsonl").open("a") as file:
        file.write(asked.replace("made_0", "made_again") + "\n")
    together = tasks.learnt_together(TaskConfig(task=group.task, prompt_for="group"))
    assert together is not None
    task = tasks.get(together)
    rows = load_rows(task, data_files=group.data_files)
    assert {example.group for example in rows.tuning} == set(TASKS)
    questions = [
        {example.row["question"] for example in part if example.row} for part in (rows.tuning, rows.few_shot, rows.test)
    ]
    assert questions[0].isdisjoint(questions[1] | questions[2])
    assert json.loads(asked)["question"] in questions[2]
    assert task.library is not None
    lessons = task.library.prompts(rows)
    begins = {example.group: lessons.lesson(example)[0].split(":")[0] for example in rows.tuning}
    assert begins == {TASKS[0]: "Answer.\nQ", TASKS[1]: "Answer.\nSay", TASKS[2]: "Answer.\nQuestion"}


def test_cells_of_a_group_share_one_training_and_others_keep_their_keys(group: TaskConfig) -> None:
    """Only what learns is another cell than without `prompt_for: group`."""

    def cells(prompt_for: str) -> dict[tuple[str, str], tuple[str, str]]:
        one = TaskConfig(task=group.task, data_files=group.data_files, prompt_for=prompt_for)
        grid = GridConfig(
            name="g",
            models=(ModelConfig(id="zoo/base-95"),),
            tasks=(one,),
            protocols=(ZeroShot(), FewShot(shots=1), SoftPromptConfig(steps=1, batch_size=2)),
            engine={"kind": "echo"},
        )
        return {(cell.task.name, cell.protocol.name): (cell.key, cell.tuning_key) for cell in expand(grid)}

    alone, together = cells("task"), cells("group")
    for place, (key, _) in together.items():
        assert (key == alone[place][0]) == (place[1] != "soft_prompt")
    assert len({together[name, "soft_prompt"][1] for name in TASKS}) == 1
    assert len({alone[name, "soft_prompt"][1] for name in TASKS}) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [({"task": "mmlu"}, "prompt_for: group is for groups of lm-eval"), ({"task": "lm-eval:arc_easy"}, "is one task")],
)
def test_a_prompt_for_a_group_needs_one(given: dict[str, str], said: str) -> None:
    """In a sentence that names the key."""
    with pytest.raises(ConfigError, match=said):
        tasks.entries(TaskConfig(**given, prompt_for="group"))


@pytest.mark.slow
def test_a_group_is_asked_behind_one_soft_prompt(group: TaskConfig, tmp_path: Path) -> None:
    """The same vectors for all its tasks; provenance and the report say what they were learnt on."""
    one = TaskConfig(task=group.task, data_files=group.data_files, prompt_for="group")
    run_grid(
        GridConfig(
            name="together",
            models=(ModelConfig(id="zoo/base-95"),),
            tasks=(one,),
            protocols=(SoftPromptConfig(steps=2, batch_size=8, lr=1.0),),
            limit=3,
            engine={"kind": "transformers"},
            output=str(tmp_path / "run"),
        )
    )
    cells = list(open_run(tmp_path / "run").cells())
    assert [cell.status for cell in cells] == ["done"] * 3
    assert len({cell.provenance["soft_prompt"] for cell in cells}) == 1
    assert {cell.provenance["learnt_on"].partition(",")[0] for cell in cells} == {"tuning rows of all tasks of lm-eval:mine"}
    report = (tmp_path / "run" / "report.md").read_text()
    assert "one soft prompt for its 3 tasks, learnt on the tuning rows of all of them" in report


@pytest.mark.parametrize("by_rows", [True, False])
def test_the_mean_of_a_group_is_lm_evals_own(by_rows: bool) -> None:
    """`weight_by_size`: 10 rows at 0.2 and 30 at 0.6 are 0.5, or 0.4 where tasks count alike."""
    from lm_eval.api.metrics import aggregate_subtask_metrics

    cells = {}
    for task, value, n in (("a", 0.2, 10), ("b", 0.6, 30)):
        metric = Metric(name="lm_eval/acc", value=value, n=n, stderr=0.0, ci_low=value, ci_high=value)
        cells[task] = [RunCell(model="m", task=task, protocol="p", metrics={None: (metric,)})]
    mean = mean_over(cells, "lm_eval/acc", {"a": 1.0, "b": 1.0}, by_rows=by_rows)
    assert mean is not None
    assert mean.value == pytest.approx(aggregate_subtask_metrics([0.2, 0.6], [10, 30], by_rows))
    assert mean.value == pytest.approx(0.5 if by_rows else 0.4)
    assert (mean.tasks, mean.rows) == (2, 40)
