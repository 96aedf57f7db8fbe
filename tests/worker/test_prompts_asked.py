"""What a model is really asked: the whole question, on a day that stands still, no thought begun, no option cut at the seam."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from spt_fast.analysis.compare import compare_runs
from spt_fast.analysis.runs import read_run
from spt_fast.cli import main
from spt_fast.cli.checking import Checked, check_grid
from spt_fast.config import FewShot, GridConfig, JudgeConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.config.reader import load_grid
from spt_fast.driver.result import GridResult
from spt_fast.errors import ConfigError, DataError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan import expand
from spt_fast.plan.cell import TaskRows
from spt_fast.report.folder import write_tables
from spt_fast.store import Store
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import load_rows
from spt_fast.worker.questions import questions
from tests.helpers.running import run_grid
from tests.helpers.tiny import CHAT_TEMPLATE, byte_tokenizer, tiny_model

PARTS = CHAT_TEMPLATE.replace("{{ message['content'] }}", "{% for p in message['content'] %}{{ p['text'] }}{% endfor %}")
TEMPLATES = {
    "plain": CHAT_TEMPLATE,
    "parts": PARTS,
    "deaf": CHAT_TEMPLATE.replace("{{ message['content'] }}", ""),
    "eats": CHAT_TEMPLATE.replace("message['content']", "message['content'].split('yellow')[0]"),
    "dated": CHAT_TEMPLATE.replace("{{ bos_token }}", "{{ bos_token }}{{ strftime_now('%Y-%m-%d') }}\n"),
    "uncued": "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}\n{% endfor %}",
    "thinks": CHAT_TEMPLATE.replace("<assistant>\n", "<assistant>\n<think>\n"),
    "switch": CHAT_TEMPLATE.replace(
        "<assistant>\n", "<assistant>\n<think>\n{% if enable_thinking is false %}</think>\n{% endif %}"
    ),
}
SEAM = [": Ġ", *(f":Ġ {letter}" for letter in "ABCD")]
"""": A" is one token."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for each template, and one without whose tokens reach across the seam."""
    folder = tmp_path_factory.mktemp("models")
    for name, template in TEMPLATES.items():
        tiny_model(folder / name, hidden_size=32, positions=1024, tokenizer=byte_tokenizer(chat_template=template))
    tiny_model(folder / "seam", hidden_size=32, positions=1024, tokenizer=byte_tokenizer(merges=SEAM))
    return folder


@pytest.fixture
def grid(models: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(models / "plain"), chat_template=True),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-short")),
        protocols=(ZeroShot(),),
        limit=4,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


@dataclass(frozen=True, kw_only=True)
class Fixed(TaskRows):
    """The rows of a task that the registry does not have."""

    fixed: Task

    @property
    def task(self) -> Task:
        return self.fixed


def asking(grid: GridConfig, models: Path, name: str, **more: Any) -> GridConfig:
    """The grid with another model."""
    return replace(grid, models=(ModelConfig(id=str(models / name), **{"chat_template": True, **more}),))


def reasons(result: GridResult) -> dict[str, str]:
    """Task -> why it failed."""
    return {cell.task.name: result.failures[cell.key].reason for cell in result.cells if cell.key in result.failures}


def provenances(result: GridResult) -> list[dict[str, Any]]:
    """Of the cells in results.json."""
    return [cell["provenance"] for cell in json.loads((Path(str(result.folder)) / "results.json").read_text())["cells"]]


def told(checked: Checked) -> str:
    return "\n".join((*checked.wrong, *checked.notes))


# All of the question


def test_a_template_of_parts_asks_the_whole_question(grid: GridConfig, models: Path) -> None:
    assert told(check_grid(asking(grid, models, "parts"))) == ""
    result = run_grid(asking(grid, models, "parts"))
    assert not result.failures
    for cell in result.cells:
        rows = load_rows(cell.task.task, limit=4, need={"test"}).test
        asked = {row["example"]: row["prompt"] for row in Store(result.folder).samples(cell.key)}
        assert len(asked) == len(rows)
        assert all(example.question in asked[example.key] for example in rows)
        assert all(option in asked[example.key] for example in rows for option in example.options)


def test_a_template_that_writes_no_question_fails_its_cells_and_is_wrong_at_check(grid: GridConfig, models: Path) -> None:
    grid = asking(grid, models, "deaf")
    assert "does not write all of the prompt" in "".join(check_grid(grid).wrong)
    result = run_grid(grid)
    assert not result.results
    assert all("does not write all of the prompt" in reason for reason in reasons(result).values())
    assert set(reasons(result)) == {"zoo-mcq", "zoo-short"}


@pytest.mark.parametrize("split", ["test", "tuning", "few_shot"])
def test_one_row_that_a_template_cuts_fails_the_cells_that_read_it(
    grid: GridConfig, models: Path, tmp_path: Path, split: str
) -> None:
    files = {}
    for name, count in (("test", 40), ("tuning", 8), ("few_shot", 4)):
        rows = [{"question": f"What is {name} {n}, in digits?", "answer": f"It is {n}.\n#### {n}"} for n in range(count)]
        if name == split:
            rows[-1]["question"] = "Is a yellow thing yellow?"
        files[name] = str(tmp_path / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    learn = SoftPromptConfig(length=2, steps=2, batch_size=4, lr=0.01)
    grid = replace(
        asking(grid, models, "eats"),
        tasks=(TaskConfig(task="gsm8k", data_files=files),),
        protocols=(ZeroShot(), FewShot(shots=4), learn),
        limit=None,
    )
    result = run_grid(grid)
    failed = {cell.protocol.name for cell in result.cells if cell.key in result.failures}
    assert (
        failed == {"test": {"zero_shot", "few_shot", "soft_prompt"}, "tuning": {"soft_prompt"}, "few_shot": {"few_shot"}}[split]
    )
    assert all("what is missing begins with 'yellow" in failure.reason for failure in result.failures.values())


def test_a_task_whose_template_leaves_the_question_out_fails(grid: GridConfig, models: Path) -> None:
    grid = asking(grid, models, "plain", chat_template=None)
    (cell, _) = expand(grid)
    task = cell.task.task
    rows = load_rows(task, limit=4, need={"test"})
    tokenizer = Tokenizer.load(models / "plain")
    assert len(questions(cell, rows, tokenizer, chat=False)) == 4
    broken = replace(task, template=replace(task.template, item="Options:\n{options}\nAnswer:"))
    with pytest.raises(DataError, match="its question is not in the prompt"):
        questions(replace(cell, task=Fixed(**vars(cell.task), fixed=broken)), rows, tokenizer, chat=False)


# The date


def test_a_dated_template_is_told_a_day_that_stands_still_and_check_and_results_say_which(
    grid: GridConfig, models: Path
) -> None:
    grid = asking(grid, models, "dated")
    (said,) = check_grid(grid).notes
    assert "its chat template writes today's date; every prompt says 2024-07-26 (chat_date)" in said
    result = run_grid(grid)
    for cell in result.cells:
        assert all(row["prompt"].startswith("<s>2024-07-26\n") for row in Store(result.folder).samples(cell.key))
    write_tables(result.folder)
    assert [each["chat_date"] for each in provenances(result)] == ["2024-07-26"] * 2
    assert run_grid(grid).results.keys() == result.results.keys()


def test_the_day_is_part_of_the_key_where_there_is_a_chat_template(grid: GridConfig, models: Path) -> None:
    def keys(**more: Any) -> list[str]:
        return [cell.key for cell in expand(asking(grid, models, "dated", **more))]

    assert keys() == keys(chat_date="2024-07-26")
    assert not set(keys()) & set(keys(chat_date="2025-03-01"))
    assert keys(chat_template=None) == keys(chat_template=None, chat_date="2025-03-01")


def test_a_template_without_a_date_says_nothing_of_one(grid: GridConfig, models: Path) -> None:
    assert told(check_grid(grid)) == ""
    result = run_grid(grid)
    write_tables(result.folder)
    assert not any("chat_date" in each or "seam" in each for each in provenances(result))


def test_compare_says_where_the_days_of_two_runs_differ(grid: GridConfig, models: Path, tmp_path: Path) -> None:
    runs = []
    for day in ("2024-07-26", "2025-03-01"):
        dated = replace(asking(grid, models, "dated", chat_date=day), output=tmp_path / day)
        runs.append(read_run(run_grid(dated).folder))
    said = "the date in its prompts (chat_date) is 2024-07-26 in A, 2025-03-01 in B"
    assert any(said in note for note in compare_runs(*runs, resamples=0).notes)
    assert not any("chat_date" in note for note in compare_runs(runs[0], runs[0], b_model=None, resamples=0).notes)


@pytest.mark.parametrize(
    ("day", "sentence"),
    [
        ('"2025-02-30"', "chat_date: must be a day, as in \"2024-07-26\", not '2025-02-30'"),
        ("today", "chat_date: must be a day, as in \"2024-07-26\", not 'today'"),
        ("2025-03-01", "'2025-03-01' is a date to YAML; write it in quotation marks"),
    ],
)
def test_a_day_that_is_none_is_a_sentence(day: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        f"name: g\nmodels: [{{id: zoo/base-40, chat_date: {day}}}]\ntasks: [zoo-mcq]\nprotocols: [zero_shot]\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_grid(tmp_path / "grid.yaml")
    assert sentence in str(refused.value)


# Thoughts


def test_options_are_not_scored_inside_a_thought_and_open_questions_are_asked(grid: GridConfig, models: Path) -> None:
    result = run_grid(asking(grid, models, "switch"))
    (sentence,) = reasons(result).values()
    assert set(reasons(result)) == {"zoo-mcq"}
    assert "opens a thought (<think>), and the options of zoo-mcq would be scored inside it" in sentence
    assert sentence.endswith("set chat_template_kwargs: {enable_thinking: false}")
    assert len(result.results) == 1


def test_what_would_be_scored_inside_a_thought_is_wrong_at_check_and_nothing_is_learnt_for_it(
    grid: GridConfig, models: Path
) -> None:
    grid = asking(grid, models, "thinks")
    assert "set chat_template: false (no chat_template_kwargs close it)" in "".join(check_grid(grid).wrong)
    learn = SoftPromptConfig(length=2, steps=2, batch_size=4, lr=0.01)
    result = run_grid(replace(grid, tasks=grid.tasks[:1], protocols=(learn,)))
    assert set(reasons(result)) == {"zoo-mcq"}
    assert not list(Path(str(result.folder)).rglob("prompt.safetensors"))


def test_open_questions_in_a_thought_are_a_word_at_check(grid: GridConfig, models: Path) -> None:
    checked = check_grid(replace(asking(grid, models, "switch"), tasks=(TaskConfig(task="zoo-short"),)))
    assert checked.wrong == ()
    assert "opens a thought (<think>)" in told(checked)
    assert "chat_template_kwargs: {enable_thinking: false}" in told(checked)


def test_the_switch_that_check_names_is_the_mend(grid: GridConfig, models: Path) -> None:
    grid = asking(grid, models, "switch", chat_template_kwargs={"enable_thinking": False})
    assert told(check_grid(grid)) == ""
    assert not run_grid(grid).failures


def test_a_judge_that_would_think_first_is_wrong_at_check(grid: GridConfig, models: Path) -> None:
    judge = JudgeConfig(model=str(models / "thinks"))
    assert "judge: " in (said := "".join(check_grid(replace(grid, judge=judge)).wrong))
    assert "a judge has to answer at once" in said
    able = JudgeConfig(model=str(models / "switch"))
    assert check_grid(replace(grid, judge=able)).wrong == (), "thoughts of a judge are off unless they are asked for"


def test_a_template_without_a_cue_for_the_answer_is_a_word_at_check(grid: GridConfig, models: Path) -> None:
    (note,) = check_grid(asking(grid, models, "uncued")).notes
    assert "its chat template has no cue for an answer: '<assistant>' stands in front of past ones" in note


# The seam


def test_options_that_share_a_token_with_the_cue_are_scored_whole_and_it_is_said(
    grid: GridConfig, models: Path, tmp_path: Path
) -> None:
    task = tmp_path / "mcq.yaml"
    task.write_text(
        "name: letters\nrows: {files: {test: rows.jsonl}}\nrandom_baseline: 0.5\n"
        "columns: {question: q, options: o, answer: {column: a, as: index}}\n"
    )
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"q": f"Is it {n}?", "o": ["yes", "no"], "a": 0}) + "\n" for n in range(3))
    )
    grid = replace(asking(grid, models, "seam", chat_template=None), tasks=(TaskConfig(task=str(task)),))
    said = "': A' reaches into the options of 3 of 3 rows, which are scored from it on"
    assert [note.partition("letters: ")[2] for note in check_grid(grid).notes] == [said]
    (cell,) = expand(grid)
    tokenizer = Tokenizer.load(models / "seam")
    for question in questions(cell, load_rows(cell.task.task, need={"test"}), tokenizer, chat=False):
        assert [tokenizer.tokens(scored)[0] for _, scored in question.options] == [": A", ": B"]
        assert question.token_ids == tokenizer.prompt_ids(question.prompt)
        assert question.prompt.endswith("Answer:")
    result = run_grid(grid)
    write_tables(result.folder)
    assert [each["seam"] for each in provenances(result)] == [said]


# The command


def test_check_says_it_on_the_terminal(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grid.yaml").write_text(
        f"name: g\nmodels: [{{id: {models / 'dated'}, chat_template: true}}]\ntasks: [zoo-short]\nprotocols: [zero_shot]\n"
        "engine: {kind: echo}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path / "grid.yaml")])
    assert ended.value.code == 0
    assert "every prompt says 2024-07-26 (chat_date)" in capsys.readouterr().out


def test_a_look_at_prompts_imports_no_torch(models: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        f"name: g\nmodels: [{models / 'seam'}]\ntasks: [zoo-mcq]\nprotocols: [zero_shot]\nengine: {{kind: echo}}\n"
    )
    ends = f"try: main(['check', {str(tmp_path / 'grid.yaml')!r}])\nexcept SystemExit as e: assert not e.code"
    code = f"import sys\nfrom spt_fast.cli import main\n{ends}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
