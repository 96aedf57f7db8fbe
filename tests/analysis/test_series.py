"""A series of checkpoints: what is followed of it, and the sentence that tells a fault of the form from one of knowledge."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from spt_fast.analysis.faults import Told, tell_series
from spt_fast.analysis.pooled import Pooled
from spt_fast.analysis.runs import read_run
from spt_fast.analysis.series import series_of
from spt_fast.scoring.metrics import KNOWLEDGE
from tests.helpers.series import SERIES, Bools, Plan, step, write_series

ROWS = 400
TASKS = ("zoo-mcq", "zoo-short")


def drawn(means: list[float], seed: int = 0, rows: int = ROWS) -> Bools:
    return Plan(means=means, flips=0.02).draw(np.random.default_rng(seed), rows)


def tell(folder: Path, *, knows: list[float], soft: list[float], zero: list[float], rows: int = ROWS) -> Told:
    """Two tasks by two protocols. What is known shows behind soft prompts and by likelihood; zero-shot, else, with the form."""
    verdicts = {}
    for i, task in enumerate(TASKS):
        known = drawn(knows, i, rows)
        hidden = known & drawn(zero, 10 + i, rows)
        verdicts[task, "zero_shot"] = (drawn(zero, 10 + i, rows), known if task == "zoo-mcq" else hidden)
        verdicts[task, "soft_prompt"] = (drawn(soft, 20 + i, rows), known)
    (told,) = tell_series(read_run(write_series(folder, verdicts, closed_ended=["zoo-mcq"])))
    return told


def test_a_fault_of_knowledge_alone_is_told_as_such(tmp_path: Path) -> None:
    told = tell(tmp_path, knows=step(7, by=0.06), soft=step(1, level=0.97), zero=step(1, level=0.9))
    assert (told.fault, told.onset_name) == ("knowledge", "step-7")
    assert re.fullmatch(
        r"Knowledge fell and the form stayed: from step-7 on, knowledge fell by (\d\.\d) points "
        r"\(soft_prompt: -\1 \[-\d\.\d, -\d\.\d\]\), against step-6; the form stayed \(zero_shot: [-+]?\d\.\d "
        r"\[-\d\.\d, \+\d\.\d\]; soft_prompt: [-+]?\d\.\d \[-\d\.\d, \+\d\.\d\]\)\.",
        told.sentence,
    ), told.sentence


def test_a_fault_of_the_form_alone_is_told_as_such_though_fewer_answers_can_be_found(tmp_path: Path) -> None:
    told = tell(tmp_path, knows=step(1), soft=step(1, level=0.97), zero=step(7, level=0.9, by=0.6))
    assert (told.fault, told.onset_name) == ("form", "step-7")
    assert told.sentence.startswith("The form broke and knowledge stayed: from step-7 on, format following fell by "), (
        told.sentence
    )
    assert re.search(r"\(zero_shot: -\S+ \[-\S+, -\S+\]\), against step-6; knowledge stayed \(soft_prompt: ", told.sentence)
    assert "; the form behind soft prompts: stayed (soft_prompt: " in told.sentence, "not that the form stayed: it broke"


def test_a_fault_of_both_is_told_with_each_number(tmp_path: Path) -> None:
    told = tell(tmp_path, knows=step(7, by=0.06), soft=step(7, level=0.97, by=0.2), zero=step(7, level=0.9, by=0.5))
    assert (told.fault, told.onset_name) == ("both", "step-7")
    assert told.sentence.startswith("Both fell, knowledge and the form: from step-7 on, knowledge fell by "), told.sentence
    assert told.sentence.count("format following fell by") == 2


def test_faults_that_begin_apart_are_told_apart(tmp_path: Path) -> None:
    told = tell(tmp_path, knows=step(9, by=0.08), soft=step(1, level=0.97), zero=step(5, level=0.9, by=0.5))
    assert (told.fault, told.onset_name) == ("both", "step-5")
    assert "from step-5 on, format following fell by" in told.sentence
    assert "; from step-9 on, knowledge fell by" in told.sentence


def test_a_series_without_a_fault_is_told_as_such_with_what_came_back(tmp_path: Path) -> None:
    zero = step(1, level=0.9)
    zero[3] = 0.2
    told = tell(tmp_path, knows=step(1, rise=0.05, level=0.4), soft=step(1, level=0.97), zero=zero)
    assert (told.fault, told.onset) == ("none", None)
    assert told.sentence == (
        "No fault: by step-12, neither knowledge nor the form has fallen and stayed down; "
        "what fell came back: the form at step-4 (zero_shot)."
    )


def test_the_newest_checkpoint_alone_does_not_say_whether_it_stays(tmp_path: Path) -> None:
    told = tell(tmp_path, knows=step(12, by=0.1), soft=step(1, level=0.97), zero=step(1, level=0.9))
    assert (told.fault, told.onset_name) == ("knowledge", "step-12")
    assert told.sentence.endswith("; step-12 is the newest checkpoint, so whether it stays is not known yet."), told.sentence


def test_too_few_rows_are_told_as_undecided(tmp_path: Path) -> None:
    told = tell(tmp_path, knows=step(7, by=0.05), soft=step(1, level=0.97), zero=step(1, level=0.9), rows=30)
    assert told.fault == "undecided"
    assert told.sentence.startswith("Too few rows, or too much noise between checkpoints, to tell from the series whether ")
    assert re.search(r"knowledge \(soft_prompt: \S+ \[\S+, \S+\] points, .*step-12 against step-\d+\)", told.sentence)
    assert not re.search("undecided|since", told.sentence, re.IGNORECASE), "the one is a verdict, and nothing has begun"


def test_knowledge_is_by_likelihood_where_there_is_no_soft_prompt(tmp_path: Path) -> None:
    known, form = drawn(step(1)), drawn(step(7, level=0.9, by=0.6), 5)
    verdicts = {("zoo-mcq", "zero_shot"): (form, known), ("zoo-short", "zero_shot"): (form, known & form)}
    (told,) = tell_series(read_run(write_series(tmp_path, verdicts, closed_ended=["zoo-mcq"])))
    assert told.fault == "form"
    assert [line.tasks for line in told.followed] == [("zoo-mcq",), ("zoo-mcq", "zoo-short")]


def test_a_checkpoint_that_lacks_a_task_is_left_out_and_the_others_are_called_as_they_are(tmp_path: Path) -> None:
    known, form = drawn(step(7, by=0.08)), drawn(step(1, level=0.95), 5)
    verdicts = {(task, "zero_shot"): (form, known) for task in TASKS}
    write_series(tmp_path, verdicts, closed_ended=TASKS, lacking=[("step-3", "zoo-mcq"), ("step-7", "zoo-short")])
    (told,) = tell_series(read_run(tmp_path))
    assert told.followed[0].at == (0, 1, 3, 4, 5, 7, 8, 9, 10, 11)
    assert told.onset_name == "step-8", "nothing is known of the mean at step-7"


def test_a_task_that_few_checkpoints_have_is_left_out(tmp_path: Path) -> None:
    known, form = drawn(step(1, of=6)), drawn(step(1, of=6, level=0.95), 5)
    verdicts = {(task, "zero_shot"): (form, known) for task in TASKS}
    write_series(tmp_path, verdicts, closed_ended=TASKS, lacking=[(f"step-{i}", "zoo-short") for i in range(1, 6)])
    (told,) = tell_series(read_run(tmp_path))
    assert [line.tasks for line in told.followed] == [("zoo-mcq",)] * 2
    assert told.followed[0].at == tuple(range(6))


@pytest.mark.parametrize(
    ("trained", "unit", "positions"),
    [
        ({}, "steps", (9, 10, 11)),
        ({f"step-{i}": {"steps": i, "tokens": 1000 * i} for i in (9, 10, 11)}, "tokens", (9000, 10_000, 11_000)),
        ({f"step-{i}": {"steps": i} for i in (9, 10, 11)} | {"step-9": {"steps": 9, "tokens": 1}}, "steps", (9, 10, 11)),
        ({f"step-{i}": {"steps": 5} for i in (9, 10, 11)}, "checkpoint", (1, 2, 3)),
    ],
)
def test_a_series_is_counted_in_what_is_known_of_all_its_checkpoints(
    tmp_path: Path, trained: dict[str, dict[str, int]], unit: str, positions: tuple[int, ...]
) -> None:
    verdicts = {("zoo-mcq", "zero_shot"): (drawn([0.5] * 3), drawn([0.5] * 3, 1))}
    write_series(tmp_path, verdicts, names=["step-10", "step-9", "step-11"], trained=trained)
    (series,) = series_of(read_run(tmp_path))
    assert series.name == SERIES
    assert [each.name for each in series.checkpoints] == ["step-9", "step-10", "step-11"]
    assert (series.unit, series.positions) == (unit, positions)


def test_checkpoints_whose_last_parts_are_alike_are_called_by_their_names(tmp_path: Path) -> None:
    verdicts = {("zoo-mcq", "zero_shot"): (drawn([0.5] * 3), drawn([0.5] * 3, 1))}
    write_series(tmp_path, verdicts, names=["step-10/hf", "step-9/hf", "step-11/hf"])
    (series,) = series_of(read_run(tmp_path))
    assert [each.name for each in series.checkpoints] == ["run7/step-9/hf", "run7/step-10/hf", "run7/step-11/hf"]
    assert series.positions == (9, 10, 11)


def test_two_checkpoints_and_single_models_are_no_series(tmp_path: Path) -> None:
    verdicts = {("zoo-mcq", "zero_shot"): (drawn([0.5] * 3), drawn([0.5] * 3, 1))}
    assert series_of(read_run(write_series(tmp_path / "single", verdicts, series=None))) == []
    two = {place: (form[:2], knows[:2]) for place, (form, knows) in verdicts.items()}
    assert series_of(read_run(write_series(tmp_path / "two", two))) == []


EARLY = {f"step-{i}": 900 if i < 7 else 300 for i in range(2, 13)}


def stopped(folder: Path, knows: list[float], early: dict[str, int] = EARLY, seed: int = 0) -> Told:
    """Two tasks of 1,500 rows, behind a soft prompt, of whose checkpoints some were stopped early."""
    rng, verdicts = np.random.default_rng(seed), {}
    for task in TASKS:
        known = Plan(means=knows, flips=0.02).draw(rng, 1500)
        verdicts[task, "soft_prompt"] = (Plan(means=step(1, of=len(knows), level=0.97), flips=0.01).draw(rng, 1500), known)
    (told,) = tell_series(read_run(write_series(folder, verdicts, closed_ended=["zoo-mcq"], stopped=early)))
    return told


def test_a_fault_is_found_where_checkpoints_were_stopped_early(tmp_path: Path) -> None:
    told = stopped(tmp_path, step(7, by=0.1))
    assert (told.fault, told.onset_name) == ("knowledge", "step-7")
    assert told.sentence.endswith(
        " 11 of 12 checkpoints were stopped early (after 600 to 1,800 of 3,000 rows), and held against others on the rows that "
        "both were asked."
    ), told.sentence
    (knowledge, form) = told.followed
    assert knowledge.at == tuple(range(12))
    assert knowledge.stopped == form.stopped == {i: (1800 if i < 6 else 600, 3000) for i in range(1, 12)}
    assert [part.rows for part in knowledge.trajectory.change(0, [2]).parts] == [900, 900]
    assert [part.rows for part in knowledge.trajectory.change(1, [2, 6, 7]).parts] == [300, 300], "those that all were asked"


def test_a_series_that_was_stopped_early_and_in_which_nothing_fell_has_no_fault(tmp_path: Path) -> None:
    told = stopped(tmp_path, step(1), {f"step-{i}": 1000 for i in range(2, 13)})
    assert told.fault == "none"
    assert " 11 of 12 checkpoints were stopped early (after 2,000 of 3,000 rows), and " in told.sentence


def test_what_is_said_of_stopped_checkpoints_holds_at_every_look(tmp_path: Path) -> None:
    early = stopped(tmp_path / "early", step(1), {"step-2": 400})
    whole = stopped(tmp_path / "whole", step(1), {})
    assert not whole.followed[0].trajectory.asking, "where none was stopped or looked at, the fixed test holds"
    at_looks, fixed = (told.followed[0].trajectory.change(0, [1]) for told in (early, whole))
    assert at_looks.rows == 800
    bounds, narrower = at_looks.limits(0.9), Pooled(parts=[part.fixed for part in at_looks.parts]).limits(0.9)  # type: ignore[attr-defined]
    assert bounds.low < narrower.low
    assert bounds.high > narrower.high
    assert fixed.rows == 3000


def test_a_stopped_checkpoint_stands_as_far_from_a_whole_one_as_the_rows_of_both_say(tmp_path: Path) -> None:
    told = stopped(tmp_path, step(4, of=4, by=0.1), {"step-2": 200, "step-4": 300})
    assert told.levels is not None
    level = told.levels.at("run7/step-4", "zoo-mcq", "soft_prompt", KNOWLEDGE)
    assert level is not None
    assert (level.base, level.rows, level.of) == ("run7/step-3", 300, 1500)
    run = read_run(tmp_path)
    base = run.rows("run7/step-3", "zoo-mcq", "soft_prompt", KNOWLEDGE)
    mine = run.with_stopped().rows("run7/step-4", "zoo-mcq", "soft_prompt", KNOWLEDGE)
    assert base is not None
    assert mine is not None
    assert level.change.change == pytest.approx(float((mine.values - base.of(mine.examples).values).mean()))
    assert told.levels.at("run7/step-4", "zoo-mcq", "soft_prompt", "answer_bits_per_byte") is None, "no bound would hold"
    assert told.levels.at("run7/step-3", "zoo-mcq", "soft_prompt", KNOWLEDGE) is None, "it was asked all"


def test_a_stopped_cell_that_is_damaged_is_left_out_of_its_series(tmp_path: Path) -> None:
    stopped(tmp_path, step(1, of=5), {"step-3": 200})
    run = read_run(tmp_path)
    key = next(key for place, key in run.stopped.items() if place.task == "zoo-mcq")
    (told,) = tell_series(run.without({key}))
    assert told.followed[0].at == (0, 1, 3, 4)
