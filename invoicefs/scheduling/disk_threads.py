"""A few long-lived threads that read the store.

A read may take forever, if the disk is on a network that has failed. Nobody can end it, so callers
that must respond in time leave it to these threads, and wait no longer than a timeout. Requests are
made in other threads, so that slow ones never delay reads from disk.
"""

import queue
from collections.abc import Callable
from typing import Any, TypeVar

from invoicefs.errors import MOUNT_IS_ENDING, TimedOut
from invoicefs.threads import start_thread

T = TypeVar("T")

_THREADS = 2  # a read takes well under a millisecond; the second one is for slow disks


class _Read:
    """A read that was queued, and the way to its caller; `is_given_up` if nobody waits for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._outcomes: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self.is_given_up = False

    def make(self) -> None:
        """Read, unless nobody waits for it."""
        if self.is_given_up:
            return
        try:
            self._outcomes.put((self._function(), None))
        except BaseException as error:
            self._outcomes.put((None, error))

    def end(self) -> None:
        """Make the caller raise `TimedOut` if the read has not been made."""
        self.is_given_up = True
        self._outcomes.put((None, TimedOut(MOUNT_IS_ENDING)))

    def result(self, timeout_s: float) -> Any:
        """Wait for the read; raises its error, or `TimedOut`."""
        try:
            value, error = self._outcomes.get(timeout=timeout_s)
        except queue.Empty:
            self.is_given_up = True
            raise TimedOut("the disk cache does not respond") from None
        if error is not None:
            raise error
        return value


class DiskThreads:
    """Threads for short functions that read the store; `run` must not be called in one of them.

    Each thread calls `on_thread_end` before it ends. Raises `OutOfMemory` if a thread cannot start.
    """

    def __init__(self, timeout_s: float, on_thread_end: Callable[[], None] = lambda: None) -> None:
        self._timeout_s = timeout_s
        self._on_thread_end = on_thread_end
        self._is_closed = False
        self._reads: queue.SimpleQueue[_Read | None] = queue.SimpleQueue()
        for number in range(_THREADS):
            start_thread(self._work, f"disk-{number}")

    def run(self, read: Callable[[], T]) -> T:
        """Return the result of `read`; raises its error, or `TimedOut` if the disk hangs."""
        queued = _Read(read)
        self._reads.put(queued)
        if self._is_closed:
            queued.end()
        result: T = queued.result(self._timeout_s)
        return result

    def close(self) -> None:
        """End the threads after their current functions, without waiting for them."""
        self._is_closed = True
        while not self._reads.empty():
            if (waiting := self._reads.get()) is not None:
                waiting.end()
        for _ in range(_THREADS):
            self._reads.put(None)

    def _work(self) -> None:
        try:
            while (waiting := self._reads.get()) is not None:
                waiting.make()
                del waiting  # an idle thread keeps no reference to its last read
        finally:
            self._on_thread_end()
