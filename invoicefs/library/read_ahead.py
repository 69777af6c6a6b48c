"""What is fetched ahead of somebody who walks through a namespace, in the background.

An archive run visits one file after the other, and each is a slow call: without this it would take
as long as all calls together. So a walk has the next invoices fetched while it is busy with one,
in the order of inodes (``cp -r``, ``tar``, ``find``) as well as in that of names (``rsync``,
``rclone``), because nobody says beforehand in which order he goes. See `access_pattern` for what a
walk is.

Invariants:

1. Ahead of the first visit, and of a jump, nothing is fetched.
2. A walk that stops has at most its window fetched in vain.
3. Nobody waits for it, and no failure of it is raised.

Threading: `_lock` guards `_patterns`, and is held for no I/O.
"""

import threading
from collections.abc import Callable, Iterator

from invoicefs.clock import Clock, Deadline
from invoicefs.library.access_pattern import AccessPattern
from invoicefs.model import Invoice, Listing, Order


class ReadAhead:
    """Has up to `largest_window` invoices brought ahead of each walk, each within `timeout_s`.

    `bring` begins to bring one in the background; only those that are `is_wanted` are brought.
    """

    def __init__(
        self,
        bring: Callable[[Invoice, Deadline], None],
        is_wanted: Callable[[Invoice], bool],
        clock: Clock,
        *,
        largest_window: int,
        timeout_s: float,
    ) -> None:
        self._bring = bring
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
        for each in self._ahead_of(invoice, siblings):
            if self._is_wanted(each):
                self._bring(each, Deadline.after(self._timeout_s, self._clock))

    def _ahead_of(self, invoice: Invoice, siblings: Listing) -> Iterator[Invoice]:
        for order in Order:
            place = siblings.place(invoice, order)
            if place is not None:
                ahead = self._step((invoice.namespace, order), place).ahead
                yield from siblings.in_order(order)[ahead.start : ahead.stop]

    def _step(self, sequence: tuple[str, Order], place: int) -> AccessPattern:
        with self._lock:
            pattern = self._patterns.get(sequence, AccessPattern()).step(
                place, self._largest_window
            )
            self._patterns[sequence] = pattern
        return pattern
