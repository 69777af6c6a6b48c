"""The last listings of a tenant: in memory, with the store behind it.

Snapshots are immutable and replaced in one step, so readers take no lock. `_lock` ensures that a
snapshot from the store never replaces a later one from the API.

The store may be unavailable when it is read, and available a moment later. `reread_namespaces` and
`reread_listing` read it again, unless the snapshot in memory is known to be on disk, too. They are
called just before a listing is replaced; otherwise a final invoice that only the store has would be
lost.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from invoicefs import names
from invoicefs.clock import Clock
from invoicefs.library.ports import Store
from invoicefs.model import Listing, Order, namespace_inode
from invoicefs.scheduling.disk_threads import DiskThreads


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A list. `fetched_s` is when it came from the API, or None if it came from the store.

    Unless it has `bypassed_caches`, it may have been in an HTTP cache for a few seconds before.
    """

    fetched_s: float | None = None
    bypassed_caches: bool = False

    def is_younger_than(self, age_s: float, clock: Clock) -> bool:
        """Return whether it came from the API less than this time ago."""
        return self.fetched_s is not None and clock.monotonic_s() - self.fetched_s < age_s

    def is_refreshed(self, before: "Snapshot | None", *, bypass_caches: bool) -> bool:
        """Return whether it came from the API later than `before`, the list at an earlier time.

        With `bypass_caches`, it must have bypassed HTTP caches.
        """
        if self.fetched_s is None or (bypass_caches and not self.bypassed_caches):
            return False
        return self.fetched_s != (before and before.fetched_s)


@dataclass(frozen=True)
class NamespaceSnapshot(Snapshot):
    """The namespaces by the names of their directories.

    `is_partial` is true if the API said that some are missing.
    """

    by_directory: dict[str, str]
    is_partial: bool = False

    @classmethod
    def of(cls, namespaces: Iterable[str]) -> "NamespaceSnapshot":
        """Return a snapshot of these namespaces, as one that came from the store."""
        return cls({names.directory_name(name) or name: name for name in namespaces})

    @property
    def names(self) -> tuple[str, ...]:
        """The namespaces in their order."""
        return tuple(self.by_directory.values())

    def neighbour(self, namespace: str, order: Order, step: int) -> str | None:
        """Return the namespace that many steps after another one in an order, or None."""
        sequence, positions = self._sequences[order]
        position = positions.get(namespace)
        if position is None or not 0 <= position + step < len(sequence):
            return None
        return sequence[position + step]

    @cached_property
    def _sequences(self) -> Mapping[Order, tuple[tuple[str, ...], Mapping[str, int]]]:
        """The namespaces in each order, and the position of each."""
        by_inode = tuple(sorted(self.names, key=namespace_inode))
        by_name = tuple(namespace for _, namespace in sorted(self.by_directory.items()))
        return {
            order: (sequence, {namespace: at for at, namespace in enumerate(sequence)})
            for order, sequence in ((Order.INODE, by_inode), (Order.NAME, by_name))
        }


NO_NAMESPACES: Final = NamespaceSnapshot({})


@dataclass(frozen=True)
class ListingSnapshot(Snapshot):
    """A listing, and the part of it that is shown."""

    everything: Listing
    shown: Listing


class ListingCache:
    """The last listings. Only invoices with one of `statuses` are shown, or all if it is empty.

    `learn` is called with every listing before it is shown, in a thread that may use the store.
    All methods may be called from any thread, unless they say that they use the store.
    """

    def __init__(
        self,
        store: Store,
        disk: DiskThreads,
        statuses: frozenset[str],
        learn: Callable[[Listing], None],
    ) -> None:
        self._store = store
        self._disk = disk
        self._statuses = statuses
        self._learn = learn
        self._lock = threading.Lock()
        self._namespaces: NamespaceSnapshot | None = None
        self._listings: dict[str, ListingSnapshot | None] = {}  # None: the store has no listing

    def namespaces(self) -> NamespaceSnapshot:
        """Return the last list of namespaces, empty if there is none."""
        if self._namespaces is None:
            self._disk.run(self._load_namespaces)
        return self.namespaces_in_memory()

    def namespaces_in_memory(self) -> NamespaceSnapshot:
        """Return the last list of namespaces that is in memory; never uses the store."""
        return self._namespaces or NO_NAMESPACES

    def reread_namespaces(self) -> NamespaceSnapshot:
        """Return the last list of namespaces, merged with that of the store; uses the store."""
        known = self.namespaces()
        if known.fetched_s is not None and self._store.has_saved_namespaces(known.names):
            return known
        found = NamespaceSnapshot.of(dict.fromkeys((*self._store.namespaces(), *known.names)))
        known = replace(known, by_directory=found.by_directory)
        with self._lock:
            self._namespaces = known
        return known

    def replace_namespaces(
        self, found: tuple[str, ...], *, fetched_s: float, bypassed_caches: bool, is_partial: bool
    ) -> NamespaceSnapshot:
        """Replace the list of namespaces, also in the store; uses the store."""
        self._store.save_namespaces(found)
        fresh = replace(
            NamespaceSnapshot.of(found),
            fetched_s=fetched_s,
            bypassed_caches=bypassed_caches,
            is_partial=is_partial,
        )
        with self._lock:
            self._namespaces = fresh
        return fresh

    def listing(self, namespace: str) -> ListingSnapshot | None:
        """Return the last listing of a namespace, or None."""
        if namespace not in self._listings:
            self._disk.run(lambda: self._load_listing(namespace))
        return self._listings.get(namespace)

    def reread_listing(self, namespace: str) -> ListingSnapshot | None:
        """Return the last listing of a namespace, merged with that of the store; uses the store."""
        known = self.listing(namespace)
        if known is not None and self._store.has_saved_listing(namespace, known.everything):
            return known
        stored = self._store.listing(namespace)
        if stored is None:
            return known
        self._learn(stored)
        if known is None:
            merged = self._snapshot(stored)
        else:
            everything = stored.succeeded_by(known.everything)
            merged = self._snapshot(everything, known.fetched_s, known.bypassed_caches)
        with self._lock:
            if self._listings.get(namespace) is known:
                self._listings[namespace] = merged
        return self._listings[namespace]

    def replace_listing(
        self, namespace: str, listing: Listing, *, fetched_s: float, bypassed_caches: bool
    ) -> ListingSnapshot:
        """Replace the listing of a namespace, also in the store; uses the store."""
        known = self.listing(namespace)
        if known is not None and known.everything.invoices == listing.invoices:
            listing = known.everything  # keeps what was derived from it, and is not saved again
        self._learn(listing)
        self._store.save_listing(namespace, listing)
        fresh = self._snapshot(listing, fetched_s, bypassed_caches)
        with self._lock:
            self._listings[namespace] = fresh
        return fresh

    def in_memory(self, namespace: str) -> ListingSnapshot | None:
        """Return the last listing of a namespace if it is in memory; never uses the store."""
        return self._listings.get(namespace)

    def listed(self) -> dict[str, ListingSnapshot]:
        """Return all listings in memory by their namespaces."""
        return {name: listed for name, listed in tuple(self._listings.items()) if listed}

    def _load_namespaces(self) -> None:
        stored = NamespaceSnapshot.of(self._store.namespaces())
        with self._lock:
            # The result of a refresh in the meantime takes precedence.
            self._namespaces = self._namespaces or stored

    def _load_listing(self, namespace: str) -> None:
        stored = self._store.listing(namespace)
        if stored is not None:
            self._learn(stored)
        with self._lock:
            # The result of a refresh in the meantime takes precedence.
            self._listings.setdefault(namespace, self._snapshot(stored) if stored else None)

    def _snapshot(
        self, listing: Listing, fetched_s: float | None = None, bypassed_caches: bool = False
    ) -> ListingSnapshot:
        shown = listing.only(self._statuses)
        return ListingSnapshot(listing, shown, fetched_s=fetched_s, bypassed_caches=bypassed_caches)
