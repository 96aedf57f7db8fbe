"""The tables of a run folder: kept while nothing has changed, made anew where anything has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spt_fast.analysis.runs import open_run
from spt_fast.cli.tables import tell
from spt_fast.config import SoftPromptConfig
from spt_fast.report import Verdict
from spt_fast.report.folder import KEPT, TABLES, write_tables
from spt_fast.store import Store
from tests.helpers.cells import cell, result

ASKED = cell()
LEARNT = cell(SoftPromptConfig(steps=2, evaluate_at=(0,)))
JUDGED = replace(ASKED, engine={"kind": "judged"})  # a cell of its own that rests on ASKED


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two done cells and one that waits."""
    store = Store(tmp_path)
    store.put_result(ASKED, result(None))
    store.put_result(LEARNT, result(0, 2))
    write_grid(store)
    return store


def write_grid(store: Store, **rests_on: str | None) -> None:
    place = {"model": "m", "task": "t", "seed": None, "closed_ended": False, "rests_on": None}
    cells = {one.key: {**place, "protocol": one.label} for one in (ASKED, LEARNT)}
    cells[JUDGED.key] = {**place, "protocol": "judged", **rests_on}
    store.grid_file.put({"name": "g", "models": [{"id": "m", "post_trained": None}], "spt_fast": "1", "cells": cells})


@pytest.fixture
def told(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the folder tells."""

    def tell_it(*, as_json: bool = False) -> str:
        tell(store.root, as_json=as_json)
        return capsys.readouterr().out

    return tell_it


def test_what_has_not_changed_is_told_again_without_being_read(
    store: Store, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, versions = told(), [(store.root / name).stat().st_mtime_ns for name in TABLES]

    def unread(*_: object) -> None:
        raise AssertionError("a result was read")

    monkeypatch.setattr(Store, "result", unread)
    monkeypatch.setattr(Store, "samples", unread)
    assert told() == first
    assert len(json.loads(told(as_json=True))["cells"]) == 2
    assert [(store.root / name).stat().st_mtime_ns for name in TABLES] == versions


def test_a_new_result_a_new_failure_and_a_lost_cell_are_told(store: Store, told: Callable[..., str]) -> None:
    assert "Still to be done: 1 of 3 cells" in " ".join(told().split())
    store.put_failure(JUDGED, "EngineError", "it died")
    assert "it died" in told()
    assert [failed.key for failed in tell(store.root, as_json=False)] == [JUDGED.key]
    assert [failed.reason for failed in tell(store.root, as_json=False)] == ["it died"], "and again from what is kept"
    store.put_result(JUDGED, result(None))
    assert tell(store.root, as_json=False) == []
    assert len(json.loads((store.root / "results.json").read_text())["cells"]) == 3
    store.discard(LEARNT.key)
    told()
    assert len(json.loads((store.root / "results.json").read_text())["cells"]) == 2


def test_a_judged_cell_fails_where_what_it_rests_on_has(store: Store, told: Callable[..., str]) -> None:
    store.discard(ASKED.key)
    store.put_failure(ASKED, "EngineError", "it died")
    write_grid(store, rests_on=ASKED.key)
    for _ in range(2):
        assert {failed.key for failed in tell(store.root, as_json=False)} == {ASKED.key, JUDGED.key}


@pytest.mark.parametrize("harm", ["missing", "empty", "not json", "no object", "another grid's", "of other tables"])
def test_harm_to_what_is_kept_is_harmless(harm: str, store: Store, told: Callable[..., str]) -> None:
    first = told()
    path = store.root / KEPT
    kept = json.loads(path.read_text())
    if harm == "missing":
        path.unlink()
    else:
        path.write_text(
            {
                "empty": "",
                "not json": path.read_text()[:-9],
                "no object": "[1]",
                "another grid's": json.dumps({**kept, "made_from": "0", "shown": "wrong"}),
                "of other tables": json.dumps({**kept, "tables": [], "shown": "wrong"}),
            }[harm]
        )
    assert told() == first


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_gone_or_was_changed_is_written_again(name: str, store: Store, told: Callable[..., str]) -> None:
    first, path = told(), store.root / name
    content = path.read_text()
    path.unlink()
    assert told() == first
    assert path.read_text() == content
    path.write_text("changed")
    told()
    assert path.read_text() == content


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a result that is no JSON": lambda folder: (folder / "result.json").write_text("{"),
    "a result without a key": lambda folder: (folder / "result.json").write_text('{"points": []}'),
    "a result that is a list": lambda folder: (folder / "result.json").write_text("[1, 2]"),
    "a number that was edited": lambda folder: replace_in(folder / "result.json", '"value": 0.5', '"value": 0.9'),
    "a checksum that was edited": lambda folder: replace_in(folder / "result.json", '"checksum": "', '"checksum": "0'),
    "samples that are another cell's": lambda folder: (folder / "samples.parquet").write_bytes(b"PAR1"),
    "no samples": lambda folder: (folder / "samples.parquet").unlink(),
    "a pipe": lambda folder: as_pipe(folder / "result.json"),
    "a folder": lambda folder: as_folder(folder / "result.json"),
    "a link to itself": lambda folder: as_loop(folder / "samples.parquet"),
}


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("harm", DAMAGE)
def test_a_cell_whose_files_are_damaged_has_failed_with_the_mend_and_the_others_are_told(
    harm: str, store: Store, told: Callable[..., str]
) -> None:
    told()
    DAMAGE[harm](store.root / "cells" / ASKED.key)
    for _ in range(2):  # also from what is kept
        (failed,) = tell(store.root, as_json=False)
        assert failed.key == ASKED.key
        assert str(store.root / "cells" / ASKED.key) in failed.reason
        assert failed.reason.endswith(
            "run the grid again with --fresh --only model=m,task=t,protocol=zero_shot to do this cell anew"
        )
    shown = " ".join(told().split())
    assert "FAILED m · t · zero_shot" in shown
    assert "soft_prompt" in shown
    store.discard(ASKED.key)
    assert ASKED.key not in store.done()
    assert not (store.root / "cells" / ASKED.key).exists()


def test_a_result_of_an_older_run_folder_without_checksums_is_read(store: Store, told: Callable[..., str]) -> None:
    path = store.root / "cells" / ASKED.key / "result.json"
    data = json.loads(path.read_text())
    del data["checksum"], data["files"]
    path.write_text(json.dumps(data))
    told()
    assert tell(store.root, as_json=False) == []


def test_a_driver_killed_while_it_writes_the_tables_leaves_none_that_are_believed(
    store: Store, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told()
    store.put_result(JUDGED, result(None))
    put = Store.put

    def killed(self: Store, name: str, text: str) -> None:
        if name == "report.html":
            raise KeyboardInterrupt
        put(self, name, text)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            write_tables(store.root)
    told()
    assert "Still to be done" not in (store.root / "report.md").read_text()


def test_another_width_is_another_text(store: Store, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    wide = told()
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, told().splitlines()[:-1])) <= 50
    monkeypatch.setenv("COLUMNS", "120")
    assert told() == wide


def test_verdicts_are_those_of_the_last_step(store: Store) -> None:
    by_key = {report.key: report for report in open_run(store).cells()}
    expected = {"e0": Verdict(format_ok=False, knows=True), "e1": Verdict(format_ok=True, knows=True)}
    assert dict(by_key[LEARNT.key].verdicts) == expected
    assert by_key[LEARNT.key].verdicts == expected
    assert len(by_key[ASKED.key].verdicts) == 2
    assert by_key[JUDGED.key].verdicts == {}


def test_results_json_has_a_line_a_cell(store: Store) -> None:
    _, text = write_tables(store.root)
    assert json.loads(text)["name"] == "g"
    assert sum(ASKED.key in line for line in text.splitlines()) == 1
