"""What a tenant has: every listed invoice, with what is known of its content. No PDF requests.

Threading: has no state of its own, and reads snapshots without a lock.
"""

from collections.abc import Callable

from invoicefs import names
from invoicefs.clock import Deadline
from invoicefs.library.listings import Listings
from invoicefs.library.namespaces import Namespaces
from invoicefs.library.record_cache import RecordCache
from invoicefs.library.results import ListedInvoice, OrLast
from invoicefs.model import Invoice
from invoicefs.scheduling.disk_threads import DiskThreads


class Inventory:
    """The invoices of a tenant, in the order of the folder.

    `open_error` returns why the last open of a path failed, or None. `deadline` returns the
    deadline of an operation that begins now.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        listings: Listings,
        records: RecordCache,
        open_error: Callable[[str], str | None],
        deadline: Callable[[], Deadline],
        disk: DiskThreads,
    ) -> None:
        self._namespaces = namespaces
        self._listings = listings
        self._records = records
        self._open_error = open_error
        self._deadline = deadline
        self._disk = disk

    def directories(self) -> OrLast[tuple[str, ...]]:
        """Return the directories of the namespaces; raises the error of a failed request."""
        found, failure = self._namespaces.all_or_last(self._deadline())
        return OrLast(tuple(names.directory_name(name) or name for name in found), failure)

    def invoices(self, directory: str) -> OrLast[tuple[ListedInvoice, ...]]:
        """Return the invoices in a directory; raises the error of a failed request.

        Raises `NotFound` if there is no such directory.
        """
        deadline = self._deadline()
        namespace = self._namespaces.of_directory(directory, deadline)
        listing, failure = self._listings.listing_or_last(namespace, deadline)
        # Other mounts with the same cache may have downloaded what this one has not.
        unknown = [
            found.invoice for found in map(self._listed, listing.invoices) if not found.is_current
        ]
        if unknown:
            self._disk.run(lambda: self._records.reread_all(unknown))
        return OrLast(tuple(map(self._listed, listing.invoices)), failure)

    def has_listed(self, directory: str) -> bool:
        """Return whether a directory was ever listed with this credential."""
        return self._listings.has_listed(self._namespaces.last_of_directory(directory) or directory)

    def unpaid_count(self) -> int:
        """Return how many of the invoices in the last listings are unpaid, and have no PDF.

        Reads memory only.
        """
        listed = (
            self._listed(invoice) for shown in self._listings.shown() for invoice in shown.invoices
        )
        return sum(invoice.is_unpaid and not invoice.is_available for invoice in listed)

    def _listed(self, invoice: Invoice) -> ListedInvoice:
        return ListedInvoice(
            invoice, self._records.get(invoice), self._open_error(f"/{invoice.key}")
        )
