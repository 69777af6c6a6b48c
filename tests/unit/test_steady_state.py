"""With a fresh listing, stat, listing and reading make no request and use no disk."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from invoicefs.kernel.filesystem import InvoiceFilesystem
from invoicefs.model import Invoice
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.idle import Idle
from tests.support.memory_store import MemoryStore
from tests.support.running_library import ACTIVE_TTL_S, running_library, usual_settings

FINAL = [
    Invoice(
        "system",
        f"invoice-{number * 7 % 47:02}",
        period_start=f"{2020 + number // 12}-{number % 12 + 1:02}-01T00:00:00Z",
        period_end=f"{2020 + number // 12}-{number % 12 + 1:02}-28T00:00:00Z",
    )
    for number in range(47)
]
ACTIVE = [replace(invoice, name=f"active-{invoice.name}", active=True) for invoice in FINAL]


class WatchedStore(MemoryStore):
    """A store that records its calls."""

    READS = ("namespaces", "listing", "record", "records", "pdf", "verdict")
    WRITES = ("save_namespaces", "save_listing", "save_records", "add_records", "save")

    def __init__(self) -> None:
        super().__init__()
        self._uses: list[str] = []
        for name in (*self.READS, *self.WRITES):
            setattr(self, name, self._noting(name, getattr(self, name)))

    def take_uses(self) -> list[str]:
        """Return the uses since the last call of this method."""
        taken, self._uses = self._uses, []
        return taken

    def _noting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self._uses.append(name)
            return method(*arguments)

        return noted


class WatchedLock:
    """A lock that records which threads take it."""

    takers: list[int]

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def acquire(self, *arguments: Any, **keywords: Any) -> Any:
        self.takers.append(threading.get_ident())
        return self._lock.acquire(*arguments, **keywords)

    def __enter__(self) -> Any:
        self.takers.append(threading.get_ident())
        return self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (*FINAL, *ACTIVE):
        tenant.bill(invoice, pdf_of(invoice.key, 1000))
    return tenant


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@contextmanager
def mounted(
    tenant: FakeTenant, store: MemoryStore, clock: FakeClock, **changes: Any
) -> Iterator[InvoiceFilesystem]:
    """Yield the adapter as libfuse uses it, with everything listed."""
    changes = {"read_ahead": 16, **changes}
    with running_library(tenant, store, clock, **changes) as library:

        def stat(path: str) -> bool:
            adapter("getattr", path)
            return True

        adapter = InvoiceFilesystem(
            library, usual_settings(), clock, stat, lambda: 4711, lambda: None
        )
        stat_everything(adapter)
        yield adapter


def stat_everything(adapter: InvoiceFilesystem) -> None:
    """Do what ``ls -lR`` and ``df`` do."""
    for folder in ("/", "/system"):
        adapter("getattr", folder)
        handle = adapter("opendir", folder)
        adapter("readdir", None, handle)
        adapter("releasedir", None, handle)
    for invoice in (*FINAL, *ACTIVE):
        adapter("getattr", f"/{invoice.key}")
    adapter("statfs", "/")


def read(adapter: InvoiceFilesystem, *invoices: Invoice) -> None:
    for invoice in invoices:
        handle = adapter("open", f"/{invoice.key}", os.O_RDONLY).handle
        adapter("read", None, 1000, 0, handle)
        adapter("release", None, handle)


def not_sequential(invoices: list[Invoice]) -> list[Invoice]:
    """Return the invoices in an order that is not sequential."""
    return [invoices[place * 5 % len(invoices)] for place in range(len(invoices))]


def in_memory_only(
    tenant: FakeTenant, store: WatchedStore, idle: Idle, use: Callable[[], None]
) -> None:
    """Check that the second use makes no request and no call to the store."""
    use()  # fills what is computed once
    idle.await_()
    tenant.take_requests()
    store.take_uses()
    use()
    idle.await_()
    assert (tenant.take_requests(), store.take_uses()) == ([], [])


@pytest.mark.parametrize("is_read", [False, True], ids=["never read", "read"])
def test_stat_and_listing_use_neither_the_store_nor_the_api(
    tenant: FakeTenant, store: WatchedStore, clock: FakeClock, is_read: bool
) -> None:
    idle = Idle(clock)
    with mounted(tenant, store, clock) as adapter:
        if is_read:
            read(adapter, *not_sequential(FINAL), *not_sequential(ACTIVE))
        in_memory_only(tenant, store, idle, lambda: stat_everything(adapter))


@pytest.mark.parametrize("remounted_after_s", [0.0, ACTIVE_TTL_S - 1], ids=str)
def test_stat_and_listing_after_a_remount_use_neither_store_nor_api(
    tenant: FakeTenant, store: WatchedStore, clock: FakeClock, remounted_after_s: float
) -> None:
    idle = Idle(clock)
    with mounted(tenant, store, clock) as adapter:
        read(adapter, *FINAL, *ACTIVE)
    clock.advance(remounted_after_s)
    with mounted(tenant, store, clock) as adapter:
        in_memory_only(tenant, store, idle, lambda: stat_everything(adapter))


def test_stat_of_outdated_invoices_uses_neither_the_store_nor_the_api(
    tenant: FakeTenant, store: WatchedStore, clock: FakeClock
) -> None:
    idle = Idle(clock)
    with mounted(tenant, store, clock, list_ttl_s=2 * ACTIVE_TTL_S) as adapter:
        read(adapter, *FINAL, *ACTIVE)
        clock.advance(ACTIVE_TTL_S)
        in_memory_only(tenant, store, idle, lambda: stat_everything(adapter))


def test_reading_an_open_file_uses_neither_the_store_nor_the_api(
    tenant: FakeTenant, store: WatchedStore, clock: FakeClock
) -> None:
    idle = Idle(clock)
    with mounted(tenant, store, clock) as adapter:
        for invoice in (FINAL[5], ACTIVE[3]):
            path = f"/{invoice.key}"
            handle = adapter("open", path, os.O_RDONLY).handle

            def use(path: str = path, handle: int = handle) -> None:
                adapter("getattr", path)
                adapter("getattr", None, handle)
                for offset in range(0, 1200, 100):
                    adapter("read", None, 100, offset, handle)

            in_memory_only(tenant, store, idle, use)
            adapter("release", None, handle)


@pytest.mark.parametrize("is_read", [False, True], ids=["never read", "read"])
def test_stat_and_read_take_no_lock(
    tenant: FakeTenant, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, is_read: bool
) -> None:
    idle = Idle(clock)
    WatchedLock.takers = []
    monkeypatch.setattr(threading, "Lock", watched(threading.Lock))
    monkeypatch.setattr(threading, "RLock", watched(threading.RLock))
    with mounted(tenant, MemoryStore(), clock) as adapter:
        if is_read:
            read(adapter, *not_sequential(FINAL), *not_sequential(ACTIVE))
        folder = adapter("opendir", "/system")
        file = adapter("open", f"/{FINAL[3].key}", os.O_RDONLY).handle

        def use() -> None:
            for invoice in (*FINAL, *ACTIVE):
                adapter("getattr", f"/{invoice.key}")
            adapter("getattr", "/system")
            adapter("readdir", None, folder)
            adapter("getattr", None, file)
            adapter("read", None, 1000, 0, file)

        use()
        idle.await_()
        assert threading.get_ident() in WatchedLock.takers  # the locks are really watched
        WatchedLock.takers.clear()
        use()
        assert threading.get_ident() not in WatchedLock.takers
        adapter("release", None, file)
        adapter("releasedir", None, folder)


def watched(make: Callable[[], Any]) -> Callable[[], WatchedLock]:
    return lambda: WatchedLock(make())


@pytest.mark.parametrize("is_remounted", [False, True])
@pytest.mark.parametrize("read_ahead", [0, 16])
def test_opening_a_cached_final_invoice_reads_the_store_once(
    tenant: FakeTenant, store: WatchedStore, clock: FakeClock, is_remounted: bool, read_ahead: int
) -> None:
    idle = Idle(clock)
    with mounted(tenant, store, clock, read_ahead=read_ahead) as adapter:
        read(adapter, *not_sequential(FINAL))
        if not is_remounted:
            assert_one_use_each(store, idle, adapter)
    if is_remounted:
        with mounted(tenant, store, clock, read_ahead=read_ahead) as adapter:
            assert_one_use_each(store, idle, adapter)


def assert_one_use_each(store: WatchedStore, idle: Idle, adapter: InvoiceFilesystem) -> None:
    for invoice in not_sequential(FINAL):
        idle.await_()
        store.take_uses()
        read(adapter, invoice)
        idle.await_()
        uses = [use for use in store.take_uses() if use != "verdict"]  # once per namespace
        assert len(uses) <= 1


def test_sequential_access_reads_every_cached_pdf_once(
    tenant: FakeTenant, store: WatchedStore, clock: FakeClock
) -> None:
    idle = Idle(clock)
    with mounted(tenant, store, clock) as adapter:
        read(adapter, *not_sequential(FINAL), *not_sequential(ACTIVE))
        idle.await_()
        store.take_uses()
        sequence = sorted((*FINAL, *ACTIVE), key=lambda invoice: invoice.inode)
        for invoice in sequence:
            read(adapter, invoice)
            idle.await_()
        uses = store.take_uses()
    assert uses.count("pdf") <= len(sequence)
    assert not set(uses) & set(store.WRITES)


def test_every_one_of_1000_namespaces_is_listed_once(
    tenant: FakeTenant, store: WatchedStore, clock: FakeClock
) -> None:
    invoices = [Invoice(f"team-{number:03}", "invoice") for number in range(1000)]
    for invoice in invoices:
        tenant.bill(invoice, pdf_of(invoice.key, 1000))
    folders = [f"/{invoice.namespace}" for invoice in invoices]
    with mounted(tenant, store, clock) as adapter:
        store.take_uses()
        tenant.take_requests()
        for _ in range(2):  # ``ls -l MOUNTPOINT``, twice
            for folder in folders:
                adapter("getattr", folder)
        assert tenant.take_requests() == []
        assert store.take_uses() == ["verdict"] * len(folders)
        for _ in range(2):  # ``find MOUNTPOINT``, twice
            for folder, invoice in zip(folders, invoices, strict=True):
                adapter("releasedir", None, adapter("opendir", folder))
                adapter("getattr", f"/{invoice.key}")
        assert sorted(tenant.take_requests()) == [
            f"list {invoice.namespace}" for invoice in invoices
        ]
