"""A few threads that stay, and in which the store is read.

diskcache keeps one SQLite connection per thread, and FUSE callbacks run in a fresh thread state
every time (measured: 600 us instead of 70 us, and a leaked connection, per read). They are not
the threads that make calls, so that slow calls never hold up what is already on disk.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from invoicefs.errors import TimedOut
from invoicefs.threads import start_thread

T = TypeVar("T")

_THREADS = 2  # reading takes well under a millisecond; one more than one for a slow disk
_ENDING = "the mount is ending"


class DiskThreads:
    """Runs short functions that read the store. Do not call it from one of its own threads.

    Each thread calls `on_thread_end` as its last. Raises `OutOfMemory` where no thread can be had.
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
        """The result of `read`; raises what it raises, or `TimedOut` where the disk hangs."""
        future: Future[T] = Future()
        is_over = threading.Event()  # also set where it is cancelled, unlike with result()
        future.add_done_callback(lambda _: is_over.set())
        self._reads.put((read, future))
        if self._is_closed:
            future.cancel()
        if not is_over.wait(self._timeout_s) or future.cancelled():
            future.cancel()
            raise TimedOut(_ENDING if self._is_closed else "the store on disk does not answer")
        return future.result()

    def close(self) -> None:
        """End the threads after what they are at, without waiting for it."""
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
                del waiting  # between two reads a thread holds on to nothing of the last one
        finally:
            self._on_thread_end()


def _carry_out(read: Callable[[], Any], future: "Future[Any]") -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(read())
    except BaseException as error:
        future.set_exception(error)
