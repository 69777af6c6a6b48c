"""Invoices as files: sizes, mtimes, bytes, and one version per open file."""

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
    CacheHangs,
    InvoicefsError,
    TooLarge,
    Unreachable,
    UnusableResponse,
)
from invoicefs.library.downloads import Downloads
from invoicefs.library.pdfs import Pdfs
from invoicefs.library.record_cache import RecordCache
from invoicefs.library.shown_drafts import ShownDrafts
from invoicefs.model import (
    Attributes,
    Content,
    Invoice,
    Listing,
    OpenContent,
    Record,
    StoredContent,
)
from invoicefs.scheduling.disk_threads import DiskThreads
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.idle import Idle
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    ACTIVE_TTL_S,
    FAILURE_MEMORY_S,
    MAX_PDF_SIZE_BYTES,
    NO_RESPONSES,
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
DRAFT = replace(FINAL, name="active", active=True, status="pending")
UNDATED = replace(FINAL, name="undated", period_start="", period_end="")


class Files:
    """The PDFs of one mount, requested with a distant deadline."""

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
            shown_drafts=ShownDrafts(lambda: 0, parts.clock, parts.settings),
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


Mount = Callable[..., Files]


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (FINAL, DRAFT, UNDATED):
        tenant.bill(invoice, pdf_of(invoice.name, 1000))
    return tenant


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant, as often as a test needs; all mounts share the store."""
    with ExitStack() as stack:

        def mount(**changes: Any) -> Files:
            return Files(stack.enter_context(running_parts(tenant, store, clock, **changes)))

        yield mount


@pytest.fixture
def files(mount: Mount) -> Files:
    files = mount()
    files.list(FINAL, DRAFT, UNDATED)
    return files


def is_unknown(attributes: Attributes) -> bool:
    """Return whether the size is an upper bound."""
    return (attributes.size_bytes, attributes.blocks) == (MAX_PDF_SIZE_BYTES, 0)


def is_exact(attributes: Attributes, pdf: bytes) -> bool:
    return (attributes.size_bytes, attributes.blocks) == (len(pdf), -(-len(pdf) // 512))


def digest(pdf: bytes) -> str:
    return hashlib.sha256(pdf).hexdigest()


# Sizes.


def test_before_the_first_download_the_size_is_an_upper_bound(
    files: Files, tenant: FakeTenant
) -> None:
    for invoice in (FINAL, DRAFT, UNDATED):
        assert is_unknown(files.stat(invoice))
    assert tenant.take_requests() == []


@pytest.mark.parametrize(
    ("size_bytes", "blocks"), [(20, 1), (511, 1), (512, 1), (513, 2), (100_000, 196)]
)
def test_after_the_download_size_and_blocks_are_exact(
    mount: Mount, tenant: FakeTenant, size_bytes: int, blocks: int
) -> None:
    tenant.bill(FINAL, pdf_of("", size_bytes))
    files = mount()
    files.read(FINAL)
    assert files.stat(FINAL).size_bytes == size_bytes
    assert files.stat(FINAL).blocks == blocks


def test_drafts_beyond_the_memory_cache_count_as_not_downloaded(
    mount: Mount, tenant: FakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invoicefs.library.downloads.MEMORY_CACHE_BYTES", 4000)
    files = mount(max_pdf_size_bytes=1024)
    many = [replace(DRAFT, name=f"active-{number}") for number in range(5)]
    for invoice in many:
        tenant.bill(invoice, pdf_of(invoice.name, 1000))
        files.read(invoice)
    assert [files.stat(invoice).blocks for invoice in many] == [0, 2, 2, 2, 2]
    tenant.take_requests()
    assert files.read(many[0]) == tenant.pdf(many[0])  # it is in the disk cache
    assert tenant.take_requests() == []


def test_attributes_come_from_a_single_record(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it was mixed from before and after a download, the size was once 0 (measured)."""
    shown = Pdfs._shown
    opens = iter([lambda: files.read(FINAL)])

    def shown_and_then_opened(self: Pdfs, invoice: Invoice) -> object:
        found = shown(self, invoice)
        next(opens, lambda: None)()
        return found

    monkeypatch.setattr(Pdfs, "_shown", shown_and_then_opened)
    assert is_unknown(files.stat(FINAL))
    assert is_exact(files.stat(FINAL), files.read(FINAL))


def test_stat_reads_nothing_from_the_store(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files.list(FINAL, DRAFT, UNDATED)
    pdfs = {invoice: files.read(invoice) for invoice in (FINAL, DRAFT)}
    for name in ("record", "pdf", "listing", "namespaces"):
        monkeypatch.delattr(MemoryStore, name)
    for invoice, pdf in pdfs.items():
        assert is_exact(files.stat(invoice), pdf)
    assert is_unknown(files.stat(UNDATED))


def test_the_digest_is_known_only_while_the_content_is_current(
    files: Files, store: MemoryStore
) -> None:
    assert files.pdfs.sha256(FINAL) is None
    pdf = files.read(FINAL)
    store.pdfs.clear()
    assert files.pdfs.sha256(FINAL) == digest(pdf)
    assert files.pdfs.sha256(replace(FINAL, amount="2")) is None


def test_the_upper_bound_is_not_below_the_size_of_a_cached_pdf(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """A mount with a smaller --max-pdf-size may have to serve what an earlier one cached."""
    tenant.bill(DRAFT, pdf_of("large", 2000))
    mount().read(DRAFT)
    clock.advance(ACTIVE_TTL_S)
    tenant.fail("pdf", Unreachable("away"))
    narrow = mount(max_pdf_size_bytes=1024)
    narrow.list(DRAFT)
    size_bytes = narrow.stat(DRAFT).size_bytes
    assert len(narrow.read(DRAFT)) <= size_bytes


def test_the_known_sizes_add_up(files: Files, mount: Mount, clock: CrowdClock) -> None:
    assert files.pdfs.known_size_bytes() == 0
    files.read(FINAL)
    files.read(DRAFT)
    clock.advance(10 * ACTIVE_TTL_S)
    assert files.pdfs.known_size_bytes() == 2000
    after = mount()
    after.list(FINAL, DRAFT, UNDATED)
    assert after.pdfs.known_size_bytes() == 2000


def test_the_downloaded_size_is_known_after_it_has_expired(files: Files, clock: CrowdClock) -> None:
    assert files.pdfs.downloaded_bytes(DRAFT) is None
    files.read(DRAFT)
    clock.advance(ACTIVE_TTL_S)
    assert files.pdfs.downloaded_bytes(DRAFT) == 1000


def test_downloads_cache_hits_and_open_invoices_are_counted(files: Files) -> None:
    for invoice in (FINAL, FINAL, DRAFT):
        files.read(invoice)
    with files.opened(FINAL), files.opened(FINAL):
        assert files.pdfs.open_count == 1
    assert (files.downloads.count, files.downloads.hits) == (2, 2)


# Refresh.


def test_a_refresh_downloads_drafts_once_and_no_final_invoice(
    files: Files, tenant: FakeTenant, clock: CrowdClock
) -> None:
    files.read(FINAL)
    files.read(DRAFT)
    tenant.take_requests()
    clock.advance(1)

    files.downloads.expire_drafts(DRAFT.namespace)

    assert is_unknown(files.stat(DRAFT))
    assert not is_unknown(files.stat(FINAL))
    clock.advance(1)
    for _ in range(2):
        files.read(FINAL)
        files.read(DRAFT)
    assert len(tenant.take_requests()) == 1


def test_a_refresh_of_another_namespace_downloads_nothing(files: Files, tenant: FakeTenant) -> None:
    files.read(DRAFT)
    tenant.take_requests()
    files.downloads.expire_drafts("another")
    files.read(DRAFT)
    assert tenant.take_requests() == []


# Times.


@pytest.mark.parametrize("jump_s", [0, DAY_S, -DAY_S])
def test_an_mtime_is_stable_when_the_store_cannot_be_written(
    mount: Mount,
    tenant: FakeTenant,
    store: MemoryStore,
    clock: CrowdClock,
    jump_s: float,
) -> None:
    """As on a full disk: the store still has the earlier records."""
    files = mount()
    files.read(DRAFT)
    store.keeps = False
    clock.jump(jump_s)
    changed = tenant.bill(replace(DRAFT, amount="2"), pdf_of("changed"))
    files.read(changed)
    mtime_ns = files.stat(changed).mtime_ns
    clock.advance(ACTIVE_TTL_S)
    files.read(changed)
    assert tenant.take_requests() == ["pdf system/active"] * 3
    assert files.stat(changed).mtime_ns == mtime_ns


# Freshness.


def test_a_final_invoice_is_downloaded_only_once(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    pdf = mount().read(FINAL)
    for years in (1, -2, 30):
        clock.jump(years * 365 * DAY_S)
        clock.advance(DAY_S)
        remounted = mount()
        assert remounted.read(FINAL) == pdf
        assert remounted.read(FINAL) == pdf
    assert tenant.take_requests() == ["pdf system/final"]


def test_a_draft_is_downloaded_again_after_its_ttl(
    files: Files, mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    files.read(DRAFT)
    clock.advance(ACTIVE_TTL_S - 0.001)
    files.read(DRAFT)
    mount().read(DRAFT)
    assert len(tenant.take_requests()) == 1
    clock.advance(0.001)
    second = pdf_of("second")
    tenant.bill(DRAFT, second)
    assert files.read(DRAFT) == second
    assert mount().read(DRAFT) == second
    assert len(tenant.take_requests()) == 1


def test_a_pdf_that_needs_no_disk_is_served_while_the_disk_hangs(
    mount: Mount, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = mount()
    stored = files.read(FINAL)
    reads: list[object] = []

    def hang(_: object, read: object, *_deadline: object) -> None:
        reads.append(read)
        raise CacheHangs("no response")

    monkeypatch.setattr(DiskThreads, "run", hang)
    store.reads_at_once = True
    assert files.read(FINAL) == stored
    assert reads == []

    store.reads_at_once = False
    with pytest.raises(CacheHangs):
        files.read(FINAL)
    assert len(reads) == 1


def test_a_draft_read_without_the_disk_keeps_its_exact_size(
    mount: Mount, store: MemoryStore
) -> None:
    files = mount()
    size_bytes = len(files.read(DRAFT))
    files.downloads._drafts.discard(DRAFT.key)
    assert files.stat(DRAFT).size_bytes == MAX_PDF_SIZE_BYTES
    store.reads_at_once = True
    files.read(DRAFT)
    assert files.stat(DRAFT).size_bytes == size_bytes


@pytest.mark.parametrize("is_remount", [False, True])
@pytest.mark.parametrize("failure", NO_RESPONSES)
def test_the_cached_pdf_is_served_while_the_api_does_not_respond(
    mount: Mount,
    files: Files,
    tenant: FakeTenant,
    clock: CrowdClock,
    caplog: pytest.LogCaptureFixture,
    failure: type[InvoicefsError],
    is_remount: bool,
) -> None:
    stored = {invoice: files.read(invoice) for invoice in (DRAFT, FINAL)}
    clock.advance(ACTIVE_TTL_S)
    tenant.fail("pdf", failure("away"))
    tenant.bill(DRAFT, pdf_of("second"))
    files = mount() if is_remount else files
    assert files.read(DRAFT) == stored[DRAFT]
    assert files.read(replace(FINAL, amount="2")) == stored[FINAL]
    lines = [record.getMessage() for record in caplog.records]
    assert any("system/active" in line and "away" in line for line in lines)
    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)
    assert files.read(DRAFT) == pdf_of("second")


def test_read_ahead_keeps_no_cached_pdf_in_memory(mount: Mount, clock: CrowdClock) -> None:
    """It does not know that the file has just been opened, so nothing would ever discard it."""
    idle = Idle(clock)
    files = mount()
    files.list(FINAL)
    files.read(FINAL)

    files.downloads.start_ahead(FINAL, Deadline.after(LONG_S, clock), lambda: True)
    idle.await_()

    assert files.downloads.in_memory(FINAL) is None


def test_the_size_of_a_draft_is_exact_after_it_was_downloaded_ahead_and_then_again(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """The first copy stays in memory until the draft is opened."""
    idle = Idle(clock)
    files = mount()
    files.list(DRAFT)
    files.downloads.start_ahead(DRAFT, Deadline.after(LONG_S, clock), lambda: True)
    idle.await_()
    tenant.bill(DRAFT, pdf_of("again", 3000))
    clock.advance(ACTIVE_TTL_S)

    files.downloads.fetch(DRAFT, Deadline.after(LONG_S, clock))

    assert files.stat(DRAFT).size_bytes == 3000


class OpenedWhileSaved(MemoryStore):
    """A store in which an invoice is opened just after it was saved."""

    open: Callable[[Invoice], object] = repr

    def save(self, invoice: Invoice, content: Content) -> None:
        super().save(invoice, content)
        self.open(invoice)


def test_read_ahead_keeps_nothing_in_memory_that_is_opened_while_it_is_saved(
    tenant: FakeTenant, clock: CrowdClock
) -> None:
    idle, store = Idle(clock), OpenedWhileSaved()
    with running_parts(tenant, store, clock) as parts:
        files = Files(parts)
        files.list(FINAL)
        store.open = files.read

        files.downloads.start_ahead(FINAL, Deadline.after(LONG_S, clock), lambda: True)
        idle.await_()

        assert tenant.take_requests()
        assert files.downloads.in_memory(FINAL) is None


# Open files.


def test_an_open_file_never_changes(
    files: Files, tenant: FakeTenant, clock: CrowdClock, store: MemoryStore
) -> None:
    with files.opened(DRAFT) as first:
        as_opened = files.stat(DRAFT)
        assert is_exact(as_opened, first.pdf[:])
        clock.advance(2 * ACTIVE_TTL_S)
        store.pdfs.clear()
        changed = tenant.bill(replace(DRAFT, amount="2"), pdf_of("second", 5000))
        tenant.take_requests()
        with files.opened(DRAFT) as second, files.opened(changed) as third:
            assert first is second is third
            assert files.stat(DRAFT) == as_opened
            assert files.stat(changed)._replace(inode=as_opened.inode) == as_opened
        assert files.pdfs.pinned(DRAFT.key) == DRAFT
        assert tenant.take_requests() == []
    assert files.pdfs.pinned(DRAFT.key) is None
    assert is_unknown(files.stat(changed))
    assert files.read(changed) == pdf_of("second", 5000)
    assert files.stat(changed).mtime_ns > as_opened.mtime_ns


def test_an_open_file_has_not_changed_whatever_the_listing_says(files: Files) -> None:
    changed = replace(FINAL, amount="2")
    with files.opened(FINAL):
        assert not files.pdfs.has_changed(changed)
    assert files.pdfs.has_changed(changed)


def test_an_open_file_is_unaffected_by_downloads_of_another_mount(
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


def test_a_slow_open_gets_the_version_of_a_faster_one(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one has already read the earlier version from the store."""
    files = mount()
    files.read(FINAL)
    changed = tenant.bill(replace(FINAL, amount="2"), pdf_of("second"))
    read, is_reading, may_go_on = store.pdf, threading.Event(), threading.Event()

    def read_slowly(facts: StoredContent) -> bytes | None:
        pdf = read(facts)
        if not is_reading.is_set():
            is_reading.set()
            assert may_go_on.wait(20)
        return pdf

    monkeypatch.setattr(store, "pdf", read_slowly)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(files.open, FINAL)
        assert is_reading.wait(20)
        fast = files.open(changed)
        may_go_on.set()
        assert fast.pdf == pdf_of("second")
        assert slow.result(20) is fast
    assert is_exact(files.stat(changed), fast.pdf)
    for _ in range(2):
        assert files.pdfs.pinned(FINAL.key) == changed
        files.pdfs.release(FINAL)
    assert files.pdfs.pinned(FINAL.key) is None


def test_concurrent_handles_share_one_version(mount: Mount, tenant: FakeTenant) -> None:
    """Every download returns different bytes, and a draft is fresh only while it is open."""
    files = mount(active_ttl_s=0)
    numbers = iter(range(1_000_000))
    tenant.during("pdf", lambda: _bill_something_new(tenant, next(numbers)))
    lock = threading.Lock()
    open_now: list[OpenContent] = []
    mixed: list[object] = []

    def use() -> None:
        for _ in range(25):
            content = files.open(DRAFT)
            with lock:
                open_now.append(content)
                versions = {opened.pdf for opened in open_now}
            size_bytes = files.stat(DRAFT).size_bytes
            if len(versions) > 1 or size_bytes != len(content.pdf):
                mixed.append((versions, size_bytes))
            with lock:
                open_now.remove(content)
            files.pdfs.release(DRAFT)

    crowd(use, threads=6)
    assert mixed == []
    assert files.pdfs.pinned(DRAFT.key) is None


def _bill_something_new(tenant: FakeTenant, number: int) -> None:
    tenant.bill(DRAFT, pdf_of(str(number), 100 + number))


# Concurrency.


def test_concurrent_opens_make_one_request(
    files: Files, tenant: FakeTenant, clock: CrowdClock
) -> None:
    with ThreadPoolExecutor(8) as threads, tenant.blocking("pdf") as gate:
        opens = [threads.submit(files.open, FINAL) for _ in range(8)]
        clock.await_crowd(8)
        gate.open()
        contents = [future.result(20) for future in opens]
    assert {content.pdf for content in contents} == {tenant.pdf(FINAL)}
    assert tenant.take_requests() == ["pdf system/final"]
    for _ in range(8):
        assert files.pdfs.pinned(FINAL.key) is not None
        files.pdfs.release(FINAL)
    assert files.pdfs.pinned(FINAL.key) is None


def test_a_download_begun_before_a_change_does_not_count_after_it(
    files: Files, tenant: FakeTenant
) -> None:
    changed = replace(FINAL, amount="7")
    with ThreadPoolExecutor(2) as executor, tenant.blocking("pdf system/final") as gate:
        before = executor.submit(files.open, FINAL)
        gate.await_request()
        after = executor.submit(
            files.downloads.fetch, changed, Deadline.after(LONG_S, CrowdClock())
        )
        gate.open()
        facts = after.result().record.content
        assert before.result().pdf == tenant.pdf(FINAL)
    assert facts is not None
    assert facts.version == changed.version


def test_a_slow_download_blocks_no_other_invoice(files: Files, tenant: FakeTenant) -> None:
    files.read(FINAL)
    with ThreadPoolExecutor(1) as thread, tenant.blocking("pdf system/active") as gate:
        slow = thread.submit(files.read, DRAFT)
        gate.await_request()
        assert is_unknown(files.stat(DRAFT))
        assert files.read(FINAL) == tenant.pdf(FINAL)
        assert files.read(UNDATED) == tenant.pdf(UNDATED)
        gate.open()
        assert slow.result(20) == tenant.pdf(DRAFT)


def test_two_mounts_download_an_invoice_once(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    one, other = mount(), mount()
    for files in (one, other):
        files.list(FINAL, DRAFT, UNDATED)
    for invoice in (FINAL, DRAFT, UNDATED):
        assert one.read(invoice) == other.read(invoice)
        assert one.stat(invoice) == other.stat(invoice)
    assert len(tenant.take_requests()) == 3
    clock.advance(ACTIVE_TTL_S)
    tenant.bill(DRAFT, pdf_of("second"))
    assert other.read(DRAFT) == pdf_of("second")
    assert one.read(DRAFT) == pdf_of("second")
    assert one.stat(DRAFT) == other.stat(DRAFT)
    assert len(tenant.take_requests()) == 1


def test_the_store_is_read_again_just_before_the_download(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another mount may have stored the invoice between the first read and the download."""
    mount().read(FINAL)
    files = mount()
    tenant.take_requests()
    read, misses = store.record, [None]
    monkeypatch.setattr(store, "record", lambda invoice: misses.pop() if misses else read(invoice))
    assert files.read(FINAL) == tenant.pdf(FINAL)
    assert misses == []
    assert tenant.take_requests() == []


def test_concurrent_downloads_of_two_mounts_agree(mount: Mount, tenant: FakeTenant) -> None:
    one, other = mount(), mount()
    mounts = iter([one, other])
    with tenant.blocking("pdf") as gate, ThreadPoolExecutor(2) as threads:
        opens = [threads.submit(next(mounts).read, FINAL) for _ in range(2)]
        gate.await_request()
        gate.await_request()
        gate.open()
        assert opens[0].result(20) == opens[1].result(20)
    assert one.stat(FINAL) == other.stat(FINAL)
    assert mount().read(FINAL) == tenant.pdf(FINAL)


# The store.


def test_a_stored_invoice_is_known_before_it_is_listed(mount: Mount) -> None:
    assert not mount().pdfs.was_downloaded(FINAL)
    mount().read(FINAL)
    assert mount().pdfs.was_downloaded(FINAL)
    assert not mount().pdfs.was_downloaded(DRAFT)


def test_evicted_invoices_are_reported_unless_they_are_in_memory(
    mount: Mount, store: MemoryStore, tenant: FakeTenant
) -> None:
    files = mount()
    files.list(FINAL, DRAFT, UNDATED)
    assert files.pdfs.evicted((FINAL, DRAFT, UNDATED)) == ()
    for invoice in (FINAL, DRAFT):
        files.read(invoice)
    assert files.pdfs.evicted((FINAL, DRAFT, UNDATED)) == ()

    store.pdfs.clear()

    assert files.pdfs.evicted((FINAL, DRAFT, UNDATED)) == (FINAL,)
    tenant.take_requests()
    files.read(DRAFT)
    assert tenant.take_requests() == []


def test_nothing_counts_as_evicted_if_the_store_cannot_be_read(
    mount: Mount, store: MemoryStore
) -> None:
    files = mount()
    files.read(FINAL)
    store.pdfs.clear()
    store.finds = False
    assert files.pdfs.evicted((FINAL,)) == ()


def test_was_downloaded_makes_no_request(mount: Mount, tenant: FakeTenant) -> None:
    mount().pdfs.was_downloaded(FINAL)
    assert tenant.take_requests() == []


def test_a_store_that_keeps_nothing_only_causes_more_requests(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    store.keeps = False
    files = mount()
    files.list(FINAL, UNDATED)
    first_listed_ns = clock.wall_ns()
    clock.advance(DAY_S)
    for invoice, mtime_ns in ((FINAL, FINAL_MTIME_NS), (UNDATED, first_listed_ns)):
        with files.opened(invoice) as content:
            assert files.read(invoice) == content.pdf == tenant.pdf(invoice)
        assert is_exact(files.stat(invoice), content.pdf)
        assert files.stat(invoice).mtime_ns == mtime_ns
        assert files.read(invoice) == content.pdf
        assert files.stat(invoice).mtime_ns == mtime_ns
    assert len(tenant.take_requests()) == 4


any_number = st.one_of(st.integers(), st.integers(-(10**30), 10**30))


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([FINAL, DRAFT, UNDATED]),
    st.builds(
        StoredContent,
        size_bytes=any_number.filter(lambda size_bytes: size_bytes > 0),
        sha256=st.sampled_from(["ab" * 32, "", "\0"]),
        version=st.sampled_from([FINAL.version, DRAFT.version, UNDATED.version, ""]),
        fetched_ns=any_number,
    ),
    any_number,
)
def test_an_invoice_can_be_read_whatever_its_record_says(
    mount: Mount,
    tenant: FakeTenant,
    store: MemoryStore,
    invoice: Invoice,
    facts: StoredContent,
    mtime_ns: int,
) -> None:
    store.save_records({invoice: Record(mtime_ns, facts)})
    files = mount()
    files.list(invoice)
    assert files.stat(invoice).size_bytes > 0
    assert files.stat(invoice).mtime_ns == mtime_ns
    assert files.read(invoice) == tenant.pdf(invoice)
    assert is_exact(files.stat(invoice), tenant.pdf(invoice))
    assert files.stat(invoice).mtime_ns > mtime_ns


def test_learning_keeps_a_concurrent_download_of_another_mount(
    mount: Mount, tenant: FakeTenant, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = mount(), mount()
    read, is_first = store.record, [True]

    def read_slowly(invoice: Invoice) -> Record | None:
        found = read(invoice)
        if is_first:
            is_first.clear()
            one.list(UNDATED)
            one.read(UNDATED)
        return found

    monkeypatch.setattr(store, "record", read_slowly)
    other.list(UNDATED)
    assert mount().read(UNDATED) == tenant.pdf(UNDATED)
    assert tenant.take_requests() == ["pdf system/undated"]


def test_learning_again_reads_no_record_of_a_downloaded_invoice(
    mount: Mount, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount().read(FINAL)
    files = mount()
    files.list(FINAL)
    monkeypatch.setattr(store, "record", lambda _: pytest.fail("the store was read"))
    files.list(FINAL)
    assert files.stat(FINAL).size_bytes == 1000


def test_a_download_that_could_be_stale_bypasses_http_caches(
    files: Files, tenant: FakeTenant
) -> None:
    """A cache between mount and API once served the draft as the final invoice, for ever."""
    for invoice in (FINAL, DRAFT):
        files.read(invoice)
    assert [tenant.bypassed_caches[f"pdf system/{invoice.name}"] for invoice in (FINAL, DRAFT)] == [
        False,
        True,
    ]
    corrected = replace(FINAL, amount="17")
    files.list(corrected)
    files.read(corrected)
    assert tenant.bypassed_caches[f"pdf system/{FINAL.name}"]


@pytest.mark.parametrize("error", [UnusableResponse("not a PDF"), TooLarge("too large")])
def test_a_download_after_an_unusable_response_bypasses_http_caches(
    files: Files, tenant: FakeTenant, clock: CrowdClock, error: InvoicefsError
) -> None:
    """A cache that has stored such a response would repeat it."""
    tenant.fail("pdf", error)
    with pytest.raises(type(error)):
        files.read(FINAL)
    assert not tenant.bypassed_caches[f"pdf system/{FINAL.name}"]
    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)

    files.read(FINAL)

    assert tenant.bypassed_caches[f"pdf system/{FINAL.name}"]


def test_a_repeated_download_bypasses_http_caches(
    files: Files, tenant: FakeTenant, clock: CrowdClock
) -> None:
    files.read(FINAL)
    files.downloads.replace(FINAL, Deadline.after(LONG_S, clock))

    assert tenant.bypassed_caches[f"pdf system/{FINAL.name}"]
    assert tenant.take_requests().count(f"pdf system/{FINAL.name}") == 2
