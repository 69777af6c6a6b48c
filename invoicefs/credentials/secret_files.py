"""Where secrets are read: small files and variables, which nobody else should read."""

import ctypes
import itertools
import os
import stat
from pathlib import Path
from typing import Final

from invoicefs.errors import UserError

SECRET_BYTES: Final = 64 * 1024
CA_BUNDLE_BYTES: Final = 4 * 1024 * 1024

_PR_SET_DUMPABLE = 4  # see linux/prctl.h
_OPEN = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


def read_file(path: Path, what: str, most_bytes: int = SECRET_BYTES) -> bytes:
    """What is in a regular file that is not large; `what` names it, like ``the token file /x``.

    Anything else would be waited for, as a pipe is, or take all memory, as ``/dev/zero`` does.
    Raises `UserError`, which never tells what is in the file.
    """
    content = bytearray()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise UserError(f"{_capital(what)} is not a regular file.")
            while len(content) <= most_bytes and (part := os.read(fd, most_bytes + 1)):
                content += part
        finally:
            os.close(fd)
    except OSError as error:
        raise UserError(f"{_capital(what)} cannot be read: {error.strerror}.") from error
    except ValueError:  # of a NUL in the path
        raise UserError(f"{str(path)!r} is not the path of a file.") from None
    if len(content) > most_bytes:
        raise UserError(
            f"{_capital(what)} is larger than {most_bytes // 1024} KiB, so it is another file."
        )
    return bytes(content)


def read_secret(path: Path, what: str) -> str:
    """The text in a file; see `read_file`."""
    try:
        return read_file(path, what).decode()
    except UnicodeDecodeError:
        # Not from the error, which holds what is in the file.
        raise UserError(f"{_capital(what)} is not a text file.") from None


def is_open_to_others(path: Path) -> bool:
    """Whether the permission bits let everybody read the file, or others than its owner change it.

    As far as each folder above it may be entered by others, see path_resolution(7). A file that
    is not there is open to nobody. That a group may read it can be meant.
    """
    try:
        real = path.resolve(strict=True)
        return bool(real.stat().st_mode & _OPEN) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in real.parents
        )
    except (OSError, RuntimeError):  # of links in a circle, before Python 3.13
        return False


def take_variable(name: str) -> str:
    """Take a variable out of the environment, and overwrite what the kernel shows of it.

    The memory that ``/proc/PID/environ`` shows, see proc(5), is that which the process began
    with; taking a variable out alone leaves it there. A program that starts us may give it several
    times: each is overwritten. Raises `KeyError` where there is none.
    """
    text = os.environ[name]
    environment = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    prefix = os.fsencode(name) + b"="
    for number in itertools.count():
        address = environment[number]
        if address is None:
            break
        entry = ctypes.string_at(address)
        if entry.startswith(prefix):
            ctypes.memset(address + len(prefix), ord("*"), len(entry) - len(prefix))
    del os.environ[name]
    return text


def keep_memory_private() -> None:
    """Have the kernel write no core dump of this process, and show its memory to root alone.

    See PR_SET_DUMPABLE in prctl(2). Programs that are started from here are not affected.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
