"""Download on stat: downloads that a ``stat`` waits for, so that size and mtime are exact.

Two kinds of ``stat`` wait for a download:

- with ``--fetch on-stat``, every ``stat`` of an invoice whose exact size is not known;
- always, a ``stat`` of an invoice that was downloaded before and has changed according to the
  listing. ``cp -u`` decides by the result of ``stat``, before it opens anything, and would
  otherwise never update an archive. The next open would make the same request.

Invariants:

1. A ``stat`` never fails because a download fails: it shows the upper bound instead. With ``--fetch
   on-stat``, an expired draft keeps its size while the API does not respond, because an open serves
   its cached copy then.
2. A failing API delays two ``stat`` calls, not one per invoice: if two downloads have failed and
   none has succeeded in between, the cause is not a single invoice. Then no ``stat`` waits for
   a download during the next `FAILURE_MEMORY_S`; after a 403, this only applies to the namespace. A
   single failure does not make the size of any other invoice inexact.
3. A PDF that the API does not have, or that is too large, is requested once per `REFUSAL_MEMORY_S`
   and version of the invoice, because file managers call ``stat`` again and again. An open that
   succeeds in the meantime ends that.
4. A ``stat`` only waits for its own invoice. With ``--fetch on-stat``, sequential ``stat`` calls
   start read-ahead of others in the background.

Threading: all fields change by single assignments.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import (
    CacheHangs,
    Denied,
    InvoicefsError,
    NoResponse,
    NotFound,
    TooLarge,
    Unauthenticated,
)
from invoicefs.library.downloads import Downloads
from invoicefs.library.pdfs import Pdfs
from invoicefs.library.read_ahead import InvoicesAhead, Tree
from invoicefs.model import Invoice
from invoicefs.scheduling.failures import FAILURE_MEMORY_S
from invoicefs.settings import Fetch, Settings

log = logging.getLogger(__name__)

REFUSAL_MEMORY_S = 60.0  # the default refresh interval of listings

_UNKNOWN_SIZE: Final = "The size of %s is not known: %s"
_ALL = ""  # a scope that covers all invoices; no namespace and no key is empty


class _Backoff(NamedTuple):
    """Until when no ``stat`` waits for a download, and which failure is the reason."""

    until_s: float
    error: InvoicefsError


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
        self._backoffs: dict[str, _Backoff] = {}
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
            log.log(level, _UNKNOWN_SIZE, invoice.key, error)
            self._back_off_after(error, invoice)
        if self.is_for_every_stat and isinstance(self._backoff_reason(invoice), NoResponse):
            self._show_expired(invoice, deadline)

    def _show_expired(self, invoice: Invoice, deadline: Deadline) -> None:
        try:
            self._pdfs.show_expired(invoice, deadline)
        except CacheHangs as error:
            log.warning(_UNKNOWN_SIZE, invoice.key, error)

    def _is_wanted(self, invoice: Invoice) -> bool:
        if self._backoff_reason(invoice) is not None:
            return False
        if self.is_for_every_stat:
            return not self._pdfs.is_exact(invoice)
        return self._pdfs.has_changed(invoice)

    def _back_off_after(self, error: InvoicefsError, invoice: Invoice) -> None:
        if isinstance(error, NotFound | TooLarge):
            self._back_off(_version_key(invoice), REFUSAL_MEMORY_S, error)
            return
        is_of_namespace = isinstance(error, Denied) and not isinstance(error, Unauthenticated)
        scope = invoice.namespace if is_of_namespace else _ALL
        self._back_off(_version_key(invoice), FAILURE_MEMORY_S, error)
        if self._note_failure(scope):
            self._back_off(scope, FAILURE_MEMORY_S, error)

    def _note_failure(self, scope: str) -> bool:
        """Note a failure; returns whether nothing was downloaded since the one before it."""
        before, now = self._count_at_failure.get(scope), self._downloads.count
        self._count_at_failure[scope] = now
        return before == now

    def _back_off(self, scope: str, backoff_s: float, error: InvoicefsError) -> None:
        self._backoffs[scope] = _Backoff(self._clock.monotonic_s() + backoff_s, error)

    def _backoff_reason(self, invoice: Invoice) -> InvoicefsError | None:
        """Return why no ``stat`` of an invoice waits for its download now, or None."""
        now_s = self._clock.monotonic_s()
        scopes = [_ALL, invoice.namespace]
        if self._downloads.has_failed(invoice):
            scopes.append(_version_key(invoice))
        backoffs = filter(None, map(self._backoffs.get, scopes))
        return next((backoff.error for backoff in backoffs if now_s < backoff.until_s), None)


def _version_key(invoice: Invoice) -> str:
    return f"{invoice.key}/{invoice.version}"
