"""The centre: what exists, what it looks like, and its bytes, by the paths of the mount.

It joins the `Listings` (what exists) and the `Pdfs` (what it looks like and holds), and knows
no FUSE. Every operation has one deadline, everything included. All errors come from `attributes`,
`directory` and `open`: what they return is whole and in memory, so reading it cannot fail.

Threading: every method may be called from many threads at once, also from threads that do not
stay, like FUSE callbacks: the store is read in the threads of `disk` only. `_open_errors` changes
by single assignments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from invoicefs.clock import NS_PER_S, Clock, Deadline
from invoicefs.errors import InvoicefsError, NameTooLong, NotFound
from invoicefs.kernel import xattrs
from invoicefs.library.access import Access, AccessStore
from invoicefs.library.listing_cache import ListStore
from invoicefs.library.listings import ListApi, Listings, View
from invoicefs.library.pdfs import ContentStore, PdfApi, Pdfs
from invoicefs.library.read_ahead import ReadAhead
from invoicefs.library.stat_downloads import StatDownloads
from invoicefs.model import (
    BLOCK_BYTES,
    ROOT_INODE,
    Attributes,
    Invoice,
    OpenContent,
    namespace_inode,
    unlisted_invoice,
)
from invoicefs.names import directory_name, invoice_name, is_too_long
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler

DIRECTORY_BYTES = 4096
_KERNEL_MEMORY_S = 5  # it asks again after 1 s (entry_timeout); the rest is for slow machines


class LibraryApi(ListApi, PdfApi, Protocol):
    """The calls that a library makes."""


class LibraryStore(ListStore, ContentStore, AccessStore, Protocol):
    """Where a library keeps things across remounts."""

    def when_lost(self, refill: Callable[[], bool]) -> None:
        """Have this called when listings and records that were kept have been lost.

        In whatever thread notices that. It may use the store, and says whether it could keep all
        once more; else it is called again later.
        """


@dataclass(frozen=True, slots=True)
class Policy:
    """How fresh things have to be, how large and how late they may be, and when they are fetched.

    Ahead of a walk of opens through a namespace up to `read_ahead` invoices are fetched.
    `fetches_on_stat` where every ``stat`` waits for the size; ahead of a walk of ``stat`` up to
    `largest_window` are fetched then.
    """

    timeout_s: float
    list_ttl_s: float
    active_ttl_s: float
    max_pdf_size_bytes: int
    fetches_on_stat: bool
    largest_window: int
    read_ahead: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory."""

    name: str
    inode: int
    is_directory: bool = False


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """An invoice whose content is pinned until it is released.

    `is_young` where the kernel may be between the size before its download and that after it.
    """

    invoice: Invoice
    content: OpenContent
    is_young: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What ``statfs`` shows: the sum of the sizes that are known, and the number of names."""

    size_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What is known and what was done, in numbers; `open` counts invoices that are open now."""

    namespaces: int
    invoices: int
    fetched: int
    fetched_bytes: int
    open: int
    downloads: int
    hits: int


class Library:
    """The invoices of one tenant as paths: ``/``, ``/NAMESPACE``, ``/NAMESPACE/NAME.pdf``."""

    def __init__(
        self,
        api: LibraryApi,
        store: LibraryStore,
        scheduler: Scheduler,
        clock: Clock,
        *,
        view: View,
        policy: Policy,
        disk: DiskThreads,
        access: Access,
    ) -> None:
        self._clock = clock
        self._access = access
        self._timeout_s = policy.timeout_s
        self._open_errors: dict[str, str] = {}
        self._pdfs = Pdfs(
            api,
            store,
            scheduler,
            clock,
            active_ttl_s=policy.active_ttl_s,
            max_pdf_size_bytes=policy.max_pdf_size_bytes,
            disk=disk,
            access=access,
        )
        self._read_ahead = ReadAhead(
            self._pdfs.bring_ahead,
            self._pdfs.is_wanted_ahead,
            clock,
            largest_window=policy.read_ahead,
            timeout_s=policy.timeout_s,
        )
        self._stat_downloads = StatDownloads(
            self._pdfs,
            clock,
            is_eager=policy.fetches_on_stat,
            largest_window=policy.largest_window,
            timeout_s=policy.timeout_s,
        )
        self._listings = Listings(
            api,
            store,
            scheduler,
            clock,
            view=view,
            list_ttl_s=policy.list_ttl_s,
            learn=self._pdfs.learn,
            disk=disk,
            access=access,
        )

        store.when_lost(self._refill_store)

    def first_contact(self) -> tuple[str, ...]:
        """Ask the API for its namespaces now; raises whatever the call brings."""
        return self._listings.first_contact(self._deadline())

    @property
    def is_known(self) -> bool:
        """Whether this tenant has been listed before, in this mount or an earlier one."""
        return self._listings.is_known

    def lookup(self, path: str) -> Attributes:
        """What is known of a path, if it exists; waits for no download of a listed invoice."""
        return self._attributes(path, waits=False)

    def attributes(self, path: str) -> Attributes:
        """What ``stat`` shows of a path."""
        return self._attributes(path, waits=True)

    def directory(self, path: str) -> tuple[Entry, ...]:
        """The names in a directory, without ``.`` and ``..``, in the order of their inodes."""
        deadline = self._deadline()
        match _parts(path):
            case []:
                entries = map(_namespace_entry, self._listings.namespaces(deadline))
                return tuple(sorted(entries, key=lambda entry: entry.inode))
            case [directory]:
                namespace = self._listings.namespace(directory, deadline)
                listing = self._listings.listing(namespace, deadline)
                return tuple(
                    Entry(name, invoice.inode) for name, invoice in listing.by_file_name.items()
                )
            case _:
                raise NotFound(f"{path} is not a directory")

    def open(self, path: str) -> OpenInvoice:
        """The whole content of an invoice, pinned: give it back with `release`."""
        try:
            opened = self._open(path, self._deadline())
        except InvoicefsError as error:
            self._open_errors[path] = str(error)
            raise
        self._open_errors.pop(path, None)
        return opened

    def release(self, opened: OpenInvoice) -> None:
        """Give back what `open` gave."""
        self._pdfs.release(opened.invoice)

    def open_attributes(self, opened: OpenInvoice) -> Attributes:
        """What ``fstat`` shows of an open invoice."""
        return self._pdfs.attributes(opened.invoice)

    def extended_attributes(self, path: str) -> Mapping[str, bytes]:
        """What is known of an invoice, by the names of `xattrs`; no call."""
        match _parts(path):
            case [directory, name]:
                return self._described(directory, name)
            case _:
                return {}

    def open_error(self, path: str) -> str | None:
        """Why the last open of a path failed, in words; None where it did not."""
        return self._open_errors.get(path)

    def usage(self) -> Usage:
        """What is known of the size of it all; no call."""
        files = 1 + self._listings.namespace_count() + self._listings.invoice_count()
        return Usage(self._pdfs.known_size_bytes(), files)

    def counts(self) -> Counts:
        """What is known and what was done; no call."""
        invoices = [each for listing in self._listings.shown() for each in listing.invoices]
        sizes_bytes = [self._pdfs.fetched_bytes(each) for each in invoices]
        fetched_bytes = [each for each in sizes_bytes if each is not None]
        return Counts(
            namespaces=self._listings.namespace_count(),
            invoices=len(invoices),
            fetched=len(fetched_bytes),
            fetched_bytes=sum(fetched_bytes),
            open=self._pdfs.open_count,
            downloads=self._pdfs.downloads,
            hits=self._pdfs.hits,
        )

    def dropped(self) -> tuple[str, ...]:
        """The paths of listed invoices that were downloaded once, and are not in the store now.

        Raises `TimedOut` where the disk hangs.
        """
        invoices = (each for listing in self._listings.shown() for each in listing.invoices)
        return tuple(f"/{each.key}" for each in self._pdfs.dropped(invoices))

    def refresh(self, path: str) -> None:
        """List again now, and have active invoices downloaded again when they are next opened.

        All that has been listed, or the namespace that the path is in. Raises what the calls bring,
        and `NotFound` where there is no such path.
        """
        deadline = self._deadline()
        match _parts(path):
            case []:
                for each in self._listings.listed_namespaces():
                    self._pdfs.look_again(each)
                self._listings.refresh_all(deadline)
            case [directory, *names]:
                namespace = self._listings.namespace(directory, deadline)
                self._pdfs.look_again(namespace)
                self._listings.refresh(namespace, deadline)
                if names:
                    self._find(path, deadline)

    def download_again(self, path: str) -> None:
        """Replace what is stored of an invoice by what the API has now; raises what prevents it."""
        deadline = self._deadline()
        invoice, _ = self._find(path, deadline)
        self._pdfs.download_again(invoice, deadline)

    def _refill_store(self) -> bool:
        """Keep again what the store has lost. Returns False where the disk cannot take it."""
        kept = [self._access.refill_store()]
        kept += [self._pdfs.refill_store(listing) for listing in self._listings.listings()]
        return self._listings.refill_store() and all(kept)

    def _open(self, path: str, deadline: Deadline) -> OpenInvoice:
        invoice = self._pdfs.pinned(path.removeprefix("/"))
        if invoice is None:
            invoice, _ = self._find(path, deadline)
        self._read_ahead.visit(invoice, self._listings.last_listing(invoice.namespace))
        content = self._pdfs.open(invoice, deadline)
        return OpenInvoice(invoice, content, self._is_young(content))

    def _described(self, directory: str, name: str) -> Mapping[str, bytes]:
        invoice = self._pdfs.pinned(f"{directory}/{name}")
        invoice = invoice or self._listings.last_listed(directory, name)
        if invoice is not None:
            return {**xattrs.described(invoice), **xattrs.digest(self._pdfs.sha256(invoice))}
        if (unlisted := invoice_name(name)) is not None:
            # Where listing is forbidden, nothing is known but what was downloaded.
            return xattrs.digest(self._pdfs.sha256(unlisted_invoice(directory, unlisted)))
        return {}

    def _attributes(self, path: str, *, waits: bool) -> Attributes:
        match _parts(path):
            case []:
                links = 2 + self._listings.namespace_count()
                return _directory_attributes(ROOT_INODE, mtime_ns=0, links=links)
            case [directory]:
                return self._namespace_attributes(directory)
            case [directory, name]:
                return self._invoice_attributes(directory, name, waits=waits)
            case _:
                raise NotFound(f"{path} is too deep")

    def _is_young(self, content: OpenContent) -> bool:
        """Whether it was downloaded after the kernel may last have asked for the size."""
        facts = content.record.content
        age_ns = self._clock.wall_ns() - facts.fetched_ns if facts else 0
        return not age_ns >= _KERNEL_MEMORY_S * NS_PER_S

    def _namespace_attributes(self, directory: str) -> Attributes:
        # Where something is open, there is a folder, and looks at it do not wait for the API.
        namespace = self._pdfs.pinned_namespace(directory)
        if namespace is None:
            namespace = self._listings.namespace(directory, self._deadline())
        invoices = self._listings.last_listing(namespace).invoices
        newest = self._pdfs.mtime_ns(invoices[-1]) if invoices else 0
        return _directory_attributes(namespace_inode(namespace), newest, links=2)

    def _invoice_attributes(self, directory: str, name: str, *, waits: bool) -> Attributes:
        deadline = self._deadline()
        invoice = self._pdfs.pinned(f"{directory}/{name}")
        if invoice is None:
            invoice, is_vouched_for = self._find(f"/{directory}/{name}", deadline)
            if not is_vouched_for and not self._pdfs.is_stored(invoice):
                # Only the PDF call can tell whether there is such an invoice.
                self._pdfs.bring(invoice, deadline)
            if waits:
                siblings = self._listings.last_listing(invoice.namespace)
                self._stat_downloads.look(invoice, siblings, deadline)
        return self._pdfs.attributes(invoice)

    def _find(self, path: str, deadline: Deadline) -> tuple[Invoice, bool]:
        match _parts(path):
            case [directory, name]:
                namespace = self._listings.namespace(directory, deadline)
                return self._listings.invoice(namespace, name, deadline)
            case _:
                raise NotFound(f"{path} is not an invoice")

    def _deadline(self) -> Deadline:
        return Deadline.after(self._timeout_s, self._clock)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    if any(map(is_too_long, parts)):
        raise NameTooLong("the name is longer than 255 bytes")
    return parts


def _namespace_entry(namespace: str) -> Entry:
    name = directory_name(namespace) or namespace
    return Entry(name, namespace_inode(namespace), is_directory=True)


def _directory_attributes(inode: int, mtime_ns: int, links: int) -> Attributes:
    return Attributes(
        inode=inode,
        mtime_ns=mtime_ns,
        is_directory=True,
        size_bytes=DIRECTORY_BYTES,
        blocks=DIRECTORY_BYTES // BLOCK_BYTES,
        links=links,
    )
