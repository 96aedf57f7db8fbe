"""A cell is begun by a worker or revoked by the driver, never both."""

from __future__ import annotations

import pickle
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.engine.base import EngineConfig, Part
from spt_fast.executors.ray.actors import Follower, ModelWorker
from spt_fast.executors.work_queue import WorkQueue
from spt_fast.plan import Stage, expand, stages
from spt_fast.plan.cell import Cell
from spt_fast.worker.events import CellDone, CellFailed, CellStarted, CellTrained, Event, PhaseStarted, Progress
from spt_fast.worker.lease import Lease, More
from spt_fast.worker.stage import run_stage
from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "one"
    tiny_model(folder, hidden_size=32, positions=4096)
    return folder


@pytest.fixture
def stage(model: Path) -> Stage:
    grid = GridConfig(
        name="g",
        models=(ModelConfig(id=str(model)),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(), SoftPromptConfig(length=2, steps=2, batch_size=2)),
        limit=2,
        engine={"kind": "echo"},
    )
    (only,) = stages(expand(grid), set())
    return only


def keys(cells: Sequence[Cell]) -> list[str]:
    return [cell.key for cell in cells]


def test_a_cell_that_was_revoked_cannot_be_begun_and_one_that_was_begun_cannot_be_revoked(stage: Stage) -> None:
    first, second, *_ = keys(stage.cells)
    queue = WorkQueue(stage.cells, {})
    assert queue.claim([first]) == (first,)
    assert queue.revoke([first, second]) == (second,)
    assert queue.claim([first, second]) == (first,)
    assert second not in keys(queue.left()[0])


def test_a_cell_whose_vectors_are_learnt_can_go_elsewhere_until_it_is_asked(stage: Stage) -> None:
    first, *_ = keys(stage.cells)
    queue = WorkQueue(stage.cells, {})
    queue.claim([first])
    queue.trained(first, {2: "vectors"}, {})
    assert queue.revoke([first]) == (first,)
    again = WorkQueue(stage.cells, {})
    again.claim([first])
    again.trained(first, {2: "vectors"}, {})
    assert again.claim([first]) == (first,)
    assert again.revoke([first]) == ()


def test_a_new_process_gets_what_is_left_with_the_vectors_that_are_learnt(stage: Stage) -> None:
    first, second, *_ = keys(stage.cells)
    queue = WorkQueue(stage.cells, {})
    queue.claim([first, second])
    queue.ended(first)
    queue.trained(second, {2: "vectors"}, {"train_s": 1.5})
    cells, given = queue.left()
    assert keys(cells) == keys(stage.cells)[1:]
    assert given == {second: {2: "vectors"}}
    handed = queue.handed()
    assert (handed.given, handed.costs) == (given, {second: {"train_s": 1.5}})
    assert handed.left == {*keys(stage.cells)[1:]}
    assert not queue.ended(first), "it has ended already"


def test_a_worker_alone_has_no_more_to_wait_for(stage: Stage) -> None:
    queue = WorkQueue(stage.cells, {})
    assert not queue.waits
    assert queue.more() is None


def test_a_shared_worker_waits_until_it_is_assigned_more_or_released(stage: Stage) -> None:
    queue = WorkQueue((), {}, shared=True)
    found: list[More | None] = []
    waiting = threading.Thread(target=lambda: found.extend([queue.more(), queue.more()]))
    waiting.start()
    assert queue.waits
    queue.assign(stage.cells[:1], {stage.cells[0].key: {2: "vectors"}})  # type: ignore[dict-item]
    queue.release()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert found == [More(cells=stage.cells[:1], given={stage.cells[0].key: {2: "vectors"}}), None]  # type: ignore[dict-item]


def test_of_two_threads_that_want_the_same_cells_each_cell_goes_to_one(stage: Stage) -> None:
    for seed in range(50):
        queue = WorkQueue(stage.cells, {})
        order = keys(stage.cells)
        random.Random(seed).shuffle(order)
        begun: list[str] = []
        worker = threading.Thread(
            target=lambda queue=queue, begun=begun: begun.extend(k for k in keys(stage.cells) if queue.claim([k]))
        )
        worker.start()
        back = [key for key in order if queue.revoke([key])]
        worker.join()
        assert sorted([*begun, *back]) == sorted(keys(stage.cells))


class Shared(Lease):
    """Withholds some cells, and has others to give once."""

    def __init__(self, withheld: Sequence[str] = (), more: Sequence[More] = ()) -> None:
        self.withheld, self._more = set(withheld), list(more)

    def claim(self, keys: Sequence[str]) -> Sequence[str]:
        return [key for key in keys if key not in self.withheld]

    def more(self) -> More | None:
        return self._more.pop(0) if self._more else None


def of(kind: type[Event], events: Sequence[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, kind)]  # type: ignore[union-attr]


def test_a_worker_leaves_alone_what_was_given_to_others(stage: Stage) -> None:
    mine, other = keys(stage.cells)[:2], keys(stage.cells)[2:]
    events: list[Event] = []
    run_stage(stage, {}, events.append, Shared(withheld=other))
    assert sorted(of(CellDone, events)) == sorted(mine)
    assert not set(other) & {*of(CellStarted, events), *of(CellTrained, events), *of(CellFailed, events)}


def test_a_worker_goes_on_with_more_cells_in_the_same_engine_where_nothing_is_to_be_learnt(stage: Stage) -> None:
    whole: list[Event] = []
    run_stage(stage, {}, whole.append)
    learnt = {event.key: event.prompts for event in whole if isinstance(event, CellTrained)}
    first, rest = stage.cells[:1], stage.cells[1:]
    events: list[Event] = []
    part = Stage(model=stage.model, cells=first)
    run_stage(part, {}, events.append, Shared(more=[More(cells=rest, given=learnt)]))
    assert [event.phase for event in events if isinstance(event, PhaseStarted)] == ["load", "engine", "evaluate"]
    results = {event.key: event.result.metrics for event in events if isinstance(event, CellDone)}
    assert results == {event.key: event.result.metrics for event in whole if isinstance(event, CellDone)}


def test_a_worker_that_is_given_cells_to_learn_begins_anew(stage: Stage) -> None:
    first, rest = stage.cells[:1], stage.cells[1:]
    events: list[Event] = []
    run_stage(Stage(model=stage.model, cells=first), {}, events.append, Shared(more=[More(cells=rest, given={})]))
    phases = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert phases == ["load", "engine", "evaluate", "load", "train", "engine", "evaluate"]
    assert sorted(of(CellDone, events)) == sorted(keys(stage.cells))


def progress(done: int) -> Progress:
    return Progress(phase="evaluate", done=done, total=100)


def test_an_actor_that_has_not_begun_yet_gives_up_nothing_and_keeps_what_it_is_assigned(stage: Stage) -> None:
    actor = ModelWorker("m")
    assert actor.revoke(keys(stage.cells)) == ()
    actor.assign(pickle.dumps((stage.cells[:1], {})))
    assert actor.revoke(keys(stage.cells)) == (stage.cells[0].key,)


def test_an_actor_that_has_only_progress_to_tell_waits_and_tells_of_the_last() -> None:
    actor = ModelWorker("m")
    for done in (1, 2, 3):
        actor._events.put(progress(done))
    begin = time.monotonic()
    told = pickle.loads(actor.take(0.2))
    assert time.monotonic() - begin >= 0.2
    assert told.events == (progress(3),)


def test_an_actor_tells_of_all_else_at_once_and_in_the_order_in_which_it_happened() -> None:
    actor = ModelWorker("m")
    begun = [CellStarted(key=key, phase="evaluate") for key in "ab"]
    for event in (progress(1), progress(2), begun[0], progress(3), begun[1], None):
        actor._events.put(event)
    told = pickle.loads(actor.take(3600.0))
    assert told.events == (progress(2), begun[0], progress(3), begun[1])
    assert told.ended


PART = Part(config=EngineConfig(model="/nowhere", nodes=("127.0.0.1", "127.0.0.1")), rank=1, port=1, obstacles={})


def part_process() -> psutil.Process:
    while True:  # for an instant a process that was just started has no command line
        for each in psutil.Process().children():
            if "spt_fast.executors.process" in each.cmdline():
                return each


def test_a_part_of_an_engine_that_ends_by_itself_is_told_and_one_that_is_ended_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spt_fast.executors.ray.actors.GRACE_S", 0.2)
    before = psutil.Process().children()
    actor = Follower("m")
    actor.begin(pickle.dumps(PART))
    first = part_process()
    actor.begin(pickle.dumps(PART))
    assert not first.is_running(), "the engine was started anew, and so is its part"
    second = part_process()
    assert actor.end() == b""
    assert not second.is_running()
    assert actor.end() == b"", "ending what has ended is no error"
    actor.begin(pickle.dumps(PART))
    part_process().kill()
    assert actor.lost() == b""
    assert psutil.Process().children() == before
