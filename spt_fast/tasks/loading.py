"""Where rows come from: the Hub (the one door to `datasets`), local files, the package itself."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from spt_fast.errors import ConfigError, DataError, UnreachableError, first_line
from spt_fast.output import at_home
from spt_fast.tasks.base import SPLITS, HubSource, Row, Split, Task

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")

_OTHER_NAMES: Mapping[Split, tuple[str, ...]] = {
    "tuning": ("train", "dev", "validation"),
    "few_shot": (),
    "test": (),
}
"""What a file of a split may also be called, after our name of it and the data set's own. A test file goes by nothing
else: scoring the rows of another split by mistake would look like a result."""


def fetch(source: HubSource, split: Split) -> list[Row]:
    """The rows of one split of a data set on the Hub, at its pinned commit; from the cache, where they are in it.

    Raises:
        UnreachableError: the rows are not in the cache, and the Hub cannot be reached.
        DataError: the Hub does not have it, or does not give it.
    """
    configs = source.config if isinstance(source.config, tuple) else (source.config,)
    found: list[Row] = []
    for config in configs:
        rows = _cached(source, escape(config or "default"), split)
        found.extend(_download(source, config, split) if rows is None else rows)
    return found


def _cached(source: HubSource, config: str, split: Split) -> Sequence[Row] | None:
    """What an earlier run has left in the cache of `datasets`, of this very commit; asks nobody.

    `load_dataset` asks the Hub even for what it has, and where that fails takes the latest commit in the cache, whichever
    was asked for (huggingface/datasets#7928).

    Args:
        source: which data set.
        config: a pattern; there must be one match.
        split: which split.
    """
    import datasets
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.cache.cache import Cache

    owner, _, name = source.id.rpartition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(filter(None, (owner, camelcase_to_snakecase(name))))
    found = list(folder.glob(f"{config}/*/{source.revision}"))
    if len(found) != 1:
        return None
    *_, config_id, version, commit = found[0].parts
    try:
        builder = Cache(repo_id=source.id, dataset_name=name, config_name=config_id, version=version, hash=commit)
        rows: Sequence[Row] = builder.as_dataset(split=source.splits[split])
    except Exception:  # a cache that was cut short, or that lacks the split: the Hub may have it
        return None
    return rows


def _download(source: HubSource, config: str | None, split: Split) -> Sequence[Row]:
    import datasets

    where = f"{source.id} ({source.splits[split]}, commit {source.revision[:8]})"
    unreachable = _unreachable(source.id, source.revision)
    if unreachable:
        # What a data set calls its default config stands in its card; here, it is the one that was read before.
        if config is None and (only := _cached(source, "*", split)) is not None:
            return only
        raise UnreachableError(
            f"{where} is not in the cache, and the Hub cannot be reached ({unreachable}); "
            "connect, or give the rows as data_files"
        )
    try:
        rows = datasets.load_dataset(source.id, config, revision=source.revision, split=source.splits[split])
        commits = {Path(file["filename"]).parent.name for file in rows.cache_files}
        if any(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits - {source.revision}):
            raise LookupError("datasets could not read it, and fell back on another commit in its cache")
    except Exception as e:  # `datasets` raises whatever its file systems and clients raise
        raise DataError(
            f"{where} cannot be had from the Hub ({type(e).__name__}: {first_line(e)}); "
            "check the connection and HF_TOKEN, or give the rows as data_files"
        ) from e
    found: Sequence[Row] = rows
    return found


@cache
def _unreachable(source_id: str, revision: str) -> str | None:
    """Why the Hub cannot be reached; None where it can be. Asked once a process: `datasets` itself would try for half a minute.

    Raises:
        DataError: it can be, and has no such data set, or one that it does not give to everybody.
    """
    import datasets
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if datasets.config.HF_HUB_OFFLINE:
        return "HF_DATASETS_OFFLINE is set"
    try:
        if HfApi().dataset_info(source_id, revision=revision, timeout=10).gated:
            HfApi().auth_check(source_id, repo_type="dataset")  # what it is anybody is told; its files are refused
    except GatedRepoError:
        raise DataError(f"{source_id}: is gated; accept its licence on the Hub and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise DataError(f"{source_id}: the Hub has no commit {revision} of it any more; give the rows as data_files") from None
    except RepositoryNotFoundError:
        raise DataError(f"{source_id}: the Hub has no such data set (or it is private: set HF_TOKEN)") from None
    except HfHubHTTPError as e:
        status = e.response.status_code
        if status in (401, 403):
            raise DataError(f"{source_id}: the Hub refuses it ({status}); renew HF_TOKEN, or unset it") from None
        return f"it answers {status}"
    except Exception as e:  # no network, proxies, time-outs: each library has its own classes
        return type(e).__name__
    return None


def locate(task: Task, data_files: str | Mapping[str, str]) -> dict[Split, tuple[Path, ...]]:
    """The local files of each split; a split that has none is left out.

    A folder is searched for `<split>.jsonl`, `.json`, `.csv` or `.parquet`, where the split goes by our name of it, by
    the name that the data set on the Hub uses, or for tuning by `train`, `dev` or `validation`.

    Raises:
        ConfigError: a file or folder that is not there, a split nobody knows, two files for one split.
    """
    if isinstance(data_files, str):
        return _in_folder(task, at_home(data_files))
    # A name that could be two splits' is the test rows': they must never be tuned on.
    known = {name: split for split in SPLITS for name in _names(task, split)}
    found: dict[Split, tuple[Path, ...]] = {}
    for name, file in data_files.items():
        if name not in known:
            raise ConfigError(f"data_files: unknown split {name!r}; there are {', '.join(sorted(known))}")
        path = at_home(file)
        if not path.is_file():
            raise ConfigError(f"data_files: {name}: there is no file {str(path)!r}")
        _check_suffix(path)
        found[known[name]] = (*found.get(known[name], ()), path)
    return found


def read(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a file, each with its place: "line 3" or "row 3", counted from 1.

    Raises:
        DataError: it cannot be read; names the line and what is wrong there.
    """
    _check_suffix(path)
    try:
        if path.suffix.lower() == ".parquet":
            yield from _parquet(path)
        else:
            text = path.read_text(encoding="utf-8-sig")
            yield from {".jsonl": _json_lines, ".json": _json, ".csv": _csv}[path.suffix.lower()](path, text)
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from None
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: is not UTF-8 (byte {e.start}); save it as UTF-8") from None


def _names(task: Task, split: Split) -> tuple[str, ...]:
    """The names that a split goes by, the surest first.

    A data set's own name of its test rows goes before ours: where it scores `validation`, its `test` has no answers.
    """
    splits = task.source.all_splits if isinstance(task.source, HubSource) else {}
    own = splits.get(split, "").split("+")
    if split == "few_shot" and splits.get(split) == splits.get("tuning"):
        own = []  # the same rows as tuning: then the shots are cut from those, not read twice
    names = [*own, split] if split == "test" else [split, *own, *_OTHER_NAMES[split]]
    return tuple(dict.fromkeys(name for name in names if name))


def _in_folder(task: Task, folder: Path) -> dict[Split, tuple[Path, ...]]:
    if not folder.is_dir():
        what = "is a file; give {split: file}" if folder.is_file() else "is not there"
        raise ConfigError(f"data_files: the folder {str(folder)!r} {what}")
    found: dict[Split, tuple[Path, ...]] = {}
    taken: set[Path] = set()
    for split in ("test", "few_shot", "tuning"):
        own = task.source.all_splits.get(split, "").split("+") if isinstance(task.source, HubSource) else []
        files: list[Path] = []
        for name in _names(task, split):
            if files and not (name in own and files[0].stem in own):
                break  # only the parts of one published split ("dev+validation") belong together
            file = _one_file(folder, name)
            if file is not None and file not in taken:
                files.append(file)
        taken.update(files)
        if files:
            found[split] = tuple(files)
    return found


def _one_file(folder: Path, name: str) -> Path | None:
    files = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    if len(files) > 1:
        raise ConfigError(f"data_files: {folder} has {' and '.join(f.name for f in files)}; leave one")
    return files[0] if files else None


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"data_files: {path} is not one of {', '.join(SUFFIXES)}")


def _object(path: Path, place: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{path}, {place}: is {type(row).__name__}, not an object with columns")
    return row


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    # Not splitlines: it would also cut at U+2028 and the like, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            reason = e.msg if isinstance(e, json.JSONDecodeError) else str(e)
            raise DataError(f"{path}, line {number}: is not JSON ({reason})") from None
        yield f"line {number}", _object(path, f"line {number}", row)


def _json(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    """A list of objects, or one object a line as in .jsonl (many files on the Hub are called .json and are that)."""
    if text.lstrip()[:1] != "[":
        yield from _json_lines(path, text)
        return
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as e:
        where = f", line {e.lineno}" if isinstance(e, json.JSONDecodeError) else ""
        reason = e.msg if isinstance(e, json.JSONDecodeError) else str(e)
        raise DataError(f"{path}{where}: is not JSON ({reason})") from None
    for number, row in enumerate(rows, 1):
        yield f"row {number}", _object(path, f"row {number}", row)


def _csv(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            place = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{path}, {place}: does not have the {len(reader.fieldnames or ())} cells of the head")
            yield place, row
    except csv.Error as e:
        raise DataError(f"{path}, line {reader.line_num}: is not CSV ({e})") from None


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as e:
        raise DataError(f"{path}: is not Parquet ({str(e).splitlines()[0]})") from None
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row
