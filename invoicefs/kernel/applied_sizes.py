"""The sizes that the kernel has applied, and the opens that wait for them.

A program that reads without asking for the size relies on short reads to find the end of the file.
If two of its reads are reordered while the kernel still has the upper bound, the kernel fills the
gap with zeros (measured: in one file of a hundred). So an open ends only when the kernel has
*applied* the size and the mtime of the opened content.

Having *sent* them, in the reply to a LOOKUP or a GETATTR, is not enough. The reply is applied by
the program that caused the request, possibly much later (measured: zeros in 21 of 27 000 reads). So
the first open of each version waits for a *sync*: a process outside the mount stats the file twice,
see `stat_helper`.

Why two stats: the kernel discards a reply if it has applied another one since it sent the request
(attr_version in fs/fuse/inode.c). Call a reply *old* if it was determined before the content was
pinned. If the kernel applies an old reply during the first stat, it discards the reply to that
stat. The second stat cannot be lost in this way: the requests of all other old replies were sent
before that moment, so these replies are discarded, too. All other replies have the pinned size. So
after the second stat the kernel has that size, and no old reply can change it (measured: with one
stat, one open in 500 left the old size, and 4 of 65 520 reads ended with zeros; with two, none of
178 920).

Invariants:

1. If `_applied` has attributes for a path, the kernel has applied them, and no others have been
   sent since. So the next sync is that of the next version, and no clock is needed.
2. Attributes are sent only if the path has no entry or the same one, and no entry was removed since
   before they were determined; otherwise the entry is removed, and they are determined again. An
   open pins its content first, and reads `_applied` then. So either it misses the entry, and waits
   for a sync, or whoever determined other attributes before the pin determines them again.
3. There is at most one sync of a path at a time. All opens of the path wait for it; they have the
   same version, because the first of them keeps it pinned until the sync is over.
4. A sync cannot reach this mount if its folder was unmounted lazily, or if the helper does not
   respond. Then the open fails once with ESTALE. The kernel looks the name up again for the same
   thread, which applies the reply before it opens the file again. That is one reply, not two, so
   this is only for emergencies (measured: zeros in 17 of 5 249 reads of a stress test in which all
   first opens took this way). If the kernel only repeats the open, because it has no name to look
   up (``/proc/self/fd/N``), the handle bypasses the page cache (direct_io): then ``read`` does not
   depend on the size that the kernel has.

Threading: `_lock` guards all fields. `_applied` and `_removals` are read without it; `_removals` is
odd while an entry is being removed.
"""

import threading
from collections.abc import Callable
from typing import Final

from invoicefs.errors import Outdated
from invoicefs.model import Attributes

_MAX_APPLIED: Final = 100_000  # about 25 MB; a path beyond that costs one more sync
_MAX_RETRIES: Final = 1000

_Retry = tuple[str, int]
"""The path of an open that is repeated, and its thread."""


class _Sync:
    """A sync in progress."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.is_applied = False


class AppliedSizes:
    """The attributes that the kernel has applied, by path.

    `show` returns what ``stat`` shows for a path, and may wait for a download; `show_at_once` does
    not wait. `stat_outside` has another process stat a path twice, and returns whether that has
    reached this mount. `caller` returns the ID of the thread that caused the current request.
    """

    def __init__(
        self,
        show: Callable[[str], Attributes],
        show_at_once: Callable[[str], Attributes],
        stat_outside: Callable[[str], bool],
        caller: Callable[[], int],
    ) -> None:
        self._show = show
        self._show_at_once = show_at_once
        self._stat_outside = stat_outside
        self._caller = caller
        self._lock = threading.Lock()
        self._applied: dict[str, Attributes] = {}
        self._removals = 0
        self._syncs: dict[str, _Sync] = {}
        self._retries: dict[_Retry, Attributes | None] = {}  # what was sent since the first open

    def to_send(self, path: str) -> Attributes:
        """Return the attributes to send to the kernel in reply to a LOOKUP or a GETATTR."""
        removals = self._removals
        attributes = self._show(path)
        while not self._may_send(path, attributes, removals):
            removals = self._removals
            attributes = self._show_at_once(path)
        if self._retries:
            self._note_sent(path, attributes)
        return attributes

    def apply(self, path: str, pinned: Attributes) -> bool:
        """Wait until the kernel has applied the attributes of content that is pinned.

        Raises `Outdated` if the open must be repeated. Returns False if the kernel may have others
        even then.
        """
        if self._applied.get(path) == pinned:
            return True
        retry = path, self._caller()
        if retry in self._retries:
            return self._apply_repeated(retry, pinned)
        if self._sync(path, pinned):
            return True
        with self._lock:
            if len(self._retries) >= _MAX_RETRIES:
                del self._retries[next(iter(self._retries))]
            self._retries[retry] = None
        raise Outdated("the mount point does not lead to this mount")

    def _may_send(self, path: str, attributes: Attributes, removals: int) -> bool:
        """Return False if the attributes must be determined again, see invariant 2."""
        applied = self._applied.get(path)
        if applied is not None and applied != attributes:
            with self._lock:
                self._remove(path)
        return self._removals == removals and removals % 2 == 0

    def _note_sent(self, path: str, attributes: Attributes) -> None:
        retry = path, self._caller()
        with self._lock:
            if retry in self._retries:
                self._retries[retry] = attributes

    def _apply_repeated(self, retry: _Retry, pinned: Attributes) -> bool:
        """Return whether the thread that repeats an open has looked the name up in between."""
        with self._lock:
            is_applied = self._retries.pop(retry, None) == pinned
            if is_applied:
                self._add(retry[0], pinned)
        return is_applied

    def _sync(self, path: str, pinned: Attributes) -> bool:
        with self._lock:
            if self._applied.get(path) == pinned:
                return True  # by a sync that has just ended
            running = self._syncs.get(path)
            if running is None:
                sync = self._syncs[path] = _Sync()
        if running is not None:
            running.is_over.wait()
            return running.is_applied
        try:
            sync.is_applied = self._stat_outside(path)
        finally:
            with self._lock:
                del self._syncs[path]
                sync.is_over.set()
                if sync.is_applied:
                    self._add(path, pinned)
        return sync.is_applied

    def _add(self, path: str, pinned: Attributes) -> None:
        if len(self._applied) >= _MAX_APPLIED:
            self._remove(next(iter(self._applied)))
        self._applied[path] = pinned

    def _remove(self, path: str) -> None:
        self._removals += 1
        self._applied.pop(path, None)
        self._removals += 1
