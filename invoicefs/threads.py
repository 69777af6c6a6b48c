"""Starts threads, with an exception of the domain if the machine allows no more."""

import threading
from collections.abc import Callable

from invoicefs.errors import OutOfMemory


def start_thread(function: Callable[[], object], name: str) -> threading.Thread:
    """Call a function in a daemon thread.

    Raises `OutOfMemory` if the system allows no more threads, see RLIMIT_NPROC in getrlimit(2).
    """
    thread = threading.Thread(target=function, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OutOfMemory("this machine allows no more threads at the moment") from error
    return thread
