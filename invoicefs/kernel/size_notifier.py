"""Makes sure that the kernel knows the size of a file before it is read.

A program that reads without asking for the size relies on short reads to find the end, and if two
of them overtake each other, the kernel fills what lies between with zeros (measured: one file in a
hundred). So an open waits until the kernel has asked for the size that it will get.

Threading: `_told`, the size that the kernel was last told by path, changes by single assignments.
"""

from collections.abc import Callable
from typing import NamedTuple

from invoicefs.clock import Clock
from invoicefs.errors import Outdated
from invoicefs.library.library import Library, OpenInvoice
from invoicefs.model import Attributes

# The kernel looks a name up again after 1 s, libfuse's entry_timeout; the rest is for a stat that
# is delayed between its LOOKUP and its GETATTR.
_LOOKUP_LASTS_S = 2.0


class _Told(NamedTuple):
    """The size that the kernel was told for a path, and when it looked the path up."""

    size_bytes: int
    looked_up_s: float


class SizeNotifier:
    """Answers LOOKUP and GETATTR, and knows what it has answered.

    `stat_outside` has another process stat a path, and returns when the kernel was told the size.
    """

    def __init__(self, library: Library, clock: Clock, stat_outside: Callable[[str], None]) -> None:
        self._library = library
        self._clock = clock
        self._stat_outside = stat_outside
        self._told: dict[str, _Told] = {}

    def attributes(self, path: str) -> Attributes:
        """Answer a LOOKUP or a GETATTR, which libfuse does not tell apart.

        While the kernel waits for a LOOKUP, it lets nobody else look anything up in that folder
        (measured: an ``ls`` beside one that hangs took as long). So the first one of a name waits
        for no download. ``stat`` asks again at once, because of ``attr_timeout=0``, and that waits.
        """
        told = self._told.get(path)
        now_s = self._clock.monotonic_s()
        if told is not None and now_s - told.looked_up_s < _LOOKUP_LASTS_S:
            attributes = self._library.attributes(path)
            self._told[path] = _Told(attributes.size_bytes, told.looked_up_s)
        else:
            attributes = self._library.lookup(path)
            self._told[path] = _Told(attributes.size_bytes, self._clock.monotonic_s())
        return attributes

    def notify(self, path: str, opened: OpenInvoice) -> None:
        """Return when the kernel knows the size of what was opened; raises `Outdated` if never."""
        size_bytes = len(opened.content.pdf)
        if opened.is_young or not self._was_told(path, size_bytes):
            self._stat_outside(path)
        if not self._was_told(path, size_bytes):
            # The mount point does not lead here, such as after a lazy unmount.
            raise Outdated("the kernel has not asked for the size")

    def _was_told(self, path: str, size_bytes: int) -> bool:
        told = self._told.get(path)
        return told is not None and told.size_bytes == size_bytes
