"""What is remembered of every invoice for ever: in memory, and in the store behind it.

Threading: records are frozen and replaced by one assignment, so they are read without a lock. One
is replaced only by that of a later download. `_unkept` changes by single steps.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from invoicefs.clock import Clock
from invoicefs.model import Invoice, Listing, Record


class RecordStore(Protocol):
    """Where records are kept across remounts."""

    def record(self, invoice: Invoice) -> Record | None:
        """What is remembered of an invoice, or None where nothing is."""

    def records(self, invoices: Collection[Invoice]) -> dict[Invoice, Record]:
        """What is remembered of those of the invoices of which something is."""

    def add_records(self, known: Mapping[Invoice, Record]) -> bool:
        """Remember this of those of the invoices of which nothing is remembered yet.

        Whether that was possible.
        """


class RecordCache:
    """The records of all invoices of a tenant that have been met.

    All but the methods that say otherwise may be called from any thread.
    """

    def __init__(self, store: RecordStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._unkept: set[str] = set()  # of invoices first seen while the store was out of reach

    def get(self, invoice: Invoice) -> Record | None:
        """What is remembered of the invoice; memory only."""
        return self._records.get(invoice.key)

    def known_size_bytes(self) -> int:
        """The sum of all sizes that are known; memory only."""
        records = tuple(self._records.values())
        return sum(record.content.size_bytes for record in records if record.content)

    def learn(self, listing: Listing) -> None:
        """Recall what is remembered of these invoices; reads the store for those that are new.

        An invoice without a period gets the present as its mtime, which is remembered. Where the
        store could not keep it, it may know an earlier one, and is asked again next time.
        """
        new = [each for each in listing.invoices if not self._is_kept(each.key)]
        stored = self._store.records(new) if new else {}
        first_seen: dict[Invoice, Record] = {}
        for invoice in new:
            if (record := stored.get(invoice)) is not None:
                self._remember(invoice, record)
                self._unkept.discard(invoice.key)
            elif invoice.natural_mtime_ns is None:
                now = Record(mtime_ns=self._clock.wall_ns())
                first_seen[invoice] = self._records.setdefault(invoice.key, now)
        if first_seen:
            keys = {invoice.key for invoice in first_seen}
            if self._store.add_records(first_seen):
                self._unkept -= keys
            else:
                self._unkept |= keys

    def recall(self, invoice: Invoice) -> Record:
        """What is remembered of the invoice, also by other mounts; reads the store.

        The later download counts: the store may be one that could not be written.
        """
        stored = self._store.record(invoice)
        if stored is not None:
            self._remember(invoice, stored)
        known = self._records.get(invoice.key)
        if known is None:
            natural_ns = invoice.natural_mtime_ns
            return Record(self._clock.wall_ns() if natural_ns is None else natural_ns)
        return known

    def replace(self, invoice: Invoice, record: Record) -> None:
        """Remember this from now on, which the store has been given."""
        self._records[invoice.key] = record

    def refill_store(self, listing: Listing) -> bool:
        """Keep what is remembered of these invoices and the store has lost.

        Whether that was possible; writes the store in the calling thread.
        """
        found = {each: self._records.get(each.key) for each in listing.invoices}
        return self._store.add_records({each: record for each, record in found.items() if record})

    def _is_kept(self, key: str) -> bool:
        return key in self._records and key not in self._unkept

    def _remember(self, invoice: Invoice, record: Record) -> None:
        known = self._records.get(invoice.key)
        if known is None or _rank(record) > _rank(known):
            self._records[invoice.key] = record


def _rank(record: Record) -> tuple[bool, int, int]:
    """Of two records of an invoice, the one with the larger rank counts.

    It grows from one download to the next, also where the wall clock goes back. Before the first
    one, what was remembered earlier counts.
    """
    if record.content is None:
        return False, -record.mtime_ns, 0
    return True, record.mtime_ns, record.content.fetched_ns
