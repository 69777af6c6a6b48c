"""The protocols that the library depends on: the API, and the store on disk.

The packages `api` and `store` implement them without importing them; `mount.tenant` connects the
three.
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
    """The requests that a library makes. Each raises an `InvoicefsError` if it fails.

    With `bypass_caches`, a request bypasses HTTP caches on the way, whose response may be older.
    """

    def connect_ahead(self, count: int, deadline: Deadline) -> bool:
        """Open a connection, unless there are `count`; returns whether it did."""

    def namespaces(self, deadline: Deadline, *, bypass_caches: bool = False) -> NamespaceList:
        """List the namespaces."""

    def invoices(
        self, namespace: str, deadline: Deadline, *, bypass_caches: bool = False
    ) -> tuple[Invoice, ...]:
        """List all invoices of a namespace."""

    def invoice_pdf(self, invoice: Invoice, deadline: Deadline, *, bypass_caches: bool) -> bytes:
        """Download the PDF of an invoice."""


class Store(Protocol):
    """Storage in which listings, records, verdicts and PDFs survive a remount.

    Nothing is raised. A value that cannot be read counts as missing. Records and verdicts that
    cannot be written wait in memory, where reads find them, and are written with the next ones.
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

    def save_records(self, records: Mapping[Invoice, Record]) -> None:
        """Replace the records of these invoices."""

    def add_records(self, records: Mapping[Invoice, Record]) -> None:
        """Save the records of those invoices that have none yet."""

    def pdf(self, facts: StoredContent) -> bytes | None:
        """Return the PDF that `facts` describes, verified; None if it is missing or corrupt."""

    def pdf_in_memory(self, facts: StoredContent) -> bytes | None:
        """Return the same PDF if that needs no disk, else None; any thread may call this."""

    def digests(self) -> set[str] | None:
        """Return the SHA-256 of all PDFs on disk, or None if the disk cannot be read."""

    def save(self, invoice: Invoice, content: Content) -> None:
        """Save a PDF and its record."""

    def spill(self, pdf: bytes) -> SpilledBytes | None:
        """Write the bytes of a PDF to an unlinked file; returns None if that fails."""

    def fingerprint_key(self, proposed: bytes) -> bytes:
        """Return the secret key of fingerprints; a store without one saves `proposed`."""

    def verdict(self, key: AccessKey) -> str | None:
        """Return the verdict that was last saved for this key, or None."""

    def save_verdicts(self, verdicts: Mapping[AccessKey, str]) -> None:
        """Save the verdicts of the API on kinds of requests."""
