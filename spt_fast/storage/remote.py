"""Any URL that fsspec knows. Made for object stores (s3, gs, az), where a put shows whole or not at all. The door to `fsspec`.

What object stores have not, and what stands for it here:

* Appending. The lines of a log are written in parts, `events/<when>-<who>-<n>.jsonl`, at most ten seconds after they came.
* Printing. Workers print to a folder of this machine, which is copied every minute and when the storage is closed.
* A lock. An object names the owner, who renews it every 30 seconds (`lock.py`). It is taken over from an owner that was killed
  on this machine at once, from any other when it has not been renewed for five minutes; deleting the object breaks it.

A lock is put on the condition that there is none (`mode="create"`); where the store or its driver does not know such a put, who
came last has it. Whoever finds the lock in other hands, when renewing or writing after a pause, stops and writes nothing more.

Not guaranteed: two drivers that take over the same stale lock within a fraction of a second may both begin, until one of them
renews it; clocks that are minutes apart make a lock look stale too early or too late; a driver that was frozen in the middle of
one put can still finish that put. Cells are named by their content, so what two drivers write at worst is the same cell twice.
A killed driver loses the last seconds of its events. On a file system that is no object store (sftp, hdfs) a put is only as
whole as its driver makes it.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from spt_fast.errors import ConfigError, SptError, StoreError, first_line
from spt_fast.storage.base import Storage, Version, busy
from spt_fast.storage.lock import RENEW_S, STALE_S, Owner

T = TypeVar("T")

LOCK = ".lock"

FLUSH_S = 10.0
"""How long lines that were appended may wait to be written."""

COPY_S = 60.0
"""How often what workers print is copied."""

PART_BYTES = 500_000
"""An appended part that has grown so large is followed by another: a part is written whole each time."""

AT_ONCE = 256
"""Files that are read or copied in one go."""

DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "oci": "ocifs",
    "oss": "ossfs",
}
"""Scheme -> the package that knows it, where fsspec itself does not."""

IDENTITY = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "updated", "created", "size")
"""What of a file's description differs between two versions of it, in the words of various drivers."""


class UrlStorage(Storage):
    """Files below a URL."""

    root: str
    half_written = False

    def __init__(self, url: str) -> None:
        """
        Raises:
            ConfigError: no such scheme, or the package is missing that knows it.
        """
        self.root = url
        self._fs, self._path = _opened(url)
        self._owner: Owner | None = None
        self._lost = ""
        self._renewing = threading.Lock()
        self._parts: dict[str, _Parts] = {}
        self._folder: Path | None = None
        self._copied: dict[str, int] = {}
        self._copying = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._ended = threading.Event()

    # reading

    def read(self, path: str) -> bytes:
        with self._doing(path, "read"):
            data: bytes = self._fs.cat_file(self._at(path))
        return data

    def read_each(self, paths: Iterable[str]) -> Iterator[bytes]:
        for some in _batches(paths):
            there = [self._at(path) for path in some]
            with self._doing(some[0], "read"):
                found = self._fs.cat(there, on_error="return")
            for path, place in zip(some, there, strict=True):
                with self._doing(path, "read"):
                    if isinstance(found[place], Exception):
                        raise found[place]
                yield found[place]

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        data = self.read(path)
        with tempfile.TemporaryDirectory(prefix="spt-fast-") as folder:
            copy = Path(folder) / path.rpartition("/")[2]
            copy.write_bytes(data)
            yield copy

    def names(self, folder: str) -> list[str]:
        there = self._at(folder)
        try:
            with self._doing(folder, "read"):
                self._fs.invalidate_cache()
                found = self._fs.ls(there, detail=False)
        except FileNotFoundError:
            return []
        names = (str(each).rstrip("/").rpartition("/")[2] for each in found if str(each).strip("/") != there.strip("/"))
        return list(names)

    def versions(self, folder: str, names: Sequence[str]) -> dict[str, tuple[str, Version]]:
        found: dict[str, tuple[str, Version]] = {}
        for each, files in self._below(folder).items():
            for name in names:
                if name in files:
                    found[each] = (name, _version(files[name]))
                    break
        return found

    def files(self, folder: str, among: Iterable[str]) -> dict[str, list[str]]:
        found = self._below(folder)
        return {each: list(found[each]) for each in among if each in found}

    def version(self, path: str) -> Version:
        with self._doing(path, "read"):
            self._fs.invalidate_cache()
            return _version(self._fs.info(self._at(path)))

    def _below(self, folder: str) -> dict[str, dict[str, Any]]:
        """Folder in `folder` -> name of a file -> what is known of it: one listing, whatever the number of folders."""
        there = self._at(folder)
        try:
            with self._doing(folder, "read"):
                self._fs.invalidate_cache()
                listed = self._fs.find(there, detail=True)
        except FileNotFoundError:
            listed = {}
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for path, about in listed.items():
            each, _, name = str(path).lstrip("/")[len(there.strip("/")) :].strip("/").partition("/")
            if name and "/" not in name:
                found[each][name] = about
        return found

    # writing

    def write(self, path: str, data: bytes) -> None:
        self._still_ours()
        self._put(path, data)

    def remove(self, path: str) -> None:
        self._still_ours()
        with suppress(FileNotFoundError), self._doing(path, "removed"):
            self._fs.rm_file(self._at(path))

    def remove_folder(self, folder: str) -> None:
        self._still_ours()
        with suppress(FileNotFoundError), self._doing(folder, "removed"):
            self._fs.rm(self._at(folder), recursive=True)

    def copy(self, source: Storage, folders: Mapping[str, Sequence[str]]) -> None:
        assert isinstance(source, UrlStorage)
        for some in _batches(folders.items()):
            first = [f"{folder}/{name}" for folder, names in some for name in names[:-1]]
            last = [f"{folder}/{names[-1]}" for folder, names in some]
            for paths in (first, last):
                self._still_ours()
                with self._doing(paths[0] if paths else "", "written", missing=True):
                    self._fs.copy([source._at(path) for path in paths], [self._at(path) for path in paths])

    def _put(self, path: str, data: bytes) -> None:
        with self._doing(path, "written", missing=True):
            self._fs.pipe_file(self._at(path), data)

    # what object stores have not

    def append(self, path: str, text: str) -> None:
        if path not in self._parts:
            self._parts[path] = _Parts(self, path)
        self._parts[path].add(text)

    def appended(self, path: str) -> str:
        folder, suffix = _parts_of(path)
        parts = sorted(f"{folder}/{name}" for name in self.names(folder) if name.endswith(suffix))
        return b"".join(self.read_each(parts)).decode("utf-8", "replace")

    def printed(self, path: str) -> Path:
        with self._copying:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="spt-fast-"))
            here = self._folder / path
            if path not in self._copied:
                here.parent.mkdir(parents=True, exist_ok=True)
                try:
                    here.write_bytes(self.read(path))  # an earlier run's: it is gone on with
                    self._copied[path] = here.stat().st_size
                except FileNotFoundError:
                    here.touch()
                    self._copied[path] = -1  # so that it is there even if nobody prints
            return here

    def copy_printed(self) -> None:
        """Bring what workers have printed to its place.

        Raises:
            StoreError: it cannot be written.
        """
        with self._copying:
            for path, size in self._copied.items():
                assert self._folder is not None
                here = self._folder / path
                now = here.stat().st_size
                if now != size:
                    self._still_ours()
                    with self._doing(path, "written", missing=True):
                        self._fs.put_file(str(here), self._at(path))
                    self._copied[path] = now

    def lock(self) -> None:
        mine = Owner.here()
        with suppress(FileNotFoundError), self._doing(LOCK, "removed"):
            found = Owner.read(self.read(LOCK))
            if found is not None and not found.gone:
                raise StoreError(self._refusal(found))
            self._fs.rm_file(self._at(LOCK))  # nobody's any more, or no lock of ours
        with suppress(FileExistsError):
            self._create(LOCK, mine.data)
        found = self._holder()
        if found is None or found.token != mine.token:
            raise StoreError(self._refusal(found))
        self._owner, self._lost = mine, ""
        self._ended.clear()
        self._keeper = threading.Thread(target=self._keep, name="spt-fast-lock", daemon=True)
        self._keeper.start()

    @property
    def in_use(self) -> bool:
        found = self._holder()
        return found is not None and not found.gone

    def renew(self) -> None:
        """Renew the lock.

        Raises:
            StoreError: it is not ours any more; nothing can be written from now on. Or it cannot be written.
        """
        with self._renewing:
            if self._owner is None:
                return
            found = self._holder()
            if found is None or found.token != self._owner.token:
                self._lost = self._loss(found)
                raise StoreError(self._lost)
            self._owner = self._owner.renewed()
            self._put(LOCK, self._owner.data)

    def close(self) -> None:
        if self._keeper is not None:
            self._ended.set()
            self._keeper.join()
            self._keeper = None
        try:
            for parts in self._parts.values():
                parts.flush()
            self.copy_printed()
        except StoreError as e:
            kept = f"; what workers printed is in {self._folder}" if self._folder is not None else ""
            raise StoreError(f"{e}{kept}") from None
        else:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            self._parts, self._folder, self._copied = {}, None, {}
            owner, self._owner = self._owner, None
            if owner is not None and not self._lost:
                with suppress(FileNotFoundError, SptError):
                    found = self._holder()
                    if found is not None and found.token == owner.token:
                        self._fs.rm_file(self._at(LOCK))

    def _keep(self) -> None:
        """Renew, write and copy while the lock is held. What fails is tried again next time; `close` says so in the end."""
        copied = renewed = time.monotonic()
        while not self._ended.wait(FLUSH_S):
            now = time.monotonic()
            with suppress(FileNotFoundError, SptError):
                for parts in list(self._parts.values()):
                    parts.flush()
            if now - renewed >= RENEW_S:
                with suppress(FileNotFoundError, SptError):
                    self.renew()
                    renewed = now
            if now - copied >= COPY_S:
                with suppress(OSError, SptError):
                    self.copy_printed()
                    copied = now

    def _still_ours(self) -> None:
        """Refuse to write what another driver may be writing: the lock was lost, or nobody has looked for long."""
        if self._owner is None:
            return
        if not self._lost and self._owner.age_s > STALE_S / 2:  # this machine was asleep, or the network was gone
            self.renew()
        if self._lost:
            raise StoreError(self._lost)

    def _holder(self) -> Owner | None:
        try:
            data = self.read(LOCK)
        except FileNotFoundError:
            return None
        return Owner.read(data)

    def _create(self, path: str, data: bytes) -> None:
        """Put a file where there is none. Where the store knows no such put, a plain one: the caller looks who came last.

        Raises:
            FileExistsError: there is one.
            StoreError: it cannot be written.
        """
        try:
            self._fs.pipe_file(self._at(path), data, mode="create")
        except FileExistsError:
            raise
        except Exception:
            self._put(path, data)  # raises what is really wrong, if it is not this kind of put

    def _refusal(self, found: Owner | None) -> str:
        if found is None:
            return busy(self.root)
        seen = f" (process {found.pid} on {found.host}, seen {max(0, round(found.age_s))} s ago)"
        mend = f"if it was killed, its lock ends in {STALE_S / 60:.0f} minutes, or delete {self.name(LOCK)}"
        return f"{busy(self.root, seen)}; {mend}"

    def _loss(self, found: Owner | None) -> str:
        who = "was deleted" if found is None else f"was taken over by process {found.pid} on {found.host}"
        return f"{self.root}: the lock of this run {who}; what is done is kept: run the grid again when nobody else does"

    # shared

    def _at(self, path: str) -> str:
        return f"{self._path}/{path}" if path else self._path

    @contextmanager
    def _doing(self, path: str, what: str, *, missing: bool = False) -> Iterator[None]:
        """One sentence for the many ways in which the many drivers fail.

        Args:
            path: of the file.
            what: was to be done to it: "read", "written".
            missing: what is not there is a failure too (a bucket), and no `FileNotFoundError`.
        """
        try:
            yield
        except SptError:
            raise
        except Exception as e:
            if isinstance(e, FileNotFoundError) and not missing:
                raise
            why = ": ".join(part for part in (type(e).__name__, first_line(e)) if part)
            raise StoreError(f"{self.name(path)}: cannot be {what} ({why})") from None


class _Parts:
    """The lines that one driver appends to a log: objects that are written whole again and again, until one is large."""

    def __init__(self, storage: UrlStorage, path: str) -> None:
        self._storage = storage
        folder, self._suffix = _parts_of(path)
        self._begin = f"{folder}/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        self._number = 0
        self._text = ""
        self._dirty = False
        self._flushed = -FLUSH_S
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        with self._lock:
            self._text += text
            self._dirty = True
            if time.monotonic() - self._flushed >= FLUSH_S:
                with suppress(SptError):  # tried again; `close` says so in the end
                    self._write()

    def flush(self) -> None:
        """Write what has not been written.

        Raises:
            StoreError: it cannot be written.
        """
        with self._lock:
            if self._dirty:
                self._write()

    def _write(self) -> None:
        self._flushed = time.monotonic()
        data = self._text.encode("utf-8", "replace")
        self._storage.write(f"{self._begin}-{self._number:05}{self._suffix}", data)
        self._dirty = False
        if len(data) > PART_BYTES:
            self._number += 1
            self._text = ""


def _batches(items: Iterable[T]) -> Iterator[tuple[T, ...]]:
    left = iter(items)
    while some := tuple(islice(left, AT_ONCE)):
        yield some


def _parts_of(path: str) -> tuple[str, str]:
    """Where the parts of a log are, and how their names end: events.jsonl -> events, .jsonl"""
    folder, dot, suffix = path.rpartition(".")
    return folder, dot + suffix


def _version(about: Mapping[str, Any]) -> Version:
    known = tuple(str(about[name]) for name in IDENTITY if about.get(name) is not None)
    return known if len(known) > 1 else tuple(f"{name}={value}" for name, value in sorted(about.items()))


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        ConfigError: no such scheme, or the package is missing that knows it.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations, registry

    scheme = url.partition("://")[0]
    if scheme not in known_implementations and scheme not in registry:
        raise ConfigError(f"{url}: unknown scheme {scheme!r}; use s3, gs, az or another one that fsspec knows, or a folder")
    try:
        # Listings are large, and what others write is to be seen at once. Not every driver takes the word.
        fs, path = url_to_fs(url, **({"use_listings_cache": False} if scheme in DRIVERS else {}))
    except ImportError as e:
        package = DRIVERS.get(scheme)
        mend = f"{package}, which is not installed: `pip install {package}`" if package else f"more than is installed ({e})"
        raise ConfigError(f"{url}: {scheme}:// needs {mend}") from None
    except Exception as e:
        raise ConfigError(f"{url}: cannot be used: {type(e).__name__}: {first_line(e)}") from None
    return fs, path.rstrip("/")
