"""Requests a second of all workers together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spt_fast.worker.events import Phase, Progress
from spt_fast.worker.throughput import WINDOW_S, Throughput


def progress(done: int, phase: Phase = "evaluate") -> Progress:
    return Progress(phase=phase, done=done, total=10_000)


def test_nothing_is_answered_before_anybody_has_told_of_an_answer() -> None:
    throughput = Throughput()
    throughput.take("a", progress(40, "train"), 0.0)
    assert throughput.per_s(100.0) == 0.0


def test_workers_add_up_and_each_counts_from_where_it_was() -> None:
    throughput = Throughput()
    for now, a, b in ((0.0, 0, 0), (5.0, 50, 100), (10.0, 100, 200)):
        throughput.take(("one", 0), progress(a), now)
        throughput.take(("two", 0), progress(b, "judge"), now)
    assert throughput.per_s(10.0) == 30.0


def test_a_new_stream_of_requests_begins_at_nought() -> None:
    throughput = Throughput()
    for now, done in ((0.0, 0), (4.0, 100), (6.0, 20), (10.0, 60)):
        throughput.take("a", progress(done), now)
    assert throughput.per_s(10.0) == 16.0


def test_what_is_long_past_does_not_count() -> None:
    throughput = Throughput()
    throughput.take("a", progress(3000), 0.0)
    assert throughput.per_s(WINDOW_S) == 3000 / WINDOW_S
    assert throughput.per_s(WINDOW_S + 1.0) == 0.0
    throughput.take("a", progress(3060), WINDOW_S + 2.0)
    assert throughput.per_s(WINDOW_S + 2.0) == 60 / WINDOW_S


def test_the_first_answers_do_not_look_like_thousands_a_second() -> None:
    throughput = Throughput()
    throughput.take("a", progress(8), 5.0)
    assert throughput.per_s(5.001) == 8.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.floats(0.0, 2.0)), min_size=1, max_size=40))
def test_the_pace_times_its_window_is_what_was_answered_in_it(steps: list[tuple[int, int, float]]) -> None:
    throughput, done, now = Throughput(), [0, 0, 0], 0.0
    answered: list[tuple[float, int]] = []
    for worker, more, passed in steps:
        now += passed
        done[worker] += more
        throughput.take(worker, progress(done[worker]), now)
        answered.append((now, more))
    seconds = min(WINDOW_S, max(now - answered[0][0], 1.0))
    count = sum(more for when, more in answered if when >= now - WINDOW_S)
    assert abs(throughput.per_s(now) * seconds - count) < 1e-6
