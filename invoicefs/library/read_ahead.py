"""Read-ahead: invoices are downloaded in the background before a program opens them.

An archiving program opens one file after another, and each needs a slow request: without
read-ahead it would take the sum of all request times. So during sequential access, the next
invoices are downloaded while the program processes the current one. Programs do not announce their
order, so the order of inodes (``cp -r``, ``tar``, ``find``) and the order of names (``rsync``,
``rclone``) are both tracked. `access_pattern` defines which accesses are sequential.

Invariants:

1. Nothing is downloaded ahead of the first open or of a jump.
2. When a sequential access stops, at most its window has been downloaded unnecessarily.
3. No caller waits for read-ahead, and its failures are not raised.

Threading: `_lock` guards `_patterns` and is not held during I/O.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial

from invoicefs.clock import Clock, Deadline
from invoicefs.library.access_pattern import AccessPattern
from invoicefs.model import Invoice, Listing, Order


class ReadAhead:
    """Starts up to `largest_window` downloads ahead of each sequential access.

    `start` starts a download in the background, with a deadline `timeout_s` from now, if a
    predicate still holds; see `Scheduler.start`. Only invoices for which `is_wanted` returns True
    are downloaded.
    """

    def __init__(
        self,
        start: Callable[[Invoice, Deadline, Callable[[], bool]], object],
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
        """Note a visit to an invoice, and start downloads; `siblings` are shown beside it."""
        if self._largest_window == 0:
            return
        for candidate in self._ahead_of(invoice, siblings):
            if self._is_wanted(candidate):
                deadline = Deadline.after(self._timeout_s, self._clock)
                self._start(candidate, deadline, partial(self._is_wanted, candidate))

    def _ahead_of(self, invoice: Invoice, siblings: Listing) -> Iterator[Invoice]:
        for order in Order:
            position = siblings.position(invoice, order)
            if position is not None:
                ahead = self._step((invoice.namespace, order), position).ahead
                yield from siblings.in_order(order)[ahead.start : ahead.stop]

    def _step(self, sequence: tuple[str, Order], position: int) -> AccessPattern:
        with self._lock:
            pattern = self._patterns.get(sequence, AccessPattern())
            self._patterns[sequence] = pattern.step(position, self._largest_window)
            return self._patterns[sequence]
