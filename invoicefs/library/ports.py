"""What the library needs from the outside: the API, and a place on disk.

The `api` and `store` rooms fit these two protocols without knowing them; `mount.lifecycle` puts
the three together.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from invoicefs.clock import Deadline
from invoicefs.model import (
    AccessKey,
    Content,
    Invoice,
    Listing,
    NamespaceList,
    Record,
    SpilledBytes,
    StoredContent,
)


class Api(Protocol):
    """The requests that a library makes. Each raises an `InvoicefsError` if it fails."""

    def namespaces(self, deadline: Deadline) -> NamespaceList:
        """List the namespaces."""

    def invoices(self, namespace: str, deadline: Deadline) -> tuple[Invoice, ...]:
        """List all invoices of a namespace."""

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, past_caches: bool) -> bytes:
        """Download the PDF of an invoice, bypassing HTTP caches if `past_caches`."""


class Store(Protocol):
    """Where listings, records and PDFs survive a remount.

    Nothing is raised. What cannot be read is missing. Records and verdicts that cannot be written
    wait in memory, where reads find them, and are written with the next ones.
    """

    def namespaces(self) -> tuple[str, ...]:
        """Return the last good list of namespaces, or an empty one."""

    def save_namespaces(self, namespaces: tuple[str, ...]) -> None:
        """Replace the list of namespaces."""

    def has_saved_namespaces(self, namespaces: tuple[str, ...]) -> bool:
        """Return whether this list of namespaces is on disk."""

    def listing(self, namespace: str) -> Listing | None:
        """Return the last good listing of a namespace, or None."""

    def save_listing(self, namespace: str, listing: Listing) -> None:
        """Replace the listing of a namespace."""

    def has_saved_listing(self, namespace: str, listing: Listing) -> bool:
        """Return whether this listing is on disk."""

    def record(self, invoice: Invoice) -> Record | None:
        """Return the record of an invoice, or None."""

    def records(self, invoices: Collection[Invoice]) -> dict[Invoice, Record]:
        """Return the records of those invoices that have one."""

    def add_records(self, records: Mapping[Invoice, Record]) -> None:
        """Save the records of those invoices that have none yet."""

    def pdf(self, facts: StoredContent) -> bytes | None:
        """Return the PDF with these facts, verified; None if it is missing or corrupt."""

    def digests(self) -> set[str] | None:
        """Return the SHA-256 of all PDFs on disk, or None if the disk cannot be read."""

    def save(self, invoice: Invoice, content: Content) -> None:
        """Save a PDF and its record."""

    def spill(self, pdf: bytes) -> SpilledBytes | None:
        """Move the bytes of a PDF into an unlinked file; None if the disk cannot take them."""

    def fingerprint_key(self, proposed: bytes) -> bytes:
        """Return the secret that fingerprints are keyed with; a store without one takes this."""

    def verdict(self, key: AccessKey) -> str | None:
        """Return what `save_verdicts` saved last, or None."""

    def save_verdicts(self, verdicts: Mapping[AccessKey, str]) -> None:
        """Save whether requests were allowed."""
