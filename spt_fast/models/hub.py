"""What the Hub says of a model: commits, branches and tags, sizes; and what its cache knows where the Hub says nothing."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spt_fast.errors import ModelError
from spt_fast.models.weights import UNKNOWN, Size, size_of, weight_files

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

UNREACHABLE = "the Hub cannot be reached"
MEND = "connect, or name a folder"

TIMEOUT = 10
"""Seconds that the Hub has for an answer."""
AT_ONCE = 8
"""Revisions of a series that are looked at at once; as many as `huggingface_hub` fetches files."""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A revision of a Hub id."""

    commit: str | None
    """None: it cannot be used, for the reason given."""
    reason: str | None = None
    """Why the Hub did not name the commit or does not give the files, in a sentence; then the commit is the cache's."""
    size: Size = UNKNOWN
    """How large its weights are."""


def revision(model_id: str, name: str | None) -> Revision:
    """A branch, tag or commit of a Hub id; None is its main branch.

    Raises:
        ModelError: the Hub says that there is no such model or revision.
    """
    if name is not None and re.fullmatch(r"[0-9a-f]{40}", name):
        return Revision(commit=name, size=_cached_size(model_id, name))
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    branch = name or "main"
    ref = _cache(model_id) / "refs" / branch
    found = ref.read_text().strip() if ref.is_file() else None
    if constants.HF_HUB_OFFLINE:
        why = f"{model_id}: is no folder here and not in the Hub's cache, and {UNREACHABLE} (HF_HUB_OFFLINE is set); {MEND}"
        return Revision(commit=found, reason=None if found else why, size=_cached_size(model_id, found))
    told = None
    try:
        info = HfApi().model_info(model_id, revision=branch, timeout=TIMEOUT, files_metadata=True)
        told = info.sha
        # The commit of a gated model is told to everybody, its files are not. And what is downloaded by its commit leaves no
        # note in the cache of the branch, by which it is looked for when the Hub is out of reach.
        HfApi().hf_hub_download(model_id, "config.json", revision=branch)
        return Revision(
            commit=told, reason=None if told else f"{model_id}: the Hub names no commit for {branch}", size=_told_size(info)
        )
    except Exception as e:
        reason = _refusal(model_id, branch, e)
        if not isinstance(e, HfHubHTTPError):  # a cache that cannot be written is no reason: it may hold the model
            found = found or told
    return Revision(commit=found, reason=reason, size=_cached_size(model_id, found))


def revisions(model_id: str, pattern: str) -> dict[str, Revision]:
    """The branches and tags of a Hub id that match a pattern, by their names, in natural order.

    Where the Hub cannot be reached, those in its cache. Of several names of one commit, the last is taken, and what holds no
    config.json is left out. Two requests for all of them, and one more for each that is not in the cache.

    Raises:
        ModelError: the Hub says that there is no such model, or none of its revisions matches.
    """
    from huggingface_hub import HfApi, constants

    noted = _matching(_noted(model_id), pattern)
    if constants.HF_HUB_OFFLINE:
        why = f"{model_id}: nothing in the Hub's cache matches {pattern!r}, and {UNREACHABLE} (HF_HUB_OFFLINE is set); {MEND}"
        return _of_cache(model_id, noted, None) or {pattern: Revision(commit=None, reason=why)}
    try:
        # This one first: the list of branches waits for a silent Hub for ever.
        info = HfApi().model_info(model_id, timeout=TIMEOUT, files_metadata=True)
        refs = HfApi().list_repo_refs(model_id)
    except Exception as e:
        reason = _refusal(model_id, "main", e)
        return _of_cache(model_id, noted, reason) or {pattern: Revision(commit=None, reason=reason)}
    names = {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}
    told = _matching(names, pattern)
    if not told:
        there = ", ".join(sorted(names, key=natural)[:4]) + (", ..." if len(names) > 4 else "")
        raise ModelError(f"{model_id}: revision: no branch or tag matches {pattern!r}; choose from {there}")
    found = _looked_at(model_id, told, noted, _told_size(info))
    if not found:
        raise ModelError(f"{model_id}: revision: nothing with a config.json matches {pattern!r}")
    return found


def natural(name: str) -> list[tuple[int, int, str]]:
    """Key to sort by: step-9 before step-10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _matching(commits: Mapping[str, str], pattern: str) -> dict[str, str]:
    """Name -> commit, in natural order; each commit once, by the last of its names."""
    names = sorted((name for name in commits if fnmatch.fnmatchcase(name, pattern)), key=natural)
    last = {commits[name]: name for name in names}
    return {name: commits[name] for name in names if last[commits[name]] == name}


def _looked_at(model_id: str, told: Mapping[str, str], noted: Mapping[str, str], size: Size) -> dict[str, Revision]:
    """Fetch the config.json of each revision that is not in the cache: see `revision`. After a refusal none is asked for."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    refused: list[Exception] = []

    def look(name: str) -> Revision | None:
        commit, error = told[name], next(iter(refused), None)
        if noted.get(name) == commit:
            return Revision(commit=commit, size=size)
        if error is None:
            try:
                HfApi().hf_hub_download(model_id, "config.json", revision=name)
                return Revision(commit=commit, size=size)
            except RemoteEntryNotFoundError:
                return None
            except Exception as e:
                error = e
                refused.append(e)
        known = noted.get(name) or (None if isinstance(error, HfHubHTTPError) else commit)
        return Revision(commit=known, reason=_refusal(model_id, name, error), size=size)

    with disable_progress_bars(), ThreadPoolExecutor(AT_ONCE) as pool:
        looked = dict(zip(told, pool.map(look, told), strict=True))
    return {name: found for name, found in looked.items() if found is not None}


def _refusal(model_id: str, branch: str, error: Exception) -> str:
    """Why the Hub does not give a revision, in a sentence.

    Raises:
        ModelError: because there is no such model or revision.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return f"{model_id}: is gated; accept its licence on the Hub and set HF_TOKEN"
    if isinstance(error, RemoteEntryNotFoundError):
        raise ModelError(f"{model_id}: is no model: it has no config.json on the Hub") from None
    if isinstance(error, RevisionNotFoundError):
        raise ModelError(f"{model_id}: the Hub has no revision {branch!r} of it") from None
    if isinstance(error, RepositoryNotFoundError):
        raise ModelError(
            f"{model_id}: no such folder, and the Hub has no such model (or it is private: set HF_TOKEN)"
        ) from None
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return f"{model_id}: the Hub refuses it ({status}); renew HF_TOKEN, or unset it"
        return f"{model_id}: is no folder here, and {UNREACHABLE} (it answers {status}); {MEND}"
    # No network, proxies, time-outs: each library has its own classes.
    return f"{model_id}: is no folder here, and {UNREACHABLE} ({type(error).__name__}); {MEND}"


def _cache(model_id: str) -> Path:
    """Where `huggingface_hub` keeps what it has of a model: refs/<revision> with the commit in it, and snapshots/<commit>/."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{model_id.replace('/', '--')}"


def folder_of(source: str, commit: str | None) -> Path:
    """Where the files of a model are: its own folder, or what the Hub's cache has of a commit. It may not be there."""
    return Path(source) if commit is None or Path(source).is_dir() else _cache(source) / "snapshots" / commit


def _noted(model_id: str) -> dict[str, str]:
    """Name -> commit, of the revisions in the cache."""
    cache = _cache(model_id)
    refs = {path.relative_to(cache / "refs").as_posix(): path for path in (cache / "refs").rglob("*") if path.is_file()}
    found = {name: path.read_text().strip() for name, path in refs.items()}
    return {name: commit for name, commit in found.items() if (cache / "snapshots" / commit / "config.json").is_file()}


def _of_cache(model_id: str, noted: Mapping[str, str], reason: str | None) -> dict[str, Revision]:
    return {name: Revision(commit=commit, reason=reason, size=_cached_size(model_id, commit)) for name, commit in noted.items()}


def _cached_size(model_id: str, commit: str | None) -> Size:
    return UNKNOWN if commit is None else size_of(_cache(model_id) / "snapshots" / commit)


def _told_size(info: ModelInfo) -> Size:
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    weights = [sizes[name] for name in weight_files(sizes)]
    known = [size for size in weights if size is not None]
    return Size(
        weight_bytes=sum(known) if known and len(known) == len(weights) else None,
        parameters=info.safetensors.total if info.safetensors is not None else None,
    )
