"""Where secrets are read: small files and variables, which nobody else should read."""

import ctypes
import os
import stat
from pathlib import Path

from invoicefs.errors import UserError

_OPEN = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


def read_secret(path: Path, what: str) -> str:
    """The text in a file; `what` names the file in sentences, like ``the token file /x``.

    Raises `UserError`, which never tells what is in the file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise UserError(f"{_capital(what)} is not a regular file.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{_capital(what)} cannot be read: {error.strerror}.") from error
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
    with; taking a variable out alone leaves it there. Raises `KeyError` where there is none.
    """
    text = os.environ[name]
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    if address := library.getenv(os.fsencode(name)):
        ctypes.memset(address, ord("*"), len(os.fsencode(text)))
    del os.environ[name]
    return text


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
