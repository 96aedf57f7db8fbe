"""Rows of the Hub: the one door to `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from spt_fast.errors import DataError, UnreachableError, first_line
from spt_fast.tasks.base import HubSource, Row, Split
from spt_fast.tasks.loading.files import read


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
    unreachable = why_unreachable(source.id, source.revision)
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
def why_unreachable(source_id: str, revision: str) -> str | None:
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
    named = f"{source_id}{f' ({config})' if config else ''}"
    reason: str | DataError | None
    try:
        reason = why_unreachable(source_id, revision or "main") if "/" in source_id else None
    except DataError as refused:  # the cache may have what the Hub does not give any more
        reason = refused
    try:
        datasets.disable_progress_bars()
        with _offline() if reason else nullcontext():
            return datasets.load_dataset(source_id, config, **settings)
    except Exception as e:  # `datasets` raises whatever its file systems and clients raise
        if isinstance(reason, DataError):
            raise reason from None
        if reason:
            raise UnreachableError(
                f"{named} is not in the cache, and the Hub cannot be reached ({reason}); "
                "connect, or give the rows as data_files"
            ) from None
        raise DataError(
            f"{source_id} cannot be downloaded from the Hub ({type(e).__name__}: {first_line(e)}); "
            "check HF_TOKEN, or give the rows as data_files"
        ) from e


@contextmanager
def _offline() -> Iterator[None]:
    """What is in the cache, at once: `datasets` asks a Hub that is not there six times in half a minute."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


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
