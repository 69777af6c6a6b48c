"""What invoices look like and hold: sizes, mtimes, bytes, and one version per open file."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.clock import NS_PER_S, Deadline
from invoicefs.errors import (
    Denied,
    InvoicefsError,
    NotFound,
    ServerFault,
    TooLarge,
    Unreachable,
)
from invoicefs.library.downloads import Downloads
from invoicefs.library.pdfs import Pdfs
from invoicefs.library.record_cache import RecordCache
from invoicefs.model import (
    Attributes,
    Invoice,
    Listing,
    OpenContent,
    Record,
    StoredContent,
)
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    ACTIVE_TTL_S,
    DENIALS,
    FAILURE_MEMORY_S,
    MAX_PDF_SIZE_BYTES,
    NO_ANSWERS,
    OTHER_REFUSALS,
    CrowdClock,
    Parts,
    crowd,
    running_parts,
)

DAY_S = 86_400.0
LONG_S = 1_000_000_000.0

FINAL = Invoice(
    "system",
    "final",
    status="paid",
    amount="100",
    currency="EUR",
    period_start="2026-01-01T00:00:00Z",
    period_end="2026-02-01T00:00:00Z",
)
FINAL_MTIME_NS = 1_769_904_000 * NS_PER_S  # the end of its period
ACTIVE = replace(FINAL, name="active", active=True, status="pending")
ACTIVE_MTIME_NS = 1_767_225_600 * NS_PER_S  # the start of its period
UNDATED = replace(FINAL, name="undated", period_start="", period_end="")

refusals = pytest.mark.parametrize("refusal", [*DENIALS, *OTHER_REFUSALS, NotFound, TooLarge])


class Desk:
    """The PDFs as one mount has them, asked with a deadline that is far away."""

    def __init__(self, parts: Parts) -> None:
        records = RecordCache(parts.store, parts.clock)
        self.downloads = Downloads(
            parts.api,
            parts.store,
            parts.scheduler,
            parts.clock,
            parts.settings,
            records,
            disk=parts.disk,
            access=parts.access,
        )
        self.pdfs = Pdfs(
            parts.store,
            records,
            self.downloads,
            max_pdf_size_bytes=parts.settings.max_pdf_size_bytes,
            disk=parts.disk,
            access=parts.access,
        )
        self._clock = parts.clock

    def open(self, invoice: Invoice) -> OpenContent:
        return self.pdfs.open(invoice, Deadline.after(LONG_S, self._clock))

    @contextmanager
    def opened(self, invoice: Invoice) -> Iterator[OpenContent]:
        content = self.open(invoice)
        try:
            yield content
        finally:
            self.pdfs.release(invoice)

    def read(self, invoice: Invoice) -> bytes:
        """Open, read and close."""
        with self.opened(invoice) as content:
            return content.pdf[:]

    def list(self, *invoices: Invoice) -> None:
        self.pdfs.learn(Listing.of(invoices))

    def stat(self, invoice: Invoice) -> Attributes:
        return self.pdfs.attributes(invoice)


Mount = Callable[..., Desk]


@pytest.fixture
def clock() -> CrowdClock:
    return CrowdClock()


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (FINAL, ACTIVE, UNDATED):
        tenant.bill(invoice, pdf_of(invoice.name, 1000))
    return tenant


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant, as often as a test wants: each mount knows what the store has kept."""
    with ExitStack() as stack:

        def mount(**changes: Any) -> Desk:
            return Desk(stack.enter_context(running_parts(tenant, store, clock, **changes)))

        yield mount


@pytest.fixture
def desk(mount: Mount) -> Desk:
    desk = mount()
    desk.list(FINAL, ACTIVE, UNDATED)
    return desk


def is_unknown(attributes: Attributes) -> bool:
    """Whether the size is the upper bound of one that is not known."""
    return (attributes.size_bytes, attributes.blocks) == (MAX_PDF_SIZE_BYTES, 0)


def is_exact(attributes: Attributes, pdf: bytes) -> bool:
    return (attributes.size_bytes, attributes.blocks) == (len(pdf), -(-len(pdf) // 512))


def digest(pdf: bytes) -> str:
    return hashlib.sha256(pdf).hexdigest()


# Sizes.


def test_before_the_first_download_the_size_is_an_upper_bound(
    desk: Desk, tenant: FakeTenant
) -> None:
    for invoice in (FINAL, ACTIVE, UNDATED):
        assert is_unknown(desk.stat(invoice))
    assert tenant.take_calls() == []


@pytest.mark.parametrize(
    ("size_bytes", "blocks"), [(20, 1), (511, 1), (512, 1), (513, 2), (100_000, 196)]
)
def test_after_the_download_size_and_blocks_are_exact(
    mount: Mount, tenant: FakeTenant, size_bytes: int, blocks: int
) -> None:
    tenant.bill(FINAL, pdf_of("", size_bytes))
    desk = mount()
    desk.read(FINAL)
    assert desk.stat(FINAL).size_bytes == size_bytes
    assert desk.stat(FINAL).blocks == blocks


def test_a_size_stays_known_after_eviction_and_remount(
    mount: Mount, tenant: FakeTenant, store: MemoryStore
) -> None:
    before = mount()
    pdf = before.read(FINAL)
    store.pdfs.clear()
    after = mount()
    after.list(FINAL)
    tenant.take_calls()
    assert is_exact(before.stat(FINAL), pdf)
    assert is_exact(after.stat(FINAL), pdf)
    assert tenant.take_calls() == []


def test_an_active_invoice_that_was_evicted_keeps_its_size_and_costs_no_call(
    desk: Desk, tenant: FakeTenant, store: MemoryStore
) -> None:
    pdf = desk.read(ACTIVE)
    store.pdfs.clear()
    tenant.take_calls()
    assert is_exact(desk.stat(ACTIVE), pdf)
    assert desk.read(ACTIVE) == pdf
    assert tenant.take_calls() == []


def test_an_active_invoice_that_was_evicted_before_this_mount_counts_as_not_downloaded(
    desk: Desk, mount: Mount, store: MemoryStore
) -> None:
    """Its next open fetches it again, and then it may have become longer."""
    desk.read(ACTIVE)
    store.pdfs.clear()
    remounted = mount()
    remounted.list(ACTIVE)
    assert is_unknown(remounted.stat(ACTIVE))
    with remounted.opened(ACTIVE) as content:
        assert is_exact(remounted.stat(ACTIVE), content.pdf[:])


def test_more_active_invoices_than_are_held_count_as_not_downloaded(
    mount: Mount, tenant: FakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invoicefs.library.downloads.MEMORY_CACHE_BYTES", 4000)
    desk = mount(max_pdf_size_bytes=1024)
    many = [replace(ACTIVE, name=f"active-{number}") for number in range(5)]
    for invoice in many:
        tenant.bill(invoice, pdf_of(invoice.name, 1000))
        desk.read(invoice)
    assert [desk.stat(each).blocks for each in many] == [0, 2, 2, 2, 2]
    tenant.take_calls()
    assert desk.read(many[0]) == tenant.pdf(many[0])  # which the store has
    assert tenant.take_calls() == []


def test_what_is_shown_is_of_one_moment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half from before a download and half from after it, a size was 0 (measured)."""
    shown = Pdfs._shown
    opens = iter([lambda: desk.read(FINAL)])

    def shown_and_then_opened(self: Pdfs, invoice: Invoice) -> object:
        found = shown(self, invoice)
        next(opens, lambda: None)()
        return found

    monkeypatch.setattr(Pdfs, "_shown", shown_and_then_opened)
    assert is_unknown(desk.stat(FINAL))
    assert is_exact(desk.stat(FINAL), desk.read(FINAL))


def test_a_look_reads_nothing_from_the_store(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.list(FINAL, ACTIVE, UNDATED)
    pdfs = {each: desk.read(each) for each in (FINAL, ACTIVE)}
    for name in ("record", "pdf", "listing", "namespaces"):
        monkeypatch.delattr(MemoryStore, name)
    for invoice, pdf in pdfs.items():
        assert is_exact(desk.stat(invoice), pdf)
    assert is_unknown(desk.stat(UNDATED))


def test_the_digest_is_that_of_what_the_next_open_brings_without_a_call(
    desk: Desk, store: MemoryStore
) -> None:
    assert desk.pdfs.sha256(FINAL) is None
    pdf = desk.read(FINAL)
    store.pdfs.clear()
    assert desk.pdfs.sha256(FINAL) == digest(pdf)
    assert desk.pdfs.sha256(replace(FINAL, amount="2")) is None


def test_a_size_that_is_not_known_any_more_keeps_the_mtime(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    desk.read(ACTIVE)
    clock.advance(ACTIVE_TTL_S)
    tenant.bill(ACTIVE, pdf_of("second", 2000))
    desk.read(ACTIVE)
    mtime_ns = desk.stat(ACTIVE).mtime_ns
    clock.advance(ACTIVE_TTL_S - 0.001)
    assert is_exact(desk.stat(ACTIVE), tenant.pdf(ACTIVE))
    clock.advance(0.001)
    assert is_unknown(desk.stat(ACTIVE))
    assert desk.stat(ACTIVE).mtime_ns == mtime_ns


CHANGES = [
    {"status": "overdue"},
    {"active": True},
    {"amount": "101"},
    {"period_start": "2026-01-02T00:00:00Z"},
    {"period_end": "2026-02-02T00:00:00Z"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_a_changed_invoice_counts_as_not_downloaded(
    desk: Desk, tenant: FakeTenant, change: dict[str, str]
) -> None:
    desk.read(FINAL)
    mtime_ns = desk.stat(FINAL).mtime_ns
    tenant.take_calls()
    changed = replace(FINAL, **change)  # type: ignore[arg-type] # names of fields
    assert is_unknown(desk.stat(changed))
    assert desk.stat(changed).mtime_ns == mtime_ns
    assert tenant.take_calls() == []
    desk.read(changed)
    assert tenant.take_calls() == ["pdf system/final"]
    assert is_exact(desk.stat(changed), tenant.pdf(FINAL))
    desk.read(changed)
    assert tenant.take_calls() == []


def test_a_changed_currency_costs_no_call(desk: Desk, tenant: FakeTenant) -> None:
    desk.read(FINAL)
    tenant.take_calls()
    desk.read(replace(FINAL, currency="USD"))
    assert tenant.take_calls() == []


def test_the_upper_bound_is_not_below_a_stored_copy(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """A mount with a smaller --max-pdf-size may have to serve what an earlier one stored."""
    tenant.bill(ACTIVE, pdf_of("large", 2000))
    mount().read(ACTIVE)
    clock.advance(ACTIVE_TTL_S)
    tenant.fail("pdf", Unreachable("away"))
    narrow = mount(max_pdf_size_bytes=1024)
    narrow.list(ACTIVE)
    size_bytes = narrow.stat(ACTIVE).size_bytes
    assert len(narrow.read(ACTIVE)) <= size_bytes


def test_the_known_sizes_add_up(desk: Desk, mount: Mount, clock: CrowdClock) -> None:
    assert desk.pdfs.known_size_bytes() == 0
    desk.read(FINAL)
    desk.read(ACTIVE)
    clock.advance(10 * ACTIVE_TTL_S)
    assert desk.pdfs.known_size_bytes() == 2000
    after = mount()
    after.list(FINAL, ACTIVE, UNDATED)
    assert after.pdfs.known_size_bytes() == 2000


def test_what_was_fetched_has_its_size_also_when_it_is_outdated(
    desk: Desk, clock: CrowdClock
) -> None:
    assert desk.pdfs.downloaded_bytes(ACTIVE) is None
    desk.read(ACTIVE)
    clock.advance(ACTIVE_TTL_S)
    assert desk.pdfs.downloaded_bytes(ACTIVE) == 1000


def test_contents_at_hand_and_downloaded_are_counted(desk: Desk) -> None:
    for invoice in (FINAL, FINAL, ACTIVE):
        desk.read(invoice)
    with desk.opened(FINAL), desk.opened(FINAL):
        assert desk.pdfs.open_count == 1
    assert (desk.downloads.count, desk.downloads.hits) == (2, 2)


# Looking again.


def test_a_second_look_downloads_what_is_active_once_and_nothing_final(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    desk.read(FINAL)
    desk.read(ACTIVE)
    tenant.take_calls()
    clock.advance(1)

    desk.downloads.expire_drafts(ACTIVE.namespace)

    assert is_unknown(desk.stat(ACTIVE))
    assert not is_unknown(desk.stat(FINAL))
    clock.advance(1)
    for _ in range(2):
        desk.read(FINAL)
        desk.read(ACTIVE)
    assert len(tenant.take_calls()) == 1


def test_a_second_look_at_another_namespace_downloads_nothing(
    desk: Desk, tenant: FakeTenant
) -> None:
    desk.read(ACTIVE)
    tenant.take_calls()
    desk.downloads.expire_drafts("another")
    desk.read(ACTIVE)
    assert tenant.take_calls() == []


# Times.


@pytest.mark.parametrize(
    ("invoice", "mtime_ns"),
    [
        (FINAL, FINAL_MTIME_NS),
        (ACTIVE, ACTIVE_MTIME_NS),
        (replace(FINAL, period_end="1970-01-01T00:00:00Z"), 0),
        (replace(FINAL, period_end="2026-02-01T00:00:00.123456789Z"), FINAL_MTIME_NS + 123456789),
    ],
    ids=["final", "active", "epoch", "nanoseconds"],
)
def test_the_first_mtime_comes_from_the_period_and_outlasts_the_download(
    mount: Mount, clock: CrowdClock, invoice: Invoice, mtime_ns: int
) -> None:
    desk = mount()
    desk.list(invoice)
    assert desk.stat(invoice).mtime_ns == mtime_ns
    clock.advance(DAY_S)
    with desk.opened(invoice):
        assert desk.stat(invoice).mtime_ns == mtime_ns
    assert desk.stat(invoice).mtime_ns == mtime_ns
    remounted = mount()
    remounted.list(invoice)
    assert remounted.stat(invoice).mtime_ns == mtime_ns


@pytest.mark.parametrize(
    "invoice",
    [
        UNDATED,
        replace(FINAL, period_end=""),
        replace(FINAL, period_end="soon"),
        replace(FINAL, period_end="0001-01-01T00:00:00Z"),
        replace(FINAL, period_end="1969-12-31T23:59:59.999999999Z"),
        replace(FINAL, period_end="2446-05-10T22:38:56Z"),
        replace(ACTIVE, period_start=""),
    ],
)
def test_without_a_period_the_mtime_is_when_it_was_first_listed(
    mount: Mount, clock: CrowdClock, invoice: Invoice
) -> None:
    first_listed_ns = clock.wall_ns()
    desk = mount()
    desk.list(invoice)
    clock.advance(DAY_S)
    desk.list(invoice)
    assert desk.stat(invoice).mtime_ns == first_listed_ns
    remounted = mount()
    remounted.list(invoice)
    assert remounted.stat(invoice).mtime_ns == first_listed_ns
    remounted.read(invoice)
    assert remounted.stat(invoice).mtime_ns == first_listed_ns
    assert desk.open(invoice).record.mtime_ns == first_listed_ns


def test_the_same_bytes_keep_their_mtime(desk: Desk, tenant: FakeTenant, clock: CrowdClock) -> None:
    desk.read(ACTIVE)
    clock.advance(ACTIVE_TTL_S)
    desk.read(ACTIVE)
    desk.read(replace(ACTIVE, active=False))
    assert tenant.take_calls() == ["pdf system/active"] * 3
    assert desk.stat(replace(ACTIVE, active=False)).mtime_ns == ACTIVE_MTIME_NS


@pytest.mark.parametrize("is_final_now", [False, True])
def test_other_bytes_get_the_present_as_mtime(
    mount: Mount, desk: Desk, tenant: FakeTenant, clock: CrowdClock, is_final_now: bool
) -> None:
    desk.read(ACTIVE)
    clock.advance(ACTIVE_TTL_S)
    changed = tenant.bill(replace(ACTIVE, active=not is_final_now), pdf_of("changed"))
    changed_ns = clock.wall_ns()
    desk.read(changed)
    clock.advance(10)
    assert desk.stat(changed).mtime_ns == changed_ns
    remounted = mount()
    remounted.list(changed)
    assert remounted.stat(changed).mtime_ns == changed_ns


def test_an_mtime_grows_by_a_second_at_least(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """Also where the clock was set back, or is behind the period."""
    future = tenant.bill(replace(ACTIVE, name="future", period_start="2099-01-01T00:00:00Z"))
    desk.list(future)
    seen = []
    for number, jump_s in enumerate([0, 0.1, -DAY_S, 0, DAY_S]):
        clock.jump(jump_s)
        # With another amount it is another version, whatever the clock says.
        changed = tenant.bill(replace(future, amount=str(number)), pdf_of(str(number)))
        desk.read(changed)
        seen.append(desk.stat(changed).mtime_ns)
    start_ns = future.natural_mtime_ns
    assert start_ns is not None
    assert seen == [start_ns + number * NS_PER_S for number in range(5)]


def test_an_mtime_is_kept_with_a_copy_that_was_evicted(
    desk: Desk, tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    desk.read(FINAL)
    store.pdfs.clear()
    clock.advance(DAY_S)
    desk.read(FINAL)
    assert tenant.take_calls() == ["pdf system/final"] * 2
    assert desk.stat(FINAL).mtime_ns == FINAL_MTIME_NS


@pytest.mark.parametrize("jump_s", [0, DAY_S, -DAY_S])
def test_an_mtime_is_stable_when_the_store_has_stopped_keeping(
    mount: Mount,
    tenant: FakeTenant,
    store: MemoryStore,
    clock: CrowdClock,
    jump_s: float,
) -> None:
    """As on a disk that is full: the store still has the records of before."""
    desk = mount()
    desk.read(ACTIVE)
    store.keeps = False
    clock.jump(jump_s)
    changed = tenant.bill(replace(ACTIVE, amount="2"), pdf_of("changed"))
    desk.read(changed)
    mtime_ns = desk.stat(changed).mtime_ns
    clock.advance(ACTIVE_TTL_S)
    desk.read(changed)
    assert tenant.take_calls() == ["pdf system/active"] * 3
    assert desk.stat(changed).mtime_ns == mtime_ns


# Freshness.


def test_a_final_invoice_is_downloaded_once_for_ever(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    pdf = mount().read(FINAL)
    for years in (1, -2, 30):
        clock.jump(years * 365 * DAY_S)
        clock.advance(DAY_S)
        remounted = mount()
        assert remounted.read(FINAL) == pdf
        assert remounted.read(FINAL) == pdf
    assert tenant.take_calls() == ["pdf system/final"]


def test_an_active_invoice_is_fetched_again_after_its_ttl(
    desk: Desk, mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    desk.read(ACTIVE)
    clock.advance(ACTIVE_TTL_S - 0.001)
    desk.read(ACTIVE)
    mount().read(ACTIVE)
    assert len(tenant.take_calls()) == 1
    clock.advance(0.001)
    second = pdf_of("second")
    tenant.bill(ACTIVE, second)
    assert desk.read(ACTIVE) == second
    assert mount().read(ACTIVE) == second
    assert len(tenant.take_calls()) == 1


@pytest.mark.parametrize("jump_s", [ACTIVE_TTL_S, 365 * DAY_S, -DAY_S, -365 * DAY_S])
def test_a_jump_of_the_wall_clock_keeps_no_active_invoice_too_long(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock, jump_s: float
) -> None:
    desk.read(ACTIVE)
    clock.jump(jump_s)
    tenant.bill(ACTIVE, pdf_of("second"))
    clock.advance(ACTIVE_TTL_S)
    assert desk.read(ACTIVE) == pdf_of("second")
    tenant.take_calls()
    desk.read(ACTIVE)
    assert tenant.take_calls() == []


def test_an_invoice_that_became_final_is_fetched_once_more(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    desk.read(ACTIVE)
    closed = tenant.bill(replace(ACTIVE, active=False, status="paid"), pdf_of("closed"))
    for _ in range(3):
        assert desk.read(closed) == pdf_of("closed")
        clock.advance(DAY_S)
    assert tenant.take_calls() == ["pdf system/active"] * 2


@pytest.mark.parametrize("is_remount", [False, True])
@pytest.mark.parametrize("failure", NO_ANSWERS)
def test_the_stored_copy_is_served_while_there_is_no_answer(
    mount: Mount,
    desk: Desk,
    tenant: FakeTenant,
    clock: CrowdClock,
    caplog: pytest.LogCaptureFixture,
    failure: type[InvoicefsError],
    is_remount: bool,
) -> None:
    stored = {invoice: desk.read(invoice) for invoice in (ACTIVE, FINAL)}
    clock.advance(ACTIVE_TTL_S)
    tenant.fail("pdf", failure("away"))
    tenant.bill(ACTIVE, pdf_of("second"))
    desk = mount() if is_remount else desk
    assert desk.read(ACTIVE) == stored[ACTIVE]
    assert desk.read(replace(FINAL, amount="2")) == stored[FINAL]
    lines = [record.getMessage() for record in caplog.records]
    assert any("system/active" in line and "away" in line for line in lines)
    tenant.mend()
    clock.advance(FAILURE_MEMORY_S)
    assert desk.read(ACTIVE) == pdf_of("second")


@refusals
def test_the_stored_copy_is_not_served_for_a_refused_call(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock, refusal: type[InvoicefsError]
) -> None:
    desk.read(ACTIVE)
    desk.read(FINAL)
    clock.advance(ACTIVE_TTL_S)
    tenant.fail("pdf", refusal("no"))
    for invoice in (ACTIVE, replace(FINAL, amount="2")):
        for _ in range(2):
            with pytest.raises(refusal):
                desk.read(invoice)
    assert desk.read(FINAL)  # needs no call


@pytest.mark.parametrize("failure", [*NO_ANSWERS, *DENIALS, *OTHER_REFUSALS, NotFound, TooLarge])
def test_an_error_is_reported_and_never_stored(
    mount: Mount,
    tenant: FakeTenant,
    store: MemoryStore,
    clock: CrowdClock,
    failure: type[InvoicefsError],
) -> None:
    desk = mount()
    desk.list(FINAL)
    tenant.fail("pdf", failure("no"))
    with pytest.raises(failure):
        desk.open(FINAL)
    assert desk.pdfs.pinned(FINAL.key) is None
    assert is_unknown(desk.stat(FINAL))
    assert store.record(FINAL) is None
    tenant.mend()
    clock.advance(FAILURE_MEMORY_S)
    assert desk.read(FINAL) == tenant.pdf(FINAL)


# Open files.


def test_an_open_file_never_changes(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock, store: MemoryStore
) -> None:
    with desk.opened(ACTIVE) as first:
        as_opened = desk.stat(ACTIVE)
        assert is_exact(as_opened, first.pdf[:])
        clock.advance(2 * ACTIVE_TTL_S)
        store.pdfs.clear()
        changed = tenant.bill(replace(ACTIVE, amount="2"), pdf_of("second", 5000))
        tenant.take_calls()
        with desk.opened(ACTIVE) as second, desk.opened(changed) as third:
            assert first is second is third
            assert desk.stat(ACTIVE) == as_opened
            assert replace(desk.stat(changed), inode=as_opened.inode) == as_opened
        assert desk.pdfs.pinned(ACTIVE.key) == ACTIVE
        assert tenant.take_calls() == []
    assert desk.pdfs.pinned(ACTIVE.key) is None
    assert is_unknown(desk.stat(changed))
    assert desk.read(changed) == pdf_of("second", 5000)
    assert desk.stat(changed).mtime_ns > as_opened.mtime_ns


def test_an_open_file_has_not_changed_whatever_the_listing_says(desk: Desk) -> None:
    changed = replace(FINAL, amount="2")
    with desk.opened(FINAL):
        assert not desk.pdfs.has_changed(changed)
    assert desk.pdfs.has_changed(changed)


def test_an_open_file_is_shown_as_what_it_is_whatever_another_mount_has_downloaded(
    mount: Mount, tenant: FakeTenant
) -> None:
    one, other = mount(), mount()
    with one.opened(FINAL) as content:
        as_opened = one.stat(FINAL)
        changed = tenant.bill(replace(FINAL, amount="2"), pdf_of("second", 5000))
        other.read(changed)
        assert one.pdfs.was_downloaded(changed)  # so it knows of the other's download
        assert one.stat(changed) == as_opened
        assert one.pdfs.sha256(changed) == digest(content.pdf[:])


@pytest.mark.parametrize("last", [0, 1, 2])
def test_the_version_changes_only_after_the_last_release(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock, last: int
) -> None:
    for _ in range(3):
        desk.open(ACTIVE)
    clock.advance(ACTIVE_TTL_S)
    tenant.bill(ACTIVE, pdf_of("second"))
    for number in range(3):
        assert desk.pdfs.pinned(ACTIVE.key) is not None
        if number == last:
            assert desk.read(ACTIVE) == pdf_of("active", 1000)
        desk.pdfs.release(ACTIVE)
    assert desk.pdfs.pinned(ACTIVE.key) is None
    assert desk.read(ACTIVE) == pdf_of("second")


@pytest.mark.parametrize("failure", [Unreachable, Denied, NotFound, ServerFault])
def test_an_open_file_can_be_opened_again_whatever_the_api_says(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock, failure: type[InvoicefsError]
) -> None:
    with desk.opened(ACTIVE) as first:
        clock.advance(ACTIVE_TTL_S)
        tenant.fail("pdf", failure("no"))
        with desk.opened(ACTIVE) as second:
            assert second is first


def test_an_outdated_copy_that_is_open_is_shown_as_what_it_is(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    desk.read(ACTIVE)
    clock.advance(ACTIVE_TTL_S)
    tenant.fail("pdf", Unreachable("away"))
    assert is_unknown(desk.stat(ACTIVE))
    with desk.opened(ACTIVE) as content:
        assert is_exact(desk.stat(ACTIVE), content.pdf[:])
    assert is_unknown(desk.stat(ACTIVE))


def test_open_files_of_other_invoices_pin_nothing(desk: Desk, tenant: FakeTenant) -> None:
    with desk.opened(FINAL):
        tenant.bill(replace(ACTIVE, amount="2"), pdf_of("second"))
        assert desk.pdfs.pinned(ACTIVE.key) is None
        assert desk.read(ACTIVE) == pdf_of("second")


def test_an_open_that_comes_late_gets_the_version_of_the_one_that_was_faster(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one has already read the version of before from the store."""
    desk = mount()
    desk.read(FINAL)
    changed = tenant.bill(replace(FINAL, amount="2"), pdf_of("second"))
    look, is_reading, may_go_on = store.pdf, threading.Event(), threading.Event()

    def read_slowly(facts: StoredContent) -> bytes | None:
        pdf = look(facts)
        if not is_reading.is_set():
            is_reading.set()
            assert may_go_on.wait(20)
        return pdf

    monkeypatch.setattr(store, "pdf", read_slowly)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(desk.open, FINAL)
        assert is_reading.wait(20)
        fast = desk.open(changed)
        may_go_on.set()
        assert fast.pdf == pdf_of("second")
        assert slow.result(20) is fast
    assert is_exact(desk.stat(changed), fast.pdf)
    for _ in range(2):
        assert desk.pdfs.pinned(FINAL.key) == changed
        desk.pdfs.release(FINAL)
    assert desk.pdfs.pinned(FINAL.key) is None


def test_handles_open_at_one_time_share_one_version(mount: Mount, tenant: FakeTenant) -> None:
    """Every call brings other bytes, and nothing is fresh for longer than it is open."""
    desk = mount(active_ttl_s=0)
    numbers = iter(range(1_000_000))
    tenant.during("pdf", lambda: _bill_something_new(tenant, next(numbers)))
    lock = threading.Lock()
    open_now: list[OpenContent] = []
    mixed: list[object] = []

    def use() -> None:
        for _ in range(25):
            content = desk.open(ACTIVE)
            with lock:
                open_now.append(content)
                versions = {each.pdf for each in open_now}
            size_bytes = desk.stat(ACTIVE).size_bytes
            if len(versions) > 1 or size_bytes != len(content.pdf):
                mixed.append((versions, size_bytes))
            with lock:
                open_now.remove(content)
            desk.pdfs.release(ACTIVE)

    crowd(use, threads=6)
    assert mixed == []
    assert desk.pdfs.pinned(ACTIVE.key) is None


def _bill_something_new(tenant: FakeTenant, number: int) -> None:
    tenant.bill(ACTIVE, pdf_of(str(number), 100 + number))


# Many at once.


def test_many_opens_at_once_make_one_call(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    with ThreadPoolExecutor(8) as threads, tenant.holding("pdf") as gate:
        opens = [threads.submit(desk.open, FINAL) for _ in range(8)]
        clock.await_crowd(8)
        gate.open()
        contents = [each.result(20) for each in opens]
    assert {content.pdf for content in contents} == {tenant.pdf(FINAL)}
    assert tenant.take_calls() == ["pdf system/final"]
    for _ in range(8):
        assert desk.pdfs.pinned(FINAL.key) is not None
        desk.pdfs.release(FINAL)
    assert desk.pdfs.pinned(FINAL.key) is None


def test_many_opens_of_a_refused_invoice_make_one_call(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.fail("pdf", Denied("no"))
    with ThreadPoolExecutor(8) as threads, tenant.holding("pdf") as gate:
        opens = [threads.submit(desk.open, FINAL) for _ in range(8)]
        clock.await_crowd(8)
        gate.open()
        assert {type(each.exception(20)) for each in opens} == {Denied}
    assert tenant.take_calls() == ["pdf system/final"]
    assert desk.pdfs.pinned(FINAL.key) is None


def test_a_call_from_before_a_change_is_no_answer_after_it(desk: Desk, tenant: FakeTenant) -> None:
    changed = replace(FINAL, amount="7")
    with ThreadPoolExecutor(2) as executor, tenant.holding("pdf system/final") as gate:
        before = executor.submit(desk.open, FINAL)
        gate.await_call()
        after = executor.submit(desk.downloads.fetch, changed, Deadline.after(LONG_S, CrowdClock()))
        gate.open()
        facts = after.result().record.content
        assert before.result().pdf == tenant.pdf(FINAL)
    assert facts is not None
    assert facts.version == changed.version


def test_a_slow_download_holds_up_nobody_else(desk: Desk, tenant: FakeTenant) -> None:
    desk.read(FINAL)
    with ThreadPoolExecutor(1) as thread, tenant.holding("pdf system/active") as gate:
        slow = thread.submit(desk.read, ACTIVE)
        gate.await_call()
        assert is_unknown(desk.stat(ACTIVE))
        assert desk.read(FINAL) == tenant.pdf(FINAL)
        assert desk.read(UNDATED) == tenant.pdf(UNDATED)
        gate.open()
        assert slow.result(20) == tenant.pdf(ACTIVE)


def test_what_one_mount_has_downloaded_the_other_does_not(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    one, other = mount(), mount()
    for desk in (one, other):
        desk.list(FINAL, ACTIVE, UNDATED)
    for invoice in (FINAL, ACTIVE, UNDATED):
        assert one.read(invoice) == other.read(invoice)
        assert one.stat(invoice) == other.stat(invoice)
    assert len(tenant.take_calls()) == 3
    clock.advance(ACTIVE_TTL_S)
    tenant.bill(ACTIVE, pdf_of("second"))
    assert other.read(ACTIVE) == pdf_of("second")
    assert one.read(ACTIVE) == pdf_of("second")
    assert one.stat(ACTIVE) == other.stat(ACTIVE)
    assert len(tenant.take_calls()) == 1


def test_the_store_is_looked_at_again_when_the_turn_comes(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another mount may have stored the invoice between the first look and the call."""
    mount().read(FINAL)
    desk = mount()
    tenant.take_calls()
    look, misses = store.record, [None]
    monkeypatch.setattr(store, "record", lambda invoice: misses.pop() if misses else look(invoice))
    assert desk.read(FINAL) == tenant.pdf(FINAL)
    assert misses == []
    assert tenant.take_calls() == []


def test_downloads_of_two_mounts_at_once_agree(mount: Mount, tenant: FakeTenant) -> None:
    one, other = mount(), mount()
    desks = iter([one, other])
    with tenant.holding("pdf") as gate, ThreadPoolExecutor(2) as threads:
        opens = [threads.submit(next(desks).read, FINAL) for _ in range(2)]
        gate.await_call()
        gate.await_call()
        gate.open()
        assert opens[0].result(20) == opens[1].result(20)
    assert one.stat(FINAL) == other.stat(FINAL)
    assert mount().read(FINAL) == tenant.pdf(FINAL)


# The store.


def test_what_is_stored_is_known_before_it_is_listed(mount: Mount) -> None:
    assert not mount().pdfs.was_downloaded(FINAL)
    mount().read(FINAL)
    assert mount().pdfs.was_downloaded(FINAL)
    assert not mount().pdfs.was_downloaded(ACTIVE)


def test_what_the_store_has_dropped_is_told_unless_the_next_open_has_it_in_memory(
    mount: Mount, store: MemoryStore, tenant: FakeTenant
) -> None:
    desk = mount()
    desk.list(FINAL, ACTIVE, UNDATED)
    assert desk.pdfs.evicted((FINAL, ACTIVE, UNDATED)) == ()
    for each in (FINAL, ACTIVE):
        desk.read(each)
    assert desk.pdfs.evicted((FINAL, ACTIVE, UNDATED)) == ()

    store.pdfs.clear()

    assert desk.pdfs.evicted((FINAL, ACTIVE, UNDATED)) == (FINAL,)
    tenant.take_calls()
    desk.read(ACTIVE)
    assert tenant.take_calls() == []


def test_a_store_that_cannot_be_read_has_dropped_nothing(mount: Mount, store: MemoryStore) -> None:
    desk = mount()
    desk.read(FINAL)
    store.pdfs.clear()
    store.finds = False
    assert desk.pdfs.evicted((FINAL,)) == ()


def test_is_stored_makes_no_call(mount: Mount, tenant: FakeTenant) -> None:
    mount().pdfs.was_downloaded(FINAL)
    assert tenant.take_calls() == []


def test_a_store_that_keeps_nothing_costs_calls_only(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    store.keeps = False
    desk = mount()
    desk.list(FINAL, UNDATED)
    first_listed_ns = clock.wall_ns()
    clock.advance(DAY_S)
    for invoice, mtime_ns in ((FINAL, FINAL_MTIME_NS), (UNDATED, first_listed_ns)):
        with desk.opened(invoice) as content:
            assert desk.read(invoice) == content.pdf == tenant.pdf(invoice)
        assert is_exact(desk.stat(invoice), content.pdf)
        assert desk.stat(invoice).mtime_ns == mtime_ns
        assert desk.read(invoice) == content.pdf
        assert desk.stat(invoice).mtime_ns == mtime_ns
    assert len(tenant.take_calls()) == 4


def test_a_record_that_promises_other_content_is_not_believed(
    mount: Mount, tenant: FakeTenant, store: MemoryStore
) -> None:
    facts = StoredContent(1000, "ab" * 32, FINAL.version, fetched_ns=1)
    store.save_records({FINAL: Record(FINAL_MTIME_NS, facts)})
    desk = mount()
    assert desk.read(FINAL) == tenant.pdf(FINAL)
    assert tenant.take_calls() == ["pdf system/final"]


any_number = st.one_of(st.integers(), st.integers(-(10**30), 10**30))


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([FINAL, ACTIVE, UNDATED]),
    st.builds(
        StoredContent,
        size_bytes=any_number.filter(lambda size_bytes: size_bytes > 0),
        sha256=st.sampled_from(["ab" * 32, "", "\0"]),
        version=st.sampled_from([FINAL.version, ACTIVE.version, UNDATED.version, ""]),
        fetched_ns=any_number,
    ),
    any_number,
)
def test_whatever_a_record_promises_the_invoice_is_shown_and_read(
    mount: Mount,
    tenant: FakeTenant,
    store: MemoryStore,
    invoice: Invoice,
    facts: StoredContent,
    mtime_ns: int,
) -> None:
    store.save_records({invoice: Record(mtime_ns, facts)})
    desk = mount()
    desk.list(invoice)
    assert desk.stat(invoice).size_bytes > 0
    assert desk.stat(invoice).mtime_ns == mtime_ns
    assert desk.read(invoice) == tenant.pdf(invoice)
    assert is_exact(desk.stat(invoice), tenant.pdf(invoice))
    assert desk.stat(invoice).mtime_ns > mtime_ns


def test_learning_forgets_nothing_that_another_mount_has_downloaded_meanwhile(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = mount(), mount()
    look, is_first = store.record, [True]

    def look_slowly(invoice: Invoice) -> Record | None:
        found = look(invoice)
        if is_first:
            is_first.clear()
            one.list(UNDATED)
            one.read(UNDATED)
        return found

    monkeypatch.setattr(store, "record", look_slowly)
    other.list(UNDATED)
    assert mount().read(UNDATED) == tenant.pdf(UNDATED)
    assert tenant.take_calls() == ["pdf system/undated"]


def test_learning_again_reads_nothing_of_downloaded_invoices(
    mount: Mount, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount().read(FINAL)
    desk = mount()
    desk.list(FINAL)
    monkeypatch.setattr(store, "record", lambda _: pytest.fail("the store was read"))
    desk.list(FINAL)
    assert desk.stat(FINAL).size_bytes == 1000


def test_what_may_be_an_older_version_is_fetched_past_caches(
    desk: Desk, tenant: FakeTenant
) -> None:
    """A cache between mount and API had the draft, and gave it for the final invoice, for good."""
    for invoice in (FINAL, ACTIVE):
        desk.read(invoice)
    assert [tenant.was_past_caches[f"system/{each.name}"] for each in (FINAL, ACTIVE)] == [
        False,
        True,
    ]
    corrected = replace(FINAL, amount="17")
    desk.list(corrected)
    desk.read(corrected)
    assert tenant.was_past_caches[f"system/{FINAL.name}"]


def test_a_download_that_is_asked_for_again_is_fetched_past_caches(
    desk: Desk, tenant: FakeTenant, clock: CrowdClock
) -> None:
    desk.read(FINAL)
    desk.downloads.replace(FINAL, Deadline.after(LONG_S, clock))

    assert tenant.was_past_caches[f"system/{FINAL.name}"]
    assert tenant.take_calls().count(f"pdf system/{FINAL.name}") == 2
