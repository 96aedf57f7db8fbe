"""The run folder: what is done stays done, what was cut short is not there, and only one driver works in it."""

from __future__ import annotations

import math
import os
from dataclasses import MISSING, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from spt_fast.config import SoftPromptConfig
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError, StoreError
from spt_fast.models.identity import Model
from spt_fast.plan.cell import Cell, TaskRows
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.storage import open_storage
from spt_fast.storage.files import BESIDE, write_whole
from spt_fast.store import Results, Store
from spt_fast.store import samples as stored_samples
from spt_fast.types import Sample, TrainingStep
from tests.helpers.cells import cell, result


def remove(store: Store, path: str) -> None:
    open_storage(store.root).remove(path)


def test_a_cell_is_done_when_its_result_is_there_and_reads_back_as_it_was(place: Location) -> None:
    store, one, told = Store(place), cell(), result(None)
    assert store.done() == set()
    store.put_result(one, told)
    assert store.done() == {one.key}
    stored = store.result(one.key)
    assert stored.metrics[None][0] == told.metrics[None][0]
    assert math.isnan(stored.metrics[None][1].value)
    assert (stored.costs, stored.provenance) == (told.costs, told.provenance)
    rows = store.samples(one.key)
    assert [row["format_ok"] for row in rows] == [False, True]
    assert rows[0]["option_logprobs"] == [-1.0, -2.5]
    assert rows[0]["completion"] == "<script>"


def test_samples_without_the_marker_are_not_a_done_cell(place: Location) -> None:
    store, one = Store(place), cell()
    store.put_result(one, result(None))
    remove(store, f"cells/{one.key}/result.json")
    assert store.done() == set()


def test_a_failed_cell_says_why_until_it_is_done(place: Location) -> None:
    store, one = Store(place), cell()
    store.put_failure(one, "EngineError", "it died")
    assert store.failed() == {one.key}
    assert store.failure(one.key).reason == "it died"
    store.put_result(one, result(None))
    assert store.failed() == set()


def test_trained_prompts_are_found_again_only_when_all_their_steps_are_there(place: Location) -> None:
    store, one = Store(place), cell(SoftPromptConfig(steps=2, evaluate_at=(0,)))
    prompts = {s: SoftPrompt(vectors=np.full((3, 4), s, np.float32), provenance={"step": str(s)}) for s in (0, 2)}
    curve = [TrainingStep(step=s, loss=1.0 / s, grad_norm=0.5) for s in (1, 2)]
    store.learnt.put(one, prompts, curve)
    found = store.learnt.of(one)
    assert found is not None
    assert {step: prompt.key for step, prompt in found.items()} == {s: p.key for s, p in prompts.items()}
    assert store.learnt.of(cell(SoftPromptConfig(steps=2, evaluate_at=(0, 1)))) is None
    assert store.text(f"cells/{one.key}/curve.csv").splitlines() == [
        "step,loss,grad_norm",
        "1,1.0,0.5",
        "2,0.5,0.5",
    ]


def test_the_curve_gets_the_metrics_of_its_steps(place: Location) -> None:
    store, one = Store(place), cell(SoftPromptConfig(steps=2, evaluate_at=(0,)))
    prompts = {s: SoftPrompt(vectors=np.ones((3, 4), np.float32)) for s in (0, 2)}
    store.learnt.put(one, prompts, [TrainingStep(step=s, loss=1.0, grad_norm=0.5) for s in (1, 2)])
    for _ in range(2):  # a second time, as after a kill between the curve and the marker
        store.put_result(one, result(0, 2))
        assert store.text(f"cells/{one.key}/curve.csv").splitlines() == [
            "step,loss,grad_norm,format_following,given_format",
            "0,,,0.5,",
            "1,1.0,0.5,,",
            "2,1.0,0.5,0.5,",
        ]


def test_two_drivers_cannot_share_a_folder(place: Location) -> None:
    first, second = Store(place), Store(place)
    first.lock()
    assert second.in_use
    with pytest.raises(StoreError, match="another `spt-fast run`"):
        second.lock()
    first.close()
    assert not second.in_use
    second.lock()
    second.close()


def test_what_a_killed_driver_left_half_written_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "cells" / "abc" / f"{BESIDE}xyz"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    store = Store(tmp_path)
    store.lock()
    store.close()
    assert not left.exists()


def test_done_cells_are_not_searched_for_what_was_half_written(tmp_path: Path) -> None:
    store, one = Store(tmp_path), cell()
    store.put_result(one, result(None))
    beside = [tmp_path / f"{BESIDE}a", tmp_path / "rows" / f"{BESIDE}b", store.root / "cells" / "undone" / f"{BESIDE}c"]
    for left in beside:
        left.parent.mkdir(exist_ok=True)
        left.write_text("half")
    store.lock()
    store.close()
    assert not any(left.exists() for left in beside)
    assert store.done() == {one.key}


def test_results_are_counted_without_being_read(place: Location) -> None:
    store, one, other = Store(place), cell(), cell(SoftPromptConfig(steps=2, evaluate_at=()))
    store.put_result(one, result(None))
    store.put_result(other, result(2))
    found = Results(store, [one.key, other.key])
    store.put(f"cells/{other.key}/result.json", "{")
    assert (len(found), list(found), other.key in found, "no" in found) == (2, [one.key, other.key], True, False)
    assert found[one.key].costs == {"train_s": 1.5}
    with pytest.raises(StoreError, match="run the grid again with --fresh"):
        found[other.key]
    with pytest.raises(KeyError):
        found["no"]


def test_another_result_is_another_version(place: Location) -> None:
    store, one, other = Store(place), cell(), cell(seed=1)
    assert store.versions() == {}
    store.put_failure(one, "EngineError", "it died")
    failed = store.versions()
    store.put_result(one, result(None))
    done = store.versions()
    store.put_result(one, result(None))
    again = store.versions()
    assert [found[one.key][0] for found in (failed, done, again)] == ["failure.json", "result.json", "result.json"]
    assert isinstance(place, str) or done != again, "the same words, written anew"
    store.put_result(one, result(0))
    assert store.versions() != again
    again = store.versions()
    assert store.versions() == again
    store.learnt.put(other, {0: SoftPrompt(vectors=np.ones((3, 4), np.float32))}, [])
    assert store.versions() == again, "a cell that only began has none"


NAMES = ("plain", "a: b", "{x}", "\u00e9\U0001f600", "\x7f\x85\u2028\ufeff", "line\nbreak", "0123456789012345", "null")


def test_the_grid_reads_back_as_it_was_by_us_and_by_any_yaml(place: Location) -> None:
    store = Store(place)
    told = {"name": "g", "models": [], "cells": {name: {"model": name, "seed": None, "closed_ended": True} for name in NAMES}}
    store.grid_file.put(told)
    assert store.grid_file.read() == told
    assert yaml.safe_load(store.text("grid.yaml")) == told
    store.put("grid.yaml", yaml.safe_dump(told, sort_keys=False))
    assert store.grid_file.read() == told, "also where a person has written it anew"


def test_a_grid_that_says_what_it_said_is_not_written_again(tmp_path: Path) -> None:
    store, path = Store(tmp_path), tmp_path / "grid.yaml"
    store.grid_file.put({"name": "g", "cells": {}})
    os.utime(path, ns=(1, 1))
    store.grid_file.put({"name": "g", "cells": {}})
    assert path.stat().st_mtime_ns == 1
    store.grid_file.put({"name": "h", "cells": {}})
    assert store.grid_file.read() == {"name": "h", "cells": {}}


@pytest.mark.parametrize("text", ["cells: [", "\x00", "a\ncells:\n b: {}\n", "{a\ncells:\n b\n"])
def test_a_grid_that_is_no_yaml_is_a_value_error_or_no_run(place: Location, text: str) -> None:
    Store(place).put("grid.yaml", text)
    with pytest.raises(ConfigError, match="was not written by a run"):
        Store(place).resolved()


def test_samples_read_back_column_by_column(place: Location) -> None:
    store, one, told = Store(place), cell(), result(None)
    sample = replace(told.samples[0], scores={"f1": 0.5}, answers=("A", "B"), chosen=None)
    store.put_result(one, replace(told, samples=(sample, told.samples[1])))
    first, second = store.cell_result(one.key).samples
    assert first == replace(sample, prompt="Q ??")
    assert second.scores == {}


@pytest.mark.parametrize("harm", ["gone", "cut short", "a column less"])
def test_damaged_samples_are_a_sentence_with_the_mend(place: Location, harm: str) -> None:
    store, one = Store(place), cell()
    store.put_result(one, result(None))
    path = f"cells/{one.key}/samples.parquet"
    if harm == "gone":
        remove(store, path)
    else:
        storage = open_storage(place)
        data = storage.read(path)
        less = pa.BufferOutputStream()
        pq.write_table(pq.read_table(pa.BufferReader(data)).drop_columns(["knows"]), less)
        storage.write(path, data[:-20] if harm == "cut short" else less.getvalue().to_pybytes())
    with pytest.raises(StoreError, match="run the grid again with --fresh"):
        store.samples(one.key, ["example", "knows"])


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StoreError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_result_is_a_sentence_with_the_mend(place: Location) -> None:
    store, one = Store(place), cell()
    store.put_result(one, result(None))
    store.put(f"cells/{one.key}/result.json", "{")
    with pytest.raises(StoreError, match="run the grid again with --fresh"):
        store.result(one.key)


def test_events_are_told_in_the_order_in_which_they_came(place: Location) -> None:
    for run in range(3):
        store = Store(place)
        store.event("run", number=run, cells=1, todo=1)
        store.event("end", number=run)
        store.close()
    assert [(event["event"], event["number"]) for event in Store(place).events()] == [
        (what, run) for run in range(3) for what in ("run", "end")
    ]


def test_a_cell_that_is_discarded_is_gone_and_others_are_not(place: Location) -> None:
    store, one, other = Store(place), cell(), cell(SoftPromptConfig())
    for each in (one, other):
        store.put_result(each, result(None))
    store.discard(one.key)
    store.discard("never there")
    assert store.done() == {other.key}
    with pytest.raises(StoreError, match="cannot be read"):
        store.samples(one.key)


def test_an_event_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.event("run", cells=3, todo=3)
    store.close()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "ev')
    assert [event["event"] for event in store.events()] == ["run"]


@pytest.mark.parametrize(
    "other",
    [
        cell(model=Model(name="m", source="/m", fingerprint="sha256:1")),
        cell(model=Model(name="m", source="/m", fingerprint="sha256:0", dtype="float32")),
        cell(model=Model(name="m", source="/m", fingerprint="sha256:0", chat_template="if_any")),
        cell(task=TaskRows(name="t", version=2, content="rows")),
        cell(task=TaskRows(name="t", version=1, content="other rows")),
        cell(task=TaskRows(name="t", version=1, content="rows", limit=5)),
        cell(engine={"max_model_len": 128}),
        cell(engine={"kind": "transformers"}),
        cell(SoftPromptConfig()),
    ],
)
def test_whatever_can_change_a_result_changes_the_key(other: Cell) -> None:
    assert other.key != cell().key


@pytest.mark.parametrize("name", ["length", "steps", "batch_size", "lr", "weight_decay", "init_std", "evaluate_at"])
def test_every_setting_of_the_soft_prompt_changes_the_key(name: str) -> None:
    one = SoftPromptConfig.paper()
    value = (1,) if name == "evaluate_at" else type(getattr(one, name))(getattr(one, name) + 1)
    assert cell(SoftPromptConfig.paper(**{name: value})).key != cell(one).key
    assert cell(one, seed=1).key != cell(one, seed=0).key


@pytest.mark.parametrize(
    "same",
    [
        cell(model=Model(name="called otherwise", source="/elsewhere", fingerprint="sha256:0")),
        cell(model=Model(name="m", source="/m", fingerprint="sha256:0", tensor_parallel=4)),
        cell(engine={"gpu_memory_utilization": 0.5, "window": 3}),
        cell(label="zero_shot[a=b]"),
    ],
)
def test_what_cannot_change_a_result_leaves_the_key_alone(same: Cell) -> None:
    assert same.key == cell().key


WHOLE = Sample(
    example="e",
    step=4,
    prompt="p",
    completion="c",
    finish_reason="length",
    target="B. y",
    extracted="x",
    rule="r",
    format_ok=True,
    knows=True,
    correct=True,
    answers=("B. y", "y"),
    scores={"f1": 0.5},
    option_logprobs=(-1.0, -2.0),
    chosen=1,
    chosen_per_byte=2,
    knows_per_byte=True,
    format_by_rule=True,
    knows_by_rule=True,
    group="g",
    options=("A. x", "B. y"),
    span=(3, 4),
    bound=True,
    gold=1,
    option_priors=(-0.5, -0.25),
    cloze_texts=("x", "ÿ"),
    cloze_logprobs=(-3.0, -math.inf),
    unconditional_logprobs=(-5.0, -6.0),
    chosen_debiased=3,
    chosen_cloze=4,
    chosen_cloze_per_byte=5,
    chosen_cloze_pmi=6,
    knows_debiased=True,
    knows_cloze=True,
    knows_cloze_per_byte=True,
    knows_cloze_pmi=True,
    knows_best=True,
    answer_texts=("y",),
    answer_logprobs=(-2.5,),
    answer_bits_per_byte=3.6,
    answer_logprob_margin=-1.5,
)
"""Every field has another value than its default."""


def test_no_field_of_a_sample_is_lost_in_the_store(place: Location) -> None:
    for each in fields(Sample):
        assert each.default is MISSING or getattr(WHOLE, each.name) != each.default, f"{each.name}: set it in WHOLE"
    store, one = Store(place), cell()
    samples = (WHOLE, replace(WHOLE, cloze_texts=("\ud800", "b")))
    store.put_result(one, replace(result(4), samples=samples))
    assert set(store.samples(one.key)[0]) == {each.name for each in fields(Sample)}
    whole, odd = store.cell_result(one.key).samples
    assert whole == WHOLE
    assert odd.cloze_texts == ("?", "b"), "a lone surrogate cannot be kept"


def test_the_columns_of_samples_are_the_fields_of_a_sample_and_unknown_types_are_refused() -> None:
    assert stored_samples.schema().names == [each.name for each in fields(Sample)]
    with pytest.raises(TypeError, match=r"knows no column for a field of the type .*bytes"):
        stored_samples._kind(bytes | None)
