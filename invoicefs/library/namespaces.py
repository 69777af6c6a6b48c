"""The namespaces that a mount shows, and the namespace of each directory.

Invariants:

1. A namespace that was listed and has final invoices never vanishes.
2. An incomplete list (empty, or partial according to the API) removes no namespace.
3. Where listing is forbidden (403), any valid name of a namespace is accepted.

Threading: `Namespaces` has no state of its own; see `listing_cache`. Refreshes never overlap,
because the scheduler runs one job per key at a time.
"""

import logging
import math

from invoicefs import names
from invoicefs.clock import Clock, Deadline
from invoicefs.errors import Denied, InvoicefsError, NotFound, Unauthenticated, UnusableResponse
from invoicefs.library.access import NAMESPACES, Access
from invoicefs.library.http_caches import fetch_list, must_bypass_caches
from invoicefs.library.listing_cache import NO_NAMESPACES, ListingCache, NamespaceSnapshot
from invoicefs.library.ports import Api
from invoicefs.library.results import OrLast
from invoicefs.model import Order
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings

log = logging.getLogger(__name__)

UNLISTED_RECHECK_S = 5.0
"""The minimum age of a list at which an unknown name causes another request."""

_JOB_KEY = "namespaces"
_PARTIAL = "the server could list only some of the namespaces"


class Namespaces:
    """The namespaces of a tenant, or those that the settings name, listed on demand."""

    def __init__(
        self,
        api: Api,
        cache: ListingCache,
        scheduler: Scheduler,
        clock: Clock,
        settings: Settings,
        access: Access,
    ) -> None:
        self._api = api
        self._cache = cache
        self._scheduler = scheduler
        self._clock = clock
        chosen = NamespaceSnapshot.of(settings.namespaces)
        self._chosen = chosen if settings.namespaces else None
        self._list_ttl_s = settings.list_ttl_s
        self._access = access

    def list_namespaces(self, deadline: Deadline) -> tuple[str, ...]:
        """List the namespaces now; raises the error of the request even if a list is known."""
        return self._request(self._last(), deadline).names

    @property
    def is_known(self) -> bool:
        """Whether the namespaces have ever been listed, by this mount or an earlier one."""
        return bool(self._last().by_directory)

    @property
    def count(self) -> int:
        """The number of namespaces in the last list, or chosen by the settings; no request."""
        return len((self._chosen or self._cache.namespaces()).by_directory)

    @property
    def failure(self) -> InvoicefsError | None:
        """The error of the last request, if it failed after an earlier one had not."""
        fetched_s = self._cache.namespaces_in_memory().fetched_s
        if fetched_s is None and not self._access.has_seen(NAMESPACES):
            return None
        return self._scheduler.recent_failure(_JOB_KEY, math.inf)

    def all(self, deadline: Deadline) -> tuple[str, ...]:
        """Return the namespaces that the mount shows."""
        return self.all_or_last(deadline).value

    def all_or_last(self, deadline: Deadline) -> OrLast[tuple[str, ...]]:
        """Return the namespaces that the mount shows, and why some may be missing, or None."""
        if self._chosen:
            return OrLast(self._chosen.names)
        last = self._last()
        try:
            if not self._is_younger(last, self._list_ttl_s):
                last = self._request(last, deadline)
        except Denied:
            raise
        except InvoicefsError as error:
            if not self._access.may_see(NAMESPACES):
                raise
            last = self._last()
            if not last.by_directory:
                raise
            log.warning("The last good list of namespaces is shown: %s", error)
            return OrLast(last.names, error)
        return OrLast(last.names, UnusableResponse(_PARTIAL) if last.is_partial else None)

    def of_directory(self, directory: str, deadline: Deadline) -> str:
        """Return the namespace of a directory; raises `NotFound` if there is none."""
        if self._chosen:
            if directory in self._chosen.by_directory:
                return directory
            raise NotFound(f"{directory} is not among the namespaces of this mount")
        listed = self._last().by_directory.get(directory)
        if listed is not None:
            return listed
        if not names.can_be_namespace(directory):
            raise NotFound(f"{directory} is not a namespace")
        return self._unlisted(directory, deadline)

    def last_of_directory(self, directory: str) -> str | None:
        """Return the namespace that the last list has for a directory; makes no request."""
        return self._cache.namespaces().by_directory.get(directory)

    def neighbour(self, namespace: str, order: Order, step: int) -> str | None:
        """Return the namespace that many steps after one in the last list, or None; memory only."""
        shown = self._chosen or self._cache.namespaces_in_memory()
        return shown.neighbour(namespace, order, step)

    def refresh(self, deadline: Deadline) -> None:
        """List the namespaces now, unless the settings name them."""
        if not self._chosen:
            self._request(self._last(), deadline, bypass_caches=True)

    def _unlisted(self, directory: str, deadline: Deadline) -> str:
        """Find a namespace in a fresh list; if listing is forbidden, accept the name."""
        if _is_forbidden(self._scheduler.recent_failure(_JOB_KEY, self._list_ttl_s)):
            return directory
        last = self._last()
        if not self._is_younger(last, UNLISTED_RECHECK_S):
            try:
                last = self._request(last, deadline, bypass_caches=True)
            except Denied as error:
                if _is_forbidden(error):
                    return directory
                raise
        if directory in last.by_directory:
            return last.by_directory[directory]
        if last.is_partial:
            raise UnusableResponse(f"the incomplete list of namespaces does not have {directory}")
        raise NotFound(f"there is no namespace {directory}")

    def _request(
        self, before: NamespaceSnapshot, deadline: Deadline, *, bypass_caches: bool = False
    ) -> NamespaceSnapshot:
        """Replace the list `before`; raises the error of the request."""

        def refreshed(until: Deadline) -> NamespaceSnapshot:
            last = self._last()
            if last.is_refreshed(before, bypass_caches=bypass_caches):
                return last  # by a job that ended just before this one was queued
            return self._fetch_and_merge(until, bypass_caches)

        job = (_JOB_KEY, "namespaces", refreshed)
        return fetch_list(
            lambda: self._scheduler.fetch(*job, deadline, is_urgent=True),
            bypass_caches=bypass_caches,
        )

    def _fetch_and_merge(self, deadline: Deadline, bypass_caches: bool) -> NamespaceSnapshot:
        self._cache.reread_namespaces()  # this list is shown if the request fails
        bypass_caches |= must_bypass_caches(self._scheduler, _JOB_KEY, self._list_ttl_s)
        try:
            answer = self._api.namespaces(deadline, bypass_caches=bypass_caches)
        except NotFound as error:
            raise UnusableResponse(f"there is no list of namespaces: {error}") from error
        before = self._cache.reread_namespaces().names
        found = answer.names
        if before and not found:
            raise UnusableResponse("the server lists no namespace at all")
        if answer.is_partial:
            log.warning("%s.", _PARTIAL.capitalize())
            found = tuple(dict.fromkeys((*found, *before)))
        listed = frozenset(found)
        vanished = [name for name in before if name not in listed]
        found += tuple(filter(self._has_final_invoices, vanished))
        return self._cache.replace_namespaces(
            found,
            fetched_s=self._clock.monotonic_s(),
            bypassed_caches=bypass_caches,
            is_partial=answer.is_partial,
        )

    def _has_final_invoices(self, namespace: str) -> bool:
        listing = self._cache.reread_listing(namespace)
        return listing is not None and any(
            not invoice.active for invoice in listing.everything.invoices
        )

    def _last(self) -> NamespaceSnapshot:
        """Return the last list, if the credential has ever been allowed one."""
        return self._cache.namespaces() if self._access.has_seen(NAMESPACES) else NO_NAMESPACES

    def _is_younger(self, snapshot: NamespaceSnapshot, age_s: float) -> bool:
        return snapshot.is_younger_than(age_s, self._clock)


def _is_forbidden(error: InvoicefsError | None) -> bool:
    return isinstance(error, Denied) and not isinstance(error, Unauthenticated)
