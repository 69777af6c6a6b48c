"""Bytes in files without a name, for what is open and too much for memory."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

_PART_BYTES: Final = 1024 * 1024


class SpilledPdf:
    """Cut into slices like the bytes that it stands for, until it is closed.

    Threading: slices are read at their own places, so any number of threads may read.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        """How many bytes it stands for."""
        return self._size_bytes

    def __getitem__(self, part: slice) -> bytes:
        """The bytes in a slice, whose step is 1; raises `OSError` where the disk fails."""
        begin, end, _ = part.indices(self._size_bytes)
        data = os.pread(self._fd, max(end - begin, 0), begin)
        if len(data) < end - begin:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def close(self) -> None:
        """Give the disk back what it takes."""
        os.close(self._fd)


def spilled(pdf: bytes, folder: Path) -> SpilledPdf:
    """The bytes in a file of a folder, held against them once; raises `OSError`."""
    fd, path = tempfile.mkstemp(dir=folder, prefix="open-")
    try:
        os.unlink(path)
        written = 0
        while written < len(pdf):
            written += os.write(fd, memoryview(pdf)[written:])
        for begin in range(0, len(pdf), _PART_BYTES):
            if os.pread(fd, _PART_BYTES, begin) != pdf[begin : begin + _PART_BYTES]:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
    except OSError:
        os.close(fd)
        raise
    return SpilledPdf(fd, len(pdf))
