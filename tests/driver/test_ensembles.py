"""Ensembles in a grid: members are cells of their own, learnt and asked once, and the vote needs nothing but the run folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast import plan
from spt_fast.config import Ensemble, GridConfig, ModelConfig, SoftPromptConfig, TaskConfig
from spt_fast.config.reader import parse_grid
from spt_fast.driver.ensembles import examples_of
from spt_fast.driver.run import run_cells
from spt_fast.errors import ConfigError
from spt_fast.plan import Stage
from spt_fast.report.folder import write_tables
from spt_fast.scoring.ensemble import majority_vote
from spt_fast.store import Store
from spt_fast.worker.events import CellStarted, Event
from tests.helpers.tiny import tiny_model

TUNED = {"length": 2, "steps": 2, "batch_size": 2, "lr": 0.05}
SOFT, THREE = SoftPromptConfig(**TUNED), Ensemble(**TUNED, members=3)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "one", hidden_size=32, positions=4096)


@pytest.fixture
def grid(tmp_path: Path, model: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(model)),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(SOFT, THREE),
        seeds=(0, 1),
        limit=6,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


class Watched:
    """Counts what is begun."""

    def __init__(self) -> None:
        self.begun: Counter[tuple[str, str]] = Counter()

    def show(self, stage: Stage, event: Event) -> None:
        if isinstance(event, CellStarted):
            self.begun[event.phase, event.key] += 1

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        return


def test_an_ensembles_members_are_learnt_and_asked_once_and_are_the_soft_prompts_of_the_grid(grid: GridConfig) -> None:
    watched = Watched()
    result = run_cells(grid, watch=lambda cells, done: watched)
    assert result.complete, result.failures
    store = Store(grid.folder)
    named = {(cell.task.name, cell.label, cell.seed): cell for cell in result.cells}
    first = named["zoo-mcq", "ensemble", 0]
    assert [member.seed for member in first.members] == [0, 1, 2]
    assert [member.seed for member in named["zoo-mcq", "ensemble", 1].members] == [3, 4, 5]
    assert [member.key for member in first.members[:2]] == [named["zoo-mcq", "soft_prompt", seed].key for seed in (0, 1)]
    # Six soft prompts a task: each learnt once, asked once.
    assert len(watched.begun) == 2 * 2 * 6
    assert set(watched.begun.values()) == {1}
    # All vectors and samples are kept, and the vote is a function of them.
    examples = examples_of(first)
    ballots = [store.cell_result(member.key).samples for member in first.members]
    assert all(len(store.learnt.soft_prompts(member.key)) == 1 for member in first.members)
    by_hand = tuple(majority_vote(first.task.task, examples[row[0].example], row) for row in zip(*ballots, strict=True))
    assert store.cell_result(first.key).samples == by_hand
    assert len({row[0].option_logprobs for row in ballots}) == 3
    provenance = store.result(first.key).provenance
    assert provenance["members"].split() == [member.key for member in first.members]


def test_an_ensemble_that_is_added_later_asks_only_the_members_that_are_missing(grid: GridConfig) -> None:
    run_cells(replace(grid, protocols=(SOFT,)))
    watched = Watched()
    result = run_cells(replace(grid, protocols=(SOFT, THREE), seeds=(0,)), watch=lambda cells, done: watched)
    assert result.complete, result.failures
    assert {key for _, key in watched.begun} == {
        cell.members[2].key for cell in result.cells if isinstance(cell.protocol, Ensemble)
    }


def test_a_vote_that_was_not_counted_is_counted_without_asking_anyone(grid: GridConfig) -> None:
    """As after a kill between the last member and the vote."""
    result = run_cells(grid)
    ensembles = [cell for cell in result.cells if isinstance(cell.protocol, Ensemble)]
    store = Store(grid.folder)
    before = {cell.key: store.cell_result(cell.key).samples for cell in ensembles}
    for cell in ensembles:
        store.discard(cell.key)
    watched = Watched()
    assert run_cells(grid, watch=lambda cells, done: watched).complete
    assert not watched.begun
    assert {cell.key: store.cell_result(cell.key).samples for cell in ensembles} == before


def test_an_ensemble_fails_where_a_member_has(grid: GridConfig) -> None:
    wild = Ensemble(**{**TUNED, "steps": 9, "lr": 1000.0, "weight_decay": 1000.0}, members=2)  # type: ignore[arg-type]
    result = run_cells(replace(grid, protocols=(wild,), tasks=grid.tasks[:1], seeds=(0,)))
    (cell,) = result.cells
    assert result.failures[cell.key].kind == "TrainingError"
    cells, _ = write_tables(grid.folder)
    assert [each.status for each in cells] == ["failed"]


def test_metrics_at_each_step_have_the_members_beside_them_in_every_table(grid: GridConfig) -> None:
    curve = replace(THREE, evaluate_at=(0, 1))
    result = run_cells(replace(grid, protocols=(curve,), seeds=(0,), tasks=grid.tasks[:1]))
    (cell,) = result.cells
    metrics = result.results[cell.key].metrics
    assert list(metrics) == [0, 1, 2]
    assert {"format_following", "exact_match_member_mean", "knowledge_member_best"} <= {m.name for m in metrics[1]}
    write_tables(grid.folder)
    csv = (grid.folder / "results.csv").read_text()  # type: ignore[operator]
    assert f"{cell.model.name},zoo-mcq,ensemble,0,2,knowledge_member_mean," in csv
    text = (grid.folder / "report.md").read_text()  # type: ignore[operator]
    assert "| model | task | protocol | metric | mean member | best member | together |" in text


def test_a_grid_names_ensembles_and_says_what_is_wrong_with_them() -> None:
    written = "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols:\n  - ensemble: {members: [3, 5], length: 20}\n"
    grid = parse_grid(written)
    assert grid.protocols == (Ensemble(members=3, length=20), Ensemble(members=5, length=20))
    three, five = plan.expand(grid)
    assert (three.label, five.label) == ("ensemble[members=3]", "ensemble[members=5]")
    assert {m.key for m in three.members} < {m.key for m in five.members}
    assert three.key not in {m.key for m in five.members}
    with pytest.raises(ConfigError, match=r"protocols\[0\].ensemble.members: must be a whole number from 2 to 1000, not 1"):
        parse_grid(written.replace("[3, 5]", "1"))
