"""Unlinked files for open PDFs that do not fit in the memory reserved for them."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from invoicefs.store.files import write_all

_CHUNK_BYTES: Final = 1024 * 1024


class SpilledPdf:
    """A PDF on disk that is sliced like bytes, until it is closed.

    Threading: slices are read with pread(2), so any number of threads may read.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        """Return the size in bytes."""
        return self._size_bytes

    def __getitem__(self, part: slice) -> bytes:
        """Return the bytes of a slice with step 1; raises `OSError` if the disk fails."""
        begin, end, _ = part.indices(self._size_bytes)
        data = os.pread(self._fd, max(end - begin, 0), begin)
        if len(data) < end - begin:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def close(self) -> None:
        """Free the space on disk."""
        os.close(self._fd)


def spilled(pdf: bytes, folder: Path) -> SpilledPdf:
    """Write bytes to an unlinked file in a folder, and verify them; raises `OSError`."""
    fd, path = tempfile.mkstemp(dir=folder, prefix="open-")
    try:
        os.unlink(path)
        write_all(fd, pdf)
        for begin in range(0, len(pdf), _CHUNK_BYTES):
            if os.pread(fd, _CHUNK_BYTES, begin) != pdf[begin : begin + _CHUNK_BYTES]:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
    except OSError:
        os.close(fd)
        raise
    return SpilledPdf(fd, len(pdf))
