"""Which local file is which split: by name in a folder, or as the grid says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from spt_fast.config.output import at_home
from spt_fast.errors import ConfigError
from spt_fast.tasks.base import SPLITS, HubSource, Split, Task
from spt_fast.tasks.loading.files import PACKED, SUFFIXES, check_suffix

_OTHER_NAMES: Mapping[Split, tuple[str, ...]] = {
    "tuning": ("train", "dev", "validation"),
    "few_shot": (),
    "test": (),
}
"""What a file of a split may also be called, after our name of it and the data set's own. A test file goes by nothing
else: scoring the rows of another split by mistake would look like a result."""


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
        check_suffix(path)
        found[known[name]] = (*found.get(known[name], ()), path)
    return found


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
    check_suffix(file)
    return file


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


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file; give {split: file}" if folder.is_file() else "is not there; correct the path"
        raise ConfigError(f"data_files: the folder {str(folder)!r} {what}")


def _one_file(folder: Path, name: str) -> Path | None:
    files = [path for suffix in (*SUFFIXES, *PACKED) if (path := folder / f"{name}{suffix}").is_file()]
    if len(files) > 1:
        raise ConfigError(f"data_files: {folder} has {' and '.join(f.name for f in files)}; leave one")
    return files[0] if files else None
