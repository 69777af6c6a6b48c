"""Notifying the kernel of the size of a file before it is read.

A program that reads without asking for the size relies on short reads to find the end. If two of
its reads are reordered, the kernel fills the gap with zeros (measured: one file in a hundred). So
an open waits until the kernel has asked for the size and got that of the opened content.

Threading: `_reported`, the sizes last sent to the kernel by path, changes by single assignments.
"""

from collections.abc import Callable
from typing import NamedTuple

from invoicefs.clock import Clock
from invoicefs.errors import Outdated
from invoicefs.library.library import Library, OpenInvoice
from invoicefs.model import Attributes

# The kernel looks a name up again after 1 s, libfuse's entry_timeout. The other second allows for
# a stat that is delayed between its LOOKUP and its GETATTR.
_LOOKUP_LASTS_S = 2.0


class _ReportedSize(NamedTuple):
    """The size that was last reported to the kernel for a path, and when it looked the path up."""

    size_bytes: int
    looked_up_s: float


class SizeNotifier:
    """Answers LOOKUP and GETATTR, and tracks the sizes that it has reported.

    `stat_outside` has another process stat a path, and returns when the kernel has got the size.
    """

    def __init__(self, library: Library, clock: Clock, stat_outside: Callable[[str], None]) -> None:
        self._library = library
        self._clock = clock
        self._stat_outside = stat_outside
        self._reported: dict[str, _ReportedSize] = {}

    def attributes(self, path: str) -> Attributes:
        """Answer a LOOKUP or a GETATTR, which libfuse does not distinguish.

        While the kernel waits for a LOOKUP, it blocks all other lookups in the same directory
        (measured: an ``ls`` at the same time took just as long). So the first LOOKUP of a name does
        not wait for a download. Because of ``attr_timeout=0``, ``stat`` sends a GETATTR right after
        it, and that one waits.
        """
        reported = self._reported.get(path)
        now_s = self._clock.monotonic_s()
        if reported is not None and now_s - reported.looked_up_s < _LOOKUP_LASTS_S:
            attributes = self._library.attributes(path)
            self._reported[path] = _ReportedSize(attributes.size_bytes, reported.looked_up_s)
        else:
            attributes = self._library.lookup(path)
            self._reported[path] = _ReportedSize(attributes.size_bytes, self._clock.monotonic_s())
        return attributes

    def notify(self, path: str, opened: OpenInvoice) -> None:
        """Wait until the kernel knows the size of opened content; raises `Outdated` if it fails."""
        size_bytes = len(opened.content.pdf)
        if opened.is_young or not self._was_reported(path, size_bytes):
            self._stat_outside(path)
        if not self._was_reported(path, size_bytes):
            # The mount point no longer leads to this mount, for example after a lazy unmount.
            raise Outdated("the kernel has not asked for the size")

    def _was_reported(self, path: str, size_bytes: int) -> bool:
        reported = self._reported.get(path)
        return reported is not None and reported.size_bytes == size_bytes
