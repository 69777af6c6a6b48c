"""Download on stat: downloads that a ``stat`` waits for, so that size and mtime are exact.

Two kinds of ``stat`` wait for a download:

- with ``--fetch on-stat``, every ``stat`` of an invoice whose exact size is not known;
- always, a ``stat`` of an invoice that was downloaded before and has changed according to the
  listing. ``cp -u`` decides by the result of ``stat``, before it opens anything, and would
  otherwise never update an archive. The next open would make the same request.

Invariants:

1. A ``stat`` never fails because a download fails: it shows the upper bound instead.
2. A failing API delays two ``stat`` calls, not one per invoice: if two downloads have failed and
   none has succeeded in between, the cause is not a single invoice. Then no ``stat`` waits for
   a download during the next `FAILURE_MEMORY_S`; after a 403, this only applies to the namespace. A
   single failure does not make the size of any other invoice inexact.
3. A PDF that the API does not have, or that is too large, is requested once per `REFUSAL_MEMORY_S`
   and version of the invoice, because file managers call ``stat`` again and again.
4. A ``stat`` only waits for its own invoice. With ``--fetch on-stat``, sequential ``stat`` calls
   start read-ahead of others in the background.

Threading: all fields change by single assignments.
"""

import logging
from collections.abc import Callable

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import Denied, InvoicefsError, NotFound, TooLarge, Unauthenticated
from invoicefs.library.downloads import Downloads
from invoicefs.library.pdfs import Pdfs
from invoicefs.library.read_ahead import InvoicesAhead, Tree
from invoicefs.model import Invoice
from invoicefs.scheduling.failures import FAILURE_MEMORY_S
from invoicefs.settings import Fetch, Settings

log = logging.getLogger(__name__)

REFUSAL_MEMORY_S = 60.0  # the default refresh interval of listings

_ALL = ""  # a scope that covers all invoices; no namespace and no key is empty


class StatDownloads:
    """Downloads invoices before a ``stat`` of them is answered.

    `is_for_every_stat` is true with ``--fetch on-stat``.
    """

    def __init__(
        self,
        pdfs: Pdfs,
        downloads: Downloads,
        tree: Tree,
        connect: Callable[[int], None],
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._pdfs = pdfs
        self._downloads = downloads
        self._clock = clock
        self.is_for_every_stat = settings.fetch is Fetch.ON_STAT
        self._invoices_ahead = InvoicesAhead(
            tree, downloads.start, self._is_wanted, connect, largest_window=settings.parallel
        )
        self._backoff_until_s: dict[str, float] = {}
        self._count_at_failure: dict[str, int] = {}

    def stat(self, invoice: Invoice, deadline: Deadline) -> None:
        """Download an invoice if a ``stat`` of it must wait for that; a failure is only logged."""
        try:
            if self.is_for_every_stat:
                self._invoices_ahead.visit(invoice)
            # Without time left, a failed download would say nothing about the API.
            if deadline.left_s() > 0 and self._is_wanted(invoice):
                self._downloads.fetch(invoice, deadline)
        except InvoicefsError as error:
            level = logging.INFO if isinstance(error, NotFound) else logging.WARNING
            log.log(level, "The size of %s is not known: %s", invoice.key, error)
            self._back_off_after(error, invoice)

    def _is_wanted(self, invoice: Invoice) -> bool:
        if self._is_backing_off(invoice):
            return False
        if self.is_for_every_stat:
            return not self._pdfs.is_exact(invoice)
        return self._pdfs.has_changed(invoice)

    def _back_off_after(self, error: InvoicefsError, invoice: Invoice) -> None:
        if isinstance(error, NotFound | TooLarge):
            self._back_off(_version_key(invoice), REFUSAL_MEMORY_S)
            return
        is_of_namespace = isinstance(error, Denied) and not isinstance(error, Unauthenticated)
        scope = invoice.namespace if is_of_namespace else _ALL
        self._back_off(_version_key(invoice), FAILURE_MEMORY_S)
        if self._note_failure(scope):
            self._back_off(scope, FAILURE_MEMORY_S)

    def _note_failure(self, scope: str) -> bool:
        """Note a failure; returns whether nothing was downloaded since the one before it."""
        before, now = self._count_at_failure.get(scope), self._downloads.count
        self._count_at_failure[scope] = now
        return before == now

    def _back_off(self, scope: str, backoff_s: float) -> None:
        self._backoff_until_s[scope] = self._clock.monotonic_s() + backoff_s

    def _is_backing_off(self, invoice: Invoice) -> bool:
        now_s = self._clock.monotonic_s()
        scopes = (_ALL, invoice.namespace, _version_key(invoice))
        return any(now_s < self._backoff_until_s.get(scope, now_s) for scope in scopes)


def _version_key(invoice: Invoice) -> str:
    return f"{invoice.key}/{invoice.version}"
