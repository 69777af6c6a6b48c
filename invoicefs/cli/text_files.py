"""Writes text to a file that the user names."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from invoicefs.atomic_files import replace_file
from invoicefs.errors import UserError


def write_text(file: Path, lines: Iterable[str]) -> None:
    """Write lines to a file, following links; raises `UserError` if that fails.

    A regular file is replaced as a whole, so after a failure it is as before. Pipes, devices and
    files like ``/dev/stdout`` are written to.
    """
    is_stream = str(file).startswith(("/dev/fd/", "/dev/std", "/proc/"))
    try:
        if is_stream or (file.exists() and not file.is_file()):
            with open(file, "a", encoding="utf-8", errors="surrogateescape") as stream:
                stream.writelines(lines)
        else:
            content = "".join(lines).encode("utf-8", "surrogateescape")
            path = os.path.realpath(file)
            replace_file(path, content, _mode(path))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error


def _mode(path: str) -> int:
    """Return the permissions of a file, or those that a new one gets."""
    with suppress(FileNotFoundError):
        return os.stat(path).st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
