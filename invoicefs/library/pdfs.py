"""What invoices look like and hold: sizes, mtimes, bytes, and which version an open file has.

Invariants:

1. Bytes are served only as a whole PDF whose length and SHA-256 match its record.
2. A size is never understated and never 0: until the next open is known to bring content that is
   already there, it is `max_pdf_size_bytes`, an upper bound. Final content has its size for
   ever; that of an active invoice only as long as its bytes are held in memory, for whatever is
   evicted from the store is fetched again, and may be longer then.
3. An mtime changes when bytes change and at no other time, and then it grows by a second at
   least: with the same mtime and size the kernel's page cache would mix two versions (measured).
4. While any handle on an invoice is open, every open and every ``stat`` gets the version that is
   pinned to it, for the same reason.
5. One PDF call per version of an invoice, however many ask for it: what is fetched ahead is held
   in memory until it is opened, because the store need not keep it.

Threading: `_lock` guards `_downloads` and `_hits`, and is held for no I/O. Records and pins are
frozen and replaced by one assignment, so ``stat`` reads them without a lock, and once: what it
shows comes from one of them, never from two. `_is_evicted` and `_looked_again_ns` change by single
assignments.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from invoicefs.clock import NS_PER_S, Clock, Deadline
from invoicefs.errors import Denied, InvoicefsError, NoAnswer
from invoicefs.library.access import PDF, Access
from invoicefs.library.memory_cache import MemoryCache
from invoicefs.library.pins import Pins
from invoicefs.library.record_cache import RecordCache, RecordStore
from invoicefs.model import (
    BLOCK_BYTES,
    Attributes,
    Content,
    Invoice,
    Listing,
    OpenContent,
    Record,
    StoredContent,
)
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.store.spill import SpilledPdf

log = logging.getLogger(__name__)

HELD_BYTES = 64 * 1024 * 1024  # hundreds of usual PDFs, four of the largest that are usual


class PdfApi(Protocol):
    """The call that downloads."""

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, past_caches: bool) -> bytes:
        """Download the PDF of one invoice, if need be past caches that may have an older one."""


class ContentStore(RecordStore, Protocol):
    """Where contents and records are kept across remounts."""

    def pdf(self, facts: StoredContent) -> bytes | None:
        """The content with these facts, verified; None where it is missing or damaged."""

    def digests(self) -> set[str] | None:
        """The SHA-256 of all contents that are kept; None where they cannot be read."""

    def save(self, invoice: Invoice, content: Content) -> None:
        """Keep downloaded content and its record."""

    def spill(self, pdf: bytes) -> SpilledPdf | None:
        """The bytes in a file without a name; None where the disk cannot take them."""


class Pdfs:
    """The contents of all invoices of a tenant."""

    def __init__(
        self,
        api: PdfApi,
        store: ContentStore,
        scheduler: Scheduler,
        clock: Clock,
        *,
        active_ttl_s: float,
        max_pdf_size_bytes: int,
        disk: DiskThreads,
        access: Access,
    ) -> None:
        self._api = api
        self._access = access
        self._store = store
        self._records = RecordCache(store, clock)
        self._scheduler = scheduler
        self._clock = clock
        self._active_ttl_ns = int(active_ttl_s * NS_PER_S)
        self._max_pdf_size_bytes = max_pdf_size_bytes
        self._disk = disk
        self._lock = threading.Lock()
        self._downloads = 0
        self._pins = Pins(lambda pdf: disk.run(lambda: store.spill(pdf)))
        self._active = MemoryCache(max(HELD_BYTES, max_pdf_size_bytes))
        self._ahead = MemoryCache(max(HELD_BYTES, max_pdf_size_bytes))
        self._is_evicted = False  # what was looked for last, and was in the store once
        self._looked_again_ns: dict[str, int] = {}
        self._hits = 0

    # What it looks like.

    def learn(self, listing: Listing) -> None:
        """Recall what is remembered of these invoices; reads the store in the calling thread."""
        self._records.learn(listing)
        for invoice in listing.invoices:
            if invoice.active:
                self._hold_active(invoice)

    def refill_store(self, listing: Listing) -> bool:
        """Keep what is remembered of these invoices and the store has lost.

        Whether that was possible; writes the store in the calling thread.
        """
        return self._records.refill_store(listing)

    def attributes(self, invoice: Invoice) -> Attributes:
        """What ``stat`` shows; memory only."""
        record, is_pinned = self._shown(invoice)
        is_exact = is_pinned or self._is_known(invoice, record)
        known_bytes = record.content.size_bytes if record and record.content else 0
        return Attributes(
            inode=invoice.inode,
            mtime_ns=_mtime_ns(invoice, record),
            # A mount with a larger limit may have stored more than ours allows.
            size_bytes=known_bytes if is_exact else max(known_bytes, self._max_pdf_size_bytes),
            blocks=-(-known_bytes // BLOCK_BYTES) if is_exact else 0,
        )

    def mtime_ns(self, invoice: Invoice) -> int:
        """The time that ``stat`` shows; memory only."""
        record, _ = self._shown(invoice)
        return _mtime_ns(invoice, record)

    def sha256(self, invoice: Invoice) -> str | None:
        """The SHA-256, in hex, of content that is not outdated; memory only."""
        record, is_pinned = self._shown(invoice)
        is_current = is_pinned or self._is_fresh(invoice, record)
        return record.content.sha256 if is_current and record and record.content else None

    def is_exact(self, invoice: Invoice) -> bool:
        """Whether `attributes` shows the true size, not an upper bound; memory only."""
        record, is_pinned = self._shown(invoice)
        return is_pinned or self._is_known(invoice, record)

    def has_changed(self, invoice: Invoice) -> bool:
        """Whether the listing says that it has changed since it was downloaded; memory only."""
        record, is_pinned = self._shown(invoice)
        facts = record.content if record else None
        return not is_pinned and facts is not None and facts.version != invoice.version

    def known_size_bytes(self) -> int:
        """The sum of all sizes that are known."""
        return self._records.known_size_bytes()

    # What it holds.

    def pinned(self, key: str) -> Invoice | None:
        """The invoice with this key if a handle on it is open; memory only."""
        pin = self._pins.get(key)
        return pin.invoice if pin else None

    def pinned_namespace(self, directory: str) -> str | None:
        """The namespace of this directory if a handle on an invoice in it is open; memory only."""
        return self._pins.namespace_of(directory)

    def open(self, invoice: Invoice, deadline: Deadline) -> OpenContent:
        """The content that all handles on the invoice have now; `release` it for each `open`."""
        opened = self._pins.take(invoice)
        if opened is None:
            opened = self._pins.add(invoice, self._best(invoice, deadline))
            self._ahead.discard(invoice.key)
        return opened

    def release(self, invoice: Invoice) -> None:
        """Give back one `open`."""
        self._pins.release(invoice)

    def fetched_bytes(self, invoice: Invoice) -> int | None:
        """The size of what was downloaded last, or None where nothing was; memory only."""
        record, _ = self._shown(invoice)
        return record.content.size_bytes if record and record.content else None

    @property
    def open_count(self) -> int:
        """How many invoices are open."""
        return len(self._pins)

    @property
    def hits(self) -> int:
        """How often content was at hand from an earlier time when it was wanted."""
        return self._hits

    def look_again(self, namespace: str) -> None:
        """Have the next open of each active invoice of a namespace download it, however fresh."""
        self._looked_again_ns[namespace] = self._clock.wall_ns()

    @property
    def downloads(self) -> int:
        """How many contents have been downloaded."""
        return self._downloads

    def is_stored(self, invoice: Invoice) -> bool:
        """Whether the invoice has been downloaded before, by this mount or another.

        Raises `TimedOut` where the disk hangs.
        """
        if not self._access.has_seen(PDF, invoice.namespace):
            return False
        record = self._records.get(invoice)
        if record is None or record.content is None:
            record = self._disk.run(lambda: self._recall_active(invoice))
        return record.content is not None

    def dropped(self, invoices: Iterable[Invoice]) -> tuple[Invoice, ...]:
        """Those that were downloaded once, and that an open would download again: evicted, cleared.

        None of them where the store cannot be read. Raises `TimedOut` where the disk hangs.
        """
        # The records first: what is downloaded meanwhile is in the store by then.
        records = [(each, self._records.get(each)) for each in invoices]
        digests = self._disk.run(self._store.digests)
        if digests is None:
            return ()
        return tuple(
            invoice
            for invoice, record in records
            if record
            and record.content
            and record.content.sha256 not in digests
            and self._held(invoice) is None
        )

    def bring(self, invoice: Invoice, deadline: Deadline) -> Content:
        """The content of an invoice from the store where it is fresh, or else from the API.

        Raises whatever keeps the call from bringing it, or `TimedOut` where the disk hangs.
        """
        was_fetched_for_it = self._ahead.get(invoice.key) is not None
        found = self._held(invoice)
        if found is None:
            found = self._disk.run(lambda: self._fresh_from_store(invoice))
        if found is not None:
            content = self._with_proof(invoice, found, deadline)
            with self._lock:
                self._hits += content is found and not was_fetched_for_it
            return content
        content = self._scheduler.fetch(*self._call_for(invoice), deadline)
        facts = content.record.content
        if facts is not None and facts.version != invoice.version:
            # It came from a call that began before the listing changed.
            content = self._scheduler.fetch(*self._call_for(invoice), deadline)
        return content

    def download_again(self, invoice: Invoice, deadline: Deadline) -> None:
        """Replace what is stored of an invoice, final or not, by what the API has now.

        Raises whatever keeps it from being downloaded; then all stays as it is. Handles that are
        open keep what they have.
        """

        def download(until: Deadline) -> Content:
            return self._download_anew(invoice, until, past_caches=True)

        self._scheduler.fetch(f"again/{invoice.key}", "pdf", download, deadline)
        self._ahead.discard(invoice.key)

    def bring_in_background(self, invoice: Invoice, deadline: Deadline) -> None:
        """Have the content downloaded for later, unless that is under way or has just failed."""
        self._scheduler.start(*self._call_for(invoice), deadline)

    def bring_ahead(self, invoice: Invoice, deadline: Deadline) -> None:
        """The same for somebody who is about to open it: held in memory until he does."""

        def download(until: Deadline) -> Content:
            content = self._download(invoice, until)
            self._ahead.put(invoice.key, content)
            return content

        key, kind, _ = self._call_for(invoice)
        self._scheduler.start(key, kind, download, deadline)

    def is_wanted_ahead(self, invoice: Invoice) -> bool:
        """Whether the next open may have to wait for a download; memory only.

        Whoever walks through what was evicted will not find the next one in the store either.
        """
        record, is_pinned = self._shown(invoice)
        is_outdated_at_once = invoice.active and self._active_ttl_ns == 0
        if is_pinned or is_outdated_at_once or self._held(invoice) is not None:
            return False
        return self._is_evicted or not self._is_fresh(invoice, record)

    def _call_for(self, invoice: Invoice) -> tuple[str, str, Callable[[Deadline], Content]]:
        """Key, kind and function of the call that downloads."""
        return f"pdf/{invoice.key}", "pdf", lambda deadline: self._download(invoice, deadline)

    def _best(self, invoice: Invoice, deadline: Deadline) -> Content:
        """The content, be it outdated where the API gives no answer."""
        try:
            return self.bring(invoice, deadline)
        except NoAnswer as error:
            if not self._access.may_see(PDF, invoice.namespace):
                raise
            outdated = self._disk.run(lambda: self._from_store(self._records.recall(invoice)))
            if outdated is None:
                raise
            log.warning("The stored copy of %s is served: %s", invoice.key, error)
            return outdated

    def _with_proof(self, invoice: Invoice, found: Content, deadline: Deadline) -> Content:
        """The content that was found, once the API has let the credential have a PDF there.

        Where it has not yet, one invoice is downloaded for all that wait, and its answer counts.
        """
        if self._access.may_see(PDF, invoice.namespace):
            return found
        proof: list[Content] = []

        def download(until: Deadline) -> None:
            proof.append(self._download_anew(invoice, until))

        try:
            self._scheduler.fetch(f"access/{invoice.namespace}", "pdf", download, deadline)
        except Denied:
            raise
        except InvoicefsError:
            # For another invoice it may be different, unless this is the one that was tried.
            if self._access.may_see(PDF, invoice.namespace):
                return found
            key, kind, _ = self._call_for(invoice)
            self._scheduler.fetch(key, kind, download, deadline)
        return proof[0] if proof else found

    def _download(self, invoice: Invoice, deadline: Deadline) -> Content:
        """The content from the API, unless it has been brought in the meantime."""
        if self._access.may_see(PDF, invoice.namespace):
            found = self._held(invoice) or self._fresh_from_store(invoice)
            if found is not None:
                return found
        return self._download_anew(invoice, deadline)

    def _download_anew(
        self, invoice: Invoice, deadline: Deadline, *, past_caches: bool = False
    ) -> Content:
        """The content from the API, whatever is stored, and kept from now on."""
        known = self._records.get(invoice)
        has_changed = (
            known is not None
            and known.content is not None
            and (known.content.version != invoice.version)
        )
        past_caches = past_caches or invoice.active or has_changed
        pdf = self._api.invoice_pdf(invoice, deadline, past_caches=past_caches)
        content = Content(self._record_of(invoice, pdf), pdf)
        self._store.save(invoice, content)
        self._records.replace(invoice, content.record)
        if invoice.active:
            self._active.put(invoice.key, content)
        with self._lock:
            self._downloads += 1
        return content

    def _record_of(self, invoice: Invoice, pdf: bytes) -> Record:
        """What to remember of content that has just been downloaded."""
        now_ns = self._clock.wall_ns()
        facts = StoredContent(len(pdf), hashlib.sha256(pdf).hexdigest(), invoice.version, now_ns)
        before = self._records.recall(invoice)
        mtime_ns = before.mtime_ns
        if before.content is not None and before.content.sha256 != facts.sha256:
            mtime_ns = max(now_ns, mtime_ns + NS_PER_S)
        return Record(mtime_ns, facts)

    def _held(self, invoice: Invoice) -> Content | None:
        """Fresh content that is held in memory."""
        held = self._ahead.get(invoice.key) or self._active.get(invoice.key)
        if held is None or held.record != self._records.get(invoice):
            return None
        return held if self._is_fresh(invoice, held.record) else None

    def _recall_active(self, invoice: Invoice) -> Record:
        record = self._records.recall(invoice)
        self._hold_active(invoice)
        return record

    def _hold_active(self, invoice: Invoice) -> None:
        """Hold what the store has of an active invoice, as long as the next open gets it."""
        record = self._records.get(invoice)
        facts = record.content if record else None
        if facts is None or not self._is_fresh(invoice, record):
            self._active.discard(invoice.key)
        elif self._held(invoice) is None and self._active.has_room_for(facts.size_bytes):
            self._fresh_from_store(invoice)

    def _fresh_from_store(self, invoice: Invoice) -> Content | None:
        record = self._records.get(invoice)
        if not self._is_fresh(invoice, record):
            record = self._records.recall(invoice)
        if not self._is_fresh(invoice, record):
            return None
        content = self._from_store(record)
        self._is_evicted = content is None
        if invoice.active and content is not None:
            self._active.put(invoice.key, content)
        return content

    def _from_store(self, record: Record | None) -> Content | None:
        pdf = self._store.pdf(record.content) if record and record.content else None
        return Content(record, pdf) if record and pdf is not None else None

    def _shown(self, invoice: Invoice) -> tuple[Record | None, bool]:
        """The record of what is shown, and whether that is pinned by an open handle."""
        pin = self._pins.get(invoice.key)
        return (pin.content.record, True) if pin else (self._records.get(invoice), False)

    def _is_known(self, invoice: Invoice, record: Record | None) -> bool:
        """Whether the next open will bring what is recorded.

        What was evicted is fetched again, and then has its old size for sure only if it is final.
        """
        if not self._is_fresh(invoice, record):
            return False
        return not invoice.active or self._held(invoice) is not None

    def _is_fresh(self, invoice: Invoice, record: Record | None) -> bool:
        """Whether an open may be answered with what is stored, without a call."""
        if record is None or record.content is None:
            return False
        if record.content.version != invoice.version:
            return False
        if not invoice.active:
            return True
        fetched_ns = record.content.fetched_ns
        is_young = 0 <= self._clock.wall_ns() - fetched_ns < self._active_ttl_ns
        return is_young and fetched_ns > self._looked_again_ns.get(invoice.namespace, 0)


def _mtime_ns(invoice: Invoice, record: Record | None) -> int:
    return record.mtime_ns if record else invoice.natural_mtime_ns or 0
