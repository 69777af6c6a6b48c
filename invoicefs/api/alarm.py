"""Calls functions at moments, all of them in one thread.

A thread for each deadline would be one for each request: under a limit of threads (``ulimit -u``)
none of them could be had.

Threading: `_changed` guards every field and wakes the thread, which is started with the first
alarm that is set, so after any fork. Functions are called without it, and must not block.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from invoicefs.threads import start_thread

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """An alarm that was set; of two for one moment the one that was set first goes first."""

    at_s: float
    number: int


class Alarm:
    """Moments are those of ``time.monotonic``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._functions: dict[Entry, Callable[[], object]] = {}
        self._moments: list[Entry] = []  # a heap, with those that were cancelled
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def set(self, at_s: float, function: Callable[[], object]) -> Entry:
        """Have this called at a moment; raises `OutOfMemory` where no thread can be had."""
        with self._changed:
            if self._thread is None:
                self._thread = start_thread(self._call_until_closed, "alarm")
            entry = Entry(at_s, next(self._numbers))
            self._functions[entry] = function
            heapq.heappush(self._moments, entry)
            if self._moments[0] == entry:
                self._changed.notify()
            return entry

    def cancel(self, entry: Entry) -> None:
        """Have it not called; it may be called just now, or have been."""
        with self._changed:
            self._functions.pop(entry, None)
            if len(self._moments) > 2 * len(self._functions) + 64:  # most were cancelled
                self._moments = sorted(self._functions)

    def close(self) -> None:
        """Call nothing any more, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._functions.clear()
            self._changed.notify()

    def _call_until_closed(self) -> None:
        while (function := self._wait()) is not None:
            try:
                function()
            except Exception:
                log.exception("Unexpected failure of an alarm")

    def _wait(self) -> Callable[[], object] | None:
        with self._changed:
            while not self._is_closed:
                while self._moments and self._moments[0] not in self._functions:
                    heapq.heappop(self._moments)
                if not self._moments:
                    self._changed.wait()
                    continue
                entry = self._moments[0]
                left_s = entry.at_s - time.monotonic()
                if left_s <= 0:
                    return self._functions.pop(entry)
                self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
        return None
