"""Seeded random system calls below a folder; each prints one line: the call and its result.

    python -m tests.mount.support.random_calls FOLDER SEED COUNT

All calls are drawn before the first is made, and open files are addressed by slots. So the
sequence depends only on the seed, and has the same results on two folders with the same content.

The lines omit values that differ between filesystems: device and inode numbers, block sizes and
counts, the size of a directory, and the positions and order of its entries.
"""

import errno
import hashlib
import os
import re
import stat
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from tests.mount.support.drawing import SLOTS, Draw
from tests.mount.support.syscalls import Calls, EmptySlot, drop_capabilities

# More open files make more calls succeed; and reading matters most.
_OFTEN = {"open": 8, "openat": 4, "read": 4, "pread": 4, "stat": 4, "getdents": 2}


@dataclass(frozen=True)
class Call:
    """A drawn system call."""

    name: str
    arguments: Mapping[str, object]

    def __str__(self) -> str:
        arguments = (f"{name}={_shortened(value)}" for name, value in self.arguments.items())
        return f"{self.name}({', '.join(arguments)})"


def call_names() -> tuple[str, ...]:
    """Return the names of all calls."""
    return tuple(name for name in vars(Calls) if not name.startswith("_"))


def drawn(seed: int, count: int) -> Iterator[Call]:
    """Draw the calls of a seed; the first ones fill the slots."""
    random = Random(seed)  # noqa: S311 # the same on every run
    draws = {name: _draws(name) for name in call_names()}
    names = random.choices(tuple(draws), [_OFTEN.get(name, 1) for name in draws], k=count)
    for name, slot in zip(names, range(count), strict=True):
        if slot in SLOTS:
            arguments = {"slot": slot, "path": b"/system/invoice-2020-%02d.pdf" % (slot + 1)}
            yield Call("open", {**arguments, "flags": "O_RDONLY"})
        else:
            yield Call(name, {key: draw(random) for key, draw in draws[name].items()})


def _draws(name: str) -> Mapping[str, Draw]:
    """Return the functions that draw the arguments of a call."""
    hints = typing.get_type_hints(getattr(Calls, name), include_extras=True)
    return {key: hint.__metadata__[0] for key, hint in hints.items() if key != "return"}


def outcome(calls: Calls, call: Call) -> str:
    """Return the result of a call, or the name of its error."""
    try:
        return _shown(getattr(calls, call.name)(**call.arguments))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, ascii(error))
    except (EmptySlot, ValueError, OverflowError) as error:
        return type(error).__name__


def _shown(value: object) -> str:
    if isinstance(value, os.stat_result):
        return _shown(_fields(value))
    if isinstance(value, os.statvfs_result):
        return _shown(_flags(value))
    if isinstance(value, bytes):
        return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:16]}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_shown, value))})"
    return _shortened(value)


def _fields(found: os.stat_result) -> tuple[object, ...]:
    size = None if stat.S_ISDIR(found.st_mode) else found.st_size
    times = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
    return (oct(found.st_mode), found.st_nlink, found.st_uid, found.st_gid, size, *times)


def _flags(found: os.statvfs_result) -> tuple[object, ...]:
    flags = ("ST_RDONLY", "ST_NOSUID", "ST_NODEV", "ST_NOEXEC", "ST_SYNCHRONOUS", "ST_MANDLOCK")
    return (*(flag for flag in flags if found.f_flag & getattr(os, flag)), found.f_namemax)


def _shortened(value: object) -> str:
    """Return a value as text in which long runs of one character are abbreviated."""
    return re.sub(r"(.)\1{19,}", lambda run: f"{run[1]}{{{len(run[0])}}}", ascii(value))


def main(folder: str, seed: str, count: str) -> None:
    """Make the calls, with the folder as the root directory."""
    calls, to_make = Calls(), list(drawn(int(seed), int(count)))
    # No path leads out of the folder, whatever the calls do.
    os.chroot(folder)
    os.chdir("/")
    if os.getuid() != 0:
        drop_capabilities()
    for call in to_make:
        # Unbuffered: if a call ends the program, the last line shows what came before it.
        os.write(sys.stdout.fileno(), f"{call} = {outcome(calls, call)}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
