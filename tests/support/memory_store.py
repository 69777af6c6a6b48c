"""A store in memory, for tests of what is saved, not of how."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from invoicefs.model import AccessKey, Content, Invoice, Listing, Record, StoredContent
from invoicefs.store.spill import SpilledPdf, spilled


class MemoryStore:
    """A `Store` for any number of mounts.

    If `keeps` is false it acts like a full disk; if `finds` is false too, like a locked database.
    If `reads_at_once`, PDFs are read without the disk.
    """

    def __init__(self) -> None:
        self.keeps = True
        self.finds = True
        self.reads_at_once = False
        self.pdfs: dict[str, bytes] = {}
        self.key = b"key"
        self.verdicts: dict[AccessKey, str] = {}
        self._namespaces: tuple[str, ...] = ()
        self._listings: dict[str, Listing] = {}
        self._records: dict[str, Record] = {}

    def namespaces(self) -> tuple[str, ...]:
        return self._namespaces if self.finds else ()

    def save_namespaces(self, namespaces: tuple[str, ...]) -> None:
        if self.keeps:
            self._namespaces = namespaces

    def has_saved_namespaces(self, namespaces: tuple[str, ...]) -> bool:
        return self._namespaces == namespaces

    def listing(self, namespace: str) -> Listing | None:
        return self._listings.get(namespace) if self.finds else None

    def save_listing(self, namespace: str, listing: Listing) -> None:
        if self.keeps:
            self._listings[namespace] = listing

    def has_saved_listing(self, namespace: str, listing: Listing) -> bool:
        return self._listings.get(namespace) == listing

    def record(self, invoice: Invoice) -> Record | None:
        return self._records.get(invoice.key) if self.finds else None

    def records(self, invoices: Collection[Invoice]) -> dict[Invoice, Record]:
        found = {invoice: self.record(invoice) for invoice in invoices}
        return {invoice: record for invoice, record in found.items() if record is not None}

    def save_records(self, records: Mapping[Invoice, Record]) -> None:
        if self.keeps:
            self._records |= {invoice.key: record for invoice, record in records.items()}

    def add_records(self, records: Mapping[Invoice, Record]) -> None:
        if self.keeps:
            new = {invoice.key: record for invoice, record in records.items()}
            self._records = new | self._records

    def fingerprint_key(self, proposed: bytes) -> bytes:
        return self.key or proposed

    def verdict(self, key: AccessKey) -> str | None:
        return self.verdicts.get(key) if self.finds else None

    def save_verdicts(self, verdicts: Mapping[AccessKey, str]) -> None:
        if self.keeps:
            self.verdicts |= verdicts

    def spill(self, pdf: bytes) -> SpilledPdf | None:
        return spilled(pdf, Path(tempfile.gettempdir())) if self.keeps else None

    def pdf(self, facts: StoredContent) -> bytes | None:
        return self.pdfs.get(facts.sha256) if self.finds else None

    def pdf_in_memory(self, facts: StoredContent) -> bytes | None:
        return self.pdfs.get(facts.sha256) if self.reads_at_once else None

    def digests(self) -> set[str] | None:
        return set(self.pdfs) if self.finds else None

    def save(self, invoice: Invoice, content: Content) -> None:
        if self.keeps and content.record.content is not None:
            self.pdfs[content.record.content.sha256] = content.pdf
        self.save_records({invoice: content.record})
