"""The types of options and arguments: how their values are parsed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invoicefs.credentials.profiles import parse_profile_name
from invoicefs.dates import parse_days
from invoicefs.errors import UsageError
from invoicefs.settings import parse_status
from invoicefs.units import parse_duration_s, parse_octal, parse_size_bytes

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not subscriptable in older versions of click


class Parsed(_ParamType):
    """A parameter type with a function that parses values; the function raises `UsageError`."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the parsed value; an error becomes a message about the parameter."""
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


SIZE = Parsed("size", parse_size_bytes)
DURATION = Parsed("duration", parse_duration_s)
STATUS = Parsed("status", parse_status)
OCTAL = Parsed("octal", parse_octal)
PROFILE = Parsed("profile", parse_profile_name)
PERIOD = Parsed("date", parse_days)
"""A day, a month or a year, as its first and last day."""
# Paths are not checked here, because a mount point may hang.
PATH = Parsed("path", Path)
ID = click.IntRange(min=0, max=2**32 - 2)  # 2**32 - 1 means "no change", see chown(2)
