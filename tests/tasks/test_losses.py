"""No test row is lost in silence: what is left out is counted, told with its share, and refused where it is too much."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast import tasks
from spt_fast.cli import main
from spt_fast.config import GridConfig
from spt_fast.config.reader import load_grid
from spt_fast.driver.run import run_cells
from spt_fast.errors import ConfigError, DataError
from spt_fast.plan import expand
from spt_fast.tasks.base import LeftOut
from spt_fast.tasks.custom import load
from spt_fast.tasks.losses import Count, Loss, Losses, percent, told
from spt_fast.tasks.rows import Rows, load_rows

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FIVE = "question: q, options: [a, b, c, d, e], answer: {column: label, as: letter}"


def choice(n: int, **changes: Any) -> dict[str, Any]:
    return {"q": f"Which is {n}?", "a": "w", "b": "x", "c": "y", "d": "z", "e": "v", "label": "B", **changes}


def write(folder: Path, name: str, rows: list[dict[str, Any]], columns: str = FIVE, more: str = "") -> Path:
    (folder / name).mkdir()
    (folder / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / f"{name}.yaml"
    file.write_text(f"name: {name}\nrows: {{files: {name}}}\ncolumns: {{{columns}}}\n{more}")
    return file


def read(folder: Path, rows: list[dict[str, Any]], columns: str = FIVE, more: str = "") -> Rows:
    return load_rows(load(str(write(folder, "t", rows, columns, more))), need=())


def grid(folder: Path, *entries: str, protocols: str = "zero_shot") -> Path:
    file = folder / "grid.yaml"
    file.write_text(
        f"name: g\nmodels: [zoo/base-70]\ntasks: [{', '.join(entries)}]\nprotocols: [{protocols}]\n"
        f"engine: {{kind: echo}}\noutput: {folder / 'run'}\n"
    )
    return file


# what an option is that is not there


def test_null_options_at_the_end_are_not_there(tmp_path: Path) -> None:
    rows = read(tmp_path, [choice(1), choice(2, e=None), choice(3, e=""), choice(4, d=None, e=None), choice(5, d=" ", e=None)])
    assert sorted(len(example.options) for example in rows.test) == [3, 3, 4, 4, 5]
    assert rows.losses.lost == 0


def test_a_list_of_options_may_end_in_nulls(tmp_path: Path) -> None:
    columns = "question: q, options: o, answer: {column: label, as: index}"
    found = [{"q": "1?", "o": ["a", "b", "c", None], "label": 0}, {"q": "2?", "o": ["a", "b", "c", "d"], "label": 3}]
    rows = read(tmp_path, found, columns, "random_baseline: 0.25")
    assert sorted(len(example.options) for example in rows.test) == [3, 4]


@pytest.mark.parametrize(
    ("change", "why", "column"),
    [
        ({"c": None}, "with an empty option", "c"),
        ({"a": ""}, "with an empty option", "a"),
        ({"b": None, "c": None, "d": None, "e": None}, "with fewer than two options", "a"),
        ({"label": None}, "with no answer", "label"),
        ({"label": " "}, "with no answer", "label"),
        ({"label": float("nan")}, "with no answer", "label"),
    ],
)
def test_a_row_that_cannot_be_scored_is_left_out_with_its_reason(
    tmp_path: Path, change: dict[str, Any], why: str, column: str
) -> None:
    rows = read(tmp_path, [choice(1), choice(2, **change)])
    (loss,) = rows.losses.left_out
    assert (loss.why, loss.rows, len(rows.test)) == (why, 1, 1)
    assert loss.first == f"{tmp_path / 't' / 'test.jsonl'}, line 2, column {column!r}"


def test_the_right_option_is_never_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test\.jsonl, line 2: .*column 'label' is 'E', which is none of 'A, B, C, D'"):
        read(tmp_path, [choice(1), choice(2, e=None, label="E")])


def test_a_label_that_a_data_frame_made_a_float_is_that_label(tmp_path: Path) -> None:
    columns = "question: q, options: [a, b], answer: {column: label, as: index}"
    rows = read(tmp_path, [choice(1, label=1.0), choice(2, label=None)], columns)
    assert [example.gold for example in rows.test] == [1]
    assert rows.losses.lost == 1


# the share


@given(st.lists(st.sampled_from(["asked", "lost", "other"]), max_size=50))
def test_rows_are_asked_lost_or_no_questions_and_only_the_lost_count(kinds: list[str]) -> None:
    count = Count()
    for n, kind in enumerate(kinds):
        row = None if kind == "asked" else LeftOut("with no answer", by_design=kind == "other")
        count.take(f"row {n}", row)
    losses = count.losses({})
    assert (losses.found, losses.lost) == (len(kinds), kinds.count("lost"))
    assert losses.questions == len(kinds) - kinds.count("other")
    assert losses.share == (kinds.count("lost") / losses.questions if losses.questions else 0)
    assert Losses.of(json.loads(json.dumps(losses.plain()))) == losses


def lost(rows: int, of: int, by_design: int = 0) -> Losses:
    others = (Loss(why="with no answer", rows=by_design, first="f, line 9"),) if by_design else ()
    return Losses(found=of, left_out=(Loss(why="with no question", rows=rows, first="f, line 3"),), by_design=others)


@pytest.mark.parametrize(
    ("losses", "warned", "refused"),
    [
        (lost(1, 1000), False, False),
        (lost(1, 100), False, False),
        (lost(2, 100), True, False),
        (lost(10, 100), True, False),
        (lost(11, 100), True, True),
        (lost(3, 30), True, False),
        (lost(3, 30, by_design=20), True, True),
    ],
)
def test_more_than_a_hundredth_is_warned_of_and_more_than_a_tenth_is_refused(
    losses: Losses, warned: bool, refused: bool
) -> None:
    assert losses.told("t")[0].startswith("warning: ") is warned
    assert (losses.refusal("t", 0.1) is not None) is refused
    assert losses.refusal("t", 1.0) is None


def test_a_refusal_names_the_rows_and_a_share_that_would_do() -> None:
    losses = lost(57, 60)
    sentence = losses.refusal("t", 0.1)
    assert sentence == (
        "t: 57 of 60 test rows (95%) are left out: 57 with no question (the first: f, line 3); at most 10% may be: fix the "
        "rows, or give the task allow_left_out: 0.95 in the grid"
    )
    assert losses.refusal("t", 0.95) is None


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_the_share_that_is_named_would_do(some: int, more: int) -> None:
    losses = lost(some, some + more)
    sentence = losses.refusal("t", 0.0)
    assert sentence is not None
    share = float(sentence.split("allow_left_out: ")[1].split(" ")[0])
    assert losses.refusal("t", share) is None
    assert 0 < share <= 1


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.05, "5%"), (0.333, "33.3%"), (0.0001, "less than 0.1%"), (0.9999, "more than 99.9%"), (1.0, "100%"), (0.0, "0%")],
)
def test_a_share_is_written_so_that_little_is_not_nothing(share: float, said: str) -> None:
    assert percent(share) == said


def test_warnings_come_first_and_tasks_that_are_not_scored_are_not_told() -> None:
    reports = [{"task": name, "losses": losses.plain()} for name, losses in (("a", lost(1, 999)), ("b", lost(9, 99)))]
    heads = [sentence.partition(" test rows")[0] for sentence in told(reports, {"a", "b"})]
    assert heads == ["warning: b: 9 of 99", "a: 1 of 999"]
    assert told([*reports, {"task": "old"}], {"old"}) == []


def test_questions_without_an_answer_are_none_of_squad_and_lost_to_triviaqa() -> None:
    squad, trivia = tasks.get("squad"), tasks.get("triviaqa")
    assert squad.sample is not None
    assert trivia.sample is not None
    with pytest.raises(LeftOut) as by_design:
        squad.read_row({**squad.sample, "answers": {"text": [], "answer_start": []}})
    assert by_design.value.by_design
    with pytest.raises(LeftOut) as missing:
        trivia.read_row({**trivia.sample, "answer": {"value": "", "aliases": []}})
    assert not missing.value.by_design


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout")
def test_a_data_set_with_many_questions_that_are_none_is_used_as_it_is() -> None:
    rows = load_rows(tasks.get("squad"), data_files=str(DATA / "squad"))
    assert (len(rows.test), rows.losses.found, rows.losses.lost) == (141, 300, 0)
    assert rows.losses.told("squad") == [
        "squad: 159 of 300 test rows are no question of the task, and are not scored: 159 with no answer"
    ]


# a grid


@pytest.mark.parametrize(("value", "share"), [("0.3", 0.3), ("30%", 0.3), ("0", 0.0), ("1", 1.0)])
def test_a_task_of_a_grid_says_how_much_may_be_left_out(tmp_path: Path, value: str, share: float) -> None:
    config = load_grid(grid(tmp_path, f"{{task: zoo-mcq, allow_left_out: {value}}}", "zoo-short"))
    assert [task.allow_left_out for task in config.tasks] == [share, 0.1]


@pytest.mark.parametrize("value", ["1.1", "-0.1", ".nan", ".inf", "many", "true", "[0.1]", "null"])
def test_what_is_no_share_is_told(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"tasks\[0\]\.allow_left_out: must be a share of the rows"):
        load_grid(grid(tmp_path, f"{{task: zoo-mcq, allow_left_out: {value}}}"))


def test_what_may_be_left_out_is_no_part_of_a_cells_key(tmp_path: Path) -> None:
    keys = [
        [cell.key for cell in expand(load_grid(grid(tmp_path, f"{{task: zoo-mcq, allow_left_out: {share}}}")))]
        for share in (0.1, 0.9)
    ]
    assert keys[0] == keys[1]


@pytest.fixture
def lossy(tmp_path: Path) -> Path:
    write(tmp_path, "few", [choice(n, label=None if n < 3 else "B") for n in range(60)])
    write(tmp_path, "many", [choice(n, b=None if n < 20 else "x") for n in range(60)])
    return tmp_path


def check(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["check", str(file)])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_check_counts_rows_before_anything_runs(lossy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = check(grid(lossy, "few.yaml", "many.yaml"), capsys)
    assert code == 2
    assert "warning: few: 3 of 60 test rows (5%) are left out: 3 with no answer (the first: " in said
    assert "many: 20 of 60 test rows (33.3%) are left out: 20 with an empty option" in said
    assert said.count("many:") == 1
    code, said = check(grid(lossy, "few.yaml", "{task: many.yaml, allow_left_out: 34%}"), capsys)
    assert code == 0
    assert "warning: many: 20 of 60 test rows" in said


def test_a_task_that_loses_too_much_fails_its_own_cells_once_and_the_others_are_told(
    lossy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", str(grid(lossy, "few.yaml", "many.yaml"))])
    said, progress = capsys.readouterr()
    assert ended.value.code == 1
    assert progress.count("FAILED") == 1
    assert "[2/2]" in progress
    last = said.partition("Failed, and not in these numbers")[2]
    assert "warning: few: 3 of 60 test rows (5%) are left out: 3 with no answer" in " ".join(last.split())
    results = json.loads((lossy / "run" / "results.json").read_text())
    rows = {each["task"]: each for each in results["rows"]}
    assert (rows["few"]["test"], rows["few"]["left_out"]["lost"], rows["few"]["left_out"]["share"]) == (57, 3, 0.05)
    assert "allow_left_out: 0.34" in results["failures"][0]["reason"]
    for name in ("report.md", "report.html"):
        first_page = (lossy / "run" / name).read_text()[:60_000].partition("Failures")[0]
        assert "few: 3 of 60 test rows (5%) are left out" in first_page


def test_an_allowed_loss_is_scored_and_still_told(lossy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", str(grid(lossy, "{task: many.yaml, allow_left_out: 0.4}")), "--json"])
    said, progress = capsys.readouterr()
    assert ended.value.code == 0
    assert json.loads(said)["rows"][0]["left_out"]["left_out"][0]["rows"] == 20
    assert progress.rstrip().split("\n")[-1].startswith("warning: many: 20 of 60 test rows (33.3%) are left out")


# what nobody learns from needs no cut


def cut_task(folder: Path, rows: int) -> None:
    found = [{"q": f"{n}?", "a": n} for n in range(rows)]
    file = write(folder, "cut", found, "question: q, answer: a", "answer_form: number\n")
    file.write_text(file.read_text().replace("{files: cut}", "{files: cut, cut: {tuning: 640, few_shot: 8}}"))


def rows_of(config: GridConfig) -> Rows:
    return expand(config)[0].task.read()


def test_a_grid_that_learns_nothing_scores_all_rows_of_a_data_set_that_has_test_rows_only(tmp_path: Path) -> None:
    cut_task(tmp_path, 24)
    assert len(rows_of(load_grid(grid(tmp_path, "cut.yaml"))).test) == 24


def test_all_cells_of_a_grid_have_the_same_test_rows(tmp_path: Path) -> None:
    cut_task(tmp_path, 100)
    plainly = load_grid(grid(tmp_path, "cut.yaml"))
    beside = load_grid(grid(tmp_path, "cut.yaml", protocols="zero_shot, soft_prompt"))
    assert len({cell.task for cell in expand(beside)}) == 1
    rows = rows_of(beside)
    assert (len(rows.tuning), len(rows.few_shot), len(rows.test)) == (72, 8, 20)
    assert expand(plainly)[0].key != expand(beside)[0].key, "other rows are other results"
    assert rows.losses.told("cut") == [
        "cut: 80 of 100 test rows are cut off, 72 for tuning and 8 for shots; a grid with zero_shot alone cuts nothing"
    ]


def test_a_cut_that_leaves_nothing_to_score_is_named(tmp_path: Path) -> None:
    cut_task(tmp_path, 20)
    with pytest.raises(DataError, match=r"cut: no test rows are left in .*test\.jsonl: of 20 rows, 14 are cut off for tuning "):
        rows_of(load_grid(grid(tmp_path, "cut.yaml", protocols="zero_shot, few_shot")))


def test_tuning_rows_of_ones_own_need_no_cut_and_make_no_other_key(tmp_path: Path) -> None:
    sample = tasks.get("belebele").sample
    assert sample is not None
    for name in ("test", "tuning"):
        text = "".join(json.dumps({**sample, "question": f"{name} {n}?"}) + "\n" for n in range(20))
        (tmp_path / f"{name}.jsonl").write_text(text)
    entry = f"{{task: belebele, data_files: {tmp_path}}}"
    alone, beside = (load_grid(grid(tmp_path, entry, protocols=asked)) for asked in ("zero_shot", "zero_shot, few_shot"))
    assert expand(alone)[0].key == expand(beside)[0].key
    assert len(rows_of(alone).test) == 20


def test_rows_for_shots_of_ones_own_are_not_replaced_by_the_cut(tmp_path: Path) -> None:
    sample = tasks.get("belebele").sample
    assert sample is not None
    for name, count in (("test", 30), ("few_shot", 5)):
        rows = [{**sample, "question": f"{name} {n}?", "link": f"{name} {n}"} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_rows(tasks.get("belebele"), data_files=str(tmp_path))
    assert (len(found.few_shot), len(found.tuning), len(found.test)) == (5, 21, 9)
    assert found.losses.cut == {"tuning": 21, "few_shot": 0}


def test_a_small_file_of_a_data_set_with_test_rows_only_is_scored_and_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample: Mapping[str, Any] | None = tasks.get("belebele").sample
    assert sample is not None
    rows = [{**sample, "question": f"{n}?", "link": f"{n}"} for n in range(24)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entry = f"{{task: belebele, data_files: {tmp_path}}}"
    result = run_cells(grid(tmp_path, entry))
    assert result.complete
    (stored,) = result.results.values()
    assert max(metric.n for metric in stored.metrics[None]) == 24
    with pytest.raises(SystemExit) as ended:
        main(["run", str(grid(tmp_path, entry, protocols="zero_shot, few_shot"))])
    assert ended.value.code == 1
    progress = capsys.readouterr().err
    assert "belebele: no test rows are left in" in progress
    assert progress.count("FAILED") == 2
    assert "[2/2]" in progress
