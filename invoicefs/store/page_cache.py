"""Reads files from the kernel's page cache, without waiting for a disk.

Threads that must respond in time must not read from a disk, because it may hang. But a file that
was read a moment ago is in memory. On the filesystems below, all steps are then made without the
disk:

- opening: openat2(2) with RESOLVE_CACHED fails rather than read a directory or an inode, and
  O_NOATIME avoids an update of the inode;
- reading: preadv2(2) with RWF_NOWAIT returns only what is in memory. If something is missing, Linux
  5.9 and later start to read it, which seldom waits (for a free slot in the queue of a hung disk).

Network filesystems are not among them: they ask the server even for cached files. Others, such as
tmpfs and overlayfs, do not support RWF_NOWAIT.
"""

import ctypes
import os
from pathlib import Path
from typing import Final, NamedTuple

_SYS_OPENAT2: Final = 437  # on all architectures; older versions of glibc have no wrapper
_AT_FDCWD: Final = -100
_RESOLVE_CACHED: Final = 0x20  # see linux/openat2.h; since Linux 5.12

_EXT4, _XFS, _BTRFS = 0xEF53, 0x58465342, 0x9123683E  # f_type, see statfs(2)
_NEVER_WAIT: Final = frozenset({_EXT4, _XFS, _BTRFS})
_STATFS_LONGS: Final = 32  # more than struct statfs has; f_type is the first of them

_libc = ctypes.CDLL(None)


class _OpenHow(ctypes.Structure):
    """``struct open_how``, see openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# O_NONBLOCK: a FIFO in place of the file would block.
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_HOW: Final = _OpenHow(flags=_FLAGS | os.O_NOATIME, resolve=_RESOLVE_CACHED)


class FileContent(NamedTuple):
    """The whole content of a file, and its status."""

    content: bytes
    status: os.stat_result


def can_read_without_waiting(folder: Path) -> bool:
    """Return whether `read_without_waiting` may be used for files in a folder."""
    if not hasattr(os, "RWF_NOWAIT"):  # Python was built with an old C library
        return False
    status = (ctypes.c_long * _STATFS_LONGS)()
    return _libc.statfs(os.fsencode(folder), status) == 0 and status[0] in _NEVER_WAIT


def read_without_waiting(path: str, size_bytes: int) -> FileContent | None:
    """Return a file of this size if it is in the page cache; None if it is not, or on an error."""
    fd = _libc.syscall(
        _SYS_OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(_HOW), ctypes.sizeof(_HOW)
    )
    return None if fd < 0 else _read_and_close(fd, size_bytes, os.RWF_NOWAIT)


def read_file(path: str, size_bytes: int) -> FileContent | None:
    """Return a file of this size; None on an error."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return None
    return _read_and_close(fd, size_bytes, 0)


def _read_and_close(fd: int, size_bytes: int, flags: int) -> FileContent | None:
    try:
        if os.fstat(fd).st_size != size_bytes:
            return None
        buffer = bytearray(size_bytes)
        is_whole = os.preadv(fd, [buffer], 0, flags) == size_bytes
        # A file that has changed meanwhile has another ctime now.
        return FileContent(bytes(buffer), os.fstat(fd)) if is_whole else None
    except OSError:
        return None
    finally:
        os.close(fd)
