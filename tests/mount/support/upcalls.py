"""The requests, or upcalls, that the kernel sends to a mount.

``strace`` shows what the mount's process reads from ``/dev/fuse``: each read returns one request,
which begins with the ``struct fuse_in_header`` of the kernel's ``uapi/linux/fuse.h``.
"""

import os
import re
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.mount.support.mounts import Mount
from tests.mount.support.programs import Running, eventually, missing, run, started


class Opcode(IntEnum):
    """The operation of a request, without those that only modify a filesystem."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    READDIRPLUS = 44
    LSEEK = 46
    COPY_FILE_RANGE = 47
    STATX = 52


# The kernel may delay these, even until long after the program has ended.
LATE = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.RELEASE, Opcode.RELEASEDIR}


class Request(NamedTuple):
    """One request of the kernel: its opcode, and the first bytes after the header."""

    opcode: int
    arguments: bytes

    @property
    def name(self) -> str:
        """The name of its opcode."""
        return _NAMES.get(self.opcode, f"OPCODE_{self.opcode}")


_NAMES = {opcode.value: opcode.name for opcode in Opcode}
_HEADER = struct.Struct("=IIQQIIII")  # length, opcode, id, inode, user, group, process, padding
_SHOWN_BYTES = 64
_MARKER_NAME = ".counted"  # cannot be an invoice, so a lookup makes no HTTP request
_MARKER = Request(Opcode.LOOKUP, _MARKER_NAME.encode() + b"\0")

# Any descriptor matches: libfuse may splice a request into a pipe, and read it from there.
_READ = re.compile(
    rb'\bread(?:\(\d+, | resumed>,? ?)"((?:\\x[0-9a-f]{2})*)"(?:\.{3})?, \d+\) += (\d+)'
)


@contextmanager
def counted(mount: Mount) -> Iterator[Counter[str]]:
    """Count the kernel's requests to a mount, by opcode; the counter is filled at the end.

    The requests of all processes count, including those of the mount itself, but not those that
    the kernel may delay.
    """
    counts: Counter[str] = Counter()
    with TemporaryDirectory() as folder, _traced(mount, Path(folder) / "trace") as (strace, trace):
        yield counts
        run("stat", mount / _MARKER_NAME)
        strace.process.terminate()  # it has logged each request before the response
        errors = strace.end().err
        found = requests(trace.read_bytes())
    assert _MARKER in found, f"strace has recorded nothing: {errors}"
    counts.update(
        request.name for request in found[: found.index(_MARKER)] if request.opcode not in LATE
    )


def requests(trace: bytes) -> list[Request]:
    """Return the requests among the reads in the output of strace, oldest first."""
    found = []
    for shown, length in _READ.findall(trace):
        read = bytes.fromhex(shown.replace(rb"\x", b"").decode())
        if len(read) >= _HEADER.size:
            header_length, opcode, *_ = _HEADER.unpack_from(read)
            if header_length == int(length):
                found.append(Request(opcode, read[_HEADER.size :]))
    return found


@contextmanager
def _traced(mount: Mount, trace: Path) -> Iterator[tuple[Running, Path]]:
    """Attach strace to the process that serves a mount, with all of its threads."""
    options = ("-f", "-q", "-xx", "-s", str(_SHOWN_BYTES), "-e", "signal=none")
    with started("strace", *options, "-p", str(mount.daemon), "-o", trace) as strace:
        eventually(lambda: strace.has_ended or _shows_all_threads(trace, mount.daemon))
        if strace.has_ended:
            missing(f"strace may not trace another process: {strace.end().err}")
        yield strace, trace


def _shows_all_threads(trace: Path, pid: int) -> bool:
    """Whether a trace contains each thread of a process.

    A thread that is blocked in a system call restarts it, visibly, once strace is attached; before
    that, the end of the call would not be traced. So all kinds of system calls are traced.
    """
    shown = {line.split(maxsplit=1)[0] for line in _lines(trace)}
    return {task.encode() for task in os.listdir(f"/proc/{pid}/task")} <= shown


def _lines(trace: Path) -> list[bytes]:
    return trace.read_bytes().splitlines() if trace.exists() else []
