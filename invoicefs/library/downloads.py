"""The content of invoices, from memory, the store or the API.

Invariants:

1. Content is always a whole PDF whose length and SHA-256 match its record.
2. An mtime only changes when the bytes change, and then it grows by at least a second: with the
   same mtime and size, the kernel's page cache would mix two versions (measured).
3. There is one PDF request per version of an invoice, however many callers need it. Content that
   is downloaded ahead stays in memory until it is opened, because the store may not keep it.

Threading: `_lock` guards the two counters. `_was_last_evicted` and `_refreshed_ns` change by single
assignments. Functions given to the scheduler run in its threads and may use the store; everything
else reads it through `disk`, or with `pdf_in_memory`.
"""

import hashlib
import logging
import math
import threading
from collections.abc import Callable

from invoicefs.clock import NS_PER_S, Clock, Deadline
from invoicefs.errors import (
    CacheHangs,
    Denied,
    InvoicefsError,
    NoResponse,
    NotFound,
    TooLarge,
    UnusableResponse,
)
from invoicefs.library.access import PDF, Access
from invoicefs.library.freshness import Freshness, freshness
from invoicefs.library.memory_cache import MemoryCache
from invoicefs.library.ports import Api, Store
from invoicefs.library.record_cache import RecordCache, mtime_of
from invoicefs.model import Content, Invoice, Record, StoredContent
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings

log = logging.getLogger(__name__)

MEMORY_CACHE_BYTES = 64 * 1024 * 1024  # hundreds of typical PDFs, four of the largest


class Downloads:
    """The PDFs of a tenant, from wherever they are available first.

    The class has more than 20 methods because its steps share one set of caches and counters.
    """

    def __init__(
        self,
        api: Api,
        store: Store,
        scheduler: Scheduler,
        clock: Clock,
        settings: Settings,
        records: RecordCache,
        *,
        disk: DiskThreads,
        access: Access,
    ) -> None:
        self._api = api
        self._store = store
        self._scheduler = scheduler
        self._clock = clock
        self._active_ttl_s = settings.active_ttl_s
        self._records = records
        self._disk = disk
        self._access = access
        limit_bytes = max(MEMORY_CACHE_BYTES, settings.max_pdf_size_bytes)
        self._drafts = MemoryCache(limit_bytes)
        self._ahead = MemoryCache(limit_bytes)
        self._refreshed_ns: dict[str, int] = {}
        self._was_last_evicted = False  # whether the last PDF sought in the store was missing
        self._lock = threading.Lock()
        self._count = 0
        self._hits = 0

    @property
    def count(self) -> int:
        """The number of PDFs that have been downloaded."""
        return self._count

    @property
    def hits(self) -> int:
        """How often a PDF was served without a request, except from read-ahead."""
        return self._hits

    def freshness(self, invoice: Invoice, record: Record | None) -> Freshness:
        """Return the freshness of the content that a record describes."""
        return freshness(
            invoice,
            record,
            # A final invoice does not expire, so a stat of it need not ask for the time.
            now_ns=self._clock.wall_ns() if invoice.active else 0,
            draft_ttl_s=self._active_ttl_s,
            refreshed_ns=self._refreshed_ns.get(invoice.namespace, 0),
        )

    def was_refreshed(self, invoice: Invoice, record: Record) -> bool:
        """Return whether `expire_drafts` was called since this download."""
        refreshed_ns = self._refreshed_ns.get(invoice.namespace, 0)
        return record.content is None or record.content.fetched_ns <= refreshed_ns

    def in_memory(self, invoice: Invoice) -> Content | None:
        """Return fresh content that is in memory, or None."""
        content = self._in_memory_of(self._records.get(invoice), invoice)
        return content if content and self._is_fresh(invoice, content.record) else None

    def _in_memory_of(self, record: Record | None, invoice: Invoice) -> Content | None:
        """Return the content that a record describes, fresh or not, if it is in memory."""
        for cache in (self._ahead, self._drafts):
            content = cache.get(invoice.key)
            if content is not None and content.record == record:
                return content
        return None

    def is_wanted_ahead(self, invoice: Invoice) -> bool:
        """Return whether a download ahead could save the next open from waiting; memory only.

        If the last PDF was evicted, the next one in sequence probably was, too.
        """
        # Nearly always it is fresh, and each open asks this about several invoices.
        if not self._was_last_evicted and self._is_fresh(invoice, self._records.get(invoice)):
            return False
        expires_at_once = invoice.active and self._active_ttl_s == 0
        return not expires_at_once and self.in_memory(invoice) is None

    def has_failed(self, invoice: Invoice) -> bool:
        """Return whether the last request for the PDF of an invoice has failed."""
        return self._scheduler.recent_failure(_job_key(invoice), math.inf) is not None

    def expire_drafts(self, namespace: str) -> None:
        """Make the next open of each draft in a namespace download it, however fresh it is."""
        self._refreshed_ns[namespace] = self._clock.wall_ns()

    def load_draft(self, invoice: Invoice) -> None:
        """Load a draft from the store into memory if it is fresh, or discard it; uses the store."""
        record = self._records.get(invoice)
        facts = record.content if record else None
        if facts is None or not self._is_fresh(invoice, record):
            self._drafts.discard(invoice.key)
        elif self.in_memory(invoice) is None and self._drafts.has_room_for(facts.size_bytes):
            self._fresh_from_store(invoice)

    def discard_ahead(self, invoice: Invoice) -> None:
        """Discard the content that was downloaded ahead: from now on the handle has it."""
        self._ahead.discard(invoice.key)

    def fetch(self, invoice: Invoice, deadline: Deadline, found: Content | None = None) -> Content:
        """Return the content that was found, or else fresh content.

        Raises the error of the request that failed, or `TimedOut` if the disk hangs.
        """
        was_ahead = self._ahead.get(invoice.key) is not None
        found = found or self.in_memory(invoice)
        if found is None:
            found = self._fresh_without_disk(invoice)
        if found is None:
            found = self._disk.run(lambda: self._fresh_from_store(invoice), deadline)
        if found is not None:
            content = self._once_allowed(invoice, found, deadline)
            with self._lock:
                self._hits += content is found and not was_ahead
            return content
        content = self._request(invoice, deadline)
        if self.freshness(invoice, content.record) is Freshness.CHANGED:
            # It came from a request that began before the listing changed.
            content = self._request(invoice, deadline)
        return content

    def fetch_or_stale(
        self, invoice: Invoice, deadline: Deadline, preferred: Record | None = None
    ) -> Content:
        """Return fresh content, or stale content if the API gives no usable response.

        If there is content of the `preferred` record, it counts as fresh.
        """
        found = self._in_memory_of(preferred, invoice)
        if preferred is not None and found is None:
            found = self._disk.run(lambda: self._from_store(preferred), deadline)
        try:
            return self.fetch(invoice, deadline, found)
        except CacheHangs:
            raise
        except NoResponse as error:
            if not self._access.may_see(PDF, invoice.namespace):
                raise
            stale = self._disk.run(
                lambda: self._from_store(self._records.reread(invoice)), deadline
            )
            if stale is None:
                raise
            log.warning("The cached copy of %s is served: %s", invoice.key, error)
            return stale

    def replace(self, invoice: Invoice, deadline: Deadline) -> None:
        """Download an invoice, draft or final, and replace its cached content and record.

        If it fails, the error is raised and nothing changes. Open handles keep their version.
        """

        def download(until: Deadline) -> Content:
            return self._download(invoice, until, bypass_caches=True)

        self._scheduler.fetch(f"again/{invoice.key}", "pdf", download, deadline)
        self._ahead.discard(invoice.key)

    def start(self, invoice: Invoice, deadline: Deadline, is_wanted: Callable[[], bool]) -> bool:
        """Start a download in the background; see `Scheduler.start`."""
        return self._scheduler.start(*self._job(invoice), deadline, is_wanted)

    def start_ahead(
        self, invoice: Invoice, deadline: Deadline, is_wanted: Callable[[], bool]
    ) -> bool:
        """Start a download as `start` does, and keep the content in memory until it is opened."""

        def download(until: Deadline) -> Content:
            # What is found may have been opened in the meantime, so it is not kept in memory.
            return self._found_fresh(invoice) or self._download(invoice, until, is_ahead=True)

        key, kind, _ = self._job(invoice)
        return self._scheduler.start(key, kind, download, deadline, is_wanted)

    def _request(self, invoice: Invoice, deadline: Deadline) -> Content:
        return self._scheduler.fetch(*self._job(invoice), deadline)

    def _job(self, invoice: Invoice) -> tuple[str, str, Callable[[Deadline], Content]]:
        """Return key, kind and function of the job that downloads."""

        def download(deadline: Deadline) -> Content:
            return self._found_fresh(invoice) or self._download(invoice, deadline)

        return _job_key(invoice), "pdf", download

    def _once_allowed(self, invoice: Invoice, found: Content, deadline: Deadline) -> Content:
        """Return content that was found, once the API has allowed a PDF of the namespace.

        Until then, one invoice is downloaded for all callers that wait, and the result decides.
        """
        if self._access.may_see(PDF, invoice.namespace):
            return found
        downloaded: list[Content] = []

        def download(until: Deadline) -> None:
            downloaded.append(self._download(invoice, until))

        try:
            self._scheduler.fetch(f"access/{invoice.namespace}", "pdf", download, deadline)
        except Denied:
            raise
        except InvoicefsError:
            # The request may have been for another invoice, and this one may be allowed.
            if self._access.may_see(PDF, invoice.namespace):
                return found
            self._request(invoice, deadline)
        return downloaded[0] if downloaded else found

    def _found_fresh(self, invoice: Invoice) -> Content | None:
        """Return fresh content that another thread or mount has downloaded; uses the store."""
        if not self._access.may_see(PDF, invoice.namespace):
            return None
        return self.in_memory(invoice) or self._fresh_from_store(invoice)

    def _download(
        self,
        invoice: Invoice,
        deadline: Deadline,
        *,
        bypass_caches: bool = False,
        is_ahead: bool = False,
    ) -> Content:
        """Download and save, even if there is cached content; uses the store."""
        bypass_caches = bypass_caches or self._may_be_cached_wrongly(invoice)
        try:
            pdf = self._api.invoice_pdf(invoice, deadline, bypass_caches=bypass_caches)
        except NotFound:
            self._records.note_not_found(invoice)
            raise
        content = Content(self._record_of(invoice, pdf), pdf)
        if is_ahead:
            # An open discards it again, so it is put here before an open can find it in the store.
            self._ahead.put(invoice.key, content)
        self._store.save(invoice, content)
        self._records.replace(invoice, content.record)
        if invoice.active:
            self._drafts.put(invoice.key, content)
        with self._lock:
            self._count += 1
        return content

    def _may_be_cached_wrongly(self, invoice: Invoice) -> bool:
        """Return whether an HTTP cache on the way may have an older or an unusable response.

        Such a cache cannot verify a PDF: it would repeat an unusable one until that expires.
        """
        freshness_now = self.freshness(invoice, self._records.get(invoice))
        if invoice.active or freshness_now is Freshness.CHANGED:
            return True
        last = self._scheduler.recent_failure(_job_key(invoice), within_s=math.inf)
        return isinstance(last, UnusableResponse | TooLarge)

    def _record_of(self, invoice: Invoice, pdf: bytes) -> Record:
        """Return the record of content that was just downloaded."""
        now_ns = self._clock.wall_ns()
        facts = StoredContent(len(pdf), hashlib.sha256(pdf).hexdigest(), invoice.version, now_ns)
        before = self._records.reread(invoice)
        mtime_ns = mtime_of(invoice, before)
        if before.content is not None and before.content.sha256 != facts.sha256:
            mtime_ns = max(now_ns, mtime_ns + NS_PER_S)
        return before.succeeded_by(facts, mtime_ns)

    def _fresh_from_store(self, invoice: Invoice) -> Content | None:
        record = self._records.get(invoice)
        if not self._is_fresh(invoice, record):
            record = self._records.reread(invoice)
        if not self._is_fresh(invoice, record):
            return None
        content = self._from_store(record)
        self._was_last_evicted = content is None
        return content and self._found(invoice, content)

    def _fresh_without_disk(self, invoice: Invoice) -> Content | None:
        """Return fresh content that the store can read in this thread."""
        record = self._records.get(invoice)
        if record is None or record.content is None or not self._is_fresh(invoice, record):
            return None
        pdf = self._store.pdf_in_memory(record.content)
        return None if pdf is None else self._found(invoice, Content(record, pdf))

    def _found(self, invoice: Invoice, content: Content) -> Content:
        """Note that content was found in the store; a draft stays in memory from now on."""
        self._was_last_evicted = False
        if invoice.active:
            self._drafts.put(invoice.key, content)
        return content

    def _from_store(self, record: Record | None) -> Content | None:
        pdf = self._store.pdf(record.content) if record and record.content else None
        return Content(record, pdf) if record and pdf is not None else None

    def _is_fresh(self, invoice: Invoice, record: Record | None) -> bool:
        return self.freshness(invoice, record) is Freshness.FRESH


def _job_key(invoice: Invoice) -> str:
    return f"pdf/{invoice.key}"
