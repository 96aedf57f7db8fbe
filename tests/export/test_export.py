"""`spt-fast export`: what every format has in common, and what of a wrong request is said."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spt_fast.analysis.names import portable
from spt_fast.analysis.runs import read_run
from spt_fast.cli import main
from spt_fast.config.output import Location
from spt_fast.errors import ConfigError, StoreError
from spt_fast.export import export, formats
from spt_fast.export.files import growing
from spt_fast.export.lm_eval import folder_of
from spt_fast.export.source import done_cells
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.store import Store
from spt_fast.store.reuse import copy_cells
from tests.helpers.places import url_in
from tests.helpers.planted import CELLS, FOLDER_MODEL, HUB_MODEL, SOFT, WAITING, plant, prompts

TO_FILES = ("lm-eval", "eee", "peft", "csv", "parquet", "hub")
FEW = CELLS[:4]


def spt_fast(*arguments: object) -> int:
    """Run a command; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", TO_FILES)
def test_an_export_says_where_it_went_and_what_it_could_not_carry(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = plant(tmp_path / "run", FEW, waiting=FEW[-1:])
    assert spt_fast("export", folder, "--format", format) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{folder}/export-{format}: ")
    assert out.endswith("; 1 more of the grid are not done\n")
    record = json.loads((folder / f"export-{format}" / "export.json").read_text())
    assert record["not_carried"], "no format carries all"
    assert err.splitlines() == [f"not carried over: {sentence}" for sentence in record["not_carried"]]
    assert record["missing"] == [FEW[-1].title]
    assert len(files(folder / f"export-{format}")) > 1


@pytest.mark.parametrize("format", TO_FILES)
def test_a_run_at_a_url_is_exported_as_one_of_this_machine(format: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = url_in("memory", request)
    plant(url)
    here = Store(tmp_path / "run")
    here.lock()
    here.put("grid.yaml", Store(url).text("grid.yaml"))
    here.put("events.jsonl", "".join(json.dumps(event) + "\n" for event in Store(url).events()))
    copy_cells(here, Store(url), [cell.key for cell in CELLS])
    here.close()
    with pytest.raises(ConfigError, match=r"--to: memory://\S* is not on this machine; name a folder here"):
        export(url, format)
    export(url, format, tmp_path / "there")
    export(tmp_path / "run", format, tmp_path / "here")
    assert files(tmp_path / "there") == files(tmp_path / "here")
    for name in files(tmp_path / "here"):
        if name.endswith(".safetensors"):  # the order of whose header is left to chance
            there, here_too = (SoftPrompt.load((tmp_path / at / name).parent) for at in ("there", "here"))
            assert (there.key, there.provenance) == (here_too.key, here_too.provenance)
        elif format != "eee":  # its records say when they were made
            assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


@pytest.mark.parametrize("format", ["lm-eval", "eee", "csv", "parquet"])
def test_samples_of_one_cell_at_a_time_are_in_memory(
    format: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rows(list[dict[str, Any]]):
        """A list that can be watched."""

    given_out: list[weakref.ref[Rows]] = []
    alive = []
    read: Callable[..., list[dict[str, Any]]] = Store.samples

    def samples(self: Store, *given: Any, **more: Any) -> Rows:
        alive.append(sum(rows() is not None for rows in given_out))
        rows = Rows(read(self, *given, **more))
        given_out.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(Store, "samples", samples)
    export(run_folder, format, tmp_path)
    assert len(alive) == len(CELLS) - 1
    assert max(alive) <= 1


def test_adapters_of_a_run_are_the_soft_prompts_of_its_last_steps(run_folder: Path, tmp_path: Path) -> None:
    done = export(run_folder, "peft", tmp_path)
    soft = [cell for cell in CELLS if cell.protocol is SOFT and cell is not WAITING]
    assert done.count == len(soft)
    for cell in soft:
        folder = tmp_path / portable(cell.model.name) / f"{cell.task.name}@soft_prompt@seed{cell.seed}"
        assert SoftPrompt.load(folder).key == prompts(cell)[2].key
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == (cell.model.source, cell.model.revision)


def test_a_soft_prompt_goes_to_peft_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = prompts(CELLS[2])[2]
    prompt.save(tmp_path / "gsm8k.safetensors")
    assert spt_fast("export", tmp_path / "gsm8k.safetensors", "--format", "peft") == 0
    assert capsys.readouterr().out == f"{tmp_path}/gsm8k-peft: 1 soft prompt\n"
    assert spt_fast("export", tmp_path / "gsm8k-peft", "--format", "soft-prompt", "--to", tmp_path / "back.safetensors") == 0
    back = SoftPrompt.load(tmp_path / "back.safetensors")
    assert (back.key, back.provenance) == (prompt.key, prompt.provenance)


@pytest.mark.parametrize("place", ["after_bos", "end"])
def test_soft_prompts_that_stand_elsewhere_than_in_front_are_left_out_and_told(tmp_path: Path, place: Any) -> None:
    behind = replace(CELLS[2], protocol=replace(SOFT, position=place))
    plant(tmp_path / "some", [CELLS[3], behind], waiting=())
    done = export(tmp_path / "some", "peft")
    assert done.count == 1
    assert any(f"gsm8k@soft_prompt@seed0: has position: {place}, and PEFT" in sentence for sentence in done.not_carried)
    plant(tmp_path / "all", [behind], waiting=())
    with pytest.raises(ConfigError, match="PEFT puts all in front of BOS, and none stands there"):
        export(tmp_path / "all", "peft")


@pytest.mark.parametrize(
    ("source", "format", "to", "said"),
    [
        ("run", "nosuch", None, r"--format: there is no 'nosuch'; choose from lm-eval, eee, peft"),
        ("nowhere", "csv", None, r"nowhere: is not a run folder"),
        ("nowhere", "soft-prompt", None, r"nowhere: is not there"),
        (
            "run",
            "soft-prompt",
            None,
            r"run: has no adapter_config\.json; --format soft-prompt takes the folder of a PEFT adapter",
        ),
        ("run", "peft", None, r"--format peft: there is no soft prompt to export: no done cell of the run has one"),
        ("run", "csv", "s3://bucket/x", r"--to: s3://bucket/x is a URL"),
        ("run", "csv", "run/grid.yaml", r"--to: .*grid\.yaml is a file; name a folder"),
        ("s3://bucket/a", "soft-prompt", None, r"one soft prompt is read from and written to this machine"),
    ],
)
def test_a_wrong_request_is_one_sentence(source: str, format: str, to: str | None, said: str, tmp_path: Path) -> None:
    plant(tmp_path / "run", FEW[:1], waiting=())
    before = files(tmp_path)
    place: Location = source if "://" in source else tmp_path / source
    where: Location | None = to if to is None or "://" in to else tmp_path / to
    with pytest.raises(ConfigError, match=said):
        export(place, format, where)
    assert files(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_told(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        export(run_folder, "csv", tmp_path / "file" / "inside")


def test_a_file_that_is_cut_short_does_not_appear(tmp_path: Path) -> None:
    def interrupted() -> None:
        with growing(tmp_path / "x.jsonl") as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_the_help_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert spt_fast("export", "--help") == 0
    told = capsys.readouterr().out
    assert all(f"{name:12} {what}" in told for name, what in formats().items())


# Names


def test_names_are_of_task_and_protocol_and_of_the_seed_where_there_are_several(run_folder: Path) -> None:
    names = {cell.name for cell in done_cells(read_run(run_folder), HUB_MODEL) if cell.place.task == "gsm8k"}
    assert names == {"gsm8k@zero_shot", "gsm8k@few_shot", "gsm8k@soft_prompt@seed0", "gsm8k@soft_prompt@seed1"}
    waiting = {cell.name for cell in done_cells(read_run(run_folder), FOLDER_MODEL)}
    assert "zoo-json@soft_prompt@seed0" in waiting, "also where the other seed is still to be done"


def test_settings_in_a_label_are_part_of_the_name_and_one_seed_is_not(tmp_path: Path) -> None:
    cells = [
        replace(CELLS[2], label=f"soft_prompt[evaluate_at=0/{steps},steps={steps}]", protocol=replace(SOFT, steps=steps))
        for steps in (2, 3)
    ]
    plant(tmp_path, [replace(cell, protocol=SOFT, engine={"kind": "echo", "x": i}) for i, cell in enumerate(cells)], waiting=())
    names = [cell.name for cell in done_cells(read_run(tmp_path))]
    assert names == ["gsm8k@soft_prompt@evaluate_at=0_2,steps=2", "gsm8k@soft_prompt@evaluate_at=0_3,steps=3"]


def test_names_that_would_be_alike_are_kept_apart(tmp_path: Path) -> None:
    cells = [replace(CELLS[0], label=f"zero_shot[a{sign}b]", engine={"kind": "echo", "x": sign}) for sign in ":/"]
    plant(tmp_path, cells, waiting=())
    names = [cell.name for cell in done_cells(read_run(tmp_path))]
    assert names == [f"gsm8k@zero_shot@a_b@{cell.key[:8]}" for cell in cells]


@pytest.mark.parametrize("name", ["..", ".", "../../x", "/etc/passwd", "a\0b", "con", "x" * 10 + "/..", "~", "", "a\nb", "🙂"])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    for made in (portable(name), folder_of(name)) if "\0" not in name else (portable(name),):
        inside = (tmp_path / made).resolve()
        assert inside.parent == tmp_path.resolve()
        assert inside != tmp_path.resolve()
