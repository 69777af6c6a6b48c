"""Which downloads stat waits for, what is downloaded ahead of it, and that it never fails."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from invoicefs.errors import (
    Busy,
    Denied,
    InvoicefsError,
    NotFound,
    RateLimited,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from invoicefs.library.downloads import Downloads
from invoicefs.library.library import Library
from invoicefs.library.stat_downloads import REFUSAL_MEMORY_S
from invoicefs.model import Invoice
from invoicefs.settings import Fetch, Settings
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    ACTIVE_TTL_S,
    DENIALS,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    MAX_PDF_SIZE_BYTES,
    NO_RESPONSES,
    TIMEOUT_S,
    CrowdClock,
    running_library,
)

MONTHS = 12
# Ordered by name they are in the reverse order of their periods.
INVOICES = [
    Invoice(
        "system",
        f"invoice-{MONTHS - month:02}",
        period_start=f"2026-{month + 1:02}-01T00:00:00Z",
        period_end=f"2026-{month + 1:02}-28T00:00:00Z",
    )
    for month in range(MONTHS)
]
OTHER = replace(INVOICES[0], namespace="other")
Mount = Callable[..., Library]


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (*INVOICES, OTHER):
        tenant.bill(invoice, pdf_of(invoice.key, 1000))
    return tenant


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant with or without ``--fetch on-stat``, with its invoices listed."""
    with ExitStack() as stack:

        def mount(**changes: Any) -> Library:
            running = running_library(tenant, store, clock, **changes)
            library = stack.enter_context(running)
            library.directory("/system")
            library.directory("/other")
            tenant.take_requests()
            return library

        yield mount


@pytest.fixture
def eager(mount: Mount) -> Library:
    return mount(fetch=Fetch.ON_STAT)


@pytest.fixture
def lazy(mount: Mount) -> Library:
    return mount()


def stat_size(library: Library, invoice: Invoice) -> int:
    """Return the size that stat shows."""
    return library.attributes(f"/{invoice.key}").size_bytes


def read(library: Library, invoice: Invoice) -> bytes:
    opened = library.open(f"/{invoice.key}")
    library.release(opened)
    return opened.content.pdf[:]


def pdf_request(invoice: Invoice) -> str:
    return f"pdf {invoice.namespace}/{invoice.name}"


# What stat waits for.


def test_stat_shows_the_exact_size_after_one_download_with_on_stat(
    eager: Library, tenant: FakeTenant
) -> None:
    assert [stat_size(eager, INVOICES[0]) for _ in range(3)] == [1000] * 3
    assert read(eager, INVOICES[0]) == tenant.pdf(INVOICES[0])
    assert tenant.take_requests() == [pdf_request(INVOICES[0])]


@pytest.mark.parametrize("is_eager", [False, True])
def test_stat_downloads_an_invoice_that_has_changed_since_its_download(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, is_eager: bool
) -> None:
    library = mount(fetch=Fetch.ON_STAT if is_eager else Fetch.ON_OPEN)
    changed, path = replace(INVOICES[0], amount="7"), f"/{INVOICES[0].key}"
    read(library, INVOICES[0])
    before = library.attributes(path)
    tenant.bill(changed, pdf_of("changed", 5000))
    clock.advance(LIST_TTL_S)
    library.directory("/system")
    tenant.take_requests()

    after = [library.attributes(path) for _ in range(2)]

    assert after[0] == after[1]
    assert (after[0].size_bytes, after[0].blocks) == (5000, 10)
    assert after[0].mtime_ns == clock.wall_ns() > before.mtime_ns
    assert read(library, changed) == tenant.pdf(changed)
    assert tenant.take_requests() == [pdf_request(changed)]


def test_stat_has_one_deadline_for_the_listing_and_the_download(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    clock.advance(LIST_TTL_S)
    tenant.during("list", lambda: clock.advance(10))
    stat_size(eager, INVOICES[0])
    assert tenant.deadlines_left_s[pdf_request(INVOICES[0])] == TIMEOUT_S - 10


def test_stat_downloads_an_expired_draft_where_listing_is_forbidden(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    unlisted = tenant.bill(Invoice("system", "unlisted"), pdf_of("first", 1000))
    tenant.fail("list", Denied("no"))
    clock.advance(LIST_TTL_S)
    assert stat_size(eager, unlisted) == 1000
    tenant.bill(unlisted, pdf_of("second", 5000))
    clock.advance(ACTIVE_TTL_S)
    assert stat_size(eager, unlisted) == 5000


# Downloads that fail.


@pytest.mark.parametrize("kind", [*NO_RESPONSES, NotFound, Busy, TooLarge, Denied, RateLimited])
def test_stat_never_fails_because_a_download_failed(
    eager: Library, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", kind("not now"))
    assert stat_size(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES


@pytest.mark.parametrize("kind", [*NO_RESPONSES, Unauthenticated, RateLimited])
def test_stat_waits_for_a_failing_api_twice_not_once_per_invoice(
    eager: Library, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", kind("not now"))
    invoices = (INVOICES[0], OTHER, *INVOICES[::-3])
    assert {stat_size(eager, item) for item in invoices} == {MAX_PDF_SIZE_BYTES}
    failed = tenant.take_requests()
    assert failed[0] == pdf_request(INVOICES[0])
    assert set(failed) <= {pdf_request(INVOICES[0]), pdf_request(OTHER)}  # none in a cool-down

    clock.advance(FAILURE_MEMORY_S)
    tenant.fix()
    assert stat_size(eager, INVOICES[5]) == 1000


@pytest.mark.parametrize("kind", [Denied, Busy, Unavailable])
def test_a_temporary_failure_is_retried_after_the_failure_memory(
    eager: Library, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", kind("not now"))
    for place in (0, 5):
        stat_size(eager, INVOICES[place])
    tenant.take_requests()
    clock.advance(FAILURE_MEMORY_S - 1)
    assert stat_size(eager, INVOICES[8]) == MAX_PDF_SIZE_BYTES
    assert tenant.take_requests() == []

    tenant.fix()
    clock.advance(1)
    assert stat_size(eager, INVOICES[0]) == 1000


@pytest.mark.parametrize("kind", [*NO_RESPONSES, NotFound, Busy, TooLarge, *DENIALS])
def test_a_failure_of_one_invoice_hides_no_other_size(
    eager: Library, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    tenant.fail(pdf_request(INVOICES[0]), kind("this one"))
    for _ in range(3):
        assert stat_size(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES
        assert stat_size(eager, INVOICES[5]) == 1000
    assert stat_size(eager, OTHER) == 1000


def test_failures_separated_by_a_success_delay_no_other_invoice(
    eager: Library, tenant: FakeTenant
) -> None:
    for place in (0, 5):
        tenant.fail(pdf_request(INVOICES[place]), Unavailable("this one"))
    sizes = [stat_size(eager, INVOICES[place]) for place in (0, 2, 5, 8)]
    assert sizes == [MAX_PDF_SIZE_BYTES, 1000, MAX_PDF_SIZE_BYTES, 1000]


def test_a_listing_that_uses_up_the_deadline_is_not_a_failed_download(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    clock.advance(LIST_TTL_S)
    tenant.during("list", lambda: clock.advance(TIMEOUT_S))
    tenant.fail("list", TimedOut("too late"))
    assert stat_size(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES
    assert stat_size(eager, INVOICES[0]) == 1000
    assert tenant.take_requests() == ["list system", pdf_request(INVOICES[0])]


@pytest.mark.parametrize("kind", [NotFound, TooLarge])
def test_a_refused_pdf_is_requested_once_per_refusal_memory(
    eager: Library, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    tenant.fail(pdf_request(INVOICES[0]), kind("not yet"))
    for _ in range(int(REFUSAL_MEMORY_S)):
        assert stat_size(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES
        clock.advance(1)
    assert tenant.take_requests().count(pdf_request(INVOICES[0])) == 1

    tenant.fix()
    assert stat_size(eager, INVOICES[0]) == 1000


def test_an_open_that_succeeds_ends_the_refusal_memory(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    draft = tenant.bill(replace(INVOICES[0], active=True))
    library = mount(fetch=Fetch.ON_STAT, active_ttl_s=10.0)
    tenant.fail("pdf", NotFound("not for a moment"))
    assert stat_size(library, draft) == MAX_PDF_SIZE_BYTES
    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)
    read(library, draft)
    clock.advance(10.0)

    assert stat_size(library, draft) == 1000


def test_a_refused_pdf_is_requested_again_when_the_listing_changes(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.fail("pdf", NotFound("not paid yet"))
    stat_size(eager, INVOICES[0])
    tenant.fix()
    paid = tenant.bill(replace(INVOICES[0], status="paid"))
    clock.advance(FAILURE_MEMORY_S)
    assert stat_size(eager, paid) == MAX_PDF_SIZE_BYTES  # the listing has not expired yet
    clock.advance(LIST_TTL_S - FAILURE_MEMORY_S - 0.001)
    eager.directory("/system")
    assert stat_size(eager, paid) == MAX_PDF_SIZE_BYTES
    clock.advance(0.001)
    eager.directory("/system")
    assert stat_size(eager, paid) == 1000


def test_a_refused_pdf_is_requested_as_often_as_listings_by_default() -> None:
    assert Settings("https://acme.example").list_ttl_s == REFUSAL_MEMORY_S


def test_the_reason_for_an_unknown_size_is_logged(
    eager: Library, tenant: FakeTenant, caplog: pytest.LogCaptureFixture
) -> None:
    tenant.fail("pdf", NotFound("the server answered 404"))
    caplog.set_level(logging.INFO)
    stat_size(eager, INVOICES[0])
    assert [record.getMessage() for record in caplog.records] == [
        f"The size of {INVOICES[0].key} is not known: the server answered 404"
    ]


def test_a_forbidden_namespace_causes_two_requests_and_affects_no_other(
    eager: Library, tenant: FakeTenant
) -> None:
    for invoice in INVOICES:
        tenant.fail(pdf_request(invoice), Denied("this namespace"))
    assert {stat_size(eager, item) for item in INVOICES[::-3]} == {MAX_PDF_SIZE_BYTES}
    assert stat_size(eager, OTHER) == 1000
    assert tenant.take_requests() == [*map(pdf_request, INVOICES[::-3][:2]), pdf_request(OTHER)]


# Read-ahead.


@pytest.fixture
def downloaded_ahead(monkeypatch: pytest.MonkeyPatch) -> list[Invoice]:
    """Return the invoices that are queued in the background; they are not downloaded."""
    queued: list[Invoice] = []

    def start(_self: Downloads, invoice: Invoice, *_: object) -> bool:
        queued.append(invoice)
        return True

    monkeypatch.setattr(Downloads, "start", start)
    return queued


@pytest.mark.parametrize("order", [1, -1], ids=["by period", "by name"])
def test_sequential_stats_are_read_ahead_in_their_order(
    downloaded_ahead: list[Invoice], eager: Library, order: int
) -> None:
    ordered = INVOICES[::order]
    for invoice in ordered[:2]:
        stat_size(eager, invoice)
    assert downloaded_ahead == ordered[2:4]
    stat_size(eager, ordered[2])
    assert downloaded_ahead == ordered[2:7]


def test_read_ahead_of_stats_reaches_as_far_as_parallel(
    mount: Mount, downloaded_ahead: list[Invoice]
) -> None:
    library = mount(fetch=Fetch.ON_STAT, parallel=3)
    for invoice in INVOICES[:5]:
        stat_size(library, invoice)
    assert downloaded_ahead == INVOICES[2:8]


def test_a_namespace_with_an_odd_name_is_read_ahead(
    downloaded_ahead: list[Invoice], eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    odd = [tenant.bill(replace(item, namespace="a/b")) for item in INVOICES]
    clock.advance(LIST_TTL_S)
    eager.directory("/")
    for invoice in odd[:2]:
        stat_size(eager, invoice)
    assert downloaded_ahead == odd[2:4]


def test_an_unlisted_invoice_is_not_part_of_sequential_access(
    downloaded_ahead: list[Invoice], eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    unlisted = tenant.bill(Invoice("system", "unlisted"))
    tenant.fail("list", Denied("no"))
    clock.advance(LIST_TTL_S)
    stat_size(eager, unlisted)
    stat_size(eager, INVOICES[1])
    assert downloaded_ahead == []


def test_an_invoice_with_a_known_size_is_not_downloaded_ahead(
    downloaded_ahead: list[Invoice], eager: Library, store: MemoryStore
) -> None:
    read(eager, INVOICES[2])
    store.pdfs.clear()
    for invoice in INVOICES[:2]:
        stat_size(eager, invoice)
    assert downloaded_ahead == INVOICES[3:5]


def test_a_download_ahead_has_the_deadline_of_an_operation(
    eager: Library, tenant: FakeTenant
) -> None:
    with tenant.blocking(pdf_request(INVOICES[2])) as gate:
        for invoice in INVOICES[:2]:
            stat_size(eager, invoice)
        gate.await_request()
    assert tenant.deadlines_left_s[pdf_request(INVOICES[2])] == TIMEOUT_S


def test_sequential_stats_download_nothing_by_default(
    lazy: Library, downloaded_ahead: list[Invoice]
) -> None:
    for invoice in INVOICES:
        stat_size(lazy, invoice)
    assert downloaded_ahead == []


def test_read_ahead_stops_while_the_api_fails(
    downloaded_ahead: list[Invoice], eager: Library, tenant: FakeTenant
) -> None:
    tenant.fail("pdf", Unreachable("no route"))
    for invoice in INVOICES:
        stat_size(eager, invoice)
    assert downloaded_ahead == INVOICES[2:4]


def test_read_ahead_goes_on_while_a_stat_waits_for_its_download(
    eager: Library, tenant: FakeTenant
) -> None:
    stat_size(eager, INVOICES[0])
    with ThreadPoolExecutor(1) as thread, tenant.blocking("pdf") as gate:
        waiting = thread.submit(stat_size, eager, INVOICES[1])
        for _ in INVOICES[1:4]:
            gate.await_request()
        gate.open()
        assert waiting.result(20) == 1000
