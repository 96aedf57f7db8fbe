"""CONTRIBUTING.md's recipes work as they stand there: each is installed as a package of its own, and a grid is run with all."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spt_fast import plan
from spt_fast.cli import main
from spt_fast.config import ModelConfig, plugins
from spt_fast.config.reader import parse_grid
from spt_fast.engine import open_engine
from spt_fast.engine.base import EngineConfig
from spt_fast.errors import ConfigError, EngineError
from spt_fast.models.identity import resolve
from spt_fast.prompts.soft_prompt import SoftPrompt
from spt_fast.tasks.base import typical
from spt_fast.types import Generate, Sampling, Score
from tests.helpers.packages import install, on_the_path, recipes

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
MODULES, POINTS = recipes(PAGE)
GRID = """\
name: recipes
models: [zoo/base-40]
tasks: [{task: rivers, limit: 2}, {task: zoo-mcq, limit: 2}]
protocols:
  - zero_shot
  - hinted
  - soft_prompt: {length: 2, steps: 2, batch_size: 2, optimizer: momentum, lr: 0.5}
engine: {kind: plain, threads: 1}
"""


def write_rows(folder: Path) -> None:
    folder.mkdir()
    for file, sea, count in (("train", "sea", 30), ("test", "bay", 4)):
        rows = [{"sea": f"{sea} {n}", "names": ["Rhine", "Rhein"]} for n in range(count)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, MODULES, POINTS)
    write_rows(folder / "rivers")
    return folder


@pytest.fixture
def installed(site: Path) -> Iterator[Path]:
    with on_the_path(site, MODULES):
        yield site


def run_elsewhere(site: Path, *arguments: str) -> None:
    """The command in a process of its own, whose workers find the package too."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[1])])
    command = [sys.executable, "-m", "spt_fast", *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def run_here(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0


def test_there_is_a_recipe_for_everything_that_a_package_can_add() -> None:
    groups = {value for name, value in vars(plugins).items() if name.isupper() and str(value).startswith("spt_fast.")}
    assert set(POINTS) == groups


def test_the_pyproject_of_the_page_builds_a_package_with_several_recipes(tmp_path: Path) -> None:
    (head,) = re.findall(r"^```toml\n(\[build-system\]\n.*?)^```$", PAGE, re.M | re.S)
    taken = tomllib.loads(head)["tool"]["setuptools"]["py-modules"]
    lines = [
        f'[project.entry-points."{group}"]\n{name} = "{value}"\n'
        for group, named in POINTS.items()
        for name, value in named.items()
        if value.partition(":")[0] in taken
    ]
    (tmp_path / "pyproject.toml").write_text(head + "\n".join(lines))
    for module in taken:
        (tmp_path / f"{module}.py").write_text(MODULES[module])
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as built:
        assert {f"{module}.py" for module in taken} <= set(built.namelist())
        points = built.read("my_evals-0.1.dist-info/entry_points.txt").decode()
    assert all(f"{module} = {module}:" in points for module in taken)
    assert len(taken) > 1


def test_a_grid_runs_with_all_recipes_and_is_reported_and_exported(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    run = tmp_path / "run"
    run_elsewhere(installed, "run", str(tmp_path / "grid.yaml"), "--output", str(run), "--address", "least_first")
    with open(run / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["protocol"] for row in rows} == {"zero_shot", "hinted", "soft_prompt"}
    assert {row["task"] for row in rows if row["metric"] == "brief"} == {"rivers", "zoo-mcq"}
    (run / "report.md").unlink()
    run_here("report", str(run))
    assert "hinted" in capsys.readouterr().out
    told = (run / "report.md").read_text(encoding="utf-8")
    assert "**Seconds of asking**" in told
    assert "| model | protocol | `brief answers` |" in told
    assert "zoo-mcq: further metrics" in (run / "report.html").read_text(encoding="utf-8")
    run_here("export", str(run), "--format", "lines", "--to", str(tmp_path / "out"))
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {line["protocol"] for line in lines} == {"zero_shot", "hinted", "soft_prompt"}
    assert all(0 <= line["brief"] <= 1 for line in lines)


def test_a_protocol_of_a_package_may_have_a_setting_that_is_refused_of_a_soft_prompt(tmp_path: Path) -> None:
    """`prefix` is the name of a setting of prefix tuning, which there is not."""
    module = MODULES["hinted"].replace("hint:", "prefix:").replace("self.hint", "self.prefix")
    install(tmp_path, {"hinted": module}, {plugins.PROTOCOLS: {"hinted": "hinted:Hinted"}})
    grid = "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols: [hinted: {prefix: [One., Two.]}]\n"
    with on_the_path(tmp_path, {"hinted": ""}):
        assert [cell.label for cell in plan.expand(parse_grid(grid))] == ["hinted[prefix=One.]", "hinted[prefix=Two.]"]
        with pytest.raises(ConfigError, match=r"hinted\.depth: there are no per-layer prefixes"):
            parse_grid(grid.replace("prefix: [One., Two.]", "depth: 3"))


def test_the_protocol_of_the_recipe_changes_prompts_and_keys(installed: Path) -> None:
    grid = 'name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols: [zero_shot, hinted: {hint: ["One.", "Two."]}]\n'
    plainly, one, two = plan.expand(parse_grid(grid))
    assert (one.label, two.label) == ("hinted[hint=One.]", "hinted[hint=Two.]")
    row = typical(plainly.task.task)
    assert row is not None
    assert one.task.task.template.prompt(row) == "One.\n" + plainly.task.task.template.prompt(row)
    assert one.content["protocol"]["code"]
    assert "code" not in plainly.content["protocol"]
    assert len({cell.key for cell in (plainly, one, two)}) == 3


def test_the_engine_of_the_recipe_answers_what_the_reference_answers(installed: Path) -> None:
    (model,) = resolve(ModelConfig(id="zoo/base-40"))
    config = EngineConfig(kind="transformers", model=model.source, dtype="float32")
    answers = []
    for kind in ("transformers", "plain"):
        with open_engine(replace(config, kind=kind)) as engine:
            vectors = np.random.default_rng(0).normal(0, 0.3, (3, engine.hidden_size)).astype(np.float32)
            key = engine.add(SoftPrompt(vectors=vectors))
            said = engine.generate([Generate(token_ids=(5, 9, 7), sampling=Sampling(max_tokens=6), soft_prompt=key)])
            known = engine.score([Score(token_ids=(5, 9), continuation=(7, 11), soft_prompt=key, position="after_bos")])
            answers.append((said[0].token_ids, said[0].text, known[0].token_logprobs))
    (ids, text, logprobs), (ids_too, text_too, logprobs_too) = answers
    assert (ids, text) == (ids_too, text_too)
    assert logprobs == pytest.approx(logprobs_too, abs=1e-4)


def test_a_setting_that_the_engine_of_the_recipe_does_not_have_is_a_sentence(installed: Path) -> None:
    with pytest.raises(EngineError, match="plain has no setting 'thread'; there are threads"):
        open_engine(EngineConfig(kind="plain", model="x", options={"thread": 1}))


def test_what_an_engine_of_a_package_raises_is_told_as_the_reason(tmp_path: Path) -> None:
    plain = MODULES["plain"].replace("yield index,", "yield 1 / 0,").replace("class Plain", "class Mine")
    install(tmp_path, {"mine": plain}, {"spt_fast.engines": {"mine": "mine:Mine"}})
    (model,) = resolve(ModelConfig(id="zoo/base-40"))
    with on_the_path(tmp_path, {"mine": ""}), open_engine(EngineConfig(kind="mine", model=model.source)) as engine:
        with pytest.raises(EngineError, match="the engine died: mine: ZeroDivisionError: division by zero"):
            engine.generate([Generate(token_ids=(5, 9), sampling=Sampling(max_tokens=1))])
        assert not engine.alive


def test_an_engine_of_a_package_is_told_at_once_of_all_that_it_must_set(tmp_path: Path) -> None:
    module = "from spt_fast.engine.base import Engine\nclass Mine(Engine):\n    def __init__(self, config): SET\n"
    module += "    def add(self, soft_prompt): ...\n    def stream(self, requests): ...\n    def close(self): ...\n"
    told = {
        "pass": "engine: mine must set hidden_size and max_model_len when it starts, whole numbers",
        "self.hidden_size = 8": "engine: mine must set max_model_len when it starts, a whole number",
    }
    for i, (line, said) in enumerate(told.items()):
        install(tmp_path / str(i), {"mine": module.replace("SET", line)}, {plugins.ENGINES: {"mine": "mine:Mine"}})
        with on_the_path(tmp_path / str(i), {"mine": ""}), pytest.raises(EngineError, match=said):
            open_engine(EngineConfig(kind="mine", model="x"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("'text'", r"it yields 'text', and must yield \(index of a request, answer\)"),
        ("(2, Completion('a', (1,), 'stop'))", "it yields .*, and must yield"),
        ("(0, 'text')", "it answers a Generate with 'text', and must with a Completion"),
        ("(1, Completion('a', (1,), 'stop'))", "it answers a Score with .*, and must with a LogLikelihood"),
        ("(1, LogLikelihood((-1.0,)))", "it gives 1 log-probabilities for 2 tokens"),
    ],
)
def test_what_is_no_answer_is_told_as_the_reason_and_ends_the_engine_alone(answer: str, said: str, tmp_path: Path) -> None:
    made = answer.replace("Completion('a', (1,), 'stop')", "Completion(text='a', token_ids=(1,), finish_reason='stop')")
    made = made.replace("LogLikelihood((-1.0,))", "LogLikelihood(token_logprobs=(-1.0,))")
    module = (
        "from spt_fast.engine.base import Engine\nfrom spt_fast.types import Completion, LogLikelihood\n"
        "class Mine(Engine):\n    def __init__(self, config): self.hidden_size = self.max_model_len = 8\n"
        f"    def add(self, soft_prompt): ...\n    def stream(self, requests):\n        list(requests)\n        yield {made}\n"
        "    def close(self): ...\n"
    )
    install(tmp_path, {"mine": module}, {plugins.ENGINES: {"mine": "mine:Mine"}})
    asked = [Generate(token_ids=(5,), sampling=Sampling(max_tokens=1)), Score(token_ids=(5,), continuation=(7, 8))]
    with on_the_path(tmp_path, {"mine": ""}), open_engine(EngineConfig(kind="mine", model="x")) as engine:
        with pytest.raises(EngineError, match=f"the engine died: mine: TypeError: {said}"):
            list(engine.stream(asked))
        assert not engine.alive


HEAD = "from dataclasses import dataclass\nfrom spt_fast.config import Protocol\n"
FROZEN = f"{HEAD}@dataclass(frozen=True, kw_only=True)\nclass Mine(Protocol):\n    name = 'mine'\n"
WRONG = [
    (
        "protocols",
        "import nothing_of_this_name",
        "mine",
        "cannot be imported (ModuleNotFoundError: No module named 'nothing_of_",
    ),
    (
        "protocols",
        f"{FROZEN}    words: list[str] = ()\n",
        "mine",
        "its setting words is of a type that changes in place; declare a list as",
    ),
    (
        "protocols",
        f"{FROZEN}    words: dict[str, int] | None = None\n",
        "mine",
        "its setting words is of a type that changes in",
    ),
    (
        "protocols",
        f"{FROZEN}    words: 'Nothing' = None\n",
        "mine",
        "the types of its settings cannot be read (NameError: name 'Nothing'",
    ),
    ("protocols", "Other = 3", "mine", "mine has no Mine; mend the entry point"),
    ("protocols", "Mine = 3", "mine", "is no protocol; derive a class from spt_fast.config.Protocol"),
    ("protocols", f"{HEAD}class Mine(Protocol):\n    name = 'mine'\n", "mine", "is no frozen dataclass; write @dataclass("),
    (
        "protocols",
        FROZEN.replace("'mine'", "'other'"),
        "mine",
        "its name is 'other'; the entry point and the protocol have one",
    ),
    ("engines", "class Mine:\n    pass", "{kind: mine}", "is no engine; derive a class from spt_fast.engine.base.Engine"),
    ("engines", "1 / 0", "{kind: mine}", "cannot be imported (ZeroDivisionError: division by zero)"),
    ("metrics", "Mine = 3", "", "is int, and must be a spt_fast.scoring.metrics.MetricSpec"),
    ("optimizers", "Mine = 3", "{soft_prompt: {optimizer: mine}}", "is int, and must be a function"),
]


@pytest.mark.parametrize(("group", "text", "asked", "says"), WRONG)
def test_a_package_that_cannot_be_used_is_one_sentence(tmp_path: Path, group: str, text: str, asked: str, says: str) -> None:
    install(tmp_path, {"mine": text}, {f"spt_fast.{group}": {"mine": "mine:Mine"}})
    key = {"engines": f"engine: {asked}", "metrics": ""}.get(group, f"protocols: [{asked}]")
    with on_the_path(tmp_path, {"mine": text}), pytest.raises(ConfigError) as caught:
        plan.expand(parse_grid(f"name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\n{key}\n"))
    assert f"(mine:Mine of of-a-user): {says}" in str(caught.value)
    assert "\n" not in str(caught.value)


ASKS = f"{FROZEN}    def asks(self, task):\n        "


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "mine: asks() must return the task, not NoneType"),
        ("raise KeyError('x')", "mine: asking zoo-mcq: KeyError: 'x'"),
        ("import dataclasses; return dataclasses.replace(task, name='t')", "mine: asks() must leave name of zoo-mcq as it is"),
    ],
)
def test_a_protocol_that_asks_wrongly_is_refused_before_anything_runs(tmp_path: Path, body: str, says: str) -> None:
    install(tmp_path, {"mine": ASKS + body}, {"spt_fast.protocols": {"mine": "mine:Mine"}})
    with on_the_path(tmp_path, {"mine": ""}), pytest.raises(ConfigError) as caught:
        plan.expand(parse_grid("name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols: [mine]\n"))
    assert str(caught.value).startswith(f"protocols[0].{says}")


def test_an_edited_protocol_makes_new_cells(tmp_path: Path) -> None:
    install(tmp_path, {"mine": FROZEN}, {"spt_fast.protocols": {"mine": "mine:Mine"}})
    keys = []
    for text in (FROZEN, FROZEN, FROZEN + "\n# edited\n"):
        (tmp_path / "mine.py").write_text(text)
        with on_the_path(tmp_path, {"mine": ""}):
            (cell,) = plan.expand(parse_grid("name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\nprotocols: [mine]\n"))
            keys.append(cell.key)
    assert keys[0] == keys[1] != keys[2]


def test_an_unknown_name_is_told_what_there_is() -> None:
    grid = "name: g\nmodels: [zoo/base-40]\ntasks: [zoo-mcq]\n"
    with pytest.raises(ConfigError, match="optimizer: must be one of adamw, adafactor, not 'sgd'"):
        parse_grid(f"{grid}protocols: [{{soft_prompt: {{optimizer: sgd}}}}]\n")
    with pytest.raises(ConfigError, match="unknown protocol 'hinted'; choose from zero_shot, few_shot, soft_prompt"):
        parse_grid(f"{grid}protocols: [hinted]\n")  # a package that is not installed
    with pytest.raises(ConfigError, match=r"engine\.kind: must be one of vllm, transformers, echo, not 'sglang'"):
        parse_grid(f"{grid}engine: {{kind: sglang}}\n")
