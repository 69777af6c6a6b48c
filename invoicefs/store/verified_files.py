"""Files of PDFs that have been verified and need not be verified again.

Computing the SHA-256 of a PDF takes longer than reading it (measured: 55 us and 5 us for 100 kB).
A file is read without that if this process has verified it before, and if device, inode, size,
mtime and ctime are the same. Programs cannot set the ctime, so no write goes unnoticed. It has the
resolution of the kernel's clock tick; so a file that was changed just now is not noted yet. Only
damage without a write, by the disk itself, is not noticed before the next mount.

Threading: `_lock` guards changes to the dictionary; its values are frozen.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from invoicefs.clock import Clock, file_tick_ns
from invoicefs.store.page_cache import (
    FileContent,
    can_read_without_waiting,
    read_file,
    read_without_waiting,
)

_MAX_FILES: Final = 20_000  # about 10 MB; those beyond it are verified again
_JUST_NOW_NS: Final = 2 * file_tick_ns()


class _Identity(NamedTuple):
    """What changes when a file is replaced or written to, see stat(2)."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Identity":
        """Return the identity of the file with this status."""
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )


class _VerifiedFile(NamedTuple):
    """The path of a file, and what identified it when it was verified."""

    path: str
    identity: _Identity

    def read_by(self, read: Callable[[str, int], FileContent | None]) -> bytes | None:
        """Return the content if the file is still the same."""
        found = read(self.path, self.identity.size_bytes)
        is_same = found is not None and _Identity.of(found.status) == self.identity
        return found.content if found and is_same else None


class VerifiedFiles:
    """The verified files in a folder, by the keys of their content."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._never_waits = can_read_without_waiting(folder)
        self._files: dict[str, _VerifiedFile] = {}

    def read(self, key: str) -> bytes | None:
        """Return the content of a verified file; None if there is none, or it may have changed."""
        known = self._files.get(key)
        return known.read_by(read_file) if known else None

    def read_without_waiting(self, key: str) -> bytes | None:
        """Return the content of a verified file if that needs no disk; any thread may call this."""
        known = self._files.get(key) if self._never_waits else None
        return known.read_by(read_without_waiting) if known else None

    def note(self, key: str, path: str, status: os.stat_result) -> None:
        """Note that the content of a file is verified; its status is from before it was read."""
        if self._clock.wall_ns() - status.st_ctime_ns < _JUST_NOW_NS:
            return
        with self._lock:
            if len(self._files) >= _MAX_FILES:
                del self._files[next(iter(self._files))]
            self._files[key] = _VerifiedFile(path, _Identity.of(status))
