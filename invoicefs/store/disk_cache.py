"""A wrapper of ``diskcache`` that treats failures as cache misses; the only module that imports it.

Anything missing, corrupt, truncated or written by another program is a miss. If a write fails, the
value is not cached, and a line is logged; no invoice is lost. A corrupt database is abandoned for a
new one. A database that cannot be opened, because the disk is full or another program has locked
it, is tried again after a backoff, when it is next needed. Nothing is raised.

Pickled values are neither written nor read, because diskcache unpickles any file in its folder
(CVE-2025-69872). File names in the database that point outside the folder are refused, too.

Threading: diskcache keeps one SQLite connection per thread. Call this from long-lived threads, and
`close` before each of them ends. `_lock` guards the replacement of the database, and `_abandoned`,
the old databases, to which other threads may have connections. `_writing` is held during a write.
SQLite only allows one write at a time anyway, but its own queue is unfair: one of ten threads may
wait for more than two seconds (measured).
"""

import logging
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from invoicefs.clock import Clock
from invoicefs.folders import make_private_folder
from invoicefs.store.backoffs import Backoffs
from invoicefs.store.files import write_new_file
from invoicefs.store.generations import Generations
from invoicefs.store.sqlite_errors import (
    LOCKED,
    cause_of,
    is_corruption,
    is_read_only,
    is_unreadable_row,
    reason_of,
)
from invoicefs.store.sqlite_files import check_unlocked, checkpoint

log = logging.getLogger(__name__)

T = TypeVar("T")

# 2000 KiB per connection, the default of SQLite; that of diskcache is 32 MiB. Every thread that has
# read or written a listing of 100 000 invoices would keep a copy of its 15 MB.
_CACHE_SIZE = -2000
_LOCK_TIMEOUT_S = 1.0  # after that the value is not cached, but nothing else fails
# Earlier versions had two levels of folders, as diskcache has: see `_SafeDisk.store`.
_VALUE_FILE = re.compile(r"(?:[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}|[0-9a-f]{32})\.val")
_MODES = (diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY, diskcache.core.MODE_TEXT)


class DiskCache:
    """Values, which are text or bytes, by text keys.

    The database is in the folder `NAME-1` of `parent`; if it becomes corrupt, a new one is created
    in the next folder: see `generations`. `failure` is the reason why the database cannot be
    opened at present, or None if it is open. The class has more than 20 methods because every
    operation goes through the same recovery.
    """

    def __init__(self, parent: Path, name: str, clock: Clock, **settings: Any) -> None:
        self._parent = parent
        self._generations = Generations(parent, name)
        self._settings = settings
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._backoffs = Backoffs(clock)
        self._generation = self._generations.newest()
        self.failure: str | None = None
        self._abandoned: tuple[Any, ...] = ()
        self._cache = self._open_or_create_new(_LOCK_TIMEOUT_S)

    @property
    def generation(self) -> int:
        """The number of the current database; it rises when a corrupt one has been replaced."""
        return self._generation

    def get(self, key: str, *, as_file: bool = False) -> Any:
        """Return a value, or with `as_file` the open file that has it; None if it is unreadable."""
        return self._attempt("read", lambda cache: cache.get(key, read=as_file))

    def keys(self, at_most: int) -> set[str] | None:
        """Return all keys, or None if there are more than `at_most` or they cannot be read."""
        return self._attempt(
            "read", lambda cache: set(cache.iterkeys()) if len(cache) <= at_most else None
        )

    def validate(self, is_whole: Callable[[str, object], bool]) -> dict[str, bool] | None:
        """Return whether each value is whole, by key; None if the database cannot be read.

        Values that are removed in the meantime are not included.
        """

        def validate_all(cache: Any) -> dict[str, bool]:
            found = {key: is_whole(key, _readable(cache, key)) for key in cache.iterkeys()}
            return {key: whole for key, whole in found.items() if whole or key in cache}

        return self._attempt("read", validate_all)

    def add(self, key: str, value: str | bytes) -> bool | None:
        """Write a value under a new key; returns whether it was new, or None if that failed."""
        return self._attempt("write", lambda cache: bool(cache.add(key, value)))

    def fill(
        self, values: Mapping[str, str | bytes], is_whole: Callable[[str, object], bool]
    ) -> bool:
        """Write each value whose key has no whole value yet. Returns False if that failed."""

        def fill_all(cache: Any) -> bool:
            # Within the transaction, a lock of another program cannot turn a read into a miss.
            with cache.transact():
                for key, value in values.items():
                    if not is_whole(key, _readable(cache, key)):
                        cache.set(key, value)
            return True

        return self._attempt("write", fill_all) or False

    def set(self, values: Mapping[str, str | bytes]) -> bool:
        """Write all values, or none. Returns False if that failed."""

        def set_all(cache: Any) -> bool:
            with cache.transact():
                for key, value in values.items():
                    cache.set(key, value)
            return True

        return self._attempt("write", set_all) or False

    def remove(self, key: str) -> bool:
        """Remove the value of a key, if there is one. Returns False if that failed."""
        return self._attempt("write", lambda cache: cache.delete(key)) is not None

    def clear(self) -> bool:
        """Remove all values. Returns False if that failed."""
        return self._attempt("write", lambda cache: cache.clear()) is not None

    def checkpoint(self) -> None:
        """Move SQLite's journal into the database, as far as its readers allow.

        Afterwards the files have the size that they will keep.
        """
        self._attempt("write", lambda _: checkpoint(self._folder / diskcache.core.DBNAME))

    def close(self) -> None:
        """Close the connections of the calling thread, before it ends."""
        for cache in (*self._abandoned, self._cache):
            if cache is not None:
                cache.close()

    @property
    def _folder(self) -> Path:
        return self._generations.folder(self._generation)

    def _attempt(self, verb: str, action: Callable[[Any], T], tries: int = 2) -> T | None:
        if verb == "write":
            self._switch_to_newest()
        cache = self._reopened() if self._cache is None else self._cache
        if cache is None or tries == 0:
            return None
        try:
            with self._writing if verb == "write" else nullcontext():
                return None if self._backoffs.has(verb) else action(cache)
        except (diskcache.Timeout, sqlite3.Error, OSError, ValueError, TypeError) as raised:
            error = cause_of(raised)
            if is_corruption(error) or (verb == "write" and is_unreadable_row(error)):
                self._replace(cache, error)
                return self._attempt(verb, action, tries - 1)
            self._log_failure(reason_of(error))
            if reason_of(error) == LOCKED:
                self._backoffs.begin(verb)
            if is_read_only(error):
                with suppress(sqlite3.Error):
                    cache.close()  # a connection from when the disk was read-only stays read-only
            return None

    def _reopened(self) -> Any:
        """Return the cache that could not be opened before, if it can be opened now."""
        if self._backoffs.has("open"):
            return None
        with self._lock:
            is_tried = self._cache is None and not self._backoffs.has("open")
            if is_tried:
                self._cache = self._open_or_create_new(lock_timeout_s=0.0)
        if is_tried and self.failure:
            self._log_failure(self.failure)
        return self._cache

    def _replace(self, corrupt: Any, error: Exception) -> None:
        """Create a new database in place of a corrupt one, once for all threads that found it."""
        with self._lock:
            if self._cache is corrupt:
                self._abandon(error)
                self._abandoned += (corrupt,)
                self._cache = self._open_or_none(_LOCK_TIMEOUT_S)

    def _switch_to_newest(self) -> None:
        """Switch to the database that another mount has created in place of a corrupt one.

        Otherwise later mounts would not find the values that this one writes.
        """
        if self._backoffs.has("follow"):
            return
        self._backoffs.begin("follow")
        newest = self._generations.newest()
        with self._lock:
            if newest > self._generation:
                self._generation = newest
                self._abandoned += (self._cache,)
                self._cache = self._open_or_none(_LOCK_TIMEOUT_S)

    def _open_or_create_new(self, lock_timeout_s: float) -> Any:
        try:
            return self._open(lock_timeout_s)
        except (sqlite3.OperationalError, OSError) as error:
            if not (is_corruption(error) or is_read_only(error)):
                return self._unusable(error)
            self._abandon(error)
        except Exception as error:  # a database with another schema makes diskcache raise anything
            self._abandon(error)
        return self._open_or_none(lock_timeout_s)

    def _open_or_none(self, lock_timeout_s: float) -> Any:
        try:
            return self._open(lock_timeout_s)
        except (sqlite3.Error, OSError) as error:
            return self._unusable(error)

    def _open(self, lock_timeout_s: float) -> Any:
        make_private_folder(self._parent)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # SQLite gives its own files, -wal and -shm, the mode of the database.
        database = self._folder / diskcache.core.DBNAME
        database.touch(mode=0o600)
        check_unlocked(database, lock_timeout_s)
        cache = _Cache(
            str(self._folder),
            timeout=_LOCK_TIMEOUT_S,
            disk=_SafeDisk,
            sqlite_mmap_size=0,  # a database that is truncated would end the process with SIGBUS
            sqlite_cache_size=_CACHE_SIZE,
            **self._settings,
        )
        self.failure = None
        return cache

    def _unusable(self, error: Exception) -> None:
        self.failure = reason_of(error)
        self._backoffs.begin("open")

    def _abandon(self, reason: Exception) -> None:
        """Abandon a corrupt database, and remove those that were abandoned before it."""
        log.warning("The cache %s is damaged; a new one is created: %s", self._folder, reason)
        self._generations.remove_before(self._generation)
        self._generation += 1

    def _log_failure(self, reason: str) -> None:
        """Log the same line for all failures with the same cause, so that it appears only once."""
        log.warning(
            "The cache %s fails (%s): values that cannot be cached are downloaded again.",
            self._parent,
            reason,
        )


class _Cache(diskcache.Cache):  # type: ignore[misc] # diskcache has no types
    """A `diskcache.Cache` that closes its connection if its constructor fails."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self.close()
            raise


class _SafeDisk(diskcache.Disk):  # type: ignore[misc] # diskcache has no types
    """A `diskcache.Disk` for text keys and text or bytes values, with no file outside its folder.

    Reading any other value raises `OSError`, which diskcache treats as a missing value; writing
    one raises `TypeError`.
    """

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: bool) -> str:
        if not raw or type(key) is not str:
            raise OSError("a pickled key")
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Return size, mode, file name and value of a row, after writing the file, if any.

        All files are in one folder. diskcache has 65 536 of them, so nearly every new file would
        need two new folders, and take twice as long (measured: 80 us and 40 us for 100 kB).
        """
        if type(value) not in (str, bytes):
            raise TypeError("values are bytes or text")
        if len(value) < self.min_file_size:
            return super().store(value, read, key=key)
        data = value if isinstance(value, bytes) else value.encode()
        name = f"{os.urandom(16).hex()}.val"
        write_new_file(os.path.join(self._directory, name), data)
        is_text = isinstance(value, str)
        mode = diskcache.core.MODE_TEXT if is_text else diskcache.core.MODE_BINARY
        return len(data), mode, name, None

    def fetch(self, mode: int, filename: Any, value: Any, read: bool) -> Any:
        if mode not in _MODES:
            raise OSError("a pickled value")
        in_file = mode != diskcache.core.MODE_RAW
        if in_file and not (isinstance(filename, str) and _VALUE_FILE.fullmatch(filename)):
            raise OSError("a value outside the folder")
        # A FIFO would block.
        if in_file and not os.path.isfile(os.path.join(self._directory, filename)):
            raise OSError("not a file")
        return super().fetch(mode, filename, value, read)

    def remove(self, file_path: Any) -> None:
        if isinstance(file_path, str) and _VALUE_FILE.fullmatch(file_path):
            super().remove(file_path)


def _readable(cache: Any, key: str) -> object:
    """Return the value of a key; None if there is none or its text cannot be decoded."""
    try:
        return cache.get(key)
    except sqlite3.OperationalError as error:
        if not is_unreadable_row(error):
            raise
        return None
