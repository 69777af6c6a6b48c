"""A few threads that stay, and in which the store is read.

diskcache keeps one SQLite connection per thread, and FUSE callbacks run in a fresh thread state
every time (measured: 600 us instead of 70 us, and a leaked connection, per read). They are not
the threads that make calls, so that slow calls never hold up what is already on disk.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from invoicefs.errors import TimedOut

T = TypeVar("T")

_THREADS = 2  # reading takes well under a millisecond; one more than one for a slow disk


class DiskThreads:
    """Runs short functions that read the store. Do not call it from one of its own threads."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")

    def run(self, read: Callable[[], T]) -> T:
        """The result of `read`; raises what it raises, or `TimedOut` where the disk hangs."""
        future = self._executor.submit(read)
        is_over = threading.Event()  # also set where `close` cancels it, unlike with wait()
        future.add_done_callback(lambda _: is_over.set())
        if not is_over.wait(self._timeout_s) or future.cancelled():
            future.cancel()
            raise TimedOut("the store on disk does not answer")
        return future.result()

    def close(self) -> None:
        """End the threads after what they are at, without waiting for it."""
        self._executor.shutdown(wait=False, cancel_futures=True)
