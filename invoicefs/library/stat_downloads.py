"""Downloads that begin before anybody opens a file: those that a look (``stat``) waits for.

Two kinds of looks wait for a download, so that size and time are exact when they are told:

- with ``--fetch on-stat`` every look at an invoice whose size is not known;
- in any case a look at an invoice that was downloaded before and that the listing says has
  changed. ``cp -u`` decides by the time it is told before it opens, so else it would never bring
  an archive up to date. It is the call that the next open would make.

Invariants:

1. A look never fails for want of a PDF: it is answered with what is known, an upper bound.
2. A look waits for a failing API twice, not once per invoice: when two looks in a row have failed
   and nothing was downloaded in between, it is not about an invoice, and looks are answered at
   once for `FAILURE_MEMORY_S`; after a 403 those in its namespace. One failure alone costs no
   other invoice its size.
3. Looks ask for a PDF that the API does not have once per `REFUSAL_MEMORY_S` and version of the
   invoice: a file manager looks again and again.
4. A look downloads its own invoice only. Others are fetched ahead, in the background, of looks
   that walk through a namespace with ``--fetch on-stat``.

Threading: all fields change by single assignments.
"""

import logging

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import Denied, InvoicefsError, NotFound, TooLarge, Unauthenticated
from invoicefs.library.pdfs import Pdfs
from invoicefs.library.read_ahead import ReadAhead
from invoicefs.model import Invoice, Listing
from invoicefs.scheduling.scheduler import FAILURE_MEMORY_S

log = logging.getLogger(__name__)

REFUSAL_MEMORY_S = 60.0  # as often as lists are asked for by default

_ALL = ""  # among what looks can be paused for, all invoices; no namespace and no key is empty


class StatDownloads:
    """Brings invoices before they are opened.

    With `is_eager` every look brings its invoice; a walk has up to `largest_window` invoices
    fetched ahead of it, each within `timeout_s`.
    """

    def __init__(
        self,
        pdfs: Pdfs,
        clock: Clock,
        *,
        is_eager: bool,
        largest_window: int,
        timeout_s: float,
    ) -> None:
        self._pdfs = pdfs
        self._clock = clock
        self._is_eager = is_eager
        self._read_ahead = ReadAhead(
            pdfs.bring_in_background,
            self._is_wanted,
            clock,
            largest_window=largest_window,
            timeout_s=timeout_s,
        )
        self._paused_until_s: dict[str, float] = {}
        self._downloads_at_failure: dict[str, int] = {}

    def look(self, invoice: Invoice, siblings: Listing, deadline: Deadline) -> None:
        """Bring what a look at this invoice has to wait for; no trouble with that is raised.

        `siblings` are the invoices that are shown in its namespace.
        """
        try:
            if self._is_eager:
                self._read_ahead.visit(invoice, siblings)
            # With no time left for it, that it is not there says nothing.
            if deadline.left_s() > 0 and self._is_wanted(invoice):
                self._pdfs.bring(invoice, deadline)
        except InvoicefsError as error:
            level = logging.INFO if isinstance(error, NotFound) else logging.WARNING
            log.log(level, "The size of %s is not known: %s", invoice.key, error)
            self._pause_after(error, invoice)

    def _is_wanted(self, invoice: Invoice) -> bool:
        if self._is_paused(invoice):
            return False
        if self._is_eager:
            return not self._pdfs.is_exact(invoice)
        return self._pdfs.has_changed(invoice)

    def _pause_after(self, error: InvoicefsError, invoice: Invoice) -> None:
        if isinstance(error, NotFound | TooLarge):
            self._pause(_version_key(invoice), REFUSAL_MEMORY_S)
            return
        is_of_namespace = isinstance(error, Denied) and not isinstance(error, Unauthenticated)
        scope = invoice.namespace if is_of_namespace else _ALL
        self._pause(_version_key(invoice), FAILURE_MEMORY_S)
        if self._has_failed_in_a_row(scope):
            self._pause(scope, FAILURE_MEMORY_S)

    def _has_failed_in_a_row(self, scope: str) -> bool:
        """Note a failure; whether nothing was downloaded since the one before it."""
        before, now = self._downloads_at_failure.get(scope), self._pdfs.downloads
        self._downloads_at_failure[scope] = now
        return before == now

    def _pause(self, what: str, pause_s: float) -> None:
        self._paused_until_s[what] = self._clock.monotonic_s() + pause_s

    def _is_paused(self, invoice: Invoice) -> bool:
        now_s = self._clock.monotonic_s()
        pauses = (_ALL, invoice.namespace, _version_key(invoice))
        return any(now_s < self._paused_until_s.get(each, now_s) for each in pauses)


def _version_key(invoice: Invoice) -> str:
    return f"{invoice.key}/{invoice.version}"
