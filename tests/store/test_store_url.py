"""The run folder behind a URL: one driver at a time, nothing half-written, events and logs where there is no appending."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from spt_fast.cli import main
from spt_fast.cli.status import status_of
from spt_fast.cli.tables import tell
from spt_fast.config import GridConfig, ModelConfig, SoftPromptConfig, TaskConfig, ZeroShot
from spt_fast.config.output import location
from spt_fast.driver.run import run_cells as run_in_workers
from spt_fast.errors import ConfigError, StoreError
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.report.folder import write_tables
from spt_fast.storage import lock, open_storage, remote
from spt_fast.storage.lock import STALE_S, Owner
from spt_fast.storage.remote import LOCK, UrlStorage
from spt_fast.store import RESULT, Store
from spt_fast.worker.events import CellDone, CellTrained
from tests.helpers.cells import cell, result
from tests.helpers.running import Inline, Listener, numbers, run_grid
from tests.helpers.tiny import tiny_model


def storage_at(url: str) -> UrlStorage:
    storage = open_storage(url)
    assert isinstance(storage, UrlStorage)
    return storage


def ended_process() -> int:
    """The id of a process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


# The lock


def test_a_driver_that_lives_is_named_to_the_second(url: str) -> None:
    with closing(storage_at(url)) as first:
        first.lock()
        told = rf"another `spt-fast run` is at work here \(process \d+ on .+, seen \d+ s ago\); .* delete {url}/\.lock"
        with pytest.raises(StoreError, match=told):
            storage_at(url).lock()
    assert open_storage(url).names("") == []


@pytest.mark.parametrize("who", ["has not been heard of for long", "was a process of this machine that has ended", "is broken"])
def test_the_lock_of_a_driver_that_is_gone_is_taken_over(url: str, who: str) -> None:
    owner, storage = Owner.here(), storage_at(url)
    if who == "has not been heard of for long":
        owner = replace(owner, machine="another", time=time.time() - STALE_S - 1)
    elif who == "was a process of this machine that has ended":
        owner = replace(owner, pid=ended_process())
        if not owner.machine:
            pytest.skip("this system does not say what machine it is")
    storage.write(LOCK, b"{" if who == "is broken" else owner.data)
    assert not storage.in_use
    storage.lock()
    assert storage.in_use
    storage.close()
    assert not storage.in_use


def test_an_ended_process_of_another_machine_may_be_alive_there(url: str) -> None:
    storage = storage_at(url)
    storage.write(LOCK, replace(Owner.here(), machine="another", pid=ended_process()).data)
    assert storage.in_use
    with pytest.raises(StoreError, match="another `spt-fast run`"):
        storage.lock()


@pytest.mark.parametrize(("harm", "told"), [("taken", "was taken over by process 7 on elsewhere"), ("deleted", "was deleted")])
def test_a_driver_whose_lock_is_lost_writes_nothing_more(url: str, harm: str, told: str) -> None:
    ours, other = storage_at(url), storage_at(url)
    ours.lock()
    ours.write("before", b"1")
    if harm == "taken":
        other.write(LOCK, replace(Owner.here(), host="elsewhere", pid=7).data)
    else:
        other.remove(LOCK)
    with pytest.raises(StoreError, match=told):
        ours.renew()
    for write in (lambda: ours.write("after", b"2"), lambda: ours.remove("before"), lambda: ours.remove_folder("")):
        with pytest.raises(StoreError, match=told):
            write()
    ours.close()
    left = [LOCK, "before"] if harm == "taken" else ["before"]
    assert sorted(other.names("")) == left, "nor does it give back what is another's"


class Later:
    """The module `time`, so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return time.time() + self._seconds


def test_a_driver_that_wakes_up_looks_before_it_writes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = storage_at(url), storage_at(url)
    ours.lock()
    with monkeypatch.context() as patch:
        patch.setattr(lock, "time", Later(STALE_S))
        ours.write("file", b"1")
        renewed = Owner.read(other.read(LOCK))
        assert renewed is not None
        assert renewed.age_s < 1
    other.write(LOCK, replace(Owner.here(), host="elsewhere", pid=7).data)
    with monkeypatch.context() as patch:
        patch.setattr(lock, "time", Later(2 * STALE_S))
        with pytest.raises(StoreError, match="was taken over"):
            ours.write("file", b"2")
    ours.close()
    assert other.read("file") == b"1"


def test_the_lock_is_renewed_while_its_driver_lives(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FLUSH_S", 0.01)
    monkeypatch.setattr(remote, "RENEW_S", 0.0)
    with closing(storage_at(url)) as storage:
        storage.lock()
        first, deadline = storage.read(LOCK), time.monotonic() + 20
        while storage.read(LOCK) == first:
            assert time.monotonic() < deadline


class Plain(MemoryFileSystem):
    """An object store without conditional puts."""

    protocol = "plain"
    store: dict[str, Any] = {}  # noqa: RUF012  (as the class it is of)
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.removeprefix("plain://")))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        if mode == "create":
            raise NotImplementedError
        super().pipe_file(path, value)


def test_where_no_put_is_conditional_who_came_last_has_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("plain", Plain, clobber=True)
    first, second = storage_at("plain://runs/x"), storage_at("plain://runs/x")
    first.lock()
    with pytest.raises(StoreError, match="another `spt-fast run`"):
        second.lock()
    first.close()
    put = UrlStorage._put

    def overtaken(self: UrlStorage, path: str, data: bytes) -> None:
        put(self, path, data)
        put(self, path, Owner.here().data)

    monkeypatch.setattr(UrlStorage, "_put", overtaken)
    with pytest.raises(StoreError, match="another `spt-fast run`"):
        second.lock()


# Events and logs


def test_events_are_told_while_their_driver_lives_and_grow_into_parts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", 500)
    monkeypatch.setattr(remote, "FLUSH_S", 0.0)
    store = Store(url)
    for i in range(40):
        store.event("done", number=i)
        assert [event["number"] for event in Store(url).events()][-1] == i
    store.close()
    assert [event["number"] for event in Store(url).events()] == list(range(40))
    sizes = [len(open_storage(url).read(f"events/{name}")) for name in open_storage(url).names("events")]
    assert len(sizes) > 3
    assert max(sizes) < 700


def test_an_event_waits_for_others_unless_it_is_the_first(url: str) -> None:
    store = Store(url)
    store.event("run", cells=1, todo=1)
    store.event("phase", model="m", worker=0, phase="load")
    assert [event["event"] for event in Store(url).events()] == ["run"]
    store.close()
    assert [event["event"] for event in Store(url).events()] == ["run", "phase"]


def test_what_workers_print_is_where_the_sentences_say_and_is_gone_on_with(url: str) -> None:
    for printed in ("first\n", "second\n"):
        store = Store(url)
        path = store.log("org/model")
        with path.open("a") as file:
            file.write(printed)
        store.close()
        assert not path.exists(), "nothing is left on this machine"
    assert store.log_name("org/model") == f"{url}/logs/org--model.log"
    assert store.text("logs/org--model.log") == "first\nsecond\n"


def test_logs_that_cannot_be_brought_to_their_place_stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://logs/kept")
    path = store.log("m")
    path.write_text("why it died")

    def down(*_: object, **__: object) -> None:
        raise OSError("the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", down)
        with pytest.raises(StoreError, match=r"cannot be written \(OSError: the network is down\); what workers .* is in /"):
            store.close()
    assert path.read_text() == "why it died"
    path.unlink()


# Asking a network as little as possible


def test_a_thousand_cells_are_told_apart_by_one_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://many")
    for i in range(1000):
        store.put(f"cells/{i:04}/{RESULT if i % 2 else 'failure.json'}", "{}")
    asked: list[str] = []

    def counted(what: str) -> Callable[..., Any]:
        real = getattr(MemoryFileSystem, what)

        def ask(self: Any, *arguments: Any, **settings: Any) -> Any:
            asked.append(what)
            return real(self, *arguments, **settings)

        return ask

    for what in ("find", "exists", "info", "cat_file"):
        monkeypatch.setattr(MemoryFileSystem, what, counted(what))
    assert (len(store.done()), len(store.failed())) == (500, 500)
    assert asked == ["find", "find"]


def test_a_network_that_fails_is_a_sentence_and_nothing_is_taken_for_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    store, one = Store("memory://down"), cell()
    store.put_result(one, result(None))

    def down(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand pages more")

    for what in ("find", "cat_file", "ls", "info", "pipe_file"):
        monkeypatch.setattr(MemoryFileSystem, what, down)
    for ask in (store.done, store.events, store.rows.read, lambda: store.result(one.key), lambda: store.put("x", "")):
        with pytest.raises(StoreError, match=r"memory://down/.*\(ConnectionError: no route to host\)$"):
            ask()
    with pytest.raises(StoreError, match="no route to host"):
        status_of("memory://down")


# What cannot be used


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("nope://bucket/x", "unknown scheme 'nope'; use s3, gs, az"),
        ("simplecache::s3://bucket/x", "is a URL inside another"),
        ("s3://bucket/runs*", "would be taken for a pattern"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_sentence(where: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Store(where)


def test_a_url_that_path_has_mangled_is_no_folder() -> None:
    with pytest.raises(ConfigError, match=r"went through pathlib\.Path, which takes a slash away"):
        location(Path("s3://bucket/x"))


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_package_that_is_missing_is_named(scheme: str, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    for ask in (Store, status_of):
        with pytest.raises(ConfigError, match=rf"{scheme}:// needs {package}, which is not installed: `pip install {package}`"):
            ask(f"{scheme}://bucket/x")


def test_a_file_url_is_the_folder_that_it_names(tmp_path: Path) -> None:
    assert Store(f"file://{tmp_path}").root == tmp_path


def test_a_url_keeps_both_its_slashes_and_loses_the_last() -> None:
    grid = GridConfig(name="g", models=(ModelConfig(id="m"),), tasks=(TaskConfig(task="zoo-mcq"),), output="s3://b/runs/x/")
    assert (grid.output, grid.folder) == ("s3://b/runs/x", "s3://b/runs/x")


# A whole grid


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> GridConfig:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "one", hidden_size=32, positions=4096)
    return GridConfig(
        name="g",
        models=(ModelConfig(id=str(folder / "one")),),
        tasks=(TaskConfig(task="zoo-mcq"),),
        protocols=(ZeroShot(), SoftPromptConfig(length=3, steps=3, batch_size=2, lr=0.05, evaluate_at=(0, 2))),
        limit=4,
        engine={"kind": "echo"},
        output=folder / "run",
    )


def test_a_grid_comes_to_the_same_behind_a_url(grid: GridConfig, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = run_grid(grid), run_grid(replace(grid, output=url))
    assert there.folder == url
    assert there.complete
    assert numbers(there) == numbers(here)
    for each in (here, there):
        tell(each.folder, as_json=False)
    assert capsys.readouterr().out.rstrip().endswith(f"{url}/report.html, report.md, results.csv, results.json")
    first, second = (Store(each.folder) for each in (here, there))
    assert second.text("results.csv") == first.text("results.csv")
    assert set(second.resolved()) == set(first.resolved())
    assert {name.split("/")[0] for name in open_storage(url).names("")} == {
        *("grid.yaml", "results.csv", "results.json", "report.md", "report.html", ".tables.json"),
        *("cells", "events", "rows"),
    }
    assert "2 done, 0 failed, 0 left" in status_of(url)
    for verb in ("status", "report"):
        with pytest.raises(SystemExit) as ended:
            main([verb, url])
        assert ended.value.code == 0
    assert "2 done, 0 failed, 0 left" in capsys.readouterr().out
    (learnt,) = (cell for cell in there.cells if cell.label == "soft_prompt")
    prompt = SoftPrompt.load(f"{url}/cells/{learnt.key}/prompt.safetensors")
    assert prompt.key == SoftPrompt.load(Path(here.folder) / "cells" / learnt.key / "prompt.safetensors").key
    with pytest.raises(StoreError, match=r"reading .*/nowhere: FileNotFoundError"):
        SoftPrompt.load(f"{url}/nowhere")
    listener = Listener()
    again = run_grid(replace(grid, output=url), watch=listener.watch)
    assert (listener.seen, numbers(again)) == ([], numbers(here))


def test_a_driver_that_is_killed_between_two_files_of_a_cell_has_not_done_it(
    grid: GridConfig, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    put, written = UrlStorage.write, []

    def write(self: UrlStorage, path: str, data: bytes) -> None:
        if path.endswith(RESULT):
            written.append(path)
            if len(written) == 2:
                raise Killed
        put(self, path, data)

    asked = replace(grid, output=url)
    with monkeypatch.context() as patch:
        patch.setattr(UrlStorage, "write", write)
        with pytest.raises(Killed):
            run_in_workers(asked, executor=Inline())
    (half,) = {path.split("/")[1] for path in written} - Store(url).done()
    assert "samples.parquet" in open_storage(url).names(f"cells/{half}")
    listener = Listener()
    result = run_grid(asked, watch=listener.watch)
    assert result.complete
    assert listener.keys(CellDone) == [half]
    assert not listener.keys(CellTrained), "nothing learnt is learnt twice"
    write_tables(result.folder)
    assert len(json.loads(Store(url).text("results.json"))["cells"]) == 2


def test_a_worker_that_dies_leaves_its_log_where_its_failure_says(
    grid: GridConfig, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such library >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    failures = run_in_workers(replace(grid, output=url)).failures.values()
    ((_, named),) = {tuple(failure.reason.split("; see ")) for failure in failures}
    assert named.startswith(f"{url}/logs/")
    assert set(Store(url).text(named.removeprefix(f"{url}/")).splitlines()) == {"no such library"}
