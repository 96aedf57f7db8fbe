"""A minute of fuzzing with the same inputs each time; `make fuzz MINUTES=30` goes on with others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.fuzz import call, fuzz, warm_up
from tests.fuzz.targets import GRID, TARGETS, Target, prepare

INPUTS = 40
"""Of each kind."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "shared"
    prepare(folder)
    warm_up(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", TARGETS)
def test_what_is_nearly_valid_is_read_or_refused_in_a_sentence(kind: str, shared: Path) -> None:
    found = [each for number in range(1, INPUTS + 1) for each in fuzz(kind, 0, number, shared)]
    assert not found, "\n".join(f"{each.number}: {' '.join(each.command)}\n{each.what}" for each in found)


def test_the_fuzzer_finds_what_it_looks_for(tmp_path: Path) -> None:
    """On commands that end as they should, held against other expectations."""
    grid = tmp_path / "g.yaml"
    grid.write_text(GRID)
    usual = TARGETS["grids"]
    assert call(["check", str(grid)], usual) == ""
    assert call(["check", str(grid)], Target(usual.make, codes=frozenset({2}))).startswith("exit code 0: ")
    assert call(["check", str(grid)], usual, most_s=1e-6).startswith("takes")
    grid.write_text("name: [")
    assert call(["check", str(grid)], usual) == ""
    assert call(["check", str(grid)], Target(usual.make, codes=frozenset({0}))).startswith("exit code 2: spt-fast: ")


@pytest.mark.parametrize("kind", TARGETS)
def test_what_the_fuzzer_begins_with_is_valid(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every input would be refused for the same reason."""
    for name in ("mutated", "mutated_bytes"):
        monkeypatch.setattr(f"tests.fuzz.targets.{name}", lambda unchanged, draw: unchanged)
    if kind == "runs":
        pytest.skip("a damaged file is all that is changed")
    prepare(tmp_path / "shared")

    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        for command in TARGETS[kind].make(folder, random.Random(number), tmp_path / "shared"):
            assert call(command, Target(TARGETS[kind].make, codes=frozenset({0, 1, 3}))) == ""
