"""System calls by name, on open files that are addressed by slots."""

import ctypes
import fcntl
import mmap
import os
import select
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from tests.mount.support.drawing import (
    OFFSETS,
    Access,
    Attribute,
    Base,
    Id,
    Length,
    Lengths,
    Mode,
    Offset,
    OpenFlags,
    Path,
    Slot,
    Truth,
    one_of,
    some_of,
)

# Constants that the modules of Python do not define.
_AT_FDCWD = -100
_NO_FOLLOW, _REMOVE_DIRECTORY, _EFFECTIVE_IDS = 0x100, 0x200, 0x200
_NO_AUTOMOUNT, _EMPTY_PATH, _FORCE_SYNC, _DONT_SYNC = 0x800, 0x1000, 0x2000, 0x4000
_UNKNOWN = 0x1
_STATX_ALL = 0xFFF
_STATX = struct.Struct("=I 12x IIIH 2x 8x Q 64x qI")  # up to the mtime
_DIRENT = struct.Struct("=16x HB")
_DIRENT_NAME_OFFSET = 19
_FLOCK = struct.Struct("hhqqi4x")
_GETLK, _SETLK, _OFD_GETLK, _OFD_SETLK = 5, 6, 36, 37
_SPLICE_F_NONBLOCK = 2
_SYNC_WAIT_BEFORE, _SYNC_WRITE, _SYNC_WAIT_AFTER = 1, 2, 4
_IN_MODIFY, _IN_ONLYDIR = 0x2, 0x01000000
_IOCTLS = {
    "FIBMAP": 0x1,
    "FIONREAD": 0x541B,
    "FS_IOC_FIEMAP": 0xC020660B,
    "FS_IOC_GETFLAGS": 0x80086601,
    "unknown": 0xBAD0,
}
_CAPABILITIES_VERSION = 0x20080522
_ANY_SIZE = 1 << 22

_libc = ctypes.CDLL(None, use_errno=True)


class EmptySlot(Exception):
    """Raised by a call on a slot without an open file."""


class Calls:
    """The calls: each public method is one, and its annotations describe its arguments.

    Some make several system calls, because one alone has no result to compare.
    """

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}

    def _fd(self, slot: int) -> int:
        if slot not in self._fds:
            raise EmptySlot
        return self._fds[slot]

    def _base(self, base: int | None) -> int | None:
        return None if base is None else self._fd(base)

    def _at(self, base: int | None) -> int:
        return _AT_FDCWD if base is None else self._fd(base)

    def _keep(self, slot: int, fd: int) -> None:
        if slot in self._fds:
            os.close(self._fds[slot])
        self._fds[slot] = fd

    # Open files.

    def open(self, slot: Slot, path: Path, flags: OpenFlags) -> None:
        self._keep(slot, os.open(path, _value(flags), 0o600))

    def openat(self, slot: Slot, base: Slot, path: Path, flags: OpenFlags) -> None:
        self._keep(slot, os.open(path, _value(flags), 0o600, dir_fd=self._fd(base)))

    def read_direct(self, path: Path, length: Length, offset: Offset) -> bool:
        """Whether O_DIRECT reads the same bytes as the page cache."""
        # Closing a file drops its locks, so one is closed even if the other cannot be opened.
        with (
            _closing(os.open(path, os.O_RDONLY)) as (plain,),
            _closing(os.open(path, os.O_RDONLY | os.O_DIRECT)) as (direct,),
        ):
            return os.pread(direct, length, offset) == os.pread(plain, length, offset)

    def close(self, slot: Slot) -> None:
        os.close(self._fd(slot))
        del self._fds[slot]

    def dup(self, slot: Slot, other: Slot) -> None:
        self._keep(other, os.dup(self._fd(slot)))

    def fcntl_getfl(self, slot: Slot) -> str:
        return oct(fcntl.fcntl(self._fd(slot), fcntl.F_GETFL))

    def fcntl_setfl(
        self, slot: Slot, flags: Annotated[str, some_of("O_NONBLOCK", "O_APPEND", "O_NOATIME")]
    ) -> int:
        return fcntl.fcntl(self._fd(slot), fcntl.F_SETFL, _value(flags))

    # Attributes.

    def stat(self, path: Path) -> os.stat_result:
        return os.stat(path)

    def fstat(self, slot: Slot) -> os.stat_result:
        return os.fstat(self._fd(slot))

    def fstatat(self, base: Base, path: Path, follow: Truth) -> os.stat_result:
        return os.stat(path, dir_fd=self._base(base), follow_symlinks=follow)

    def statx(
        self,
        base: Base,
        path: Annotated[bytes, one_of(b"", b"invoice-2020-02.pdf", b"/system/invoice-2020-03.pdf")],
        flags: Annotated[
            int,
            one_of(0, _NO_FOLLOW, _NO_AUTOMOUNT, _EMPTY_PATH, _FORCE_SYNC, _DONT_SYNC, _UNKNOWN),
        ],
    ) -> object:
        buffer = ctypes.create_string_buffer(256)
        _call("statx", self._at(base), path, flags, _STATX_ALL, buffer)
        mask, links, uid, gid, mode, size, *mtime = _STATX.unpack_from(buffer)
        size = None if stat.S_ISDIR(mode) else size
        return hex(mask & _STATX_ALL), oct(mode), links, uid, gid, size, mtime

    def statvfs(self, path: Path) -> os.statvfs_result:
        return os.statvfs(path)

    def fstatvfs(self, slot: Slot) -> os.statvfs_result:
        return os.fstatvfs(self._fd(slot))

    def access(self, path: Path, mode: Access) -> int:
        return _call("access", path, _value(mode))

    def faccessat(
        self,
        base: Base,
        path: Path,
        mode: Access,
        flags: Annotated[int, one_of(0, _NO_FOLLOW, _EFFECTIVE_IDS)],
    ) -> int:
        return _call("faccessat", self._at(base), path, _value(mode), flags)

    def readlink(self, base: Base, path: Path) -> bytes:
        return os.readlink(path, dir_fd=self._base(base))

    # Content.

    def read(self, slot: Slot, length: Length) -> bytes:
        return os.read(self._fd(slot), length)

    def readv(self, slot: Slot, lengths: Lengths) -> object:
        buffers = [bytearray(length) for length in lengths]
        return os.readv(self._fd(slot), buffers), *map(bytes, buffers)

    def pread(self, slot: Slot, length: Length, offset: Offset) -> bytes:
        return os.pread(self._fd(slot), length, offset)

    def preadv(self, slot: Slot, lengths: Lengths, offset: Offset) -> object:
        buffers = [bytearray(length) for length in lengths]
        return os.preadv(self._fd(slot), buffers, offset), *map(bytes, buffers)

    def lseek(
        self,
        slot: Slot,
        offset: Offset,
        whence: Annotated[
            str, one_of("SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE")
        ],
    ) -> int | None:
        fd, depends_on_size = self._fd(slot), whence not in ("SEEK_SET", "SEEK_CUR")
        if depends_on_size and stat.S_ISDIR(os.fstat(fd).st_mode):
            return None
        return os.lseek(fd, offset, _value(whence))

    def mmap(
        self,
        slot: Slot,
        length: Length,
        page: Annotated[int, one_of(0, 0, 0, 1, 2, 31, 32, 366)],
        flags: Annotated[str, one_of("MAP_SHARED", "MAP_PRIVATE")],
        prot: Annotated[str, one_of("PROT_READ", "PROT_READ|PROT_WRITE", "PROT_READ|PROT_EXEC")],
    ) -> bytes:
        fd, number, protection = self._fd(slot), _value(flags, mmap), _value(prot, mmap)
        offset = page * mmap.PAGESIZE
        with mmap.mmap(fd, length, flags=number, prot=protection, offset=offset) as view:
            content = bytes(view)
            if protection & mmap.PROT_WRITE:
                view[:] = bytes(len(view))  # must not change the file
            return content

    def sendfile(
        self, slot: Slot, offset: Annotated[int, one_of(*OFFSETS, -1)], length: Length
    ) -> object:
        with _closing(os.memfd_create("target")) as (target,):
            count = os.sendfile(target, self._fd(slot), offset, length)
            return count, os.pread(target, _ANY_SIZE, 0)

    def splice(self, slot: Slot, offset: Offset, length: Length) -> bytes:
        with _closing(*os.pipe()) as (readable, writable):
            fd, flags = self._fd(slot), _SPLICE_F_NONBLOCK
            count = os.splice(fd, writable, length, offset, None, flags)
            return os.read(readable, count)

    def copy_file_range(self, slot: Slot, other: Slot, length: Length, offset: Offset) -> int:
        return os.copy_file_range(self._fd(slot), self._fd(other), length, offset)

    def copy_file_range_out(self, slot: Slot, length: Length, offset: Offset) -> int:
        with _closing(os.memfd_create("target")) as (target,):
            return os.copy_file_range(self._fd(slot), target, length, offset)

    def readahead(self, slot: Slot, offset: Offset, length: Length) -> int:
        return _call("readahead", self._fd(slot), _off_t(offset), ctypes.c_size_t(length))

    def posix_fadvise(
        self, slot: Slot, offset: Offset, length: Length, advice: Annotated[int, one_of(*range(7))]
    ) -> None:
        os.posix_fadvise(self._fd(slot), offset, length, advice)

    def execve(self, path: Path) -> None:
        os.execve(path, ["invoice"], {})  # noqa: S606 # it is not a program

    # Directories.

    def getdents(
        self, slot: Slot, size: Annotated[int, one_of(1, 64, 100, 500, 4096, 32_768)]
    ) -> object:
        fd, buffer = self._fd(slot), ctypes.create_string_buffer(size)
        os.lseek(fd, 0, os.SEEK_SET)
        entries: list[tuple[bytes, int]] = []
        try:
            while length := _call("getdents64", fd, buffer, ctypes.c_size_t(size)):
                entries += _dirents(buffer.raw[:length])
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
        return ascii(sorted(entries))

    def seekdir(self, path: Path, entry: Annotated[int, one_of(*range(12))]) -> object:
        """Whether the entries are the same again after seekdir and after rewinddir."""
        stream = ctypes.c_void_p(_call("opendir", path, result=ctypes.c_void_p))
        try:
            positions, names = zip(*_entries(stream), strict=True)
            entry %= len(names)
            _call("seekdir", stream, _off_t(positions[entry]), result=None)
            after = tuple(name for _, name in _entries(stream))
            _call("rewinddir", stream, result=None)
            return after == names[entry:], tuple(name for _, name in _entries(stream)) == names
        finally:
            _call("closedir", stream)

    def chdir(self, path: Path) -> str:
        os.chdir(path)
        return os.getcwd()

    def fchdir(self, slot: Slot) -> str:
        os.fchdir(self._fd(slot))
        return os.getcwd()

    # Changes.

    def write(self, slot: Slot, length: Length) -> int:
        return os.write(self._fd(slot), bytes(length))

    def pwritev(self, slot: Slot, lengths: Lengths, offset: Offset) -> int:
        return os.pwritev(self._fd(slot), [bytes(length) for length in lengths], offset)

    def truncate(self, path: Path, length: Offset) -> None:
        os.truncate(path, length)

    def ftruncate(self, slot: Slot, length: Offset) -> None:
        os.ftruncate(self._fd(slot), length)

    def fallocate(
        self,
        slot: Slot,
        mode: Annotated[int, one_of(0, 1, 3, 8, 16, 0x1000)],
        offset: Offset,
        length: Length,
    ) -> int:
        return _call("fallocate", self._fd(slot), mode, _off_t(offset), _off_t(length))

    def unlinkat(
        self, base: Base, path: Path, flags: Annotated[int, one_of(0, _REMOVE_DIRECTORY, _UNKNOWN)]
    ) -> int:
        return _call("unlinkat", self._at(base), path, flags)

    def mkdir(self, base: Base, path: Path, mode: Mode) -> None:
        os.mkdir(path, mode, dir_fd=self._base(base))

    def mknod(
        self, path: Path, kind: Annotated[str, one_of("S_IFREG", "S_IFIFO", "S_IFSOCK", "S_IFCHR")]
    ) -> None:
        os.mknod(path, _value(kind, stat) | 0o600, os.makedev(1, 3))

    def rename(
        self, base: Base, path: Path, other: Path, flags: Annotated[int, one_of(*range(8))]
    ) -> int:
        return _call("renameat2", self._at(base), path, _AT_FDCWD, other, flags)

    def link(self, base: Base, path: Path, other: Path) -> None:
        os.link(path, other, src_dir_fd=self._base(base))

    def symlink(self, target: Path, base: Base, path: Path) -> None:
        os.symlink(target, path, dir_fd=self._base(base))

    def chmod(self, base: Base, path: Path, mode: Mode) -> None:
        os.chmod(path, mode, dir_fd=self._base(base))

    def fchmod(self, slot: Slot, mode: Mode) -> None:
        os.fchmod(self._fd(slot), mode)

    def chown(self, base: Base, path: Path, uid: Id, gid: Id, follow: Truth) -> None:
        os.chown(path, uid, gid, dir_fd=self._base(base), follow_symlinks=follow)

    def fchown(self, slot: Slot, uid: Id, gid: Id) -> None:
        os.fchown(self._fd(slot), uid, gid)

    def utime(self, base: Base, path: Path, follow: Truth) -> None:
        os.utime(path, ns=(1, 2), dir_fd=self._base(base), follow_symlinks=follow)

    # Extended attributes.

    def getxattr(self, path: Path, attribute: Attribute) -> bytes:
        return os.getxattr(path, attribute)

    def listxattr(self, path: Path) -> list[str]:
        return os.listxattr(path)

    def setxattr(self, path: Path, attribute: Attribute, length: Length) -> None:
        os.setxattr(path, attribute, bytes(length))

    def removexattr(self, path: Path, attribute: Attribute) -> None:
        os.removexattr(path, attribute)

    # Other calls on open files.

    def fsync(self, slot: Slot) -> None:
        os.fsync(self._fd(slot))

    def fdatasync(self, slot: Slot) -> None:
        os.fdatasync(self._fd(slot))

    def sync_file_range(self, slot: Slot, offset: Offset, length: Length) -> int:
        flags = _SYNC_WAIT_BEFORE | _SYNC_WRITE | _SYNC_WAIT_AFTER
        return _call("sync_file_range", self._fd(slot), _off_t(offset), _off_t(length), flags)

    def flock(
        self, slot: Slot, kind: Annotated[str, one_of("LOCK_SH", "LOCK_EX", "LOCK_UN")]
    ) -> None:
        fcntl.flock(self._fd(slot), _value(kind, fcntl) | fcntl.LOCK_NB)

    def fcntl_lock(
        self,
        slot: Slot,
        command: Annotated[int, one_of(_GETLK, _SETLK, _OFD_GETLK, _OFD_SETLK)],
        kind: Annotated[str, one_of("F_RDLCK", "F_WRLCK", "F_UNLCK")],
        offset: Offset,
        length: Length,
    ) -> object:
        lock = _FLOCK.pack(_value(kind, fcntl), os.SEEK_SET, offset, length, 0)
        kind_found, *span, _ = _FLOCK.unpack(fcntl.fcntl(self._fd(slot), command, lock))
        return kind_found, span

    def poll(self, slot: Slot, other: Slot) -> object:
        by_fd = {self._fd(number): number for number in (slot, other)}
        polled = select.poll()
        for fd in by_fd:
            polled.register(fd)
        return sorted((by_fd[fd], events) for fd, events in polled.poll(0))

    def select(self, slot: Slot) -> tuple[int, ...]:
        fds = [self._fd(slot)]
        return tuple(map(len, select.select(fds, fds, fds, 0)))

    def epoll(self, slot: Slot) -> None:
        with select.epoll() as polled:
            polled.register(self._fd(slot))

    def ioctl(self, slot: Slot, request: Annotated[str, one_of(*_IOCTLS)]) -> bytes:
        return fcntl.ioctl(self._fd(slot), _IOCTLS[request], bytes(64))

    def inotify_add_watch(
        self, path: Path, mask: Annotated[int, one_of(0, _IN_MODIFY, _IN_MODIFY | _IN_ONLYDIR)]
    ) -> int:
        with _closing(_call("inotify_init")) as (notifier,):
            return _call("inotify_add_watch", notifier, path, mask)


def drop_capabilities() -> None:
    """Drop the capabilities that an ordinary user was granted."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


_off_t = ctypes.c_int64


def _call(name: str, *arguments: Any, result: Any = ctypes.c_int) -> int:
    function = getattr(_libc, name)
    function.restype = result
    ctypes.set_errno(0)
    returned: int | None = function(*arguments)
    if returned in (-1, None) and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), name)
    return returned or 0


def _value(names: str, module: object = os) -> int:
    """Return the value of flags that are written as in a program."""
    return sum(0 if name == "0" else getattr(module, name) for name in names.split("|"))


def _entries(stream: ctypes.c_void_p) -> Iterator[tuple[int, bytes]]:
    """Yield the remaining entries of a directory: their positions and names."""
    while True:
        position = _call("telldir", stream, result=_off_t)
        entry = _call("readdir", stream, result=ctypes.c_void_p)
        if not entry:
            return
        yield position, ctypes.string_at(entry + _DIRENT_NAME_OFFSET)


def _dirents(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the names and types of the entries in a buffer."""
    while data:
        length, kind = _DIRENT.unpack_from(data)
        yield data[_DIRENT_NAME_OFFSET:length].partition(b"\0")[0], kind
        data = data[length:]


@contextmanager
def _closing(*fds: int) -> Iterator[tuple[int, ...]]:
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
