"""`tasks list lm-eval` and `tasks show lm-eval:X`."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from spt_fast import tasks
from spt_fast.cli.showing import show_task
from spt_fast.config import GridConfig, ModelConfig, TaskConfig
from spt_fast.errors import ConfigError
from spt_fast.plan import expand
from spt_fast.tasks.lm_eval.index import index
from tests.helpers.lm_eval_rows import files


def test_the_counts_are_of_all_tasks_of_the_installed_version() -> None:
    """Each task is counted once, and those that cannot be asked have their reasons."""
    lines = tasks.listing("lm-eval").splitlines()
    total = int(re.search(r"([\d,]+) tasks", lines[0])[1].replace(",", ""))  # type: ignore[index]
    counted = [line for line in lines if re.match(r" {0,6}[\d,]+  \w", line)]
    numbers = [int(line.split()[0].replace(",", "")) for line in counted]
    assert len(numbers) == 4
    assert sum(numbers) == total == len(index().tasks)
    refused = lines[lines.index(counted[3]) + 1 :]
    reasons = [int(line.split()[0].replace(",", "")) for line in refused if line.startswith(" " * 10)]
    assert sum(reasons) == numbers[3]


def test_names_are_listed_by_pattern_and_a_wrong_one_is_refused() -> None:
    """With what each task is, and which groups there are."""
    listed = tasks.listing("lm-eval:leaderboard_bbh*")
    assert "group  leaderboard_bbh: 24 tasks" in listed
    assert "cut     leaderboard_bbh_boolean_expressions" in listed
    with pytest.raises(ConfigError, match="no task, group or tag"):
        tasks.listing("lm-eval:nothing-like-it*")
    with pytest.raises(ConfigError, match="is no list"):
        tasks.listing("lighteval")


def test_a_task_is_shown_with_its_own_prompt_and_target(tmp_path: Path) -> None:
    """From local rows: prompt, target with its delimiter, form in words, splits."""
    shown = show_task("lm-eval:gsm8k", data_files=files(tmp_path, "gsm8k", train=30, test=4), shots=1)
    assert "training = train, test = test, fewshot = train" in shown
    assert "any words that end with what the filter 'strict-match' looks for" in shown
    assert shown.count("Question:·") == 2
    assert re.search(r"target     ·\w+", shown)


def test_without_rows_a_task_is_shown_as_its_config_has_it() -> None:
    """Offline, with nothing in the cache."""
    shown = show_task("lm-eval:mmlu_anatomy")
    assert "none could be read" in shown
    assert "doc_to_choice    ['A', 'B', 'C', 'D']" in shown


def test_a_beginning_of_names_is_answered_with_those_that_begin_so() -> None:
    """lm-eval has no task or tag `arc`, but many that begin with it."""
    with pytest.raises(ConfigError, match=r"did you mean 'arc_\w+' or .* \(all \d+: spt-fast tasks list 'lm-eval:arc\*'\)"):
        tasks.get("lm-eval:arc")


def test_a_group_of_hundreds_of_tasks_is_planned_in_seconds() -> None:
    """Of the processor's time, once the index is there: 372 tasks, three protocols."""
    index()
    began = time.process_time()
    cells = expand(
        GridConfig(
            name="g",
            models=(ModelConfig(id="zoo/base-95"),),
            tasks=(TaskConfig(task="lm-eval:african_flores"),),
            engine={"kind": "echo"},
        )
    )
    assert len(cells) == 3 * len(index().expand("african_flores")) > 1000
    assert time.process_time() - began < 5
