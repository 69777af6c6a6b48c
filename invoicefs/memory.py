"""How the process takes memory from the system, and gives it back."""

import contextlib
import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # of glibc's malloc.h
_LARGE_BYTES: Final = 1024 * 1024


def give_back_large_blocks() -> None:
    """Have the system get back at once what was a large block of memory, such as an answer.

    glibc raises its own limit for that with each large block that is freed, up to 32 MiB, see
    mallopt(3), and keeps what is below it: after a list of 100 000 invoices 24 MB (measured).
    Other C libraries have no such function, and need none.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
