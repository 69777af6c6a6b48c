"""The invoices of each namespace, as the API lists them.

Invariants:

1. A final invoice that was listed never vanishes: a listing without it is incomplete.
2. An empty listing does not replace one with invoices.
3. Where listing is forbidden (403), an invoice may exist under any valid name; only a PDF request
   can determine whether it does. Names that were listed before still count as listed.

Threading: `Listings` has no state of its own; see `listing_cache`. Refreshes of one namespace never
overlap, because the scheduler runs one job per key at a time.
"""

import logging
import math
from collections.abc import Callable, Mapping

from invoicefs import names
from invoicefs.clock import Clock, Deadline
from invoicefs.errors import Denied, InvoicefsError, NotFound, Unauthenticated, UnusableResponse
from invoicefs.library.access import INVOICES, Access
from invoicefs.library.http_caches import fetch_list, must_bypass_caches
from invoicefs.library.listing_cache import ListingCache, ListingSnapshot
from invoicefs.library.namespaces import UNLISTED_RECHECK_S, Namespaces
from invoicefs.library.ports import Api
from invoicefs.library.results import OrLast
from invoicefs.model import Invoice, Listing, unlisted_invoice
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings

log = logging.getLogger(__name__)


class Listings:
    """The listings of a tenant's namespaces, refreshed on demand."""

    def __init__(
        self,
        api: Api,
        cache: ListingCache,
        namespaces: Namespaces,
        scheduler: Scheduler,
        clock: Clock,
        settings: Settings,
        access: Access,
    ) -> None:
        self._api = api
        self._cache = cache
        self._namespaces = namespaces
        self._scheduler = scheduler
        self._clock = clock
        self._list_ttl_s = settings.list_ttl_s
        self._access = access

    def listing(self, namespace: str, deadline: Deadline) -> Listing:
        """Return the invoices of a namespace that the mount shows."""
        return self._listed_or_last(namespace, deadline).value.shown

    def listing_or_last(self, namespace: str, deadline: Deadline) -> OrLast[Listing]:
        """Return the invoices that the mount shows, and why they are not up to date, or None."""
        snapshot, failure = self._listed_or_last(namespace, deadline)
        return OrLast(snapshot.shown, failure)

    def invoice(self, namespace: str, file_name: str, deadline: Deadline) -> tuple[Invoice, bool]:
        """Return the invoice with this file name, and whether it has been listed.

        Raises `NotFound` for names that no invoice can have, or that are not listed.
        """
        if not file_name.endswith(names.SUFFIX):
            raise NotFound(f"{file_name} is not an invoice")
        if self._is_forbidden_now(namespace):
            return self._unlisted_invoice(namespace, file_name)
        try:
            return self._listed_invoice(namespace, file_name, deadline), True
        except Unauthenticated:
            raise
        except Denied:
            return self._unlisted_invoice(namespace, file_name)

    def refresh(self, namespace: str, deadline: Deadline) -> None:
        """List a namespace now; raises the error of the request."""
        before = self._cache.in_memory(namespace)
        self._request(namespace, before, deadline, bypass_caches=True)

    def start(self, namespace: str, deadline: Deadline) -> bool:
        """List a namespace in the background, if that is due; see `Scheduler.start`."""
        job = self._job(namespace, self._cache.in_memory(namespace), bypass_caches=False)
        return self._scheduler.start(*job, deadline, lambda: self.is_due(namespace), is_urgent=True)

    def is_due(self, namespace: str) -> bool:
        """Return whether the next access would request the listing; memory only."""
        if self._scheduler.recent_failure(_job_key(namespace), self._list_ttl_s) is not None:
            return False
        last = self._cache.in_memory(namespace)
        return last is None or not last.is_younger_than(self._list_ttl_s, self._clock)

    def requested_listing(self, namespace: str) -> Listing:
        """Return the last listing that this mount has requested, or an empty one; memory only."""
        last = self._cache.in_memory(namespace)
        return Listing() if last is None or last.fetched_s is None else last.shown

    # The last listings; these methods make no request.

    def last_listing(self, namespace: str) -> Listing:
        """Return the last listing of a namespace as it is shown, empty if there is none."""
        last = self._last(namespace)
        return last.shown if last else Listing()

    def last_invoice(self, directory: str, file_name: str) -> Invoice | None:
        """Return the invoice that the last listing shows under these names, or None."""
        namespace = self._namespaces.last_of_directory(directory) or directory
        return self.last_listing(namespace).by_file_name.get(file_name)

    def shown(self) -> tuple[Listing, ...]:
        """Return all last listings as they are shown."""
        return tuple(snapshot.shown for snapshot in self._cache.listed().values())

    def listed_namespaces(self) -> tuple[str, ...]:
        """Return the namespaces that have been listed."""
        return tuple(self._cache.listed())

    def has_listed(self, namespace: str) -> bool:
        """Return whether a namespace was ever listed, by this mount or an earlier one."""
        return self._last(namespace) is not None

    def invoice_count(self) -> int:
        """Return how many invoices the last listings show."""
        return sum(len(listing.invoices) for listing in self.shown())

    def ages_s(self) -> tuple[float, ...]:
        """Return how long ago each listing that this mount has requested came from the API."""
        now_s = self._clock.monotonic_s()
        fetched = (snapshot.fetched_s for snapshot in self._cache.listed().values())
        return tuple(now_s - fetched_s for fetched_s in fetched if fetched_s is not None)

    def failures(self) -> Mapping[str, InvoicefsError]:
        """Return the namespaces whose last request failed after an earlier one had not."""
        return {
            namespace: error
            for namespace, snapshot in self._cache.listed().items()
            if (error := self._scheduler.recent_failure(_job_key(namespace), math.inf))
            and (snapshot.fetched_s is not None or self._access.has_seen(INVOICES, namespace))
            and (not isinstance(error, NotFound) or self._is_in_list(namespace))
        }

    def _is_in_list(self, namespace: str) -> bool:
        directory = names.directory_name(namespace) or namespace
        return self._namespaces.last_of_directory(directory) is not None

    def _listed_invoice(self, namespace: str, file_name: str, deadline: Deadline) -> Invoice:
        snapshot = self._listed_or_last(namespace, deadline, file_name).value
        is_young = snapshot.is_younger_than(UNLISTED_RECHECK_S, self._clock)
        if not is_young and _may_be_new(file_name, snapshot):
            snapshot = self._request(namespace, snapshot, deadline, bypass_caches=True)
        return _shown_in(snapshot, file_name)

    def _unlisted_invoice(self, namespace: str, file_name: str) -> tuple[Invoice, bool]:
        listed_before = self._last(namespace)
        if listed_before is not None and file_name in listed_before.everything.by_file_name:
            return _shown_in(listed_before, file_name), True
        name = names.invoice_name(file_name)
        if name is None or not names.can_be_unlisted_invoice(file_name):
            raise NotFound(f"{file_name} is not an invoice")
        return unlisted_invoice(namespace, name), False

    def _listed_or_last(
        self, namespace: str, deadline: Deadline, file_name: str | None = None
    ) -> OrLast[ListingSnapshot]:
        """Return the listing, or the last good one; `file_name` is the invoice that is sought."""
        last = self._last(namespace)
        if last is not None and last.is_younger_than(self._list_ttl_s, self._clock):
            return OrLast(last)
        is_new = file_name is not None and _may_be_new(file_name, last)
        try:
            return OrLast(self._request(namespace, last, deadline, bypass_caches=is_new))
        except Denied:
            raise
        except InvoicefsError as error:
            if not self._access.may_see(INVOICES, namespace):
                raise
            last = self._last(namespace)
            if last is None:
                raise
            log.warning("The last good listing of %s is shown: %s", namespace, error)
            return OrLast(last, error)

    def _job(
        self, namespace: str, before: ListingSnapshot | None, *, bypass_caches: bool
    ) -> tuple[str, str, Callable[[Deadline], ListingSnapshot]]:
        """Return key, kind and function of the job that replaces the listing `before`."""

        def refreshed(deadline: Deadline) -> ListingSnapshot:
            last = self._last(namespace)
            if last is not None and last.is_refreshed(before, bypass_caches=bypass_caches):
                return last  # by a job that ended just before this one was queued
            return self._fetch_and_merge(namespace, deadline, bypass_caches)

        return _job_key(namespace), "invoices", refreshed

    def _request(
        self,
        namespace: str,
        before: ListingSnapshot | None,
        deadline: Deadline,
        *,
        bypass_caches: bool,
    ) -> ListingSnapshot:
        """Replace the listing `before`; raises the error of the request."""
        job = self._job(namespace, before, bypass_caches=bypass_caches)
        try:
            return fetch_list(
                lambda: self._scheduler.fetch(*job, deadline, is_urgent=True),
                bypass_caches=bypass_caches,
            )
        except NotFound as error:
            if self._is_in_list(namespace):
                raise UnusableResponse(
                    f"the server lists the namespace, but not its invoices: {error}"
                ) from error
            raise

    def _fetch_and_merge(
        self, namespace: str, deadline: Deadline, bypass_caches: bool
    ) -> ListingSnapshot:
        self._cache.reread_listing(namespace)  # this listing is shown if the request fails
        bypass_caches |= must_bypass_caches(self._scheduler, _job_key(namespace), self._list_ttl_s)
        listing = Listing.of(self._api.invoices(namespace, deadline, bypass_caches=bypass_caches))
        before = self._cache.reread_listing(namespace)
        if before is not None:
            if before.everything.invoices and not listing.invoices:
                raise UnusableResponse(f"the server lists no invoice at all in {namespace}")
            listing = before.everything.succeeded_by(listing)
        now_s = self._clock.monotonic_s()
        return self._cache.replace_listing(
            namespace, listing, fetched_s=now_s, bypassed_caches=bypass_caches
        )

    def _is_forbidden_now(self, namespace: str) -> bool:
        """Return whether a listing was refused too recently for another request to be useful."""
        failure = self._scheduler.recent_failure(_job_key(namespace), self._list_ttl_s)
        return isinstance(failure, Denied) and not isinstance(failure, Unauthenticated)

    def _last(self, namespace: str) -> ListingSnapshot | None:
        """Return the last listing, if the credential has ever been allowed one."""
        if not self._access.has_seen(INVOICES, namespace):
            return None
        return self._cache.listing(namespace)


def _job_key(namespace: str) -> str:
    return f"invoices/{namespace}"


def _may_be_new(file_name: str, last: ListingSnapshot | None) -> bool:
    """Return whether an invoice with this name may exist although the last list lacks it."""
    is_known = last is not None and file_name in last.everything.by_file_name
    return not is_known and (names.can_be_unlisted_invoice(file_name) or names.is_cut(file_name))


def _shown_in(snapshot: ListingSnapshot, file_name: str) -> Invoice:
    invoice = snapshot.shown.by_file_name.get(file_name)
    if invoice is None:
        raise NotFound(f"there is no invoice {file_name}")
    return invoice
