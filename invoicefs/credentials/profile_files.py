"""Writes and removes profiles, see `profiles`."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from invoicefs.credentials.env_files import replace_assignments
from invoicefs.credentials.profiles import profile_file
from invoicefs.credentials.secret_files import read_secret
from invoicefs.errors import UserError
from invoicefs.folders import make_private_folder


def write_profile(name: str, removed: Iterable[str], added: Mapping[str, str]) -> None:
    """Replace variables of a profile, and keep its other lines; create it if it is missing.

    Only this user can read the file, and it is replaced as a whole: after a failure the old one is
    still there. Raises `UserError`, which never shows a value.
    """
    file = profile_file(name)
    what = f"the profile {file}"
    try:
        make_private_folder(file.parent)
    except OSError as error:
        raise UserError(f"The folder {file.parent} cannot be used: {error.strerror}.") from error
    try:
        _refuse_link(file)
        old = read_secret(file, what) if file.exists() else ""
        _replace_file(file, replace_assignments(old, removed, added, what).encode())
    except UnicodeEncodeError:
        raise UserError("A path that is not UTF-8 cannot be saved in a profile.") from None
    except OSError as error:
        raise UserError(f"The profile {file} cannot be written: {error.strerror}.") from error


def remove_profile(name: str) -> None:
    """Remove a profile; raises `UserError` if it does not exist or cannot be removed."""
    file = profile_file(name)
    try:
        _refuse_link(file)
        file.unlink()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"There is no profile {name} ({file}).") from None
    except OSError as error:
        raise UserError(f"The profile {file} cannot be removed: {error.strerror}.") from error


def _refuse_link(file: Path) -> None:
    """Raise `UserError` for a link: its target would keep the old secret."""
    if file.is_symlink():
        raise UserError(f"The profile {file} is a symbolic link: remove it first.")


def _replace_file(file: Path, content: bytes) -> None:
    """Write a file with mode 0600 and rename it, so that it is either the old or the new one."""
    fd, name = tempfile.mkstemp(prefix=".", dir=file.parent)
    try:
        with open(fd, "wb") as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
