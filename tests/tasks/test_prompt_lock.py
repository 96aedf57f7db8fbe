"""What a model reads does not change unnoticed: each task's prompts are on record, by hash, beside its version.

After a change that was meant, raise the task's `version` and run `python tests/tasks/test_prompt_lock.py --write`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from spt_fast import tasks
from spt_fast.models.tokenizer import Tokenizer, continuation
from spt_fast.tasks.base import GeneratedSource, Task
from spt_fast.tasks.multiple_choice import INSTRUCTIONS, has_forms
from spt_fast.tasks.rows import load_rows
from spt_fast.training.rows import tuning_row
from spt_fast.types import Example
from spt_fast.worker.questions import texts_of

LOCK = Path(__file__).with_name("prompt_lock.json")
TOKENIZER = Path(__file__).parents[2] / "spt_fast" / "zoo" / "weights" / "base-40"
WRITE = "python tests/tasks/test_prompt_lock.py --write"

Entry: TypeAlias = Mapping[str, Any]
"""`version`; and by what was rendered ("zero_shot text", "tuning tokens", ...) a hash."""


def locked_names() -> list[str]:
    """Our tasks, not those of other installed packages, and their other forms of the answer."""
    ours = list(tasks._WHERE)
    return ours + [f"{name}:{form}" for name in ours if has_forms(tasks.get(name)) for form in INSTRUCTIONS]


def short_hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:12]


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(TOKENIZER)


def tokenizer_hash() -> str:
    return hashlib.sha256((TOKENIZER / "tokenizer.json").read_bytes()).hexdigest()[:12]


def examples_of(task: Task) -> tuple[Example, list[Example]]:
    """One row to ask, and two shots."""
    if isinstance(task.source, GeneratedSource):
        rows = load_rows(task)
        return rows.test[0], list(rows.few_shot[:2])
    assert task.sample is not None, f"{task.name} has no sample row"
    example = task.read_row(task.sample)
    assert example is not None, f"{task.name} leaves out its own sample row"
    return example, [example, example]


def entry_of(task: Task) -> Entry:
    """What a task's prompts are now."""
    example, shots = examples_of(task)
    texts = {"zero_shot": task.template.prompt(example), "few_shot": task.template.prompt(example, shots)}
    entry: dict[str, Any] = {"version": task.version}
    for protocol, text in texts.items():
        pairs = [tokenizer().pair(text, continuation(text, option)) for option in example.options]
        entry[f"{protocol} text"] = short_hash([text, *example.options])
        entry[f"{protocol} tokens"] = short_hash([tokenizer().prompt_ids(text), pairs])
    tuned = tuning_row(tokenizer(), texts["zero_shot"], example.target)
    entry["tuning text"] = short_hash([texts["zero_shot"], example.target])
    entry["tuning tokens"] = short_hash([tuned.prompt_ids, tuned.target_ids])
    if (cloze := task.cloze_template) is not None:
        worked = [replace(shot, target=texts_of(shot)[shot.gold or 0]) for shot in shots]
        entry["cloze text"] = short_hash([cloze.prompt(example), cloze.prompt(example, worked), cloze.cue, *texts_of(example)])
    entry["decoding text"] = short_hash([task.format, task.sampling.max_tokens, task.sampling.stop])
    return entry


def complaint(name: str, locked: Entry | None, now: Entry, *, same_tokenizer: bool = True) -> str | None:
    """What is wrong with a task's prompts being `now` where `locked` is on record; a sentence, or None."""
    if locked is None:
        return f"{name}: is not in the prompt lock: {WRITE}"
    changed = changes(locked, now, same_tokenizer=same_tokenizer)
    if now["version"] < locked["version"]:
        return f"{name}: its version is {now['version']}, and {locked['version']} is on record: versions only rise"
    if now["version"] > locked["version"]:
        return f"{name}: its version is now {now['version']}; put that on record: {WRITE}"
    if changed:
        what = ", ".join(changed)
        return f"{name}: {what} changed and its version is still {now['version']}: raise it, then {WRITE}"
    return None


def changes(locked: Entry, now: Entry, *, same_tokenizer: bool) -> Sequence[str]:
    """Which hashes differ. With another tokenizer, those of tokens say nothing."""
    names = {**locked, **now}
    return [
        name
        for name in names
        if name != "version" and locked.get(name) != now.get(name) and (same_tokenizer or not name.endswith("tokens"))
    ]


def read_lock(path: Path = LOCK) -> dict[str, Any]:
    empty = {"tokenizer": tokenizer_hash(), "tasks": {}}
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty


def write_lock(now: Mapping[str, Entry], path: Path = LOCK) -> list[str]:
    """Put the tasks' prompts on record. Refuses, and writes nothing, where one changed and its version did not.

    Returns:
        Why it refuses; empty where it has written.
    """
    lock = read_lock(path)
    same = lock["tokenizer"] == tokenizer_hash()
    refused = []
    for name, entry in now.items():
        locked = lock["tasks"].get(name)
        if locked is not None and entry["version"] <= locked["version"]:
            refused += filter(None, [complaint(name, locked, entry, same_tokenizer=same)])
    if not refused:
        path.write_text(json.dumps({"tokenizer": tokenizer_hash(), "tasks": now}, indent=1) + "\n", encoding="utf-8")
    return refused


@pytest.mark.parametrize("name", locked_names())
def test_prompts_are_those_on_record_or_the_version_rose(name: str) -> None:
    lock = read_lock()
    same = lock["tokenizer"] == tokenizer_hash()
    found = complaint(name, lock["tasks"].get(name), entry_of(tasks.get(name)), same_tokenizer=same)
    assert found is None, found


def test_the_lock_has_our_tasks_and_no_others_and_the_zoos_tokenizer() -> None:
    lock = read_lock()
    assert set(lock["tasks"]) == set(locked_names()), WRITE
    assert lock["tokenizer"] == tokenizer_hash(), f"the zoo's tokenizer changed: {WRITE}"


def test_a_prompt_that_changed_at_the_same_version_is_told_in_a_sentence() -> None:
    assert complaint("t", {"version": 1, "zero_shot text": "a"}, {"version": 1, "zero_shot text": "b"}) == (
        f"t: zero_shot text changed and its version is still 1: raise it, then {WRITE}"
    )
    assert complaint("t", {"version": 1, "zero_shot text": "a"}, {"version": 1, "zero_shot text": "a"}) is None
    assert "put that on record" in str(complaint("t", {"version": 1}, {"version": 2}))
    assert "only rise" in str(complaint("t", {"version": 2}, {"version": 1}))
    assert "not in the prompt lock" in str(complaint("t", None, {"version": 1}))


@pytest.mark.parametrize("name", ["gsm8k", "mmlu:letter", "zoo-json"])
def test_one_word_more_in_a_prompt_is_noticed(name: str) -> None:
    task = tasks.get(name)
    template = replace(task.template, instruction=f"{task.template.instruction} Please.")
    before, after = entry_of(task), entry_of(replace(task, template=template))
    assert complaint(name, before, before) is None
    assert "zero_shot text, zero_shot tokens, few_shot text, few_shot tokens, tuning text, tuning tokens changed" in str(
        complaint(name, before, after)
    )


def test_another_tokenizer_changes_tokens_and_no_versions() -> None:
    locked, now = {"version": 1, "tuning tokens": "a"}, {"version": 1, "tuning tokens": "b"}
    assert complaint("t", locked, now) is not None
    assert complaint("t", locked, now, same_tokenizer=False) is None


def test_what_changed_at_the_same_version_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    assert write_lock({"t": {"version": 1, "tuning text": "a"}}, path) == []
    before = path.read_text()
    (refused,) = write_lock({"t": {"version": 1, "tuning text": "b"}, "new": {"version": 1}}, path)
    assert refused.startswith("t: tuning text changed")
    assert path.read_text() == before
    assert write_lock({"t": {"version": 2, "tuning text": "b"}, "new": {"version": 1}}, path) == []
    assert set(read_lock(path)["tasks"]) == {"t", "new"}


def test_prompts_of_every_protocol_are_the_same_but_for_the_shots() -> None:
    for name in locked_names():
        task = tasks.get(name)
        example, shots = examples_of(task)
        plain, shown = task.template.prompt(example), task.template.prompt(example, shots)
        item = task.template.render(example)
        assert plain.startswith(task.template.instruction)
        assert plain.endswith(item)
        assert shown.startswith(task.template.instruction)
        assert shown.endswith(item)
        assert all(f"{task.template.render(shot)} {shot.target}" in shown for shot in shots)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {WRITE}")
    if reasons := write_lock({name: entry_of(tasks.get(name)) for name in locked_names()}):
        sys.exit("\n".join([*reasons, "nothing was written"]))
    print(f"wrote {LOCK}")
