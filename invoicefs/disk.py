"""A few threads that stay, and in which the store is read.

diskcache keeps one SQLite connection per thread, and FUSE callbacks run in a fresh thread state
every time (measured: 600 us instead of 70 us, and a leaked connection, per read). They are not
the threads that make calls, so that slow calls never hold up what is already on disk.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_THREADS = 2  # reading takes well under a millisecond; one more than one for a slow disk


class DiskThreads:
    """Runs short functions that read the store. Do not call it from one of its own threads."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")

    def run(self, read: Callable[[], T]) -> T:
        """The result of `read`; raises what it raises."""
        return self._executor.submit(read).result()

    def close(self) -> None:
        """End the threads after what they are at."""
        self._executor.shutdown()
