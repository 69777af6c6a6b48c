"""Reads secrets: small files and variables that nobody else should read."""

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


def read_file(path: Path, what: str, max_bytes: int = SECRET_BYTES) -> bytes:
    """Return the content of a small regular file; `what` names it, like ``the token file /x``.

    Anything else might block, like a pipe, or take all memory, like ``/dev/zero``. Raises
    `UserError`, which never shows the content.
    """
    content = bytearray()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise UserError(f"{_capital(what)} is not a regular file.")
            while len(content) <= max_bytes and (part := os.read(fd, max_bytes + 1)):
                content += part
        finally:
            os.close(fd)
    except OSError as error:
        raise UserError(f"{_capital(what)} cannot be read: {error.strerror}.") from error
    except ValueError:  # the path has a NUL
        raise UserError(f"{str(path)!r} is not the path of a file.") from None
    if len(content) > max_bytes:
        raise UserError(
            f"{_capital(what)} is larger than {max_bytes // 1024} KiB, so it is not the right file."
        )
    return bytes(content)


def read_secret(path: Path, what: str) -> str:
    """Return the text in a file; see `read_file`."""
    try:
        return read_file(path, what).decode()
    except UnicodeDecodeError:
        # The error is not chained, because it contains the content of the file.
        raise UserError(f"{_capital(what)} is not a text file.") from None


def is_exposed(path: Path) -> bool:
    """Return whether everyone can read a file, or anyone but its owner can change it.

    That also requires that everyone can enter each folder above it, see path_resolution(7). A
    missing file is open to nobody. Read permission for the group counts as intended.
    """
    try:
        real = path.resolve(strict=True)
        return bool(real.stat().st_mode & _OPEN) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in real.parents
        )
    except (OSError, RuntimeError):  # RuntimeError for a loop of links before Python 3.13
        return False


def take_variable(name: str) -> str:
    """Remove a variable from the environment, return it, and overwrite what the kernel shows.

    ``/proc/PID/environ`` shows the memory that the process began with, see proc(5); removing a
    variable alone leaves its value there. The environment may have the variable several times:
    each value is overwritten. Raises `KeyError` if it is not set.
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
    """Prevent core dumps of this process, and let only root read its memory.

    See PR_SET_DUMPABLE in prctl(2). Child processes are not affected.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
