"""Benchmarks: what a published row becomes, for each of them and for what is special about some."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from spt_fast import tasks
from spt_fast.errors import DataError
from spt_fast.tasks.base import Cut, HubSource, LeftOut, Row, Split, Task
from spt_fast.tasks.benchmarks.hellaswag import clean
from spt_fast.tasks.multiple_choice import INSTRUCTIONS, has_forms, in_form
from spt_fast.tasks.rows import Rows, load_rows
from spt_fast.types import Example

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout")

HUB = [name for name in tasks.names() if isinstance(tasks.get(name).source, HubSource)]
LETTERED = [name for name in HUB if has_forms(tasks.get(name))]
FORMED = [*HUB, *(f"{name}:{form}" for name in LETTERED for form in INSTRUCTIONS)]
NEEDED = {
    "mmlu": "question subject choices answer",
    "belebele": "link flores_passage question mc_answer1 mc_answer2 mc_answer3 mc_answer4 correct_answer_num",
    "chembench": "examples metrics",
    "triviaqa": "question answer",
    "gsm8k": "question answer",
    "squad": "title context question answers",
    "math500": "problem solution",
    "arc_easy": "question choices answerKey",
    "arc_challenge": "question choices answerKey",
    "hellaswag": "activity_label ctx_a ctx_b endings label",
    "piqa": "goal sol1 sol2 label",
    "winogrande": "sentence option1 option2 answer",
    "boolq": "passage question label",
    "commonsense_qa": "question choices answerKey",
    "openbookqa": "question_stem choices answerKey",
    "social_iqa": "context question answerA answerB answerC label",
    "sciq": "question correct_answer distractor1 distractor2 distractor3",
    "nq_open": "question answer",
    "drop": "passage question answer",
}


def sample(name: str, **changes: Any) -> Row:
    """A task's made-up row, with some columns changed."""
    row = tasks.get(name).sample
    assert row is not None
    assert not set(changes) - set(row), "no such column"
    return {**row, **changes}


def read(name: str, **changes: Any) -> Example:
    example = tasks.get(name).read_row(sample(name, **changes))
    assert example is not None
    return example


def left_out(name: str, **changes: Any) -> bool:
    try:
        tasks.get(name).read_row(sample(name, **changes))
    except LeftOut:
        return True
    return False


def assert_sound(task: Task, example: Example) -> None:
    """A row's target has the form asked for, is right by the task's own rules, and is never cut short."""
    target = example.target
    assert target == target.strip() != ""
    assert task.follows_format(target, example)
    assert not [stop for stop in task.sampling.stop if stop in f" {target}"]
    assert len(target.encode()) / 2.5 < task.sampling.max_tokens  # a token has about four letters, of formulas fewer
    if task.closed_ended:
        assert example.gold is not None
        assert example.options[example.gold] == target
        assert example.answers == (target,)
    else:
        found = task.read(target, example)
        assert found is not None, target
        assert task.accepts(found.value, example), (target, found)
        assert all(score(found.value, example) == 1 for score in task.scores.values())


# every benchmark


@pytest.mark.parametrize("name", FORMED)
def test_the_sample_row_reads_and_its_target_is_right_in_the_form_asked_for(name: str) -> None:
    task = tasks.get(name)
    assert task.sample is not None
    example = task.read_row(task.sample)
    assert example is not None
    assert re.fullmatch("[0-9a-f]{16}", example.key)
    assert example == task.read_row(task.sample)
    assert_sound(task, example)


@pytest.mark.parametrize("name", FORMED)
def test_the_prompt_says_the_form_first_and_ends_in_the_cue(name: str) -> None:
    task = tasks.get(name)
    assert task.sample is not None
    example = task.read_row(task.sample)
    assert example is not None
    prompt = task.template.prompt(example)
    assert prompt.startswith(f"{task.template.instruction}\n\n")
    assert prompt.endswith("\nAnswer:")
    assert example.question in prompt
    # SciQ shows its passage by cloze alone.
    assert example.context in (
        task.cloze_template.prompt(example) if name.startswith("sciq") and task.cloze_template else prompt
    )
    assert all(option in prompt for option in example.listing or example.options if name != "boolq")


@pytest.mark.parametrize("name", FORMED)
def test_a_run_on_into_the_next_question_is_stopped_where_it_begins(name: str) -> None:
    task = tasks.get(name)
    assert task.sample is not None
    example = task.read_row(task.sample)
    assert example is not None
    run_on = f"{example.target}{task.template.separator}{task.template.render(example)}"
    cut = min(run_on.find(stop) for stop in task.sampling.stop if stop in run_on)
    assert run_on[:cut].strip() == example.target


@pytest.mark.parametrize("name", HUB)
def test_every_column_that_a_row_needs_is_asked_for_by_name(name: str, tmp_path: Path) -> None:
    task = tasks.get(name)
    needed = NEEDED[name].split()
    for column in sample(name):
        row = {key: value for key, value in sample(name).items() if key != column}
        if column not in needed:
            assert task.read_row(row) is not None
            continue
        (tmp_path / "test.jsonl").write_text(json.dumps(row))
        with pytest.raises(DataError, match=f"line 1: {name} needs a column '{column}'") as caught:
            load_rows(task, data_files={"test": str(tmp_path / "test.jsonl")}, need=())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HUB)
def test_a_column_that_holds_something_else_is_told_in_a_sentence(name: str, tmp_path: Path) -> None:
    for column in NEEDED[name].split():
        (tmp_path / "test.jsonl").write_text(json.dumps(sample(name, **{column: 12.5})))
        with pytest.raises(DataError, match=rf"line 1: is not a row of {name} \(.*\b{column}\b") as caught:
            load_rows(tasks.get(name), data_files={"test": str(tmp_path / "test.jsonl")}, need=())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HUB)
def test_lists_and_numbers_may_be_json_text_as_csv_has_them(name: str) -> None:
    row = {key: value if isinstance(value, str) else json.dumps(value) for key, value in sample(name).items()}
    example = tasks.get(name).read_row(row)
    assert example is not None
    if name not in ("mmlu", "gsm8k"):  # their keys go by the row as it is written
        assert example == read(name)


@pytest.mark.parametrize("name", HUB)
def test_the_source_is_a_pinned_commit_and_test_rows_are_nobody_elses(name: str) -> None:
    task = tasks.get(name)
    assert isinstance(task.source, HubSource)
    for source in (task.source, *task.source.elsewhere.values()):
        assert re.fullmatch("[0-9a-f]{40}", source.revision)
        assert set(source.sizes) <= {"tuning", "test"}
    splits = task.source.all_splits
    assert "test" in splits
    if task.cut is None:
        assert splits["tuning"] == splits["few_shot"]
        assert task.source.of("tuning") == task.source.of("few_shot")
        assert task.source.of("test") != task.source.of("tuning") or splits["test"] != splits["tuning"]
    else:
        assert set(splits) == {"test"}
    assert task.licence
    assert task.notes


@pytest.mark.parametrize("name", LETTERED)
def test_the_right_option_is_the_same_in_every_form_of_the_answer(name: str) -> None:
    task = tasks.get(name)
    whole = read(name)
    assert task.sample is not None
    letter, text = (in_form(task, form).read_row(task.sample) for form in ("letter", "text"))
    assert letter is not None
    assert text is not None
    assert letter.gold == text.gold == whole.gold
    assert f"{letter.target}. {text.target}" == whole.target
    assert letter.listing == text.listing == whole.options


def test_the_tasks_whose_options_have_letters() -> None:
    others = {"boolq", "triviaqa", "gsm8k", "squad", "math500", "nq_open", "drop"}
    assert set(HUB) - set(LETTERED) == others


# closed-ended


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("belebele", "B. Press the tyre with the thumb"),
        ("arc_easy", "C. the Sun"),
        ("arc_challenge", "C. neither of them"),
        ("hellaswag", "B. must rest for an hour in a warm place."),
        ("piqa", "A. put a wedge under it."),
        ("winogrande", "B. crate"),
        ("boolq", "no"),
        ("commonsense_qa", "B. cupboard"),
        ("openbookqa", "A. the light"),
        ("social_iqa", "C. grateful"),
    ],
)
def test_the_published_answer_is_the_option_it_names(name: str, target: str) -> None:
    assert read(name).target == target


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("hellaswag", "label", ["", None]),
        ("piqa", "label", [-1, "-1"]),
        ("winogrande", "answer", [""]),
        ("boolq", "label", [-1]),
        ("commonsense_qa", "answerKey", [""]),
        ("social_iqa", "label", [""]),
        ("belebele", "correct_answer_num", [""]),
    ],
)
def test_rows_without_their_answer_are_left_out(name: str, column: str, values: list[Any]) -> None:
    assert all(left_out(name, **{column: value}) for value in values)


@pytest.mark.parametrize(
    ("name", "column", "value", "says"),
    [
        ("hellaswag", "label", "4", "'label' is '4'; it is 0 to 3"),
        ("hellaswag", "endings", ["a", "b"], "'endings' has 2 options"),
        ("piqa", "label", 2, "'label' is 2; it is 0 to 1"),
        ("piqa", "label", True, "'label' is True"),
        ("winogrande", "answer", "A", "'answer' is 'A'; it is 1 to 2"),
        ("winogrande", "sentence", "No gap here.", "'sentence' has no gap"),
        ("belebele", "correct_answer_num", "0", "it is 1 to 4"),
        ("social_iqa", "label", "B", "it is 1 to 3"),
        ("arc_easy", "answerKey", "E", "'answerKey' is 'E'; the labels are A, B, C, D"),
        ("arc_easy", "choices", {"text": ["a", "b", "c"], "label": ["A", "C"]}, "3 texts and 2 labels"),
        ("arc_easy", "choices", "A) a B) b", "'choices' is text, and not JSON"),
        ("mmlu", "choices", ["a", "b"], "has 2 options"),
    ],
)
def test_answers_that_name_no_option_are_refused(name: str, column: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(name, **{column: value})


def test_a_part_of_a_column_that_is_missing_is_named_with_it() -> None:
    with pytest.raises(KeyError, match=r"choices\.label"):
        read("arc_easy", choices={"text": ["a", "b"]})
    with pytest.raises(KeyError, match=r"answers\.text"):
        read("squad", answers={"answer_start": [1]})
    with pytest.raises(KeyError, match=r"examples\.target_scores"):
        read("chembench", examples=[{"input": "?"}])


@pytest.mark.parametrize("name", ["piqa", "hellaswag", "sciq", "social_iqa"])
def test_rows_with_an_empty_option_are_left_out(name: str) -> None:
    empty: dict[str, Any] = {
        "piqa": {"sol2": " "},
        "hellaswag": {"endings": ["a", "[step]", "c", "d"]},
        "sciq": {"distractor2": ""},
        "social_iqa": {"answerA": ""},
    }
    assert left_out(name, **empty[name])


@pytest.mark.parametrize("count", [3, 4, 5])
def test_arc_labels_may_be_letters_or_numbers_and_three_to_five(count: int) -> None:
    texts = [f"thing {i}" for i in range(count)]
    for labels in ("ABCDE"[:count], "12345"[:count]):
        for gold, key in enumerate(labels):
            example = read("arc_challenge", choices={"text": texts, "label": list(labels)}, answerKey=key)
            assert len(example.options) == count
            assert example.gold == gold
            assert example.target == f"{'ABCDE'[gold]}. thing {gold}"


def test_white_space_around_an_answers_label_is_nothing() -> None:
    assert read("openbookqa", answerKey=" A ") == read("openbookqa")


def test_hellaswag_loses_the_marks_of_wikihow_and_nothing_else() -> None:
    assert clean("[header] How to sew [title] Thread it. [step] Wet the end.") == "How to sew. Thread it. Wet the end."
    assert clean(" A [substeps] b  c") == "A b c"
    assert read("hellaswag").question == (
        "Baking bread: How to bake bread. Make the dough. Mix flour, water, salt and yeast. Then the dough"
    )
    assert read("hellaswag", ctx_b="").question.endswith("salt and yeast.")


def test_winogrande_asks_for_the_name_that_the_gap_stands_for() -> None:
    example = read("winogrande")
    assert tasks.get("winogrande").template.render(example) == (
        "Sentence: The vase did not fit into the crate because the _ was too small.\n"
        "Question: What does _ stand for?\nA. vase\nB. crate\nAnswer:"
    )


def test_boolq_is_answered_by_yes_or_no_without_letters() -> None:
    assert read("boolq", label=1).target == "yes"
    assert read("boolq", label=0).target == "no"
    assert read("boolq").question == "is the old bridge open at night?"
    assert read("boolq", question="is it?").question == "is it?"
    assert "yes or no" in tasks.get("boolq").template.instruction


def test_social_iqa_situations_are_part_of_what_is_asked() -> None:
    assert read("social_iqa").question == "Kim lent Robin an umbrella before the rain began. How would Robin feel afterwards?"
    same = read("social_iqa", question="Why did Kim do this?")
    assert same.group == read("social_iqa").group != read("social_iqa", context="Kim left.").group


def test_sciq_options_stand_in_an_order_that_is_fixed_and_tells_nothing() -> None:
    golds = Counter()
    for i in range(400):
        row: dict[str, Any] = {"question": f"Which is {i}?", "correct_answer": f"right {i}"}
        example = read("sciq", **row)
        assert example == read("sciq", **row)
        assert example.target.endswith(f". right {i}")
        swapped = read("sciq", **row, distractor1="steam", distractor3="sand")
        assert swapped.options == example.options
        golds[example.gold] += 1
    assert set(golds) == {0, 1, 2, 3}
    assert min(golds.values()) > 70


def test_chembench_keeps_the_questions_that_have_one_right_option() -> None:
    def scored(**scores: float) -> list[dict[str, Any]]:
        return [{"input": "Which?", "target": None, "target_scores": json.dumps(scores)}]

    assert left_out("chembench", metrics=["mae", "mse"])
    assert left_out("chembench", metrics=["exact_str_match"], examples=[{"input": "How many?", "target": "3"}])
    assert left_out("chembench", examples=scored(a=1.0, b=1.0, c=0.0))
    assert left_out("chembench", examples=scored(a=0.0, b=0.5))
    assert read("chembench", examples=scored(a=0, b=1)).target.endswith(". b")
    many = {f"option {i}": float(i == 11) for i in range(16)}
    example = read("chembench", examples=scored(**many))
    assert [option[0] for option in example.options] == list("ABCDEFGHIJKLMNOP")
    assert example.target.endswith(". option 11")
    again = read("chembench", examples=scored(**dict(reversed(many.items()))))
    assert again.options == example.options
    assert read("chembench").group == "General Chemistry"


# open-ended


def test_triviaqa_takes_every_name_of_the_answer() -> None:
    task, example = tasks.get("triviaqa"), read("triviaqa")
    assert example.target == "Paris"
    assert example.answers[:3] == ("Paris", "Paris, France", "The City of Light")
    assert all(task.accepts(value, example) for value in ("paris", "PARIS", "Paris (France)", "city of light"))
    assert not task.accepts("Rome", example)
    assert read("triviaqa", answer={"value": "Paris", "aliases": []}).answers == ("Paris",)


def test_squad_takes_every_annotators_answer_and_leaves_out_questions_without_one() -> None:
    task = tasks.get("squad")
    example = read("squad", answers={"text": ["in  1871", "1871", "1871"], "answer_start": [45, 48, 48]})
    assert (example.target, example.answers) == ("in 1871", ("in 1871", "1871"))
    assert task.accepts("1871.", example)
    assert not task.accepts("1872", example)
    assert 0 < task.scores["f1"]("built in 1871", example) < 1
    assert example.group == "Lighthouse"
    assert left_out("squad", answers={"text": [], "answer_start": []})


def test_nq_open_takes_any_answer_of_its_list() -> None:
    task, example = tasks.get("nq_open"), read("nq_open")
    assert example.question == "what is the capital of france?"
    assert example.target == "Paris"
    assert task.accepts("the Paris", example)
    assert task.accepts("Paris France", example)
    assert not task.accepts("France", example)


def test_drop_answers_are_numbers_dates_or_several_spans() -> None:
    task = tasks.get("drop")
    nothing = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": []}
    none = {"number": [], "date": [], "spans": []}
    assert task.accepts("18", read("drop"))
    assert not task.accepts("17", read("drop"))
    date = {**nothing, "date": {"day": "3", "month": "May", "year": "1871"}}
    assert read("drop", answer=date, validated_answers=none).target == "3 May 1871"
    spans = read("drop", answer={**nothing, "spans": ["the north", "the south"]}, validated_answers=none)
    assert_sound(task, spans)
    assert task.accepts("the south; the north", spans)
    assert left_out("drop", answer=nothing, validated_answers=none)


def test_math_targets_end_in_one_box_and_rows_without_a_box_are_left_out() -> None:
    task = tasks.get("math500")
    example = read("math500")
    assert example.target.count("\\boxed") == 1
    assert example.target.split("\n")[-1] == f"Answer: \\boxed{{{example.answers[0]}}}"
    tuning: dict[str, Any] = {"problem": "What is $1 + 1$?", "level": "Level 1", "type": "Algebra"}
    from_train = task.read_row({**tuning, "solution": "Fill in $\\boxed{\\phantom{9}}$: it is $\\boxed{\\frac{4}{2}}$."})
    assert from_train is not None
    assert from_train.answers == ("\\frac{4}{2}",)
    assert from_train.group == "Algebra"
    assert_sound(task, from_train)
    assert task.accepts("2", from_train)
    assert not task.accepts("3", from_train)
    for solution, why in (("It is $2$.", "with no answer"), ("$\\boxed{1}$ or $\\boxed{2}$.", "with several boxes")):
        with pytest.raises(LeftOut, match=why):
            task.read_row({**tuning, "solution": solution})


def test_a_problem_is_the_same_question_in_both_layouts_of_math() -> None:
    row = sample("math500")
    train = {"problem": row["problem"], "solution": row["solution"], "level": "Level 1", "type": row["subject"]}
    assert tasks.get("math500").read_row(train) == read("math500")


# data sets that have test rows only


@pytest.mark.parametrize("name", [name for name in HUB if tasks.get(name).cut is not None])
def test_rows_cut_from_the_only_split_are_disjoint_and_enough(name: str) -> None:
    def variant(i: int) -> Row:
        if name == "chembench":
            return sample(name, examples=[{**sample(name)["examples"][0], "input": f"Which of these is number {i}?"}])
        return sample(name, question=f"Which of these is number {i}?", link=f"page {i // 3}")

    calls: list[tuple[str, Split]] = []

    def fetch(source: HubSource, split: Split) -> list[Row]:
        calls.append((source.splits[split], split))
        return [variant(i) for i in range(900)]

    rows = load_rows(tasks.get(name), fetch=fetch)
    assert [split for _, split in calls] == ["test"]
    assert 640 <= len(rows.tuning) <= 642
    assert 32 <= len(rows.few_shot) <= 34
    assert len(rows.tuning) + len(rows.few_shot) + len(rows.test) == 900
    assert_disjoint(rows)
    assert isinstance(tasks.get(name).cut, Cut)


# published rows


def assert_disjoint(rows: Rows) -> None:
    splits = [{(e.context, e.question, e.options) for e in examples} for examples in (rows.tuning, rows.few_shot, rows.test)]
    assert all(not one & other for one, other in combinations(splits, 2))


PUBLISHED: Mapping[str, tuple[int, int, int]] = {
    "mmlu": (256, 28, 1300),
    "belebele": (468, 33, 149),
    "triviaqa": (468, 32, 300),
    "gsm8k": (768, 32, 400),
    "squad": (341, 32, 141),
    "math500": (663, 32, 350),
}
"""How many tuning, few-shot and test rows there are. The slice of SQuAD has questions without an answer, as 2.0 has."""


@needs_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows_load_and_their_own_targets_are_right(name: str) -> None:
    task = tasks.get(name)
    rows = load_rows(task, data_files=str(DATA / name))
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == PUBLISHED[name]
    assert_disjoint(rows)
    for example in (*rows.tuning, *rows.few_shot, *rows.test):
        assert_sound(task, example)


@needs_data
def test_the_cut_of_belebele_shares_no_passage_between_splits() -> None:
    rows = load_rows(tasks.get("belebele"), data_files=str(DATA / "belebele"))
    passages = [{example.context for example in examples} for examples in (rows.tuning, rows.few_shot, rows.test)]
    assert all(not one & other for one, other in combinations(passages, 2))


@needs_data
@pytest.mark.parametrize("name", ["mmlu", "belebele"])
def test_the_right_options_are_spread_over_all_letters(name: str) -> None:
    golds = [example.gold for example in load_rows(tasks.get(name), data_files=str(DATA / name)).test]
    assert all(0.15 < golds.count(letter) / len(golds) < 0.35 for letter in range(4))


@needs_data
def test_no_problem_of_math_500_is_tuned_on() -> None:
    rows = load_rows(tasks.get("math500"), data_files=str(DATA / "math500"))
    asked = {" ".join(example.question.split()) for example in rows.test}
    assert not [e for e in (*rows.tuning, *rows.few_shot) if " ".join(e.question.split()) in asked]
    assert len({example.group for example in rows.test}) == 7
    assert {example.group for example in rows.tuning} == {example.group for example in rows.test}


@needs_data
def test_a_limit_is_a_sample_of_all_subjects() -> None:
    rows = load_rows(tasks.get("mmlu"), data_files=str(DATA / "mmlu"), limit=100)
    assert len({example.group for example in rows.test}) > 25
    assert len({example.group for example in rows.few_shot}) > 15
