"""The last lists of a tenant: in memory, and in the store behind it, also from before a remount.

Snapshots are immutable and swapped in one step, so readers take no lock. What is recalled from the
store never replaces what came from the API later; `_lock` sees to that.

The store may be out of reach when it is asked, and back a moment later. So the functions that end
in ``_by_now`` ask it once more for what it may have kept to itself. They are called just before a
list is replaced: else a final invoice that only the store knows of would be lost.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from invoicefs import names
from invoicefs.model import Listing
from invoicefs.scheduling.disk_threads import DiskThreads


class ListStore(Protocol):
    """Where lists are kept across remounts."""

    def namespaces(self) -> tuple[str, ...]:
        """The last good list of namespaces; empty where there is none."""

    def save_namespaces(self, namespaces: Iterable[str]) -> bool:
        """Keep a list of namespaces. Returns False where the disk cannot take it."""

    def listing(self, namespace: str) -> Listing | None:
        """The last good listing of a namespace, or None where there is none."""

    def save_listing(self, namespace: str, listing: Listing) -> bool:
        """Keep the listing of a namespace. Returns False where the disk cannot take it."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The namespaces by the names of their directories, and when they came from the API, if so.

    `is_saved` unless the store could not keep them. `is_partial` where the API said so.
    """

    by_directory: dict[str, str]
    fetched_s: float | None = None
    is_saved: bool = True
    is_partial: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The namespaces in their order."""
        return tuple(self.by_directory.values())


NO_NAMESPACES: Final = Namespaces({})
"""Where nothing has been listed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A listing, the part of it that is shown, and when it came from the API, if it did.

    `is_saved` unless the store could not keep it; then the next refresh tries again.
    """

    everything: Listing
    shown: Listing
    fetched_s: float | None = None
    is_saved: bool = True


class ListingCache:
    """What was listed last; only invoices in one of `statuses` are shown, or all.

    `learn` is called with every listing before it is shown, in a thread that may use the store.
    All but the methods that say otherwise may be called from any thread.
    """

    def __init__(
        self,
        store: ListStore,
        disk: DiskThreads,
        statuses: frozenset[str],
        learn: Callable[[Listing], None],
    ) -> None:
        self._store = store
        self._disk = disk
        self._statuses = statuses
        self._learn = learn
        self._lock = threading.Lock()
        self._namespaces: Namespaces | None = None
        self._listings: dict[str, Listed | None] = {}  # None: the store has none either

    def namespaces(self) -> Namespaces:
        """The last list of namespaces, empty where there is none."""
        if self._namespaces is None:
            self._disk.run(self._recall_namespaces)
        return self._namespaces or NO_NAMESPACES

    def namespaces_by_now(self) -> Namespaces:
        """The same, with what the store has; reads the store in the calling thread."""
        known = self.namespaces()
        if known.fetched_s is not None and known.is_saved:
            return known
        found = dict.fromkeys((*self._store.namespaces(), *known.names))
        known = replace(known, by_directory=_namespaces(found).by_directory)
        with self._lock:
            self._namespaces = known
        return known

    def replace_namespaces(
        self, found: tuple[str, ...], *, fetched_s: float, is_partial: bool
    ) -> Namespaces:
        """Swap in what the API lists now; writes the store in the calling thread."""
        known = self.namespaces()
        is_saved = known.is_saved and found == known.names
        fresh = replace(
            _namespaces(found),
            fetched_s=fetched_s,
            is_saved=is_saved or self._store.save_namespaces(found),
            is_partial=is_partial,
        )
        with self._lock:
            self._namespaces = fresh
        return fresh

    def listing(self, namespace: str) -> Listed | None:
        """The last listing of a namespace, or None where there is none."""
        if namespace not in self._listings:
            self._disk.run(lambda: self._recall_listing(namespace))
        return self._listings.get(namespace)

    def listing_by_now(self, namespace: str) -> Listed | None:
        """The same, with what the store has; reads the store in the calling thread."""
        known = self.listing(namespace)
        if known is not None and known.is_saved:
            return known
        stored = self._store.listing(namespace)
        if stored is None:
            return known
        self._learn(stored)
        if known is None:
            merged = self._listed(stored)
        else:
            everything = stored.succeeded_by(known.everything)
            merged = self._listed(everything, known.fetched_s, is_saved=False)
        with self._lock:
            if self._listings.get(namespace) is known:
                self._listings[namespace] = merged
        return self._listings[namespace]

    def replace_listing(self, namespace: str, listing: Listing, *, fetched_s: float) -> Listed:
        """Swap in what the API lists now; writes the store in the calling thread."""
        known = self.listing(namespace)
        is_saved = False
        if known is not None and known.everything.invoices == listing.invoices:
            listing = known.everything  # so that what has been worked out of it stays
            is_saved = known.is_saved
        self._learn(listing)
        is_saved = is_saved or self._store.save_listing(namespace, listing)
        fresh = self._listed(listing, fetched_s, is_saved)
        with self._lock:
            self._listings[namespace] = fresh
        return fresh

    def listed(self) -> tuple[Listed, ...]:
        """All listings that are in memory."""
        return tuple(filter(None, tuple(self._listings.values())))

    def listed_namespaces(self) -> tuple[str, ...]:
        """The namespaces that have a listing in memory."""
        return tuple(name for name, each in tuple(self._listings.items()) if each)

    def refill_store(self) -> bool:
        """Keep the lists that the store has lost. Returns False where the disk cannot take them.

        Reads and writes the store in the calling thread.
        """
        known = {name: each.everything for name, each in tuple(self._listings.items()) if each}
        kept = [
            self._store.save_listing(namespace, listing)
            for namespace, listing in known.items()
            if self._store.listing(namespace) is None
        ]
        if self._namespaces is not None and not self._store.namespaces():
            kept.append(self._store.save_namespaces(self._namespaces.names))
        return all(kept)

    def _recall_namespaces(self) -> None:
        stored = _namespaces(self._store.namespaces())
        with self._lock:
            # A refresh may have come first, and what it brought counts.
            self._namespaces = self._namespaces or stored

    def _recall_listing(self, namespace: str) -> None:
        stored = self._store.listing(namespace)
        if stored is not None:
            self._learn(stored)
        with self._lock:
            # A refresh may have come first, and what it brought counts.
            self._listings.setdefault(namespace, self._listed(stored) if stored else None)

    def _listed(
        self, listing: Listing, fetched_s: float | None = None, is_saved: bool = True
    ) -> Listed:
        return Listed(listing, listing.only(self._statuses), fetched_s, is_saved)


def _namespaces(found: Iterable[str]) -> Namespaces:
    return Namespaces({names.directory_name(each) or each: each for each in found})
