"""Cached data is served only to credentials that the API has allowed to see it.

Two mounts of one user share a store; each has its own token.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from invoicefs.errors import Denied, InvoicefsError, NotFound, Unreachable
from invoicefs.library.access import INVOICES, NAMESPACES, PDF, Access
from invoicefs.library.library import Library
from invoicefs.model import Invoice
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.memory_store import MemoryStore
from tests.support.running_library import LIST_TTL_S, CrowdClock, running_library, running_parts

ALL = [
    Invoice("system", f"i{number}", period_start=f"2026-0{number + 1}-01T00:00:00Z")
    for number in range(4)
]
OTHER = Invoice("other", "o")
CALLS = ["namespaces", "list system", "pdf system/i0"]


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (*ALL, OTHER):
        tenant.bill(invoice, pdf_of(invoice.name))
    return tenant


@pytest.fixture
def store(tenant: FakeTenant, clock: CrowdClock) -> MemoryStore:
    """A store in which the first credential has cached everything."""
    store = MemoryStore()
    with mounted_by("first", tenant, store, clock) as library:
        assert read_all(library) == 5
    tenant.take_requests()
    return store


@contextmanager
def mounted_by(
    credential: str, tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> Iterator[Library]:
    tenant.credential = credential
    with running_library(tenant, store, clock) as library:
        yield library


def read_all(library: Library) -> int:
    """List and read all invoices; return their number, or raise the first error."""
    paths = [
        f"/{folder.file_name}/{file.file_name}"
        for folder in library.directory("/").entries
        for file in library.directory(f"/{folder.file_name}").entries
    ]
    for path in paths:
        library.release(library.open(path))
    return len(paths)


def test_a_new_credential_costs_one_listing_and_one_pdf_per_namespace(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    with mounted_by("second", tenant, store, clock) as library:
        for _ in range(2):
            assert read_all(library) == 5
    calls = ["list other", "list system", "namespaces", "pdf other/o", "pdf system/i0"]
    assert sorted(tenant.take_requests()) == calls
    with mounted_by("second", tenant, store, clock) as library:
        assert read_all(library) == 5
    assert "pdf" not in " ".join(tenant.take_requests())


@pytest.mark.parametrize("refused", ["list", "pdf"])
def test_a_replaced_credential_is_checked_before_cached_data_is_served(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock, refused: str
) -> None:
    """Nothing else would make a request: the listing is fresh and the PDF is cached."""
    with mounted_by("first", tenant, store, clock) as library:
        assert read_all(library) == 5
        tenant.credential = "second"
        tenant.fail(refused, Denied("no"))
        with pytest.raises(Denied):
            read_all(library)


@pytest.mark.parametrize("refused", CALLS)
def test_a_refused_request_is_not_served_from_the_cache(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock, refused: str
) -> None:
    tenant.fail(refused, Denied("no"))
    with mounted_by("second", tenant, store, clock) as library:
        for _ in range(2):  # the second time, the recent failure is raised again
            with pytest.raises(Denied):
                read_all(library)


@pytest.mark.parametrize("credential", ["first", "second"])
def test_a_credential_gets_what_it_was_allowed_while_the_api_is_down(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock, credential: str
) -> None:
    for kind in ("namespaces", "list", "pdf"):
        tenant.fail(kind, Unreachable("away"))
    with mounted_by(credential, tenant, store, clock) as library:
        if credential == "first":
            assert read_all(library) == 5
            return
        for operation in (
            lambda: library.directory("/"),
            lambda: library.directory("/system"),
            lambda: library.lookup("/system/i0.pdf"),
            lambda: library.open("/system/i0.pdf"),
        ):
            with pytest.raises(Unreachable):
                operation()
        assert not library.is_known


def test_a_refused_listing_is_not_served_later_while_the_api_is_down(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    with mounted_by("first", tenant, store, clock) as library:
        tenant.fail("list", Denied("no"))
        with pytest.raises(Denied):
            library.directory("/system")
        assert library.lookup("/system/i0.pdf")  # it was listed before
        tenant.fail("list", Unreachable("away"))
        clock.advance(LIST_TTL_S)
        with pytest.raises(Unreachable):
            library.directory("/system")


def test_listed_data_is_hidden_from_a_credential_that_may_only_download(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    tenant.fail("list", Denied("no"))
    with mounted_by("second", tenant, store, clock) as library:
        library.release(library.open("/system/i0.pdf"))
        assert library.description("/system/i0.pdf").invoice is None


@pytest.mark.parametrize("failure", [NotFound("no PDF"), Unreachable("away")])
def test_a_failure_of_one_invoice_does_not_affect_the_others(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock, failure: InvoicefsError
) -> None:
    tenant.fail("pdf system/i0", failure)
    with mounted_by("second", tenant, store, clock) as library:
        with pytest.raises(type(failure)):
            library.open("/system/i0.pdf")
        for name in ("i1", "i2", "i3"):
            library.release(library.open(f"/system/{name}.pdf"))
    assert [call for call in tenant.take_requests() if call.startswith("pdf")].count(
        "pdf system/i1"
    ) == 1


def test_concurrent_opens_with_a_new_credential_make_one_request(
    tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    with mounted_by("second", tenant, store, clock) as library:
        library.directory("/system")
        tenant.take_requests()
        with tenant.blocking("pdf") as gate:
            first = Opening(library, "/system/i0.pdf")
            gate.await_request()
            others = [Opening(library, f"/system/{invoice.name}.pdf") for invoice in ALL]
            clock.await_crowd(len(others) + 1)
        for opening in (first, *others):
            opening.end()
    assert tenant.take_requests() == ["pdf system/i0"]


def test_the_store_has_neither_the_credential_nor_its_plain_digest(
    store: MemoryStore, clock: CrowdClock
) -> None:
    fingerprints = {key.fingerprint for key in store.verdicts}
    assert len(fingerprints) == 1
    store.key = b"another"
    with running_parts(FakeTenant(), store, clock) as parts:
        disk = parts.disk
        Access(store, disk, lambda: "first").note("first", PDF, "system", is_allowed=True)
    assert len({key.fingerprint for key in store.verdicts}) == 2


def test_a_credential_that_was_never_allowed_anything_is_not_recorded(
    store: MemoryStore, clock: CrowdClock
) -> None:
    before = dict(store.verdicts)
    with running_parts(FakeTenant(), store, clock) as parts:
        disk = parts.disk
        access = Access(store, disk, lambda: "second")
        for kind in (NAMESPACES, INVOICES, PDF):
            access.note("second", kind, "system", is_allowed=False)
            assert not access.has_seen(kind, "system")
    assert store.verdicts == before


def test_a_permission_recorded_by_another_mount_counts(
    store: MemoryStore, clock: CrowdClock
) -> None:
    with running_parts(FakeTenant(), store, clock) as parts:
        disk = parts.disk
        here, there = Access(store, disk, lambda: "second"), Access(store, disk, lambda: "second")
        assert not here.may_see(PDF, "system")
        there.note("second", PDF, "system", is_allowed=True)
        assert here.may_see(PDF, "system")


class Opening:
    """An open in its own thread."""

    def __init__(self, library: Library, path: str) -> None:
        self._library = library
        self._result: list[object] = []
        self._thread = threading.Thread(target=self._open, args=[path])
        self._thread.start()

    def end(self) -> None:
        self._thread.join(20)
        assert self._result

    def _open(self, path: str) -> None:
        opened = self._library.open(path)
        self._result.append(opened)
        self._library.release(opened)
