"""An engine is started for as many positions as the cells need, and for more once a cell needs more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spt_fast.config import FewShot, GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.engine.base import Engine, EngineConfig, room_for
from spt_fast.engine.echo import EchoEngine
from spt_fast.types import Answer, Generate, Request
from spt_fast.worker import positions
from tests.helpers.running import Listener, run_grid
from tests.helpers.tiny import tiny_model

P = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), hidden_size=32, positions=32_768)


def grid(model: Path, folder: Path, **engine: Any) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(model)),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(), FewShot(shots=5), SoftPromptConfig(length=P, steps=1, batch_size=2, lr=0.05)),
        limit=4,
        engine={"kind": "echo", **engine},
        output=folder,
    )


class Seen:
    """The engines that were started, and the longest request that each was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[EngineConfig] = []
        self.longest: list[int] = []
        start, stream = EchoEngine.__init__, EchoEngine.stream

        def started(engine: EchoEngine, config: EngineConfig) -> None:
            start(engine, config)
            self.started.append(config)
            self.longest.append(0)

        def streamed(engine: EchoEngine, requests: Iterable[Request]) -> Iterator[tuple[int, Answer]]:
            return stream(engine, map(self._noted, requests))

        monkeypatch.setattr(EchoEngine, "__init__", started)
        monkeypatch.setattr(EchoEngine, "stream", streamed)

    def _noted(self, request: Request) -> Request:
        behind = request.sampling.max_tokens if isinstance(request, Generate) else len(request.continuation) + 1
        soft = P if request.soft_prompt else 0
        self.longest[-1] = max(self.longest[-1], soft + len(request.token_ids) + behind)
        return request


def test_one_engine_is_started_for_what_the_longest_request_of_all_cells_needs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    result = run_grid(grid(model, tmp_path / "run"))
    assert result.failures == {}
    (config,), (longest,) = seen.started, seen.longest
    assert config.positions == longest
    assert longest > P


def test_a_cell_that_needs_more_than_was_expected_is_asked_of_an_engine_with_more(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_grid(grid(model, tmp_path / "expected"))
    monkeypatch.setattr(positions, "most_positions", few(positions.most_positions))
    monkeypatch.setattr("spt_fast.engine.echo.room_for", lambda wanted, most: min(wanted or most, most))
    seen, listener = Seen(monkeypatch), Listener()
    result = run_grid(grid(model, tmp_path / "run"), watch=listener.watch)
    assert result.failures == {}
    told = {cell.title: result.results[cell.key].metrics for cell in result.cells}
    assert told == {cell.title: expected.results[cell.key].metrics for cell in expected.cells}
    asked_for = [config.positions or 0 for config in seen.started]
    assert len(asked_for) > 1
    assert asked_for == sorted(set(asked_for))
    assert all(longest <= wanted for longest, wanted in zip(seen.longest, asked_for, strict=True))


def few(real: Any) -> Any:
    """What the longest rows need, half of it at the first look."""
    seen: set[int] = set()

    def most_positions(asked: Any, max_tokens: int) -> int:
        found = real(asked, max_tokens)
        first = isinstance(asked, map) and found not in seen
        seen.add(found)
        return found // 2 if first else found

    return most_positions


def test_positions_that_the_grid_names_are_all_there_are(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch)
    result = run_grid(grid(model, tmp_path / "run", max_model_len=P + 150))
    assert len(seen.started) == 1
    assert any("do not fit" in failure.reason for failure in result.failures.values())


@pytest.mark.parametrize(
    ("needed", "most", "expected"),
    [(None, 131_072, 131_072), (1, 131_072, 1024), (1024, 131_072, 1024), (1025, 131_072, 2048), (9000, 131_072, 12_288)],
)
def test_positions_are_rounded_up_and_never_past_the_models(needed: int | None, most: int, expected: int) -> None:
    assert room_for(needed, most) == expected
    assert room_for(needed, 700) == 700


def test_an_engine_that_says_nothing_of_more_positions_is_not_started_again() -> None:
    assert Engine.most_positions.fget(replace_len(5)) == 5  # type: ignore[attr-defined]


def replace_len(positions: int) -> Any:
    engine = EchoEngine.__new__(EchoEngine)
    engine.max_model_len = positions
    return engine
