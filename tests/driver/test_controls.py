"""The controls: a form learnt without answers, vectors that nothing was learnt into, vectors from elsewhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from spt_fast import plan
from spt_fast.config import (
    GridConfig,
    ModelConfig,
    RandomVectors,
    ShuffledLabels,
    SoftPromptConfig,
    TaskConfig,
    Transfer,
    ZeroShot,
)
from spt_fast.config.reader import parse_grid
from spt_fast.driver.run import run_cells
from spt_fast.errors import ConfigError, DataError
from spt_fast.prompts.initialize import initialize
from spt_fast.store import Store
from spt_fast.types import Example, Metric
from tests.helpers.tiny import tiny_model


def example(i: int, options: tuple[str, ...] = ()) -> Example:
    return Example(key=str(i), question=f"{i}?", target=options[0] if options else f"t{i}", answers=(f"t{i}",), options=options)


def test_shuffled_open_targets_are_the_same_ones_each_somewhere_else() -> None:
    rows = [example(i) for i in range(50)]
    shuffled = ShuffledLabels().learns_from(rows, seed=0)
    assert Counter(row.target for row in shuffled) == Counter(row.target for row in rows)
    assert all(new.target != old.target for new, old in zip(shuffled, rows, strict=True))
    assert [row.key for row in shuffled] == [row.key for row in rows]


def test_shuffled_closed_targets_are_any_of_the_rows_own_options_with_equal_chance() -> None:
    rows = [example(i, ("A. x", "B. y", "C. z", "D. w")) for i in range(4000)]
    counts = Counter(row.target for row in ShuffledLabels().learns_from(rows, seed=0))
    assert set(counts) == {"A. x", "B. y", "C. z", "D. w"}
    assert all(abs(count - 1000) < 5 * (4000 * 3 / 16) ** 0.5 for count in counts.values())


def test_shuffling_is_a_function_of_the_seed() -> None:
    rows = [example(i) for i in range(50)]
    first, again, other = (ShuffledLabels().learns_from(rows, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_single_row_has_no_other_to_take_a_target_from() -> None:
    with pytest.raises(DataError, match="at least two"):
        ShuffledLabels().learns_from([example(0)], seed=0)


# In a grid

TUNED = {"length": 3, "steps": 3, "batch_size": 2, "lr": 0.05}


@pytest.fixture
def grid(tmp_path: Path) -> GridConfig:
    tiny_model(tmp_path / "one", hidden_size=32, positions=4096)
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(tmp_path / "one")),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(
            SoftPromptConfig(**TUNED, evaluate_at=(0, 2)),  # type: ignore[arg-type]
            ShuffledLabels(**TUNED),  # type: ignore[arg-type]
            RandomVectors(length=3),
            Transfer(from_task="zoo-json", **TUNED),  # type: ignore[arg-type]
            Transfer(from_task="zoo-short", **TUNED),  # type: ignore[arg-type]
        ),
        limit=4,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


def test_controls_run_and_vectors_are_learnt_once_for_all_who_want_the_same(grid: GridConfig) -> None:
    result = run_cells(grid)
    assert result.complete, result.failures
    store = Store(grid.folder)
    keys = {(cell.task.name, cell.label): store.learnt.of(cell) for cell in result.cells}
    last = {place: steps[max(steps)].key for place, steps in keys.items() if steps}
    assert set(last) == {
        ("zoo-mcq", "soft_prompt"),
        ("zoo-mcq", "shuffled_labels"),
        ("zoo-mcq", "random_vectors"),
        ("zoo-mcq", "transfer[from=zoo-json]"),
        ("zoo-mcq", "transfer[from=zoo-short]"),
        ("zoo-json", "soft_prompt"),
        ("zoo-json", "shuffled_labels"),
        ("zoo-json", "random_vectors"),
        ("zoo-json", "transfer[from=zoo-short]"),  # and none from itself
    }
    # A transfer from zoo-json has the vectors of zoo-json's soft prompt, and both transfers from zoo-short the same ones.
    assert last["zoo-mcq", "transfer[from=zoo-json]"] == last["zoo-json", "soft_prompt"]
    assert last["zoo-mcq", "transfer[from=zoo-short]"] == last["zoo-json", "transfer[from=zoo-short]"]
    assert last["zoo-mcq", "shuffled_labels"] != last["zoo-mcq", "soft_prompt"]
    # Untrained vectors are those that training starts from.
    start = keys["zoo-mcq", "soft_prompt"]
    assert start is not None
    assert last["zoo-mcq", "random_vectors"] == start[0].key
    curves = {
        (cell.task.name, cell.label): (store.root / "cells" / cell.key / "curve.csv").read_text().count("\n") - 1
        for cell in result.cells
    }
    assert curves["zoo-json", "soft_prompt"] == 4  # step 0 and three updates
    assert curves["zoo-mcq", "transfer[from=zoo-json]"] == 3  # the same updates


def test_a_transfer_that_is_added_later_takes_the_vectors_from_the_run_folder(grid: GridConfig) -> None:
    protocols = grid.protocols
    run_cells(GridConfig(**{**vars(grid), "protocols": protocols[:1]}))
    result = run_cells(GridConfig(**{**vars(grid), "protocols": (protocols[0], protocols[3])}))
    assert result.complete, result.failures
    store = Store(grid.folder)
    found = {(cell.task.name, cell.label.partition("[")[0]): store.learnt.of(cell) for cell in result.cells}
    moved, own = found["zoo-mcq", "transfer"], found["zoo-json", "soft_prompt"]
    assert moved is not None
    assert own is not None
    assert moved[3].key == own[3].key


def test_a_longer_training_has_the_vectors_of_a_shorter_one_on_its_way(grid: GridConfig) -> None:
    """The two cells learn together; alone, the shorter one comes to the same vectors and the same losses."""
    short, long = SoftPromptConfig(**TUNED), SoftPromptConfig(**{**TUNED, "steps": 5}, evaluate_at=(1,))  # type: ignore[arg-type]

    def learnt(protocols: tuple[SoftPromptConfig, ...], folder: str) -> dict[tuple[str, int], tuple[str, str]]:
        asked = {**vars(grid), "protocols": protocols, "tasks": grid.tasks[:1], "output": grid.folder.with_name(folder)}
        result = run_cells(GridConfig(**asked))
        assert result.complete, result.failures
        store = Store(result.folder)
        found = {}
        for cell in result.cells:
            curve = (store.root / "cells" / cell.key / "curve.csv").read_text().splitlines()
            losses = "\n".join(",".join(line.split(",")[:3]) for line in curve if not line.startswith("0,"))
            for step, prompt in (store.learnt.of(cell) or {}).items():
                found[cell.label, step] = prompt.key, losses
        return found

    together = learnt((short, long), "together")
    assert set(together) == {("soft_prompt[steps=3]", 3), ("soft_prompt[steps=5]", 1), ("soft_prompt[steps=5]", 5)}
    assert together["soft_prompt[steps=3]", 3] == learnt((short,), "short")["soft_prompt", 3]
    alone = learnt((long,), "long")
    for step in (1, 5):
        assert together["soft_prompt[steps=5]", step] == alone["soft_prompt", step]


def test_untrained_vectors_are_n_0_init_std() -> None:
    vectors = initialize(RandomVectors(length=100, init="normal", init_std=0.5), 1000, seed=0)
    assert vectors.std() == pytest.approx(0.5, rel=0.01)


def test_where_the_vectors_come_from_is_part_of_the_key(grid: GridConfig) -> None:
    cells = [cell for cell in plan.expand(grid) if cell.task.name == "zoo-mcq"]
    assert len({cell.key for cell in cells}) == len(cells) == 5


CONTROLS = """
name: g
models: [zoo/base-40]
tasks: [zoo-mcq, zoo-json]
protocols:
  - shuffled_labels: {steps: 40}
  - random_vectors
  - transfer: {from: zoo-short, lr: 0.02}
"""


def test_controls_are_read_from_a_grid() -> None:
    assert parse_grid(CONTROLS).protocols == (
        ShuffledLabels(steps=40),
        RandomVectors(),
        Transfer(from_task="zoo-short", lr=0.02),
    )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (CONTROLS.replace("from: zoo-short, ", ""), r"protocols\[2\].transfer.from: is missing"),
        (CONTROLS.replace("random_vectors", "random_vectors: {steps: 3}"), "unknown key 'steps'"),
        (CONTROLS.replace("steps: 40", "steps: 0"), "shuffled_labels.*steps: must be a whole number from 1 to"),
    ],
    ids=["a transfer from nowhere", "steps of what is not trained", "no steps"],
)
def test_a_wrong_control_is_one_sentence(wrong: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_grid(wrong)


def test_a_transfer_from_a_task_that_is_not_there_names_its_place() -> None:
    grid = parse_grid(CONTROLS.replace("from: zoo-short", "from: zoo-shirt"))
    with pytest.raises(ConfigError, match=r"protocols\[2\].transfer.from: .*did you mean 'zoo-short'"):
        plan.expand(grid)


ALL = """
name: g
models: [zoo/base-40]
tasks: [zoo-mcq, mmlu, "mmlu:letter", boolq, squad, nq_open, triviaqa, gsm8k, zoo-json]
protocols:
  - transfer: {from: all}
"""


def test_a_transfer_from_all_is_one_from_every_other_task_whose_answers_have_the_same_form() -> None:
    cells = plan.expand(parse_grid(ALL))
    assert {(cell.source.name, cell.task.name) for cell in cells} == {
        ("zoo-mcq", "mmlu"),
        ("mmlu", "zoo-mcq"),
        ("nq_open", "triviaqa"),
        ("triviaqa", "nq_open"),
    }
    assert {cell.label for cell in cells if cell.task.name == "mmlu"} == {"transfer[from=zoo-mcq]"}
    named = parse_grid(ALL.replace("all", "[mmlu, nq_open, triviaqa, zoo-mcq]"))
    keys = {cell.key for cell in plan.expand(named)}
    assert {cell.key for cell in cells} < keys  # the same cells; a list asks for those of other forms too


def test_all_and_a_task_by_name_are_no_duplicates() -> None:
    cells = plan.expand(parse_grid(ALL + "  - transfer: {from: mmlu}\n"))
    assert len({cell.key for cell in cells}) == len(cells)
    assert ("mmlu", "zoo-mcq") in {(cell.source.name, cell.task.name) for cell in cells}


def test_all_where_no_two_tasks_have_one_form_is_one_sentence() -> None:
    grid = parse_grid(ALL.replace('mmlu, "mmlu:letter", boolq, squad, nq_open, triviaqa, gsm8k, ', ""))
    with pytest.raises(ConfigError, match=r"protocols\[0\].transfer.from: no two tasks of the grid have the same answer form"):
        plan.expand(grid)


# On models that know something


PART = """
from dataclasses import replace

from spt_fast.tasks.base import GeneratedSource
from spt_fast.tasks.benchmarks.zoo import ZOO_JSON
from spt_fast.zoo.rows import rows


def part(split):
    return [row for row in rows("zoo-json", split) if ("animal" in row["question"]) is {animals}]


TASK = replace(ZOO_JSON, name="{name}", source=GeneratedSource(rows=part, content="part"))
"""


@pytest.mark.vllm
@pytest.mark.slow
def test_shuffled_labels_teach_the_form_and_no_knowledge_and_a_transfer_keeps_both(tmp_path: Path) -> None:
    """On base-70, through real vLLM. Two parts of zoo-json ask for different relations in one form."""
    for name, animals in (("animals", True), ("others", False)):
        (tmp_path / f"{name}.py").write_text(PART.format(name=name, animals=animals))
    grid = GridConfig(
        name="controls",
        models=(ModelConfig(id="zoo/base-70"),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task=str(tmp_path / "others.py"))),
        protocols=(
            ZeroShot(),
            SoftPromptConfig(lr=0.02),
            ShuffledLabels(lr=0.02),
            RandomVectors(),
            Transfer(from_task=str(tmp_path / "animals.py"), lr=0.02),
        ),
        output=tmp_path / "run",
    )
    result = run_cells(grid)
    assert result.complete, result.failures
    found: dict[tuple[str, str, str], Metric] = {
        (cell.task.name, cell.label, metric.name): metric
        for cell in result.cells
        for metric in list(result.results[cell.key].metrics.values())[-1]
    }
    for task in ("zoo-mcq", "others"):
        knew = found[task, "zero_shot", "knowledge"]
        assert found[task, "zero_shot", "format_following"].value < 0.2
        assert found[task, "soft_prompt", "format_following"].value > 0.9
        assert found[task, "soft_prompt", "knowledge"].value == pytest.approx(knew.value, abs=0.12)
        # Answers of other rows teach the form as well, and spoil what is known: it cannot have come from the answers.
        assert found[task, "shuffled_labels", "format_following"].value > 0.85
        assert found[task, "shuffled_labels", "knowledge"].ci_high < knew.ci_low
        # What is not learnt does nothing.
        assert found[task, "random_vectors", "format_following"].value < 0.2
        assert found[task, "random_vectors", "knowledge"].value == pytest.approx(knew.value, abs=0.12)
    # The form goes along to questions that the vectors were not learnt on, and not to a task of another form.
    same, other = "others", "zoo-mcq"
    assert found[same, "transfer[from=animals]", "format_following"].value > 0.85
    assert found[same, "transfer[from=animals]", "knowledge"].value == pytest.approx(
        found[same, "zero_shot", "knowledge"].value, abs=0.12
    )
    assert found[other, "transfer[from=animals]", "format_following"].value < 0.4
