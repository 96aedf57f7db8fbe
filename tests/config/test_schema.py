"""The JSON Schema of a grid takes every grid that the reader takes, and refuses every kind of wrong one that a schema can."""

from __future__ import annotations

import json
import random
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from spt_fast import tasks
from spt_fast.cli import main
from spt_fast.config import PROTOCOLS, GridConfig, JudgeConfig, ModelConfig, PriceConfig, TaskConfig
from spt_fast.config.described import keys
from spt_fast.config.documents import plain_values
from spt_fast.config.reader import load_grid, parse_grid
from spt_fast.config.schema import grid_schema
from spt_fast.config.strict import key_of
from spt_fast.errors import ConfigError
from tests.fuzz.mutate import mutated

ROOT = Path(__file__).parents[2]
SCHEMA = jsonschema.Draft7Validator(grid_schema(tasks.names()))
CLASSES = (GridConfig, ModelConfig, TaskConfig, JudgeConfig, PriceConfig, *PROTOCOLS.values())

GRIDS = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "benchmarks").glob("*/*.yaml")}
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "cluster").glob("*.md")]
SHOWN = {
    f"{page.relative_to(ROOT)} {i}": text
    for page in PAGES
    for i, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.S))
    if re.search(r"^models:", text, re.M) and re.search(r"^tasks:", text, re.M)
}
KUBERAY = next(yaml.safe_load_all((ROOT / "cluster" / "kuberay.yaml").read_text()))["data"]["grid.yaml"]


def grid(**changed: str) -> str:
    """A small grid with other lines."""
    lines = {"name": "good", "models": "[zoo/base-40]", "tasks": "[zoo-mcq]", "protocols": "[zero_shot]"} | changed
    return "".join(f"{key}: {value}\n" for key, value in lines.items() if value)


def soft(settings: str) -> str:
    return grid(protocols=f"[{{soft_prompt: {{{settings}}}}}]")


def model(settings: str) -> str:
    return grid(models=f"[{{id: zoo/base-40, {settings}}}]")


def takes(text: str) -> bool:
    return bool(SCHEMA.is_valid(plain_values(text)))


GOOD = {
    **GRIDS,
    **SHOWN,
    "cluster/kuberay.yaml": KUBERAY,
    "protocols left out": grid(protocols=""),
    "null for what may be left out": grid(limit="null", judge="null", output="null", rerun="null", price="null", truth="null"),
    "a name of other letters": grid(name="Wörter_1.0+x"),
    "1e-3, which is text to YAML": soft("lr: 1e-3, weight_decay: 1e-5"),
    "a sweep": soft("length: [1, 2], lr: [0.01, auto], init: [normal, text], init_text: In short, init_std: 0.1"),
    "a sweep of lists": soft("betas: [[0.9, 0.99], [0.8, 0.99]], evaluate_at: [[0], [0, 80]]"),
    "a preset": grid(protocols="[soft_prompt: paper, {random_vectors: {preset: paper, length: 3}}]"),
    "a preset whose start is another": soft("preset: paper, init: text, init_text: In short"),
    "what goes with a preset": soft("preset: paper, init_std: 0.1"),
    "nothing behind a protocol": "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols:\n  - few_shot:\n",
    "a start from a file": soft("init: soft_prompt, init_from: given.safetensors"),
    "a setting at its default beside others": soft("init: normal, init_tokens: 5000"),
    "transfer": grid(protocols="[{transfer: {from: [zoo-mcq, zoo-json]}}, {transfer: {from: all}}]"),
    "lora": grid(protocols="[{lora: {targets: linear}}, {lora: {targets: [q_proj], rank: [4, 8]}}]"),
    "patience on the form": soft("patience: 20, patience_on: format, held_out: 16"),
    "overrides": model("soft_prompt: {lr: 0.01}, engine: {max_model_len: 32k}"),
    "overrides by a preset": model("soft_prompt: paper"),
    "a share of a GPU": model("gpus: 0.5"),
    "GPUs of several nodes": model("tensor_parallel: 8, pipeline_parallel: 2, gpus: 16"),
    "shares": grid(tasks="[{task: zoo-mcq, allow_left_out: 30%}, {task: ./a.yaml, allow_left_out: 0.3}]", rerun="2%"),
    "a judge": grid(judge="zoo/base-95"),
    "a judge with settings": grid(judge="{model: zoo/base-95, revision: main, gpus: 0.5}"),
    "a price": grid(price="2.5"),
    "rows until an order is known": grid(stop="{check: rank}"),
    "rows until intervals are narrow": grid(stop="{width: 2%, block: 20, least: 40, alpha: 0.1}"),
    "the same as a check": grid(stop="{when: decided, check: {width: 0.02}}"),
    "rows until a policy is decided": grid(stop="{check: policy.yaml, against: runs/before}"),
    "a price in euros": grid(price="{per_gpu_hour: 2.5, currency: EUR}"),
    "the engine": grid(engine="{kind: echo, window: 5, gpu_memory_utilization: 0.8, enforce_eager: true}"),
    "truth": grid(truth="{zoo/base-40: 0.4}"),
    "truth of a task": grid(truth="{zoo-mcq: {zoo/base-40: 0.4}}"),
    "rows": grid(tasks="[{task: gsm8k, data_files: {train: a.jsonl, test: b.jsonl}, limit: null}]"),
    "an output with a date": grid(output="'s3://bucket/{name}/{date}'"),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_a_good_grid_is_good_to_the_schema(text: str) -> None:
    parse_grid(text)
    assert [f"{error.json_path}: {error.message}" for error in SCHEMA.iter_errors(plain_values(text))] == []


def test_the_grids_of_the_documents_are_among_them() -> None:
    assert len(GRIDS) > 8
    assert any(name.startswith("README") for name in SHOWN)
    assert sum(name.startswith("docs") for name in SHOWN) >= 3


WRONG = {
    "a list": "- zero_shot\n",
    "an unknown key": grid(modles="[zoo/base-40]"),
    "a key that is missing": grid(tasks=""),
    "an empty list": grid(models="[]"),
    "text for a list": grid(models="zoo/base-40"),
    "a number for a model": grid(models="[7]"),
    "a model without an id": grid(models="[{revision: main}]"),
    "an empty id": grid(models="['']"),
    "a model twice": grid(models="[zoo/base-40, zoo/base-40]"),
    "a task twice": grid(tasks="[zoo-mcq, zoo-mcq]"),
    "a seed twice": grid(seeds="[1, 1]"),
    "half a seed": grid(seeds="[0.5]"),
    "a protocol twice": grid(protocols="[zero_shot, zero_shot]"),
    "a slash in the name": grid(name="a/b"),
    "a name of dots": grid(name="'..'"),
    "an unknown protocol": grid(protocols="[zeroshot]"),
    "two protocols in one": grid(protocols="[{zero_shot: {}, few_shot: {}}]"),
    "a setting of another protocol": grid(protocols="[{few_shot: {steps: 5}}]"),
    "a setting of zero_shot": grid(protocols="[{zero_shot: {shots: 5}}]"),
    "transfer from nowhere": grid(protocols="[transfer]"),
    "transfer from nothing": grid(protocols="[{transfer: {from: []}}]"),
    "lora's rate is a number": grid(protocols="[{lora: {lr: auto}}]"),
    "zero steps": soft("steps: 0"),
    "true for a number": soft("steps: true"),
    "text for a number": soft("steps: many"),
    "half a step": soft("steps: 1.5"),
    "a negative rate": soft("lr: -1"),
    "another word for a rate": soft("lr: best"),
    "an unknown start": soft("init: ones"),
    "one wrong value of a sweep": soft("length: [1, 0]"),
    "an empty sweep": soft("length: []"),
    "a value twice in a sweep": soft("length: [1, 1]"),
    "three betas": soft("betas: [0.9, 0.99, 0.999]"),
    "a beta of one": soft("betas: [0.9, 1]"),
    "null where there is no null": soft("steps: null"),
    "an unknown preset": grid(protocols="[soft_prompt: papers]"),
    "prefixes of layers": soft("depth: 3"),
    "a start without its text": soft("init: text"),
    "a start from nothing": soft("init: soft_prompt"),
    "a text without its start": soft("init_text: In short"),
    "a spread without its start": soft("init: uniform, init_std: 0.1"),
    "tokens beside a preset that draws none": soft("preset: paper, init_tokens: 7"),
    "betas of Adafactor": soft("optimizer: adafactor, betas: [0.8, 0.9]"),
    "the width of no encoder": soft("encoder_hidden: 64"),
    "rows held out for nothing": soft("held_out: 8"),
    "an override that is out of range": model("soft_prompt: {length: 0}"),
    "an override that is no setting": model("soft_prompt: {leng: 3}"),
    "an unknown dtype": model("dtype: fp8"),
    "a day that is none": model("chat_date: today"),
    "no GPUs": model("tensor_parallel: 0"),
    "one and a half GPUs": model("gpus: 1.5"),
    "a share of a GPU for two": model("gpus: 0.5, tensor_parallel: 2"),
    "a revision with a space": model("revision: a b"),
    "a judge without a model": grid(judge="{dtype: auto}"),
    "a judge that is a series": grid(judge="{model: zoo/base-40, revision: step*}"),
    "an unknown engine": grid(engine="{kind: vlm}"),
    "an unknown way of scoring": grid(engine="{scoring: fast}"),
    "an unknown way of injecting": grid(engine="{injection: row}"),
    "more than all memory": grid(engine="{gpu_memory_utilization: 1.5}"),
    "text as the window": grid(engine="{window: many}"),
    "a setting that is not the engine's": grid(engine="{model: x}"),
    "a share above one": grid(rerun="1.5"),
    "a share that is none": grid(tasks="[{task: zoo-mcq, allow_left_out: some}]"),
    "no rows": grid(tasks="[{task: zoo-mcq, data_files: {}}]"),
    "a limit of zero": grid(limit="0"),
    "truth as a list": grid(truth="[1]"),
    "truth in words": grid(truth="{zoo/base-40: much}"),
    "a price below nothing": grid(price="-1"),
    "nothing to know": grid(stop="{block: 20}"),
    "an interval of everything": grid(stop="{width: 1}"),
    "another reason to stop": grid(stop="{check: rank, when: tired}"),
    "no rows between two looks": grid(stop="{check: rank, block: 0}"),
    "a currency of many words": grid(price="{per_gpu_hour: 1, currency: US dollars}"),
    "a placeholder that there is not": grid(output="'runs/{day}'"),
    "an empty output": grid(output="''"),
    "a path that is too long": grid(tasks=f"[{'a' * 300}]"),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_grid_is_wrong_to_the_schema_and_to_the_reader(text: str) -> None:
    assert not takes(text)
    with pytest.raises(ConfigError):
        parse_grid(text)


def test_what_the_reader_takes_of_nearly_valid_grids_the_schema_takes_and_it_misses_little() -> None:
    both, missed = 0, []
    for seed in range(150):
        draw = random.Random(seed)
        text = mutated(draw.choice(list(GRIDS.values())), draw)
        try:
            value = plain_values(text)
        except ConfigError:
            continue
        try:
            parse_grid(text)
        except ConfigError as e:
            missed += [str(e)] if SCHEMA.is_valid(value) else []
        else:
            both += 1
            assert SCHEMA.is_valid(value), f"seed {seed}"
    assert both > 20
    assert len(missed) < 5, missed


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_has_its_help_and_its_default(cls: type[Any]) -> None:
    found = {key.field: key for key in keys(cls)}
    assert list(found) == [f.name for f in fields(cls)]
    for f in fields(cls):
        key = found[f.name]
        assert key.name == key_of(f)
        assert key.meaning.endswith((".", "]")), f"{cls.__name__}.{f.name} has no docstring"
        assert key.needed == (f.default is MISSING and f.default_factory is MISSING)


def test_the_schema_says_what_each_key_means() -> None:
    schema = grid_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["properties"]["limit"]["description"] == "Maximum number of test rows a task; null: all."
    assert schema["definitions"]["setting_steps"]["default"] == 80
    described = [schema["properties"], *(one["properties"] for one in schema["definitions"]["model"]["anyOf"][1:])]
    assert all(value["description"] for each in described for value in each.values())


def test_a_class_whose_source_is_not_there_has_keys_without_help(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("typed_in_a_notebook")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("from dataclasses import dataclass\n@dataclass\nclass Typed:\n    shots: int = 3\n", vars(module))
    (key,) = keys(module.Typed)
    assert (key.name, key.default, key.meaning) == ("shots", 3, "")


def test_init_writes_a_grid_that_names_a_schema_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["init", "mine.yaml"])
    assert ended.value.code == 0
    text = Path("mine.yaml").read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    schema = json.loads(Path(named[1]).read_text())
    jsonschema.Draft7Validator(schema).validate(plain_values(text))
    assert load_grid("mine.yaml").name == "mine"


def test_schema_prints_what_init_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["init"], ["schema"]):
        with pytest.raises(SystemExit):
            main(command)
    printed = capsys.readouterr().out.partition("\n")[2]
    assert printed == Path("spt-fast.schema.json").read_text()
    assert "zoo-mcq" in json.loads(printed)["definitions"]["task"]["anyOf"][0]["enum"]
