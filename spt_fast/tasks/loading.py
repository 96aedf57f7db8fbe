"""Where rows come from: the Hub (the one door to `datasets`), local files, the package itself."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from glob import escape
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spt_fast.config.output import at_home
from spt_fast.errors import ConfigError, DataError, UnreachableError, first_line, shortened
from spt_fast.tasks.base import SPLITS, HubSource, Row, Split, Task

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_PACKED = (".jsonl.gz", ".json.gz", ".csv.gz")

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
            f"{where} cannot be downloaded from the Hub ({type(e).__name__}: {first_line(e)}); "
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

    A folder is searched for `<split>.jsonl`, `.json`, `.csv` (or one of these in .gz) or `.parquet`, where the split goes by
    our name of it, by the name that the data set on the Hub uses, or for tuning by `train`, `dev` or `validation`.

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
            raise ConfigError(f"data_files: unknown split {name!r}; choose from {', '.join(sorted(known))}")
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
    kind = _kind(path)
    try:
        if kind == ".parquet":
            yield from _parquet(path)
        else:
            yield from (_csv if kind == ".csv" else _json)(path, _text(path))
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or first_line(e)})") from None


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


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file; give {split: file}" if folder.is_file() else "is not there"
        raise ConfigError(f"data_files: the folder {str(folder)!r} {what}")


def _in_folder(task: Task, folder: Path) -> dict[Split, tuple[Path, ...]]:
    _check_folder(folder)
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
    files = [path for suffix in (*SUFFIXES, *_PACKED) if (path := folder / f"{name}{suffix}").is_file()]
    if len(files) > 1:
        raise ConfigError(f"data_files: {folder} has {' and '.join(f.name for f in files)}; leave one")
    return files[0] if files else None


def _kind(path: Path) -> str:
    """What kind of file it is: one of `SUFFIXES`, or something else."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz") if name.endswith(_PACKED) else name).suffix


def in_folder_by_name(folder: Path, names: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """The files of a folder that are called for one of these splits.

    Raises:
        ConfigError: the folder is not there, or has two files for one split.
    """
    _check_folder(folder)
    found = {name: _one_file(folder, name) for name in names}
    return {name: (file,) for name, file in found.items() if file is not None}


def the_file(split: str, path: str) -> Path:
    """A file of rows.

    Raises:
        ConfigError: it is not there, or is of no kind that can be read.
    """
    file = at_home(path)
    if not file.is_file():
        raise ConfigError(f"data_files: {split}: there is no file {str(file)!r}")
    _check_suffix(file)
    return file


def as_dataset(files: Iterable[Path]) -> Any:
    """The rows of files, as `datasets` has them.

    Raises:
        DataError: they cannot be read, or a column has values of several types.
    """
    import datasets

    datasets.disable_progress_bars()
    files = list(files)
    rows = [dict(row) for file in files for _, row in read(file)]
    where = ", ".join(map(str, files))
    if not rows:
        raise DataError(f"{where}: has no rows")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return datasets.Dataset.from_dict({name: [row.get(name) for row in rows] for name in columns})
    except Exception as e:  # Arrow raises what it likes
        raise DataError(f"{where}: a column has values of several types ({first_line(e)}); write it in one") from None


def published(source_id: str, config: str | None, revision: str, settings: Mapping[str, Any]) -> Any:
    """All splits of a data set on the Hub, as `datasets` has them; from its cache, where they are in it.

    Args:
        source_id: owner/name, or the name of a builder (json) with `data_files` among the settings.
        config: its configuration.
        revision: a commit; empty: the latest that there is.
        settings: of `datasets.load_dataset`.

    Raises:
        UnreachableError: they are not in the cache, and the Hub cannot be reached.
        DataError: the Hub does not give them.
    """
    import datasets

    settings = {**settings, **({"revision": revision} if revision else {})}
    try:
        datasets.disable_progress_bars()
        return datasets.load_dataset(source_id, config, **settings)
    except Exception as e:  # `datasets` raises whatever its file systems and clients raise
        reason = _unreachable(source_id, revision or "main")
        if reason:
            raise UnreachableError(
                f"{source_id}{f' ({config})' if config else ''} is not in the cache, and the Hub cannot be reached ({reason}); "
                "connect, or give the rows as data_files"
            ) from None
        raise DataError(
            f"{source_id} cannot be downloaded from the Hub ({type(e).__name__}: {first_line(e)}); "
            "check HF_TOKEN, or give the rows as data_files"
        ) from e


@cache
def commit_of(source_id: str) -> str | None:
    """The latest commit of a data set; where the Hub cannot be reached, the latest in the cache. None: it is not known."""
    import datasets
    from datasets.naming import camelcase_to_snakecase
    from huggingface_hub import HfApi, constants

    if not (constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE):
        try:
            return HfApi().dataset_info(source_id, timeout=10).sha
        except Exception:  # no network, no such data set: reading the rows says so
            pass
    owner, _, name = source_id.rpartition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(filter(None, (owner, camelcase_to_snakecase(name))))
    found = [each for each in folder.glob("*/*/*") if re.fullmatch("[0-9a-f]{40}", each.name)]
    return max(found, key=lambda each: each.stat().st_mtime).name if found else None


def _check_suffix(path: Path) -> None:
    if _kind(path) not in SUFFIXES:
        raise ConfigError(f"data_files: {path} is not one of {', '.join(SUFFIXES)}, or one of the first three in .gz")


def _text(path: Path) -> str:
    """The text of a file, unpacked; its line ends are line feeds, whatever they were."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as e:
            raise DataError(f"{path}: is gzip, and cannot be unpacked ({first_line(e)}); fetch it again") from None
    if data.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: is a pointer of git-lfs and not the rows; `git lfs pull` fetches them")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        utf_16 = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        is_now = "is UTF-16" if utf_16 else f"is not UTF-8 (byte {e.start})"
        raise DataError(f"{path}, line {line}: {is_now}; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


# JSON


def _object(path: Path, place: str, row: Any) -> Row:
    if not isinstance(row, dict):
        kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(row), "a number")
        raise DataError(f"{path}, {place}: is {kind}, and not an object with columns")
    if column := next((name for name, value in row.items() if _is_broken(name) or _is_broken(value)), None):
        raise DataError(
            f"{path}, {place}: column {shortened(column)} holds half of a surrogate pair (\\ud800 to \\udfff), "
            "which is not text; fix it"
        )
    return row


def _is_broken(value: Any) -> bool:
    """Whether there is a lone surrogate in text: half of what JSON writes as two, and no text by itself."""
    if isinstance(value, str):
        return not value.isascii() and _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_is_broken(name) or _is_broken(inner) for name, inner in value.items())
    return isinstance(value, list) and any(map(_is_broken, value))


_SURROGATE = re.compile("[\ud800-\udfff]")


def _columns(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: JSON itself lets the later of two win, silently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"column {shortened(twice)} appears twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_columns)


def _json(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    """Objects, one a line or each over several lines; or one document that holds them: a list, or {"data": [..]}."""
    documents = _documents(path, text)
    alone = list(islice(documents, 2))
    if len(alone) == 1 and (rows := _held(path, alone[0][1])) is not None:
        for number, row in enumerate(rows, 1):
            yield f"row {number}", _object(path, f"row {number}", row)
        return
    for line, row in chain(alone, documents):
        yield f"line {line}", _object(path, f"line {line}", row)


def _documents(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The JSON documents in a text, each with the line that it begins in."""
    if text.lstrip().partition("\n")[0].rstrip().endswith("}"):
        # Not splitlines: it would also cut at U+2028 and the like, which may stand inside a JSON string.
        for number, line in enumerate(text.split("\n"), 1):
            row = line.strip().removeprefix("\ufeff")  # files that were put together have one in the middle
            if row:
                yield number, _decoded(path, row, number)
        return
    at, number = _behind_space(text, 0), 1 + text.count("\n", 0, _behind_space(text, 0))
    while at < len(text):
        try:
            document, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as e:
            raise _not_json(path, e, 1 if isinstance(e, json.JSONDecodeError) else number) from None
        yield number, document
        end = _behind_space(text, end)
        number += text.count("\n", at, end)
        at = end


def _behind_space(text: str, at: int) -> int:
    found = _NO_SPACE.search(text, at)
    return len(text) if found is None else found.start()


_NO_SPACE = re.compile(r"\S")


def _decoded(path: Path, line: str, number: int) -> Any:
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError) as e:
        raise _not_json(path, e, number) from None


def _not_json(path: Path, e: Exception, first: int) -> DataError:
    """The error of a document that begins in line `first` of what was decoded."""
    if isinstance(e, json.JSONDecodeError):
        return DataError(f"{path}, line {first + e.lineno - 1}: is not JSON ({e.msg}, at character {e.colno})")
    reason = "it is nested too deep" if isinstance(e, RecursionError) else first_line(e)
    if reason.startswith("Exceeds the limit"):
        reason = "a number has too many digits; write it as text"
    return DataError(f"{path}, line {first}: cannot be read as JSON ({reason})")


def _held(path: Path, document: Any) -> list[Any] | None:
    """The rows that one document holds; None where it is a row itself."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return None
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    objects = {name: value for name, value in lists.items() if all(isinstance(row, dict) for row in value)}
    if "data" in objects:
        return objects["data"]
    if "rows" in objects and all("row" in row for row in objects["rows"]):  # what the Hub's viewer answers
        return [row["row"] for row in objects["rows"]]
    if len(document) == 1 and objects:
        return next(iter(objects.values()))
    names = ", ".join(map(shortened, list(document)[:4]))
    if len(objects) == len(document) > 1:
        raise DataError(f"{path}: holds several lists of objects ({names}); write each to a file of its own")
    if len(document) > 1 and (len(lists) == len(document) or _are_columns(list(document.values()))):
        raise DataError(f"{path}: is an object of columns ({names}); write an object a row, as in a .jsonl file")
    return None


def _are_columns(values: list[Any]) -> bool:
    """Whether they are {"0": .., "1": ..} with the same keys: a data frame that was written by columns."""
    return all(isinstance(value, dict) for value in values) and len({tuple(value) for value in values}) == 1


# CSV and Parquet


def _csv(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    (_, head), *rows = _csv_cells(path, text) or [(1, [])]
    names = [name.strip() for name in head]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise DataError(f"{path}, line 1: column {shortened(twice)} appears twice; rename one")
    for line, cells in rows:
        if not any(map(str.strip, cells)):
            continue  # an empty line, or one of commas, as spreadsheets leave behind
        if len(cells) != len(names):
            fix = "put quotation marks around a text that has commas in it" if len(cells) > len(names) else "add the others"
            raise DataError(f"{path}, line {line}: has {len(cells)} cells, and the head has {len(names)}; {fix}")
        yield f"line {line}", dict(zip(names, cells, strict=True))


def _csv_cells(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The cells of each row, with the line that it begins in."""
    head = text.lstrip("\n").partition("\n")[0]
    delimiter = next((each for each in ",;\t" if each in head), ",")
    found: list[tuple[int, list[str]]] = []
    line = 1
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
        for cells in reader:
            if cells or found:
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as e:
        raise DataError(f"{path}, line {line}: is not CSV ({e})") from None
    finally:
        csv.field_size_limit(limit)
    return found


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        # Not `read_table`, which takes names of folders (split=test/) for columns.
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (pyarrow.ArrowException, ValueError) as e:
        raise DataError(f"{path}: is not Parquet ({first_line(e)})") from None
    names = table.column_names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path}: column {shortened(twice)} appears twice; rename one")
    columns = []
    for name, column in zip(names, table.columns, strict=True):
        try:
            columns.append(_counted(column.to_pylist()) if pyarrow.types.is_floating(column.type) else column.to_pylist())
        except (pyarrow.ArrowException, ValueError, OverflowError) as e:
            raise DataError(f"{path}: column {shortened(name)} cannot be read ({first_line(e)})") from None
    for number, values in enumerate(zip(*columns, strict=True), 1):
        yield f"row {number}", dict(zip(names, values, strict=True))


def _counted(values: list[Any]) -> list[Any]:
    """A column of floats all of which are whole, as whole numbers: a data frame makes floats of them where one is missing."""
    there = [value for value in values if value is not None and not math.isnan(value)]
    if not all(map(float.is_integer, there)):
        return values
    return [value if value is None or math.isnan(value) else int(value) for value in values]
