"""What exists: the namespaces of a tenant and the invoices listed in each.

Invariants:

1. An API failure never makes anything look absent. After a failure the last good list is used,
   also one from before a remount; where a name is not in it, the failure is what is reported,
   never `NotFound`. Only 401 and 403 are reported although there is a list.
2. A final invoice that was listed once stays listed, whatever later answers leave out, be it
   the invoice or its whole namespace.
3. A list is asked for at most once per `list_ttl_s`, and for the sake of a name that it does not
   have at most once per `UNLISTED_RECHECK_S`.
4. Names that can be neither an invoice nor a namespace cost no call.

Threading: what is known lies in `snapshots`. Two refreshes of one list never overlap, because the
fetcher makes one call per key at a time. `_denied_s` changes by single assignments.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from invoicefs import names
from invoicefs.clock import Clock, Deadline
from invoicefs.errors import Denied, InvoicefsError, NotFound, Unauthenticated, UnusableAnswer
from invoicefs.library.access import INVOICES, NAMESPACES, Access
from invoicefs.library.listing_cache import (
    NO_NAMESPACES,
    Listed,
    ListingCache,
    ListStore,
    Namespaces,
)
from invoicefs.model import Invoice, Listing, NamespaceList, unlisted_invoice
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler

log = logging.getLogger(__name__)

UNLISTED_RECHECK_S = 5.0

T = TypeVar("T")


class ListApi(Protocol):
    """The calls that list."""

    def namespaces(self, deadline: Deadline) -> NamespaceList:
        """List the namespaces."""

    def invoices(self, namespace: str, deadline: Deadline) -> tuple[Invoice, ...]:
        """List all invoices of a namespace."""


@dataclass(frozen=True, slots=True)
class View:
    """What a mount shows of a tenant; empty means all."""

    namespaces: tuple[str, ...] = ()
    statuses: frozenset[str] = frozenset()


class Listings:
    """The lists of one tenant, kept fresh on demand.

    `learn` is called with every listing before it is shown, in a thread that may use the store.
    """

    def __init__(
        self,
        api: ListApi,
        store: ListStore,
        scheduler: Scheduler,
        clock: Clock,
        *,
        view: View,
        list_ttl_s: float,
        learn: Callable[[Listing], None],
        disk: DiskThreads,
        access: Access,
    ) -> None:
        self._api = api
        self._access = access
        self._scheduler = scheduler
        self._clock = clock
        self._view = view
        self._list_ttl_s = list_ttl_s
        self._cache = ListingCache(store, disk, view.statuses, learn)
        self._denied_s: dict[str, float] = {}

    def refill_store(self) -> bool:
        """Keep the lists that the store has lost. Returns False where the disk cannot take them."""
        return self._cache.refill_store()

    def listings(self) -> tuple[Listing, ...]:
        """All listings that are in memory."""
        return tuple(listed.everything for listed in self._cache.listed())

    # Namespaces.

    def first_contact(self, deadline: Deadline) -> tuple[str, ...]:
        """Ask for the namespaces now; raises whatever the call brings, also with a list known."""
        return self._fetch_namespaces(deadline).names

    @property
    def is_known(self) -> bool:
        """Whether the tenant has been listed before, in this mount or an earlier one."""
        if self._access.has_seen(NAMESPACES) and self._cache.namespaces().by_directory:
            return True
        return any(
            self._access.has_seen(INVOICES, namespace) and self._cache.listing(namespace)
            for namespace in self._view.namespaces
        )

    def namespaces(self, deadline: Deadline) -> tuple[str, ...]:
        """The namespaces that the mount shows."""
        if self._view.namespaces:
            return self._view.namespaces
        known = self._known_namespaces()
        if not self._is_fresh(known.fetched_s, self._list_ttl_s):
            try:
                known = self._fetch_namespaces(deadline)
            except Denied:
                raise
            except InvoicefsError as error:
                if not self._access.may_see(NAMESPACES):
                    raise
                known = self._known_namespaces()
                if not known.by_directory:
                    raise
                log.warning("The last good list of namespaces is shown: %s", error)
        return known.names

    def namespace_count(self) -> int:
        """How many namespaces the last list has; no call."""
        return len(self._view.namespaces or self._cache.namespaces().by_directory)

    def namespace(self, directory: str, deadline: Deadline) -> str:
        """The namespace that a directory stands for; raises `NotFound` where it is none."""
        if self._view.namespaces:
            if directory in self._view.namespaces:
                return directory
            raise NotFound(f"{directory} is not among the namespaces of this mount")
        known = self._known_namespaces().by_directory.get(directory)
        if known is not None:
            return known
        if not names.can_be_namespace(directory):
            raise NotFound(f"{directory} is not a namespace")
        return self._unlisted_namespace(directory, deadline)

    def _unlisted_namespace(self, directory: str, deadline: Deadline) -> str:
        """Look for a namespace in a fresh list; where none is to be had, believe in the name."""
        if self._was_denied(_NAMESPACES):
            return directory
        known = self._known_namespaces()
        if not self._is_fresh(known.fetched_s, UNLISTED_RECHECK_S):
            try:
                known = self._fetch_namespaces(deadline)
            except Unauthenticated:
                raise
            except Denied:
                return directory
        if directory in known.by_directory:
            return known.by_directory[directory]
        if known.is_partial:
            raise UnusableAnswer(f"the server could not say whether there is a {directory}")
        raise NotFound(f"there is no namespace {directory}")

    def _fetch_namespaces(self, deadline: Deadline) -> Namespaces:
        return self._fetch(_NAMESPACES, "namespaces", self._refresh_namespaces, deadline)

    def _refresh_namespaces(self, deadline: Deadline) -> Namespaces:
        self._cache.namespaces_by_now()  # what is shown if the call fails
        try:
            answer = self._api.namespaces(deadline)
        except NotFound as error:
            raise UnusableAnswer(f"there is no list of namespaces: {error}") from error
        known = self._cache.namespaces_by_now().names
        found = answer.names
        if known and not found:
            raise UnusableAnswer("the server lists no namespace at all")
        if answer.is_partial:
            log.warning("The server could list only a part of the namespaces.")
            found = tuple(dict.fromkeys((*found, *known)))
        listed = frozenset(found)
        vanished = [name for name in known if name not in listed]
        found += tuple(filter(self._has_final_invoices, vanished))
        return self._cache.replace_namespaces(
            found, fetched_s=self._clock.monotonic_s(), is_partial=answer.is_partial
        )

    def _has_final_invoices(self, namespace: str) -> bool:
        """Whether a namespace that is no longer listed must stay for what was listed in it."""
        known = self._cache.listing_by_now(namespace)
        return known is not None and any(not each.active for each in known.everything.invoices)

    def listed_namespaces(self) -> tuple[str, ...]:
        """The namespaces that have been listed; no call."""
        return self._cache.listed_namespaces()

    def refresh(self, namespace: str, deadline: Deadline) -> None:
        """List a namespace again now; raises what that brings."""
        self._fetch_listing(namespace, deadline)

    def refresh_all(self, deadline: Deadline) -> None:
        """List again now what has been listed; raises what one of them brings, after all of them.

        A namespace that is gone has nothing to list, and is no failure.
        """
        fetches: list[Callable[[], object]] = [
            partial(self._fetch_listing, each, deadline) for each in self.listed_namespaces()
        ]
        if not self._view.namespaces:
            fetches.insert(0, partial(self._fetch_namespaces, deadline))
        failure: InvoicefsError | None = None
        for fetch in fetches:
            try:
                fetch()
            except NotFound:
                continue
            except InvoicefsError as error:
                failure = failure or error
        if failure:
            raise failure

    # Invoices.

    def listing(self, namespace: str, deadline: Deadline) -> Listing:
        """The invoices that the mount shows of a namespace."""
        return self._listed(namespace, deadline).shown

    def last_listing(self, namespace: str) -> Listing:
        """The last listing of a namespace, empty where there is none; no call."""
        known = self._known_listing(namespace)
        return known.shown if known else Listing()

    def last_listed(self, directory: str, file_name: str) -> Invoice | None:
        """The invoice that the last listing shows under these names, if any; no call."""
        namespace = self._cache.namespaces().by_directory.get(directory, directory)
        return self.last_listing(namespace).by_file_name.get(file_name)

    def shown(self) -> tuple[Listing, ...]:
        """What the last listings show; no call."""
        return tuple(listed.shown for listed in self._cache.listed())

    def invoice_count(self) -> int:
        """How many invoices the last listings have; no call."""
        return sum(len(listed.shown.invoices) for listed in self._cache.listed())

    def invoice(self, namespace: str, file_name: str, deadline: Deadline) -> tuple[Invoice, bool]:
        """The invoice that a file stands for, and whether a listing vouches for it.

        Where listing is forbidden, an invoice that was listed before is vouched for, and any
        other possible name gets an invoice that nobody vouches for. Raises `NotFound` for names
        that no invoice has.
        """
        if not file_name.endswith(names.SUFFIX):
            raise NotFound(f"{file_name} is not an invoice")
        try:
            if self._was_denied(namespace):
                raise Denied("listing is forbidden")
            return self._listed_invoice(namespace, file_name, deadline), True
        except Unauthenticated:
            raise
        except Denied:
            return self._unlisted_invoice(namespace, file_name)

    def _listed_invoice(self, namespace: str, file_name: str, deadline: Deadline) -> Invoice:
        listed = self._listed(namespace, deadline)
        if self._may_have_appeared(listed, file_name):
            listed = self._fetch_listing(namespace, deadline)
        return self._shown(listed, file_name)

    def _shown(self, listed: Listed, file_name: str) -> Invoice:
        invoice = listed.shown.by_file_name.get(file_name)
        if invoice is None:
            raise NotFound(f"there is no invoice {file_name}")
        return invoice

    def _may_have_appeared(self, listed: Listed, file_name: str) -> bool:
        return (
            file_name not in listed.everything.by_file_name
            and (names.can_be_unlisted_invoice(file_name) or names.is_cut(file_name))
            and not self._is_fresh(listed.fetched_s, UNLISTED_RECHECK_S)
        )

    def _unlisted_invoice(self, namespace: str, file_name: str) -> tuple[Invoice, bool]:
        listed_before = self._known_listing(namespace)
        if listed_before is not None and file_name in listed_before.everything.by_file_name:
            return self._shown(listed_before, file_name), True
        name = names.invoice_name(file_name)
        if name is None or not names.can_be_unlisted_invoice(file_name):
            raise NotFound(f"{file_name} is not an invoice")
        return unlisted_invoice(namespace, name), False

    def _listed(self, namespace: str, deadline: Deadline) -> Listed:
        known = self._known_listing(namespace)
        if known is not None and self._is_fresh(known.fetched_s, self._list_ttl_s):
            return known
        try:
            return self._fetch_listing(namespace, deadline)
        except Denied:
            raise
        except InvoicefsError as error:
            if not self._access.may_see(INVOICES, namespace):
                raise
            known = self._known_listing(namespace)
            if known is None:
                raise
            log.warning("The last good list of %s is shown: %s", namespace, error)
            return known

    def _fetch_listing(self, namespace: str, deadline: Deadline) -> Listed:
        try:
            return self._fetch(
                namespace,
                "invoices",
                lambda until: self._refresh_listing(namespace, until),
                deadline,
            )
        except NotFound as error:
            if self._is_listed(namespace):
                raise UnusableAnswer(f"a namespace that is listed has no list: {error}") from error
            raise

    def _refresh_listing(self, namespace: str, deadline: Deadline) -> Listed:
        self._cache.listing_by_now(namespace)  # what is shown if the call fails
        listing = Listing.of(self._api.invoices(namespace, deadline))
        known = self._cache.listing_by_now(namespace)
        if known is not None:
            if known.everything.invoices and not listing.invoices:
                raise UnusableAnswer(f"the server lists no invoice at all in {namespace}")
            listing = known.everything.succeeded_by(listing)
        return self._cache.replace_listing(namespace, listing, fetched_s=self._clock.monotonic_s())

    def _is_listed(self, namespace: str) -> bool:
        directory = names.directory_name(namespace) or namespace
        return directory in self._cache.namespaces().by_directory

    # Both.

    def _known_namespaces(self) -> Namespaces:
        """The last list of namespaces, as far as the credential has ever seen one."""
        return self._cache.namespaces() if self._access.has_seen(NAMESPACES) else NO_NAMESPACES

    def _known_listing(self, namespace: str) -> Listed | None:
        """The last listing of a namespace, if the credential has ever seen one."""
        if not self._access.has_seen(INVOICES, namespace):
            return None
        return self._cache.listing(namespace)

    def _fetch(self, name: str, kind: str, call: Callable[[Deadline], T], deadline: Deadline) -> T:
        """Make a call, and remember a 403: looking up single names need not run into it again."""
        try:
            result = self._scheduler.fetch(f"{kind}/{name}", kind, call, deadline)
        except Unauthenticated:
            raise
        except Denied:
            self._denied_s[name] = self._clock.monotonic_s()
            raise
        self._denied_s.pop(name, None)
        return result

    def _was_denied(self, name: str) -> bool:
        return self._is_fresh(self._denied_s.get(name), self._list_ttl_s)

    def _is_fresh(self, moment_s: float | None, max_age_s: float) -> bool:
        return moment_s is not None and self._clock.monotonic_s() - moment_s < max_age_s


_NAMESPACES = ""  # among the names of lists, the list of namespaces; no namespace has it
