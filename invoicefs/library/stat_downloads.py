"""Downloads on stat: those that a ``stat`` waits for.

There are two kinds, so that size and time are exact when they are shown:

- with ``--fetch on-stat``, every ``stat`` of an invoice whose size is not known;
- in any case a ``stat`` of an invoice that was downloaded before and that the listing says has
  changed. ``cp -u`` decides by what ``stat`` shows, before it opens anything, and would otherwise
  never update an archive. It is the request that the next open would make.

Invariants:

1. A ``stat`` never fails for want of a PDF: it shows what is known, an upper bound.
2. A ``stat`` waits for a failing API twice, not once per invoice: when two in a row have failed and
   nothing was downloaded in between, the cause is not one invoice, and no ``stat`` waits for
   `FAILURE_MEMORY_S`; after a 403 none in that namespace. A single failure costs no other invoice
   its exact size.
3. A PDF that the API does not have is requested once per `REFUSAL_MEMORY_S` and version of the
   invoice, because file managers call ``stat`` again and again.
4. A ``stat`` only waits for its own invoice. Others are downloaded ahead, in the background, of
   sequential ``stat`` calls with ``--fetch on-stat``.

Threading: all fields change by single assignments.
"""

import logging

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import Denied, InvoicefsError, NotFound, TooLarge, Unauthenticated
from invoicefs.library.downloads import Downloads
from invoicefs.library.pdfs import Pdfs
from invoicefs.library.read_ahead import ReadAhead
from invoicefs.model import Invoice, Listing
from invoicefs.scheduling.failures import FAILURE_MEMORY_S
from invoicefs.settings import Fetch, Settings

log = logging.getLogger(__name__)

REFUSAL_MEMORY_S = 60.0  # the default refresh interval of listings

_ALL = ""  # a scope that covers all invoices; no namespace and no key is empty


class StatDownloads:
    """Downloads invoices before a ``stat`` of them is answered."""

    def __init__(self, pdfs: Pdfs, downloads: Downloads, clock: Clock, settings: Settings) -> None:
        self._pdfs = pdfs
        self._downloads = downloads
        self._clock = clock
        self._is_for_every_stat = settings.fetch is Fetch.ON_STAT
        self._read_ahead = ReadAhead(
            downloads.start,
            self._is_wanted,
            clock,
            largest_window=settings.parallel,
            timeout_s=settings.timeout_s,
        )
        self._paused_until_s: dict[str, float] = {}
        self._count_at_failure: dict[str, int] = {}

    def stat(self, invoice: Invoice, siblings: Listing, deadline: Deadline) -> None:
        """Download what a ``stat`` of this invoice has to wait for; raises nothing.

        `siblings` are the invoices that are shown in its namespace.
        """
        try:
            if self._is_for_every_stat:
                self._read_ahead.visit(invoice, siblings)
            # If no time is left, a download that fails says nothing.
            if deadline.left_s() > 0 and self._is_wanted(invoice):
                self._downloads.fetch(invoice, deadline)
        except InvoicefsError as error:
            level = logging.INFO if isinstance(error, NotFound) else logging.WARNING
            log.log(level, "The size of %s is not known: %s", invoice.key, error)
            self._pause_after(error, invoice)

    def _is_wanted(self, invoice: Invoice) -> bool:
        if self._is_paused(invoice):
            return False
        if self._is_for_every_stat:
            return not self._pdfs.is_exact(invoice)
        return self._pdfs.has_changed(invoice)

    def _pause_after(self, error: InvoicefsError, invoice: Invoice) -> None:
        if isinstance(error, NotFound | TooLarge):
            self._pause(_version_key(invoice), REFUSAL_MEMORY_S)
            return
        is_of_namespace = isinstance(error, Denied) and not isinstance(error, Unauthenticated)
        scope = invoice.namespace if is_of_namespace else _ALL
        self._pause(_version_key(invoice), FAILURE_MEMORY_S)
        if self._has_failed_twice(scope):
            self._pause(scope, FAILURE_MEMORY_S)

    def _has_failed_twice(self, scope: str) -> bool:
        """Note a failure; returns whether nothing was downloaded since the one before it."""
        before, now = self._count_at_failure.get(scope), self._downloads.count
        self._count_at_failure[scope] = now
        return before == now

    def _pause(self, scope: str, pause_s: float) -> None:
        self._paused_until_s[scope] = self._clock.monotonic_s() + pause_s

    def _is_paused(self, invoice: Invoice) -> bool:
        now_s = self._clock.monotonic_s()
        scopes = (_ALL, invoice.namespace, _version_key(invoice))
        return any(now_s < self._paused_until_s.get(scope, now_s) for scope in scopes)


def _version_key(invoice: Invoice) -> str:
    return f"{invoice.key}/{invoice.version}"
