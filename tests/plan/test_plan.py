"""A grid becomes cells: which there are, what they are called, and which of them are left to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast import plan
from spt_fast.config import FewShot, GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.errors import ConfigError
from tests.helpers.weights import model_folder


@pytest.fixture
def grid(tmp_path: Path) -> GridConfig:
    base, chat = model_folder(tmp_path / "m" / "base"), model_folder(tmp_path / "m" / "chat", seed=1)
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(base), post_trained=str(chat)),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json", limit=3)),
        protocols=(ZeroShot(), FewShot(shots=2), SoftPromptConfig(steps=4)),
        seeds=(0, 1),
        limit=10,
    )


def test_every_seed_is_a_cell_but_zero_shot_has_none(grid: GridConfig) -> None:
    cells = plan.expand(grid)
    of_one = [(c.label, c.seed) for c in cells if c.model.name == "m/base" and c.task.name == "zoo-mcq"]
    assert of_one == [("zero_shot", None), ("few_shot", 0), ("few_shot", 1), ("soft_prompt", 0), ("soft_prompt", 1)]
    assert len(cells) == 2 * 2 * 5
    assert len({cell.key for cell in cells}) == len(cells)


def test_a_tasks_own_limit_goes_before_the_grids(grid: GridConfig) -> None:
    assert {cell.task.name: cell.task.limit for cell in plan.expand(grid)} == {"zoo-mcq": 10, "zoo-json": 3}


def test_protocols_of_a_kind_are_called_by_what_they_differ_in(grid: GridConfig) -> None:
    protocols = (SoftPromptConfig(length=5), SoftPromptConfig(length=10, lr=0.01), ZeroShot())
    labels = list(dict.fromkeys(cell.label for cell in plan.expand(replace(grid, protocols=protocols))))
    assert labels == ["soft_prompt[length=5,lr=auto]", "soft_prompt[length=10,lr=0.01]", "zero_shot"]


def test_adding_a_seed_leaves_the_old_cells_as_they_are(grid: GridConfig) -> None:
    before = {cell.key for cell in plan.expand(grid)}
    after = {cell.key for cell in plan.expand(replace(grid, seeds=(0, 1, 2)))}
    assert before < after


def test_new_weights_under_an_old_path_are_new_cells(grid: GridConfig) -> None:
    before = {cell.key for cell in plan.expand(grid)}
    model_folder(Path(grid.models[0].id), seed=7)
    after = {cell.key for cell in plan.expand(grid)}
    assert len(before & after) == len(before) // 2, "the partner's cells stay, the base model's are new"


def test_stages_hold_what_is_not_done_model_by_model(grid: GridConfig) -> None:
    cells = plan.expand(grid)
    done = {cell.key for cell in cells if cell.model.name == "m/base" and cell.label != "soft_prompt"}
    base, chat = plan.stages(cells, done)
    assert {cell.label for cell in base.cells} == {"soft_prompt"}
    assert len(chat.cells) == 10
    assert plan.stages(cells, {cell.key for cell in cells}) == []


def test_a_stage_knows_its_cells_by_their_keys(grid: GridConfig) -> None:
    base, _ = plan.stages(plan.expand(grid), set())
    assert list(base.by_key) == [cell.key for cell in base.cells]
    half = replace(base, cells=base.cells[:2])
    assert set(half.by_key) == {cell.key for cell in half.cells}, "a stage that is cut has its own"


def test_keys_do_not_depend_on_what_was_hashed_before(grid: GridConfig) -> None:
    lone = [plan.expand(replace(grid, protocols=(protocol,))) for protocol in grid.protocols]
    assert {cell.key for cells in lone for cell in cells} == {cell.key for cell in plan.expand(grid)}
    one = plan.expand(grid)[0]
    assert one.key == replace(one).key == plan.expand(grid)[0].key


def test_a_partner_that_is_listed_itself_is_evaluated_once(grid: GridConfig) -> None:
    partner = ModelConfig(id=str(grid.models[0].post_trained))
    cells = plan.expand(replace(grid, models=(*grid.models, partner)))
    assert {cell.model.name: cell.model.partner_of for cell in cells} == {"m/base": None, "m/chat": "m/base"}
    assert len(cells) == 20


def test_two_models_that_tables_could_not_tell_apart_are_refused(grid: GridConfig, tmp_path: Path) -> None:
    other = model_folder(tmp_path / "elsewhere" / "m" / "base", seed=3)
    with pytest.raises(ConfigError, match="is the name of two models"):
        plan.expand(replace(grid, models=(*grid.models, ModelConfig(id=str(other)))))


def test_only_keeps_the_cells_that_match_every_pattern(grid: GridConfig) -> None:
    kept = plan.select(plan.expand(grid), {"model": "m/b*", "protocol": "soft_prompt", "seed": "1"})
    assert [(c.model.name, c.task.name, c.seed) for c in kept] == [("m/base", "zoo-mcq", 1), ("m/base", "zoo-json", 1)]
