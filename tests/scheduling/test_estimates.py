"""How long a grid takes: exact where it was measured, in proportion where it was not, and a guess that says so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt_fast.config import FewShot, Protocol, SoftPromptConfig, Transfer, ZeroShot
from spt_fast.plan import Stage
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.scheduling.estimates import Estimates, Measured
from tests.helpers.estimated import GSM8K, JUDGE, MMLU, ONE, PROTOCOLS, SEVEN, SQUAD, cell, measured

SECONDS = st.floats(0.01, 1e5)


ANY_CELL = st.builds(
    cell,
    model=st.sampled_from([SEVEN, ONE]),
    task=st.sampled_from([MMLU, GSM8K, replace(MMLU, limit=100), replace(SQUAD, limit=100)]),
    protocol=st.sampled_from(PROTOCOLS),
)
ANY_MEASURED = st.lists(
    st.builds(
        measured,
        ANY_CELL,
        answer_s=SECONDS,
        train_s=SECONDS,
        engine_start_s=SECONDS,
        load_s=SECONDS,
    ),
    max_size=6,
)


# measured


@given(of=ANY_CELL, seconds=st.lists(SECONDS, min_size=1, max_size=5), others=ANY_MEASURED)
def test_what_was_measured_is_taken_as_it_was_the_median_of_its_seeds(
    of: Cell, seconds: list[float], others: list[Measured]
) -> None:
    """Whatever was measured of other models, tasks and protocols."""
    others = [m for m in others if (m.cell.model, m.cell.task.name, m.cell.protocol) != (of.model, of.task.name, of.protocol)]
    seeds = [measured(replace(of, seed=i), answer_s=took) for i, took in enumerate(seconds)]
    told = Estimates([*seeds, *others], gpu=True)
    middle = sorted(seconds)
    median = (middle[len(middle) // 2] + middle[(len(middle) - 1) // 2]) / 2
    assert told.answer_s(of) == pytest.approx(median)


def test_a_start_that_was_measured_is_taken_and_the_load_only_where_something_is_learnt() -> None:
    told = Estimates([measured(cell(), engine_start_s=60.0, load_s=10.0)], gpu=True)
    assert told.start_s(SEVEN, training=False) == pytest.approx(60.0)
    assert told.start_s(SEVEN, training=True) == pytest.approx(70.0)


def test_cells_that_learnt_together_have_the_seconds_in_parts_and_are_told_the_whole() -> None:
    """A soft prompt of GSM8K, and a transfer from it that is asked MMLU; the judged cell repeats what its own cell cost."""
    learnt = cell(task=GSM8K, protocol=SoftPromptConfig())
    transfer = cell(protocol=Transfer(from_task="gsm8k"), learnt_on=GSM8K)
    assert learnt.tuning_key == transfer.tuning_key
    done = [measured(each, train_s=30.0) for each in (learnt, transfer, replace(learnt, judge=JUDGE))]
    assert Estimates(done, gpu=True).train_s(learnt) == pytest.approx(60.0)


@given(known=ANY_MEASURED, of=ANY_CELL, factor=st.floats(0.1, 10))
def test_on_a_machine_so_many_times_slower_everything_measured_takes_so_many_times_longer(
    known: list[Measured], of: Cell, factor: float
) -> None:
    slower = [replace(m, costs={name: factor * seconds for name, seconds in m.costs.items()}) for m in known]
    fast, slow = Estimates(known, gpu=True), Estimates(slower, gpu=True)
    if known:
        assert slow.answer_s(of) == pytest.approx(factor * fast.answer_s(of))
        assert slow.start_s(of.model, training=True) == pytest.approx(factor * fast.start_s(of.model, training=True))
    if any(isinstance(m.cell.protocol, SoftPromptConfig) for m in known):
        assert slow.train_s(of) == pytest.approx(factor * fast.train_s(of))


def test_a_model_that_is_slow_at_one_task_is_expected_to_be_slow_at_another() -> None:
    usual = [measured(cell(task=task), answer_s=seconds) for task, seconds in ((MMLU, 100.0), (GSM8K, 300.0))]
    third = replace(SEVEN, name="third", fingerprint="commit:3")
    more = [measured(cell(third), answer_s=100.0), measured(cell(third, GSM8K), answer_s=300.0)]
    slow = replace(SEVEN, name="slow", fingerprint="commit:slow")
    told = Estimates([*usual, *more, measured(cell(slow), answer_s=200.0)], gpu=True)
    assert told.answer_s(cell(slow, GSM8K)) == pytest.approx(600.0)


def test_a_new_checkpoint_is_expected_to_take_what_the_one_before_it_took() -> None:
    told = Estimates([measured(cell(), answer_s=77.0, engine_start_s=30.0)], gpu=True)
    new = replace(SEVEN, name="new", fingerprint="commit:new")
    assert told.answer_s(cell(new)) == pytest.approx(77.0)
    assert told.start_s(new, training=False) == pytest.approx(30.0)


def test_a_task_whose_rows_were_counted_is_expected_to_have_so_many() -> None:
    """Files of a user's, whose size nobody publishes: 100 of the 5,000 rows are a fiftieth."""
    told = Estimates([measured(cell(task=replace(SQUAD, limit=9000)), rows=5000, answer_s=50.0)], gpu=True)
    assert told.answer_s(cell(task=SQUAD)) == pytest.approx(50.0)
    assert told.answer_s(cell(task=replace(SQUAD, limit=100))) == pytest.approx(1.0, rel=0.01), "but for the instruction"


def test_a_limit_that_was_reached_says_nothing_of_the_task() -> None:
    told = Estimates([measured(cell(task=replace(MMLU, limit=100)), rows=100, answer_s=1.0)], gpu=True)
    rows, choosing = 14_042, 64
    assert told.answer_s(cell()) == pytest.approx((rows + choosing) / (100 + choosing), rel=0.1), "all of MMLU's test rows"


def test_a_judge_is_told_by_its_last_cell_whose_seconds_count_from_its_start() -> None:
    tasks = [replace(GSM8K, limit=100), replace(SQUAD, limit=100)]
    judged = [cell(task=task, judge=JUDGE) for task in tasks]
    done = [
        measured(each, judge_s=seconds, judge_engine_start_s=20.0, answer_s=5.0)
        for each, seconds in zip(judged, (30.0, 40.0), strict=True)
    ]
    told = Estimates(done, gpu=True)
    assert sum(map(told.answer_s, judged)) == pytest.approx(40.0)
    assert told.start_s(JUDGE.model, training=False) == pytest.approx(20.0)
    assert told.answer_s(judged[0].unjudged) == pytest.approx(5.0), "asking is not ruling"


@pytest.mark.parametrize(
    "costs", [{}, {"answer_s": 0.0}, {"answer_s": -1.0}, {"answer_s": float("nan"), "load_s": float("inf")}]
)
def test_a_cost_that_is_missing_or_no_number_is_as_good_as_none(costs: Mapping[str, float]) -> None:
    told, guessed = Estimates([Measured(cell=cell(), costs=costs)], gpu=True), Estimates(gpu=True)
    assert told.answer_s(cell()) == guessed.answer_s(cell())
    assert told.start_s(SEVEN, training=True) == guessed.start_s(SEVEN, training=True)
    assert told.basis == guessed.basis


def test_it_says_what_it_rests_on() -> None:
    assert Estimates(gpu=True).basis == "a guess from the size of the models; nothing has been measured yet"
    assert Estimates([measured(cell(), answer_s=1.0)], gpu=True).basis == "going by 1 cell done"
    assert Estimates([measured(cell(), answer_s=1.0)] * 3, gpu=True).basis == "going by 3 cells done"


# not measured


@given(known=ANY_MEASURED, of=ANY_CELL, fewer=st.integers(1, 20_000), more=st.integers(0, 20_000))
def test_more_rows_never_take_less_and_at_most_in_proportion(known: list[Measured], of: Cell, fewer: int, more: int) -> None:
    told = Estimates(known, gpu=True)

    def limited(limit: int) -> float:
        return told.answer_s(replace(of, task=replace(of.task, limit=limit)))

    assert limited(fewer) <= limited(fewer + more) * (1 + 1e-9)
    assert 4 * limited(10) < limited(100) <= 10 * limited(10) * (1 + 1e-9), "a cell has an instruction and rows to choose by"


@given(steps=st.integers(1, 500), more=st.integers(1, 500), points=st.integers(1, 5))
def test_more_steps_and_more_points_take_longer(steps: int, more: int, points: int) -> None:
    told = Estimates([measured(cell(), answer_s=10.0)], gpu=True)
    short, long = (cell(protocol=SoftPromptConfig(steps=n)) for n in (steps, steps + more))
    assert told.train_s(long) == pytest.approx((steps + more) / steps * told.train_s(short))
    curve = cell(protocol=SoftPromptConfig(steps=500, evaluate_at=tuple(range(points))))
    single = told.answer_s(cell(protocol=SoftPromptConfig(steps=500)))
    assert 0.6 * (points + 1) * single < told.answer_s(curve) < (points + 1) * single, "the best method is chosen once"


@given(
    known=ANY_MEASURED,
    task=st.sampled_from([MMLU, GSM8K, SQUAD]),
    protocol=st.sampled_from(PROTOCOLS),
    parameters=st.integers(10**6, 10**11),
    more=st.integers(1, 10**11),
    gpu=st.booleans(),
)
def test_of_two_models_that_were_not_measured_the_larger_never_takes_less(
    known: list[Measured], task: TaskRows, protocol: Protocol, parameters: int, more: int, gpu: bool
) -> None:
    told = Estimates(known, gpu=gpu)
    small, large = (
        replace(SEVEN, name=str(n), fingerprint=str(n), parameters=n, weight_bytes=2 * n)
        for n in (parameters, parameters + more)
    )
    for seconds in (
        lambda model: told.answer_s(cell(model, task, protocol)),
        lambda model: told.train_s(cell(model, task, protocol)),
        lambda model: told.start_s(model, training=True),
    ):
        assert seconds(small) <= seconds(large)


@pytest.mark.parametrize(
    ("known", "parameters"),
    [
        ({"weight_bytes": 320_000_000}, 160_000_000),
        ({"name": "EleutherAI/pythia-160m@step1000"}, 160_000_000),
        ({"name": "Qwen/Qwen3-1.7B-Base"}, 1_700_000_000),
        ({"name": "runs/step-100"}, 7_000_000_000),
        ({"name": "olmo@stage1-11b"}, 7_000_000_000),
    ],
)
def test_the_size_of_a_model_is_taken_from_its_bytes_or_its_name(known: dict[str, Any], parameters: int) -> None:
    nothing = {"parameters": None, "weight_bytes": None}
    of = replace(SEVEN, **{**nothing, **known})
    like = replace(SEVEN, parameters=parameters, weight_bytes=2 * parameters)
    told = Estimates(gpu=True)
    assert told.answer_s(cell(of)) == told.answer_s(cell(like))
    assert told.start_s(of, training=True) == told.start_s(like, training=True)


def test_half_a_gpu_takes_longer_two_less_long_and_a_cpu_longest() -> None:
    two = replace(SEVEN, tensor_parallel=2, gpus=2.0)
    times = [Estimates(gpu=True).answer_s(cell(model)) for model in (two, SEVEN, replace(SEVEN, gpus=0.5))]
    times.append(Estimates(gpu=False).answer_s(cell(SEVEN)))
    assert times == sorted(times)
    assert len(set(times)) == 4


def test_only_what_is_learnt_takes_time_to_learn() -> None:
    told = Estimates(gpu=True)
    assert [told.train_s(cell(protocol=protocol)) > 0 for protocol in PROTOCOLS] == [False, False, True, False]


def test_longer_prompts_and_more_options_take_longer() -> None:
    told = Estimates(gpu=True)
    asked = [told.answer_s(cell(protocol=FewShot(shots=shots))) for shots in (1, 2, 5)]
    assert asked == sorted(set(asked))
    tiny = replace(SEVEN, parameters=1)
    closed, open_ended = (told.answer_s(cell(tiny, replace(task, limit=100))) for task in (MMLU, SQUAD))
    assert closed == pytest.approx((100 * 13 + 64 * 12) / 200 * open_ended, rel=1e-3), (
        "a completion and four options in three ways, these of 64 rows to choose by too; a completion and the gold answer"
    )


def test_where_the_form_is_shown_or_learnt_less_is_written() -> None:
    """Zero-shot, a base model writes on; behind examples or a soft prompt it writes the answer and stops."""
    told = Estimates(gpu=True)
    plainly, shown, learnt = (
        told.answer_s(cell(task=SQUAD, protocol=each)) for each in (ZeroShot(), FewShot(), SoftPromptConfig())
    )
    assert learnt < plainly
    assert shown < plainly, "what shots add is read once"


def test_a_task_that_makes_its_own_rows_is_counted() -> None:
    zoo = TaskRows(name="zoo-mcq", version=1, content="zoo")
    told = Estimates(gpu=False)
    assert told.answer_s(cell(task=zoo)) == told.answer_s(cell(task=replace(zoo, limit=120)))
    assert told.answer_s(cell(task=zoo)) > told.answer_s(cell(task=replace(zoo, limit=119)))


def test_a_data_set_that_is_cut_in_three_is_asked_what_is_left() -> None:
    """Belebele: 900 rows, less 640 to tune on and 32 to show."""
    belebele = TaskRows(name="belebele", version=1, content="hub:belebele")
    told = Estimates(gpu=True)
    assert told.answer_s(cell(task=belebele)) == told.answer_s(cell(task=replace(belebele, limit=228)))


# a stage


def test_a_stage_starts_once_and_learns_shared_vectors_once() -> None:
    told = Estimates(gpu=True)
    short, long = (cell(task=GSM8K, protocol=SoftPromptConfig(steps=steps)) for steps in (40, 80))
    transfer = cell(protocol=Transfer(from_task="gsm8k", steps=40), learnt_on=GSM8K)
    cells = (cell(), long, short, transfer)
    seconds = told.stage(Stage(model=SEVEN, cells=cells))
    assert seconds.start_s == told.start_s(SEVEN, training=True)
    assert seconds.train_s == pytest.approx(told.train_s(long))
    assert seconds.answer_s == pytest.approx(sum(map(told.answer_s, cells)))
    assert seconds.total_s == pytest.approx(seconds.start_s + seconds.train_s + seconds.answer_s)
    plain = told.stage(Stage(model=SEVEN, cells=cells[:1]))
    assert (plain.start_s, plain.train_s) == (told.start_s(SEVEN, training=False), 0.0)


def test_what_others_start_from_is_learnt_once_before_them() -> None:
    told = Estimates(gpu=True)
    starting = SoftPromptConfig(init="soft_prompt", init_from="squad", steps=40)
    cells = tuple(cell(task=task, protocol=starting, starts_on=SQUAD) for task in (MMLU, GSM8K))
    first = cells[0].first
    assert first is not None
    together = told.stage(Stage(model=SEVEN, cells=cells))
    assert together.train_s == pytest.approx(told.train_s(first) + sum(map(told.train_s, cells)))
    longer = cell(task=SQUAD, protocol=SoftPromptConfig(steps=40))
    assert longer.tuning_key == first.tuning_key
    beside = told.stage(Stage(model=SEVEN, cells=(longer, *cells)))
    assert beside.train_s == pytest.approx(together.train_s), "the grid asks what it starts from too"
    one = Estimates([measured(cells[0], train_s=90.0)], gpu=True).stage(Stage(model=SEVEN, cells=cells[:1]))
    assert one.train_s == pytest.approx(90.0), "what was measured has learnt both"


def test_a_judge_that_is_asked_too_takes_its_own_time_for_each() -> None:
    asked = cell(JUDGE.model, GSM8K)
    judged = replace(asked, judge=JUDGE)
    apart, together = Estimates(gpu=True), Estimates(gpu=True)
    assert together.answer_s(asked) != together.answer_s(judged) == apart.answer_s(judged)
    told = Estimates([measured(asked, answer_s=5.0), measured(judged, judge_s=40.0)], gpu=True)
    assert [told.answer_s(each) for each in (asked, judged)] == pytest.approx([5.0, 40.0])


def test_a_judges_stage_learns_nothing() -> None:
    told = Estimates(gpu=True)
    judged = cell(task=GSM8K, protocol=SoftPromptConfig(), judge=JUDGE)
    seconds = told.stage(Stage(model=JUDGE.model, cells=(judged,)))
    assert (seconds.start_s, seconds.train_s) == (told.start_s(JUDGE.model, training=False), 0.0)
    assert seconds.answer_s == told.answer_s(judged) != told.answer_s(judged.unjudged)


def test_a_hundred_thousand_cells_are_told_in_a_second() -> None:
    """Seconds of this process alone: a busy machine does not count."""
    models = [replace(SEVEN, name=str(i), fingerprint=str(i)) for i in range(50)]
    cells = [
        cell(model, task, protocol, seed=seed)
        for model in models
        for task in (MMLU, GSM8K)
        for protocol in PROTOCOLS
        for seed in range(250)
    ]
    told = Estimates([measured(each, answer_s=1.0) for each in cells[:1000]], gpu=True)
    began = time.process_time()
    assert sum(told.answer_s(each) + told.train_s(each) for each in cells) > 0
    assert len(cells) == 100_000
    assert time.process_time() - began < 1
