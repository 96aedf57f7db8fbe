"""A user's own task: ten lines of YAML, a Python file, or an installed package. What is wrong with it is one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from spt_fast import tasks
from spt_fast.config import plugins
from spt_fast.errors import ConfigError, DataError
from spt_fast.scoring.score import score
from spt_fast.tasks.base import HubSource, Task
from spt_fast.tasks.custom import from_entry_point, load
from spt_fast.tasks.multiple_choice import INSTRUCTION
from spt_fast.tasks.rows import content_hash, load_rows
from spt_fast.types import Completion, Example

# The two examples of CONTRIBUTING.md.

CAPITALS = """\
name: capitals
summary: capitals of Europe, answered in full (B. Paris)
rows:
  files: capitals            # a folder beside this file, with train.jsonl and test.jsonl
columns:
  question: question
  options: choices           # a list; or [A, B, C, D], four columns; or {fixed: ["no", "yes"]}
  answer: {column: label, as: index}
random_baseline: 0.25
licence: CC0-1.0
"""

RIVERS = '''\
"""Rivers by the sea that they reach: the answer is one word, and may be the river's other name."""

from spt_fast.tasks.base import FileSource, Task, row_key
from spt_fast.tasks.answers.extractors import first_found, first_line, stated_text
from spt_fast.tasks.template import Template
from spt_fast.types import Example, Sampling


def read_row(row):
    names = tuple(row["names"])
    return Example(key=row_key(row), question=f"Which river reaches {row['sea']}?", target=names[0], answers=names)


def extract(text):
    return first_found(text, stated_text, first_line)


TASK = Task(
    name="rivers",
    version=1,
    summary="rivers by the sea that they reach",
    source=FileSource(files="rivers"),  # a folder beside this file
    read_row=read_row,
    template=Template(
        instruction="Name the river in one word, as in: Thames\\nWrite nothing else.",
        item="Question: {question}\\nAnswer:",
    ),
    format=r"[A-Z][a-z]+",
    form="the river in one word: Thames",
    extract=extract,
    normalise=str.casefold,
    sampling=Sampling(max_tokens=16, stop=("\\nQuestion:",)),
    random_baseline=0.0,
    licence="CC0-1.0",
)
'''

SHORT = """\
name: founders
rows: {files: {train: a.jsonl, test: b.jsonl}}
columns: {question: q.text, context: about, answer: answers.text, group: about}
answer_form: line
"""


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def choices(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"Capital of country {n}?", "choices": ["Rome", "Paris", "Oslo", f"Bern {n}"], "label": n % 4}
        for n in range(first, first + count)
    ]


def answers(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "q": {"text": f"Who founded town {n}? "},
            "about": f"town {n % 3}",
            "answers": {"text": [f"King {n}", f"The king {n}"]},
        }
        for n in range(first, first + count)
    ]


@pytest.fixture
def capitals(tmp_path: Path) -> Path:
    write(tmp_path / "capitals" / "train.jsonl", choices(0, 50))
    write(tmp_path / "capitals" / "test.jsonl", choices(100, 20))
    (tmp_path / "capitals.yaml").write_text(CAPITALS)
    return tmp_path / "capitals.yaml"


@pytest.fixture
def founders(tmp_path: Path) -> Path:
    write(tmp_path / "a.jsonl", answers(0, 40))
    write(tmp_path / "b.jsonl", answers(100, 10))
    (tmp_path / "founders.yaml").write_text(SHORT)
    return tmp_path / "founders.yaml"


@pytest.fixture
def rivers(tmp_path: Path) -> Path:
    write(tmp_path / "rivers" / "train.jsonl", [{"sea": f"sea {n}", "names": ["Rhine", "Rhein"]} for n in range(30)])
    write(tmp_path / "rivers" / "test.jsonl", [{"sea": f"bay {n}", "names": ["Danube", "Donau"]} for n in range(5)])
    (tmp_path / "rivers.py").write_text(RIVERS)
    return tmp_path / "rivers.py"


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    caches = (tasks.get, plugins.offered)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def by_question(examples: Sequence[Example], question: str) -> Example:
    return next(example for example in examples if example.question == question)


# YAML


def test_ten_lines_of_yaml_are_a_multiple_choice_task(capitals: Path) -> None:
    task = tasks.get(str(capitals))
    rows = load_rows(task)
    assert (task.name, task.version, task.random_baseline, task.licence) == ("capitals", 1, 0.25, "CC0-1.0")
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (42, 8, 20)
    example = by_question(rows.test, "Capital of country 101?")
    assert example.options == ("A. Rome", "B. Paris", "C. Oslo", "D. Bern 101")
    assert (example.gold, example.target, example.answers) == (1, "B. Paris", ("B. Paris",))
    assert task.template.prompt(example) == (
        f"{INSTRUCTION}\n\nQuestion: Capital of country 101?\nA. Rome\nB. Paris\nC. Oslo\nD. Bern 101\nAnswer:"
    )
    assert task.sampling.stop == ("\nQuestion:",)


def test_a_multiple_choice_task_of_a_user_has_the_other_forms_too(capitals: Path) -> None:
    task = tasks.get(f"{capitals}:letter")
    assert task.name == "capitals:letter"
    assert by_question(load_rows(task).test, "Capital of country 101?").target == "B"


def test_four_lines_of_yaml_are_a_short_answer_task(founders: Path) -> None:
    task = tasks.get(str(founders))
    rows = load_rows(task)
    assert (len(rows.tuning) + len(rows.few_shot), len(rows.test)) == (40, 10)
    example = by_question(rows.test, "Who founded town 101?")
    assert (example.context, example.group, example.target) == ("town 2", "town 2", "King 101")
    assert example.answers == ("King 101", "The king 101")
    assert task.template.render(example) == "Passage: town 2\nQuestion: Who founded town 101?\nAnswer:"
    assert task.sampling.stop == ("\nPassage:", "\nQuestion:")
    assert task.extract is not None
    found = task.extract("The answer is the KING 101.")
    assert found is not None
    assert task.accepts(found.value, example)
    assert not task.follows_format("The answer is the King 101.", example)
    assert task.scores["f1"]("king of 101", example) == 0.8


def yaml_task(folder: Path, columns: str, more: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Task, Sequence[Example]]:
    write(folder / "test.jsonl", rows)
    (folder / "one.yaml").write_text(f"name: one\nrows: {{files: .}}\ncolumns: {{question: q, {columns}}}\n{more}\n")
    task = load(str(folder / "one.yaml"))
    return task, load_rows(task, need={"test"}).test


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("options: o, answer: {column: a, as: index}", {"o": ["Rome", "Paris"], "a": 1}),
        ("options: o, answer: {column: a, as: index}", {"o": '["Rome", "Paris"]', "a": "1"}),
        ("options: o, answer: {column: a, as: index, first: 1}", {"o": ["Rome", "Paris"], "a": 2}),
        ("options: o, answer: {column: a, as: letter}", {"o": ["Rome", "Paris"], "a": "B"}),
        ("options: o, answer: {column: a, as: text}", {"o": ["Rome", " Paris"], "a": "Paris "}),
        ("options: [x, y.z], answer: {column: a, as: text}", {"x": "Rome", "y": {"z": "Paris"}, "a": "Paris"}),
        ("options: [x, y.z], answer: {column: a, as: text}", {"x": "Rome", "y.z": "Paris", "a": "Paris"}),
        ("options: o.text, answer: {column: a, as: letter}", {"o": {"text": ["Rome", "Paris"]}, "a": "B"}),
        ("options: o.text, answer: {column: a, as: letter}", {"o": [{"text": "Rome"}, {"text": "Paris"}], "a": "B"}),
        ("options: {fixed: [Rome, Paris]}, answer: {column: a, as: index}", {"a": True}),
    ],
)
def test_options_and_the_right_one_are_read_as_the_columns_say(tmp_path: Path, columns: str, row: dict[str, Any]) -> None:
    known = re.search(r"options: o\b", columns) is None
    task, (example,) = yaml_task(tmp_path, columns, "" if known else "random_baseline: 0.5", [{"q": "France?", **row}])
    assert (example.options, example.gold) == (("A. Rome", "B. Paris"), 1)
    assert task.random_baseline == 0.5


@pytest.mark.parametrize(
    ("form", "row", "target", "also_right", "wrong"),
    [
        ("answer_form: line", {"a": "the Seine"}, "the Seine", "Answer: Seine.", "Rhine"),
        ("answer_form: number", {"a": 1200}, "1200", "The answer is 1,200.", "120"),
        ("answer_form: number", {"a": ["1,200", "7"]}, "1200", "#### 7", "120"),
        ("answer_form: number", {"a": 0.00001}, "0.00001", "The answer is 0.00001.", "0.0001"),
        ("answer_form: number", {"a": "1e-05"}, "0.00001", "#### 0.000010", "105"),
        ("answer_form: number", {"a": 2.5e20}, "250000000000000000000", "#### 250,000,000,000,000,000,000", "2.5"),
        (
            "answer_form: json\nnormalise: number",
            {"a": 0.00001},
            '{"answer": "0.00001"}',
            '{"answer": 1e-05}',
            '{"answer": 1e-04}',
        ),
        ("answer_form: json\nnormalise: number", {"a": 34}, '{"answer": "34"}', '{"answer": 34}', '{"answer": "3 4"}'),
        ("answer_form: json", {"a": 'a "b"'}, r'{"answer": "a \"b\""}', 'answer: a "b"', '{"answer": "c"}'),
        ("answer_form: boxed", {"a": r"\frac12"}, r"\boxed{\frac12}", "The answer is $0.5$.", r"\boxed{\frac13}"),
        (
            'format: "[A-Z]{3}"\nextract: [first_line]\nnormalise: casefold\ninstruction: Three letters.',
            {"a": "SEI"},
            "SEI",
            "sei.",
            "rhi",
        ),
        (
            'format: "=> [0-9]+"\nextract: [stated_number, bare_number]\ninstruction: As in => 3\ntarget: "answer: {answer}"',
            {"a": "5"},
            None,
            "",
            "",
        ),
    ],
)
def test_open_answers_are_written_recognised_and_found(
    tmp_path: Path, form: str, row: dict[str, Any], target: str | None, also_right: str, wrong: str
) -> None:
    def of() -> tuple[Task, Sequence[Example]]:
        return yaml_task(tmp_path, "answer: a", form, [{"q": "Which?", **row}])

    if target is None:
        with pytest.raises(DataError, match=r"the target 'answer: 5' is not in the form"):
            of()
        return
    task, (example,) = of()
    assert task.extract is not None
    assert example.target == target
    assert task.follows_format(target, example)
    for text, right in ((target, True), (also_right, True), (wrong, False)):
        found = task.extract(text)
        assert found is not None
        assert task.accepts(found.value, example) is right


@pytest.mark.parametrize(
    ("form", "working", "target"),
    [
        ("number", "3 + 4 = 7", "3 + 4 = 7\n#### 7"),
        ("boxed", r"It is $3 + 4 = \boxed{7}$.", "It is $3 + 4 = 7$.\nAnswer: \\boxed{7}"),
    ],
)
def test_a_working_stands_in_front_of_the_answer(tmp_path: Path, form: str, working: str, target: str) -> None:
    row = {"q": "3 + 4?", "w": working, "a": 7}
    task, (example,) = yaml_task(tmp_path, "answer: a, working: w", f"answer_form: {form}", [row])
    assert example.target == target
    assert task.follows_format(target, example)
    assert "step by step" in task.template.instruction


def test_rows_that_are_published_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [{"q": "a?", "a": "x"}, {"q": "b?", "a": ""}, {"q": "c?", "a": []}, {"q": "d?", "a": None}])
    (tmp_path / "t.yaml").write_text("name: t\nrows: {files: .}\ncolumns: {question: q, answer: a}\nanswer_form: line\n")
    rows = load_rows(load(str(tmp_path / "t.yaml")), need={"test"})
    assert len(rows.test) == 1
    (loss,) = rows.losses.left_out
    assert (loss.why, loss.rows, rows.losses.found) == ("with no answer", 3, 4)
    assert loss.first.endswith("test.jsonl, line 2, column 'a'")


def test_test_rows_alone_are_cut_where_the_file_says_so(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [{"q": f"{n}?", "a": str(n), "g": n // 5} for n in range(100)])
    (tmp_path / "t.yaml").write_text(
        "name: t\nrows: {files: ., cut: {tuning: 40, few_shot: 10, by: group}}\n"
        "columns: {question: q, answer: a, group: g}\nanswer_form: number\n"
    )
    rows = load_rows(load(str(tmp_path / "t.yaml")))
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (40, 10, 50)
    assert not {e.group for e in (*rows.tuning, *rows.few_shot)} & {e.group for e in rows.test}


def test_test_rows_alone_without_a_cut_can_be_asked_plainly_and_not_tuned(tmp_path: Path) -> None:
    task, examples = yaml_task(tmp_path, "answer: a", "answer_form: number", [{"q": "1?", "a": 1}])
    assert len(examples) == 1
    with pytest.raises(DataError, match=r"one: no tuning rows; add a file tuning\.jsonl or train\.jsonl"):
        load_rows(task, need={"tuning"})


def test_rows_of_the_hub_are_read_by_the_columns(tmp_path: Path) -> None:
    commit = "0123456789" * 4
    (tmp_path / "hub.yaml").write_text(
        f"name: hub\nrows: {{hub: me/mine, config: [a, b], revision: {commit}, "
        "splits: {tuning: train, test: validation+test}}\n"
        "columns: {question: q, answer: a}\nanswer_form: number\n"
    )
    task = load(str(tmp_path / "hub.yaml"))
    splits = {"tuning": "train", "test": "validation+test"}
    assert task.source == HubSource(id="me/mine", config=("a", "b"), revision=commit, splits=splits)  # type: ignore[arg-type]
    rows = load_rows(task, fetch=lambda source, split: [{"q": f"{split} {n}?", "a": n} for n in range(20)])
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (12, 8, 20)


def test_the_sample_is_checked_and_kept(capitals: Path) -> None:
    capitals.write_text(f"{CAPITALS}sample: {{question: France, choices: [Rome, Paris], label: 1}}\n")
    task = load(str(capitals))
    assert task.sample is not None
    assert task.read_row(task.sample) is not None


def test_stops_tokens_and_words_around_the_question_are_what_the_file_says(capitals: Path) -> None:
    capitals.write_text(
        CAPITALS + 'stop: ["\\n", "Q:"]\nmax_tokens: 7\ninstruction: Say which.\nitem: "Q: {question}\\n{options}\\nA:"\n'
    )
    task = load(str(capitals))
    assert (task.sampling.stop, task.sampling.max_tokens) == (("\n", "Q:"), 7)
    assert task.template.prompt(load_rows(task).test[0]).startswith("Say which.\n\nQ: Capital of country ")


def test_the_examples_of_contributing_are_the_tested_ones() -> None:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    if "capitals.yaml" not in text:
        pytest.skip("CONTRIBUTING.md does not yet say how to write a task of one's own")
    assert f"```yaml\n{CAPITALS}```" in text
    assert f"```python\n{RIVERS}```" in text


def test_the_cloze_form_is_the_item_without_its_options_or_what_the_file_says(capitals: Path) -> None:
    plain = load(str(capitals)).cloze_template
    assert plain is not None
    assert (plain.item, plain.instruction, plain.cue) == ("Question: {question}\nAnswer:", "", "Answer:")
    capitals.write_text(CAPITALS + 'cloze: "Q: {question} A:"\n')
    own = load(str(capitals)).cloze_template
    assert own is not None
    assert (own.item, own.cue) == ("Q: {question} A:", "Answer:"), "its last line is not the same for all rows"
    capitals.write_text(CAPITALS + "cloze: null\n")
    assert load(str(capitals)).cloze_template is None


def test_python_in_yaml_is_not_run(tmp_path: Path, capitals: Path) -> None:
    for tag in ("!!python/object/apply:pathlib.Path.touch", "!!python/name:os.system", "!!python/object/new:os.system"):
        capitals.write_text(f"{CAPITALS}notes: {tag} [{tmp_path / 'ran'}]\n")
        with pytest.raises(ConfigError, match=r"capitals\.yaml: line 11, column 8: not YAML"):
            load(str(capitals))
    assert not (tmp_path / "ran").exists()


# what is wrong is said in one sentence

WRONG_YAML: dict[str, tuple[str, str, str]] = {
    "not yaml": ("name: capitals", "name: [", "line"),
    "a list": (CAPITALS, "- name", "must be a mapping, not a list"),
    "nothing": (CAPITALS, "", "must be a mapping, not nothing"),
    "an unknown key": ("licence:", "license:", "unknown key 'license'; did you mean 'licence'?"),
    "a key twice": ("licence: CC0-1.0", "name: again", "key 'name' appears twice"),
    "a missing key": ("name: capitals", "", "name: is missing"),
    "no columns": ("columns:\n  question: question", "sample:\n  question: question", "columns: is missing"),
    "an unknown column key": ("  question: question", "  questoin: question", "columns: unknown key 'questoin'; did you mean"),
    "no question": ("  question: question\n", "", "columns.question: is missing"),
    "a number as name": ("name: capitals", "name: 7", "name: must be text, not a whole number (7)"),
    "a name with a blank": ("name: capitals", "name: my capitals", "name: 'my capitals' must be letters"),
    "a name like a file": ("name: capitals", "name: capitals.py", "and not end as a file does"),
    "a name of ours": ("name: capitals", "name: mmlu", "name: 'mmlu' is one of spt-fast's own tasks; choose another"),
    "version 0": ("licence: CC0-1.0", "version: 0", "version: must be a whole number from 1 to 2147483647, not 0"),
    "version as text": ("licence: CC0-1.0", "version: one", "version: must be a whole number, not text ('one')"),
    "cloze with options": (
        "licence: CC0-1.0",
        'cloze: "{question} {options}"',
        "cloze: unknown field {options}; choose from context, question",
    ),
    "cloze without the question": ("licence: CC0-1.0", 'cloze: "Answer:"', "cloze: 'Answer:' has no {question} in it"),
    "cloze with a context that is not there": (
        "licence: CC0-1.0",
        'cloze: "{context} {question}"',
        "cloze: has {context} in it, but columns.context is not there",
    ),
    "cloze that ends in a blank": ("licence: CC0-1.0", 'cloze: "{question} "', "cloze: ends in white space"),
    "an empty cloze": ("licence: CC0-1.0", 'cloze: ""', "cloze: must not be empty"),
    "no rows": ("rows:\n  files: capitals", "sample:\n  files: capitals", "rows: is missing"),
    "neither hub nor files": ("  files: capitals", "  config: x", "rows: must have either hub"),
    "both hub and files": ("  files: capitals", "  files: capitals\n  hub: a/b", "rows: must have either hub"),
    "a folder that is not there": ("  files: capitals", "  files: capitls", "rows.files: the folder"),
    "a folder without test rows": ("  files: capitals", "  files: {train: capitals/train.jsonl}", "rows.files: no test rows"),
    "a file that is not there": ("  files: capitals", "  files: {test: nothing.jsonl}", "rows.files: test: there is no file"),
    "an unknown split": ("  files: capitals", "  files: {tset: capitals/test.jsonl}", "rows.files: unknown split 'tset'"),
    "files as a list": ("  files: capitals", "  files: [a, b]", "rows.files: must be a folder, or {split: file}, not a list"),
    "files with a revision": ("  files: capitals", "  files: capitals\n  revision: x", "rows.revision: goes with hub"),
    "a hub id without owner": ("  files: capitals", "  hub: mmlu", "rows.hub: must be owner/name, as in cais/mmlu, not 'mmlu'"),
    "a hub without commit": ("  files: capitals", "  hub: a/b", "rows.revision: is missing; give a full commit (https://"),
    "a branch": (
        "  files: capitals",
        "  {hub: a/b, revision: main, splits: {test: test}}",
        "rows.revision: must be a full commit (40 hexadecimal digits), not 'main', because a branch can change under a result; "
        "https://huggingface.co/datasets/a/b/commits/main lists the commits",
    ),
    "a hub without splits": (
        "  files: capitals",
        f"  {{hub: a/b, revision: {'a' * 40}}}",
        "rows.splits: is missing; say which",
    ),
    "a hub split nobody knows": (
        "  files: capitals",
        f"  {{hub: a/b, revision: {'a' * 40}, splits: {{tunning: train, test: test}}}}",
        "rows.splits: unknown 'tunning'; did you mean 'tuning'?",
    ),
    "a hub without test": (
        "  files: capitals",
        f"  {{hub: a/b, revision: {'a' * 40}, splits: {{tuning: train}}}}",
        "rows.splits: has no test",
    ),
    "tuning on the test rows": (
        "  files: capitals",
        f"  {{hub: a/b, revision: {'a' * 40}, splits: {{tuning: train+test, test: test}}}}",
        "rows.splits.tuning: is 'train+test', whose rows are the test rows; name another",
    ),
    "a cut beside tuning rows": ("  files: capitals", "  files: capitals\n  cut: {}", "rows.cut: is for test rows only, and"),
    "a cut of nothing": (
        "  files: capitals",
        "  files: capitals\n  cut: {tuning: 0}",
        "rows.cut.tuning: must be a whole number from 1 to",
    ),
    "a cut by groups that are not there": (
        "  files: capitals",
        "  files: capitals\n  cut: {by: group}",
        "rows.cut.by: group needs columns.group",
    ),
    "an unknown key of a cut": ("  files: capitals", "  files: capitals\n  cut: {size: 3}", "rows.cut: unknown key 'size'"),
    "options as a number": (
        "options: choices",
        "options: 4",
        "columns.options: must be a column, a list of columns, or {fixed",
    ),
    "one column of options": ("options: choices", "options: [choices]", "columns.options: must have at least 2 entries, not 1"),
    "options that YAML takes for a truth": (
        "options: choices",
        "options: {fixed: [no, yes]}",
        "columns.options.fixed[0]: must be text, not true or false; write it in quotation marks",
    ),
    "an answer that does not say how": (
        "answer: {column: label, as: index}",
        "answer: label",
        "columns.answer: must say how the column names the right option: {column: label, as: index}, as: letter or as: text",
    ),
    "an unknown way to name an option": ("as: index", "as: number", "columns.answer.as: must be index or letter or text"),
    "letters counted from 1": ("as: index", "as: letter, first: 1", "columns.answer.first: goes with as: index"),
    "an index from 2": ("as: index", "as: index, first: 2", "columns.answer.first: must be a whole number from 0 to 1, not 2"),
    "no baseline": ("random_baseline: 0.25", "", "random_baseline: is missing; the list in a column may have any length"),
    "a baseline of 1": (
        "random_baseline: 0.25",
        "random_baseline: 1",
        "random_baseline: must be a number from 0 to below 1, not 1",
    ),
    "choices in another form": (
        "licence: CC0-1.0",
        "answer_form: line",
        "answer_form: is choice where there are columns.options",
    ),
    "an unknown form": ("licence: CC0-1.0", "answer_form: letter", "answer_form: must be choice or line or number or json"),
    "choices with a format": ("licence: CC0-1.0", "format: x", "format: is for open answers"),
    "choices with a working": ("options: choices", "options: choices\n  working: w", "columns.working: is for open answers"),
    "an unknown field": (
        "licence: CC0-1.0",
        'item: "{qestion}\\n{options}\\nA:"',
        "item: unknown field {qestion}; did you mean",
    ),
    "an item without options": ("licence: CC0-1.0", 'item: "{question}"', "item: has no {options} in it, but there is columns"),
    "an item with a context": (
        "licence: CC0-1.0",
        'item: "{context} {question} {options}"',
        "item: has {context} in it, but columns.context is not there",
    ),
    "an item with a lone brace": ("licence: CC0-1.0", 'item: "{question} {options} {"', "write {{ and }} for literal braces"),
    "an item that reaches inside": ("licence: CC0-1.0", 'item: "{question.x} {options}"', "item: unknown field {question.x}"),
    "an item that converts": ("licence: CC0-1.0", 'item: "{question!x} {options}"', "item: '{question!x} {options}'"),
    "an item that ends in white space": ("licence: CC0-1.0", 'item: "{question} {options} "', "item: ends in white space"),
    "an empty instruction": ("licence: CC0-1.0", 'instruction: " "', "instruction: must not be empty"),
    "no tokens": ("licence: CC0-1.0", "max_tokens: 0", "max_tokens: must be a whole number from 1 to 1000000, not 0"),
    "stop as text": ("licence: CC0-1.0", "stop: Q", "stop: must be a list, not text ('Q')"),
    "an empty stop": ("licence: CC0-1.0", 'stop: [""]', "stop[0]: must not be empty"),
    "true as text": ("licence: CC0-1.0", "repeat_rows: often", "repeat_rows: must be true or false, not text ('often')"),
    "a sample without the columns": ("licence: CC0-1.0", "sample: {question: x}", "sample: is not a row of the task"),
    "a sample without an answer": (
        "licence: CC0-1.0",
        "sample: {question: x, choices: [a, b], label: -1}",
        "sample: is a row with no answer; give it a question and an answer",
    ),
}

WRONG_OPEN: dict[str, tuple[str, str]] = {
    "no form": ("", "answer_form: is missing; without columns.options it is line, number"),
    "choice without options": ("answer_form: choice", "columns.options: is missing; answer_form: choice needs it"),
    "a form and a format": ("answer_form: line\nformat: x", "answer_form: does not go with format and extract"),
    "a format alone": ("format: x", "extract: is missing; format, extract and instruction go together"),
    "an extractor alone": ("extract: [first_line]", "format: is missing; format, extract"),
    "a bad regex": (
        "format: '(a'\nextract: [first_line]\ninstruction: x",
        "format: '(a' is not a regular expression (missing )",
    ),
    "a regex too large": ("format: 'a{99999999999}'\nextract: [first_line]\ninstruction: x", "is not a regular expression"),
    "a format of nothing": ("format: '.*'\nextract: [first_line]\ninstruction: x", "format: '.*' matches an empty answer"),
    "an unknown rule": (
        "format: x\nextract: [hash_numbr]\ninstruction: x",
        "extract[0]: unknown 'hash_numbr'; did you mean 'hash_number'?",
    ),
    "rules as text": ("format: x\nextract: first_line\ninstruction: x", "extract: must be a list, not text ('first_line')"),
    "a target with another field": (
        "format: x\nextract: [first_line]\ninstruction: x\ntarget: '{anwser}'",
        "target: unknown field {anwser}; did you mean 'answer'?",
    ),
    "a target without answer": ("format: x\nextract: [first_line]\ninstruction: x\ntarget: y", "target: has no {answer} in it"),
    "a target with a working": (
        "format: x\nextract: [first_line]\ninstruction: x\ntarget: '{working} {answer}'",
        "target: has {working} in it, but columns.working is not there",
    ),
    "a target of a known form": ("answer_form: line\ntarget: '{answer}'", "target: goes with format"),
    "numbers compared as words": (
        "answer_form: number\nnormalise: words",
        "normalise: must be number with answer_form: number",
    ),
    "an unknown comparison": (
        "answer_form: line\nnormalise: lower",
        "normalise: must be exact or casefold or number or words or latex",
    ),
}


@pytest.mark.parametrize(("old", "new", "says"), WRONG_YAML.values(), ids=WRONG_YAML.keys())
def test_a_wrong_task_file_is_one_sentence(
    capitals: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, says: str
) -> None:
    assert old in CAPITALS
    text = CAPITALS.replace(old, new, 1)
    if new.lstrip().startswith("{hub"):
        text = re.sub(r"rows:\n +\{(.*)\} .*\n", r"rows: {\1}\n", text)
    monkeypatch.chdir(capitals.parent)
    capitals.write_text(text)
    with pytest.raises(ConfigError) as caught:
        tasks.get("capitals.yaml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("capitals.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("form", "says"), WRONG_OPEN.values(), ids=WRONG_OPEN.keys())
def test_a_wrong_form_of_an_open_answer_is_one_sentence(
    founders: Path, monkeypatch: pytest.MonkeyPatch, form: str, says: str
) -> None:
    monkeypatch.chdir(founders.parent)
    founders.write_text(SHORT.replace("answer_form: line", form))
    with pytest.raises(ConfigError) as caught:
        tasks.get("founders.yaml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("founders.yaml: ")
    assert "\n" not in str(caught.value)


def test_an_answer_of_an_open_task_is_a_column(founders: Path) -> None:
    founders.write_text(SHORT.replace("answer: answers.text", "answer: {column: answers, as: text}"))
    with pytest.raises(ConfigError, match=r"columns.answer: must be the name of a column where there are no columns.options"):
        load(str(founders))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"choices": None}, "column 'choices' is null, not a list of options"),
        ({"choices": "Rome"}, "column 'choices' is text, and not JSON"),
        ({"choices": [str(n) for n in range(27)]}, "27 options; there must be 2 to 26"),
        ({"choices": [["Rome"], "Paris"]}, "column 'choices' is a list, not text"),
        ({"label": 4}, "column 'label' is 4; it is 0 to 3"),
        ({"label": "B"}, "column 'label' is 'B'; it is 0 to 3"),
        ({"question": ["x"]}, "column 'question' is a list, not text"),
        ({"question": True}, "column 'question' is true or false (True), not text"),
    ],
)
def test_a_row_that_does_not_fit_is_told_by_its_place(capitals: Path, change: dict[str, Any], says: str) -> None:
    write(capitals.parent / "capitals" / "test.jsonl", [choices(1, 1)[0], choices(2, 1)[0] | change])
    with pytest.raises(DataError) as caught:
        load_rows(load(str(capitals)))
    assert "test.jsonl, line 2: is not a row of capitals" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            "options: choices, answer: {column: lable, as: index}",
            "columns.answer: there is no column 'lable'; did you mean 'label'?",
        ),
        ("options: choices.text, answer: {column: label, as: index}", "columns.options: there is no column 'choices.text'"),
        (
            "options: [A, B], answer: {column: label, as: index}",
            "columns.options: there is no column 'A'; choose from q, choices, label",
        ),
        ("options: choices, answer: {column: label, as: letter}", "column 'label' is '1', which is none of 'A, B'"),
        ("options: choices, answer: {column: label, as: text}", "column 'label' is '1', which is none of 'Rome, Rome'"),
        ("options: choices, answer: {column: right, as: text}", "column 'right' is 'Rome', which is 2 of 'Rome, Rome'"),
    ],
)
def test_a_column_that_does_not_fit_is_told_with_its_key(tmp_path: Path, columns: str, says: str) -> None:
    row = {"q": "France?", "choices": ["Rome", "Rome"], "label": 1, "right": "Rome"}
    with pytest.raises(DataError) as caught:
        yaml_task(tmp_path, columns, "random_baseline: 0.5", [row])
    assert "test.jsonl, line 1: is not a row of one (" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "answer", "says"),
    [
        ("answer_form: number", "seven", "the target 'seven' is not in the form that one asks for"),
        (
            "format: .+\nextract: [first_line]\ninstruction: x",
            "(Heroes)",
            "the answer '(Heroes)' could never count as right: extract finds 'Heroes' in",
        ),
        ("answer_form: json", [], "one: no test rows"),
        ("answer_form: json", {"x": 1}, "column 'a' is an object, not text"),
        ("answer_form: line", True, "column 'a' is true or false (True), not text"),
    ],
)
def test_an_answer_that_could_never_be_right_is_told(tmp_path: Path, form: str, answer: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        yaml_task(tmp_path, "answer: a", form, [{"q": "Which?", "a": answer}])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ("answer_form: line", "one word more " * 9),
        ("answer_form: line", "Answer: I don't know"),
        ("answer_form: line", "The dog was the first to bark."),
        ("answer_form: json", "Problem: unanswerable"),
        ("answer_form: json", "</s>"),
        ("format: .+\nextract: [first_line]\ninstruction: x", "no information in more than eight words of a line"),
        ("format: .+\nextract: [stated_text]\ninstruction: x", "User: says nothing"),
        ("answer_form: boxed", "\\text{Problem: x}"),
    ],
)
def test_no_row_is_refused_for_the_words_of_its_answer(tmp_path: Path, form: str, answer: str) -> None:
    task, examples = yaml_task(tmp_path, "answer: a", form, [{"q": "Which?", "a": answer}])
    completion = Completion(text=f" {examples[0].target}\n", token_ids=(1,), finish_reason="stop")
    assert score(task, examples, [completion], prompts=["p"])[0].correct


@pytest.mark.parametrize("name", ["nothing.yaml", "nothing.py"])
def test_a_task_file_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: no such file; name a task's .yaml or .py file$"):
        tasks.get(name)


def test_a_folder_or_bytes_are_no_task_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    (tmp_path / "b.yml").write_bytes(b"name: \xff")
    for name, says in (("a.yaml", "is a folder"), ("b.yml", r"is not text \(UTF-8\)")):
        with pytest.raises(ConfigError, match=says):
            load(str(tmp_path / name))


# Python


def test_a_python_file_is_a_task(rivers: Path) -> None:
    task = tasks.get(str(rivers))
    rows = load_rows(task)
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (22, 8, 5)
    example = by_question(rows.test, "Which river reaches bay 3?")
    assert (example.target, example.answers) == ("Danube", ("Danube", "Donau"))
    assert task.accepts("DONAU", example)
    assert list(rivers.parent.glob("__pycache__")) == []


def test_a_python_file_runs_once_for_each_of_its_contents(rivers: Path) -> None:
    ran = rivers.parent / "ran.txt"
    line = f"with open({str(ran)!r}, 'a') as file: file.write('.')\n"
    rivers.write_text(line + RIVERS)
    assert load(str(rivers)).read_row is load(str(rivers)).read_row
    assert ran.read_text() == "."
    rivers.write_text(line + RIVERS.replace("version=1", "version=2"))
    assert load(str(rivers)).version == 2
    assert ran.read_text() == ".."


def test_a_python_file_can_hold_dataclasses_and_options(rivers: Path) -> None:
    rivers.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass, replace\n"
        "from spt_fast.tasks.benchmarks.mmlu import TASK\n"
        "@dataclass\nclass Thing:\n    x: int = 1\nTASK = replace(TASK, name='mine')\n"
    )
    task = load(str(rivers))
    assert task.closed_ended
    assert content_hash(task) != content_hash(tasks.get("mmlu"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("def read_row(row):", "def read_row(row:", r"rivers\.py, line 9: SyntaxError: "),
        ("TASK = Task(", "TASK = Tusk(", r"rivers\.py, line 18: NameError: name 'Tusk' is not defined"),
        ("import Template", "import Templates", r"rivers\.py, line 5: ImportError: cannot import name 'Templates'"),
        ("{question}", "{qestion}", r"rivers\.py, line \d+: template item: unknown field \{qestion\}"),
        ("TASK = Task(", "raise SystemExit(3)\nTASK = Task(", r"rivers\.py, line 18: SystemExit: 3"),
        ("TASK = ", "OTHER = ", r"rivers\.py: has no constant TASK; end it with TASK = Task\(\.\.\.\)"),
        ("TASK = Task(", "TASK = dict(", r"rivers\.py: TASK is dict; it must be a spt_fast\.tasks\.base\.Task"),
        ('name="rivers"', 'name="gsm8k"', r"TASK\.name: 'gsm8k' is one of spt-fast's own tasks"),
        ('name="rivers"', "name=7", r"rivers\.py: TASK is not as it should be: TypeError: expected string"),
        ('files="rivers"', 'files="river"', r"TASK\.source\.files: the folder '.*river' is not there"),
        ("    extract=extract,\n", "", r"TASK\.extract: is missing; a task with a format needs it"),
        (
            '    licence="CC0-1.0"',
            '    sample={"a": 1}, licence=""',
            r"TASK\.sample: is not a row of the task \(KeyError: 'names'\)",
        ),
        (
            '    licence="CC0-1.0"',
            '    sample={"names": ["x"], "sea": ""}, licence=""',
            r"TASK\.sample: its target 'x' is not in the form",
        ),
        ("random_baseline=0.0", "random_baseline=1.5", r"TASK\.random_baseline: must be a number from 0 to below 1, not 1\.5"),
    ],
)
def test_a_wrong_python_file_is_one_sentence(rivers: Path, old: str, new: str, says: str) -> None:
    assert old in RIVERS
    rivers.write_text(RIVERS.replace(old, new, 1))
    for _ in range(2):  # nothing half-run is kept
        with pytest.raises(
            ConfigError, match=f"^{re.escape(str(rivers.parent))}/{'' if says.startswith('riv') else '.*: '}{says}"
        ) as caught:
            load(str(rivers))
        assert "\n" not in str(caught.value)


def test_a_branch_in_a_python_file_is_refused(rivers: Path) -> None:
    rivers.write_text(
        "from dataclasses import replace\nfrom spt_fast.tasks.benchmarks.mmlu import TASK\n"
        "TASK = replace(TASK, name='mine', source=replace(TASK.source, revision='main'))\n"
    )
    with pytest.raises(ConfigError, match=r"TASK\.source\.revision: must be a full commit .* not 'main'"):
        load(str(rivers))


# what a file defines is part of the cell's key


@pytest.mark.parametrize("which", ["capitals", "rivers"])
def test_an_edited_file_is_another_definition_and_a_copy_is_not(request: pytest.FixtureRequest, which: str) -> None:
    file: Path = request.getfixturevalue(which)
    before = load(str(file))
    assert re.fullmatch("[0-9a-f]{16}", before.definition)
    copy = file.with_stem("copy")
    copy.write_bytes(file.read_bytes())
    assert load(str(copy)).definition == before.definition
    assert content_hash(load(str(copy))) == content_hash(before)
    file.write_bytes(file.read_bytes() + b"# a comment\n")
    after = load(str(file))
    assert after.definition != before.definition
    assert content_hash(after) != content_hash(before)


def test_edited_rows_are_other_content_under_the_same_definition(capitals: Path) -> None:
    before = load(str(capitals))
    content = content_hash(before)
    write(capitals.parent / "capitals" / "test.jsonl", choices(100, 21))
    after = load(str(capitals))
    assert after.definition == before.definition
    assert content_hash(after) != content


# entry points


def install(folder: Path, name: str, module: str, text: str) -> None:
    """A package that offers `TASK` of a module by an entry point."""
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{plugins.TASKS}]\n{name} = {module}:TASK\n")
    (folder / f"{module}.py").write_text(text)


def test_a_task_of_an_installed_package_has_its_name_in_the_registry(rivers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = rivers.parent
    install(site, "rivers", "rivers_package_one", RIVERS)
    monkeypatch.syspath_prepend(str(site))
    assert "rivers" in tasks.names()
    task = tasks.get("rivers")
    assert len(load_rows(task).test) == 5
    assert task.definition == load(str(site / "rivers_package_one.py")).definition


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rivers", "import nothing_of_this_name", "cannot be imported (ModuleNotFoundError: No module named 'nothing_of"),
        ("rivers", "x = 1", "{module} has no TASK; mend the entry point"),
        ("rivers", "TASK = 1", "TASK is int; it must be a spt_fast.tasks.base.Task"),
        ("streams", RIVERS, "TASK.name: is 'rivers'; the entry point and the task have one name"),
        ("mmlu", RIVERS.replace('"rivers"', '"mmlu"', 1), "TASK.name: 'mmlu' is one of spt-fast's own tasks"),
    ],
)
def test_a_wrong_entry_point_is_one_sentence(
    rivers: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, says: str
) -> None:
    module = f"rivers_package_{abs(hash((name, text)))}"
    install(rivers.parent, name, module, text)
    monkeypatch.syspath_prepend(str(rivers.parent))
    (point,) = metadata.entry_points(group=plugins.TASKS, module=module)
    with pytest.raises(ConfigError) as caught:
        from_entry_point(point)
    assert str(caught.value).startswith(f"task {name} ({module}:TASK of {module}): {says.format(module=module)}")
    assert "\n" not in str(caught.value)


def test_our_own_name_is_ours_whatever_a_package_offers(rivers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(rivers.parent, "mmlu", "rivers_package_two", "raise SystemExit")
    monkeypatch.syspath_prepend(str(rivers.parent))
    assert tasks.get("mmlu").licence == "MIT"
    assert tasks.names().count("mmlu") == 1


def test_a_task_of_a_user_imports_nothing_heavy(capitals: Path, rivers: Path) -> None:
    code = (
        "import sys\nfrom spt_fast import tasks\nfrom spt_fast.tasks.rows import load_rows\n"
        f"for path in ({str(capitals)!r}, {str(rivers)!r}): load_rows(tasks.get(path))\n"
        "print([m for m in ('torch', 'datasets', 'pyarrow', 'scipy', 'numpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
