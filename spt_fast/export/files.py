"""Files that are written bit by bit, because they may be larger than the memory, and still appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spt_fast.errors import StoreError
from spt_fast.storage.files import BESIDE


@contextmanager
def growing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end; where something is raised, it is removed.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    beside = path.with_name(f"{BESIDE}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except OSError as e:
        raise StoreError(f"{path}: cannot be written: {e.strerror or e}") from e
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
