"""Ways to read an open file without asking for its size first, except for `mmap`.

Each returns pieces, which together contain the beginning of the file. Many read beyond the end, or
have several requests in flight: a kernel with the wrong size then fills gaps with zeros.
"""

import mmap
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from random import Random

_KIB = 1024
_BUFFERS = (4 * _KIB, 16 * _KIB, 64 * _KIB, 128 * _KIB, 1024 * _KIB)
_WINDOW = 128 * _KIB  # the kernel's read-ahead, and the largest request of libfuse 2
_BEYOND = 512 * _KIB  # beyond the end of every file
_PIECE = 32 * _KIB
_WHOLE = 1 << 40


@dataclass(frozen=True)
class Piece:
    """What was read at an offset; less than `length` only at the end of the file."""

    offset: int
    length: int
    found: bytes


def pread_all(handle: int, length: int, offset: int) -> Piece:
    """Read until the length or the end of the file is reached."""
    found = b""
    while more := os.pread(handle, length - len(found), offset + len(found)):
        found += more
    return Piece(offset, length, found)


def _whole(found: Sequence[bytes]) -> Sequence[Piece]:
    return [Piece(0, _WHOLE, b"".join(found))]


def _read_loop(handle: int, random: Random, _pool: Executor) -> Sequence[Piece]:
    size = random.choice(_BUFFERS)
    return _whole(list(iter(lambda: os.read(handle, size), b"")))


def _read_after_fadvise(handle: int, random: Random, pool: Executor) -> Sequence[Piece]:
    """Read after the kernel has sent many read requests at once."""
    os.posix_fadvise(handle, 0, _BEYOND, os.POSIX_FADV_WILLNEED)
    return _read_loop(handle, random, pool)


def _read_again_uncached(handle: int, random: Random, pool: Executor) -> Sequence[Piece]:
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    return _read_loop(handle, random, pool)


def _pread_backwards(handle: int, random: Random, _pool: Executor) -> Sequence[Piece]:
    step = random.choice((_PIECE, _WINDOW))
    return [pread_all(handle, step, offset) for offset in range(_BEYOND - step, -1, -step)]


def _pread_at_random(handle: int, random: Random, _pool: Executor) -> Sequence[Piece]:
    offsets = list(range(0, _BEYOND, _PIECE))
    random.shuffle(offsets)
    return [pread_all(handle, _PIECE, offset) for offset in offsets]


def _two_threads(handle: int, random: Random, pool: Executor) -> Sequence[Piece]:
    """Read alternating pieces in two threads."""
    step = random.choice((_PIECE, _WINDOW))

    def every_second(first: int) -> Sequence[Piece]:
        return [pread_all(handle, step, offset) for offset in range(first, _BEYOND, 2 * step)]

    others = pool.submit(every_second, step)
    return [*every_second(0), *others.result()]


def _read_while_far(handle: int, random: Random, pool: Executor) -> Sequence[Piece]:
    """Read from the beginning while another thread reads beyond the end."""
    far = random.randrange(_WINDOW, _BEYOND)
    others = pool.submit(pread_all, handle, _PIECE, far)
    return [*_read_loop(handle, random, pool), others.result()]


def _sendfile_to_file(handle: int, _random: Random, _pool: Executor) -> Sequence[Piece]:
    target = os.memfd_create("copy")
    try:
        while os.sendfile(target, handle, None, _BEYOND):
            pass
        return _whole([os.pread(target, os.fstat(target).st_size, 0)])
    finally:
        os.close(target)


def _sendfile_to_socket(handle: int, _random: Random, _pool: Executor) -> Sequence[Piece]:
    ours, theirs = socket.socketpair()
    found = []
    with ours, theirs:
        while sent := os.sendfile(theirs.fileno(), handle, None, _PIECE):
            found.append(ours.recv(sent, socket.MSG_WAITALL))
    return _whole(found)


def _splice(handle: int, _random: Random, _pool: Executor) -> Sequence[Piece]:
    source, target = os.pipe()
    found = []
    try:
        while sent := os.splice(handle, target, _PIECE):
            while sent:
                found.append(os.read(source, sent))
                sent -= len(found[-1])
    finally:
        os.close(source)
        os.close(target)
    return _whole(found)


def _mapped(handle: int, flags: int) -> Sequence[Piece]:
    """Map the file, and access the end first."""
    size = os.fstat(handle).st_size
    with closing(mmap.mmap(handle, size, flags, mmap.PROT_READ)) as mapped:
        offsets = range(0, size, _PIECE)
        found = [mapped[offset : offset + _PIECE] for offset in reversed(offsets)]
    return _whole(found[::-1])


def _mmap_shared(handle: int, _random: Random, _pool: Executor) -> Sequence[Piece]:
    return _mapped(handle, mmap.MAP_SHARED)


def _mmap_private(handle: int, _random: Random, _pool: Executor) -> Sequence[Piece]:
    return _mapped(handle, mmap.MAP_PRIVATE)


Way = Callable[[int, Random, Executor], Sequence[Piece]]

WAYS: Mapping[str, Way] = {
    "read": _read_loop,
    "read after fadvise": _read_after_fadvise,
    "read without the page cache": _read_again_uncached,
    "pread backwards": _pread_backwards,
    "pread at random": _pread_at_random,
    "pread in two threads": _two_threads,
    "read while a thread reads beyond the end": _read_while_far,
    "sendfile to a file": _sendfile_to_file,
    "sendfile to a socket": _sendfile_to_socket,
    "splice to a pipe": _splice,
    "mmap shared": _mmap_shared,
    "mmap private": _mmap_private,
}
