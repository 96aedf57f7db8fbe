"""Why a model or a tokenizer cannot be loaded, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spt_fast.errors import ModelError, in_words
from spt_fast.models.fits import contradiction


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn every failure of loading `name`, a folder or a Hub id, into a ModelError.

    Raises:
        ModelError: with a sentence that names the model and the mend.
    """
    folder = Path(name)
    # A Hub id has one slash at most.
    looks_local = folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if looks_local and not folder.is_dir():
        raise ModelError(f"{name}: there is no such folder")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"{name}: there is no config.json in this folder, so it is not a model")
    try:
        yield
    except ModelError:
        raise
    except Exception as e:
        wrong = contradiction(folder) if folder.is_dir() else ""
        raise ModelError(f"{name}: {f'cannot be loaded: {wrong}' if wrong else _reason(e)}") from e


def _reason(error: BaseException) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__

    def caused_by(kind: type[BaseException]) -> bool:
        return any(isinstance(c, kind) for c in causes)

    text = " ".join(str(error).split())
    if caused_by(GatedRepoError):
        return "is gated; accept its licence on the Hub and set HF_TOKEN"
    if caused_by(RevisionNotFoundError):
        return "the Hub has no such revision of it"
    if caused_by(RepositoryNotFoundError):
        return "the Hub has no such model, or it is private (set HF_TOKEN)"
    if "trust_remote_code" in text:
        return "it brings Python code of its own, which runs only with trust_remote_code: true"
    if "does not recognize this architecture" in text or "Unrecognized model" in text:
        return "its architecture is unknown to the installed version of transformers"
    if "Unrecognized configuration class" in text:
        return "it is not a causal language model"
    if caused_by(LocalEntryNotFoundError) or "couldn't connect" in text:
        return "is no folder here and not in the Hub's cache, and the Hub cannot be reached; connect, or name a folder"
    return f"cannot be loaded: {in_words(error)[:400]}"
