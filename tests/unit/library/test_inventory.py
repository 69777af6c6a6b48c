"""The inventory: what is known of each invoice, also after a remount and from other mounts."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invoicefs.errors import Denied, InvoicefsError, NotFound, Unreachable
from invoicefs.library.library import Library
from invoicefs.library.results import ListedInvoice
from invoicefs.model import Invoice, unlisted_invoice
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.running_library import (
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    CrowdClock,
    running_library,
)
from tests.support.store_folder import opening

PATH = "/system/bill.pdf"
DRAFT = Invoice(
    "system", "bill", active=True, status="pending", period_start="2026-01-01T00:00:00Z"
)
FINAL = replace(DRAFT, active=False, status="paid", period_end="2026-02-01T00:00:00Z")
NOT_FOUND = NotFound("the server answered 404: not paid")

Mount = Callable[..., Library]


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    tenant.bill(DRAFT, pdf_of("draft"))
    return tenant


@pytest.fixture
def mount(tenant: FakeTenant, clock: CrowdClock, tmp_path: Path) -> Iterator[Mount]:
    """Mount the tenant, as often as a test needs, each time with the same cache."""
    with ExitStack() as stack:

        def mount(**changes: Any) -> Library:
            store = stack.enter_context(opening(tmp_path / "store"))()
            return stack.enter_context(running_library(tenant, store, clock, **changes))

        yield mount


def listed(library: Library) -> ListedInvoice:
    (found,) = library.inventory.invoices("system").value
    return found


def read(library: Library) -> None:
    library.release(library.open(PATH))


def digest(pdf: bytes) -> str:
    return hashlib.sha256(pdf).hexdigest()


def test_a_404_is_known_until_the_invoice_changes(
    tenant: FakeTenant, clock: CrowdClock, mount: Mount
) -> None:
    library = mount()
    assert listed(library).is_available
    tenant.fail("pdf", NOT_FOUND)
    with pytest.raises(NotFound):
        read(library)

    for known in (library, mount()):
        assert not listed(known).is_available
        assert known.counts().not_available == 1

    tenant.bill(FINAL)
    clock.advance(LIST_TTL_S)
    assert listed(library).is_available
    assert library.counts().not_available == 0


def test_a_404_of_another_mount_is_known(tenant: FakeTenant, mount: Mount) -> None:
    one, other = mount(), mount()
    assert listed(one).is_available
    tenant.fail("pdf", NOT_FOUND)
    with pytest.raises(NotFound):
        read(other)

    assert not listed(one).is_available


def test_a_download_ends_a_404(tenant: FakeTenant, clock: CrowdClock, mount: Mount) -> None:
    library = mount()
    tenant.fail("pdf", NOT_FOUND)
    with pytest.raises(NotFound):
        read(library)
    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)

    read(library)

    assert listed(library).is_available
    assert listed(library).is_current


def test_a_404_changes_no_date(tenant: FakeTenant, clock: CrowdClock, mount: Mount) -> None:
    library = mount()
    before = library.attributes(PATH)
    tenant.fail("pdf", NOT_FOUND)
    with pytest.raises(NotFound):
        read(library)
    assert library.attributes(PATH) == before

    tenant.bill(FINAL)
    clock.advance(LIST_TTL_S)
    library.inventory.invoices("system")

    assert library.attributes(PATH).mtime_ns == FINAL.natural_mtime_ns


def test_names_that_are_not_listed_leave_no_record(
    tenant: FakeTenant, mount: Mount, tmp_path: Path
) -> None:
    library = mount()
    tenant.fail("list", Denied("not allowed"))
    for _ in range(2):
        with pytest.raises(NotFound):
            library.attributes("/system/guess.pdf")

    with opening(tmp_path / "store") as open_store:
        assert open_store().record(unlisted_invoice("system", "guess")) is None


def test_an_invoice_that_loses_its_period_after_a_404_keeps_the_date_of_that_listing(
    tenant: FakeTenant, clock: CrowdClock, mount: Mount
) -> None:
    library = mount()
    tenant.fail("pdf", NOT_FOUND)
    with pytest.raises(NotFound):
        read(library)
    tenant.bill(replace(DRAFT, period_start=""))
    clock.advance(LIST_TTL_S)
    library.inventory.invoices("system")
    now_ns = clock.wall_ns()
    assert library.attributes(PATH).mtime_ns == now_ns

    clock.advance(LIST_TTL_S)
    for known in (library, mount()):
        assert known.attributes(PATH).mtime_ns == now_ns


def test_earlier_contents_are_known_by_their_digests(
    tenant: FakeTenant, clock: CrowdClock, mount: Mount
) -> None:
    library = mount()
    contents = [pdf_of(text) for text in ("one", "two", "three", "two")]
    for amount, pdf in enumerate(contents):
        tenant.bill(replace(DRAFT, amount=str(amount)), pdf)
        clock.advance(LIST_TTL_S)
        read(library)

    for known in (library, mount()):
        record = listed(known).record
        assert record is not None
        assert record.content is not None
        assert record.content.sha256 == digest(contents[-1])
        assert record.earlier == (digest(contents[2]), digest(contents[0]))


def test_what_another_mount_downloaded_is_known(tenant: FakeTenant, mount: Mount) -> None:
    one, other = mount(), mount()
    assert not listed(one).is_current

    read(other)

    assert listed(one).is_current
    assert tenant.take_requests().count("pdf system/bill") == 1


@pytest.mark.parametrize("list_ttl_s", [0.0, LIST_TTL_S])
def test_the_last_good_lists_come_with_the_reason(
    tenant: FakeTenant, clock: CrowdClock, mount: Mount, list_ttl_s: float
) -> None:
    library = mount(list_ttl_s=list_ttl_s)
    assert library.inventory.directories().failure is None
    assert library.inventory.invoices("system").failure is None
    tenant.fail("namespaces", Unreachable("no route"))
    tenant.fail("list", Unreachable("no route"))
    clock.advance(LIST_TTL_S)

    directories, invoices = library.inventory.directories(), library.inventory.invoices("system")

    assert (directories.value, len(invoices.value)) == (("system",), 1)
    assert str(directories.failure) == str(invoices.failure) == "no route"


def test_a_partial_list_of_namespaces_is_not_complete(tenant: FakeTenant, mount: Mount) -> None:
    tenant.is_partial = True

    failure = mount().inventory.directories().failure

    assert str(failure) == "the server could list only some of the namespaces"


@pytest.mark.parametrize("error", [Denied("not allowed"), Unreachable("no route")])
def test_without_a_last_good_list_the_error_is_raised(
    tenant: FakeTenant, mount: Mount, error: InvoicefsError
) -> None:
    tenant.fail("list", error)

    with pytest.raises(type(error)):
        mount().inventory.invoices("system")
