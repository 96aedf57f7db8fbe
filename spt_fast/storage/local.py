"""A folder of this machine, or of a file system that is mounted here: whole-file writes by rename, a lock by flock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO

from spt_fast.errors import FolderGoneError, StoreError
from spt_fast.storage.base import Storage, Version, busy
from spt_fast.storage.files import BESIDE, sweep, sync_folder, write_whole

LOCK = ".lock"

LINKING = 16
"""Folders that are copied at once: each waits for the disk, and disks wait for many at a time as for one."""


class FolderStorage(Storage):
    """Files in a folder."""

    root: Path
    half_written = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: IO[str] | None = None
        self._appending: dict[str, IO[str]] = {}

    def read(self, path: str) -> bytes:
        with open(_regular(self.root / path, os.O_RDONLY), "rb") as file:
            return file.read()

    def read_each(self, paths: Iterable[str]) -> Iterator[bytes]:
        return map(self.read, paths)

    def local(self, path: str) -> nullcontext[Path]:
        found = self.root / path
        os.close(_regular(found, os.O_RDONLY))
        return nullcontext(found)

    def write(self, path: str, data: bytes) -> None:
        self._require()
        write_whole(self.root / path, data)

    def _require(self) -> None:
        """That the folder that was locked is still there: writing would make another one, which nobody has locked.

        Raises:
            FolderGoneError: it is not.
        """
        if self._lock is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.stat(self.root / LOCK), os.fstat(self._lock.fileno())):
                return
        raise FolderGoneError(
            f"{self.root}: was removed while the run was at work in it, so nothing can be kept; run the grid again"
        )

    def append(self, path: str, text: str) -> None:
        self._require()
        try:
            if path not in self._appending:
                handle = _regular(self.root / path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                self._appending[path] = open(handle, "a", encoding="utf-8", errors="replace")  # noqa: SIM115  (held until close)
            self._appending[path].write(text)
            self._appending[path].flush()
        except OSError as e:
            raise StoreError(f"{self.name(path)}: cannot be written: {e.strerror or e}") from None

    def appended(self, path: str) -> str:
        try:
            return self.read(path).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def printed(self, path: str) -> Path:
        self._require()
        found = self.root / path
        try:
            found.parent.mkdir(parents=True, exist_ok=True)
            os.close(_regular(found, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        except OSError as e:
            raise StoreError(f"{found}: cannot be written: {e.strerror or e}") from None
        return found

    def remove(self, path: str) -> None:
        found = self.root / path
        try:
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)
        except NotADirectoryError:
            return  # what should be its folder is a file, so it is not there
        except OSError as e:
            raise StoreError(f"{self.name(path)}: cannot be removed: {e.strerror or e}") from None

    def remove_folder(self, folder: str) -> None:
        found = self.root / folder
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found, ignore_errors=True)
        else:
            with suppress(OSError):
                found.unlink()

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self.root / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as e:
            raise StoreError(f"{self.name(folder)}: cannot be read: {e.strerror or e}") from None

    def versions(self, folder: str, names: Sequence[str]) -> dict[str, tuple[str, Version]]:
        # Text instead of Path, and `stat` at once: there may be 100,000 of them.
        base, look = f"{self.root}/{folder}", os.stat
        found: dict[str, tuple[str, Version]] = {}
        for each in self.names(folder):
            for name in names:
                try:
                    about = look(f"{base}/{each}/{name}")
                except OSError:
                    continue
                found[each] = (name, (about.st_mtime_ns, about.st_size, about.st_ino))
                break
        return found

    def files(self, folder: str, among: Iterable[str]) -> dict[str, list[str]]:
        found = {each: [name for name in self.names(f"{folder}/{each}") if not name.startswith(BESIDE)] for each in among}
        return {each: names for each, names in found.items() if names}

    def version(self, path: str) -> Version:
        about = (self.root / path).stat()
        return (about.st_mtime_ns, about.st_size, about.st_ino)

    def newer(self, path: str, than: str) -> bool:
        return (self.root / path).stat().st_mtime_ns >= (self.root / than).stat().st_mtime_ns

    def copy(self, source: Storage, folders: Mapping[str, Sequence[str]]) -> None:
        with ThreadPoolExecutor(LINKING) as pool:
            for _ in pool.map(lambda item: self._copy(source, *item), folders.items()):
                pass
        for above in {(self.root / folder).parent for folder in folders}:
            sync_folder(above)

    def _copy(self, source: Storage, folder: str, names: Sequence[str]) -> None:
        here = self.root / folder
        try:
            here.mkdir(parents=True, exist_ok=True)
            for name in names[:-1]:
                self._copy_file(source, f"{folder}/{name}")
            sync_folder(here)
            self._copy_file(source, f"{folder}/{names[-1]}")
        except OSError as e:
            raise StoreError(f"{source.name(folder)}: cannot be reused in {here}: {e.strerror or e}") from None

    def _copy_file(self, source: Storage, path: str) -> None:
        with source.local(path) as there:
            (self.root / path).unlink(missing_ok=True)
            try:
                os.link(there, self.root / path)
            except OSError as e:
                if isinstance(e, FileNotFoundError):
                    raise
                write_whole(self.root / path, there.read_bytes())  # another file system, or one without hard links

    def lock(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = open(_regular(self.root / LOCK, os.O_RDWR | os.O_CREAT), "r+")  # noqa: SIM115  (held until close)
        except (OSError, ValueError) as e:  # ValueError: a name with a NUL in it
            raise StoreError(f"{self.root}: cannot be written: {getattr(e, 'strerror', None) or e}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise StoreError(busy(self.root)) from None

    @property
    def in_use(self) -> bool:
        try:
            with open(_regular(self.root / LOCK, os.O_RDONLY)) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no file, or none that could be locked
            return False
        return False

    def sweep(self, folder: str, *, deep: bool = True) -> None:
        if deep:
            sweep(self.root / folder)
        else:
            for left in (self.root / folder).glob(f"{BESIDE}*"):
                with suppress(OSError):
                    left.unlink()

    def close(self) -> None:
        files = [*self._appending.values(), *([self._lock] if self._lock else [])]
        self._appending, self._lock = {}, None
        for file in files:
            with suppress(OSError):
                file.close()


def _regular(path: Path, flags: int) -> int:
    """Open a file, and nothing else: to open a FIFO waits for its other end, and a device may have no end.

    Returns:
        A file descriptor.

    Raises:
        OSError: it cannot be opened, or is no file.
    """
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise OSError(errno.EINVAL, f"it is {what}, no file", str(path))
    return handle
