"""Writes and removes profiles, see `profiles`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from invoicefs.atomic_files import replace_file
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
        replace_file(str(file), replace_assignments(old, removed, added, what).encode(), 0o600)
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
