"""Calls functions at given times, all of them in one thread.

A thread for each deadline would mean a thread for each request, and the number of threads may be
limited (``ulimit -u``).

Threading: `_changed` guards every field and wakes the thread, which is started when the first
alarm is set, so after any fork. It is released while a function is called; functions must not
block.
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
    """An alarm; those for the same time fire in the order in which they were set."""

    at_s: float
    number: int


class Alarm:
    """A timer for many functions; times are those of ``time.monotonic``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._functions: dict[Entry, Callable[[], object]] = {}
        self._heap: list[Entry] = []  # includes those that were cancelled
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def set(self, at_s: float, function: Callable[[], object]) -> Entry:
        """Schedule a function call; raises `OutOfMemory` if no thread can start."""
        with self._changed:
            if self._thread is None:
                self._thread = start_thread(self._call_until_closed, "alarm")
            entry = Entry(at_s, next(self._numbers))
            self._functions[entry] = function
            heapq.heappush(self._heap, entry)
            if self._heap[0] == entry:
                self._changed.notify()
            return entry

    def cancel(self, entry: Entry) -> None:
        """Cancel an alarm, which may be firing already or have fired."""
        with self._changed:
            self._functions.pop(entry, None)
            if len(self._heap) > 2 * len(self._functions) + 64:  # most were cancelled
                self._heap = sorted(self._functions)

    def close(self) -> None:
        """Cancel all alarms, and end the thread."""
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
                while self._heap and self._heap[0] not in self._functions:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._changed.wait()
                    continue
                entry = self._heap[0]
                left_s = entry.at_s - time.monotonic()
                if left_s <= 0:
                    return self._functions.pop(entry)
                self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
        return None
