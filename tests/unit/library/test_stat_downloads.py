"""What looks wait for, what is fetched ahead of them, and that they never fail."""

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
    NO_ANSWERS,
    TIMEOUT_S,
    CrowdClock,
    running_library,
)

MONTHS = 12
# By name they stand in the opposite order of that by period.
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
def clock() -> CrowdClock:
    return CrowdClock()


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (*INVOICES, OTHER):
        tenant.bill(invoice, pdf_of(invoice.key, 1000))
    return tenant


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant with or without ``--fetch on-stat``, with its invoices listed."""
    with ExitStack() as stack:

        def mount(**changes: Any) -> Library:
            running = running_library(tenant, store, clock, **changes)
            library = stack.enter_context(running)
            library.directory("/system")
            library.directory("/other")
            tenant.take_calls()
            return library

        yield mount


@pytest.fixture
def eager(mount: Mount) -> Library:
    return mount(fetch=Fetch.ON_STAT)


@pytest.fixture
def lazy(mount: Mount) -> Library:
    return mount()


def look(library: Library, invoice: Invoice) -> int:
    """The size that a look is told."""
    return library.attributes(f"/{invoice.key}").size_bytes


def read(library: Library, invoice: Invoice) -> bytes:
    opened = library.open(f"/{invoice.key}")
    library.release(opened)
    return opened.content.pdf[:]


def pdf_call(invoice: Invoice) -> str:
    return f"pdf {invoice.namespace}/{invoice.name}"


# What a look waits for.


def test_an_eager_look_is_told_the_true_size_for_one_call(
    eager: Library, tenant: FakeTenant
) -> None:
    assert [look(eager, INVOICES[0]) for _ in range(3)] == [1000] * 3
    assert read(eager, INVOICES[0]) == tenant.pdf(INVOICES[0])
    assert tenant.take_calls() == [pdf_call(INVOICES[0])]


def test_a_look_costs_nothing_otherwise(lazy: Library, tenant: FakeTenant) -> None:
    assert {look(lazy, each) for each in INVOICES} == {MAX_PDF_SIZE_BYTES}
    assert tenant.take_calls() == []


def test_folders_are_listed_without_a_download(eager: Library, tenant: FakeTenant) -> None:
    eager.directory("/system")
    eager.attributes("/system")
    eager.attributes("/")
    assert tenant.take_calls() == []


def test_an_eager_look_at_an_outdated_active_invoice_brings_it(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    active = tenant.bill(replace(INVOICES[0], active=True), pdf_of("first", 1000))
    clock.advance(LIST_TTL_S)
    assert look(eager, active) == 1000
    tenant.bill(active, pdf_of("second", 5000))
    assert look(eager, active) == 1000
    clock.advance(ACTIVE_TTL_S)
    assert look(eager, active) == 5000


@pytest.mark.parametrize("is_eager", [False, True])
def test_a_look_at_what_was_downloaded_and_has_changed_brings_it(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, is_eager: bool
) -> None:
    library = mount(fetch=Fetch.ON_STAT if is_eager else Fetch.ON_OPEN)
    changed, path = replace(INVOICES[0], amount="7"), f"/{INVOICES[0].key}"
    read(library, INVOICES[0])
    before = library.attributes(path)
    tenant.bill(changed, pdf_of("changed", 5000))
    clock.advance(LIST_TTL_S)
    library.directory("/system")
    tenant.take_calls()

    after = [library.attributes(path) for _ in range(2)]

    assert after[0] == after[1]
    assert (after[0].size_bytes, after[0].blocks) == (5000, 10)
    assert after[0].mtime_ns == clock.wall_ns() > before.mtime_ns
    assert read(library, changed) == tenant.pdf(changed)
    assert tenant.take_calls() == [pdf_call(changed)]


def test_a_look_at_what_has_changed_but_was_never_downloaded_costs_nothing(
    lazy: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    changed = tenant.bill(replace(INVOICES[0], amount="7"))
    clock.advance(LIST_TTL_S)
    lazy.directory("/system")
    tenant.take_calls()

    assert look(lazy, changed) == MAX_PDF_SIZE_BYTES
    assert tenant.take_calls() == []


def test_a_look_at_an_open_invoice_costs_nothing(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    opened = eager.open(f"/{INVOICES[0].key}")
    tenant.bill(replace(INVOICES[0], amount="7"), pdf_of("changed", 5000))
    clock.advance(LIST_TTL_S)
    eager.directory("/system")
    tenant.take_calls()

    assert look(eager, INVOICES[0]) == 1000
    assert tenant.take_calls() == []
    eager.release(opened)


def test_a_look_at_a_size_that_is_known_for_ever_costs_nothing_after_eviction(
    eager: Library, tenant: FakeTenant, store: MemoryStore
) -> None:
    look(eager, INVOICES[0])
    store.pdfs.clear()
    tenant.take_calls()

    assert look(eager, INVOICES[0]) == 1000
    assert tenant.take_calls() == []


def test_a_look_has_one_deadline_for_the_list_and_the_download(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    clock.advance(LIST_TTL_S)
    tenant.during("list", lambda: clock.advance(10))
    look(eager, INVOICES[0])
    assert tenant.deadlines_left_s[pdf_call(INVOICES[0])] == TIMEOUT_S - 10


def test_an_eager_look_brings_what_is_outdated_where_listing_is_forbidden(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    unlisted = tenant.bill(Invoice("system", "unlisted"), pdf_of("first", 1000))
    tenant.fail("list", Denied("no"))
    clock.advance(LIST_TTL_S)
    assert look(eager, unlisted) == 1000
    tenant.bill(unlisted, pdf_of("second", 5000))
    clock.advance(ACTIVE_TTL_S)
    assert look(eager, unlisted) == 5000


# What happens when a PDF cannot be had.


@pytest.mark.parametrize("kind", [*NO_ANSWERS, NotFound, Busy, TooLarge, Denied, RateLimited])
def test_a_look_never_fails_for_want_of_a_pdf(
    eager: Library, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", kind("not now"))
    assert look(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES


def test_a_look_at_a_change_that_cannot_be_had_keeps_the_time(
    lazy: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    path = f"/{INVOICES[0].key}"
    read(lazy, INVOICES[0])
    before = lazy.attributes(path)
    tenant.bill(replace(INVOICES[0], amount="7"), pdf_of("changed", 5000))
    clock.advance(LIST_TTL_S)
    lazy.directory("/system")
    tenant.fail("pdf", Unreachable("no route"))

    after = lazy.attributes(path)

    assert (after.size_bytes, after.blocks) == (MAX_PDF_SIZE_BYTES, 0)
    assert after.mtime_ns == before.mtime_ns


def test_looks_at_changes_wait_for_a_failing_api_twice(
    lazy: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    for invoice in INVOICES:
        read(lazy, invoice)
        tenant.bill(replace(invoice, amount="7"))
    clock.advance(LIST_TTL_S)
    lazy.directory("/system")
    tenant.take_calls()
    tenant.fail("pdf", Unreachable("no route"))

    assert {look(lazy, each) for each in INVOICES} == {MAX_PDF_SIZE_BYTES}
    assert tenant.take_calls() == [pdf_call(each) for each in INVOICES[:2]]


@pytest.mark.parametrize("kind", [*NO_ANSWERS, Unauthenticated, RateLimited])
def test_a_failing_api_is_waited_for_twice_and_not_for_each_invoice(
    eager: Library, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", kind("not now"))
    looked_at = (INVOICES[0], OTHER, *INVOICES[::-3])
    assert {look(eager, each) for each in looked_at} == {MAX_PDF_SIZE_BYTES}
    failed = tenant.take_calls()
    assert failed[0] == pdf_call(INVOICES[0])
    assert set(failed) <= {pdf_call(INVOICES[0]), pdf_call(OTHER)}  # none in a cool-down

    clock.advance(FAILURE_MEMORY_S)
    tenant.mend()
    assert look(eager, INVOICES[5]) == 1000


@pytest.mark.parametrize("kind", [Denied, Busy, Unavailable])
def test_what_a_moment_may_mend_is_asked_for_again_after_it(
    eager: Library, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", kind("not now"))
    for place in (0, 5):
        look(eager, INVOICES[place])
    tenant.take_calls()
    clock.advance(FAILURE_MEMORY_S - 1)
    assert look(eager, INVOICES[8]) == MAX_PDF_SIZE_BYTES
    assert tenant.take_calls() == []

    tenant.mend()
    clock.advance(1)
    assert look(eager, INVOICES[0]) == 1000


@pytest.mark.parametrize("kind", [*NO_ANSWERS, NotFound, Busy, TooLarge, *DENIALS])
def test_trouble_with_one_invoice_costs_no_other_its_size(
    eager: Library, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    tenant.fail(pdf_call(INVOICES[0]), kind("this one"))
    for _ in range(3):
        assert look(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES
        assert look(eager, INVOICES[5]) == 1000
    assert look(eager, OTHER) == 1000


def test_failures_with_a_download_in_between_are_of_single_invoices(
    eager: Library, tenant: FakeTenant
) -> None:
    for place in (0, 5):
        tenant.fail(pdf_call(INVOICES[place]), Unavailable("this one"))
    sizes = [look(eager, INVOICES[place]) for place in (0, 2, 5, 8)]
    assert sizes == [MAX_PDF_SIZE_BYTES, 1000, MAX_PDF_SIZE_BYTES, 1000]


def test_a_list_that_takes_all_the_time_is_no_trouble_with_pdfs(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    clock.advance(LIST_TTL_S)
    tenant.during("list", lambda: clock.advance(TIMEOUT_S))
    tenant.fail("list", TimedOut("too late"))
    assert look(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES
    assert look(eager, INVOICES[0]) == 1000
    assert tenant.take_calls() == ["list system", pdf_call(INVOICES[0])]


@pytest.mark.parametrize("kind", [NotFound, TooLarge])
def test_a_pdf_that_is_not_to_be_had_is_asked_for_now_and_then(
    eager: Library, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    tenant.fail(pdf_call(INVOICES[0]), kind("not yet"))
    for _ in range(int(REFUSAL_MEMORY_S)):
        assert look(eager, INVOICES[0]) == MAX_PDF_SIZE_BYTES
        clock.advance(1)
    assert tenant.take_calls().count(pdf_call(INVOICES[0])) == 1

    tenant.mend()
    assert look(eager, INVOICES[0]) == 1000


def test_a_pdf_is_asked_for_at_once_when_the_listing_tells_news(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.fail("pdf", NotFound("not paid yet"))
    look(eager, INVOICES[0])
    tenant.mend()
    paid = tenant.bill(replace(INVOICES[0], status="paid"))
    clock.advance(FAILURE_MEMORY_S)
    assert look(eager, paid) == MAX_PDF_SIZE_BYTES  # nobody knows yet
    clock.advance(LIST_TTL_S - FAILURE_MEMORY_S - 0.001)
    eager.directory("/system")
    assert look(eager, paid) == MAX_PDF_SIZE_BYTES
    clock.advance(0.001)
    eager.directory("/system")
    assert look(eager, paid) == 1000


def test_a_pdf_that_is_not_to_be_had_is_asked_for_as_often_as_lists_are_by_default() -> None:
    assert Settings("https://acme.example").list_ttl_s == REFUSAL_MEMORY_S


def test_why_a_size_is_not_known_is_in_the_log(
    eager: Library, tenant: FakeTenant, caplog: pytest.LogCaptureFixture
) -> None:
    tenant.fail("pdf", NotFound("the server answered 404"))
    caplog.set_level(logging.INFO)
    look(eager, INVOICES[0])
    assert [record.getMessage() for record in caplog.records] == [
        f"The size of {INVOICES[0].key} is not known: the server answered 404"
    ]


def test_an_open_does_not_wait_for_the_next_look(
    eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.fail("pdf", NotFound("not yet"))
    look(eager, INVOICES[0])
    tenant.mend()
    clock.advance(FAILURE_MEMORY_S)

    assert read(eager, INVOICES[0]) == tenant.pdf(INVOICES[0])
    assert look(eager, INVOICES[0]) == 1000


def test_a_forbidden_namespace_is_asked_twice_and_costs_no_other_its_sizes(
    eager: Library, tenant: FakeTenant
) -> None:
    for invoice in INVOICES:
        tenant.fail(pdf_call(invoice), Denied("this namespace"))
    assert {look(eager, each) for each in INVOICES[::-3]} == {MAX_PDF_SIZE_BYTES}
    assert look(eager, OTHER) == 1000
    assert tenant.take_calls() == [*map(pdf_call, INVOICES[::-3][:2]), pdf_call(OTHER)]


# What is fetched ahead.


@pytest.fixture
def fetched_ahead(monkeypatch: pytest.MonkeyPatch) -> list[Invoice]:
    """What was given to the background, which does not get to it."""
    given: list[Invoice] = []
    monkeypatch.setattr(Downloads, "start", lambda _self, invoice, _: given.append(invoice))
    return given


@pytest.mark.parametrize("order", [1, -1], ids=["by period", "by name"])
def test_a_walk_is_fetched_ahead_in_the_order_in_which_it_goes(
    fetched_ahead: list[Invoice], eager: Library, order: int
) -> None:
    walked = INVOICES[::order]
    for invoice in walked[:2]:
        look(eager, invoice)
    assert fetched_ahead == walked[2:4]
    look(eager, walked[2])
    assert fetched_ahead == walked[2:7]


@pytest.mark.parametrize("places", [[4], [4, 4, 4], [0, 7, 2, 9], [8, 5, 2]])
def test_looks_here_and_there_fetch_nothing_ahead(
    fetched_ahead: list[Invoice], eager: Library, places: list[int]
) -> None:
    for place in places:
        look(eager, INVOICES[place])
    assert fetched_ahead == []


def test_a_walk_ends_at_the_end_of_the_folder(fetched_ahead: list[Invoice], eager: Library) -> None:
    for invoice in INVOICES[-3:]:
        look(eager, invoice)
    assert fetched_ahead == [INVOICES[-1]]


def test_nothing_is_fetched_ahead_twice(fetched_ahead: list[Invoice], eager: Library) -> None:
    for invoice in INVOICES:
        look(eager, invoice)
        look(eager, invoice)
    assert fetched_ahead == INVOICES[2:]


def test_a_walk_is_fetched_ahead_as_far_as_the_largest_window(
    mount: Mount, fetched_ahead: list[Invoice]
) -> None:
    library = mount(fetch=Fetch.ON_STAT, parallel=3)
    for invoice in INVOICES[:5]:
        look(library, invoice)
    assert fetched_ahead == INVOICES[2:8]


def test_walks_through_two_namespaces_do_not_disturb_each_other(
    fetched_ahead: list[Invoice], eager: Library
) -> None:
    for invoice in (INVOICES[4], OTHER, INVOICES[5]):
        look(eager, invoice)
    assert fetched_ahead == INVOICES[6:8]


def test_a_namespace_with_an_odd_name_is_fetched_ahead(
    fetched_ahead: list[Invoice], eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    odd = [tenant.bill(replace(each, namespace="a/b")) for each in INVOICES]
    clock.advance(LIST_TTL_S)
    eager.directory("/")
    for invoice in odd[:2]:
        look(eager, invoice)
    assert fetched_ahead == odd[2:4]


def test_what_is_not_listed_is_no_step_of_a_walk(
    fetched_ahead: list[Invoice], eager: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    unlisted = tenant.bill(Invoice("system", "unlisted"))
    tenant.fail("list", Denied("no"))
    clock.advance(LIST_TTL_S)
    look(eager, unlisted)
    look(eager, INVOICES[1])
    assert fetched_ahead == []


def test_what_is_known_is_not_fetched_ahead(
    fetched_ahead: list[Invoice], eager: Library, store: MemoryStore
) -> None:
    read(eager, INVOICES[2])
    store.pdfs.clear()
    for invoice in INVOICES[:2]:
        look(eager, invoice)
    assert fetched_ahead == INVOICES[3:4]


def test_what_is_fetched_ahead_has_the_time_of_an_operation(
    eager: Library, tenant: FakeTenant
) -> None:
    with tenant.holding(pdf_call(INVOICES[2])) as gate:
        for invoice in INVOICES[:2]:
            look(eager, invoice)
        gate.await_call()
    assert tenant.deadlines_left_s[pdf_call(INVOICES[2])] == TIMEOUT_S


def test_a_walk_with_the_default_fetches_nothing_ahead(
    lazy: Library, fetched_ahead: list[Invoice]
) -> None:
    for invoice in INVOICES:
        look(lazy, invoice)
    assert fetched_ahead == []


def test_next_to_nothing_is_fetched_ahead_while_the_api_fails(
    fetched_ahead: list[Invoice], eager: Library, tenant: FakeTenant
) -> None:
    tenant.fail("pdf", Unreachable("no route"))
    for invoice in INVOICES:
        look(eager, invoice)
    assert fetched_ahead == INVOICES[2:4]


def test_a_walk_is_fetched_ahead_while_a_look_waits_for_its_own(
    eager: Library, tenant: FakeTenant
) -> None:
    look(eager, INVOICES[0])
    with ThreadPoolExecutor(1) as thread, tenant.holding("pdf") as gate:
        waiting = thread.submit(look, eager, INVOICES[1])
        for _ in INVOICES[1:4]:
            gate.await_call()
        gate.open()
        assert waiting.result(20) == 1000


def test_what_is_fetched_ahead_is_there_when_the_walk_comes(
    eager: Library, tenant: FakeTenant
) -> None:
    with tenant.holding(pdf_call(INVOICES[3])) as gate:
        for invoice in INVOICES[:2]:
            look(eager, invoice)
        gate.await_call()
    assert {look(eager, each) for each in INVOICES} == {1000}
    assert sorted(tenant.take_calls()) == sorted(map(pdf_call, INVOICES))
