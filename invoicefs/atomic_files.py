"""Replaces files as a whole: after a failure or a crash, there is the old one or the new one."""

import os
import tempfile
from contextlib import suppress


def replace_file(path: str, content: bytes, mode: int) -> None:
    """Replace a file, or create it, with these permissions; raises `OSError`.

    The file and its folder are synchronised with the disk, see NOTES in fsync(2).
    """
    folder = os.path.dirname(path) or "."
    fd, new_path = tempfile.mkstemp(prefix=".", dir=folder)
    try:
        with open(fd, "wb") as new:
            os.fchmod(fd, mode)
            new.write(content)
            new.flush()
            os.fsync(fd)
        os.replace(new_path, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new_path)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
