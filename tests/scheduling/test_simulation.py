"""Made-up nights: whatever goes wrong, every cell ends or fails, and the end comes close to what no schedule can beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spt_fast.scheduling.limits import Limits
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
    Release,
    Resources,
    Revoked,
    Start,
    Trained,
)
from spt_fast.scheduling.scheduler import Scheduler
from spt_fast.scheduling.simulation import Outcome, Troubles, lower_bound, realised, simulate

NEEDS: tuple[Resources, ...] = ({"GPU": 1.0}, {"GPU": 2.0}, {"GPU": 4.0, "CPU": 2.0}, {"GPU": 0.5}, {"GPU": 0.3, "CPU": 1.0})
BAD_NIGHT = Troubles(
    node_losses=0.3,
    spot=0.3,
    spot_losses=0.5,
    back_s=600.0,
    worker_losses=0.5,
    hangs=0.2,
    cut_offs=0.2,
    stragglers=0.2,
    noise=0.3,
    bias=0.3,
)


class Recorded(Scheduler):
    """A scheduler that keeps what it was told and what it said, and books of its own of who is where.

    They know only what went in and out; at every step they hold that nothing starts where there is no room for it, that no
    cell is in two hands, that nobody is spoken to who is not there, and that no job of a series starts before the one before it
    has learnt what it hands on.
    """

    def __init__(self, jobs: Sequence[Job], **settings: Any) -> None:
        super().__init__(jobs, Limits(**settings))
        self.by_name = {job.name: job for job in jobs}
        self.told: list[tuple[float, Observation]] = []
        self.said: list[list[Action]] = []
        self.capacity: Mapping[str, Resources] = {}
        self.draining: set[str] = set()
        self.workers: dict[int, tuple[str, tuple[str, ...]]] = {}
        """Worker -> its job, the node of each of its parts."""
        self.cells: dict[str, int] = {}
        """Cell -> who has it."""
        self.idle: set[int] = set()
        self.over: set[str] = set()
        """Cells that have ended or failed."""
        self.trained: set[str] = set()

    def handle(self, observation: Observation, now: float) -> list[Action]:
        actions = super().handle(observation, now)
        self.told.append((now, observation))
        self.said.append(actions)
        self._take_in(observation)
        for action in actions:
            self._carry_out(action)
        return actions

    def _take_in(self, observation: Observation) -> None:
        if isinstance(observation, Nodes):
            self.capacity, self.draining = observation.capacity, set(observation.draining)
            return
        if getattr(observation, "worker", None) not in self.workers:
            return
        match observation:
            case Heartbeat(worker=id, nodes=nodes):
                self.workers[id] = (self.workers[id][0], nodes)
            case Ended(worker=id, key=key):
                assert self.cells.pop(key) == id
                assert key not in self.over
                self.over.add(key)
            case Began(worker=id, key=key):
                assert self.cells[key] == id
            case Trained(key=key):
                self.trained.add(key)
            case Revoked(worker=id, keys=keys):
                assert all(self.cells.pop(key) == id for key in keys)
            case Idle(worker=id):
                self.idle.add(id)
            case Finished(worker=id) | Lost(worker=id):
                self._without(id)
            case _:
                pass

    def _carry_out(self, action: Action) -> None:
        match action:
            case Start(worker=id, job=job, nodes=nodes, keys=keys, parts=parts):
                assert id not in self.workers
                assert self.capacity.keys() - self.draining >= set(nodes)
                assert parts in (1, self.by_name[job].parts)
                assert len(nodes) in (0, parts)
                before = self.by_name.get(self.by_name[job].after or "")
                assert before is None or {p.key for p in before.pieces if p.carried} <= self.trained | self.over
                self.workers[id] = (job, nodes)
                self._hand(id, keys)
                for each in nodes:
                    self._check_room(each)
            case Assign(worker=id, keys=keys):
                assert self.draining.isdisjoint(self.workers[id][1])
                self.idle.remove(id)
                self._hand(id, keys)
            case Release(worker=id):
                self.idle.remove(id)
                assert id not in self.cells.values()
            case Kill(worker=id):
                self._without(id)
            case Fail(key=key):
                assert key not in self.over
                self.over.add(key)
            case _:
                pass

    def _hand(self, id: int, keys: Sequence[str]) -> None:
        assert keys
        for key in keys:
            assert key not in self.cells
            assert key not in self.over
            self.cells[key] = id

    def _without(self, id: int) -> None:
        del self.workers[id]
        self.idle.discard(id)
        self.cells = {key: worker for key, worker in self.cells.items() if worker != id}

    def _check_room(self, name: str) -> None:
        taken = [(self.by_name[job], nodes) for job, nodes in self.workers.values()]
        needs = [job.need if len(nodes) == 1 else job.part for job, nodes in taken for node in nodes if node == name]
        for kind in {kind for need in needs for kind in need}:
            assert sum(need.get(kind, 0.0) for need in needs) <= self.capacity[name].get(kind, 0.0) + 1e-6


@st.composite
def grids(draw: st.DrawFn) -> tuple[Job, ...]:
    jobs = []
    for i in range(draw(st.integers(1, 4))):
        pieces = []
        seconds = st.floats(0.0, 400.0)
        for group in range(draw(st.integers(0, 4))):
            train_s = draw(seconds)
            pieces += [
                Piece(key=f"{i}-{group}-{n}", group=str(group), train_s=train_s, answer_s=draw(seconds))
                for n in range(draw(st.integers(1, 3)))
            ]
        after, carried = f"j{i - 1}" if i and draw(st.booleans()) else None, draw(st.booleans())
        pieces = [replace(piece, carried=carried) for piece in pieces]
        pieces += [Piece(key=f"{i}-{n}", group=None, answer_s=draw(seconds)) for n in range(draw(st.integers(0, 5)))]
        start_s = draw(st.floats(0.0, 120.0))
        need, parts = draw(st.sampled_from(NEEDS)), draw(st.sampled_from([1, 1, 2, 3]))
        if need["GPU"] < 1 or parts == 1:
            jobs.append(Job(name=f"j{i}", need=need, start_s=start_s, pieces=tuple(pieces), after=after))
            continue
        whole = {kind: parts * amount for kind, amount in need.items()}
        jobs.append(Job(name=f"j{i}", need=whole, start_s=start_s, pieces=tuple(pieces), parts=parts, part=need, after=after))
    return tuple(jobs)


def clusters() -> st.SearchStrategy[dict[str, Resources]]:
    sizes = st.lists(st.sampled_from([1.0, 2.0, 4.0, 8.0]), min_size=1, max_size=4)
    return sizes.map(lambda gpus: {f"n{i}": {"GPU": each, "CPU": 4.0} for i, each in enumerate(gpus)})


def troubles() -> st.SearchStrategy[Troubles]:
    often, share = st.sampled_from([0.0, 0.5, 3.0]), st.sampled_from([0.0, 0.3, 1.0])
    kinds: dict[str, st.SearchStrategy[float]] = {"back_s": st.sampled_from([30.0, 600.0]), "slow": st.just(3.0)}
    for field in fields(Troubles):
        kinds.setdefault(field.name, share if field.name in ("spot", "stragglers", "noise", "bias") else often)
    return st.builds(Troubles, **kinds)


def night(jobs: Sequence[Job], nodes: Mapping[str, Resources], of: Troubles, seed: int) -> tuple[Outcome, Recorded]:
    scheduler = Recorded(jobs)
    return simulate(jobs, nodes, troubles=of, seed=seed, longest_s=30 * 86400.0, scheduler=scheduler), scheduler


@settings(max_examples=60, deadline=None)
@given(grids(), clusters(), troubles(), st.integers(0, 5))
def test_whatever_goes_wrong_every_cell_ends_once_or_fails(
    jobs: tuple[Job, ...], nodes: dict[str, Resources], of: Troubles, seed: int
) -> None:
    outcome, scheduler = night(jobs, nodes, of, seed)  # it ends, and the books of `Recorded` hold at every step
    cells = {piece.key for job in jobs for piece in job.pieces}
    assert set(outcome.ended) | set(outcome.failed) == cells
    assert not set(outcome.ended) & set(outcome.failed)
    assert set(outcome.ended.values()) <= {1}
    assert not scheduler.workers
    for key, times in outcome.done.items():
        assert times <= outcome.ended.get(key, 0) + outcome.in_vain.get(key, 0)
    assert scheduler.time_left() == 0.0


@settings(max_examples=15, deadline=None)
@given(grids(), clusters(), troubles(), st.integers(0, 5))
def test_the_same_seed_is_the_same_night_and_a_replay_gives_the_same_actions(
    jobs: tuple[Job, ...], nodes: dict[str, Resources], of: Troubles, seed: int
) -> None:
    first, recorded = night(jobs, nodes, of, seed)
    second, _ = night(jobs, nodes, of, seed)
    assert first == second
    again = Scheduler(jobs)
    assert [again.handle(observation, now) for now, observation in recorded.told] == recorded.said


@settings(max_examples=60, deadline=None)
@given(grids(), clusters(), st.booleans(), st.integers(0, 5))
def test_no_night_is_shorter_than_the_bound(jobs: tuple[Job, ...], nodes: dict[str, Resources], noisy: bool, seed: int) -> None:
    of = Troubles(noise=0.5, bias=0.5) if noisy else Troubles()
    outcome, scheduler = night(jobs, nodes, of, seed)
    gpus = sum(room["GPU"] for room in nodes.values())
    could = [job for job in realised(jobs, of, seed) if job.name not in outcome.waits]
    assert outcome.seconds >= lower_bound(could, gpus) - 1e-6
    assert {key.split("-")[0] for key in outcome.failed} == {name[1:] for name in outcome.waits}
    assert outcome.lost_workers == outcome.lost_nodes == 0
    given_up = {action.reason for actions in scheduler.said for action in actions if isinstance(action, Kill)}
    assert not [reason for reason in given_up if "silent" in reason or "nothing" in reason or "not ended" in reason]


def test_without_noise_the_work_is_what_was_expected_and_with_it_the_night_of_a_seed_is_one() -> None:
    jobs = large(3, 4)
    assert realised(jobs, Troubles(node_losses=1.0, stragglers=1.0), 0) == jobs
    noisy = Troubles(noise=0.3, bias=0.3)
    assert realised(jobs, noisy, 0) == realised(jobs, noisy, 0)
    assert realised(jobs, noisy, 0) != realised(jobs, noisy, 1)
    for job in realised(jobs, noisy, 0):
        assert len({(piece.group, piece.train_s) for piece in job.pieces}) == len({piece.group for piece in job.pieces})


def test_the_bound_is_the_work_shared_evenly_or_the_longest_chain() -> None:
    group = tuple(Piece(key=f"g{i}", group="g", train_s=50.0, answer_s=20.0) for i in range(2))
    job = Job(name="a", need={"GPU": 2.0}, start_s=10.0, pieces=(*group, Piece(key="z", group=None, answer_s=30.0)))
    assert lower_bound([job], 2) == 10 + 50 + 2 * 20 + 30
    assert lower_bound([job], 200) == 10 + 50 + 20


def test_one_worker_takes_exactly_its_start_its_work_and_its_end() -> None:
    pieces = tuple(Piece(key=str(i), group="g", train_s=100.0, answer_s=50.0) for i in range(3))
    outcome = simulate([Job(name="a", need={"GPU": 1.0}, start_s=30.0, pieces=pieces)], {"n": {"GPU": 1.0}})
    assert outcome.seconds == pytest.approx(30 + 100 + 3 * 50 + 5, abs=1.0)
    assert outcome.useful_gpu_s == pytest.approx(250.0)
    assert outcome.starts == 1


@pytest.mark.parametrize(
    ("kind", "shows"),
    [
        ("worker_losses", lambda outcome: outcome.lost_workers),
        ("hangs", lambda outcome: outcome.lost_workers),
        ("cut_offs", lambda outcome: outcome.lost_workers),
        ("node_losses", lambda outcome: outcome.lost_nodes),
        ("spot_losses", lambda outcome: outcome.lost_nodes),
        ("stragglers", lambda outcome: outcome.seconds > 1.2 * simulate(large(6, 8), cluster(2)).seconds),
    ],
)
def test_each_trouble_happens_and_is_overcome(kind: str, shows: Callable[[Outcome], Any]) -> None:
    settings: dict[str, float] = {kind: 0.5 if kind == "stragglers" else 1.0, "spot": float(kind == "spot_losses")}
    outcome, _ = night(large(6, 8), cluster(2), Troubles(**settings), 1)
    assert shows(outcome)
    assert len(outcome.ended) == sum(len(job.pieces) for job in large(6, 8))
    assert not outcome.failed
    again = {key for key, times in outcome.done.items() if times > 1}
    assert again <= set(outcome.in_vain)
    assert bool(again) <= (kind in ("cut_offs", "worker_losses", "node_losses"))


def test_a_run_that_does_not_end_says_so() -> None:
    with pytest.raises(TimeoutError, match="has not ended after 100 s"):
        simulate(large(1, 4), cluster(1), longest_s=100.0)


def large(models: int, tasks: int) -> tuple[Job, ...]:
    """Models of 1 to 8 GPUs with three seeds of each task, as in a grid of soft prompts."""
    jobs = []
    for m in range(models):
        gpus = (1.0, 1.0, 1.0, 2.0, 1.0, 4.0, 1.0, 2.0, 1.0, 8.0)[m % 10]
        pieces = []
        for t in range(tasks):
            size = (0.3, 0.5, 0.8, 1.0, 1.5, 3.0)[(m + t) % 6]
            pieces += [
                Piece(key=f"{m}-{t}-{seed}", group=f"{t}-{seed}", train_s=30.0, answer_s=60.0 * size) for seed in range(3)
            ]
            pieces.append(Piece(key=f"{m}-{t}", group=None, answer_s=20.0 * size))
        jobs.append(Job(name=f"m{m}", need={"GPU": gpus, "CPU": 1.0}, start_s=120.0, pieces=tuple(pieces)))
    return tuple(jobs)


def cluster(nodes: int) -> dict[str, Resources]:
    return {f"n{i}": {"GPU": 8.0, "CPU": 96.0} for i in range(nodes)}


@pytest.mark.parametrize("of", [Troubles(), Troubles(noise=0.3, bias=0.3)], ids=["calm", "noisy"])
def test_a_grid_of_10000_cells_ends_within_a_tenth_of_the_bound(of: Troubles) -> None:
    jobs = large(50, 50)
    outcome = simulate(jobs, cluster(12), troubles=of, seed=1)
    assert len(outcome.ended) == 10_000
    assert outcome.waited == 0
    assert outcome.seconds <= 1.1 * lower_bound(realised(jobs, of, 1), 96)


def test_a_very_bad_night_sets_hardly_a_cell_aside_and_ends_within_six_tenths_of_the_bound() -> None:
    jobs = large(50, 50)
    outcome = simulate(jobs, cluster(12), troubles=BAD_NIGHT, seed=1)
    assert len(outcome.ended) + len(outcome.failed) == 10_000
    assert len(outcome.failed) <= 10  # those that were in flight in three lost workers, by chance
    assert outcome.lost_nodes > 10
    assert outcome.lost_workers > 10
    assert outcome.seconds <= 1.6 * lower_bound(
        realised(jobs, BAD_NIGHT, 1), 96
    )  # a worker that hangs while its engine starts is given 70 minutes
