"""A few long-lived threads that read the store.

A read may take for ever, if the disk is on a network that has failed. It cannot be cancelled, so
callers that must respond in time leave it to these threads, and wait no longer than a timeout.
Requests are made in other threads, so that slow ones never delay reads from disk.
"""

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from invoicefs.clock import CALLER_CHECK_S, Deadline
from invoicefs.errors import MOUNT_IS_ENDING, CacheHangs, TimedOut
from invoicefs.threads import start_thread

T = TypeVar("T")

_GRACE_S = 1.0  # after a request has taken all the time, a cached copy may still be served
_THREADS = 2  # a read takes well under a millisecond; the second one is for slow disks


class _Read:
    """A read that was queued; `is_given_up` if its caller has stopped waiting for the outcome."""

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

    def result(self, timeout_s: float, check_caller: Callable[[], None]) -> Any:
        """Wait for the read; raises its error, `CacheHangs`, or what `check_caller` raises."""
        try:
            value, error = self._outcome(timeout_s, check_caller)
        except BaseException:
            self.is_given_up = True
            raise
        if error is not None:
            raise error
        return value

    def _outcome(
        self, timeout_s: float, check_caller: Callable[[], None]
    ) -> tuple[Any, BaseException | None]:
        ends_s = time.monotonic() + timeout_s
        while (left_s := ends_s - time.monotonic()) > 0:
            with suppress(queue.Empty):
                return self._outcomes.get(timeout=min(left_s, CALLER_CHECK_S))
            check_caller()
        raise CacheHangs("the disk cache does not respond")


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

    def run(self, read: Callable[[], T], deadline: Deadline | None = None) -> T:
        """Return the result of `read`; raises its error, or `CacheHangs` after the timeout.

        With the deadline of an operation, it waits until then, but at least `_GRACE_S`, and raises
        `CallerKilled` as the deadline does.
        """
        queued = _Read(read)
        self._reads.put(queued)
        if self._is_closed:
            queued.end()
        if deadline is None:
            result: T = queued.result(self._timeout_s, lambda: None)
        else:
            result = queued.result(max(deadline.left_s(), _GRACE_S), deadline.check_caller)
        return result

    def close(self) -> None:
        """End the threads after their current functions, without waiting for them."""
        self._is_closed = True
        with suppress(queue.Empty):
            while True:
                if (waiting := self._reads.get_nowait()) is not None:
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
