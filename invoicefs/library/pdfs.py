"""The attributes of invoices, and the versions that are open.

Invariants:

1. A size is never understated and never 0. Until the next open is known to serve content that was
   already downloaded, it is `max_pdf_size_bytes`, an upper bound. Final content keeps its size for
   ever; the size of a draft is exact only while its bytes are in memory, because a draft that is
   evicted from the store is downloaded again, and may be larger then. With ``--fetch on-stat``, the
   program that was shown it is served it even if it expires, see `shown_drafts`.
2. While any handle on an invoice is open, every open and every ``stat`` gets the version that is
   pinned to it: otherwise the kernel's page cache would mix two versions (measured).

Threading: records and pins are frozen and replaced by one assignment, so ``stat`` reads them
without a lock, and only once: all attributes come from the same record.
"""

from collections.abc import Iterable
from typing import NamedTuple

from invoicefs.clock import Deadline
from invoicefs.library.access import PDF, Access
from invoicefs.library.downloads import Downloads
from invoicefs.library.freshness import Freshness
from invoicefs.library.pins import Pins
from invoicefs.library.ports import Store
from invoicefs.library.record_cache import RecordCache, mtime_of
from invoicefs.library.shown_drafts import ShownDraft, ShownDrafts
from invoicefs.model import BLOCK_BYTES, Attributes, Invoice, Listing, OpenContent, Record
from invoicefs.scheduling.disk_threads import DiskThreads


class Stat(NamedTuple):
    """What ``stat`` shows; `has_changed` if the listing has another version than was downloaded."""

    attributes: Attributes
    has_changed: bool


class _Shown(NamedTuple):
    """The record that ``stat`` shows, and the freshness of its content.

    The freshness is None if the content is pinned, or if the caller was just shown it.
    """

    record: Record | None
    freshness: Freshness | None

    @property
    def size_bytes(self) -> int | None:
        """The size of the content that was downloaded last, or None."""
        return self.record.content.size_bytes if self.record and self.record.content else None

    @property
    def is_settled(self) -> bool:
        """Whether the next open will serve this very content, however old it is."""
        return self.freshness is None

    @property
    def is_current(self) -> bool:
        """Whether the next open will serve content of the same version."""
        return self.is_settled or self.freshness is Freshness.FRESH


class Pdfs:
    """The PDFs of a tenant, as files.

    The class has more than 20 methods because the kernel, read-ahead and the control socket need
    different views of the same records and pins.
    """

    def __init__(
        self,
        store: Store,
        records: RecordCache,
        downloads: Downloads,
        *,
        max_pdf_size_bytes: int,
        disk: DiskThreads,
        access: Access,
        shown_drafts: ShownDrafts,
    ) -> None:
        self._store = store
        self._records = records
        self._downloads = downloads
        self._max_pdf_size_bytes = max_pdf_size_bytes
        self._disk = disk
        self._access = access
        self._shown_drafts = shown_drafts
        self._pins = Pins(lambda pdf: disk.run(lambda: store.spill(pdf)))

    def learn(self, listing: Listing) -> None:
        """Load the records and fresh drafts of listed invoices; uses the store."""
        self._records.learn(listing)
        for invoice in listing.invoices:
            if invoice.active:
                self._downloads.load_draft(invoice)

    # Attributes; memory only.

    def stat(self, invoice: Invoice) -> Stat:
        """Return what ``stat`` shows, and whether the invoice has changed since its download.

        Only for the kernel: what it shows of a draft, the caller gets from now on.
        """
        shown = self._shown_to_caller(invoice)
        is_exact = self._is_exact(invoice, shown)
        if is_exact and invoice.active and shown.freshness is Freshness.FRESH and shown.record:
            self._shown_drafts.note(invoice, shown.record)
        attributes = self._attributes(invoice, shown, is_exact=is_exact)
        return Stat(attributes, shown.freshness is Freshness.CHANGED)

    def attributes(self, invoice: Invoice) -> Attributes:
        """Return what ``fstat`` shows, or ``stat`` to a program that has not asked before."""
        shown = self._shown(invoice)
        return self._attributes(invoice, shown, is_exact=self._is_exact(invoice, shown))

    def _attributes(self, invoice: Invoice, shown: _Shown, *, is_exact: bool) -> Attributes:
        known_bytes = shown.size_bytes or 0
        return Attributes(
            inode=invoice.inode,
            mtime_ns=mtime_of(invoice, shown.record),
            # A mount with a larger limit may have stored more than this one allows.
            size_bytes=known_bytes if is_exact else max(known_bytes, self._max_pdf_size_bytes),
            blocks=-(-known_bytes // BLOCK_BYTES) if is_exact else 0,
        )

    def mtime_ns(self, invoice: Invoice) -> int:
        """Return the mtime that ``stat`` shows."""
        return mtime_of(invoice, self._shown(invoice).record)

    def sha256(self, invoice: Invoice) -> str | None:
        """Return the SHA-256, in hex, of content that is not stale, or None."""
        shown = self._shown(invoice)
        facts = shown.record.content if shown.record else None
        return facts.sha256 if shown.is_current and facts else None

    def is_exact(self, invoice: Invoice) -> bool:
        """Return whether `attributes` shows the true size, not an upper bound."""
        return self._is_exact(invoice, self._shown(invoice))

    def has_changed(self, invoice: Invoice) -> bool:
        """Return whether, according to the listing, the invoice has changed since its download."""
        return self._shown(invoice).freshness is Freshness.CHANGED

    def is_wanted_ahead(self, invoice: Invoice) -> bool:
        """Return whether a download ahead could save the next open from waiting."""
        return self._downloads.is_wanted_ahead(invoice) and self.pinned(invoice.key) is None

    def downloaded_bytes(self, invoice: Invoice) -> int | None:
        """Return the size of the content that was downloaded last, or None."""
        return self._shown(invoice).size_bytes

    def known_size_bytes(self) -> int:
        """Return the sum of all known sizes."""
        return self._records.known_size_bytes()

    # Open invoices; memory only, except for `open`.

    def pinned(self, key: str) -> Invoice | None:
        """Return the invoice with this key if a handle on it is open."""
        pin = self._pins.get(key)
        return pin.invoice if pin else None

    def held(self, key: str) -> Invoice | None:
        """Return the invoice with this key if it is open, or a draft that was just shown.

        Only for the kernel, because it depends on the caller.
        """
        just_shown = self._just_shown(key)
        return self.pinned(key) or (just_shown.invoice if just_shown else None)

    def forget_shown(self, invoice: Invoice) -> None:
        """Let the next open get the newest version, whatever was just shown."""
        self._shown_drafts.forget(invoice.key)

    def show_expired(self, invoice: Invoice, deadline: Deadline) -> None:
        """Have the next `stat` of the caller show the true size of an expired draft.

        Only if its content can still be served. Only for the kernel; raises `CacheHangs`.
        """
        shown = self._shown(invoice)
        facts = shown.record.content if shown.record else None
        if shown.freshness is not Freshness.EXPIRED or shown.record is None or facts is None:
            return
        if self._disk.run(lambda: self._store.pdf(facts), deadline) is not None:
            self._shown_drafts.note(invoice, shown.record)

    def pinned_namespace(self, directory: str) -> str | None:
        """Return the namespace of a directory if a handle on an invoice in it is open."""
        return self._pins.namespace_of(directory)

    @property
    def open_count(self) -> int:
        """The number of invoices that are open."""
        return len(self._pins)

    def open(self, invoice: Invoice, deadline: Deadline) -> OpenContent:
        """Return the content that all handles on the invoice share; `release` it once per `open`.

        Only for the kernel. Raises the error of the request that failed, or `TimedOut` if the disk
        hangs.
        """
        just_shown = self._just_shown(invoice.key)
        self._shown_drafts.end(invoice.key)  # the next open has a stat of its own
        opened = self._pins.take(invoice)
        if opened is None:
            record = just_shown.record if just_shown else None
            content = self._downloads.fetch_or_stale(invoice, deadline, record)
            opened = self._pins.add(invoice, content)
            self._downloads.discard_ahead(invoice)
        return opened

    def release(self, invoice: Invoice) -> None:
        """Undo one `open`."""
        self._pins.release(invoice)

    # Methods that read the store; each raises `TimedOut` if the disk hangs.

    def was_downloaded(self, invoice: Invoice) -> bool:
        """Return whether the invoice was ever downloaded, by this mount or another."""
        if not self._access.has_seen(PDF, invoice.namespace):
            return False
        record = self._records.get(invoice)
        if record is None or record.content is None:
            record = self._disk.run(lambda: self._reread(invoice))
        return record.content is not None

    def evicted(self, invoices: Iterable[Invoice]) -> tuple[Invoice, ...]:
        """Return the invoices whose downloaded content is neither in the store nor fresh in memory.

        Returns an empty tuple if the store cannot be read.
        """
        # Records are read before the store: a PDF downloaded in between is in the store by then.
        records = [(invoice, self._records.get(invoice)) for invoice in invoices]
        digests = self._disk.run(self._store.digests)
        if digests is None:
            return ()
        return tuple(
            invoice
            for invoice, record in records
            if record
            and record.content
            and record.content.sha256 not in digests
            and self._downloads.in_memory(invoice) is None
        )

    def _shown_to_caller(self, invoice: Invoice) -> _Shown:
        """Return what is pinned, or else what the caller was just shown, or else what is known."""
        shown, just_shown = self._shown(invoice), self._just_shown(invoice.key)
        if just_shown is None:
            return shown
        if not shown.is_settled:
            return _Shown(just_shown.record, None)
        if just_shown.record != shown.record:
            self._shown_drafts.end(invoice.key)
        return shown

    def _just_shown(self, key: str) -> ShownDraft | None:
        shown = self._shown_drafts.get(key)
        if shown is None or self._downloads.was_refreshed(shown.invoice, shown.record):
            return None
        return shown

    def _reread(self, invoice: Invoice) -> Record:
        record = self._records.reread(invoice)
        self._downloads.load_draft(invoice)
        return record

    def _shown(self, invoice: Invoice) -> _Shown:
        pin = self._pins.get(invoice.key)
        if pin is not None:
            return _Shown(pin.content.record, None)
        record = self._records.get(invoice)
        return _Shown(record, self._downloads.freshness(invoice, record))

    def _is_exact(self, invoice: Invoice, shown: _Shown) -> bool:
        """Return whether the next open will serve content of the recorded size.

        Evicted content is downloaded again, and only final content is certain to keep its size.
        """
        if shown.is_settled:
            return True
        if shown.freshness is not Freshness.FRESH:
            return False
        return not invoice.active or self._downloads.in_memory(invoice) is not None
