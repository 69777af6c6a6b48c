"""A few long-lived threads that read the store.

diskcache keeps one SQLite connection per thread, and FUSE callbacks run in a new thread state
every time (measured: 600 us instead of 70 us, and a leaked connection, per read). Requests are made
in other threads, so that slow ones never delay reads from disk.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from invoicefs.errors import MOUNT_IS_ENDING, TimedOut
from invoicefs.threads import start_thread

T = TypeVar("T")

_THREADS = 2  # a read takes well under a millisecond; the second one is for slow disks


class DiskThreads:
    """Threads for short functions that read the store; `run` must not be called in one of them.

    Each thread calls `on_thread_end` before it ends. Raises `OutOfMemory` if a thread cannot start.
    """

    def __init__(self, timeout_s: float, on_thread_end: Callable[[], None] = lambda: None) -> None:
        self._timeout_s = timeout_s
        self._on_thread_end = on_thread_end
        self._is_closed = False
        self._reads: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._reads = queue.SimpleQueue()
        for number in range(_THREADS):
            start_thread(self._work, f"disk-{number}")

    def run(self, read: Callable[[], T]) -> T:
        """Return the result of `read`; raises its error, or `TimedOut` if the disk hangs."""
        future: Future[T] = Future()
        is_over = threading.Event()  # is also set on cancellation, where result() would raise
        future.add_done_callback(lambda _: is_over.set())
        self._reads.put((read, future))
        if self._is_closed:
            future.cancel()
        if not is_over.wait(self._timeout_s) or future.cancelled():
            future.cancel()
            raise TimedOut(
                MOUNT_IS_ENDING if self._is_closed else "the disk cache does not respond"
            )
        return future.result()

    def close(self) -> None:
        """End the threads after their current functions, without waiting for them."""
        self._is_closed = True
        while not self._reads.empty():
            if (waiting := self._reads.get()) is not None:
                waiting[1].cancel()
        for _ in range(_THREADS):
            self._reads.put(None)

    def _work(self) -> None:
        try:
            while (waiting := self._reads.get()) is not None:
                _carry_out(*waiting)
                del waiting  # an idle thread keeps no reference to its last read
        finally:
            self._on_thread_end()


def _carry_out(read: Callable[[], Any], future: "Future[Any]") -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(read())
    except BaseException as error:
        future.set_exception(error)
