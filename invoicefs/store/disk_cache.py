"""One diskcache that is never in the way. The only importer of ``diskcache``.

Whatever is missing, damaged, short or written by somebody else is a miss. A write that fails
costs caching, never an invoice: it is a log line, the same for every failure of one cause. A
database that is corrupt is set aside and a new one begun. One that cannot be opened, because the
disk is full or another program has locked it, is tried again later, by whoever needs it then.
Nothing is raised.

Pickle is refused in both directions, because diskcache unpickles whatever lies in its folder
(CVE-2025-69872), and so are file names in the database that lead out of the folder.

Threading: diskcache keeps one SQLite connection per thread; call this from threads that stay,
not from FUSE callbacks (there it reopened the database every time: 600 us instead of 70,
measured), and `close` it as the last thing in each. `_lock` guards the replacement of the
database, and `_left`: those that were left behind, on which other threads have connections open.
`_writing` is held during a write, which SQLite allows one at a time anyway: but its own waiting is
unfair, and of ten threads one may wait for more than two seconds (measured). `_filling` is held by
the one thread that fills a new database. `_rest_until_s` and `_is_filled` change by single
assignments.
"""

import logging
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from invoicefs.clock import Clock
from invoicefs.folders import own_folder
from invoicefs.store.sqlite_errors import (
    LOCKED,
    first_of,
    is_damage,
    is_read_only,
    is_spoilt_row,
    reason_of,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

REST_S = 5.0
"""What had to wait for a lock, or could not be opened, is not tried again for so long."""

_LOCK_TIMEOUT_S = 1.0  # a database locked for longer costs caching, not the operation
_VALUE_FILE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
_MODES = (diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY, diskcache.core.MODE_TEXT)


class DiskCache:
    """Values by text keys. A value is text or bytes.

    It lives in the folder `NAME-1`, and moves on to `NAME-2` when that is damaged. A path is
    never used again, because SQLite connections of other threads and mounts that are still open
    on a damaged database delete its -wal by path when they close.

    `refill` is called when it has begun anew in use, or could be opened late: then it lacks what it
    was given before. It may use the cache, and says whether all was kept; else it is called again.

    `trouble` says in words why it cannot be used at all just now; it is None where it can.
    """

    def __init__(
        self, parent: Path, name: str, clock: Clock, refill: Callable[[], bool], **settings: Any
    ) -> None:
        self._parent = parent
        self._name = name
        self._clock = clock
        self._refill = refill
        self._settings = settings
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._filling = threading.Lock()
        self._rest_until_s: dict[str, float] = {}
        self._is_filled = True
        self._generation = max(self._generations(), default=1)
        self.trouble: str | None = None
        self._left: tuple[Any, ...] = ()
        self._cache = self._open_or_begin_anew(_LOCK_TIMEOUT_S)

    def get(self, key: str) -> Any:
        """The value under a key, or None where there is none that can be read."""
        return self._attempt("read", lambda cache: cache.get(key))

    def keys(self, at_most: int) -> set[str] | None:
        """All keys, or None where there are more of them than that, or they cannot be read."""

        def all_keys(cache: Any) -> set[str] | None:
            return set(cache.iterkeys()) if len(cache) <= at_most else None

        return self._attempt("read", all_keys)

    def judge(self, is_whole: Callable[[str, object], bool]) -> dict[str, bool] | None:
        """Which values are whole, by key; None where they cannot be read.

        What goes while it is looked at is not among them.
        """

        def judge_all(cache: Any) -> dict[str, bool]:
            found = {key: is_whole(key, _readable(cache, key)) for key in cache.iterkeys()}
            return {key: whole for key, whole in found.items() if whole or key in cache}

        return self._attempt("read", judge_all)

    def add(self, key: str, value: str | bytes) -> bool | None:
        """Keep the value under a new key; whether it was new, or None where it failed."""
        return self._attempt("write", lambda cache: bool(cache.add(key, value)))

    def fill(
        self, values: Mapping[str, str | bytes], is_whole: Callable[[str, object], bool]
    ) -> bool:
        """Keep each value unless there is one under its key already that `is_whole`.

        Returns False where the disk cannot take it.
        """

        def fill_all(cache: Any) -> bool:
            # Within the transaction nothing can look as if it were missing because of a lock.
            with cache.transact():
                for key, value in values.items():
                    if not is_whole(key, _readable(cache, key)):
                        cache.set(key, value)
            return True

        return self._attempt("write", fill_all) or False

    def set(self, values: Mapping[str, str | bytes]) -> bool:
        """Keep all the values or, where the database is locked or the disk full, none."""

        def set_all(cache: Any) -> bool:
            with cache.transact():
                for key, value in values.items():
                    cache.set(key, value)
            return True

        return self._attempt("write", set_all) or False

    def remove(self, key: str) -> bool:
        """Forget the value under a key, if there is one. Returns False where the disk fails."""
        return self._attempt("write", lambda cache: cache.delete(key)) is not None

    def clear(self) -> bool:
        """Forget all values. Returns False where the disk fails."""
        return self._attempt("write", lambda cache: cache.clear()) is not None

    def settle(self) -> None:
        """Move SQLite's journal into the database, so that the files are as large as they stay.

        As far as nobody reads just then.
        """
        self._attempt("write", lambda _: _settle(self._folder / diskcache.core.DBNAME))

    def close(self) -> None:
        """Close the connections of the calling thread, which it does as its last.

        Otherwise they stay open until the garbage collector comes across them.
        """
        for cache in (*self._left, self._cache):
            if cache is not None:
                cache.close()

    @property
    def _folder(self) -> Path:
        return self._parent / f"{self._name}-{self._generation}"

    def _attempt(self, verb: str, action: Callable[[Any], T], tries: int = 2) -> T | None:
        if verb == "write":
            self._follow()
        cache = self._reopened() if self._cache is None else self._cache
        if cache is None or tries == 0:
            return None
        try:
            with self._writing if verb == "write" else nullcontext():
                result = None if self._is_resting(verb) else action(cache)
        except (diskcache.Timeout, sqlite3.Error, OSError, ValueError, TypeError) as raised:
            error = first_of(raised)
            if is_damage(error) or (verb == "write" and is_spoilt_row(error)):
                self._replace(cache, error)
                return self._attempt(verb, action, tries - 1)
            self._complain(reason_of(error))
            if reason_of(error) == LOCKED:
                self._rest(verb)
            if is_read_only(error):
                with suppress(sqlite3.Error):
                    cache.close()  # a connection of the time when the disk was read-only stays so
            return None
        if not self._is_filled and verb == "write":
            self._fill_again()
        return result

    def _reopened(self) -> Any:
        """The cache that could not be opened, where it can be had by now."""
        if self._is_resting("open"):
            return None
        with self._lock:
            is_tried = self._cache is None and not self._is_resting("open")
            if is_tried:
                self._cache = self._open_or_begin_anew(lock_timeout_s=0.0)
        if is_tried and self.trouble:
            self._complain(self.trouble)
        elif is_tried:
            self._is_filled = False
            self._fill_again()
        return self._cache

    def _replace(self, damaged: Any, error: Exception) -> None:
        """Begin a new database in place of a damaged one, once for all threads that met it."""
        with self._lock:
            is_new = self._cache is damaged
            if is_new:
                self._leave_behind(error)
                self._left += (damaged,)
                self._cache = self._open_or_none(_LOCK_TIMEOUT_S)
        if is_new:
            self._is_filled = False
            self._fill_again()

    def _follow(self) -> None:
        """Move on to the database that another mount has begun in place of a damaged one.

        Else what is written into the old one would be found by no later mount.
        """
        if self._is_resting("follow"):
            return
        self._rest("follow")
        newest = max(self._generations(), default=1)
        with self._lock:
            has_moved = newest > self._generation
            if has_moved:
                self._generation = newest
                self._left += (self._cache,)
                self._cache = self._open_or_none(_LOCK_TIMEOUT_S)
        if has_moved:
            self._is_filled = False
            self._fill_again()

    def _fill_again(self) -> None:
        """Have it refilled, unless somebody is at it, or was a moment ago and could not.

        It may be who fills it that comes here: the new database may be damaged as well.
        """
        if not self._is_resting("refill") and self._filling.acquire(blocking=False):
            try:
                self._rest("refill")
                before = self._cache
                self._is_filled = self._refill() and self._cache is before
            finally:
                self._filling.release()

    def _open_or_begin_anew(self, lock_timeout_s: float) -> Any:
        try:
            return self._open(lock_timeout_s)
        except (sqlite3.OperationalError, OSError) as error:
            if not (is_damage(error) or is_read_only(error)):
                return self._unusable(error)
            self._leave_behind(error)
        except Exception as error:  # a database of another shape makes diskcache raise anything
            self._leave_behind(error)
        return self._open_or_none(lock_timeout_s)

    def _open_or_none(self, lock_timeout_s: float) -> Any:
        try:
            return self._open(lock_timeout_s)
        except (sqlite3.Error, OSError) as error:
            return self._unusable(error)

    def _open(self, lock_timeout_s: float) -> Any:
        own_folder(self._parent)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # SQLite gives its own files, -wal and -shm, the mode of the database.
        database = self._folder / diskcache.core.DBNAME
        database.touch(mode=0o600)
        _check_unlocked(database, lock_timeout_s)
        cache = _Cache(
            str(self._folder),
            timeout=_LOCK_TIMEOUT_S,
            disk=_SafeDisk,
            sqlite_mmap_size=0,  # a database that is cut short would end the process with SIGBUS
            **self._settings,
        )
        self.trouble = None
        return cache

    def _unusable(self, error: Exception) -> None:
        self.trouble = reason_of(error)
        self._rest("open")

    def _leave_behind(self, reason: Exception) -> None:
        """Move on from a damaged database; of those left behind only the last is kept."""
        log.warning("The store %s is damaged, a new one is begun: %s", self._folder, reason)
        for older in self._generations():
            if older < self._generation:
                shutil.rmtree(self._parent / f"{self._name}-{older}", ignore_errors=True)
        self._generation += 1

    def _generations(self) -> list[int]:
        """The numbers of the folders that there are; none where the disk does not tell."""
        try:
            found = [path.name.rpartition("-") for path in self._parent.iterdir()]
        except OSError:
            return []
        return [
            int(number) for name, _, number in found if name == self._name and number.isdecimal()
        ]

    def _complain(self, reason: str) -> None:
        """Write a line that is the same for all failures of one cause: it is logged once."""
        log.warning(
            "The store %s fails (%s): what is not kept is downloaded again.", self._parent, reason
        )

    def _rest(self, verb: str) -> None:
        self._rest_until_s[verb] = self._clock.monotonic_s() + REST_S

    def _is_resting(self, verb: str) -> bool:
        """Whether this waited in vain a moment ago; who comes next does not wait once more."""
        return self._clock.monotonic_s() < self._rest_until_s.get(verb, 0.0)


class _Cache(diskcache.Cache):  # type: ignore[misc] # diskcache has no types
    """Leaves no connection open where it cannot be made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self.close()
            raise


class _SafeDisk(diskcache.Disk):  # type: ignore[misc] # diskcache has no types
    """Takes text keys and bytes or text values, and no file outside its own folder.

    A value that it refuses is an `OSError`, which diskcache takes for a value that is gone.
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
        if type(value) not in (str, bytes):
            raise TypeError("values are bytes or text")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: Any, value: Any, read: bool) -> Any:
        if mode not in _MODES:
            raise OSError("a pickled value")
        in_file = mode != diskcache.core.MODE_RAW
        if in_file and not (isinstance(filename, str) and _VALUE_FILE.fullmatch(filename)):
            raise OSError("a value outside the folder")
        return super().fetch(mode, filename, value, read)

    def remove(self, file_path: Any) -> None:
        if isinstance(file_path, str) and _VALUE_FILE.fullmatch(file_path):
            super().remove(file_path)

    def _write(
        self, full_path: str, iterator: Iterator[Any], mode: str, encoding: Any = None
    ) -> int:
        path = Path(full_path)
        try:
            written: int = super()._write(full_path, iterator, mode, encoding)
        except OSError as error:
            reason = _why_no_folder(path.parent) or error
            # On a full disk parts would stay that no row of the database knows.
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others lie there, too
                os.removedirs(path.parent)
            raise reason from error
        for each, bits in ((path, 0o600), (path.parent, 0o700), (path.parent.parent, 0o700)):
            with suppress(FileNotFoundError):  # another mount may have evicted it already
                each.chmod(bits)
        return written


def _why_no_folder(folder: Path) -> OSError | None:
    """Why a folder cannot be made, which diskcache hides behind ENOENT; None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error
    return None


def _check_unlocked(database: Path, timeout_s: float) -> None:
    """Raise `sqlite3.OperationalError` for a locked database: diskcache would wait for 60 s."""
    with closing(sqlite3.connect(database, timeout=timeout_s)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _settle(database: Path) -> None:
    # It waits for nobody: whoever writes would have to wait, too.
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _readable(cache: Any, key: str) -> object:
    """The value under a key; None where there is none, and where its text cannot be decoded."""
    try:
        return cache.get(key)
    except sqlite3.OperationalError as error:
        if not is_spoilt_row(error):
            raise
        return None
