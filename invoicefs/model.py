"""Namespaces, invoices, their records and listings, and the attributes that ``stat`` shows.

Everything here is frozen. Times are nanoseconds since 1970-01-01 UTC (``_ns``), sizes are bytes.
"""

import enum
import hashlib
import json
import operator
import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from invoicefs import names
from invoicefs.clock import NS_PER_S
from invoicefs.dates import parse_time_ns

UNKNOWN_STATUS: Final = "unknown"
STATUSES: Final = ("paid", "issued", "pending", "overdue", "refunded", "cancelled", UNKNOWN_STATUS)
"""The vendor's enumeration, in lower case and without ``STATUS_``."""

BLOCK_BYTES = 512  # the unit of st_blocks, see stat(2)
ROOT_INODE = 1  # FUSE_ROOT_ID
_PDF_MARGIN_BYTES = 1024

MAX_EARLIER: Final = 32
"""Maximum number of earlier contents in a record: a month of a draft that changes daily."""

_HASH_BITS = 48
_MAX_DAYS = (1 << (64 - _HASH_BITS)) - 1  # the year 2149
_S_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class NamespaceList:
    """The names of namespaces; `is_partial` if the server says that some are missing."""

    names: tuple[str, ...]
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice in a listing; a field that the API omits is empty.

    `status` is in lower case and without the vendor's ``STATUS_``. `amount` is a number of cents
    as text. `active` is true for a draft, whose content can still change, and false for a final
    invoice. The periods are RFC 3339 times.

    There may be a hundred thousand of them, so values that many of them share are interned, and
    values that are seldom used are computed on demand.
    """

    namespace: str
    name: str
    active: bool = False
    status: str = UNKNOWN_STATUS
    amount: str = ""
    currency: str = ""
    period_start: str = ""
    period_end: str = ""

    file_name: str = field(init=False, repr=False, compare=False)
    """The name of its file."""

    inode: int = field(init=False, repr=False, compare=False)
    """Increases with the period: days since 1970 in the high 16 bits, 48 bits of a hash below."""

    def __post_init__(self) -> None:
        for shared in ("status", "currency", "period_start", "period_end"):
            object.__setattr__(self, shared, sys.intern(getattr(self, shared)))
        object.__setattr__(self, "file_name", names.file_name(self.name))
        days = _days(self.period_start, self.period_end)
        object.__setattr__(self, "inode", days << _HASH_BITS | self._hash())

    @property
    def key(self) -> str:
        """The identifier of the invoice within its tenant.

        It consists of the encoded names, because every database accepts those as text.
        """
        return f"{_folder_of(self.namespace)}/{self.file_name}"

    @property
    def version(self) -> str:
        """A digest that changes whenever the listing shows that the content may have changed."""
        return _version(self.status, self.active, self.amount, self.period_start, self.period_end)

    def _hash(self) -> int:
        return _inode_hash(self.namespace, self.name)

    @property
    def natural_mtime_ns(self) -> int | None:
        """The mtime of the first download: the end of the period, or its start for a draft.

        None if that time is missing or invalid.
        """
        return parse_time_ns(self.period_start if self.active else self.period_end)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Facts about content that was downloaded: enough to find it again and to verify it.

    `version` is that of the invoice when it was downloaded, at the time `fetched_ns`.
    """

    size_bytes: int
    sha256: str
    version: str
    fetched_ns: int


@dataclass(frozen=True, slots=True)
class Record:
    """The mtime of an invoice and, once downloaded, facts about its content; kept for ever.

    Before a download, `mtime_ns` is None if the mtime follows the period. `earlier` has the SHA-256
    of previous contents, the latest first. `not_found` is the version of the invoice for which the
    API had no PDF at the last request, or empty.
    """

    mtime_ns: int | None
    content: StoredContent | None = None
    earlier: tuple[str, ...] = ()
    not_found: str = ""

    def succeeded_by(self, content: StoredContent, mtime_ns: int) -> "Record":
        """Return the record of content that was downloaded after that of this one."""
        before = self.content.sha256 if self.content else content.sha256
        digests = [digest for digest in (before, *self.earlier) if digest != content.sha256]
        return Record(mtime_ns, content, tuple(digests[:MAX_EARLIER]))


class AccessKey(NamedTuple):
    """The fingerprint of a credential, a kind of request, and a namespace."""

    fingerprint: str
    kind: str
    namespace: str


class Order(enum.Enum):
    """The orders in which programs access the files of a folder.

    Measured: ``cp -r`` uses the order of inodes; ``ls``, ``tar``, ``find`` and ``zip`` that of the
    directory, which is the same here; ``rsync`` and ``rclone`` that of names.
    """

    INODE = "inode"
    NAME = "name"

    def key(self, invoice: Invoice) -> tuple[int, str]:
        """Return the sort key of an invoice, which is unique."""
        if self is Order.INODE:
            return invoice.inode, invoice.name
        return 0, invoice.file_name


@dataclass(frozen=True)
class Listing:
    """The invoices of a namespace, in the order in which directories show them.

    `invoices` is sorted by inode, and so by period; `by_file_name` has the same invoices.
    """

    invoices: tuple[Invoice, ...] = ()

    @classmethod
    def of(cls, invoices: Sequence[Invoice]) -> "Listing":
        """Return the listing of these invoices, which may be in any order.

        If several have the same name, one is chosen, whatever their order: a draft before a final
        invoice.
        """
        by_name: dict[str, Invoice] = {}
        for invoice in invoices:
            other = by_name.setdefault(invoice.name, invoice)
            if other is not invoice:
                by_name[invoice.name] = min(other, invoice, key=_duplicate_rank)
        return cls(tuple(sorted(by_name.values(), key=Order.INODE.key)))

    @cached_property
    def by_file_name(self) -> Mapping[str, Invoice]:
        """The invoices by the names of their files."""
        return MappingProxyType({invoice.file_name: invoice for invoice in self.invoices})

    def in_order(self, order: Order) -> tuple[Invoice, ...]:
        """Return the invoices in this order."""
        return self.invoices if order is Order.INODE else self._in_order_of_names

    def position(self, invoice: Invoice, order: Order) -> int | None:
        """Return the position of an invoice in this order, or None if it is not listed."""
        sequence = self.in_order(order)
        if order is Order.INODE:
            position = bisect_left(self._inodes, invoice.inode)
        else:
            position = bisect_left(self._file_names, invoice.file_name)
        # Several invoices may have the same inode: its hash has only 48 bits.
        for found in range(position, len(sequence)):
            if sequence[found].name == invoice.name:
                return found
            if sequence[found].inode != invoice.inode:
                break
        return None

    @cached_property
    def _inodes(self) -> "array[int]":
        return array("Q", (invoice.inode for invoice in self.invoices))

    @cached_property
    def _file_names(self) -> tuple[str, ...]:
        return tuple(invoice.file_name for invoice in self._in_order_of_names)

    @cached_property
    def _in_order_of_names(self) -> tuple[Invoice, ...]:
        return tuple(sorted(self.invoices, key=Order.NAME.key))

    def succeeded_by(self, newer: "Listing") -> "Listing":
        """Return the newer listing, completed with final invoices and statuses that it lacks.

        A final invoice never disappears, so a listing without it is incomplete. Where the newer
        listing has no valid status, the previous status is kept.
        """
        before = {invoice.name: invoice for invoice in self.invoices}
        invoices = [
            _with_status_of(before.get(invoice.name), invoice) for invoice in newer.invoices
        ]
        named = {invoice.name for invoice in newer.invoices}
        kept = [
            invoice for invoice in self.invoices if not invoice.active and invoice.name not in named
        ]
        is_whole = not kept and all(map(operator.is_, invoices, newer.invoices))
        return newer if is_whole else Listing.of([*invoices, *kept])

    def only(self, statuses: frozenset[str]) -> "Listing":
        """Return the invoices with one of these statuses, or all if `statuses` is empty.

        An invoice without a valid status is included, because archives would lack it otherwise.
        """
        if not statuses:
            return self
        shown = statuses | {UNKNOWN_STATUS}
        return Listing(tuple(invoice for invoice in self.invoices if invoice.status in shown))


class Attributes(NamedTuple):
    """The attributes of a file or directory, except those that the whole mount shares."""

    inode: int
    mtime_ns: int
    is_directory: bool = False
    size_bytes: int = 0
    blocks: int = 0
    links: int = 1


@dataclass(frozen=True, slots=True)
class Content:
    """The whole PDF of an invoice, with its record."""

    record: Record
    pdf: bytes = field(repr=False)


class Bytes(Protocol):
    """Something that can be sliced like ``bytes``, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


class SpilledBytes(Bytes, Protocol):
    """Bytes that are on disk until they are closed."""

    def close(self) -> None:
        """Free the space on disk."""


@dataclass(frozen=True, slots=True)
class OpenContent:
    """Content with open handles; its bytes may be on disk."""

    record: Record
    pdf: Bytes = field(repr=False)


def is_whole_pdf(pdf: bytes) -> bool:
    """Return whether the bytes begin and end like a PDF, as viewers expect.

    ISO 32000-1, annex H: the header may be anywhere in the first 1024 bytes, and the end marker
    anywhere in the last 1024.
    """
    return b"%PDF-" in pdf[:_PDF_MARGIN_BYTES] and b"%%EOF" in pdf[-_PDF_MARGIN_BYTES:]


def unlisted_invoice(namespace: str, name: str) -> Invoice:
    """Return an invoice of which only the name is known, so it counts as a draft."""
    return Invoice(namespace, name, active=True)


def namespace_inode(namespace: str) -> int:
    """Return the inode of a directory, which is below those of invoices that have a period."""
    return _inode_hash(namespace)


@lru_cache(4096)
def _folder_of(namespace: str) -> str:
    return names.directory_name(namespace) or names.file_name(namespace)


@lru_cache(4096)  # many invoices have the same periods
def _days(*period: str) -> int:
    """Return the days since 1970 of the first valid one of these times, else 0."""
    period_ns = next((ns for ns in map(parse_time_ns, period) if ns is not None), 0)
    return min(max(period_ns // NS_PER_S // _S_PER_DAY, 0), _MAX_DAYS)


@lru_cache(4096)
def _version(*fields: object) -> str:
    return _digest(*map(str, fields)).hex()[:16]


def _with_status_of(before: Invoice | None, invoice: Invoice) -> Invoice:
    if before is None or invoice.status != UNKNOWN_STATUS or before.status == UNKNOWN_STATUS:
        return invoice
    return replace(invoice, status=before.status)


def _duplicate_rank(invoice: Invoice) -> tuple[bool, str, str]:
    return not invoice.active, invoice.version, invoice.currency


def _inode_hash(*parts: str) -> int:
    # 0 means "no entry" in a directory, and 1 is the root.
    return max(2, int.from_bytes(_digest(*parts)[: _HASH_BITS // 8], "big"))


def _digest(*parts: str) -> bytes:
    # The same as json.dumps(parts), which takes twice as long.
    text = f"[{', '.join(map(json.dumps, parts))}]"
    return hashlib.sha256(text.encode()).digest()
