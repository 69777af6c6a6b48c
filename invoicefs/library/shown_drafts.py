"""The drafts that ``stat`` has just shown: the program that asked is shown and served the same.

A file server gets the size of a file with ``stat``, and opens it a moment later. If a draft has
expired in between, and its new PDF is longer, the client gets only the beginning, and no error
(measured with stat and open 2 ms apart and ``--active-ttl 1s``: one read in 400). The open itself
asks for attributes before it opens the file: for a LOOKUP, or to check permissions.

This only applies with ``--fetch on-stat``, which such servers need.

Invariants:

1. After a ``stat`` has shown a thread the exact size of a draft that was not open, and was fresh or
   had expired while the API does not respond, each ``stat`` and the first open of that thread get
   the same version, for `SHOWN_LASTS_S`, unless another one is open, or a refresh or a repeated
   download came in between.
2. That time begins with a ``stat`` that looks for a newer version, unless that has just failed, and
   an open ends it, so nobody can keep an old draft in use by reading it often. A draft that is open
   may be old, so it does not count: if it is closed between the ``stat`` and the open of another
   program, the content may change.

Only the thread tells a new ``stat`` from one that belongs to an open. Servers that open a file in
another thread than they stat it, such as those in Go, ask for the size again after opening it.

Threading: `_lock` guards `_shown`; `get` takes no lock, because entries are frozen.
"""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from invoicefs.clock import Clock
from invoicefs.model import Invoice, Record
from invoicefs.settings import Fetch, Settings

# Servers open a file milliseconds after its ``stat``. Programs are promised a second; the other one
# is for a busy machine.
SHOWN_LASTS_S: Final = 2.0

_Key = tuple[int, str]
"""A thread ID, and the key of an invoice."""


class ShownDraft(NamedTuple):
    """A draft as it was listed and downloaded when a ``stat`` showed it."""

    invoice: Invoice
    record: Record
    shown_s: float


class ShownDrafts:
    """What each thread was shown in the last `SHOWN_LASTS_S`.

    `caller` returns the ID of the thread that waits for the operation in this thread. Only methods
    for the kernel may call `get`, `note` and `end`.
    """

    def __init__(self, caller: Callable[[], int], clock: Clock, settings: Settings) -> None:
        self._caller = caller
        self._clock = clock
        self._is_on_stat = settings.fetch is Fetch.ON_STAT
        self._lock = threading.Lock()
        self._shown: dict[_Key, ShownDraft] = {}  # the oldest first

    def get(self, key: str) -> ShownDraft | None:
        """Return what the caller was just shown of the invoice with this key, or None."""
        if not self._shown:
            return None
        shown = self._shown.get((self._caller(), key))
        return shown if shown and self._is_recent(shown, self._clock.monotonic_s()) else None

    def note(self, invoice: Invoice, record: Record) -> None:
        """Note that the caller is shown the exact size of a draft."""
        if not self._is_on_stat:
            return
        key = self._caller(), invoice.key
        shown = ShownDraft(invoice, record, self._clock.monotonic_s())
        with self._lock:
            self._shown.pop(key, None)
            self._shown[key] = shown
            while not self._is_recent(self._shown[first := next(iter(self._shown))], shown.shown_s):
                del self._shown[first]

    def end(self, key: str) -> None:
        """Forget what the caller was shown of the invoice with this key."""
        if self._shown:
            with self._lock:
                self._shown.pop((self._caller(), key), None)

    def forget(self, key: str) -> None:
        """Forget what any thread was shown of the invoice with this key."""
        with self._lock:
            self._shown = {each: shown for each, shown in self._shown.items() if each[1] != key}

    def _is_recent(self, shown: ShownDraft, now_s: float) -> bool:
        return now_s - shown.shown_s < SHOWN_LASTS_S
