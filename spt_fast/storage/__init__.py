"""Where the files of a run folder are: this machine, or any URL that fsspec knows.

Decision: a lock without a file system is an object that is renewed. A killed driver's is free at once on its own machine,
after five minutes elsewhere; a driver that finds its lock gone stops writing.
"""

from __future__ import annotations

from pathlib import Path

from spt_fast.config.output import Location, location
from spt_fast.storage.base import Storage, Version

__all__ = ["Storage", "Version", "open_storage"]


def open_storage(where: Location) -> Storage:
    """The files below a folder or a URL. Nothing is asked of a network yet.

    Raises:
        ConfigError: no such scheme, or the package is missing that knows it.
    """
    place = location(where)
    if isinstance(place, Path):
        from spt_fast.storage.local import FolderStorage

        return FolderStorage(place)
    from spt_fast.storage.remote import UrlStorage

    return UrlStorage(place)
