"""Read-ahead: invoices are downloaded in the background before a program opens them.

An archive run opens one file after the other, and each is a slow request: without read-ahead it
would take as long as all requests together. So sequential access has the next invoices downloaded
while the program is busy with one. Programs do not announce the order they will use, so the order
of inodes (``cp -r``, ``tar``, ``find``) and the order of names (``rsync``, ``rclone``) are both
tracked. See `access_pattern` for what counts as sequential.

Invariants:

1. Nothing is downloaded ahead of the first open or of a jump.
2. An access that stops has downloaded at most its window for nothing.
3. Nobody waits for a download ahead, and its failure is not raised.

Threading: `_lock` guards `_patterns` and is not held during I/O.
"""

import threading
from collections.abc import Callable, Iterator

from invoicefs.clock import Clock, Deadline
from invoicefs.library.access_pattern import AccessPattern
from invoicefs.model import Invoice, Listing, Order


class ReadAhead:
    """Starts up to `largest_window` downloads ahead of each sequential access.

    `start` starts one in the background, with a deadline in `timeout_s`; only invoices that are
    `is_wanted` are downloaded.
    """

    def __init__(
        self,
        start: Callable[[Invoice, Deadline], None],
        is_wanted: Callable[[Invoice], bool],
        clock: Clock,
        *,
        largest_window: int,
        timeout_s: float,
    ) -> None:
        self._start = start
        self._is_wanted = is_wanted
        self._clock = clock
        self._largest_window = largest_window
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._patterns: dict[tuple[str, Order], AccessPattern] = {}

    def visit(self, invoice: Invoice, siblings: Listing) -> None:
        """Note a visit to an invoice; `siblings` are those that are shown in its namespace."""
        if self._largest_window == 0:
            return
        for candidate in self._ahead_of(invoice, siblings):
            if self._is_wanted(candidate):
                self._start(candidate, Deadline.after(self._timeout_s, self._clock))

    def _ahead_of(self, invoice: Invoice, siblings: Listing) -> Iterator[Invoice]:
        for order in Order:
            place = siblings.place(invoice, order)
            if place is not None:
                ahead = self._step((invoice.namespace, order), place).ahead
                yield from siblings.in_order(order)[ahead.start : ahead.stop]

    def _step(self, sequence: tuple[str, Order], place: int) -> AccessPattern:
        with self._lock:
            pattern = self._patterns.get(sequence, AccessPattern())
            self._patterns[sequence] = pattern.step(place, self._largest_window)
            return self._patterns[sequence]
