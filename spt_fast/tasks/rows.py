"""Rows of a task, ready to use: read, checked, cut, disjoint, in a fixed order."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from spt_fast.errors import ConfigError, DataError, first_line, shortened
from spt_fast.tasks.base import SPLITS, Cut, FileSource, GeneratedSource, HubSource, LeftOut, Row, Split, Task
from spt_fast.tasks.library import LibrarySource, Opened
from spt_fast.tasks.loading import hub
from spt_fast.tasks.loading.files import read
from spt_fast.tasks.loading.splits import locate
from spt_fast.tasks.losses import Count, Losses, percent
from spt_fast.types import Example

FEW_SHOT_ROWS = 32
"""Most rows cut off for shots where a task has none of its own."""


CHOOSING_ROWS = 64
"""Tuning rows by which the best scoring method is chosen (`Rows.choosing`)."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a task. No question of one split is in another.

    Order: test and few-shot rows by content hash, so that the first N are a sample of the whole (published rows are
    often sorted by subject), and those of a smaller N are among those of a greater. Tuning rows as published.
    """

    tuning: tuple[Example, ...]
    few_shot: tuple[Example, ...]
    test: tuple[Example, ...]
    content: str
    """`content_hash` of the task."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Why tuning and few-shot rows were left out -> how many."""
    losses: Losses = field(default_factory=Losses)
    """Which test rows are not scored."""
    first: Any = None
    """Tasks of another library: `Opened.first`."""

    @cached_property
    def choosing(self) -> tuple[int, ...]:
        """The tuning rows that are learnt on last, by number, in that order: the last 64 by content hash, a quarter of fewer.

        By them the best scoring method is chosen (`knowledge_best`), as far as they were not learnt on: where there are 704
        tuning rows or more, 80 steps of 8 leave them all alone.
        """
        ordered = sorted(range(len(self.tuning)), key=lambda i: self.tuning[i].key)
        return tuple(ordered[len(ordered) - min(CHOOSING_ROWS, len(ordered) // 4) :])


def content_hash(task: Task, data_files: str | Mapping[str, str] | None = None) -> str:
    """What the rows are, before any is read: 16 hexadecimal digits.

    Of local files their bytes, of the Hub its id and commit, of generated rows what they are made from.

    Raises:
        ConfigError: a local file that is not there.
    """
    digest = hashlib.sha256(task.definition.encode())
    data_files = _files_of(task, data_files)
    if data_files is not None:
        for split, files in sorted(_local_files(task, data_files).items()):
            for file in files:
                digest.update(f"{split}:{_sha256(file)}\n".encode())
    elif isinstance(task.source, GeneratedSource):
        digest.update(f"generated:{task.source.content}".encode())
    elif isinstance(task.source, LibrarySource):
        digest.update(f"library:{task.source.opener.content()}".encode())
    elif isinstance(task.source, HubSource):
        for source in (task.source, *(source for _, source in sorted(task.source.elsewhere.items()))):
            splits = ",".join(f"{ours}={theirs}" for ours, theirs in sorted(source.splits.items()))
            digest.update(f"hub:{source.id}:{source.config}:{source.revision}:{splits}".encode())
    return digest.hexdigest()[:16]


def load_rows(
    task: Task,
    *,
    data_files: str | Mapping[str, str] | None = None,
    limit: int | None = None,
    need: Collection[Split] = SPLITS,
    cut: bool = True,
    fetch: Callable[[HubSource, Split], list[Row]] = hub.fetch,
) -> Rows:
    """Read a task's rows.

    Where a data set has test rows only, `Task.cut` says how the others are cut from them. Where few-shot rows are not
    published apart, they are a fixed cut of the tuning rows: the last 32 by content hash,
    or a tenth of fewer rows (at least 8 if that leaves as many). A tuning or few-shot row whose question is a test
    row's is dropped and counted, and so is a tuning row that repeats another or a few-shot row. Test rows are all kept, but
    for those that the task leaves out; which these are, `Rows.losses` tells.

    Args:
        task: whose rows.
        data_files: local rows instead of the task's own: a folder with one file a split, or {split: file}.
        limit: keep so many test rows.
        need: splits that must not be empty: a grid that only asks plainly can do without tuning rows.
        cut: cut tuning and few-shot rows from the test rows where there are no others; else all test rows are scored.
        fetch: how a split comes from the Hub.

    Raises:
        ConfigError: a local file that is not there.
        DataError: rows that are unreadable or not what the task expects, or a needed split without rows.
    """
    data_files = _files_of(task, data_files)
    files = None if data_files is None else _local_files(task, data_files)
    opened: Opened | None = None
    if isinstance(task.source, LibrarySource):
        opened, files = task.source.opener.open(files, learns=cut), None
    dropped: dict[str, int] = {}
    raw: dict[Split, list[Example]] = {}
    tested = Count()
    for split in _stored(task, files, opened):
        count = tested if split == "test" else Count()
        raw[split] = list(_examples(task, _places(task, split, files, fetch, opened), count))
        if split != "test":
            dropped[f"{split} rows that the task leaves out"] = count.left_out
    cut_off: dict[str, int] = {}
    if cut and task.cut is not None and "tuning" not in raw:
        parts = _cut(raw.get("test", []), replace(task.cut, few_shot=0) if "few_shot" in raw else task.cut)
        cut_off = {split: len(parts[split]) for split in ("tuning", "few_shot")}
        raw = {**parts, "few_shot": raw.get("few_shot", parts["few_shot"])}
    test = _in_content_order(_with_own_keys(raw.get("test", [])))
    asked = {_asked(example) for example in test}
    pool = _drop("tuning rows that repeat a tuning row", _unrepeated(raw.get("tuning", [])), dropped)
    pool = _drop("tuning rows that are test rows", _others(pool, asked), dropped)
    if opened is not None and not cut:
        few_shot = raw["few_shot"]  # as the library draws from them, repeated or not: nothing is learnt
    elif "few_shot" in raw:
        few_shot = _drop("few-shot rows that are test rows", _others(raw["few_shot"], asked), dropped)
        few_shot = _drop("few-shot rows that repeat a few-shot row", _unrepeated(few_shot), dropped)
        pool = _drop("tuning rows that are few-shot rows", _others(pool, {_asked(e) for e in few_shot}), dropped)
    else:
        few_shot = _in_content_order(pool)[len(pool) - few_shot_cut(len(pool)) :]
        shown = {_asked(example) for example in few_shot}
        pool = [example for example in pool if _asked(example) not in shown]
    rows = Rows(
        tuning=tuple(pool),
        few_shot=tuple(_in_content_order(few_shot)),
        test=tuple(test[:limit]),
        content=content_hash(task, data_files),
        dropped={why: count for why, count in dropped.items() if count},
        losses=tested.losses(cut_off),
        first=None if opened is None else opened.first,
    )
    for split in SPLITS:
        if split in need and not getattr(rows, split):
            raise DataError(f"{task.name}: no {split} rows{_reason(task, split, files, rows)}")
    return rows


def is_cut(task: Task, data_files: str | Mapping[str, str] | None = None) -> bool:
    """Whether rows to be learnt from are cut from the test rows, because there are no others.

    Raises:
        ConfigError: a local file that is not there.
    """
    if isinstance(task.source, LibrarySource):
        return True  # shots come from all rows that it would draw them from, unless some are learnt from
    data_files = _files_of(task, data_files)
    files = None if data_files is None else _local_files(task, data_files)
    return task.cut is not None and "tuning" not in _stored(task, files)


def few_shot_cut(count: int) -> int:
    """How many of `count` tuning rows are kept for shots where none are published apart."""
    return min(FEW_SHOT_ROWS, max(count // 10, min(8, count // 2)))


def _files_of(task: Task, data_files: str | Mapping[str, str] | None) -> str | Mapping[str, str] | None:
    """Local files that stand for the task's rows: the grid's, or those of a task that has no other."""
    if data_files is None and isinstance(task.source, FileSource):
        return task.source.files
    return data_files


def _cut(examples: Sequence[Example], cut: Cut) -> dict[Split, list[Example]]:
    """Tuning, few-shot and test rows of a data set that has one split: whole groups, in the order of their hashes."""
    groups: dict[str, list[Example]] = {}
    for example in _in_content_order(examples):
        groups.setdefault(example.group if cut.by == "group" else example.key, []).append(example)
    tuning_rows = min(cut.tuning, int(cut.share * len(examples)))
    found: dict[Split, list[Example]] = {"tuning": [], "few_shot": [], "test": []}
    for _, members in sorted(groups.items(), key=lambda item: hashlib.sha256(item[0].encode()).digest()):
        if len(found["tuning"]) < tuning_rows:
            found["tuning"] += members
        elif len(found["few_shot"]) < cut.few_shot:
            found["few_shot"] += members
        else:
            found["test"] += members
    return found


def _local_files(task: Task, data_files: str | Mapping[str, str]) -> dict[Any, tuple[Path, ...]]:
    """By our splits; those of a library's task by the data set's own."""
    if isinstance(task.source, LibrarySource):
        return task.source.opener.locate(data_files)
    files: dict[Any, tuple[Path, ...]] = {**locate(task, data_files)}
    if "test" not in files:
        name = task.source.all_splits["test"] if isinstance(task.source, HubSource) else "test"
        where = data_files if isinstance(data_files, str) else "{" + ", ".join(data_files) + "}"
        raise ConfigError(f"data_files: no test rows in {where}; give a file {name}.jsonl, .json, .csv or .parquet")
    return files


def _stored(task: Task, files: Mapping[Split, tuple[Path, ...]] | None, opened: Opened | None = None) -> list[Split]:
    """The splits that are read; few-shot rows that are cut from the tuning rows are not."""
    if opened is not None:
        return [split for split in SPLITS if split in opened.rows]
    if files is not None:
        return [split for split in SPLITS if split in files]
    if isinstance(task.source, GeneratedSource):
        return list(SPLITS)
    assert isinstance(task.source, HubSource)  # file sources have come as `files`
    splits = task.source.all_splits
    same = task.source.of("few_shot") == task.source.of("tuning")
    return [s for s in SPLITS if s in splits and not (s == "few_shot" and same and splits[s] == splits.get("tuning"))]


def _places(
    task: Task,
    split: Split,
    files: Mapping[Split, tuple[Path, ...]] | None,
    fetch: Callable[[HubSource, Split], list[Row]],
    opened: Opened | None = None,
) -> Iterator[tuple[str, Row]]:
    """Rows, each with words for where it is."""
    if opened is not None:
        for number, row in enumerate(opened.rows[split], 1):
            yield f"{task.name} {split}, row {number}", row
        return
    if files is not None:
        for file in files[split]:
            for place, row in read(file):
                yield f"{file}, {place}", row
        return
    if isinstance(task.source, GeneratedSource):
        name, rows = f"{task.name} {split}", task.source.rows(split)
    else:
        assert isinstance(task.source, HubSource)
        source = task.source.of(split)
        name, rows = f"{source.id} {source.splits[split]}", fetch(source, split)
    for number, row in enumerate(rows, 1):
        yield f"{name}, row {number}", row


def _examples(task: Task, rows: Iterable[tuple[str, Row]], count: Count) -> Iterator[Example]:
    """The rows that the task asks; each row is counted."""
    for place, row in rows:
        try:
            example = task.read_row(row)
            left_out = LeftOut("that read_row leaves out") if example is None else None
        except LeftOut as e:
            example, left_out = None, e
        except KeyError as e:
            raise DataError(
                f"{place}: {task.name} needs a column {e}; the row has {_columns(row)}; "
                "rename it, or name files that have it in data_files"
            ) from None
        except Exception as e:  # a user's own code may raise anything
            kind = "" if isinstance(e, TypeError | ValueError | AttributeError) else f"{type(e).__name__}: "
            raise DataError(
                f"{place}: is not a row of {task.name} ({kind}{first_line(e)}); fix the row, or remove it"
            ) from None
        count.take(place, left_out)
        if example is None:
            continue
        if not task.follows_format(example.target, example):
            end = example.target[-60:]
            raise DataError(f"{place}: the target {end!r} is not in the form that {task.name} asks for")
        yield example


_SHOWN_COLUMNS = 8


def _columns(row: Row) -> str:
    """The names of a row's columns, as a message shows them."""
    names = [name if len(name) <= 30 and name.isprintable() else shortened(name, 30) for name in map(str, row)]
    more = len(names) - _SHOWN_COLUMNS
    return ", ".join(names[:_SHOWN_COLUMNS]) + (f" and {more:,} more" if more > 0 else "") or "none"


def _asked(example: Example) -> str:
    """What makes two rows the same question: what is asked, whatever its case and white space.

    Where options are given they identify it, and the context does not count: MMLU has one question in two subjects.
    """
    options = example.listing or example.options
    text = "\0".join([example.question, *options] if options else [example.context, example.question])
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _unrepeated(examples: Iterable[Example]) -> Iterator[Example | None]:
    seen: set[str] = set()
    for example in examples:
        asked = _asked(example)
        yield None if asked in seen else example
        seen.add(asked)


def _others(examples: Iterable[Example], asked: Collection[str]) -> Iterator[Example | None]:
    return (None if _asked(example) in asked else example for example in examples)


def _drop(why: str, examples: Iterable[Example | None], dropped: dict[str, int]) -> list[Example]:
    """Leave out the Nones, and count them."""
    all_of_them = list(examples)
    kept = [example for example in all_of_them if example is not None]
    dropped[why] = len(all_of_them) - len(kept)
    return kept


def _in_content_order(examples: Iterable[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: example.key)


def _with_own_keys(examples: Iterable[Example]) -> Iterator[Example]:
    """Test rows that are published twice stay, and get keys of their own: paired comparisons go by key."""
    count: dict[str, int] = {}
    for example in examples:
        nth = count[example.key] = count.get(example.key, 0) + 1
        yield example if nth == 1 else replace(example, key=f"{example.key}-{nth}")


def _reason(task: Task, split: Split, files: Mapping[Split, tuple[Path, ...]] | None, rows: Rows) -> str:
    if split == "test":
        return _no_test_rows(task, files, rows.losses)
    if rows.dropped:
        return " are left (" + ", ".join(f"{count} {why}" for why, count in rows.dropped.items()) + ")"
    if files is None:
        return "; the task has test rows only: ask zero_shot, or give rows as data_files"
    if split not in files and split == "tuning":
        return "; add a file tuning.jsonl or train.jsonl (.json, .csv and .parquet do too)"
    there = files.get(split) or files.get("tuning")
    return f" in {', '.join(map(str, there))}" if there else "; add a file tuning.jsonl or few_shot.jsonl"


def _no_test_rows(task: Task, files: Mapping[Split, tuple[Path, ...]] | None, losses: Losses) -> str:
    """Why there is nothing to score."""
    where = "" if files is None else f" in {', '.join(map(str, files['test']))}"
    if losses.cut and task.cut is not None:
        tuning, few_shot = losses.cut["tuning"], losses.cut["few_shot"]
        return (
            f" are left{where}: of {tuning + few_shot} rows, {tuning} are cut off for tuning ({task.cut.tuning}, or "
            f"{percent(task.cut.share)} of fewer) and {few_shot} for shots; ask zero_shot alone, which cuts nothing, or give "
            "tuning and few-shot rows of their own as data_files"
        )
    kinds = [*losses.left_out, *losses.by_design]
    if not kinds:
        return f"{where}; it has no rows" if files is not None and len(files["test"]) == 1 else where
    reasons = ", ".join(f"{loss.rows:,} {loss.why} (the first: {loss.first})" for loss in kinds)
    return f"{where}: all {losses.found:,} are left out: {reasons}"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from None
