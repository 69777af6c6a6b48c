"""The records of all known invoices: in memory, with the store behind it.

Threading: records are frozen and replaced by one assignment, so they are read without a lock. A
record is only replaced by that of a later download.
"""

from invoicefs.clock import Clock
from invoicefs.library.ports import Store
from invoicefs.model import Invoice, Listing, Record


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

        An invoice without a record or a period gets the current time as its mtime, which is
        recorded. If the store was unavailable, an earlier record is found by the next call.
        """
        new = [invoice for invoice in listing.invoices if not self._has_content(invoice)]
        stored = self._store.records(new) if new else {}
        first_seen: dict[Invoice, Record] = {}
        for invoice in new:
            if (record := stored.get(invoice)) is not None:
                self._update(invoice, record)
            elif invoice.natural_mtime_ns is None:
                now = Record(mtime_ns=self._clock.wall_ns())
                first_seen[invoice] = self._records.setdefault(invoice.key, now)
        if first_seen:
            self._store.add_records(first_seen)

    def reread(self, invoice: Invoice) -> Record:
        """Return the record of an invoice, after reading the store again; uses the store.

        Another mount may have written a newer one. If the store has an older one, because a
        write has failed, the one in memory is used. Without a record, a new one is returned that
        describes no content.
        """
        stored = self._store.record(invoice)
        if stored is not None:
            self._update(invoice, stored)
        known = self._records.get(invoice.key)
        if known is None:
            natural_ns = invoice.natural_mtime_ns
            return Record(self._clock.wall_ns() if natural_ns is None else natural_ns)
        return known

    def replace(self, invoice: Invoice, record: Record) -> None:
        """Replace the record of an invoice in memory; the caller has saved it in the store."""
        self._records[invoice.key] = record

    def _has_content(self, invoice: Invoice) -> bool:
        record = self._records.get(invoice.key)
        return record is not None and record.content is not None

    def _update(self, invoice: Invoice, record: Record) -> None:
        known = self._records.get(invoice.key)
        if known is None or _rank(record) > _rank(known):
            self._records[invoice.key] = record


def _rank(record: Record) -> tuple[bool, int, int]:
    """Return the rank of a record; of two records of an invoice, the higher-ranking one is used.

    The rank rises with each download of changed bytes, even if the wall clock goes back, and
    otherwise with the time of the download. Before the first download, the earlier record ranks
    higher.
    """
    if record.content is None:
        return False, -record.mtime_ns, 0
    return True, record.mtime_ns, record.content.fetched_ns
