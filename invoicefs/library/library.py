"""The core: directories, attributes and content, by the paths of the mount.

It joins `Namespaces` and `Listings` (which invoices exist) with `Pdfs` (their attributes and
content), and does not know FUSE. Each operation has one deadline for everything it does. Of the
methods for the kernel, only `lookup`, `attributes`, `directory` and `open` make requests; they
return complete results, so reading open content makes no request.

Threading: every method may be called from many threads at once. The disk may hang, so the store is
read in the threads of `disk`, except for `pdf_in_memory`, which needs no disk. `_open_errors`
changes by single assignments.
"""

from collections.abc import Callable
from functools import partial

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import InvoicefsError, NotFound
from invoicefs.library.access import Access
from invoicefs.library.connections_ahead import ConnectionsAhead
from invoicefs.library.directories import (
    Directory,
    NamespaceEntry,
    directory_attributes,
    path_parts,
)
from invoicefs.library.downloads import Downloads
from invoicefs.library.inventory import Inventory
from invoicefs.library.listing_cache import ListingCache
from invoicefs.library.listings import Listings
from invoicefs.library.namespaces import Namespaces
from invoicefs.library.pdfs import Pdfs
from invoicefs.library.ports import Api, Store
from invoicefs.library.read_ahead import InvoicesAhead, ListingsAhead, Tree
from invoicefs.library.record_cache import RecordCache
from invoicefs.library.results import Counts, Description, Found, ListingState, OpenInvoice, Usage
from invoicefs.library.shown_drafts import ShownDrafts
from invoicefs.library.stat_downloads import StatDownloads
from invoicefs.model import (
    ROOT_INODE,
    Attributes,
    Invoice,
    namespace_inode,
    unlisted_invoice,
)
from invoicefs.names import invoice_name
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings


class Library:
    """The invoices of one tenant as paths: ``/``, ``/NAMESPACE``, ``/NAMESPACE/NAME.pdf``.

    `is_caller_killed` returns whether the program that waits for the operation in this thread has
    been killed; the operation then ends with `CallerKilled`. `caller` returns the ID of its thread.
    Only methods for the kernel call them.

    The class has more than 20 methods because it is the only interface of the kernel and the
    control socket; each method is a few lines.
    """

    def __init__(
        self,
        api: Api,
        store: Store,
        scheduler: Scheduler,
        clock: Clock,
        settings: Settings,
        *,
        disk: DiskThreads,
        access: Access,
        is_caller_killed: Callable[[], bool] | None = None,
        caller: Callable[[], int] = lambda: 0,
    ) -> None:
        self._clock = clock
        self._is_caller_killed = is_caller_killed
        self._settings = settings
        self._open_errors: dict[str, str] = {}
        records = RecordCache(store, clock)
        self._downloads = Downloads(
            api, store, scheduler, clock, settings, records, disk=disk, access=access
        )
        self._pdfs = Pdfs(
            store,
            records,
            self._downloads,
            max_pdf_size_bytes=settings.max_pdf_size_bytes,
            disk=disk,
            access=access,
            shown_drafts=ShownDrafts(caller, clock, settings),
        )
        cache = ListingCache(store, disk, settings.statuses, self._pdfs.learn)
        self._namespaces = Namespaces(api, cache, scheduler, clock, settings, access)
        self._listings = Listings(api, cache, self._namespaces, scheduler, clock, settings, access)
        self.inventory = Inventory(
            self._namespaces,
            self._listings,
            records,
            self._open_errors.get,
            self._deadline,
            disk,
        )
        tree = Tree(self._namespaces, self._listings, clock, settings)
        self._listings_ahead = ListingsAhead(tree, largest_window=settings.read_ahead)
        connect = ConnectionsAhead(api, scheduler, clock, settings).open
        self._invoices_ahead = InvoicesAhead(
            tree,
            self._downloads.start_ahead,
            self._pdfs.is_wanted_ahead,
            connect,
            largest_window=settings.read_ahead,
        )
        self._stat_downloads = StatDownloads(
            self._pdfs, self._downloads, tree, connect, clock, settings
        )

    def list_namespaces(self) -> tuple[str, ...]:
        """List the namespaces now; raises the error of the request."""
        return self._namespaces.list_namespaces(self._deadline())

    @property
    def is_known(self) -> bool:
        """Whether this tenant was ever listed, by this mount or an earlier one."""
        return self._namespaces.is_known or any(
            map(self._listings.has_listed, self._settings.namespaces)
        )

    # For the kernel.

    def lookup(self, path: str) -> Found:
        """Return the attributes of a path without waiting for a listed invoice's download."""
        match path_parts(path):
            case [directory, name]:
                invoice = self._pdfs.held(f"{directory}/{name}")
                if invoice is None:
                    invoice = self._existing(directory, name, self._deadline_of_caller())
                found = self._pdfs.stat(invoice)
                is_due = found.has_changed or self._stat_downloads.is_for_every_stat
                return Found(found.attributes, is_due)
            case parts:
                return Found(self._directory_attributes(parts))

    def attributes(self, path: str) -> Attributes:
        """Return what ``stat`` shows for a path."""
        match path_parts(path):
            case [directory, name]:
                invoice = self._pdfs.held(f"{directory}/{name}")
                if invoice is None:
                    deadline = self._deadline_of_caller()
                    invoice = self._existing(directory, name, deadline)
                    self._stat_downloads.stat(invoice, deadline)
                return self._pdfs.stat(invoice).attributes
            case parts:
                return self._directory_attributes(parts)

    def directory(self, path: str) -> Directory:
        """Return the names in a directory."""
        deadline = self._deadline_of_caller()
        match path_parts(path):
            case []:
                self._listings_ahead.visit_root()
                entries = map(NamespaceEntry.of, self._namespaces.all(deadline))
                by_inode = sorted(entries, key=lambda entry: entry.inode)
                return Directory(by_inode, has_directories=True)
            case [directory]:
                namespace = self._namespaces.of_directory(directory, deadline)
                self._listings_ahead.visit(namespace)
                listing = self._listings.listing(namespace, deadline)
                return Directory(listing.invoices, has_directories=False)
            case _:
                raise NotFound(f"{path} is not a directory")

    def open(self, path: str) -> OpenInvoice:
        """Return the whole content of an invoice, pinned until `release`."""
        try:
            opened = self._open(path, self._deadline_of_caller())
        except InvoicefsError as error:
            self._open_errors[path] = str(error)
            raise
        self._open_errors.pop(path, None)
        return opened

    def release(self, opened: OpenInvoice) -> None:
        """Unpin content that `open` returned."""
        self._pdfs.release(opened.invoice)

    def open_attributes(self, opened: OpenInvoice) -> Attributes:
        """Return what ``fstat`` shows for an open invoice."""
        return self._pdfs.attributes(opened.invoice)

    def open_error(self, path: str) -> str | None:
        """Return why the last open of a path failed, or None."""
        return self._open_errors.get(path)

    def description(self, path: str) -> Description:
        """Return the known properties of an invoice; makes no request."""
        match path_parts(path):
            case [directory, name]:
                return self._description(directory, name)
            case _:
                return Description(None, None)

    def usage(self) -> Usage:
        """Return what ``statfs`` shows; makes no request."""
        files = 1 + self._namespaces.count + self._listings.invoice_count()
        return Usage(self._pdfs.known_size_bytes(), files)

    # For the control socket.

    def counts(self) -> Counts:
        """Return the counters of the mount; makes no request."""
        invoices = self._shown_invoices()
        sizes_bytes = [self._pdfs.downloaded_bytes(invoice) for invoice in invoices]
        known_bytes = [size_bytes for size_bytes in sizes_bytes if size_bytes is not None]
        return Counts(
            namespaces=self._namespaces.count,
            invoices=len(invoices),
            fetched=len(known_bytes),
            fetched_bytes=sum(known_bytes),
            not_available=self.inventory.unpaid_count(),
            open=self._pdfs.open_count,
            downloads=self._downloads.count,
            hits=self._downloads.hits,
        )

    def listing_state(self) -> ListingState:
        """Return the age of the listings, and which requests failed last; makes no request."""
        return ListingState(
            self._listings.ages_s(), self._listings.failures(), self._namespaces.failure
        )

    def evicted(self) -> tuple[str, ...]:
        """Return the paths of listed invoices that were downloaded, and have been evicted since.

        Raises `TimedOut` if the disk hangs.
        """
        return tuple(f"/{invoice.key}" for invoice in self._pdfs.evicted(self._shown_invoices()))

    def refresh(self, path: str) -> None:
        """List again now, and make the next open of each draft download it again.

        Refreshes everything that was listed, or the namespace that the path is in. Raises the error
        of a request that failed, or `NotFound` if the path does not exist.
        """
        deadline = self._deadline()
        match path_parts(path):
            case []:
                self._refresh_all(deadline)
            case [directory, *rest]:
                namespace = self._namespaces.of_directory(directory, deadline)
                self._downloads.expire_drafts(namespace)
                self._listings.refresh(namespace, deadline)
                if rest:
                    self._find(path, deadline)

    def download_again(self, path: str) -> None:
        """Download an invoice and replace its cached copy; raises the error if that fails."""
        deadline = self._deadline()
        invoice = self._find(path, deadline)
        self._downloads.replace(invoice, deadline)
        self._pdfs.forget_shown(invoice)

    def _refresh_all(self, deadline: Deadline) -> None:
        """Refresh everything that was listed; raises the first error afterwards.

        A namespace that no longer exists is not a failure.
        """
        listed = self._listings.listed_namespaces()
        for namespace in listed:
            self._downloads.expire_drafts(namespace)
        refreshes: list[Callable[[Deadline], None]] = [
            self._namespaces.refresh,
            *(partial(self._listings.refresh, namespace) for namespace in listed),
        ]
        failure: InvoicefsError | None = None
        for refresh in refreshes:
            try:
                refresh(deadline)
            except NotFound:
                continue
            except InvoicefsError as error:
                failure = failure or error
        if failure:
            raise failure

    def _shown_invoices(self) -> list[Invoice]:
        return [invoice for listing in self._listings.shown() for invoice in listing.invoices]

    def _open(self, path: str, deadline: Deadline) -> OpenInvoice:
        invoice = self._pdfs.held(path.removeprefix("/"))
        if invoice is None:
            invoice = self._find(path, deadline)
        self._invoices_ahead.visit(invoice)
        content = self._pdfs.open(invoice, deadline)
        return OpenInvoice(invoice, content)

    def _description(self, directory: str, name: str) -> Description:
        invoice = self._pdfs.pinned(f"{directory}/{name}")
        invoice = invoice or self._listings.last_invoice(directory, name)
        if invoice is not None:
            return Description(invoice, self._pdfs.sha256(invoice))
        if (unlisted := invoice_name(name)) is not None:
            # Where listing is forbidden, only downloaded invoices are known.
            return Description(None, self._pdfs.sha256(unlisted_invoice(directory, unlisted)))
        return Description(None, None)

    def _directory_attributes(self, parts: list[str]) -> Attributes:
        match parts:
            case []:
                links = 2 + self._namespaces.count
                return directory_attributes(ROOT_INODE, mtime_ns=0, links=links)
            case [directory]:
                return self._namespace_attributes(directory)
            case _:
                raise NotFound(f"{parts[-1]} is too deep")

    def _namespace_attributes(self, directory: str) -> Attributes:
        # A directory in which something is open exists, so a stat of it need not wait for the API.
        namespace = self._pdfs.pinned_namespace(directory)
        if namespace is None:
            namespace = self._namespaces.of_directory(directory, self._deadline_of_caller())
        invoices = self._listings.last_listing(namespace).invoices
        newest_ns = self._pdfs.mtime_ns(invoices[-1]) if invoices else 0
        return directory_attributes(namespace_inode(namespace), newest_ns, links=2)

    def _existing(self, directory: str, name: str, deadline: Deadline) -> Invoice:
        """Return the invoice with these names; raises `NotFound` if there is none."""
        namespace = self._namespaces.of_directory(directory, deadline)
        invoice, is_listed = self._listings.invoice(namespace, name, deadline)
        if not is_listed and not self._pdfs.was_downloaded(invoice):
            # Only a PDF request can determine whether this invoice exists.
            self._downloads.fetch(invoice, deadline)
        return invoice

    def _find(self, path: str, deadline: Deadline) -> Invoice:
        match path_parts(path):
            case [directory, name]:
                namespace = self._namespaces.of_directory(directory, deadline)
                return self._listings.invoice(namespace, name, deadline)[0]
            case _:
                raise NotFound(f"{path} is not an invoice")

    def _deadline(self) -> Deadline:
        return Deadline.after(self._settings.timeout_s, self._clock)

    def _deadline_of_caller(self) -> Deadline:
        """Return the deadline of an operation that also ends if its caller is killed."""
        return Deadline.after(self._settings.timeout_s, self._clock, self._is_caller_killed)
