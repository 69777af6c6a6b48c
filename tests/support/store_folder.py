"""Helpers to read and change the files in the folder of a store."""

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from invoicefs.clock import Clock, SystemClock
from invoicefs.model import Content, Invoice, Listing, Record, StoredContent
from invoicefs.store.disk_cache import DiskCache
from invoicefs.store.store import Store, open_store
from tests.support.fake_tenant import pdf_of

MIB = 1024 * 1024
IN_A_ROW = 100  # bytes; small values are in the database
IN_A_FILE = 100_000  # bytes; large ones are in separate files

OpenStore = Callable[..., Store]


@contextmanager
def opening(folder: Path) -> Iterator[OpenStore]:
    """Yield a function that opens the store in a folder, any number of times."""
    opened: list[Store] = []

    def open_(size_limit_bytes: int = 64 * MIB, clock: Clock | None = None) -> Store:
        opened.append(open_store(folder, size_limit_bytes, clock or SystemClock()))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


def invoice(name: str = "a", namespace: str = "system") -> Invoice:
    return Invoice(namespace, name, period_start="2026-01-01T00:00:00Z")


def content_of(pdf: bytes, version: str = "v1") -> Content:
    facts = StoredContent(len(pdf), hashlib.sha256(pdf).hexdigest(), version, fetched_ns=17)
    return Content(Record(5, facts), pdf)


def loaded(store: Store, of: Invoice) -> bytes | None:
    """Return the PDF of an invoice, found through its record, or None."""
    record = store.record(of)
    return store.pdf(record.content) if record and record.content else None


def use_for_everything(store: Store) -> None:
    """Check that everything can be saved and found."""
    content = content_of(pdf_of("", IN_A_FILE))
    store.save_namespaces(("system",))
    store.save_listing("system", Listing((invoice(),)))
    store.save(invoice(), content)
    assert store.namespaces() == ("system",)
    assert store.listing("system") == Listing((invoice(),))
    assert store.record(invoice()) == content.record
    assert loaded(store, invoice()) == content.pdf


def caches(folder: Path, cache: str) -> list[Path]:
    """Return the folders of a cache; the last one is in use."""
    return sorted(folder.glob(f"{cache}-*"))


def database(folder: Path, cache: str) -> Path:
    """Return the database that is in use."""
    return caches(folder, cache)[-1] / "cache.db"


def value_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.val"))


@contextmanager
def connection(folder: Path, cache: str) -> Iterator[sqlite3.Connection]:
    """Yield a connection to a database, like that of another program."""
    with closing(sqlite3.connect(database(folder, cache), isolation_level=None)) as connection:
        yield connection


def change_rows(folder: Path, cache: str, assignments: str, *values: object) -> None:
    with connection(folder, cache) as rows:
        change = f"UPDATE OR IGNORE Cache SET {assignments}"  # noqa: S608
        assert rows.execute(change, values).rowcount > 0


def stored_values(folder: Path, cache: str) -> dict[int, bytes]:
    """Return the values of a cache by row number, whether in rows or in files."""
    with connection(folder, cache) as rows:
        found = rows.execute("SELECT rowid, CAST(value AS BLOB), filename FROM Cache").fetchall()
    cache_folder = database(folder, cache).parent
    return {
        rowid: value if filename is None else (cache_folder / filename).read_bytes()
        for rowid, value, filename in found
    }


def put_values(folder: Path, cache: str, values: Mapping[int, bytes]) -> None:
    """Replace values of a cache, in their rows or files."""
    with connection(folder, cache) as rows:
        for rowid, value in values.items():
            query = "SELECT typeof(value), filename FROM Cache WHERE rowid = ?"
            ((kind, filename),) = rows.execute(query, (rowid,)).fetchall()
            if filename is None:
                change = f"UPDATE Cache SET value = CAST(? AS {kind}) WHERE rowid = ?"  # noqa: S608
                rows.execute(change, (value, rowid))
            else:
                (database(folder, cache).parent / filename).write_bytes(value)


@contextmanager
def threads_that_use(store: Store | DiskCache, count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads; each closes its connections before it ends."""
    together = threading.Barrier(count, timeout=20)

    def end() -> None:
        together.wait()
        store.close()

    with ThreadPoolExecutor(count) as threads:
        yield threads
        for ended in [threads.submit(end) for _ in range(count)]:
            ended.result(20)
