"""Prompts that were not what their tool said, as users reported it, with inputs of our own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from spt_fast import tasks
from spt_fast.config import FewShot, GridConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.errors import ConfigError, DataError
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan import Stage, expand
from spt_fast.plan.cell import Cell
from spt_fast.tasks.base import Task
from spt_fast.tasks.rows import load_rows
from spt_fast.worker.questions import draw_shots
from spt_fast.worker.rows import rows_of
from tests.helpers.tiny import CHAT_TEMPLATE, byte_tokenizer, tiny_model

RIDDLES = """\
name: riddles
rows: {files: {few_shot: shots.jsonl, test: test.jsonl}}
columns: {question: q, answer: a}
answer_form: line
"""


def riddles(folder: Path, test: list[tuple[str, str]], shots: list[tuple[str, str]], text: str = RIDDLES) -> Path:
    """A task file beside its rows."""
    for name, rows in (("test", test), ("shots", shots)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in rows))
    (folder / "riddles.yaml").write_text(text)
    return folder / "riddles.yaml"


def numbered(first: int, count: int) -> list[tuple[str, str]]:
    return [(f"What is the name of hill {n}?", f"Hill {n}") for n in range(first, first + count)]


def prompts(task: Task, seed: int = 0, shots: int = 2) -> list[str]:
    rows = load_rows(task, need={"test"})
    return [task.template.prompt(example, draw_shots(rows.few_shot, shots, seed)) for example in rows.test]


def test_no_test_row_is_shown_with_its_answer(tmp_path: Path) -> None:
    """EleutherAI/lm-evaluation-harness#4145, #3790, #3978: without a split for shots these came from the test rows, the asked
    one with its answer among them; and where it was there twice, the run ended. Right: a test row is no shot, whatever its
    case and blanks, for any seed; and with too few others the cell fails with the numbers."""
    test = numbered(0, 6)
    copies = [(f" {question.upper()} ", answer) for question, answer in test]
    task = tasks.get(str(riddles(tmp_path, test, [*copies, *test, *test, *numbered(50, 3)])))
    for seed in range(20):
        for (question, answer), prompt in zip(sorted(test), sorted(prompts(task, seed)), strict=True):
            assert prompt.casefold().count(question.casefold()) <= 1, "once, where it is asked"
            assert f"Answer: {answer}\n" not in prompt
    with pytest.raises(DataError, match="few_shot needs 4 few-shot rows, and the task has 3"):
        prompts(task, shots=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "one", hidden_size=32, positions=512)


def cells(model: Path, task: str | Path, *seeds: int) -> list[Cell]:
    config = TaskConfig(task=str(task))
    protocols = (FewShot(shots=2),) if seeds else (ZeroShot(),)
    return expand(
        GridConfig(name="g", models=(ModelConfig(id=str(model)),), tasks=(config,), protocols=protocols, seeds=seeds or (0,))
    )


def test_other_shots_and_another_prompt_are_other_cells(model: Path, tmp_path: Path) -> None:
    """EleutherAI/lm-evaluation-harness#4084, #4123: the cache of requests went by the task's name, so that another seed of
    the shots, or an edited prompt, was told with the old prompts' results. Right: both are part of what a result is kept
    under, the next time that a grid is read; so it was for another command, and not in a notebook: mended here."""
    one, two = cells(model, "zoo-short", 1, 2)
    assert one.key != two.key
    assert [cell.key for cell in cells(model, "zoo-short", 1, 2)] == [one.key, two.key]
    file = riddles(tmp_path, numbered(0, 4), numbered(50, 4))
    (before,) = cells(model, file)
    assert cells(model, file)[0].key == before.key
    riddles(tmp_path, numbered(0, 4), numbered(50, 4), RIDDLES + 'item: "Riddle: {question}\\nAnswer:"\n')
    (prompt,) = cells(model, file)
    riddles(tmp_path, numbered(0, 5), numbered(50, 4))
    (rows,) = cells(model, file)
    assert len({before.key, prompt.key, rows.key}) == 3


def test_rows_that_change_during_a_run_are_not_told_under_the_old_rows_key(model: Path, tmp_path: Path) -> None:
    """As EleutherAI/lm-evaluation-harness#4123, later: rows that were edited between the reading of the grid and that of the
    rows were asked, and kept under the key of those before. Right: the task's cells fail with a sentence; mended here."""
    (cell,) = cells(model, riddles(tmp_path, numbered(0, 4), numbered(50, 4)))
    stage = Stage(model=cell.model, cells=(cell,))
    assert len(rows_of(stage, cell.task).test) == 4
    riddles(tmp_path, numbered(0, 5), numbered(50, 4))
    with pytest.raises(DataError, match="riddles: its rows, or its task file, have changed since the run began"):
        rows_of(stage, cell.task)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("Question: {{question}}\\nAnswer:", "has no {question} in it"),
        ("Question: question\\nAnswer:", "has no {question} in it"),
        ("Premise: {premise}\\n{question}\\nAnswer:", "unknown field {premise}"),
    ],
)
def test_a_prompt_that_would_hold_no_question_is_refused(item: str, said: str, tmp_path: Path) -> None:
    """EleutherAI/lm-evaluation-harness#3944: braces of the wrong kind were asked as they stood, the same prompt for every
    row, and accuracy was chance. Right: the task is refused before anything runs."""
    with pytest.raises(ConfigError) as caught:
        tasks.get(str(riddles(tmp_path, numbered(0, 2), [], f'{RIDDLES}item: "{item}"\n')))
    assert said in str(caught.value)


def test_braces_and_percent_signs_in_rows_are_text(tmp_path: Path) -> None:
    """The other side of EleutherAI/lm-evaluation-harness#3944. Right: what a row holds is written as it stands, in a shot
    too."""
    odd = r"What do {question}, {{x}}, {0}, {% if %} and %s mean in \frac{1}{2}?"
    task = tasks.get(str(riddles(tmp_path, [(odd, "{a}")], [(f"{odd} Again?", "{options}"), ("And {?", "}")])))
    (prompt,) = prompts(task)
    assert prompt.endswith(f"Question: {odd}\nAnswer:")
    assert "Answer: {options}\n" in prompt
    assert "Question: And {?\nAnswer: }\n" in prompt


def test_a_folder_with_a_tasks_name_is_not_that_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EleutherAI/lm-evaluation-harness#2122: a folder called as a task in the working directory was taken for it: ValueError.
    Right: a name is a name; what is meant as a path says so."""
    monkeypatch.chdir(tmp_path)
    for name in ("mmlu", "gsm8k", "zoo-short"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text("{}\n")
        assert tasks.get(name).name == name


def test_all_options_of_a_row_are_asked_and_can_be_right(tmp_path: Path) -> None:
    """ai-twinkle/Eval#140: options behind D were lost, and rows whose answer they were with them. Right: up to 26 options are
    listed, any may be right; more are refused in a sentence."""

    def task(count: int) -> Task:
        rows = [{"q": f"Which is {n}?", "o": [f"thing {i}" for i in range(count)], "a": n} for n in range(count)]
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "t.yaml").write_text(
            "name: t\nrows: {files: {test: t.jsonl}}\ncolumns: {question: q, options: o, answer: {column: a, as: index}}\n"
            "random_baseline: 0.1\n"
        )
        return tasks.get(str(tmp_path / "t.yaml"))

    for count in (10, 26):
        asked = load_rows(task(count), need={"test"}).test
        assert sorted(example.target for example in asked) == [f"{chr(65 + i)}. thing {i}" for i in range(count)]
        assert all(task(count).template.prompt(example).count("\n") >= count for example in asked)
    with pytest.raises(DataError, match="27 options; there must be 2 to 26"):
        load_rows(task(27), need={"test"})


def test_no_prompt_begins_with_bos_twice_or_lacks_it() -> None:
    """lang-uk/ukrainian-llm-leaderboard#5, huggingface/open-r1#462, EleutherAI/lm-evaluation-harness#3295: a chat template
    that writes BOS itself had a second one put in front, and a plain prompt had none. Right: one, where the tokenizer puts
    one, however the prompt comes about; none, where it does not."""
    writes, leaves = (
        Tokenizer(byte_tokenizer(chat_template=template))
        for template in (CHAT_TEMPLATE, CHAT_TEMPLATE.replace("{{ bos_token }}", ""))
    )
    for tokenizer, chat in ((writes, True), (writes, False), (leaves, True), (leaves, False)):
        ids = tokenizer.prompt_ids("Which town?\nAnswer:", chat=chat)
        assert (ids[0], ids.count(256), ids.count(257)) == (256, 1, 0)
        for prompt, option in [tokenizer.pair(tokenizer.render("Which town?\nAnswer:", chat=chat), " Rome")]:
            assert Counter((*prompt, *option))[256] == 1
    bare = Tokenizer(byte_tokenizer(bos=False))
    assert bare.prompt_ids("Which town?") == tuple(bare.text_ids("Which town?"))


def test_a_limit_takes_rows_from_everywhere(tmp_path: Path) -> None:
    """EleutherAI/lm-evaluation-harness#2598, huggingface/lighteval#1323: a limit kept the first rows of files that are sorted
    by subject, so that "MMLU-Pro" was business alone. Right: a sample of all, the same each time, a smaller one part of a
    greater."""
    rows = [
        (f"{subject}: what is thing {n}?", f"thing {n}") for subject in ("law", "maths", "music", "sport") for n in range(50)
    ]
    task = tasks.get(str(riddles(tmp_path, rows, [])))
    forty, twenty = ([e.question for e in load_rows(task, limit=limit, need={"test"}).test] for limit in (40, 20))
    assert set(twenty) < set(forty)
    counts = Counter(question.partition(":")[0] for question in forty)
    assert len(counts) == 4
    assert max(counts.values()) < 20
