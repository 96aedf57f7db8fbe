"""Rows are asked until what is to be known is known; a run without `stop` asks the rest, and comes to what it would have."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spt_fast.analysis.gate import gate_runs, load_policy
from spt_fast.analysis.runs import open_run
from spt_fast.cli.checking import check_grid
from spt_fast.cli.status import status_of
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, StopConfig, TaskConfig, ZeroShot
from spt_fast.driver.estimates import stopped_share
from spt_fast.driver.result import GridResult, Interrupted
from spt_fast.engine.echo import EchoEngine
from spt_fast.errors import ConfigError
from spt_fast.report.folder import write_tables
from spt_fast.store import Store
from spt_fast.types import Answer, Request
from spt_fast.worker.events import CellDone
from tests.helpers.running import Listener, numbers, run_grid
from tests.helpers.tiny import tiny_model

NARROW = StopConfig(width=0.45, block=5, least=10)
COUNTED = ("requests", "prompt_tokens", "soft_positions", "scored_tokens", "generated_tokens", "less_room", "cut_by_context")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(tiny_model(folder / name, hidden_size=32, positions=4096, seed=i)) for i, name in enumerate(("one", "two"))]


@pytest.fixture
def grid(models: list[str], tmp_path: Path) -> GridConfig:
    return GridConfig(
        name="g",
        models=(ModelConfig(id=models[0]),),
        tasks=(TaskConfig(task="zoo-mcq"), TaskConfig(task="zoo-json")),
        protocols=(ZeroShot(),),
        limit=40,
        engine={"kind": "echo"},
        output=tmp_path / "run",
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that the engine answers."""
    found: list[Request] = []
    answers = EchoEngine.stream

    def stream(self: EchoEngine, requests: Any) -> Iterator[tuple[int, Answer]]:
        def noted() -> Iterator[Request]:
            for request in requests:
                found.append(request)
                yield request

        yield from answers(self, noted())

    monkeypatch.setattr(EchoEngine, "stream", stream)
    return found


def name_of(model: str) -> str:
    """As tables have it."""
    return "/".join(Path(model).parts[-2:])


def samples(result: GridResult) -> dict[str, Any]:
    store = Store(result.folder)
    return {key: store.samples(key) for key in sorted(store.done())}


def counts(result: GridResult) -> dict[str, Any]:
    """How much was read and written for the cells."""
    return {key: {name: stored.costs.get(name) for name in COUNTED} for key, stored in result.results.items()}


def policy(folder: Path, **check: Any) -> str:
    file = folder / "policy.yaml"
    told = ", ".join(f"{key}: {value}" for key, value in {"metric": "knowledge_best", "largest_drop": 0.3, **check}.items())
    file.write_text(f"checks:\n  - {{{told}}}\n")
    return str(file)


def test_a_stopped_cell_is_gone_on_with_and_comes_to_what_a_run_that_never_stopped_does(
    grid: GridConfig, tmp_path: Path, asked: list[Request]
) -> None:
    grid = replace(grid, protocols=(ZeroShot(), SoftPromptConfig(length=3, steps=2, batch_size=2, evaluate_at=(0,))))
    whole = run_grid(replace(grid, output=tmp_path / "whole"))
    all_of_them = len(asked)
    asked.clear()

    stopped = run_grid(replace(grid, stop=NARROW))
    store = Store(stopped.folder)
    keys = store.stopped.among(store.done())
    assert keys == {cell.key for cell in stopped.cells} - store.done()
    assert len(keys) >= 2
    assert stopped.failures == {}
    for key in keys:
        found = store.stopped.read(key)
        assert 10 <= found.stopped.n < found.stopped.of == 40
        assert "at most 45 points wide" in found.stopped.why
        assert len(store.stopped.samples.rows(key, last=True)) == found.stopped.n
    told = [store.stopped.read(key).stopped for key in keys]
    share = sum(each.n for each in told) / sum(each.of for each in told)
    assert stopped_share(stopped.cells, store) == (share, len(keys))
    before = len(asked)
    assert before < all_of_them

    again = Listener()
    run_grid(replace(grid, stop=NARROW), watch=again.watch)
    assert (len(asked), again.seen) == (before, [])

    result = run_grid(grid)
    assert len(asked) == all_of_them
    assert samples(result) == samples(whole)
    assert numbers(result) == numbers(whole)
    assert counts(result) == counts(whole)
    assert not list(Path(result.folder).glob("cells/*/stopped*"))


def test_what_is_interrupted_while_the_rest_is_asked_loses_nothing(grid: GridConfig, tmp_path: Path) -> None:
    whole = run_grid(replace(grid, output=tmp_path / "whole"))
    run_grid(replace(grid, stop=NARROW))
    stopped = Store(tmp_path / "run").stopped.among(())

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run_grid(grid, watch=Listener(CellDone, 2, interrupt).watch)
    store = Store(tmp_path / "run")
    assert store.stopped.among(store.done()) == stopped - store.done()
    assert samples(run_grid(grid)) == samples(whole)


def test_rows_whose_kept_answers_are_damaged_are_asked_anew(grid: GridConfig, tmp_path: Path) -> None:
    whole = run_grid(replace(grid, output=tmp_path / "whole"))
    run_grid(replace(grid, stop=NARROW))
    for file in (tmp_path / "run").glob("cells/*/stopped-answers.parquet"):
        file.write_bytes(b"none")
    assert samples(run_grid(grid)) == samples(whole)


def test_another_question_is_asked_on_until_it_is_answered(grid: GridConfig, asked: list[Request]) -> None:
    run_grid(replace(grid, stop=NARROW))
    store, before = Store(grid.folder), len(asked)
    first = {key: store.stopped.read(key).stopped.n for key in store.stopped.among(())}
    run_grid(replace(grid, stop=replace(NARROW, width=0.4)))
    second = {key: store.stopped.read(key).stopped.n for key in store.stopped.among(store.done())}
    assert all(second[key] >= first[key] for key in second)
    assert len(asked) > before
    narrower = len(asked)
    run_grid(replace(grid, stop=NARROW))  # what was enough for less is not forgotten, and not asked again
    assert len(asked) == narrower


@pytest.fixture
def two(grid: GridConfig, models: list[str], tmp_path: Path) -> GridConfig:
    """Two models that answer alike where no soft prompt is: the echo engine looks at the prompt alone."""
    stop = StopConfig(check=policy(tmp_path, protocols="zero_shot"), against=name_of(models[0]), block=5, least=10)
    return replace(grid, models=(*grid.models, ModelConfig(id=models[1])), stop=stop)


def test_a_policy_stops_the_cells_that_it_is_about_and_the_gate_says_what_it_says_of_all_rows(
    two: GridConfig, models: list[str], tmp_path: Path
) -> None:
    result = run_grid(two)
    store = Store(result.folder)
    by_key = {cell.key: cell for cell in result.cells}
    stopped = {key: store.stopped.read(key).stopped for key in store.stopped.among(store.done())}
    assert {(by_key[key].model.name, by_key[key].label) for key in stopped} == {(name_of(models[1]), "zero_shot")}
    assert {each.why for each in stopped.values()} == {"knowledge: a drop of 30 points or more is ruled out"}
    rules = load_policy(tmp_path / "policy.yaml")
    run = open_run(result.folder)
    answer = gate_runs(run, run, rules, a_model=name_of(models[0]), b_model=name_of(models[1]))
    assert answer.verdict == "pass"
    assert {finding.rows for finding in answer.findings} == {each.n for each in stopped.values()}
    assert all(0 < finding.bounds.high < 0.3 for finding in answer.findings)
    assert sum("stopped in B after" in note for note in answer.notes) == 2
    whole = run_grid(replace(two, stop=None))
    assert (
        gate_runs(
            open_run(whole.folder), open_run(whole.folder), rules, a_model=name_of(models[0]), b_model=name_of(models[1])
        ).verdict
        == "pass"
    )


def test_a_mean_over_tasks_stops_all_of_them_at_the_same_look(two: GridConfig, models: list[str], tmp_path: Path) -> None:
    policy(tmp_path, protocols="zero_shot", over="mean")
    result = run_grid(two)
    store = Store(result.folder)
    stopped = [store.stopped.read(key).stopped for key in store.stopped.among(store.done())]
    assert {each.why for each in stopped} == {"knowledge, mean of 2 tasks: a drop of 30 points or more is ruled out"}
    assert len(stopped) == 2
    assert len({(each.n, each.looks) for each in stopped}) == 1
    run = open_run(result.folder)
    answer = gate_runs(run, run, load_policy(tmp_path / "policy.yaml"), a_model=name_of(models[0]), b_model=name_of(models[1]))
    assert answer.verdict == "pass"


def test_what_no_look_decides_is_asked_to_its_end_and_judged_by_what_is_left_of_alpha(
    two: GridConfig, models: list[str], tmp_path: Path
) -> None:
    policy(tmp_path, protocols="zero_shot", largest_drop=0.05)  # 40 rows cannot rule that out
    result = run_grid(two)
    assert result.complete
    run = open_run(result.folder)
    looked = {cell.place for cell in run.cells() if "looks" in cell.provenance}
    assert {(place.model, place.protocol) for place in looked} == {(name_of(models[1]), "zero_shot")}
    rules = load_policy(tmp_path / "policy.yaml")
    with_looks = gate_runs(run, run, rules, a_model=name_of(models[0]), b_model=name_of(models[1]))
    shutil.rmtree(result.folder)
    plain = open_run(run_grid(replace(two, stop=None)).folder)
    without = gate_runs(plain, plain, rules, a_model=name_of(models[0]), b_model=name_of(models[1]))
    for one, other in zip(with_looks.findings, without.findings, strict=True):
        assert one.bounds.high >= other.bounds.high
        assert one.rows == other.rows == 40


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        ({"against": "nobody"}, "stop.against: nobody is no model of the grid, and nobody: is not a run folder"),
        ({"against": "previous"}, "stop.against: previous wants models that are checkpoints of a series"),
        ({"against": "*"}, "stop.against: '*' matches 2 models of the grid; name one of them"),
        ({"alpha": 0.1}, "stop.alpha: is 0.1, and that of"),
        ({"check": "no-such.yaml"}, "no-such.yaml"),
    ],
)
def test_what_cannot_be_held_against_anything_is_one_sentence(two: GridConfig, stop: dict[str, Any], said: str) -> None:
    assert two.stop is not None
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as e:
        run_grid(replace(two, stop=replace(two.stop, **stop)))
    assert said in str(e.value)


def test_a_metric_without_ends_is_refused(two: GridConfig, tmp_path: Path) -> None:
    policy(tmp_path, metric="answer_bits_per_byte")
    with pytest.raises(ConfigError, match=r"checks\[0\]: answer_bits_per_byte is not from 0 to 1, and no bound of its mean"):
        run_grid(two)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"metric": "exact_mach"}, "checks[0].metric: no metric 'exact_mach'; did you mean 'exact_match'?"),
        ({"metric": "f1"}, "checks[0].metric: no metric 'f1'; choose from "),
        ({"metric": "lm_eval/acc"}, "checks[0].metric: no metric 'lm_eval/acc'; choose from "),
        ({"metric": "knowledge_member_mean"}, "checks[0]: nothing that it matches has the metric knowledge_member_mean"),
        ({"metric": "judge_agrees_on_format"}, "checks[0]: nothing that it matches has the metric judge_agrees_on_format"),
        ({"metric": "knowledge_cloze", "tasks": "zoo-json"}, "checks[0]: nothing that it matches has the metric"),
        ({"protocols": "soft_prompt"}, "checks[0]: matches nothing in the grid; correct its tasks or protocols"),
        ({"tasks": "zoo-mcp"}, "checks[0]: matches nothing in the grid; correct its tasks or protocols"),
        ({"models": "nobody"}, "checks[0].models: matches no model that is held against (models"),
    ],
    ids=str,
)
def test_a_check_that_can_never_be_made_is_refused_by_check_and_run_alike(
    two: GridConfig, tmp_path: Path, check: dict[str, str], said: str
) -> None:
    file = policy(tmp_path, **check)
    (wrong,) = check_grid(two).wrong
    assert wrong.startswith(f"stop.check: {file}: {said}")
    with pytest.raises(ConfigError) as e:
        run_grid(two)
    assert str(e.value) == wrong


def test_check_says_where_there_are_too_few_rows_for_a_look(two: GridConfig, tmp_path: Path) -> None:
    """zoo-mcq and zoo-json have 40 rows each."""

    def notes(**stop: Any) -> list[str]:
        assert two.stop is not None
        return [note for note in check_grid(replace(two, stop=replace(two.stop, **stop))).notes if note.startswith("stop: ")]

    assert notes(least=39) == []
    both = "stop: can never act on zoo-mcq (40 rows), zoo-json (40 rows), all rows of which are asked before the first look, "
    assert notes(least=40) == [both + "after 40; lower stop.least, and stop.block, the rows between two looks"]
    policy(tmp_path, over="mean")  # rows of both count
    assert notes(least=79) == []
    assert notes(least=80) != []
    policy(tmp_path, over="mean", tasks="zoo-json")
    assert len(notes(least=79)) == 1


def test_the_next_day_takes_over_what_was_stopped(grid: GridConfig, tmp_path: Path, asked: list[Request]) -> None:
    nightly = replace(grid, stop=NARROW, output=str(tmp_path / "nights" / "{date}"))
    before = tmp_path / "nights" / "2026-01-01"
    first = run_grid(replace(nightly, output=before))
    stopped = Store(before).stopped.among(())
    asked.clear()
    told: list[str] = []
    second = run_grid(nightly, say=told.append)
    assert asked == []
    assert Path(second.folder) != Path(first.folder)
    assert Store(second.folder).stopped.among(()) == stopped
    assert any(f"{len(stopped)} stopped cells reused from {before}" in said for said in told)


def test_models_whose_order_is_not_known_are_asked_all_rows_one_after_the_other(two: GridConfig) -> None:
    result = run_grid(replace(two, stop=StopConfig(check="rank", block=10, least=10)))
    assert result.complete
    looked = {cell.model for cell in open_run(result.folder).cells() if "looks" in cell.provenance}
    assert len(looked) == 1, "the first has nobody to be held against"


def test_tables_show_stopped_cells_by_themselves(grid: GridConfig) -> None:
    result = run_grid(replace(grid, stop=NARROW))
    write_tables(result.folder)
    folder = Path(result.folder)
    told = json.loads((folder / "results.json").read_text())
    stopped = {cell["key"]: cell for cell in told["stopped"]}
    assert set(stopped) == Store(result.folder).stopped.among(())
    assert not set(stopped) & {cell["key"] for cell in told["cells"]}
    assert all(cell["n"] < cell["of"] == 40 and "points wide" in cell["why"] for cell in stopped.values())
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert {row["stopped_of"] for row in rows if row["task"] in {cell["task"] for cell in stopped.values()}} == {"40"}
    assert {row["n"] for row in rows if row["metric"] == "exact_match"} == {str(cell["n"]) for cell in stopped.values()}
    report = (folder / "report.md").read_text()
    assert "No cell was asked all its rows. Stopped after" in report
    assert "Cells that were stopped" in report
    assert f"{next(iter(stopped.values()))['n']} of 40" in report
    assert f"{len(stopped)} stopped, 0 failed" in status_of(result.folder)
    page = (folder / "report.html").read_text()
    assert 'id="stopped"' in page
