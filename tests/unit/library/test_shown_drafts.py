"""What a program gets that opens a draft right after a stat: with on-stat, what it was shown."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import pytest

from invoicefs.errors import InvoicefsError, NotFound, TooLarge, Unreachable
from invoicefs.library.library import Library
from invoicefs.library.shown_drafts import SHOWN_LASTS_S, ShownDrafts
from invoicefs.model import Invoice, Record
from invoicefs.settings import Fetch
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    ACTIVE_TTL_S,
    DENIALS,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    MAX_PDF_SIZE_BYTES,
    NO_RESPONSES,
    OTHER_REFUSALS,
    running_library,
    usual_settings,
)

DRAFT = Invoice("system", "draft", active=True)
PATH = "/system/draft.pdf"
OLD, NEW = pdf_of("old", 1000), pdf_of("new", 5000)
A_MOMENT_S = SHOWN_LASTS_S / 2
# A newer version of the draft, and when it is due, in seconds since the download.
CHANGES = [
    pytest.param((DRAFT, ACTIVE_TTL_S), id="expired"),
    pytest.param((replace(DRAFT, amount="7"), LIST_TTL_S), id="listed otherwise"),
    pytest.param((replace(DRAFT, active=False), LIST_TTL_S), id="final"),
]

Mount = Callable[..., AbstractContextManager[Library]]


@dataclass
class Caller:
    """The thread that the operations come from."""

    thread_id: int = 1

    def __call__(self) -> int:
        return self.thread_id


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    tenant.bill(DRAFT, OLD)
    return tenant


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: FakeClock, caller: Caller) -> Mount:
    def mount(fetch: Fetch = Fetch.ON_STAT) -> AbstractContextManager[Library]:
        return running_library(tenant, store, clock, caller, fetch=fetch)

    return mount


def stat_size(library: Library) -> int:
    return library.attributes(PATH).size_bytes


def read(library: Library) -> bytes:
    opened = library.open(PATH)
    library.release(opened)
    return opened.content.pdf[:]


def show_and_change(
    library: Library, tenant: FakeTenant, clock: FakeClock, changed: Invoice, due_s: float
) -> None:
    """Show the old version just before the new one is due, and let it be due."""
    stat_size(library)
    clock.advance(due_s - A_MOMENT_S / 2)
    assert stat_size(library) == len(OLD)
    tenant.bill(changed, NEW)
    clock.advance(A_MOMENT_S)
    tenant.take_requests()


@pytest.fixture(params=CHANGES)
def library(
    request: pytest.FixtureRequest, mount: Mount, tenant: FakeTenant, clock: FakeClock
) -> Iterator[Library]:
    """A library that has just shown the old version, and has a new one now."""
    with mount() as library:
        show_and_change(library, tenant, clock, *request.param)
        yield library


@pytest.mark.promise(
    "With `--fetch on-stat`, a program that opens a draft within a second of its `stat` reads the "
    "version that the `stat` showed, even if the draft has expired or become final in between."
)
def test_an_open_serves_what_its_stat_has_shown(library: Library, tenant: FakeTenant) -> None:
    assert stat_size(library) == len(OLD)  # as the kernel asks to check permissions
    assert read(library) == OLD
    assert tenant.take_requests() == []  # a listing could take longer than it is kept


def test_an_open_ends_what_its_stat_began(library: Library) -> None:
    """Otherwise a program that reads again and again would never see a change."""
    read(library)
    assert stat_size(library) == len(NEW)
    assert read(library) == NEW


def test_a_stat_shows_the_same_for_a_while_and_then_what_is_fresh(
    library: Library, clock: FakeClock
) -> None:
    assert stat_size(library) == len(OLD)
    clock.advance(A_MOMENT_S)
    assert stat_size(library) == len(NEW)
    assert read(library) == NEW


def test_what_one_thread_was_shown_does_not_matter_to_others(
    library: Library, caller: Caller
) -> None:
    caller.thread_id = 2
    assert stat_size(library) == len(NEW)
    assert read(library) == NEW
    caller.thread_id = 1
    assert read(library) == OLD


def test_a_stat_shows_the_version_that_is_open_and_so_does_the_next_open(
    library: Library, caller: Caller
) -> None:
    caller.thread_id = 2
    opened = library.open(PATH)
    caller.thread_id = 1
    assert stat_size(library) == len(NEW)
    library.release(opened)
    assert read(library) == NEW


@pytest.mark.parametrize("command", [Library.refresh, Library.download_again])
def test_a_refresh_counts_at_once(
    mount: Mount, tenant: FakeTenant, command: Callable[[Library, str], None]
) -> None:
    with mount() as library:
        stat_size(library)
        tenant.bill(DRAFT, NEW)
        command(library, PATH)

        assert read(library) == NEW


def test_without_on_stat_a_draft_expires_on_time(
    mount: Mount, tenant: FakeTenant, clock: FakeClock
) -> None:
    with mount(fetch=Fetch.ON_OPEN) as library:
        read(library)
        show_and_change(library, tenant, clock, DRAFT, ACTIVE_TTL_S)

        assert read(library) == NEW


@pytest.fixture
def expired(mount: Mount, tenant: FakeTenant, clock: FakeClock) -> Iterator[Library]:
    """A library with a draft that has expired while its content is in the store."""
    with mount() as library:
        stat_size(library)
        clock.advance(ACTIVE_TTL_S)
        tenant.bill(DRAFT, NEW)
        yield library


@pytest.mark.promise(
    "With `--fetch on-stat`, while the API does not respond, an expired draft shows the "
    "size of the cached copy, which an open serves."
)
@pytest.mark.parametrize("kind", NO_RESPONSES)
def test_an_expired_draft_keeps_its_size_while_the_api_does_not_respond(
    expired: Library, tenant: FakeTenant, clock: FakeClock, kind: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", kind("not now"))
    for _ in range(3):  # some request nothing, because others have just failed
        assert stat_size(expired) == len(OLD)
        assert read(expired) == OLD
        clock.advance(SHOWN_LASTS_S)

    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)
    assert stat_size(expired) == len(NEW)
    assert read(expired) == NEW


def test_an_open_serves_the_shown_copy_even_if_the_api_responds_again(
    expired: Library, tenant: FakeTenant
) -> None:
    tenant.fail("pdf", Unreachable("not now"))
    assert stat_size(expired) == len(OLD)
    tenant.fix()

    assert read(expired) == OLD


@pytest.mark.parametrize("kind", [NotFound, TooLarge, *DENIALS, *OTHER_REFUSALS])
def test_an_expired_draft_that_is_refused_shows_the_upper_bound(
    expired: Library, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    """An open fails then, instead of serving the cached copy."""
    tenant.fail("pdf", kind("no"))
    for _ in range(3):
        assert stat_size(expired) == MAX_PDF_SIZE_BYTES


@pytest.mark.parametrize("changed", [replace(DRAFT, amount="7"), replace(DRAFT, active=False)])
def test_an_invoice_that_has_changed_shows_the_upper_bound(
    expired: Library, tenant: FakeTenant, clock: FakeClock, changed: Invoice
) -> None:
    """`rsync` would skip it as unchanged, instead of opening it."""
    tenant.bill(changed, NEW)
    clock.advance(LIST_TTL_S)
    tenant.fail("pdf", Unreachable("not now"))

    assert stat_size(expired) == MAX_PDF_SIZE_BYTES


def test_an_expired_draft_that_was_evicted_shows_the_upper_bound(
    expired: Library, store: MemoryStore, tenant: FakeTenant
) -> None:
    store.pdfs.clear()
    tenant.fail("pdf", Unreachable("not now"))

    assert stat_size(expired) == MAX_PDF_SIZE_BYTES


def test_what_was_shown_is_forgotten(clock: FakeClock) -> None:
    shown = ShownDrafts(lambda: 0, clock, usual_settings(fetch=Fetch.ON_STAT))
    record = Record(0)
    references = sys.getrefcount(record)
    shown.note(DRAFT, record)
    assert sys.getrefcount(record) > references
    clock.advance(SHOWN_LASTS_S)

    shown.note(replace(DRAFT, name="other"), Record(1))

    assert sys.getrefcount(record) == references
