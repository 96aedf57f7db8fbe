"""Watching checkpoints: each is judged once, against the last accepted one, whatever happens in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from spt_fast.analysis.gate import Check, Policy
from spt_fast.analysis.runs import read_run
from spt_fast.driver.result import GridResult
from spt_fast.errors import StoreError
from spt_fast.report.folder import refresh
from spt_fast.watch.checkpoints import pattern_of
from tests.helpers.tiny import tiny_model
from tests.helpers.watching import POLICY, Nights, checkpoint


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "m", hidden_size=32)


def test_the_first_is_accepted_and_each_later_one_is_held_against_the_last_accepted(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path, s1=0.5, s2=0.52, s3=0.4, s4=0.5, s10=0.5)
    for step in (10, 2, 1, 3, 4):
        nights.add(step)
    assert nights.look() == [
        ("run7/step-1", "first"),
        ("run7/step-2", "pass"),
        ("run7/step-3", "fail"),
        ("run7/step-4", "undecided"),
        ("run7/step-10", "undecided"),
    ]
    assert [(each["baseline"], each["accepted"]) for each in nights.kept] == [
        (None, True),
        ("run7/step-1", True),
        ("run7/step-2", False),
        ("run7/step-2", False),
        ("run7/step-2", False),
    ]
    assert nights.kept[2]["why"].startswith("knowledge_best (zero_shot, zoo-mcq): it dropped by 12 points, and 3 points is")
    assert nights.kept[2]["steps"] == 3
    assert len({each["id"] for each in nights.kept}) == 5


def test_undecided_ones_are_accepted_where_that_is_asked_for(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path, s1=0.52, s2=0.5, s3=0.5)
    for step in (1, 2, 3):
        nights.add(step)
    assert nights.look(accept_undecided=True)[1:] == [("run7/step-2", "undecided"), ("run7/step-3", "pass")]
    assert nights.kept[2]["baseline"] == "run7/step-2"


def test_what_comes_while_it_waits_is_judged_and_nothing_is_done_twice(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    steps = iter((1, 2, 3))

    def wait() -> bool:
        step = next(steps, None)
        if step is not None:
            nights.add(step)
        return step is not None

    assert nights.look(wait) == [("run7/step-1", "first"), ("run7/step-2", "pass"), ("run7/step-3", "pass")]
    assert nights.look() == []
    assert nights.executor.asked == ["step-1", "step-2", "step-3"]


def test_a_checkpoint_that_is_being_written_is_waited_for_and_said_once(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    weights = (nights.add(2) / "model.safetensors").read_bytes()
    (nights.base / "step-2/model.safetensors").write_bytes(weights[:5000])
    looks = iter(range(3))

    def wait() -> bool:
        if next(looks, None) == 1:
            (nights.base / "step-2/model.safetensors").write_bytes(weights)
        return len(nights.kept) < 2

    assert nights.look(wait) == [("run7/step-1", "first"), ("run7/step-2", "pass")]
    assert nights.said == [f"waiting for step-2: model.safetensors has 5,000 of {len(weights):,} bytes"]


def test_the_newest_one_that_is_being_written_is_not_called_broken(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    (nights.add(2) / "tokenizer.json").unlink()
    looks = iter(range(3))
    assert nights.look(lambda: next(looks, None) is not None) == [("run7/step-1", "first")]
    assert [each for each in nights.said if "waiting" in each] == ["waiting for step-2: has no tokenizer yet"]


def test_an_older_one_that_was_left_half_written_is_told_as_broken_and_judged_when_it_is_whole(
    template: Path, tmp_path: Path
) -> None:
    nights = Nights(template, tmp_path, s1=0.5, s2=0.3, s3=0.52)
    nights.add(1)
    nights.add(3)
    (nights.add(2) / "config.json").rename(tmp_path / "kept.json")
    assert nights.look() == [("run7/step-1", "first"), ("run7/step-3", "pass"), ("run7/step-2", "broken")]
    assert nights.kept[2]["why"].endswith("yet, and run7/step-3 has been judged already; it is judged when it is whole.")
    assert nights.look() == []
    (tmp_path / "kept.json").rename(nights.base / "step-2/config.json")
    assert nights.look() == [("run7/step-2", "fail")]
    assert nights.kept[3]["baseline"] == "run7/step-1", "what comes late is held against what was before it"


def test_a_broken_checkpoint_is_told_with_its_reason_and_ends_nothing(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.executor.fail = {"step-3": "the engine died"}
    for step in (1, 2, 3, 4):
        nights.add(step)
    config = json.loads((nights.base / "step-2/config.json").read_text())
    (nights.base / "step-2/config.json").write_text(json.dumps({**config, "vocab_size": 5}))
    assert [verdict for _, verdict in nights.look()] == ["first", "broken", "broken", "pass"]
    assert "vocab_size" in nights.kept[1]["why"]
    assert nights.kept[2]["why"] == "1 of 1 cells failed: the engine died"


def test_a_first_checkpoint_that_fails_is_not_what_others_are_held_against(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.executor.fail = {"step-1": "the engine died"}
    nights.add(1)
    nights.add(2)
    assert nights.look() == [("run7/step-1", "broken"), ("run7/step-2", "first")]


def test_checkpoints_that_are_gone_from_the_disk_stay_in_the_run_and_are_held_against(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path, s9=0.5, s10=0.5, s11=0.2)
    for step in (9, 10, 11):
        nights.add(step)
        nights.look()
        shutil.rmtree(nights.base / f"step-{step}")
    assert [each["verdict"] for each in nights.kept] == ["first", "pass", "fail"]
    run = read_run(nights.run)
    assert run.models == ("run7/step-9", "run7/step-10", "run7/step-11")
    assert [each["series"] for each in run.grid["models"]] == [f"{nights.base}/step-*"] * 3
    assert len(run.done) == 3


def test_a_checkpoint_that_is_written_anew_is_judged_again(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path, s1=0.5, s2=0.3)
    nights.add(1)
    nights.add(2)
    assert nights.look() == [("run7/step-1", "first"), ("run7/step-2", "fail")]
    shutil.rmtree(nights.base / "step-2")
    nights.add(2, seed=22)
    nights.executor.shares = {"step-2": 0.5}
    assert nights.look() == [("run7/step-2", "pass")]
    assert len({each["id"] for each in nights.kept}) == 3


def test_a_checkpoint_that_is_only_copied_is_not_judged_again(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    nights.look()
    shutil.copytree(nights.base / "step-1", tmp_path / "again")  # other times
    shutil.rmtree(nights.base / "step-1")
    for path in (tmp_path / "again").iterdir():
        path.touch()
    (tmp_path / "again").rename(nights.base / "step-1")
    assert nights.look() == []


def test_a_second_name_of_the_same_weights_is_not_evaluated_again(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    shutil.copytree(nights.base / "step-1", nights.base / "step-2")
    assert nights.look() == [("run7/step-1", "first"), ("run7/step-2", "same")]
    assert nights.executor.asked == ["step-1"]
    assert nights.kept[1]["why"] == "it has the weights of run7/step-1, which was judged: first."
    assert nights.kept[1]["twin"] == "first"


def test_weights_that_change_while_they_are_evaluated_are_evaluated_again(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)

    def evaluate(*asked: Any) -> GridResult:
        result = nights.evaluate(*asked)
        if len(nights.executor.asked) == 1:
            shutil.rmtree(nights.base / "step-1")
            checkpoint(template, nights.base / "step-1", 11)
        return result

    looks = iter(range(1))
    assert nights.look(lambda: next(looks, None) is not None, evaluate=evaluate) == [("run7/step-1", "first")]
    assert nights.executor.asked == ["step-1", "step-1"]
    assert nights.said == ["run7/step-1: was written to while it was evaluated, so it is evaluated again"]


def test_what_is_no_fault_of_a_checkpoint_is_said_and_tried_again(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.add(1)
    full = [True, True, False]

    def evaluate(*asked: Any) -> GridResult:
        if full.pop(0):
            raise StoreError("runs/w: cannot be written: No space left on device")
        return nights.evaluate(*asked)

    assert nights.look(lambda: bool(full), evaluate=evaluate) == [("run7/step-1", "first")]
    assert nights.said == ["runs/w: cannot be written: No space left on device; it is tried again at the next look"]
    full[:] = [True]
    nights.add(2)
    with pytest.raises(StoreError, match="No space left"):
        nights.look(evaluate=evaluate)


def test_a_policy_that_fits_nothing_leaves_a_checkpoint_undecided(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path)
    nights.policy = Policy(checks=(Check(metric="f1", largest_drop=0.1),))
    nights.add(1)
    nights.add(2)
    assert nights.look()[1] == ("run7/step-2", "undecided")
    assert nights.kept[1]["why"].startswith("the policy cannot be applied: checks[0].metric: no metric 'f1'")
    assert nights.look() == [], "as long as the policy is the same"
    nights.policy = POLICY
    assert nights.look() == [("run7/step-2", "pass")], "the policy was mended"
    assert nights.said == []
    assert len({each["id"] for each in nights.kept}) == 3, "who has heard the first does not drop the second"
    assert nights.executor.asked == ["step-1", "step-2"], "its cells are done"


def test_verdicts_of_an_earlier_policy_stay_and_that_is_said(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path, s1=0.5, s2=0.48, s3=0.48)
    nights.policy = Policy(checks=(Check(metric="knowledge_best", largest_drop=0.2),))
    nights.add(1)
    nights.add(2)
    assert nights.look()[1] == ("run7/step-2", "pass")
    nights.policy = POLICY
    nights.add(3)
    assert nights.look() == [("run7/step-3", "pass")]
    assert nights.said == [
        "the policy has changed: earlier verdicts stay as they were reached; to have one reached anew, remove its file, as "
        f"{nights.run}/verdicts/00002.json"
    ]
    nights.look()
    assert len(nights.said) == 1


def test_the_series_is_told_of_with_the_verdicts(template: Path, tmp_path: Path) -> None:
    nights = Nights(template, tmp_path, s1=0.8, s2=0.8, s3=0.8, s4=0.5, s5=0.5)
    for step in range(1, 6):
        nights.add(step)
    nights.look(report=refresh)
    assert [(each["fault"], each["onset"]) for each in nights.kept] == [
        (None, None),
        (None, None),
        ("none", None),
        ("both", "step-4"),
        ("both", "step-4"),
    ]
    assert "from step-4 on, knowledge fell by 30.0 points" in nights.kept[4]["text"]
    assert (nights.run / "report.html").is_file()


def test_a_folder_that_is_named_stands_for_all_that_is_in_it(template: Path, tmp_path: Path) -> None:
    checkpoint(template, tmp_path / "run7/a", 1)
    checkpoint(template, tmp_path / "run7/tmp-b", 1)
    (tmp_path / "run7/logs").mkdir()
    (tmp_path / "run7/logs/log.txt").write_text("x")
    pattern = pattern_of(str(tmp_path / "run7"))
    assert (pattern.pattern, [path.name for path in pattern.found()]) == ("*", ["a"])
    assert pattern_of(f"{tmp_path}/none/step-*").found() == []
