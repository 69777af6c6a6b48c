"""The types of options and arguments: how their values are parsed and completed."""

import grp
import pwd
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from invoicefs.cli import completion
from invoicefs.credentials.profiles import parse_profile_name, profile_names
from invoicefs.dates import parse_days
from invoicefs.errors import UsageError
from invoicefs.model import STATUSES
from invoicefs.settings import parse_status
from invoicefs.units import parse_duration_s, parse_octal, parse_size_bytes

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not subscriptable in older versions of click


class Parsed(_ParamType):
    """A parameter type with a function that parses values, and one that completes them.

    `parse` raises `UsageError` for an invalid value.
    """

    def __init__(
        self,
        name: str,
        parse: Callable[[str], object],
        complete: completion.Complete = completion.nothing,
    ) -> None:
        self.name = name
        self._parse = parse
        self._complete = complete

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the parsed value; an error becomes a message about the parameter."""
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[completion.Item]:
        """Return the completions of an incomplete value."""
        return self._complete(incomplete)


_LAST_ID: Final = 2**32 - 2  # 2**32 - 1 means "no change", see chown(2)


def _parse_user_id(text: str) -> int:
    return _parse_id(text, "user", lambda name: pwd.getpwnam(name).pw_uid)


def _parse_group_id(text: str) -> int:
    return _parse_id(text, "group", lambda name: grp.getgrnam(name).gr_gid)


def _parse_id(text: str, kind: str, id_of: Callable[[str], int]) -> int:
    """Return the ID of a user or group, given by number or name, as in chown(1)."""
    if re.fullmatch("[0-9]{1,10}", text) and int(text) <= _LAST_ID:
        return int(text)
    try:
        return id_of(text)
    except (KeyError, ValueError):  # no such name, or none that could exist
        raise UsageError(f"There is no {kind} {text!r} on this machine.") from None


def _user_names() -> list[str]:
    return [user.pw_name for user in pwd.getpwall()]


def _group_names() -> list[str]:
    return [group.gr_name for group in grp.getgrall()]


SIZE = Parsed("size", parse_size_bytes)
DURATION = Parsed("duration", parse_duration_s)
STATUS = Parsed("status", parse_status, completion.words(lambda: STATUSES))
URL = Parsed("url", str)
OCTAL = Parsed("octal", parse_octal)
PROFILE = Parsed("name", parse_profile_name, completion.words(profile_names))
PERIOD = Parsed("date", parse_days)
"""A day, a month or a year, as its first and last day."""
USER = Parsed("user", _parse_user_id, completion.words(_user_names))
GROUP = Parsed("group", _parse_group_id, completion.words(_group_names))

# Paths are not checked here, because a mount point may hang.
PATH = Parsed("path", Path, completion.files)
FOLDER = Parsed("path", Path, completion.folders)
FILE_NAME = Parsed("file", str, completion.files)
MOUNT_POINT = Parsed("path", Path, completion.mount_points_or(completion.folders))
PATH_IN_MOUNT = Parsed("path", Path, completion.mount_points_or(completion.files))
