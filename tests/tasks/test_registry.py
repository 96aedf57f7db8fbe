"""Tasks are found by name, and looking for them costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from spt_fast import tasks
from spt_fast.errors import ConfigError
from spt_fast.tasks.base import SPLITS, HubSource


@pytest.mark.parametrize("name", tasks.names())
def test_every_name_leads_to_the_task_of_that_name(name: str) -> None:
    task = tasks.get(name)
    assert task.name == name
    assert task.version >= 1
    assert task.closed_ended or task.extract is not None
    assert 0 <= task.random_baseline < 1
    assert task.licence


@pytest.mark.parametrize("name", tasks.names())
def test_a_hub_task_is_pinned_to_a_commit_and_names_every_split(name: str) -> None:
    source = tasks.get(name).source
    if isinstance(source, HubSource):
        assert re.fullmatch("[0-9a-f]{40}", source.revision)
        assert set(source.splits) == set(SPLITS)
        assert source.splits["test"] not in {source.splits["tuning"], source.splits["few_shot"]}


@pytest.mark.parametrize(("name", "meant"), [("gsm8", "gsm8k"), ("MMLU", "mmlu"), ("zoo_mcq", "zoo-mcq")])
def test_a_wrong_name_is_answered_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        tasks.get(name)


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(ConfigError, match=r"there are zoo-mcq, .*, mmlu"):
        tasks.get("????")


def test_tasks_and_scoring_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from spt_fast import tasks\n"
        "from spt_fast.tasks.rows import content_hash, load_rows\n"
        "import spt_fast.scoring.measures, spt_fast.report\n"
        "for name in tasks.names(): content_hash(tasks.get(name))\n"
        "load_rows(tasks.get('zoo-mcq'))\n"
        "print([m for m in ('torch','datasets','pyarrow','scipy','numpy','transformers','rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
