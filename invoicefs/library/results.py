"""What the operations of a library return."""

from dataclasses import dataclass
from typing import NamedTuple

from invoicefs.model import Attributes, Invoice, OpenContent


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
class Usage:
    """What ``statfs`` shows: the sum of all known sizes, and the number of inodes."""

    size_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters of a mount; `open` is the number of invoices that are open now."""

    namespaces: int
    invoices: int
    fetched: int
    fetched_bytes: int
    open: int
    downloads: int
    hits: int
