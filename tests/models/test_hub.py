"""The Hub, and what is said when it cannot be reached or does not give what is asked for.

The clients are the real ones; the Hub is tests/helpers/hub.py, on localhost. Each process asks many things, because importing
`datasets` takes a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spt_fast import tasks
from spt_fast.tasks.base import HubSource
from tests.helpers.hub import COMMIT, TOKEN, Hub, Repo, environment
from tests.helpers.tiny import tiny_model

CARD = b"""---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train.jsonl}
  - {split: test, path: main/test.jsonl}
---
"""

ASK = f"""
import json, os, sys
from dataclasses import replace
from spt_fast.config import ModelConfig
from spt_fast.errors import SptError
from spt_fast.models.identity import resolve
from spt_fast.tasks import get
from spt_fast.tasks.loading import hub
from spt_fast.tasks.rows import load_rows

def told(ask, *arguments, **named):
    try:
        return ask(*arguments, **named)
    except SptError as e:
        return type(e).__name__ + ": " + str(e)

def rows(**named):
    found = load_rows(get("gsm8k"), **named)
    return [[example.question for example in split] for split in (found.tuning, found.few_shot, found.test)]

def model(id, **named):
    (found,) = resolve(ModelConfig(id=id, **named))
    return {{"commit": found.revision, "unresolved": found.unresolved}}

def fetch(task, split="test", **changes):
    return hub.fetch(replace(get(task).source, **changes), split)

COMMIT = {COMMIT!r}
"""


def pinned(task: str) -> str:
    """The commit of a task's data set."""
    source = tasks.get(task).source
    assert isinstance(source, HubSource)
    return source.revision


def jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def sums(first: int, count: int, answer: str = "answer") -> list[dict[str, str]]:
    """Rows like GSM8K's, about the numbers from `first` on."""
    return [{"question": f"What is {n} + 1?", answer: f"It is {n + 1}.\n#### {n + 1}"} for n in range(first, first + count)]


def gsm8k(answer: str = "answer") -> Repo:
    """20 train rows and 6 test rows, at the commit that the task pins."""
    files = {"main/train.jsonl": jsonl(sums(0, 20, answer)), "main/test.jsonl": jsonl(sums(100, 6, answer))}
    return Repo(kind="datasets", files={"README.md": CARD, **files}, commit=pinned("gsm8k"))


@dataclass(frozen=True)
class Said:
    """What a process came to."""

    code: int
    out: str
    err: str

    @property
    def answers(self) -> dict[str, Any]:
        """What a script of ASK printed."""
        assert self.code == 0, self.err
        answers: dict[str, Any] = json.loads(self.out)
        return answers


def process(environment: Mapping[str, str], *arguments: str) -> Said:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False, timeout=120)
    return Said(done.returncode, done.stdout, done.stderr)


def ask(environment: Mapping[str, str], script: str) -> Said:
    """`script` prints one JSON object."""
    return process(environment, "-c", ASK + script)


def written(folder: Path, models: Sequence[str], tasks: Sequence[str], **more: Any) -> Path:
    """A grid, as a file."""
    grid = {"name": "g", "models": models, "tasks": tasks, "protocols": ["zero_shot"], "engine": {"kind": "echo"}}
    path = folder / "grid.yaml"
    path.write_text(json.dumps({**grid, "output": str(folder / "run"), **more}))  # JSON is YAML
    return path


def failures(run: Path) -> dict[tuple[str, str], str]:
    """(model, task) -> why its cell failed."""
    told = json.loads((run / "results.json").read_text())["failures"]
    return {(cell["model"], cell["task"]): cell["reason"] for cell in told}


def done(run: Path) -> dict[tuple[str, str], Any]:
    """(model, task) -> what its cell came to."""
    told = json.loads((run / "results.json").read_text())["cells"]
    return {(cell["model"], cell["task"]): cell["metrics"] for cell in told}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny", hidden_size=32, positions=2048)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def hub(tiny: Path) -> Iterator[Hub]:
    """A Hub with a model and three data sets: one without a card, one whose card has a config that no task names."""
    math = {"problem": "1 + 1?", "solution": "It is $\\boxed{2}$.", "answer": "2", "subject": "Sums", "level": 1}
    repos = {
        "openai/gsm8k": gsm8k(),
        "HuggingFaceH4/MATH-500": Repo(
            kind="datasets",
            files={"test.jsonl": jsonl([math])},
            commit=pinned("math500"),
        ),
        "rajpurkar/squad": Repo(
            kind="datasets",
            files={**gsm8k().files, "README.md": CARD.replace(b"main\n", b"plain_text\n")},
            commit=pinned("squad"),
        ),
        "some/tiny": Repo(kind="models", files={path.name: path.read_bytes() for path in tiny.iterdir()}),
    }
    with Hub(repos) as hub:
        yield hub


ROWS_AND_MODEL = """
math, squad = fetch("math500"), fetch("squad", split="tuning")
print(json.dumps({"rows": rows(), "math": math, "squad": squad, "model": model("some/tiny")}))
"""


@pytest.fixture(scope="module")
def first(hub: Hub, cache: Path) -> Said:
    """What was read when it was read for the first time, with the Hub there."""
    return ask(environment(hub.endpoint, cache), ROWS_AND_MODEL)


@pytest.fixture(scope="module")
def nowhere() -> str:
    """Where no Hub is any more."""
    with Hub({}) as hub:
        return hub.endpoint


# the Hub gives it


def test_a_data_set_is_read_at_its_pinned_commit(first: Said, hub: Hub) -> None:
    tuning, few_shot, test = first.answers["rows"]
    assert {*tuning, *few_shot} == {row["question"] for row in sums(0, 20)}
    assert (len(tuning), len(few_shot)) == (12, 8)
    assert (len(first.answers["math"]), len(first.answers["squad"])) == (1, 20)
    assert set(test) == {row["question"] for row in sums(100, 6)}
    asked = [request for request in hub.requests if "openai/gsm8k" in request]
    assert asked
    assert all(pinned("gsm8k") in request for request in asked)


def test_a_branch_of_a_model_is_resolved_to_its_commit(first: Said) -> None:
    assert first.answers["model"] == {"commit": COMMIT, "unresolved": None}


# offline when cached


@pytest.mark.parametrize("offline", [{}, {"HF_HUB_OFFLINE": "1"}, {"HF_DATASETS_OFFLINE": "1"}], ids=str)
def test_what_is_in_the_cache_is_the_same_without_a_hub_and_nobody_tries_twice(
    offline: dict[str, str], first: Said, nowhere: str, cache: Path
) -> None:
    again = ask(environment(nowhere, cache, **offline), ROWS_AND_MODEL)
    assert again.answers == first.answers
    assert again.err == "", "no retries, and no words about another commit"


def test_rows_in_the_cache_are_not_asked_for(first: Said, hub: Hub, cache: Path) -> None:
    hub.requests.clear()
    again = ask(environment(hub.endpoint, cache), 'print(json.dumps({"rows": rows(), "math": fetch("math500")}))')
    assert again.answers.items() <= first.answers.items()
    assert hub.requests == []


def test_rows_of_another_commit_are_never_taken_for_those_of_this_one(first: Said, nowhere: str, cache: Path) -> None:
    """`datasets` takes whatever it has in its cache where the Hub fails."""
    assert first.code == 0
    script = 'print(json.dumps({"rows": told(fetch, "gsm8k", revision=COMMIT)}))'
    alone = ask(environment(nowhere, cache, HF_HUB_OFFLINE="1"), script).answers["rows"]
    assert alone == (
        f"UnreachableError: openai/gsm8k (test, commit {COMMIT[:8]}) is not in the cache, and the Hub cannot be reached "
        "(HF_HUB_OFFLINE is set); connect, or give the rows as data_files"
    )
    without_files = Repo(kind="datasets", files={"README.md": CARD})
    with Hub({"openai/gsm8k": without_files}) as broken:
        answer = ask(environment(broken.endpoint, cache), script).answers["rows"]
    assert answer.startswith(f"DataError: openai/gsm8k (test, commit {COMMIT[:8]}) cannot be downloaded from the Hub (")
    assert answer.endswith("; check the connection and HF_TOKEN, or give the rows as data_files")


@pytest.mark.slow
def test_a_grid_of_a_model_and_a_data_set_of_the_hub_runs_and_runs_again_without_it(
    hub: Hub, nowhere: str, tmp_path: Path
) -> None:
    path = written(tmp_path, ["some/tiny"], ["gsm8k"], engine={"kind": "transformers"}, limit=2)
    command = ("-m", "spt_fast", "run", str(path))
    first = process(environment(hub.endpoint, tmp_path / "cache"), *command)
    assert first.code == 0, first.err
    results = done(tmp_path / "run")
    unchanged = process(environment(nowhere, tmp_path / "cache"), *command)
    assert (unchanged.code, unchanged.out) == (0, first.out), "the model has its commit from the cache, so nothing is new"
    fresh = process(environment(nowhere, tmp_path / "cache", HF_HUB_OFFLINE="1"), *command, "--fresh")
    assert fresh.code == 0, fresh.err
    assert done(tmp_path / "run") == results


# the Hub cannot be reached


def test_without_hub_and_cache_it_is_told_at_once_and_check_says_what_it_did_not_look_at(
    nowhere: str, tiny: Path, tmp_path: Path
) -> None:
    path = written(tmp_path, [str(tiny), "some/tiny"], ["gsm8k", "mmlu", "zoo-mcq"])
    script = f"""
print(json.dumps({{"rows": told(rows), "model": model("some/tiny")}}))
sys.stdout.flush()
from spt_fast.cli import main
main(["check", {str(path)!r}])
"""
    said = ask(environment(nowhere, tmp_path / "cache"), script)
    answers, *checked = said.out.splitlines()
    assert json.loads(answers) == {
        "rows": "UnreachableError: openai/gsm8k (train, commit 740312ad) is not in the cache, and the Hub cannot be reached "
        "(ConnectError); connect, or give the rows as data_files",
        "model": {
            "commit": None,
            "unresolved": "some/tiny: is no folder here, and the Hub cannot be reached (ConnectError); "
            "connect, or name a folder",
        },
    }
    assert checked == [
        f"{path}: not on this machine, and not looked at, because the Hub cannot be reached from here: some/tiny, gsm8k, mmlu",
        f"{path}: good as far as it could be looked at; 6 cells",
    ]
    assert (said.code, said.err) == (0, "")


# the Hub does not give it


@pytest.fixture(scope="module")
def refusals(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of everything that can be wrong with an id, a revision or a token."""
    model = {path.name: path.read_bytes() for path in tiny.iterdir()}
    repos = {
        "cais/mmlu": Repo(kind="datasets", files={}, gated=True, commit=pinned("mmlu")),
        "openai/gsm8k": Repo(kind="datasets", files={}),
        "allenai/sciq": Repo(kind="datasets", files={}),
        "some/gated": Repo(kind="models", files=model, gated=True),
        "some/tiny": Repo(kind="models", files=model),
        "some/rows": Repo(kind="models", files={"README.md": b""}),
    }
    script = f"""
answers = {{
    "gated data set": told(fetch, "mmlu"),
    "no such data set": told(fetch, "piqa"),
    "no such commit": told(fetch, "gsm8k"),
    "gated model": model("some/gated")["unresolved"],
    "no such model": model("some/nothing")["unresolved"],
    "no such revision": model("some/tiny", revision="v2")["unresolved"],
    "no model": model("some/rows")["unresolved"],
}}
os.environ["HF_TOKEN"] = {TOKEN!r}
answers["data set and old token"] = told(fetch, "sciq", revision=COMMIT)
answers["model and old token"] = model("some/tiny")["unresolved"]
print(json.dumps(answers))
"""
    with Hub(repos) as hub:
        answers: dict[str, str] = ask(environment(hub.endpoint, tmp_path_factory.mktemp("cache")), script).answers
    return answers


REFUSED = {
    "gated data set": "DataError: cais/mmlu: is gated; accept its licence on the Hub and set HF_TOKEN",
    "no such data set": "DataError: baber/piqa: the Hub has no such data set (or it is private: set HF_TOKEN)",
    "no such commit": f"DataError: openai/gsm8k: the Hub has no commit {pinned('gsm8k')} of it any more; "
    "give the rows as data_files",
    "gated model": "some/gated: is gated; accept its licence on the Hub and set HF_TOKEN",
    "no such model": "some/nothing: no such folder, and the Hub has no such model (or it is private: set HF_TOKEN)",
    "no such revision": "some/tiny: the Hub has no revision 'v2' of it",
    "no model": "some/rows: is no model: it has no config.json on the Hub",
    "data set and old token": "DataError: allenai/sciq: the Hub refuses it (401); renew HF_TOKEN, or unset it",
    "model and old token": "some/tiny: the Hub refuses it (401); renew HF_TOKEN, or unset it",
}


@pytest.mark.parametrize(("what", "sentence"), REFUSED.items(), ids=REFUSED.keys())
def test_what_the_hub_does_not_give_is_a_sentence_that_says_what_to_do(
    what: str, sentence: str, refusals: dict[str, str]
) -> None:
    assert refusals[what] == sentence


@pytest.mark.slow
def test_gated_models_and_data_sets_and_changed_columns_fail_their_cells_and_no_others(tiny: Path, tmp_path: Path) -> None:
    repos = {
        "openai/gsm8k": gsm8k(answer="solution"),
        "cais/mmlu": Repo(kind="datasets", files={}, gated=True, commit=pinned("mmlu")),
        "some/gated": Repo(kind="models", files={}, gated=True),
    }
    path = written(tmp_path, ["some/gated", str(tiny)], ["gsm8k", "mmlu", "zoo-mcq"], limit=3)
    with Hub(repos) as hub:
        here = environment(hub.endpoint, tmp_path / "cache")
        run = process(here, "-m", "spt_fast", "run", str(path))
        check = process(here, "-m", "spt_fast", "check", str(path))
    columns = (
        "openai/gsm8k train, row 1: gsm8k needs a column 'answer'; the row has question, solution; "
        "rename it, or name files that have it in data_files"
    )
    gated = {id: f"{id}: is gated; accept its licence on the Hub and set HF_TOKEN" for id in ("some/gated", "cais/mmlu")}
    assert run.code == 1, run.err
    assert "Traceback" not in run.err
    name = f"{tiny.parent.name}/tiny"
    assert failures(tmp_path / "run") == {
        (name, "gsm8k"): columns,
        (name, "mmlu"): gated["cais/mmlu"],
        **{("some/gated", task): gated["some/gated"] for task in ("gsm8k", "mmlu", "zoo-mcq")},
    }
    assert set(done(tmp_path / "run")) == {(name, "zoo-mcq")}
    assert check.code == 2
    assert set(check.out.splitlines()) == {f"{path}: {sentence}" for sentence in (columns, *gated.values())}
