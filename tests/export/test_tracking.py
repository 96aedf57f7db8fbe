"""MLflow and W&B: by their own clients, into local stores, read back by their own readers. Without them, a sentence."""

from __future__ import annotations

import importlib.util
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from spt_fast.errors import ConfigError
from spt_fast.export import export
from tests.helpers.planted import CELLS, FOLDER_MODEL, HOSTILE, HUB_MODEL, WAITING, plant

EXPERIMENT = "night 7/8"
FEW = [cell for cell in CELLS if cell.model.name == HUB_MODEL and cell.task.name == "gsm8k"]
"""Zero-shot, few-shot, and the soft prompt under two seeds."""


@pytest.fixture
def run_of_few(tmp_path: Path) -> Path:
    return plant(tmp_path / "run", FEW, waiting=FEW[-1:])


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_package_that_is_not_there_is_named(package: str, run_of_few: Path) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=f"the package {package} is not installed; pip install {package}"):
        export(run_of_few, package)
    assert not (run_of_few / f"export-{package}").exists()


# MLflow

THEIR_WARNINGS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
"""Of MLflow, about its own parts."""


def runs(uri: str) -> dict[str, Any]:
    """Cell key -> run of MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found = list(client.search_runs([experiment.experiment_id]))
    assert len({run.data.tags["spt_fast.cell"] for run in found}) == len(found), "each cell once"
    return {run.data.tags["spt_fast.cell"]: run for run in found}


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return pytest.importorskip("mlflow")


@THEIR_WARNINGS
@pytest.mark.parametrize("store", ["database", "files"])
def test_mlflow_has_a_run_for_each_cell_with_its_curve_and_its_samples(
    store: str, run_of_few: Path, mlflow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if store == "files":  # which MLflow asks to be sure about
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
        uri = (tmp_path / "mlruns").as_uri()
    else:
        uri = f"sqlite:///{run_of_few}/export-mlflow/mlflow.db"
    done = export(run_of_few, "mlflow")
    assert (done.count, done.where) == (3, uri if store == "files" else f"{run_of_few}/export-mlflow")
    found = runs(uri)
    assert set(found) == {cell.key for cell in FEW[:3]}
    soft = found[FEW[2].key]
    assert soft.info.status == "FINISHED"
    assert {name: soft.data.params[name] for name in ("model", "task", "protocol", "seed", "protocol.length")} == {
        "model": HUB_MODEL,
        "task": "gsm8k",
        "protocol": "soft_prompt",
        "seed": "0",
        "protocol.length": "3",
    }
    client = mlflow.MlflowClient(tracking_uri=uri)
    curve = {point.step: point.value for point in client.get_metric_history(soft.info.run_id, "format_following")}
    assert curve == {0: 0.0, 2: 0.5}
    assert {point.step for point in client.get_metric_history(soft.info.run_id, "train_loss")} == {1, 2}
    assert "exact_match_given_format" not in found[FEW[0].key].data.metrics, "it is undefined there"
    assert all(math.isfinite(value) for run in found.values() for value in run.data.metrics.values())
    samples = client.download_artifacts(soft.info.run_id, "samples.parquet", str(tmp_path))
    assert pq.read_table(samples).column("completion").to_pylist() == [*HOSTILE, *HOSTILE]


@THEIR_WARNINGS
def test_a_run_that_went_on_adds_to_mlflow_only_what_is_new(run_of_few: Path, mlflow: Any) -> None:
    assert export(run_of_few, "mlflow").count == 3
    assert export(run_of_few, "mlflow").count == 0
    plant(run_of_few, FEW, waiting=())
    assert export(run_of_few, "mlflow").count == 1
    assert set(runs(f"sqlite:///{run_of_few}/export-mlflow/mlflow.db")) == {cell.key for cell in FEW}


@THEIR_WARNINGS
def test_a_folder_that_is_named_goes_before_the_environment(
    run_of_few: Path, mlflow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:word@127.0.0.1:1")
    export(run_of_few, "mlflow", tmp_path / "named")
    assert len(runs(f"sqlite:///{tmp_path}/named/mlflow.db")) == 3


@THEIR_WARNINGS
def test_what_mlflow_refuses_is_told_in_a_sentence(run_of_few: Path, mlflow: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--format mlflow: \w+: ") as raised:
        export(run_of_few, "mlflow", "nosuch://server")
    assert "\n" not in str(raised.value)


# Weights & Biases


def records(folder: Path) -> list[list[Any]]:
    """The records of each offline run, which `wandb sync` sends: the client's messages, in a log as LevelDB's."""
    from wandb.proto.wandb_internal_pb2 import Record

    return [
        [Record.FromString(data) for data in log_records(path.read_bytes())]
        for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    ]


def log_records(data: bytes) -> Iterator[bytes]:
    """Blocks of 32 KiB; in front of each piece its checksum, its length and whether it is whole (1), first, middle or last (4).

    https://github.com/google/leveldb/blob/main/doc/log_format.md, with seven bytes in front of it all.
    """
    assert data[:4] == b":W&B"
    at, pieces = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<4xHB", data[at : at + 7])
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield pieces
            pieces = b""


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "theirs"))
    for name in ("WANDB_PROJECT", "WANDB_API_KEY", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    client = pytest.importorskip("wandb")
    client.teardown()  # it reads its settings once a process
    yield client
    client.teardown()


def test_weights_and_biases_has_a_run_for_each_model(wandb: Any, tmp_path: Path) -> None:
    kept = [cell for cell in CELLS if cell.task.name == "zoo-json"]
    plant(tmp_path / "run", kept, waiting=[WAITING])
    assert export(tmp_path / "run", "wandb", tmp_path / "out").count == 2
    found = {}
    for of_run in records(tmp_path / "out"):
        (about,) = [record.run for record in of_run if record.WhichOneof("record_type") == "run"]
        found[about.display_name] = (about, of_run)
    assert set(found) == {HUB_MODEL, FOLDER_MODEL}
    about, of_run = found[HUB_MODEL]
    assert (about.project, about.run_group) == ("night 7-8", EXPERIMENT)

    history = [
        {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
        for record in of_run
        if record.WhichOneof("record_type") == "history"
    ]
    name = "zoo-json@soft_prompt@seed1"
    curve = {
        int(row["tuning_step"]): float(row[f"{name}/format_following"]) for row in history if f"{name}/format_following" in row
    }
    assert curve == {0: 0.0, 2: 0.5}
    losses = {int(row["tuning_step"]): float(row[f"{name}/train_loss"]) for row in history if f"{name}/train_loss" in row}
    assert losses == {1: 1.0, 2: 0.5}
    summary = {
        item.key or ".".join(item.nested_key): item.value_json
        for record in of_run
        if record.WhichOneof("record_type") == "summary"
        for item in record.summary.update
    }
    assert float(summary["zoo-json@few_shot/exact_match"]) == 0.3
    (artifact,) = [record.artifact for record in of_run if record.artifact.type == "samples"]
    names = {entry.path for entry in artifact.manifest.contents}
    assert f"{name}.parquet" in names
    assert not list((tmp_path / "out").glob("*.parquet")), "nothing of ours is left beside the client's files"


def test_nobody_logged_in_is_told_in_a_sentence(wandb: Any, run_of_few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(run_of_few))  # where keys are kept
    monkeypatch.setenv("NETRC", str(run_of_few / "netrc"))
    with pytest.raises(ConfigError, match=r"^--format wandb: \w+: ") as raised:
        export(run_of_few, "wandb")
    assert "\n" not in str(raised.value)
