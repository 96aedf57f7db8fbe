"""Tasks are found by name, and looking for them costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from spt_fast import tasks
from spt_fast.errors import ConfigError
from spt_fast.tasks.base import SPLITS, HubSource
from spt_fast.tasks.multiple_choice import INSTRUCTIONS, has_forms

LETTERED = [name for name in tasks.names() if has_forms(tasks.get(name))]


@pytest.mark.parametrize("name", tasks.names())
def test_every_name_leads_to_the_task_of_that_name(name: str) -> None:
    task = tasks.get(name)
    assert task.name == name
    assert re.fullmatch(r"[\w.+-]+", name), "no colon, which is for forms, and nothing that a folder cannot be called"
    assert task.version >= 1
    assert task.summary
    assert task.closed_ended or task.extract is not None
    assert 0 <= task.random_baseline < 1
    assert task.licence
    assert task.definition == "", "that is for files of users"


@pytest.mark.parametrize("name", tasks.names())
def test_a_hub_task_is_pinned_to_a_commit_and_names_every_split(name: str) -> None:
    task = tasks.get(name)
    source = task.source
    if not isinstance(source, HubSource):
        assert task.cut is None
        return
    for each in (source, *source.elsewhere.values()):
        assert re.fullmatch("[0-9a-f]{40}", each.revision)
    splits = source.all_splits
    assert set(splits) == ({"test"} if task.cut else set(SPLITS))
    assert set(source.sizes) <= set(SPLITS)
    if not task.cut:
        test = {(source.of("test").id, name) for name in splits["test"].split("+")}
        for split in ("tuning", "few_shot"):
            assert not test & {(source.of(split).id, name) for name in splits[split].split("+")}


@pytest.mark.parametrize("name", tasks.names())
def test_a_hub_task_shows_a_made_up_row_in_the_form_it_asks_for(name: str) -> None:
    task = tasks.get(name)
    if task.sample is None:
        assert not isinstance(task.source, HubSource)
        return
    example = task.read_row(task.sample)
    assert example is not None
    assert task.follows_format(example.target, example)
    assert example.question in task.template.prompt(example)
    if task.extract is not None:
        found = task.extract(example.target)
        assert found is not None
        assert task.accepts(found.value, example)


@pytest.mark.parametrize(("name", "meant"), [("gsm8", "gsm8k"), ("MMLU", "mmlu"), ("zoo_mcq", "zoo-mcq")])
def test_a_wrong_name_is_answered_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        tasks.get(name)


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(ConfigError, match=r"choose from zoo-mcq, .*, mmlu"):
        tasks.get("????")


# forms of the answer


@pytest.mark.parametrize("name", LETTERED)
@pytest.mark.parametrize("form", INSTRUCTIONS)
def test_a_task_with_letters_can_be_asked_for_the_letter_or_the_text(name: str, form: str) -> None:
    task, plain = tasks.get(f"{name}:{form}"), tasks.get(name)
    assert task is tasks.get(f"{name}:{form}"), "one task, so that it is the same in every cell"
    assert (task.name, task.source, task.version) == (f"{name}:{form}", plain.source, plain.version)
    assert plain.sample is not None
    before, after = plain.read_row(plain.sample), task.read_row(plain.sample)
    assert before is not None
    assert after is not None
    letter, _, text = before.target.partition(". ")
    assert after.target == (letter if form == "letter" else text)
    assert (after.gold, after.key) == (before.gold, before.key)
    assert task.follows_format(after.target, after)
    assert not task.follows_format(before.target, after)
    assert task.template.render(after) == plain.template.render(before), "the prompt lists the options as before"


def test_mmlu_is_among_the_tasks_with_letters() -> None:
    assert {"mmlu", "belebele", "arc_easy"} <= set(LETTERED)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gsm8k:letter", "gsm8k has one form of the answer only; leave out ':letter'"),
        ("mmlu:digit", "mmlu has the forms mmlu:letter, mmlu:text, not 'digit'"),
        ("mmul:letter", "did you mean 'mmlu'"),
    ],
)
def test_a_form_that_a_task_does_not_have_is_refused(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tasks.get(name)


# what looking costs


def test_tasks_and_scoring_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from spt_fast import tasks\n"
        "from spt_fast.tasks.rows import content_hash, load_rows\n"
        "import spt_fast.scoring.score, spt_fast.tasks.overlap\n"
        "for name in tasks.names(): content_hash(tasks.get(name))\n"
        "load_rows(tasks.get('zoo-mcq'))\n"
        "print([m for m in ('torch','datasets','pyarrow','scipy','numpy','transformers','rich','sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_asking_for_one_task_reads_no_other() -> None:
    code = (
        "import sys\nfrom spt_fast import tasks\ntasks.get('zoo-mcq')\n"
        "unwanted = ('benchmarks.gsm8k', 'benchmarks.mmlu', 'custom', 'custom.file')\n"
        "print([m for m in unwanted if f'spt_fast.tasks.{m}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
