"""Keeps and verifies bytes and records on disk. The only importer of ``diskcache``.

One folder per API URL, 0700, its files 0600, with two caches in it:

- ``pdf``: contents by their SHA-256, limited in size; the longest stored ones go first.
- ``meta``: listings and records by name, as JSON text; never evicted, because sizes and mtimes
  have to stay known for ever.

Contents are addressed by what they are, so replacing one is a single step, the new record, and
two mounts that share a store can never mix two versions.

Whatever is missing, damaged, short or written by somebody else is a miss. A write that fails
costs caching, never an invoice: it is a log line. A database that is corrupt is set aside and a
new one begun. Nothing but `StoreUnusable`, and that only from `open_store`, leaves this module.

Pickle is refused in both directions, because diskcache unpickles whatever lies in its folder
(CVE-2025-69872), and so are file names in the database that lead out of the folder.

Threading: diskcache keeps one SQLite connection per thread; call this from threads that stay,
not from FUSE callbacks (there it reopened the database every time: 600 us instead of 70,
measured). `_lock` guards the replacement of a corrupt cache and nothing else.
"""

import hashlib
import logging
import os
import re
import shutil
import sqlite3
import stat
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import diskcache

from invoicefs import records
from invoicefs.errors import StoreUnusable
from invoicefs.model import Content, Invoice, Listing, Record, StoredContent
from invoicefs.names import directory_name, file_name

log = logging.getLogger(__name__)

T = TypeVar("T")

_NAMESPACES_KEY: Final = "namespaces"
_LOCK_TIMEOUT_S = 2.0  # a database locked for longer costs caching, not the operation
_INLINE_BYTES = 32 * 1024  # smaller values are kept in the database itself
# diskcache removes a replaced file before the transaction ends, so if that fails both are lost.
_NEVER_IN_FILES = 2**30
_CULL_LIMIT = 2  # at most so many are evicted per write; 10 can empty a small cache (measured)
_VALUE_FILE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
_MODES = (diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY, diskcache.core.MODE_TEXT)


def store_folder(cache_dir: Path, url: str) -> Path:
    """The folder of one API: readable by its host, unique by a hash of the whole URL."""
    host = re.sub(r"[^a-z0-9.-]", "_", urlsplit(url).netloc)
    return cache_dir / f"{host}-{hashlib.sha256(url.encode()).hexdigest()[:10]}"


def open_store(folder: Path, size_limit_bytes: int) -> "Store":
    """Open the store in a folder, made where it is missing.

    Raises `StoreUnusable` where the folder cannot be had for us alone, or cannot be written.
    """
    if os.path.expandvars(folder) != str(folder):  # which diskcache would do
        raise StoreUnusable(f"The cache folder {folder} holds a variable: give it in full.")
    try:
        _make_private(folder)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise StoreUnusable(f"The cache folder {folder} belongs to somebody else.")
        folder.chmod(0o700)
        probe = folder / f"probe-{uuid.uuid4().hex}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise StoreUnusable(
            f"The cache folder {folder} cannot be used ({error.strerror}): "
            "give another with --cache-dir."
        ) from error
    return Store(folder, size_limit_bytes)


def _make_private(folder: Path) -> None:
    """Make a folder, and what is missing above it, for the owner alone."""
    for parent in reversed((folder, *folder.parents)):
        parent.mkdir(mode=0o700, exist_ok=True)


class Store:
    """The bytes and records of one tenant. Made by `open_store`."""

    def __init__(self, folder: Path, size_limit_bytes: int) -> None:
        self._pdfs = _Cache(
            folder,
            "pdf",
            size_limit=size_limit_bytes,
            eviction_policy="least-recently-stored",
            cull_limit=_CULL_LIMIT,
            disk_min_file_size=_INLINE_BYTES,
        )
        self._meta = _Cache(
            folder,
            "meta",
            eviction_policy="none",
            cull_limit=0,
            disk_min_file_size=_NEVER_IN_FILES,
        )

    def close(self) -> None:
        """Close the connections of the calling thread."""
        self._pdfs.close()
        self._meta.close()

    def namespaces(self) -> tuple[str, ...]:
        """The last good list of namespaces; empty where there is none."""
        return records.namespaces_from(self._load(_NAMESPACES_KEY))

    def save_namespaces(self, namespaces: Iterable[str]) -> bool:
        """Keep a list of namespaces; whether that was possible."""
        return self._keep(_NAMESPACES_KEY, list(namespaces))

    def listing(self, namespace: str) -> Listing | None:
        """The last good listing of a namespace, or None where there is none."""
        return records.listing_from(namespace, self._load(_listing_key(namespace)))

    def save_listing(self, namespace: str, listing: Listing) -> bool:
        """Keep the listing of a namespace; whether that was possible."""
        return self._keep(_listing_key(namespace), records.listing_fields(listing))

    def record(self, invoice: Invoice) -> Record | None:
        """What is remembered of an invoice, or None where nothing is."""
        return records.record_from(self._load(_record_key(invoice)))

    def save_records(self, known: Mapping[Invoice, Record]) -> bool:
        """Remember this of these invoices; whether that was possible."""
        return self._meta.set(_sealed_records(known))

    def add_records(self, known: Mapping[Invoice, Record]) -> None:
        """Remember this of those of the invoices of which nothing is remembered yet."""
        self._meta.add(_sealed_records(known))

    def pdf(self, facts: StoredContent) -> bytes | None:
        """The content with these facts, verified; None where it is missing or damaged."""
        pdf = self._pdfs.get(facts.sha256)
        if not isinstance(pdf, bytes) or len(pdf) != facts.size_bytes:
            return None
        return pdf if hashlib.sha256(pdf).hexdigest() == facts.sha256 else None

    def has_pdf(self, facts: StoredContent) -> bool:
        """Whether there is content with these facts, verified or not."""
        return self._pdfs.has(facts.sha256)

    def save(self, invoice: Invoice, content: Content) -> None:
        """Keep downloaded content and its record, the content first: a record promises it."""
        facts = content.record.content
        if facts is not None:
            # What is there and whole stays: replacing its file would pull it from under a reader.
            was_there = self._pdfs.add({facts.sha256: content.pdf}) is False
            if was_there and self.pdf(facts) is None:
                self._pdfs.set({facts.sha256: content.pdf})
        self.save_records({invoice: content.record})

    def _keep(self, key: str, value: object) -> bool:
        return self._meta.set({key: records.sealed(key, value)})

    def _load(self, key: str) -> object:
        return records.unsealed(key, self._meta.get(key))


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
        except OSError:
            # On a full disk a part would stay that no row of the database knows.
            path.unlink(missing_ok=True)
            raise
        for each, bits in ((path, 0o600), (path.parent, 0o700), (path.parent.parent, 0o700)):
            with suppress(FileNotFoundError):  # another mount may have evicted it already
                each.chmod(bits)
        return written


class _Cache:
    """One diskcache, with every failure turned into a miss or a log line.

    It lives in the folder `NAME-1`, and moves on to `NAME-2` when that is damaged. A path is
    never used again, because SQLite connections of other threads and mounts that are still open
    on a damaged database delete its -wal by path when they close.
    """

    def __init__(self, parent: Path, name: str, **settings: Any) -> None:
        self._parent = parent
        self._name = name
        self._settings = settings
        self._lock = threading.Lock()
        self._generation = self._newest_generation()
        self._cache = self._open_or_begin_anew()

    def get(self, key: str) -> Any:
        return self._attempt("read", lambda cache: cache.get(key))

    def has(self, key: str) -> bool:
        return self._attempt("read", lambda cache: key in cache) or False

    def add(self, values: Mapping[str, str | bytes]) -> bool | None:
        """Keep the values under new keys; whether all were new, or None where it failed."""

        def add_all(cache: Any) -> bool:
            with cache.transact():
                added = [cache.add(key, value) for key, value in values.items()]
            return all(added)

        return self._attempt("written", add_all)

    def set(self, values: Mapping[str, str | bytes]) -> bool:
        """Keep all the values or, where the database is locked or the disk full, none."""

        def set_all(cache: Any) -> bool:
            with cache.transact():
                for key, value in values.items():
                    cache.set(key, value)
            return True

        return self._attempt("written", set_all) or False

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()

    @property
    def _folder(self) -> Path:
        return self._parent / f"{self._name}-{self._generation}"

    def _attempt(self, verb: str, action: Callable[[Any], T], tries: int = 2) -> T | None:
        cache = self._cache
        if cache is None or tries == 0:
            return None
        try:
            return action(cache)
        except (sqlite3.Error, diskcache.Timeout, OSError, ValueError, TypeError) as error:
            if _is_damage(error) or (verb == "written" and _is_spoilt_row(error)):
                self._replace(cache, error)
                return self._attempt(verb, action, tries - 1)
            log.warning("The store %s cannot be %s: %s", self._folder, verb, _reason(error))
        return None

    def _replace(self, damaged: Any, error: Exception) -> None:
        """Begin a new database in place of a damaged one, once for all threads that met it."""
        with self._lock:
            if self._cache is damaged:
                self._leave_behind(error)
                self._cache = self._open_or_none()

    def _open_or_begin_anew(self) -> Any:
        try:
            return self._open()
        except (sqlite3.OperationalError, OSError) as error:
            if not _is_damage(error):
                return self._unusable(error)
            self._leave_behind(error)
        except Exception as error:  # a database of another shape makes diskcache raise anything
            self._leave_behind(error)
        return self._open_or_none()

    def _open_or_none(self) -> Any:
        try:
            return self._open()
        except (sqlite3.Error, OSError) as error:
            return self._unusable(error)

    def _open(self) -> Any:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # SQLite gives its own files, -wal and -shm, the mode of the database.
        database = self._folder / diskcache.core.DBNAME
        database.touch(mode=0o600)
        _check_unlocked(database)
        return diskcache.Cache(
            str(self._folder),
            timeout=_LOCK_TIMEOUT_S,
            disk=_SafeDisk,
            sqlite_mmap_size=0,  # a database that is cut short would end the process with SIGBUS
            **self._settings,
        )

    def _unusable(self, error: Exception) -> None:
        log.warning("The store %s cannot be used, nothing is kept: %s", self._folder, error)

    def _leave_behind(self, reason: Exception) -> None:
        """Move on from a damaged database; of those left behind only the last is kept."""
        log.warning("The store %s is damaged, a new one is begun: %s", self._folder, reason)
        for older in self._parent.glob(f"{self._name}-*"):
            if older != self._folder and _generation_of(older) < self._generation:
                shutil.rmtree(older, ignore_errors=True)
        self._generation += 1

    def _newest_generation(self) -> int:
        return max(map(_generation_of, self._parent.glob(f"{self._name}-*")), default=1)


def _check_unlocked(database: Path) -> None:
    """Raise `sqlite3.OperationalError` for a locked database: diskcache would wait for 60 s."""
    with closing(sqlite3.connect(database, timeout=_LOCK_TIMEOUT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _generation_of(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 1


def _listing_key(namespace: str) -> str:
    return f"listing/{directory_name(namespace) or file_name(namespace)}"


def _record_key(invoice: Invoice) -> str:
    return f"record/{invoice.key}"


def _sealed_records(known: Mapping[Invoice, Record]) -> dict[str, str]:
    fields = {_record_key(invoice): records.record_fields(each) for invoice, each in known.items()}
    return {key: records.sealed(key, value) for key, value in fields.items()}


def _reason(error: Exception) -> str:
    """What went wrong, without values: sqlite3 quotes those that it cannot read."""
    if isinstance(error, diskcache.Timeout):
        return "the database is locked"
    if isinstance(error, OSError) or hasattr(error, "sqlite_errorcode"):
        return str(error)
    return type(error).__name__


def _is_spoilt_row(error: Exception) -> bool:
    """Whether a row holds what it cannot hold: a miss to read, but no write gets past it.

    sqlite3 raises an error without a code for text that is not UTF-8.
    """
    is_without_code = not hasattr(error, "sqlite_errorcode")
    is_undecodable = isinstance(error, sqlite3.OperationalError) and is_without_code
    return is_undecodable or isinstance(error, TypeError)


def _is_damage(error: Exception) -> bool:
    """Whether the database itself is broken, and not just locked, full or out of reach.

    SQLITE_ERROR (1) is what a missing table brings: the file is a database, but not ours.
    """
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return isinstance(error, sqlite3.DatabaseError)
