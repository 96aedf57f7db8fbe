"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from spt_fast.errors import StoreError

BESIDE = ".part-"
"""How the name of a file begins that is being written: what a killed process leaves, and `sweep` removes."""


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` beside `path`, sync it, and rename it into place.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, beside = tempfile.mkstemp(dir=path.parent, prefix=BESIDE)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(beside, 0o644)  # mkstemp makes files that only their owner reads
            os.replace(beside, path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as e:
        raise StoreError(f"{path}: cannot be written: {e.strerror or e}") from e


def sweep(folder: Path) -> None:
    """Remove what killed writers left anywhere below `folder`. Only while nobody else writes there."""
    for left in folder.rglob(f"{BESIDE}*"):
        with suppress(OSError):
            left.unlink()


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; not every file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
