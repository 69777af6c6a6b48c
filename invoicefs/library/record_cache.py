"""The records of all known invoices: in memory, with the store behind it.

Threading: records are frozen and replaced by one assignment, so they are read without a lock. A
record is only replaced by that of a later download.
"""

from collections.abc import Collection
from dataclasses import replace

from invoicefs.clock import Clock
from invoicefs.library.ports import Store
from invoicefs.model import Invoice, Listing, Record, unlisted_invoice

_NO_MTIME_NS = 2**63  # later than any mtime


class RecordCache:
    """The records of a tenant's invoices.

    All methods may be called from any thread, unless they say that they use the store.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._records: dict[str, Record] = {}

    def get(self, invoice: Invoice) -> Record | None:
        """Return the record of an invoice, or None; memory only."""
        return self._records.get(invoice.key)

    def known_size_bytes(self) -> int:
        """Return the sum of all known sizes; memory only."""
        records = tuple(self._records.values())
        return sum(record.content.size_bytes for record in records if record.content)

    def learn(self, listing: Listing) -> None:
        """Load the records of listed invoices without known content; uses the store.

        An invoice without a period gets the current time as its mtime, which is recorded. If the
        store was unavailable, an earlier record is found by the next call.
        """
        new = [invoice for invoice in listing.invoices if not self._has_content(invoice)]
        stored = self._store.records(new) if new else {}
        for invoice, record in stored.items():
            self._update(invoice, record)
        undated = [invoice for invoice in new if invoice.natural_mtime_ns is None]
        if undated:
            self._date(undated, stored)

    def _date(self, invoices: Collection[Invoice], stored: Collection[Invoice]) -> None:
        """Record the current time as the mtime of those invoices that have none; uses the store.

        `stored` are those that the store has a record of.
        """
        now_ns = self._clock.wall_ns()
        first_seen: dict[Invoice, Record] = {}
        dated: dict[Invoice, Record] = {}
        for invoice in invoices:
            known = self._records.setdefault(invoice.key, Record(now_ns))
            if known.mtime_ns is None:
                dated[invoice] = replace(known, mtime_ns=now_ns)
                self._update(invoice, dated[invoice])
            elif invoice not in stored:
                first_seen[invoice] = known
        if first_seen:
            self._store.add_records(first_seen)
        if dated:
            self._store.save_records(dated)

    def reread(self, invoice: Invoice) -> Record:
        """Return the record of an invoice, after reading the store again; uses the store.

        Another mount may have written a newer one. If the store has an older one, because a
        write has failed, the one in memory is used. Without a record, a new one is returned
        that describes no content.
        """
        stored = self._store.record(invoice)
        if stored is not None:
            self._update(invoice, stored)
        known = self._records.get(invoice.key)
        if known is None:
            has_period = invoice.natural_mtime_ns is not None
            return Record(mtime_ns=None if has_period else self._clock.wall_ns())
        return known

    def reread_all(self, invoices: Collection[Invoice]) -> None:
        """Read the records of these invoices from the store again; uses the store."""
        for invoice, record in self._store.records(invoices).items():
            self._update(invoice, record)

    def replace(self, invoice: Invoice, record: Record) -> None:
        """Replace the record of an invoice in memory; the caller has saved it in the store."""
        self._records[invoice.key] = record

    def note_not_found(self, invoice: Invoice) -> None:
        """Record that the API has no PDF of a listed invoice in this version; uses the store.

        If this version was downloaded before, its record is not changed.
        """
        if invoice == unlisted_invoice(invoice.namespace, invoice.name):
            return
        record = self.reread(invoice)
        known = (record.not_found, record.content.version if record.content else None)
        if invoice.version not in known:
            record = replace(record, not_found=invoice.version)
            self._store.save_records({invoice: record})
            self.replace(invoice, record)

    def _has_content(self, invoice: Invoice) -> bool:
        record = self._records.get(invoice.key)
        return record is not None and record.content is not None

    def _update(self, invoice: Invoice, record: Record) -> None:
        known = self._records.get(invoice.key)
        if known is None or _rank(record) > _rank(known):
            self._records[invoice.key] = record


def mtime_of(invoice: Invoice, record: Record | None) -> int:
    """Return the mtime of an invoice: that of its record, else that of its period, else 0."""
    recorded_ns = record.mtime_ns if record else None
    return (invoice.natural_mtime_ns or 0) if recorded_ns is None else recorded_ns


def _rank(record: Record) -> tuple[bool, int, int]:
    """Return the rank of a record; of two records of an invoice, the higher-ranking one is used.

    The rank rises with each download of changed bytes, even if the wall clock goes back, and
    otherwise with the time of the download. Before the first download, the earlier mtime ranks
    higher, and of two with the same mtime, that of a failed download.
    """
    if record.content is None or record.mtime_ns is None:
        earlier_first = -_NO_MTIME_NS if record.mtime_ns is None else -record.mtime_ns
        return False, earlier_first, int(bool(record.not_found))
    return True, record.mtime_ns, record.content.fetched_ns
