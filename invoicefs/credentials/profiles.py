"""Profiles, in which ``invoicefs login`` keeps the URL and the credential of a tenant.

A profile is the file ``$XDG_CONFIG_HOME/invoicefs/NAME.env`` with variables ``INVOICEFS_*`` in the
format of systemd's EnvironmentFile, so that a unit can read it as well. They may also be settings.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from invoicefs.credentials.secret_files import read_secret
from invoicefs.errors import UsageError, UserError
from invoicefs.folders import configured_home

DEFAULT_PROFILE: Final = "default"
MOUNT_POINT_VARIABLE: Final = "INVOICEFS_MOUNTPOINT"
ARCHIVE_VARIABLE: Final = "INVOICEFS_ARCHIVE"

INSECURE_HTTP_VARIABLE: Final = "INVOICEFS_INSECURE_HTTP"

_PREFIX: Final = "INVOICEFS_"
_SUFFIX: Final = ".env"
_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})  # as click reads a flag's variable


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile that was read: its name, its file, and its variables, without empty ones."""

    name: str
    file: Path
    variables: Mapping[str, str] = field(repr=False)  # some are secrets

    @property
    def allows_insecure_http(self) -> bool:
        """Whether its URL may be ``http://`` to another machine."""
        return self.variables.get(INSECURE_HTTP_VARIABLE, "").strip().lower() in _TRUE

    @property
    def mount_point(self) -> Path | None:
        """The path in INVOICEFS_MOUNTPOINT, or None; see `path`."""
        return self.path(MOUNT_POINT_VARIABLE)

    def path(self, variable: str) -> Path | None:
        """Return the path in a variable, where ``~/`` is the home; None without the variable.

        Raises `UsageError` if it is relative: a service and a shell have different folders.
        """
        text = self.variables.get(variable)
        if text is None:
            return None
        path = _home() / text[2:] if text.startswith("~/") else Path(text)
        if not path.is_absolute():
            raise UsageError(f"{variable} in {self.file} is not an absolute path.")
        return path


def parse_profile_name(text: str) -> str:
    """Return the text if it can be the name of a profile; raises `UsageError` otherwise."""
    if not re.fullmatch(_NAME, text):
        raise UsageError(
            f"{text!r} is not the name of a profile: it has at most 64 letters, digits, dots, "
            "dashes and underscores, and begins with a letter or digit."
        )
    return text


def profile_names() -> tuple[str, ...]:
    """Return the names of all profiles, sorted; an unreadable folder has none. Never raises."""
    try:
        files = os.listdir(_folder())
    except (OSError, UserError):
        return ()
    names = (file.removesuffix(_SUFFIX) for file in files if file.endswith(_SUFFIX))
    return tuple(sorted(name for name in names if re.fullmatch(_NAME, name)))


def profile_file(name: str) -> Path:
    """Return the file of a profile; raises `UserError` if there is no folder for profiles."""
    return _folder() / f"{name}{_SUFFIX}"


def default_mount_point(name: str) -> Path:
    """Return the folder in the home on which a profile is mounted if it names no other one."""
    return _home() / name


def find_profile(name: str) -> Profile | None:
    """Read a profile; returns None if it does not exist.

    Raises `UserError`, which never shows its content, if its file cannot be used.
    """
    if not (_config_home() or configured_home()):
        return None
    try:
        return read_profile_file(name, profile_file(name))
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise


def read_profile(name: str) -> Profile:
    """Read a profile; raises `UserError` if it does not exist or cannot be used."""
    file = profile_file(name)
    profile = find_profile(name)
    if profile is None:
        raise UserError(f"There is no profile {name} ({file}): run {login_command(name)}.")
    return profile


def read_profile_file(name: str, file: Path) -> Profile:
    """Read the file of a profile; see `find_profile`."""
    from invoicefs.credentials.env_files import parse_assignments

    what = f"the profile {file}"
    variables = {
        assignment.name: assignment.value
        for assignment in parse_assignments(read_secret(file, what), what)
        if assignment.name.startswith(_PREFIX)
    }
    return Profile(name, file, {name: value for name, value in variables.items() if value})


def login_command(name: str) -> str:
    """Return the command that creates or renews a profile."""
    return "invoicefs login" + ("" if name == DEFAULT_PROFILE else f" --profile {name}")


def _folder() -> Path:
    return (_config_home() or _home() / ".config") / "invoicefs"


def _config_home() -> Path | None:
    path = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return path if path.is_absolute() else None  # a relative path counts as not set


def _home() -> Path:
    home = configured_home()
    if home is None:
        raise UserError("You have no home folder, which profiles need: set the variable HOME.")
    return home
