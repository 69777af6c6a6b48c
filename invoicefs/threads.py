"""Starts threads, and says so where the machine has none left."""

import threading
from collections.abc import Callable

from invoicefs.errors import OutOfMemory


def start_thread(function: Callable[[], object], name: str) -> threading.Thread:
    """Call a function in a thread that ends with the process at the latest.

    Raises `OutOfMemory` where the system allows no more threads, see RLIMIT_NPROC in getrlimit(2).
    """
    thread = threading.Thread(target=function, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OutOfMemory("this machine allows no more threads just now") from error
    return thread
