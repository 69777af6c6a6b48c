"""What the operations of a library return."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from invoicefs.errors import InvoicefsError
from invoicefs.model import UNKNOWN_STATUS, Attributes, Invoice, OpenContent, Record

_T = TypeVar("_T")


class OrLast(NamedTuple, Generic[_T]):
    """A list, or the last good one with the error of the request that failed."""

    value: _T
    failure: InvoicefsError | None = None


class OpenInvoice(NamedTuple):
    """An invoice whose content is pinned until it is released."""

    invoice: Invoice
    content: OpenContent


class Found(NamedTuple):
    """The attributes of a path; `is_download_due` if a ``stat`` should wait for a download."""

    attributes: Attributes
    is_download_due: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """The known properties of an invoice; if it is not listed, at most its SHA-256, in hex."""

    invoice: Invoice | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class ListedInvoice:
    """A listed invoice, with its record and the reason why its last open failed, if any."""

    invoice: Invoice
    record: Record | None
    open_error: str | None

    @property
    def is_current(self) -> bool:
        """Whether the content of the record is that of the listed version of the invoice."""
        content = self.record.content if self.record else None
        return content is not None and content.version == self.invoice.version

    @property
    def is_available(self) -> bool:
        """Whether the API may have a PDF of this version: the last request was no 404."""
        return self.record is None or self.record.not_found != self.invoice.version

    @property
    def is_unpaid(self) -> bool:
        """Whether the listing explains a 404, because the API only has the PDFs of paid invoices.

        A final invoice without a status may have been paid.
        """
        status = self.invoice.status
        return self.invoice.active if status == UNKNOWN_STATUS else status != "paid"


@dataclass(frozen=True, slots=True)
class Usage:
    """What ``statfs`` shows: the sum of all known sizes, and the number of inodes."""

    size_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters of a mount.

    `not_available` is the number of unpaid invoices of which the API has no PDF, and `open` that of
    those that are open now.
    """

    namespaces: int
    invoices: int
    fetched: int
    fetched_bytes: int
    not_available: int
    open: int
    downloads: int
    hits: int


@dataclass(frozen=True, slots=True)
class ListingState:
    """The seconds since each listing that this mount has requested, and the last failures.

    `failures` has the error of each namespace that was listed before, but not at the last try: its
    last good listing is shown, unless listing it is forbidden now. `namespaces_failure` is the same
    for the list of namespaces.
    """

    ages_s: tuple[float, ...]
    failures: Mapping[str, InvoicefsError]
    namespaces_failure: InvoicefsError | None
