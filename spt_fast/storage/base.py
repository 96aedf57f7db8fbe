"""Storage: the seam between the store and its files. The store says what is written, a storage how it gets there whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from spt_fast.config.output import Location, joined

Version: TypeAlias = tuple[int | str, ...]
"""What differs between two contents of a file, without reading it; where the storage keeps such times, also when the same was
written anew. JSON can hold it."""


class Storage(ABC):
    """Files below one folder, by relative path with forward slashes.

    A file appears whole or not at all. What is missing raises `FileNotFoundError`; whatever else a network or a disk can do
    to a write is a `StoreError`, and to a read a `StoreError` or an `OSError`.
    """

    root: Location
    """Where it is."""

    half_written: bool
    """Whether a killed writer can leave files that are not whole, under names of their own, for `sweep` to remove."""

    def name(self, path: str) -> str:
        """How a person is told of a file."""
        return joined(self.root, path)

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A file.

        Raises:
            FileNotFoundError: it is not there.
            OSError, StoreError: it cannot be read.
        """

    @abstractmethod
    def read_each(self, paths: Iterable[str]) -> Iterator[bytes]:
        """Files, in this order; on a network many at a time.

        Raises:
            FileNotFoundError: one is not there.
            OSError, StoreError: one cannot be read.
        """

    @abstractmethod
    def local(self, path: str) -> AbstractContextManager[Path]:
        """The file itself, or a copy of it on this machine for as long as the context lasts.

        Raises:
            FileNotFoundError: it is not there.
            OSError, StoreError: it cannot be read.
        """

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Put a file there, whole or not at all, instead of what is there.

        Raises:
            StoreError: it cannot be written, or another driver has taken the lock.
        """

    @abstractmethod
    def append(self, path: str, text: str) -> None:
        """Add lines to a log of ours (`events.jsonl`); only through `appended` is it read.

        Raises:
            StoreError: it cannot be written.
        """

    @abstractmethod
    def appended(self, path: str) -> str:
        """What has been added to a log so far, by all who have; empty where nobody has.

        Raises:
            OSError, StoreError: it cannot be read.
        """

    @abstractmethod
    def printed(self, path: str) -> Path:
        """A file of this machine that other processes may print to, and that ends up at `path`.

        Raises:
            StoreError: it cannot be written.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error.

        Raises:
            StoreError: it cannot be removed.
        """

    @abstractmethod
    def remove_folder(self, folder: str) -> None:
        """Remove all that is below a folder, in any order; one that is not there is no error.

        Raises:
            StoreError: it cannot be removed.
        """

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """The names of what is directly in a folder, in no order; none where it is not there.

        Raises:
            StoreError: it cannot be read.
        """

    @abstractmethod
    def versions(self, folder: str, names: Sequence[str]) -> dict[str, tuple[str, Version]]:
        """Of each folder directly in `folder` that has one of these files: the first that it has, and its version.

        Raises:
            StoreError: it cannot be read.
        """

    @abstractmethod
    def files(self, folder: str, among: Iterable[str]) -> dict[str, list[str]]:
        """What files each of these folders directly in `folder` has; one that is not there is left out.

        Raises:
            StoreError: it cannot be read.
        """

    @abstractmethod
    def version(self, path: str) -> Version:
        """Of one file.

        Raises:
            FileNotFoundError: it is not there.
            OSError, StoreError: it cannot be read.
        """

    def newer(self, path: str, than: str) -> bool:
        """Whether a file was written after another one, or with it: a cheap look before an expensive one. Where nobody writes
        by hand, False.

        Raises:
            FileNotFoundError: one is not there.
            OSError, StoreError: one cannot be looked at.
        """
        return False

    @abstractmethod
    def copy(self, source: Storage, folders: Mapping[str, Sequence[str]]) -> None:
        """Have files of another storage of the same kind here too, under the same names, instead of what is here.

        Args:
            source: where they are. They may share their bytes: neither side changes a file in place.
            folders: folder -> the names of the files in it that are wanted. The last one appears when the others are there.

        Raises:
            StoreError: one cannot be read or written.
        """

    @abstractmethod
    def lock(self) -> None:
        """Take it for this process until it is closed, making the folder where it is not there.

        Raises:
            StoreError: another driver has it, or it cannot be written.
        """

    @property
    @abstractmethod
    def in_use(self) -> bool:
        """Whether a driver has the lock."""

    def sweep(self, folder: str, *, deep: bool = True) -> None:  # noqa: B027  (most leave nothing)
        """Remove what killed writers left in a folder, and, if `deep`, below it. Only while nobody else writes there."""

    @abstractmethod
    def close(self) -> None:
        """Give the lock back, with all that was appended and printed in its place. What was read can still be read.

        Raises:
            StoreError: something could not be brought to its place.
        """


def busy(where: Location, who: str = "") -> str:
    """That another driver is at work, as a sentence."""
    return f"{where}: another `spt-fast run` is at work here{who}; wait for it, or choose another --output"
