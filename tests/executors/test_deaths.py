"""What an engine or a worker process dies of costs itself, and nothing that was in flight beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from spt_fast import engine as engines
from spt_fast import tasks
from spt_fast.config import FewShot, GridConfig, JudgeConfig, ModelConfig, TaskConfig, ZeroShot
from spt_fast.engine.base import EngineConfig
from spt_fast.engine.echo import EchoEngine
from spt_fast.errors import EngineError
from spt_fast.executors import supervisor
from spt_fast.executors.messages import Claim, DeviceFree, WantsMore
from spt_fast.executors.supervisor import run_here
from spt_fast.models.tokenizer import Tokenizer
from spt_fast.plan import MOST_DEATHS, Stage, expand, stages
from spt_fast.types import Answer, CellResult, Request
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, Event, PhaseStarted, StageDone
from spt_fast.worker.judge import run_judging
from spt_fast.worker.lease import Given
from spt_fast.worker.stage import Do, run_stage
from tests.helpers.tiny import tiny_model

OPEN = ("zoo-json", "zoo-short", "zoo-number")
TASKS = ("zoo-mcq", *OPEN)


class Killed(BaseException):
    """Ends a worker process as a signal does: no handler of ours stops it."""


class Fragile(EchoEngine):
    """Takes all requests before it answers the first, as an engine does that runs many at once, and dies of some of them."""

    def __init__(self, config: EngineConfig, dies_of: Collection[str], death: Callable[[str], BaseException]) -> None:
        """`dies_of`: tasks whose requests it does not survive."""
        super().__init__(config)
        self._words = [tasks.get(name).template.instruction for name in dies_of]
        self._death = death
        self._reads = Tokenizer.load(config.model)

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
        taken = list(requests)
        if any(word in self._reads.decode(request.token_ids) for request in taken for word in self._words):
            self._alive = False
            raise self._death("the engine died: of one request")
        yield from super().stream(taken)


def fragile(
    monkeypatch: pytest.MonkeyPatch, dies_of: Collection[str], death: Callable[[str], BaseException] = EngineError
) -> None:
    """Have workers and judges open engines that die of some tasks."""
    monkeypatch.setattr(engines, "open_engine", lambda config: Fragile(config, dies_of, death))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "judge")):
        tiny_model(folder / name, hidden_size=32, positions=4096, seed=seed)
    return folder


@pytest.fixture
def grid(models: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(models / "one")),),
        tasks=tuple(TaskConfig(task=name) for name in TASKS),
        protocols=(ZeroShot(),),
        limit=2,
        engine={"kind": "echo"},
    )


@pytest.fixture
def stage(grid: GridConfig) -> Stage:
    (only,) = stages(expand(grid), set())
    return only


def tasks_of(stage: Stage, kind: type[Event], events: Sequence[Event]) -> Counter[str]:
    """How often events of a kind have come, by the task of their cell."""
    found = [event for event in events if isinstance(event, kind)]
    return Counter(stage.by_key[event.key].task.name for event in found)  # type: ignore[union-attr]


def starts(events: Sequence[Event]) -> int:
    return sum(isinstance(event, PhaseStarted) and event.phase == "engine" for event in events)


def once(names: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(names, 1))


# An engine


@pytest.mark.parametrize("culprit", TASKS)
def test_an_engine_that_dies_with_several_cells_in_flight_costs_only_the_one_it_died_of(
    culprit: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragile(monkeypatch, [culprit])
    events: list[Event] = []
    run_stage(stage, {}, events.append)
    assert tasks_of(stage, CellFailed, events) == once([culprit])
    assert tasks_of(stage, CellDone, events) == once({*TASKS} - {culprit})
    assert starts(events) <= MOST_DEATHS


@pytest.mark.parametrize("culprits", [*pairwise(TASKS)], ids="+".join)
def test_two_neighbours_that_engines_die_of_cost_the_others_nothing(
    culprits: tuple[str, ...], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragile(monkeypatch, culprits)
    events: list[Event] = []
    run_stage(stage, {}, events.append)
    assert tasks_of(stage, CellFailed, events) == once(culprits)
    assert tasks_of(stage, CellDone, events) == once({*TASKS} - {*culprits})


def test_an_engine_that_always_dies_fails_all_that_is_left_after_a_few_starts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragile(monkeypatch, TASKS)
    events: list[Event] = []
    run_stage(stage, {}, events.append)
    assert tasks_of(stage, CellFailed, events) == once(TASKS)
    assert starts(events) == MOST_DEATHS < len(TASKS)


def test_cells_that_are_to_be_alone_are_asked_one_by_one(stage: Stage) -> None:
    events: list[Event] = []
    run_stage(replace(stage, alone=frozenset(stage.by_key)), {}, events.append)
    flight = [type(event) for event in events if isinstance(event, CellStarted | CellDone)]
    assert flight == [CellStarted, CellDone] * len(TASKS)
    assert starts(events) == 1


# A judge


@pytest.fixture
def judged(grid: GridConfig, models: Path) -> tuple[Stage, dict[str, CellResult]]:
    """A stage that waits for its judge, and what its cells came to by rules."""
    judge = JudgeConfig(model=str(models / "judge"), engine={"kind": "echo"})
    cells = expand(replace(grid, judge=judge, tasks=tuple(TaskConfig(task=name) for name in OPEN)))
    (asked,) = stages(cells, set())
    events: list[Event] = []
    run_stage(asked, {}, events.append)
    results = {event.key: event.result for event in events if isinstance(event, CellDone)}
    assert cells[0].judge is not None
    stage = Stage(model=cells[0].judge.model, cells=tuple(cells))
    return stage, {cell.key: results[cell.unjudged.key] for cell in cells}


@pytest.mark.parametrize("culprit", OPEN)
def test_a_judge_that_dies_with_several_cells_in_flight_costs_only_the_one_it_died_of(
    culprit: str, judged: tuple[Stage, dict[str, CellResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, asked = judged
    fragile(monkeypatch, [culprit])
    events: list[Event] = []
    run_judging(stage, asked, events.append)
    assert tasks_of(stage, CellFailed, events) == once([culprit])
    assert tasks_of(stage, CellDone, events) == once({*OPEN} - {culprit})


def test_a_judge_that_always_dies_fails_all_that_is_left_after_a_few_starts(
    judged: tuple[Stage, dict[str, CellResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, asked = judged
    fragile(monkeypatch, OPEN)
    events: list[Event] = []
    run_judging(stage, asked, events.append)
    assert tasks_of(stage, CellFailed, events) == once(OPEN)
    assert starts(events) == MOST_DEATHS
    assert all("the engine died" in event.reason for event in events if isinstance(event, CellFailed))


# A worker process


class Here:
    """A worker that is no process of its own, without the seconds which that takes; `Killed` ends it as a signal would."""

    born = 0

    alive = True

    def __init__(self, log: Path, log_name: str, *, offline: bool, environment: Mapping[str, str] | None = None) -> None:
        type(self).born += 1

    def kill(self) -> None:
        """It has nothing to end."""

    def send(self, job: tuple[Stage, Given, Do] | DeviceFree) -> None:
        if not isinstance(job, DeviceFree):
            self._stage, self._given, _ = job

    def messages(self) -> Iterator[Event | Claim | WantsMore]:
        events: list[Event] = []
        try:
            run_stage(self._stage, self._given, events.append)  # type: ignore[arg-type]  # no judge's
            events.append(StageDone())
        except Killed:
            pass
        yield from events

    def end(self, finished: bool) -> str:
        return "the worker was ended"


def here(stage: Stage, dies_of: Collection[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Event], int]:
    """Run a stage in workers that die of some tasks: what they tell, and how many it took."""
    fragile(monkeypatch, dies_of, Killed)
    monkeypatch.setattr(supervisor, "WorkerProcess", Here)
    monkeypatch.setenv(supervisor.APART, "0")
    monkeypatch.setattr(Here, "born", 0)
    return list(run_here(stage, {}, tmp_path / "log")), Here.born


@pytest.mark.parametrize("culprits", [(), TASKS[:1], TASKS[-1:], *pairwise(TASKS)], ids="+".join)
def test_a_worker_that_dies_costs_the_cells_it_died_of_and_no_others(
    culprits: tuple[str, ...], stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, _ = here(stage, culprits, tmp_path, monkeypatch)
    assert tasks_of(stage, CellFailed, events) == once(culprits)
    assert tasks_of(stage, CellDone, events) == once({*TASKS} - {*culprits})


def test_a_worker_that_always_dies_fails_all_that_is_left_after_a_few_deaths(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, born = here(stage, TASKS, tmp_path, monkeypatch)
    assert tasks_of(stage, CellFailed, events) == once(TASKS)
    assert born == MOST_DEATHS < len(TASKS)


def test_deaths_count_only_while_nothing_is_done_between_them(
    grid: GridConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More workers die than `MOST_DEATHS`, each of a cell of its own."""
    (stage,) = stages(expand(replace(grid, protocols=(FewShot(shots=1),), seeds=(0, 1, 2))), set())
    events, born = here(stage, ["zoo-mcq"], tmp_path, monkeypatch)
    assert born > MOST_DEATHS
    assert tasks_of(stage, CellFailed, events) == {"zoo-mcq": 3}
    assert tasks_of(stage, CellDone, events) == dict.fromkeys(OPEN, 3)
