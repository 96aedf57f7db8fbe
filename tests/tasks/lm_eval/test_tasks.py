"""Tasks of lm-eval as tasks of ours: names, rows, prompts, lessons, verdicts. Rows are made up, in the data sets' columns."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.lm_eval.parts.made_rows import made
from spt_fast import tasks
from spt_fast.config import TaskConfig
from spt_fast.errors import ConfigError, DataError
from spt_fast.tasks.gold import distinct
from spt_fast.tasks.library import Answered
from spt_fast.tasks.rows import Rows, content_hash, load_rows
from tests.helpers.lm_eval_rows import files


def loaded(name: str, folder: str, *, learns: bool = True) -> Rows:
    """The rows of a task, as a grid that learns or not has them."""
    return load_rows(tasks.get(f"lm-eval:{name}"), data_files=folder, need={"test"}, cut=learns)


def test_a_prompt_is_lm_evals_own_text(tmp_path: Path) -> None:
    """Description, letters and cue of mmlu_anatomy; the option scored is the letter behind one space."""
    rows = loaded("mmlu_anatomy", files(tmp_path, "mmlu", dev=5, test=9), learns=False)
    (row,) = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()][:1]
    example = next(each for each in rows.test if each.place == 0)
    a, b, c, d = row["choices"]
    library = tasks.get("lm-eval:mmlu_anatomy").library
    assert library is not None
    prompt = library.prompts(rows).of(example)
    assert prompt.text == (
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        f"{row['question']}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:"
    )
    assert [behind for _, behind in prompt.options] == [" A", " B", " C", " D"]
    assert example.target == "ABCD"[row["answer"]]


def test_first_shots_stand_in_front_in_their_order(tmp_path: Path) -> None:
    """mmlu's sampler takes the first rows of `dev`, whatever the seed."""
    rows = loaded("mmlu_anatomy", files(tmp_path, "mmlu", dev=5, test=9), learns=False)
    library = tasks.get("lm-eval:mmlu_anatomy").library
    assert library is not None
    texts = {library.prompts(rows, shots=3, seed=seed).of(rows.test[0]).text for seed in (0, 1)}
    (text,) = texts
    shown = [json.loads(line)["question"] for line in (tmp_path / "dev.jsonl").read_text().splitlines()]
    places = [text.index(question) for question in shown[:3]]
    assert places == sorted(places)
    assert shown[3] not in text


def test_a_limit_changes_no_prompt_and_a_seed_changes_all(tmp_path: Path) -> None:
    """Shots are drawn row by row as published, so a row's are the same whichever rows are asked."""
    folder = files(tmp_path, "arc", train=20, test=12)
    task = tasks.get("lm-eval:arc_easy")
    assert task.library is not None
    whole = load_rows(task, data_files=folder, need={"test"}, cut=False)
    some = load_rows(task, data_files=folder, need={"test"}, cut=False, limit=4)
    every, few = (task.library.prompts(rows, shots=3, seed=0) for rows in (whole, some))
    assert [few.of(example).text for example in some.test] == [every.of(example).text for example in some.test]
    other = task.library.prompts(some, shots=3, seed=1)
    assert all(other.of(example).text != few.of(example).text for example in some.test)


def test_rows_that_travel_make_the_same_prompts(tmp_path: Path) -> None:
    """A worker of a cluster is handed the rows pickled, and has no files."""
    task = tasks.get("lm-eval:hellaswag")
    assert task.library is not None
    rows = load_rows(task, data_files=files(tmp_path, "hellaswag", train=30, validation=8))
    travelled: Rows = pickle.loads(pickle.dumps(rows))
    (tmp_path / "validation.jsonl").unlink()
    for shots in (0, 2):
        here, there = (task.library.prompts(each, shots=shots, seed=0) for each in (rows, travelled))
        assert [here.of(each) for each in rows.test] == [there.of(each) for each in travelled.test]


def test_what_is_learnt_from_is_neither_shown_nor_scored(tmp_path: Path) -> None:
    """With a training split, and with test rows alone, which are cut."""
    for name, layout, splits in (
        ("arc_easy", "arc", {"train": 60, "test": 12}),
        ("belebele_eng_Latn", "belebele", {"test": 200}),
    ):
        rows = loaded(name, files(tmp_path / name, layout, **splits))
        parts = [{example.key for example in split} for split in (rows.tuning, rows.few_shot, rows.test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set().union(*parts))


def test_a_grid_that_learns_nothing_draws_shots_from_all_rows(tmp_path: Path) -> None:
    """As `lm_eval` does; nothing is cut off, and all test rows are asked."""
    rows = loaded("belebele_eng_Latn", files(tmp_path, "belebele", test=20), learns=False)
    assert len(rows.test) == len(rows.few_shot) == 20
    assert rows.tuning == ()


@pytest.mark.parametrize(
    ("name", "layout", "splits", "read", "written"),
    [
        ("arc_easy", "arc", {"train": 30, "test": 5}, "Answer:", " "),
        ("gsm8k", "gsm8k", {"train": 30, "test": 5}, "Answer:", " "),
        ("drop", "drop", {"train": 30, "validation": 5}, "?", ""),
        ("wmt16-en-ro", "wmt", {"train": 30, "validation": 9, "test": 5}, "phrase:", " "),
    ],
)
def test_a_lesson_writes_the_target_behind_the_prompt(
    tmp_path: Path, name: str, layout: str, splits: dict[str, int], read: str, written: str
) -> None:
    """With the task's own delimiter in between."""
    rows = loaded(name, files(tmp_path, layout, **splits))
    library = tasks.get(f"lm-eval:{name}").library
    assert library is not None
    example = rows.tuning[0]
    prompt, behind = library.prompts(rows).lesson(example)
    assert prompt.endswith(read)
    assert behind == f"{written}{example.target}"


@pytest.mark.parametrize(
    ("name", "layout", "splits", "delimiter"),
    [
        ("gsm8k", "gsm8k", {"train": 30, "test": 5}, " "),
        ("drop", "drop", {"train": 30, "validation": 5}, ""),
    ],
)
def test_the_gold_answers_that_are_scored_stand_behind_the_prompt_that_is_completed(
    tmp_path: Path, name: str, layout: str, splits: dict[str, int], delimiter: str
) -> None:
    """With its shots, and the task's own delimiter in between."""
    rows = loaded(name, files(tmp_path, layout, **splits))
    library = tasks.get(f"lm-eval:{name}").library
    assert library is not None
    prompts = library.prompts(rows, shots=2, seed=0)
    for example in rows.test:
        prompt = prompts.of(example)
        assert {before for before, _ in prompt.answers} == {prompt.text}
        assert prompt.answers[0][1] == f"{delimiter}{example.target}"
        assert [behind.strip() for _, behind in prompt.answers] == list(distinct(example.answers))


def test_of_several_prompts_the_lesson_is_behind_the_right_one(tmp_path: Path) -> None:
    """winogrande fills the gap in the prompt, and what follows the gap is written."""
    rows = loaded("winogrande", files(tmp_path, "winogrande", train=30, validation=5))
    library = tasks.get("lm-eval:winogrande").library
    assert library is not None
    example = rows.tuning[0]
    assert example.row is not None
    prompt, behind = library.prompts(rows).lesson(example)
    right = example.row["option" + example.row["answer"]]
    assert f"{prompt}{behind}" == example.row["sentence"].replace("_", right)


def test_answers_are_judged_by_lm_evals_filters(tmp_path: Path) -> None:
    """gsm8k: the strict filter wants ####, the flexible one any last number; knowledge is either, exact match the first."""
    rows = loaded("gsm8k", files(tmp_path, "gsm8k", train=30, test=3), learns=False)
    task = tasks.get("lm-eval:gsm8k")
    assert task.library is not None
    gold = [example.answers[0].rpartition(" ")[2] for example in rows.test]
    said = [f"so it is\n#### {gold[0]}", f"it must be {gold[1]}", "nobody knows"]
    answers = [Answered(example=example, completion=text) for example, text in zip(rows.test, said, strict=True)]
    verdicts, metrics = task.library.judge(rows, answers)
    assert [(each.knows, each.correct) for each in verdicts] == [(True, True), (True, False), (False, False)]
    assert [each.extracted for each in verdicts] == [gold[0], None, None]
    assert {metric.name: round(metric.value, 4) for metric in metrics} == {
        "lm_eval/exact_match/strict-match": 0.3333,
        "lm_eval/exact_match/flexible-extract": 0.6667,
    }
    forms = [task.follows_format(text, example) for text, example in zip(said, rows.test, strict=True)]
    assert forms == [True, False, False]


def test_metrics_over_all_rows_are_aggregated_by_lm_eval(tmp_path: Path) -> None:
    """cola: Matthews' correlation of what is chosen and what is right; 1 where all is right, with an error by bootstrap."""
    rows = loaded("cola", files(tmp_path, "cola", train=30, validation=24), learns=False)
    library = tasks.get("lm-eval:cola").library
    assert library is not None
    right = [
        Answered(example=example, completion="", options=tuple((0.0 if k == example.gold else -1.0, False) for k in range(2)))
        for example in rows.test
    ]
    verdicts, (metric,) = library.judge(rows, right)
    assert (metric.name, metric.value, metric.n) == ("lm_eval/mcc", 1.0, 24)
    assert metric.stderr >= 0
    assert all(verdict.scores == {} for verdict in verdicts)


def test_an_answer_that_no_filter_looks_for_has_words_and_ends_by_itself(tmp_path: Path) -> None:
    """Its form is said in words; the cut off ones are told by the engine."""
    task = tasks.get("lm-eval:wmt16-en-ro")
    rows = loaded("wmt16-en-ro", files(tmp_path, "wmt", train=9, validation=9, test=2), learns=False)
    assert "end by themselves (at '\\n')" in task.form_in_words
    assert task.follows_format("o propoziție", rows.test[0])
    assert not task.follows_format("  ", rows.test[0])


def test_options_that_the_prompt_does_not_show_ask_for_a_line_like_them(tmp_path: Path) -> None:
    """A model that answers a bare question cannot know which words the options have; where they are shown, it can."""
    task = tasks.get("lm-eval:arc_easy")
    rows = loaded("arc_easy", files(tmp_path / "arc", "arc", train=9, validation=9, test=2), learns=False)
    example = replace(rows.test[0], options=("flooding", "droughts", "spring formation"), gold=0)
    assert "where the prompt does not show them, a line" in task.form_in_words
    assert [task.follows_format(text, example) for text in ("flooding", "heavy rain", "organic matter", "a river bed")] == [
        True
    ] * 4
    for text in (
        "",
        "...",
        "It is flooded\nQuestion: What is a flood?",
        "The ground cannot take up any more of the water",
        "A.\nB.\nC.",
    ):
        assert not task.follows_format(text, example), text
    shown = replace(example, question=f"{example.question} Choose flooding, droughts or spring formation.")
    assert task.follows_format("droughts", shown)
    assert not task.follows_format("heavy rain", shown)


def test_options_of_every_row_are_the_form_whether_the_prompt_shows_them_or_not(tmp_path: Path) -> None:
    """boolq's "yes" and "no" are learnt from worked examples or a soft prompt; "maybe" is not the form."""
    task = tasks.get("lm-eval:boolq")
    rows = loaded("boolq", files(tmp_path, "boolq", train=9, validation=4), learns=False)
    assert [task.follows_format(text, rows.test[0]) for text in ("yes", "no", "maybe", "Yes, it is")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("lm-eval:arc_esay", "did you mean 'arc_easy'"),
        ("lm-eval:mmlu", "is a group of 57 tasks"),
        ("lm-eval:wikitext", "perplexity"),
        ("lm-eval:humaneval", "unsafe_code: true"),
        ("lm-eval:squadv2", "Python class"),
        ("lm-eval:mmmu_val_math", "images"),
        ("lm-eval:./nowhere.yaml", "no such file"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(reference: str, said: str) -> None:
    """At `check`, before anything is read."""
    with pytest.raises(ConfigError, match=said) as refusal:
        tasks.get(reference)
    assert "\n" not in str(refusal.value)


def test_a_group_and_a_tag_stand_for_their_tasks(tmp_path: Path) -> None:
    """Each with the folder of its own rows, where there is one."""
    (tmp_path / "mmlu_anatomy").mkdir()
    entries = tasks.entries(TaskConfig(task="lm-eval:mmlu", data_files=str(tmp_path)))
    assert len(entries) == 57
    of = {entry.task: entry.data_files for entry in entries}
    assert of["lm-eval:mmlu_anatomy"] == str(tmp_path / "mmlu_anatomy")
    assert of["lm-eval:mmlu_virology"] == str(tmp_path)
    tagged = [entry.task for entry in tasks.entries(TaskConfig(task="lm-eval:ai2_arc"))]
    assert tagged == ["lm-eval:arc_challenge", "lm-eval:arc_easy"]


def test_what_of_a_group_cannot_be_asked_is_left_out_and_said() -> None:
    """Rather than refused, or silently asked without it."""
    entry = TaskConfig(task="lm-eval:mmmu_val")
    with pytest.raises(ConfigError, match=r"none of its \d+ tasks can be asked: it asks about images"):
        tasks.entries(entry)
    mixed = TaskConfig(task="lm-eval:pythia")
    said = tasks.left_out(mixed)
    assert "lm-eval:pythia: 1 of its 133 tasks cannot be asked, and are left out (1: it is the perplexity of a text" in said
    assert len(tasks.entries(mixed)) == 132
    assert tasks.left_out(TaskConfig(task="lm-eval:mmlu")) == ""


def test_a_folder_of_the_users_goes_before_lm_evals_own(tmp_path: Path) -> None:
    """`include_path`: a task of one's own, and one of the same name as theirs."""
    (tmp_path / "mine.yaml").write_text(
        "task: arc_easy\ntest_split: test\ndataset_path: json\noutput_type: multiple_choice\n"
        "doc_to_text: '{{question}} Say:'\ndoc_to_choice: '{{choices.text}}'\n"
        "doc_to_target: '{{choices.label.index(answerKey)}}'\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    (entry,) = tasks.entries(TaskConfig(task="lm-eval:arc_easy", include_path=str(tmp_path)))
    task = tasks.get(entry.task)
    rows = load_rows(task, data_files=files(tmp_path / "rows", "arc", test=5), need={"test"}, cut=False)
    assert rows.test[0].question.endswith("Say:")
    assert task.definition != tasks.get("lm-eval:arc_easy").definition
    with pytest.raises(ConfigError, match="no folder"):
        tasks.entries(TaskConfig(task="lm-eval:arc_easy", include_path=str(tmp_path / "none")))


def test_python_beside_a_users_yaml_is_part_of_the_key(tmp_path: Path) -> None:
    """`!function` may call any of it."""
    yaml = tmp_path / "mine.yaml"
    yaml.write_text(
        "task: mine\ntest_split: test\ndataset_path: json\noutput_type: multiple_choice\ndoc_to_text: !function code.text\n"
        "doc_to_target: '{{choices.label.index(answerKey)}}'\ndoc_to_choice: '{{choices.text}}'\n"
    )
    code = tmp_path / "code.py"
    code.write_text("def text(doc):\n    return doc['question']\n")
    folder = files(tmp_path / "rows", "arc", test=5)
    before = content_hash(tasks.get(f"lm-eval:{yaml}"), folder)
    code.write_text("def text(doc):\n    return doc['question'] + '?'\n")
    tasks.read_files_again()
    task = tasks.get(f"lm-eval:{yaml}")
    assert content_hash(task, folder) != before
    rows = load_rows(task, data_files=folder, need={"test"}, cut=False)
    assert rows.test[0].question.endswith("??")


def test_rows_without_the_columns_of_the_data_set_are_refused_in_a_sentence(tmp_path: Path) -> None:
    """With the file, and what lm-eval says of it."""
    (tmp_path / "test.jsonl").write_text('{"wrong": 1}\n')
    with pytest.raises(DataError, match=r"lm-eval:arc_easy: its rows cannot be prepared from .*test\.jsonl") as refusal:
        loaded("arc_easy", str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_files_without_the_scored_split_are_refused(tmp_path: Path) -> None:
    """The data set's own name of it is said."""
    with pytest.raises(ConfigError, match=r"scores 'validation': give a file validation\.jsonl"):
        content_hash(tasks.get("lm-eval:piqa"), files(tmp_path, "piqa", train=5))


def test_a_target_may_be_a_number_of_numpys(tmp_path: Path) -> None:
    """toxigen rounds a mean to the number of an option."""
    rows = loaded("toxigen", files(tmp_path, "toxigen", train=30, test=9), learns=False)
    assert len(rows.test) == 9
    assert {example.target for example in rows.test} == {"No", "Yes"}


def test_guessing_is_known_of_the_rows_where_the_config_does_not_tell() -> None:
    """arc has a column of options; mmlu lists four letters."""
    assert tasks.get("lm-eval:mmlu_anatomy").random_baseline == 0.25
    assert math.isnan(tasks.get("lm-eval:arc_easy").random_baseline)


def test_python_that_cannot_be_imported_is_said_as_such(tmp_path: Path) -> None:
    """With what is missing, before any row is looked at."""
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("task: mine\ntest_split: test\ndataset_path: json\ndoc_to_text: !function code.text\ndoc_to_target: x\n")
    (tmp_path / "code.py").write_text("import no_such_library_at_all\n\n\ndef text(doc):\n    return 'x'\n")
    with pytest.raises(ConfigError, match=r"its Python cannot be imported .*no_such_library_at_all.*; install"):
        load_rows(tasks.get(f"lm-eval:{yaml}"), data_files=files(tmp_path / "rows", "arc", test=5), need={"test"}, cut=False)


def test_a_row_without_its_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    """lm-eval would count it as wrong."""
    folder = files(tmp_path, "arc", train=20, test=5)
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write(
            json.dumps({**made("arc", "more", 1)[0], "answerKey": "A", "choices": {"text": ["", "b"], "label": ["A", "B"]}})
        )
    rows = loaded("arc_easy", folder)
    assert len(rows.test) == 5
    assert [loss.why for loss in rows.losses.left_out] == ["whose answer is none of its options"]
