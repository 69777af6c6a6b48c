"""Downloads that begin before anybody opens a file: those that a look (``stat``) waits for.

Two kinds of looks wait for a download, so that size and time are exact when they are told:

- with ``--fetch on-stat`` every look at an invoice whose size is not known;
- in any case a look at an invoice that was downloaded before and that the listing says has
  changed. ``cp -u`` decides by the time it is told before it opens, so else it would never bring
  an archive up to date. It is the call that the next open would make.

Invariants:

1. A look never fails for want of a PDF: it is answered with what is known, an upper bound.
2. A look waits for a failing API once, not once per invoice: after a failure that is not about
   the invoice itself, looks are answered at once for `FAILURE_MEMORY_S`.
3. Looks ask for a PDF that the API does not have once per `REFUSAL_MEMORY_S`: a file manager looks
   again and again.
4. A look downloads its own invoice only. Others are fetched ahead, in the background, of looks
   that walk through a namespace with ``--fetch on-stat``.

Threading: `_walks` and `_paused_until_s` change by single assignments. Two looks at one time may
take each other's step away, which costs a window, and never fetches anything twice.
"""

import logging

from invoicefs.clock import Clock, Deadline
from invoicefs.contents import Contents
from invoicefs.errors import (
    Denied,
    InvoicefsError,
    NotFound,
    RateLimited,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UntrustedServer,
)
from invoicefs.fetcher import FAILURE_MEMORY_S
from invoicefs.model import Invoice, Listing, Order
from invoicefs.walks import Walk

log = logging.getLogger(__name__)

REFUSAL_MEMORY_S = 60.0  # as often as lists are asked for by default

_FAILURES_OF_ALL = (
    RateLimited,
    TimedOut,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UntrustedServer,
)
_ALL = ""  # among the names of namespaces, all of them; no namespace has it


class Prefetch:
    """Brings invoices before they are opened.

    With `is_eager` every look brings its invoice; a walk has up to `largest_window` invoices
    fetched ahead of it, each within `timeout_s`.
    """

    def __init__(
        self,
        contents: Contents,
        clock: Clock,
        *,
        is_eager: bool,
        largest_window: int,
        timeout_s: float,
    ) -> None:
        self._contents = contents
        self._clock = clock
        self._is_eager = is_eager
        self._largest_window = largest_window
        self._timeout_s = timeout_s
        self._walks: dict[tuple[str, Order], Walk] = {}
        self._paused_until_s: dict[str, float] = {}  # by invoice, namespace, or for all

    def look(self, invoice: Invoice, siblings: Listing, deadline: Deadline) -> None:
        """Bring what a look at this invoice has to wait for; raises nothing.

        `siblings` are the invoices that are shown in its namespace.
        """
        if self._is_eager:
            self._fetch_ahead(invoice, siblings)
        if self._is_worth_waiting_for(invoice):
            try:
                self._contents.bring(invoice, deadline)
            except InvoicefsError as error:
                log.warning("The size of %s is not known: %s", invoice.key, error)
                self._pause(invoice, error)

    def _is_worth_waiting_for(self, invoice: Invoice) -> bool:
        if self._is_paused(invoice):
            return False
        if self._is_eager:
            return not self._contents.is_exact(invoice)
        return self._contents.has_changed(invoice)

    def _fetch_ahead(self, invoice: Invoice, siblings: Listing) -> None:
        for order in Order:
            place = siblings.place(invoice, order)
            if place is not None:
                ahead = self._walked_to(place, invoice.namespace, order).ahead
                for each in siblings.in_order(order)[ahead.start : ahead.stop]:
                    self._fetch_in_background(each)

    def _walked_to(self, place: int, namespace: str, order: Order) -> Walk:
        before = self._walks.get((namespace, order))
        walk = before.step(place, self._largest_window) if before else Walk.begun_at(place)
        self._walks[namespace, order] = walk
        return walk

    def _fetch_in_background(self, invoice: Invoice) -> None:
        if not self._is_paused(invoice) and not self._contents.is_exact(invoice):
            deadline = Deadline.after(self._timeout_s, self._clock)
            self._contents.bring_in_background(invoice, deadline)

    def _pause(self, invoice: Invoice, error: InvoicefsError) -> None:
        now_s = self._clock.monotonic_s()
        if isinstance(error, _FAILURES_OF_ALL):
            self._paused_until_s[_ALL] = now_s + FAILURE_MEMORY_S
        elif isinstance(error, Denied):
            self._paused_until_s[invoice.namespace] = now_s + FAILURE_MEMORY_S
        elif isinstance(error, NotFound | TooLarge):
            self._paused_until_s[invoice.key] = now_s + REFUSAL_MEMORY_S

    def _is_paused(self, invoice: Invoice) -> bool:
        now_s = self._clock.monotonic_s()
        pauses = (_ALL, invoice.namespace, invoice.key)
        return any(now_s < self._paused_until_s.get(each, now_s) for each in pauses)
