"""A store in memory, for tests of what is kept and not of how."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from invoicefs.library.access import Question
from invoicefs.model import Content, Invoice, Listing, Record, StoredContent
from invoicefs.store.spill import SpilledPdf, spilled


class MemoryStore:
    """A `LibraryStore` for any number of mounts.

    With `keeps` false it is like a full disk, with `finds` false, too, like a locked one.
    """

    def __init__(self) -> None:
        self.keeps = True
        self.finds = True
        self.pdfs: dict[str, bytes] = {}
        self.key = b"key"
        self.verdicts: dict[Question, str] = {}
        self.refill: Callable[[], bool] | None = None
        self._namespaces: tuple[str, ...] = ()
        self._listings: dict[str, Listing] = {}
        self._records: dict[str, Record] = {}

    def when_lost(self, refill: Callable[[], bool]) -> None:
        self.refill = refill

    def namespaces(self) -> tuple[str, ...]:
        return self._namespaces if self.finds else ()

    def save_namespaces(self, namespaces: Iterable[str]) -> bool:
        if self.keeps:
            self._namespaces = tuple(namespaces)
        return self.keeps

    def listing(self, namespace: str) -> Listing | None:
        return self._listings.get(namespace) if self.finds else None

    def save_listing(self, namespace: str, listing: Listing) -> bool:
        if self.keeps:
            self._listings[namespace] = listing
        return self.keeps

    def record(self, invoice: Invoice) -> Record | None:
        return self._records.get(invoice.key) if self.finds else None

    def records(self, invoices: Collection[Invoice]) -> dict[Invoice, Record]:
        found = {invoice: self.record(invoice) for invoice in invoices}
        return {invoice: record for invoice, record in found.items() if record is not None}

    def save_records(self, records: Mapping[Invoice, Record]) -> bool:
        if self.keeps:
            self._records |= {invoice.key: record for invoice, record in records.items()}
        return self.keeps

    def add_records(self, known: Mapping[Invoice, Record]) -> bool:
        if self.keeps:
            self._records = {invoice.key: each for invoice, each in known.items()} | self._records
        return self.keeps

    def fingerprint_key(self, proposed: bytes) -> bytes:
        return self.key or proposed

    def verdict(self, question: Question) -> str | None:
        return self.verdicts.get(question) if self.finds else None

    def save_verdicts(self, verdicts: Mapping[Question, str]) -> bool:
        if self.keeps:
            self.verdicts |= verdicts
        return self.keeps

    def spill(self, pdf: bytes) -> SpilledPdf | None:
        return spilled(pdf, Path(tempfile.gettempdir())) if self.keeps else None

    def pdf(self, facts: StoredContent) -> bytes | None:
        return self.pdfs.get(facts.sha256) if self.finds else None

    def digests(self) -> set[str] | None:
        return set(self.pdfs) if self.finds else None

    def save(self, invoice: Invoice, content: Content) -> None:
        if self.keeps and content.record.content is not None:
            self.pdfs[content.record.content.sha256] = content.pdf
        self.save_records({invoice: content.record})
