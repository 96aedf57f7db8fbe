"""Small scenes on few nodes: what the scheduler does when something happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from spt_fast.scheduling.limits import LIMITS, Limits
from spt_fast.scheduling.messages import (
    Action,
    Assign,
    Began,
    Ended,
    Fail,
    Finished,
    Heartbeat,
    Idle,
    Job,
    Kill,
    Lost,
    Nodes,
    Observation,
    Piece,
    Progressed,
    Release,
    Revoke,
    Revoked,
    Start,
    Tick,
    Trained,
    Waits,
)
from spt_fast.scheduling.scheduler import Scheduler

START_S = 100.0


def job(name: str, *seconds: float, gpus: float = 1.0, start_s: float = START_S) -> Job:
    """A job whose cells have nothing to learn and are called name0, name1, ..."""
    pieces = tuple(Piece(key=f"{name}{i}", group=None, answer_s=each) for i, each in enumerate(seconds))
    return Job(name=name, need={"GPU": gpus}, start_s=start_s, pieces=pieces)


def wide(name: str, *seconds: float, parts: int, gpus: float) -> Job:
    """A job whose workers are cut into parts of so many GPUs where no node holds them whole."""
    whole = job(name, *seconds, gpus=parts * gpus)
    return replace(whole, parts=parts, part={"GPU": gpus})


def group(name: str, cells: int, train_s: float, answer_s: float) -> tuple[Piece, ...]:
    """Cells that share their training."""
    return tuple(Piece(key=f"{name}{i}", group=name, train_s=train_s, answer_s=answer_s) for i in range(cells))


class Scene:
    """A scheduler, the time, and workers that do as they are told."""

    def __init__(self, *jobs: Job, nodes: dict[str, float], **settings: Any) -> None:
        self.scheduler, self.now = Scheduler(jobs, Limits(**settings)), 0.0
        self.actions: list[Action] = []
        self.nodes(nodes)

    def tell(self, observation: Observation, after: float = 0.0) -> list[Action]:
        self.now += after
        came = self.scheduler.handle(observation, self.now)
        self.actions += came
        return came

    def nodes(self, nodes: dict[str, float], draining: Sequence[str] = (), after: float = 0.0) -> list[Action]:
        return self.tell(Nodes({name: {"GPU": gpus} for name, gpus in nodes.items()}, draining), after)

    def work(self, worker: int, node: str, *keys: str) -> None:
        """A worker answers, and has some of its cells in flight."""
        self.tell(Heartbeat(worker, (node,)))
        for key in keys:
            self.tell(Began(worker, key, "evaluate"))

    def does(self, worker: int, *keys: str, seconds: float = 0.0) -> list[Action]:
        """A worker does cells, one after another."""
        came = []
        for key in keys:
            came += self.tell(Began(worker, key, "evaluate"))
            came += self.tell(Ended(worker, key), after=seconds)
        return came

    def of(self, kind: type[Action]) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]

    @property
    def started(self) -> list[Start]:
        return self.of(Start)


# who starts, and where


def test_the_longest_job_starts_first_and_each_worker_begins_with_its_longest_cell() -> None:
    scene = Scene(job("short", 10.0), job("long", 300.0, 900.0), job("middle", 500.0), nodes={"n": 2.0})
    assert [start.job for start in scene.started if start.nodes] == ["long", "middle"]
    assert scene.started[0].keys == ("long1", "long0")


def test_no_node_is_given_more_than_it_has_and_the_rest_starts_when_a_worker_ends() -> None:
    scene = Scene(job("a", 900.0), job("b", 800.0), job("c", 700.0), nodes={"n": 2.0}, ahead=0)
    assert [start.job for start in scene.started] == ["a", "b"]
    scene.work(0, "n")
    scene.does(0, "a0")
    assert scene.tell(Idle(0)) == [Release(0)]
    assert scene.tell(Finished(0)) == [Start(2, "c", ("n",), ("c0",))]


def test_a_job_that_needs_a_whole_node_is_not_starved_by_small_ones() -> None:
    first, later = ([job(f"{name}{i}-", seconds) for i in range(8)] for name, seconds in (("f", 1000.0), ("l", 350.0)))
    scene = Scene(*first, *later, job("whole", 400.0, gpus=8.0), nodes={"n": 8.0}, ahead=0)
    assert [start.job for start in scene.started] == [each.name for each in first]
    for start in scene.started:
        scene.work(start.worker, "n", *start.keys)
    while "whole" not in [start.job for start in scene.started]:  # whoever is here longest ends, and its place is free
        over = {release.worker for release in scene.of(Release)}
        running = [start for start in scene.started if start.worker not in over]
        for start in running:
            scene.tell(Heartbeat(start.worker, ("n",)))
        scene.does(running[0].worker, *running[0].keys, seconds=500.0)
        scene.tell(Idle(running[0].worker))
        scene.tell(Finished(running[0].worker))
    assert len(scene.started) <= 10  # of the later ones only those that held nobody up


def test_a_short_job_takes_a_place_that_is_kept_for_a_large_one_if_it_ends_in_time() -> None:
    jobs = job("first", 2000.0), job("second", 1900.0), job("large", 1800.0, gpus=2.0), job("slow", 1700.0), job("quick", 50.0)
    scene = Scene(*jobs, nodes={"n": 2.0}, ahead=0)
    assert [start.job for start in scene.started] == ["first", "second"]
    scene.work(0, "n", "first0")
    scene.work(1, "n")
    scene.does(1, "second0", seconds=1000.0)
    scene.tell(Idle(1))
    scene.tell(Finished(1))
    assert [start.job for start in scene.started[2:]] == ["quick"]  # "slow" would keep the large one waiting


def test_two_halves_share_one_gpu() -> None:
    scene = Scene(job("a", 500.0, gpus=0.5), job("b", 500.0, gpus=0.5), job("c", 500.0, gpus=0.5), nodes={"n": 1.0}, ahead=0)
    assert [(start.job, start.nodes) for start in scene.started] == [("a", ("n",)), ("b", ("n",))]


def test_a_share_is_not_put_on_a_gpu_that_is_taken_whole() -> None:
    scene = Scene(job("whole", 900.0), job("half", 500.0, gpus=0.5), nodes={"n": 1.0}, ahead=0)
    assert [start.job for start in scene.started] == ["whole"]


def test_a_whole_gpu_is_not_made_of_two_halves() -> None:
    halves = [job(name, 900.0, gpus=0.6) for name in "ab"]
    scene = Scene(*halves, job("whole", 100.0), nodes={"n": 2.0}, ahead=0)
    assert [start.job for start in scene.started] == ["a", "b"]  # 0.8 of a GPU is left, in two pieces


def test_a_half_stays_on_its_gpu_when_its_neighbour_leaves() -> None:
    halves = [job(name, 900.0, gpus=0.5) for name in "abc"]
    scene = Scene(*halves, job("whole", 100.0), nodes={"n": 2.0}, ahead=0)
    assert [start.job for start in scene.started] == ["a", "b", "c"]  # a and b on one GPU, c on the other
    scene.work(0, "n")
    scene.does(0, "a0")
    scene.tell(Idle(0))
    scene.tell(Finished(0))
    assert "whole" not in [start.job for start in scene.started]
    scene.work(2, "n")
    scene.does(2, "c0")
    scene.tell(Idle(2))
    scene.tell(Finished(2))
    assert scene.started[-1].job == "whole"


def test_a_tenth_of_a_gpu_fits_ten_times() -> None:
    scene = Scene(*(job(f"j{i}-", 900.0, gpus=0.1) for i in range(11)), nodes={"n": 1.0}, ahead=0)
    assert len(scene.started) == 10


# more than one worker for a job


def test_another_worker_starts_where_the_work_moved_is_worth_more_than_its_start() -> None:
    scene = Scene(job("a", *[60.0] * 20), nodes={"n": 1.0})
    scene.work(0, "n", "a0")
    [ask] = scene.nodes({"n": 2.0})
    assert isinstance(ask, Revoke)
    assert ask.worker == 0
    assert "a0" not in ask.keys
    moved = 60.0 * len(ask.keys)
    assert START_S < moved <= 1200.0 / 2
    [start] = scene.tell(Revoked(0, ask.keys))
    assert isinstance(start, Start)
    assert sorted(start.keys) == sorted(ask.keys)


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_no_other_worker_starts_where_its_start_costs_more_than_it_saves(cells: int) -> None:
    scene = Scene(job("a", *[60.0] * cells), nodes={"n": 1.0})
    scene.work(0, "n")
    assert scene.nodes({"n": 8.0}) == []


def test_a_large_job_on_an_empty_cluster_starts_on_all_of_it_and_every_cell_is_given_once() -> None:
    scene = Scene(job("a", *[60.0] * 100), nodes={"n": 4.0, "m": 4.0})
    keys = [key for start in scene.started for key in start.keys]
    assert len(scene.started) == 8
    assert sorted(keys) == sorted(f"a{i}" for i in range(100))


def test_an_idle_worker_is_given_ready_cells_that_others_have_not_begun() -> None:
    scene = Scene(job("a", *[60.0] * 40), nodes={"n": 1.0, "m": 1.0})
    mine, other = scene.started
    scene.work(mine.worker, "n")
    scene.work(other.worker, "m", other.keys[0])
    scene.does(mine.worker, *mine.keys, seconds=1.0)
    [ask] = scene.tell(Idle(mine.worker))
    assert isinstance(ask, Revoke)
    assert ask.worker == other.worker
    assert other.keys[0] not in ask.keys
    [give] = scene.tell(Revoked(other.worker, ask.keys))
    assert isinstance(give, Assign)
    assert give.worker == mine.worker
    assert sorted(give.keys) == sorted(ask.keys)


def test_an_idle_worker_whose_others_have_begun_everything_is_let_go() -> None:
    scene = Scene(job("a", *[60.0] * 40), nodes={"n": 1.0, "m": 1.0})
    mine, other = scene.started
    scene.work(mine.worker, "n")
    scene.work(other.worker, "m", *other.keys)
    scene.does(mine.worker, *mine.keys)
    assert scene.tell(Idle(mine.worker)) == [Release(mine.worker)]


def test_an_idle_worker_whose_question_is_not_answered_is_not_kept_for_ever() -> None:
    scene = Scene(job("a", *[60.0] * 40), nodes={"n": 1.0, "m": 1.0})
    mine, other = scene.started
    scene.work(mine.worker, "n")
    scene.work(other.worker, "m", other.keys[0])
    scene.does(mine.worker, *mine.keys)
    scene.tell(Idle(mine.worker))
    for worker, node in ((mine.worker, "n"), (other.worker, "m")):
        scene.tell(Heartbeat(worker, (node,)), after=LIMITS.silent_s / 2 + 1)
    assert Release(mine.worker) in scene.tell(Tick())
    late = scene.of(Revoke)[0].keys
    scene.tell(Finished(mine.worker))
    scene.tell(Revoked(other.worker, late))  # and what comes late is not lost
    assert sorted(scene.started[-1].keys) == sorted(late)


def test_cells_that_share_their_training_stay_together() -> None:
    pieces = tuple(piece for i in range(12) for piece in group(f"g{i}-", 3, 100.0, 20.0))
    scene = Scene(Job(name="a", need={"GPU": 1.0}, start_s=START_S, pieces=pieces), nodes={"n": 1.0})
    scene.tell(Heartbeat(0, ("n",)))
    scene.tell(Began(0, "g0-0", "train"))
    [ask] = scene.nodes({"n": 4.0})
    assert isinstance(ask, Revoke)
    groups = {key.split("-")[0] for key in ask.keys}
    assert "g0" not in groups
    assert len(ask.keys) == 3 * len(groups)


def test_cells_whose_training_is_done_go_one_by_one() -> None:
    scene = Scene(
        Job(name="a", need={"GPU": 1.0}, start_s=10.0, pieces=group("g", 5, 100.0, 200.0)),
        nodes={"n": 1.0},
    )
    scene.tell(Heartbeat(0, ("n",)))
    assert scene.nodes({"n": 2.0}) == []
    for key in ("g0", "g1", "g2", "g3", "g4"):
        scene.tell(Began(0, key, "train"))
    scene.now += 100.0
    for key in ("g0", "g1", "g2", "g3", "g4"):
        scene.tell(Trained(0, key))
    scene.tell(Began(0, "g0", "evaluate"))
    [ask] = scene.tell(Tick())
    assert isinstance(ask, Revoke)
    assert 0 < len(ask.keys) < 5


def test_what_a_worker_refused_to_give_back_is_not_asked_for_again() -> None:
    scene = Scene(job("a", *[60.0] * 20), nodes={"n": 1.0})
    scene.work(0, "n", "a0")
    asked: list[str] = []
    came = scene.nodes({"n": 2.0})
    while came:
        [ask] = came
        assert isinstance(ask, Revoke)
        assert not set(asked) & set(ask.keys)
        asked += ask.keys
        came = scene.tell(Revoked(0, ()))
    assert asked
    assert scene.tell(Tick()) == []
    assert len(scene.started) == 1


# workers and nodes that are lost


def test_the_cells_of_a_lost_worker_go_to_another() -> None:
    scene = Scene(job("a", 60.0, 50.0, 40.0), nodes={"n": 1.0})
    scene.work(0, "n")
    scene.does(0, "a0")
    scene.work(0, "n", "a1")
    [start] = scene.tell(Lost(0, "killed"))
    assert start == Start(1, "a", ("n",), ("a1", "a2"))


def test_a_cell_in_flight_in_three_lost_workers_is_set_aside_and_the_others_are_not() -> None:
    scene = Scene(job("a", 60.0, 50.0, 40.0), nodes={"n": 1.0})
    for worker in range(3):
        scene.work(worker, "n", "a1")
        scene.tell(Lost(worker, "killed by the kernel"))
    assert scene.of(Fail) == [Fail("a", "a1", "killed by the kernel, 3 times in this cell")]
    assert scene.started[-1].keys == ("a0", "a2")


def test_workers_that_die_before_they_begin_a_cell_are_lost_to_all_their_cells() -> None:
    scene = Scene(job("a", 60.0, 50.0), nodes={"n": 1.0})
    for worker in range(3):
        scene.work(worker, "n")
        scene.tell(Lost(worker, "out of memory"))
    assert {fail.key for fail in scene.of(Fail)} == {"a0", "a1"}
    assert scene.scheduler.done


def test_a_node_that_was_taken_away_does_not_count_against_its_cells() -> None:
    scene = Scene(job("a", 60.0), nodes={"n": 1.0})
    for worker in range(5):
        scene.work(worker, "n", "a0")
        if worker % 2:
            scene.tell(Lost(worker, "its node is gone", innocent=True))
        else:
            assert Kill(worker, "its node is gone") in scene.nodes({})
            scene.nodes({"n": 1.0})
            scene.tell(Finished(worker))  # nobody listens
    assert scene.of(Fail) == []
    assert scene.started[-1].keys == ("a0",)


def test_news_of_a_worker_that_was_given_up_are_ignored() -> None:
    scene = Scene(job("a", 60.0), nodes={"n": 1.0})
    scene.work(0, "n", "a0")
    scene.nodes({})
    for late in (
        Ended(0, "a0"),
        Revoked(0, ("a0",)),
        Idle(0),
        Lost(0, "late"),
        Finished(0),
        Progressed(0),
        Heartbeat(0, ("n",)),
    ):
        assert scene.tell(late) == []
    assert not scene.scheduler.done
    scene.nodes({"n": 1.0})
    assert scene.started[-1].keys == ("a0",)


def test_a_draining_node_gives_back_what_it_has_not_begun_and_gets_nothing_new() -> None:
    scene = Scene(job("a", 60.0, 50.0, 40.0), job("b", 10.0), nodes={"n": 1.0}, ahead=0)
    scene.work(0, "n", "a0")
    assert scene.nodes({"n": 1.0}, draining=["n"]) == [Revoke(0, ("a2", "a1"))]
    assert scene.tell(Revoked(0, ("a2", "a1"))) == []
    scene.does(0, "a0")
    assert scene.tell(Idle(0)) == [Release(0)]
    assert scene.tell(Finished(0)) == []  # there is room, and nothing begins
    scene.nodes({"n": 1.0, "m": 1.0}, draining=["n"])
    assert [start.nodes for start in scene.started] == [("n",), ("m",)]


def test_a_worker_that_was_asked_already_is_asked_for_the_rest_when_its_node_is_draining() -> None:
    scene = Scene(job("a", *[60.0] * 20), nodes={"n": 1.0})
    scene.work(0, "n", "a0")
    [ask] = scene.nodes({"n": 1.0, "m": 1.0})
    assert isinstance(ask, Revoke)
    assert scene.nodes({"n": 1.0, "m": 1.0}, draining=["n"]) == []
    came = scene.tell(Revoked(0, ask.keys))
    rest = {f"a{i}" for i in range(1, 20)} - set(ask.keys)
    assert [set(each.keys) for each in came if isinstance(each, Revoke)] == [rest]


def test_a_worker_that_has_not_answered_yet_is_called_off_a_draining_node() -> None:
    scene = Scene(job("a", 60.0), nodes={"n": 1.0})
    came = scene.nodes({"n": 1.0, "m": 1.0}, draining=["n"])
    assert came == [Kill(0, "its node is about to go"), Start(1, "a", ("m",), ("a0",))]


def test_a_silent_worker_is_given_up_and_one_that_answers_is_not() -> None:
    scene = Scene(job("a", 600.0), job("b", 500.0), nodes={"n": 2.0})
    scene.work(0, "n", "a0")
    scene.work(1, "n", "b0")
    scene.tell(Heartbeat(1, ("n",)), after=LIMITS.silent_s)
    assert [each for each in scene.tell(Tick(), after=1.0) if isinstance(each, Kill)] == [
        Kill(0, f"it has been silent for {LIMITS.silent_s:.0f} s")
    ]


def test_a_worker_that_answers_and_does_nothing_is_given_up_and_one_that_goes_on_is_not() -> None:
    scene = Scene(job("a", 6000.0), job("b", 5000.0), nodes={"n": 2.0})
    scene.work(0, "n", "a0")
    scene.work(1, "n", "b0")
    for _ in range(int(LIMITS.stalled_s / 50) + 1):
        scene.tell(Heartbeat(0, ("n",)), after=50.0)
        scene.tell(Progressed(1))
        scene.tell(Tick())
    assert [each.worker for each in scene.of(Kill)] == [0]


def test_a_worker_that_asks_is_given_up_sooner_than_one_that_loads_or_learns() -> None:
    learns = Job(name="a", need={"GPU": 1.0}, start_s=10.0, pieces=group("g", 1, 10.0, 10.0))
    scene = Scene(learns, job("b", 10.0), job("c", 10.0), nodes={"n": 3.0})
    workers = {start.job: start.worker for start in scene.started}
    for worker in workers.values():
        scene.tell(Heartbeat(worker, ("n",)))
    scene.tell(Began(workers["a"], "g0", "train"))
    scene.tell(Began(workers["b"], "b0", "evaluate"))
    for _ in range(int(LIMITS.quiet_s / 50) + 1):
        for worker in workers.values():
            scene.tell(Heartbeat(worker, ("n",)), after=50.0 / 3)
        scene.tell(Tick())
    assert scene.of(Kill) == [Kill(workers["b"], f"nothing has happened for {LIMITS.quiet_s:.0f} s")]


def test_a_worker_that_was_let_go_and_does_not_end_is_given_up_soon() -> None:
    scene = Scene(job("a", 60.0), nodes={"n": 1.0})
    scene.work(0, "n")
    scene.does(0, "a0")
    scene.tell(Idle(0))
    for _ in range(3):
        scene.tell(Heartbeat(0, ("n",)), after=LIMITS.silent_s / 2)
    assert scene.tell(Tick()) == [Kill(0, f"it has not ended within {LIMITS.silent_s:.0f} s")]
    assert scene.scheduler.done


def test_cells_that_a_finished_worker_left_out_fail() -> None:
    scene = Scene(job("a", 60.0, 50.0), nodes={"n": 1.0})
    scene.work(0, "n")
    scene.does(0, "a0")
    assert scene.tell(Finished(0)) == [Fail("a", "a1", "the worker left this cell out")]
    assert scene.scheduler.done


def test_what_a_worker_says_of_a_cell_that_is_not_its_own_changes_nothing() -> None:
    scene = Scene(job("a", *[60.0] * 40), nodes={"n": 1.0, "m": 1.0}, attempts=1)
    mine, other = scene.started
    scene.work(mine.worker, "n", *other.keys[:2])
    scene.work(other.worker, "m", other.keys[0])
    scene.tell(Ended(mine.worker, other.keys[0]))
    scene.tell(Began(mine.worker, mine.keys[0], "evaluate"))
    scene.tell(Lost(mine.worker, "killed"))
    assert [fail.key for fail in scene.of(Fail)] == [mine.keys[0]]


# rooms that are not there


def test_a_job_that_no_node_can_hold_says_so_once_and_fails_after_a_while() -> None:
    scene = Scene(job("a", 60.0, gpus=4.0), job("b", 50.0), nodes={"n": 2.0})
    reason = "a worker needs 4 GPUs of one node, and the largest node has 2"
    assert scene.of(Waits) == [Waits("a", reason)]
    scene.work(next(start.worker for start in scene.started if start.job == "b"), "n")
    while scene.now < LIMITS.node_wait_s:
        assert scene.of(Fail) == []
        scene.tell(Tick(), after=30.0)
    scene.tell(Tick(), after=30.0)
    assert scene.of(Waits) == [Waits("a", reason)]
    assert scene.of(Fail) == [Fail("a", "a0", f"{reason}, after waiting for 60 min")]
    assert {each.job for each in scene.started if each.worker in {up.worker for up in scene.of(Kill)}} == {"a", "b"}


def test_a_job_that_no_node_can_hold_starts_when_one_comes_that_can() -> None:
    scene = Scene(job("a", 60.0, gpus=4.0), nodes={"n": 2.0})
    [floating] = scene.started
    assert floating.nodes == ()
    scene.nodes({"n": 2.0, "m": 4.0}, after=LIMITS.node_wait_s / 2)
    scene.tell(Heartbeat(floating.worker, ("m",)))
    scene.tell(Tick(), after=LIMITS.node_wait_s / 2 + 60)
    assert scene.of(Fail) == []


def test_no_more_workers_wait_for_room_than_let_an_autoscaler_see_what_is_wanted() -> None:
    scene = Scene(*(job(f"j{i}-", 900.0) for i in range(9)), nodes={"n": 1.0}, ahead=2)
    assert [start.nodes for start in scene.started] == [("n",), (), ()]
    assert scene.tell(Tick(), after=30.0) == []


def test_a_floating_worker_takes_the_seat_that_it_reports() -> None:
    scene = Scene(job("a", 900.0), job("b", 800.0), job("c", 700.0), nodes={"n": 1.0}, ahead=1)
    floating = scene.started[1]
    assert (floating.job, floating.nodes) == ("b", ())
    scene.work(0, "n")
    assert scene.nodes({"n": 1.0, "m": 2.0, "k": 1.0}) == [Start(2, "c", ("m",), ("c0",))]  # b is taken to be on k
    scene.tell(Heartbeat(floating.worker, ("m",)))
    scene.tell(Heartbeat(2, ("m",)))
    assert scene.of(Kill) == []
    assert scene.scheduler._placement.find(job("d", 1.0), 1) == ("k",)


def test_a_floating_worker_that_takes_the_room_of_another_sends_it_elsewhere() -> None:
    scene = Scene(job("a", 900.0), job("b", 800.0), job("c", 700.0), nodes={"n": 1.0}, ahead=1)
    scene.work(0, "n")
    [start] = scene.nodes({"n": 1.0, "m": 1.0, "k": 1.0})
    assert isinstance(start, Start)
    assert start.nodes == ("k",)
    came = scene.tell(Heartbeat(scene.started[1].worker, ("k",)))
    assert came == [Kill(start.worker, "its room is taken"), Start(3, "c", ("m",), ("c0",))]


def test_a_floating_worker_on_a_node_that_is_not_known_yet_has_its_seat_when_it_is() -> None:
    scene = Scene(job("a", 900.0), job("b", 800.0), nodes={"n": 1.0}, ahead=1)
    scene.work(0, "n")
    scene.tell(Heartbeat(1, ("m",)))
    scene.nodes({"n": 1.0})
    assert scene.of(Kill) == []
    scene.nodes({"n": 1.0, "m": 1.0})
    assert scene.scheduler._placement.find(job("c", 1.0), 1) == ()


def test_a_node_whose_processors_are_taken_has_no_room() -> None:
    jobs = [Job(name=name, need={"GPU": 1.0, "CPU": 3.0}, start_s=1.0, pieces=job(name, 50.0).pieces) for name in "ab"]
    scheduler = Scheduler(jobs, Limits(ahead=0))
    started = scheduler.handle(Nodes({"n": {"GPU": 8.0, "CPU": 4.0}}), 0.0)
    assert started == [Start(0, "a", ("n",), ("a0",))]


def test_halves_that_crowd_a_gpu_get_no_third_one_when_one_of_them_leaves() -> None:
    scene = Scene(job("a", 900.0, gpus=0.5), job("b", 800.0, gpus=0.5), job("c", 700.0, gpus=0.5), nodes={"n": 1.0}, ahead=1)
    for worker in range(3):  # the third came before the news that the first had left
        scene.work(worker, "n")
    assert scene.scheduler._placement.find(job("d", 1.0, gpus=0.5), 1) == ()
    scene.does(0, "a0")
    scene.tell(Idle(0))
    scene.tell(Finished(0))
    assert scene.scheduler._placement.find(job("d", 1.0, gpus=0.5), 1) == ()
    scene.does(1, "b0")
    scene.tell(Idle(1))
    scene.tell(Finished(1))
    assert scene.scheduler._placement.find(job("d", 1.0, gpus=0.5), 1) == ("n",)


def test_a_worker_is_expected_to_be_as_slow_as_others_of_its_job() -> None:
    scene = Scene(job("a", *[60.0] * 40), nodes={"n": 1.0, "m": 1.0})
    first, second = scene.started
    before = scene.scheduler._ledger.workers[second.worker].left_s(scene.now)
    scene.work(first.worker, "n")
    scene.does(first.worker, *first.keys[:15], seconds=180.0)
    assert scene.scheduler._ledger.workers[second.worker].left_s(scene.now) > 2 * before


def test_the_time_that_a_worker_waited_for_room_is_not_taken_for_a_slow_start() -> None:
    scene = Scene(job("a", 900.0), job("b", 800.0), nodes={"n": 1.0}, ahead=1)
    scene.tell(Heartbeat(0, ("n",)))
    scene.nodes({"n": 1.0, "m": 1.0}, after=5000.0)
    scene.tell(Heartbeat(1, ("m",)))
    scene.tell(Began(1, "b0", "evaluate"), after=START_S)
    assert scene.scheduler._ledger.jobs["b"].start_s == pytest.approx(START_S)


def test_a_whole_node_is_kept_for_a_worker_that_waits_for_one() -> None:
    scene = Scene(job("x", 300.0), job("large", 800.0, gpus=2.0), *(job(f"s{i}-", 500.0) for i in range(9)), nodes={"n": 1.0})
    scene.nodes({"n": 1.0})
    large = next(start for start in scene.started if start.job == "large")
    assert large.nodes == ()
    came = scene.nodes({"n": 1.0, "m": 2.0})
    assert [each for each in came if isinstance(each, Start) and each.nodes == ("m",)] == []


def test_an_idle_worker_takes_over_the_cells_of_one_that_waits_for_room() -> None:
    scene = Scene(job("a", *[60.0] * 40), nodes={"n": 1.0, "m": 1.0})
    mine, other = scene.started
    scene.work(mine.worker, "n")
    scene.work(other.worker, "m", other.keys[0])
    came = scene.nodes({"n": 1.0})
    floating = next(each for each in came if isinstance(each, Start))
    assert floating.nodes == ()
    assert set(floating.keys) == set(other.keys)
    scene.does(mine.worker, *mine.keys)
    up, give = scene.tell(Idle(mine.worker))
    assert isinstance(up, Kill)
    assert up.worker == floating.worker
    assert isinstance(give, Assign)
    assert set(give.keys) == set(other.keys)


def test_a_worker_for_which_its_node_has_no_room_is_sent_elsewhere_in_the_end() -> None:
    scene = Scene(job("a", 60.0), nodes={"n": 1.0})
    came = scene.tell(Tick(), after=LIMITS.stalled_s + 1)
    assert came[0] == Kill(0, f"its node has had no room for {LIMITS.stalled_s:.0f} s")
    assert isinstance(came[1], Start)
    assert came[1].keys == ("a0",)


# what is left


def test_the_time_left_goes_to_nothing_and_the_scheduler_is_done_with_the_last_worker() -> None:
    scene = Scene(job("a", 100.0, 100.0), job("b", 100.0), nodes={"n": 1.0}, ahead=0)
    left = [scene.scheduler.time_left()]
    for worker, keys in ((0, ("a0", "a1")), (1, ("b0",))):
        scene.now += START_S
        scene.work(worker, "n")
        for key in keys:
            scene.does(worker, key, seconds=100.0)
            left.append(scene.scheduler.time_left())
        scene.tell(Idle(worker))
        assert not scene.scheduler.done
        scene.tell(Finished(worker))
    assert left == sorted(left, reverse=True)
    assert left[0] == pytest.approx(500.0)
    assert scene.scheduler.time_left() == 0.0
    assert scene.scheduler.done


def test_a_grid_without_cells_is_done_at_once() -> None:
    scene = Scene(job("a"), nodes={"n": 1.0})
    assert scene.scheduler.done
    assert scene.actions == []


def test_an_empty_cluster_is_asked_for_as_many_workers_as_are_worth_their_start() -> None:
    """By them an autoscaler sees what is wanted; what comes first begins, and takes over from those still waited for."""
    pieces = tuple(Piece(key=f"cell {i}", group=None, answer_s=100.0) for i in range(40))
    jobs = [Job(name="long", need={"GPU": 1.0}, start_s=100.0, pieces=pieces)]
    scheduler = Scheduler(jobs)
    started = [action for action in scheduler.handle(Nodes({"head": {"GPU": 0.0}}), 0.0) if isinstance(action, Start)]
    assert len(started) == 10, "4,000 s of work, each worker worth four starts of 100 s"
    assert {action.nodes for action in started} == {()}
    assert sorted(key for action in started for key in action.keys) == sorted(piece.key for piece in pieces)


def test_cells_that_a_lost_worker_had_in_flight_are_suspects() -> None:
    pieces = tuple(Piece(key=key, group=None, answer_s=10.0) for key in ("a", "b", "c"))
    scheduler = Scheduler([Job(name="m", need={"GPU": 1.0}, start_s=1.0, pieces=pieces)])
    (start,) = scheduler.handle(Nodes({"n": {"GPU": 1.0}}), 0.0)
    assert isinstance(start, Start)
    scheduler.handle(Heartbeat(start.worker, ("n",)), 1.0)
    for key in ("a", "b"):
        scheduler.handle(Began(start.worker, key, "evaluate"), 2.0)
    assert scheduler.suspects("m") == frozenset()
    scheduler.handle(Lost(start.worker, "it died"), 3.0)
    assert scheduler.suspects("m") == {"a", "b"}


# workers that no node can hold


def test_a_worker_that_no_node_can_hold_is_cut_into_parts_on_as_few_nodes_as_there_can_be() -> None:
    scene = Scene(wide("w", 900.0, parts=4, gpus=8.0), nodes={"small": 8.0, "large": 16.0, "middle": 8.0, "tiny": 4.0})
    assert scene.started == [Start(0, "w", ("large", "large", "small", "middle"), ("w0",), 4)]


def test_a_worker_that_a_node_can_hold_is_not_cut_though_that_node_is_taken() -> None:
    scene = Scene(
        job("a", 5000.0, gpus=8.0), wide("w", 900.0, parts=2, gpus=4.0), nodes={"n": 8.0, "m": 4.0, "k": 4.0}, ahead=0
    )
    assert [(start.job, start.parts) for start in scene.started] == [("a", 1)]
    scene.work(0, "n")
    scene.does(0, "a0")
    scene.tell(Idle(0))
    scene.tell(Finished(0))
    assert scene.started[1:] == [Start(1, "w", ("n",), ("w0",))]


def test_no_other_worker_is_put_where_a_part_is() -> None:
    scene = Scene(wide("w", 900.0, parts=2, gpus=4.0), job("a", 800.0), nodes={"n": 4.0, "m": 4.0}, ahead=0)
    assert [start.job for start in scene.started] == ["w"]
    scene.tell(Heartbeat(0, ("n", "m")))
    scene.does(0, "w0")
    scene.tell(Idle(0))
    assert [start.job for start in scene.of(Start)] == ["w"]
    assert scene.tell(Finished(0))[0] == Start(1, "a", ("n",), ("a0",))


@pytest.mark.parametrize("gone", ["n", "m"])
def test_a_worker_whose_part_is_on_a_lost_node_is_given_up_whole_and_its_cells_go_elsewhere(gone: str) -> None:
    scene = Scene(wide("w", 900.0, 800.0, parts=2, gpus=4.0), nodes={"n": 4.0, "m": 4.0})
    scene.tell(Heartbeat(0, ("n", "m")))
    scene.tell(Began(0, "w0", "evaluate"))
    left = {"n", "m"} - {gone}
    came = scene.nodes(dict.fromkeys((*left, "k"), 4.0))
    assert came[0] == Kill(0, "its node is gone")
    assert came[1:] == [Start(1, "w", (*left, "k"), ("w0", "w1"), 2)]
    assert scene.scheduler.suspects("w") == frozenset(), "its cells are not to blame"


def test_a_worker_with_a_part_on_a_draining_node_gives_back_what_it_has_not_begun() -> None:
    scene = Scene(wide("w", 900.0, 800.0, parts=2, gpus=4.0), nodes={"n": 4.0, "m": 4.0})
    scene.tell(Heartbeat(0, ("n", "m")))
    scene.tell(Began(0, "w0", "evaluate"))
    assert scene.nodes({"n": 4.0, "m": 4.0}, draining=("m",)) == [Revoke(0, ("w1",))]


def test_a_job_whose_parts_the_nodes_cannot_hold_says_so_and_starts_when_they_can() -> None:
    scene = Scene(wide("w", 900.0, parts=3, gpus=4.0), nodes={"n": 4.0, "m": 7.0})
    (waits,) = scene.of(Waits)
    assert waits.reason == "a worker needs 4 GPUs of each of 3 nodes, and there is room for 2 of these parts"
    (floating,) = scene.started
    assert (floating.nodes, floating.parts) == ((), 3)
    scene.nodes({"n": 4.0, "m": 7.0, "k": 4.0})
    assert scene.tell(Tick(), after=LIMITS.node_wait_s + 1.0) == [], (
        "it waits for room no more: it has some, and is about to answer"
    )
    scene.tell(Heartbeat(0, ("n", "m", "k")))
    scene.does(0, "w0")
    assert scene.of(Fail) == []


def test_parts_that_no_node_can_hold_are_told_with_what_the_largest_has() -> None:
    scene = Scene(wide("w", 900.0, parts=2, gpus=8.0), nodes={"n": 4.0})
    assert [waits.reason for waits in scene.of(Waits)] == [
        "a worker needs 8 GPUs of each of 2 nodes, and the largest node has 4"
    ]


def test_nodes_are_kept_for_a_worker_that_waits_for_several() -> None:
    """Or small ones would take each node as it is free."""
    first, later = ([job(f"{name}{i}-", seconds) for i in range(4)] for name, seconds in (("f", 1000.0), ("l", 900.0)))
    scene = Scene(*first, *later, wide("w", 950.0, parts=2, gpus=2.0), nodes={"n": 2.0, "m": 2.0}, ahead=0)
    running = list(scene.started)
    assert [start.job for start in running] == [each.name for each in first]
    for start in running:
        scene.work(start.worker, *start.nodes, *start.keys)
    for start in running:
        assert "w" not in [each.job for each in scene.started]
        scene.does(start.worker, *start.keys, seconds=1000.0 if start is running[0] else 0.0)
        scene.tell(Idle(start.worker))
        scene.tell(Finished(start.worker))
    assert [(start.job, start.parts) for start in scene.started[4:]] == [("w", 2)]


def carried(name: str, *, after: str | None = None, cells: int = 2, train_s: float = 100.0, answer_s: float = 50.0) -> Job:
    """A job of a series, whose cells the next one starts from."""
    pieces = tuple(replace(piece, carried=True) for piece in group(name, cells, train_s, answer_s))
    return Job(name=name, need={"GPU": 1.0}, start_s=START_S, pieces=pieces, after=after)


def started(scene: Scene) -> list[str]:
    return [action.job for action in scene.actions if isinstance(action, Start)]


def test_a_job_of_a_series_starts_when_the_one_before_it_has_learnt_all_and_is_still_asked() -> None:
    scene = Scene(carried("a"), carried("b", after="a"), carried("c", after="b"), job("other", 50.0), nodes={"n": 4})
    assert started(scene) == ["a", "other"]
    scene.work(0, "n", "a0")
    scene.tell(Trained(0, "a0"), after=150.0)
    assert started(scene) == ["a", "other"]
    scene.tell(Trained(0, "a1"))
    assert started(scene) == ["a", "other", "b"]
    scene.work(2, "n", "b0")
    scene.tell(Trained(2, "b0"), after=150.0)
    scene.tell(Ended(2, "b1"))  # it has failed, and is waited for no more
    assert started(scene) == ["a", "other", "b", "c"]


def test_vectors_that_were_there_before_are_waited_for_no_more_than_until_the_next_tick() -> None:
    scene = Scene(carried("a", cells=1), carried("b", after="a"), nodes={"n": 2})
    assert scene.tell(Trained(0, "a0", before=True)) == []
    assert started(scene) == ["a"]
    scene.tell(Tick())
    assert started(scene) == ["a", "b"]


def test_a_series_goes_on_behind_a_job_that_fails_or_that_has_no_room() -> None:
    scene = Scene(carried("a", cells=1), carried("b", after="a"), nodes={"n": 2}, attempts=1)
    scene.work(0, "n", "a0")
    scene.tell(Lost(0, "it died"))
    assert started(scene) == ["a", "b"]
    wide_first = replace(carried("a", cells=1), need={"GPU": 8.0})
    scene = Scene(wide_first, carried("b", after="a"), nodes={"n": 2}, node_wait_s=10.0)
    scene.tell(Tick(), after=11.0)
    scene.tell(Tick(), after=1.0)
    assert started(scene)[-1] == "b"


def test_the_job_that_others_wait_for_starts_before_a_longer_one() -> None:
    series = [carried("a"), *(carried(f"b{i}", after=f"b{i - 1}" if i else "a") for i in range(5))]
    scene = Scene(job("long", 500.0), *series, nodes={"n": 1})
    assert started(scene)[0] == "a"
    assert scene.scheduler.time_left() >= 5 * 200.0 + 100.0  # to learn one after the other, and to ask the last
