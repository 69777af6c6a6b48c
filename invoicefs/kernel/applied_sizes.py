"""What the kernel has been told about a file, what it has applied, and who waits for that.

A program that reads without asking for the size relies on short reads to find the end. If two of
its reads are reordered while the kernel still has the upper bound, the kernel fills the gap with
zeros (measured: one file in a hundred). So an open ends only when the kernel has *applied* size and
mtime of the opened content.

That it has been *told* them, in the reply to a LOOKUP or a GETATTR, is not enough: the program that
caused the request applies the reply, and may do so later (measured: zeros in 21 of 27 000 reads).
So a process beside the mount stats the file, see `stat_helper`; this is a *look*. The kernel drops
a reply that it was sent before another one was applied (attr_version in fs/fuse/inode.c). So when
two stats in a row have returned, both begun after the content was pinned:

- replies to requests from before them are dropped from now on;
- one such reply may have been applied between the first stat's request and its reply, which is
  then dropped itself, but not during the second stat as well, because all others are older than it;
- requests from after the first one show the content that is pinned.

Invariants:

1. If `_applied` has attributes for a path, the kernel has them, and nobody has been told others
   since. No clock is needed, and nobody looks again until the next version.
2. Before anybody is told others, they are removed from `_applied`, and only then the attributes
   that are told are determined (again). An open pins its content first, and reads `_applied` then.
   So either the open sees that they were removed, and looks, or what is told is what is pinned.
3. There is one look per path at a time; every open of the path waits for it. As all of them have
   the same version pinned, it is right for all.
4. If a look does not reach this mount, because its folder has been unmounted lazily or the helper
   has ended, the handle bypasses the page cache (direct_io), so it does not depend on the size that
   the kernel has. It can be read by any means but a shared mapping.

Threading: `_lock` guards `_looks`, and additions to `_applied`; entries are read, and removed, by
single operations on the dictionary.
"""

import threading
from collections.abc import Callable
from typing import Final

from invoicefs.model import Attributes

_MAX_APPLIED: Final = 100_000  # about 25 MB; a path beyond that costs one more look

Show = Callable[[str], Attributes]
"""Returns what ``stat`` shows for a path now."""


class _Look:
    """A look in progress."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.has_arrived = False


class AppliedSizes:
    """The attributes that the kernel has applied, by path.

    `show` determines the attributes of a path. `stat_outside` has another process stat a path
    twice, and returns whether both stats have reached this mount.
    """

    def __init__(self, show: Show, stat_outside: Callable[[str], bool]) -> None:
        self._show = show
        self._stat_outside = stat_outside
        self._lock = threading.Lock()
        self._applied: dict[str, Attributes] = {}
        self._looks: dict[str, _Look] = {}

    def told(self, path: str) -> Attributes:
        """Return the attributes that the kernel is told about a path now."""
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
        return self._applied.get(path) == pinned or self._look(path, pinned)

    def _look(self, path: str, pinned: Attributes) -> bool:
        with self._lock:
            look = self._looks.get(path)
            is_first = look is None
            if look is None:
                look = self._looks[path] = _Look()
        if not is_first:
            look.is_over.wait()
            return look.has_arrived
        try:
            look.has_arrived = self._stat_outside(path)
        finally:
            with self._lock:
                del self._looks[path]
                if look.has_arrived:
                    self._add(path, pinned)
            look.is_over.set()
        return look.has_arrived

    def _add(self, path: str, pinned: Attributes) -> None:
        self._applied.pop(path, None)
        if len(self._applied) >= _MAX_APPLIED:
            self._applied.pop(next(iter(self._applied)), None)
        self._applied[path] = pinned
