"""The sizes that the kernel has applied, and the opens that wait for them.

A program that reads without asking for the size relies on short reads to find the end of the file.
If two of its reads are reordered while the kernel still has the upper bound, the kernel fills the
gap with zeros (measured: in one file of a hundred). So an open ends only when the kernel has
*applied* the size and the mtime of the opened content.

Having *sent* them, in the reply to a LOOKUP or a GETATTR, is not enough. The reply is applied by
the program that caused the request, possibly much later (measured: zeros in 21 of 27 000 reads). So
the first open of each version waits for a *sync*: a process outside the mount stats the file twice,
see `stat_helper`.

Why twice: the kernel discards a reply if it has applied another one since it sent the request, see
attr_version in fs/fuse/inode.c. A reply with the old size, sent before the content was pinned, may
be applied during the first stat, whose own reply is then discarded. That can happen only once,
because all other such replies belong to requests from before that moment: they are discarded from
then on. Requests from after the pin are answered with the pinned size. So the reply to the second
stat is applied, or one with the same size (measured: with one stat, one open in 500 left the old
size, and 4 of 65 520 reads ended with zeros; with two stats, none of 72 000).

Invariants:

1. If `_applied` has attributes for a path, the kernel has applied them, and nothing else has been
   sent since. No clock is needed, and there is no other sync until the next version.
2. Before other attributes are sent, the entry is removed from `_applied`, and only then are the
   attributes to send determined again. An open pins its content first, and reads `_applied` then.
   So either the open misses the entry, and waits for a sync, or the pinned attributes are sent.
3. There is at most one sync of a path at a time. All opens of the path wait for it; they have the
   same version, because the first of them keeps it pinned until the sync is over.
4. If a sync does not reach this mount, because its folder was unmounted lazily or the helper has
   ended, the handle bypasses the page cache (direct_io). Reads then do not depend on the size that
   the kernel has; only a shared mapping is refused.

Threading: `_lock` guards `_syncs`, and additions to `_applied`; entries are read and removed by
single operations on the dictionary.
"""

import threading
from collections.abc import Callable
from typing import Final

from invoicefs.model import Attributes

_MAX_APPLIED: Final = 100_000  # about 25 MB; a path beyond that costs one more sync


class _Sync:
    """A sync in progress."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.is_applied = False


class AppliedSizes:
    """The attributes that the kernel has applied, by path.

    `show` returns what ``stat`` shows for a path now. `stat_outside` has another process stat a
    path twice, and returns whether that has reached this mount.
    """

    def __init__(
        self, show: Callable[[str], Attributes], stat_outside: Callable[[str], bool]
    ) -> None:
        self._show = show
        self._stat_outside = stat_outside
        self._lock = threading.Lock()
        self._applied: dict[str, Attributes] = {}
        self._syncs: dict[str, _Sync] = {}

    def to_send(self, path: str) -> Attributes:
        """Return the attributes to send to the kernel in reply to a LOOKUP or a GETATTR."""
        attributes = self._show(path)
        applied = self._applied.get(path)
        if applied is not None and applied != attributes:
            self._applied.pop(path, None)
            attributes = self._show(path)
        return attributes

    def apply(self, path: str, pinned: Attributes) -> bool:
        """Wait until the kernel has applied the attributes of content that is pinned.

        Returns False if that cannot be achieved.
        """
        return self._applied.get(path) == pinned or self._sync(path, pinned)

    def _sync(self, path: str, pinned: Attributes) -> bool:
        with self._lock:
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
                if sync.is_applied:
                    self._add(path, pinned)
            sync.is_over.set()
        return sync.is_applied

    def _add(self, path: str, pinned: Attributes) -> None:
        if len(self._applied) >= _MAX_APPLIED:
            self._applied.pop(next(iter(self._applied)), None)
        self._applied[path] = pinned
