"""The ``meta`` database: sealed values by key, never evicted, that survive a failing disk.

Invariants:

1. A value that cannot be written waits in memory, where reads find it, and is written with the next
   one. `save_new` never replaces a valid value on disk.
2. If the database becomes corrupt, the waiting values, the lists that this mount has, and all
   values loaded or saved as `kept` are written to the new one, unless another mount has already
   written them.

Threading: `_lock` guards the replacement of `_waiting` and `_waiting_new`, which are never
modified in place; `_lists`, `_kept` and `_generation` change by single assignments. `_flushing` is
held while waiting values are written: a thread whose values are older could otherwise overwrite
those that another one has just written. Threads that wait for it find their values written.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from invoicefs.clock import Clock
from invoicefs.model import Listing
from invoicefs.store import encoding
from invoicefs.store.disk_cache import DiskCache

# diskcache removes the file of a replaced value before the transaction ends; if the transaction
# fails, both values are lost.
_NEVER_IN_FILES: Final = 2**30

AnyList = Listing | tuple[str, ...]
"""A listing, or a list of namespaces."""


@dataclass(frozen=True, slots=True)
class _SavedList:
    """A list that is on disk, in this generation of the database."""

    value: AnyList
    generation: int

    def sealed(self, key: str) -> str:
        """Return the text to write."""
        value = self.value
        fields = list(value) if isinstance(value, tuple) else encoding.listing_fields(value)
        return encoding.sealed(key, fields)


class Metadata:
    """Values by key, sealed: see `encoding`."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._waiting: Mapping[str, str] = {}
        self._waiting_new: Mapping[str, str] = {}
        self._lists: dict[str, _SavedList] = {}
        self._kept: dict[str, str] = {}
        self._cache = DiskCache(
            folder,
            "meta",
            clock,
            eviction_policy="none",
            cull_limit=0,
            disk_min_file_size=_NEVER_IN_FILES,
        )
        self._generation = self._cache.generation

    @property
    def failure(self) -> str | None:
        """The reason why the database cannot be used at present, in words, or None."""
        return self._cache.failure

    def close(self) -> None:
        """Write the waiting values, and close the connections of the calling thread."""
        if self._waiting or self._waiting_new:
            self._flush()
        self._cache.close()

    def clear(self) -> bool:
        """Remove all values. Returns False if the disk is unavailable."""
        return self._cache.clear()

    def checkpoint(self) -> None:
        """See `DiskCache.checkpoint`."""
        self._cache.checkpoint()

    def keys(self, at_most: int) -> set[str] | None:
        """Return all keys, or None if the disk has more than `at_most` or cannot be read."""
        keys = self._cache.keys(at_most)
        return None if keys is None else keys | self._waiting.keys() | self._waiting_new.keys()

    def load(self, key: str) -> object:
        """Return the value of a key, or None."""
        stored = self._waiting.get(key) or self._cache.get(key) or self._waiting_new.get(key)
        self._restore()
        return encoding.unsealed(key, stored)

    def save(self, values: Mapping[str, object]) -> None:
        """Replace the values of these keys."""
        with self._lock:
            self._waiting = {**self._waiting, **_sealed(values)}
        self._flush()

    def save_new(self, values: Mapping[str, object]) -> None:
        """Save the values of those keys that have none."""
        with self._lock:
            self._waiting_new = {**_sealed(values), **self._waiting_new}
        self._flush()

    def load_kept(self, key: str) -> object:
        """Load a value, and keep it for a new database that may replace a corrupt one."""
        value = self.load(key)
        if value is not None:
            self._kept[key] = encoding.sealed(key, value)
        return value

    def save_kept(self, values: Mapping[str, object]) -> None:
        """Save values, and keep them for a new database that may replace a corrupt one."""
        self._kept.update(_sealed(values))
        self.save(values)

    def save_list(self, key: str, value: AnyList) -> None:
        """Replace a list, unless it is on disk; if that fails, only a refresh tries again."""
        saved = _SavedList(value, self._cache.generation)
        if self._lists.get(key) != saved and self._cache.set({key: saved.sealed(key)}):
            self._lists[key] = saved
        self._restore()

    def note_list(self, key: str, value: AnyList | None) -> None:
        """Note the list that was loaded from disk, or None if there is no valid one."""
        if value is None:
            self._lists.pop(key, None)
        else:
            self._lists[key] = _SavedList(value, self._cache.generation)

    def has_list(self, key: str, value: AnyList) -> bool:
        """Return whether a list is on disk: it was loaded from there or saved there."""
        return self._lists.get(key) == _SavedList(value, self._cache.generation)

    def _flush(self) -> None:
        """Write the waiting values, as far as possible, unless another thread has written them."""
        with self._flushing:
            waiting, first = self._waiting, self._waiting_new
            if waiting and self._cache.set(waiting):
                with self._lock:
                    self._waiting = _without(self._waiting, waiting)
            if first and self._cache.fill(first, _is_sealed):
                with self._lock:
                    self._waiting_new = _without(self._waiting_new, first)
        self._restore()

    def _restore(self) -> None:
        """Write lists and kept values into a database that has replaced a corrupt one."""
        newest = self._cache.generation
        if self._generation == newest:
            return
        self._generation = newest
        lost = {key: saved for key, saved in self._lists.items() if saved.generation != newest}
        lists = {key: saved.sealed(key) for key, saved in lost.items()}
        self._cache.fill({**self._kept, **lists}, _is_sealed)


def _sealed(values: Mapping[str, object]) -> dict[str, str]:
    return {key: encoding.sealed(key, value) for key, value in values.items()}


def _is_sealed(key: str, stored: object) -> bool:
    return encoding.unsealed(key, stored) is not None


def _without(waiting: Mapping[str, str], written: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in waiting.items() if written.get(key) != value}
