"""Writes files that only their owner can read."""

import os
from contextlib import suppress


def write_new_file(path: str, data: bytes) -> None:
    """Create a file with mode 0600; raises `OSError`, and then there is no file.

    Otherwise a full disk would keep partial files that nothing refers to.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes, although write(2) may write fewer; raises `OSError`."""
    written = 0
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])
