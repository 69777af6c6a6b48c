"""The commands: options in, exceptions out as one sentence and an exit code.

Exit codes: 0 done, 1 it failed, 2 it was used wrongly. What is heavy to import is imported by the
command that needs it, so that ``--help`` answers at once.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from invoicefs import __version__, config
from invoicefs.config import URL_EXAMPLE, Fetch, Settings
from invoicefs.errors import InvoicefsError, UsageError

_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Settings)}

Command = Callable[..., None]


def main() -> NoReturn:
    """Run the command line; a failure is one sentence on stderr, never a traceback."""
    _open_closed_streams()
    try:
        cli(prog_name="invoicefs")
    except UsageError as error:
        _end(2, str(error))
    except InvoicefsError as error:
        _end(1, str(error))
    except OSError as error:  # no working folder, no more processes, ...
        _end(1, f"The system refuses: {error.strerror or error}.")
    sys.exit(0)


def _open_closed_streams() -> None:
    """Put nothing in the place of standard streams that are closed (``2>&-`` in a crontab).

    Else the first files and pipes that are opened would take their numbers.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 # for good
            setattr(sys, name, stream)


def _end(code: int, sentence: str) -> NoReturn:
    click.echo(f"invoicefs: {sentence}", err=True)
    sys.exit(code)


class _Parsed(click.ParamType[Any]):
    """A value that a function of `config` understands."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


_SIZE = _Parsed("size", config.parse_size_bytes)
_DURATION = _Parsed("duration", config.parse_duration_s)
_URL = _Parsed("url", config.normalise_url)
_STATUS = _Parsed("status", config.parse_status)
_OCTAL = _Parsed("octal", config.parse_octal)
# Paths are not looked at here: a mount point may hang.
_PATH = _Parsed("path", Path)
_ID = click.IntRange(min=0, max=2**32 - 2)  # the one above stands for "leave it", see chown(2)


def _option(name: str, field: str, text: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that can also be given as ``INVOICEFS_NAME`` in the environment."""
    variable = "INVOICEFS_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, field, help=text, envvar=variable, show_envvar=True, **attributes)


def _size(name: str, field: str, text: str) -> Callable[[Command], Command]:
    default = config.format_size_bytes(_DEFAULTS[field])
    return _option(name, field, text, type=_SIZE, default=default, show_default=True)


def _duration(name: str, field: str, text: str) -> Callable[[Command], Command]:
    default = f"{_DEFAULTS[field]:g}s"
    return _option(name, field, text, type=_DURATION, default=default, show_default=True)


# Every option whose name is that of a field of `Settings`.
_SETTINGS_OPTIONS = (
    _option("--url", "url", f"URL of the tenant, like {URL_EXAMPLE}.", type=_URL, required=True),
    _option(
        "--namespace",
        "namespaces",
        "Show only this namespace; can be repeated. Invoices usually are in 'system'.",
        multiple=True,
        metavar="NAME",
    ),
    _option(
        "--status",
        "statuses",
        "Show only invoices in this state, like 'paid'; can be repeated.",
        multiple=True,
        type=_STATUS,
    ),
    _option(
        "--cache-dir",
        "cache_dir",
        "Parent folder of the stores.  [default: ~/.cache/invoicefs]",
        type=_PATH,
    ),
    _size("--cache-size", "cache_size_bytes", "Keep PDFs up to this size in sum."),
    _option(
        "--fetch",
        "fetch",
        "Download when a file is opened, or already when it is looked at: for programs that trust"
        " the size before they open.",
        type=click.Choice([each.value for each in Fetch]),
        default=_DEFAULTS["fetch"].value,
        show_default=True,
    ),
    _option(
        "--parallel",
        "parallel",
        "Make at most so many API calls at one time.",
        type=click.IntRange(min=1),
        default=_DEFAULTS["parallel"],
        show_default=True,
    ),
    _option(
        "--read-ahead",
        "read_ahead",
        "Fetch up to so many invoices ahead of a program that opens one after the other.",
        type=click.IntRange(min=0),
        default=_DEFAULTS["read_ahead"],
        show_default=True,
    ),
    _duration("--timeout", "timeout_s", "Give up an operation after this time."),
    _option(
        "--max-wait",
        "max_wait_s",
        "Try again for so long when the API is busy or away.  [default: 5s, at most --timeout]",
        type=_DURATION,
    ),
    _duration("--list-ttl", "list_ttl_s", "Use a listing for so long."),
    _duration("--active-ttl", "active_ttl_s", "Use the PDF of an unfinished invoice for so long."),
    _size("--max-pdf-size", "max_pdf_size_bytes", "Open no PDF that is larger than this."),
    _option("--uid", "uid", "Owner of the files.  [default: you]", type=_ID),
    _option("--gid", "gid", "Group of the files.  [default: yours]", type=_ID),
    _option("--umask", "umask", "Permission bits to take away.", type=_OCTAL, default="000"),
    _option("--allow-other", "allow_other", "Let other users look in.", is_flag=True),
    _option(
        "--xattr",
        "xattr",
        "Show status, period, amount and SHA-256 as extended attributes, for getfattr -d.",
        is_flag=True,
    ),
)


def _settings_options(command: Command) -> Command:
    for option in reversed(_SETTINGS_OPTIONS):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="invoicefs")
def cli() -> None:
    """Mount the billing invoices of an F5 Distributed Cloud tenant as a read-only folder."""


@cli.command()
@click.argument("mount_point", metavar="MOUNTPOINT", type=_PATH)
@_settings_options
@_option("--token-file", "token_file", "File that holds the API token.", type=_PATH)
@_option("--foreground", "is_foreground", "Stay in the foreground.", is_flag=True)
@_option("--log-file", "log_file", "Write the log to this file.", type=_PATH)
@click.option(
    "-v", "verbosity", count=True, help="Log every API call; with -vv every file operation, too."
)
def mount(
    mount_point: Path,
    token_file: Path | None,
    is_foreground: bool,
    log_file: Path | None,
    verbosity: int,
    **fields: Any,
) -> None:
    """Mount a tenant on the empty folder MOUNTPOINT.

    Returns when the folder is usable, and goes on in the background. The API token comes from
    --token-file, from the variable INVOICEFS_TOKEN, or from a prompt.
    """
    from invoicefs import logs
    from invoicefs.credentials import find_credential
    from invoicefs.mount import mount as mount_tenant

    settings = _settings(fields)
    logs.configure(
        is_foreground=is_foreground,
        log_file=log_file.absolute() if log_file else None,
        verbosity=verbosity,
    )
    credential = find_credential(token_file, _token_prompt if sys.stdin.isatty() else None)
    mount_tenant(
        settings,
        credential,
        str(mount_point.absolute()),
        is_foreground=is_foreground,
        warn=lambda sentence: click.echo(f"invoicefs: {sentence}", err=True),
    )


@cli.command()
@click.argument("mount_point", metavar="MOUNTPOINT", type=_PATH)
@click.option("--lazy", is_flag=True, help="Detach now, end when nothing uses it any more.")
def umount(mount_point: Path, lazy: bool) -> None:
    """Unmount MOUNTPOINT."""
    from invoicefs.mountpoint import unmount

    unmount(str(mount_point.absolute()), lazy=lazy)


@cli.command()
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=_PATH, required=False)
@click.option("--once", is_flag=True, help="Unmount and end after the tour.")
def demo(mount_point: Path | None, once: bool) -> None:
    """Mount sample invoices from an embedded API server, and show them around.

    Needs no account. Without MOUNTPOINT a temporary folder is used.
    """
    from invoicefs.demo import run_demo

    run_demo(mount_point.absolute() if mount_point else None, is_once=once, say=click.echo)


def _settings(fields: dict[str, Any]) -> Settings:
    """The settings from the options that were given; the others keep their defaults."""
    given = {name: value for name, value in fields.items() if value is not None}
    given["statuses"] = frozenset(given["statuses"])
    given["fetch"] = Fetch(given["fetch"])
    given.setdefault("max_wait_s", min(_DEFAULTS["max_wait_s"], given["timeout_s"]))
    if "cache_dir" in given:
        given["cache_dir"] = given["cache_dir"].absolute()
    return Settings(**given)


def _token_prompt() -> str:
    token: str = click.prompt("API token", hide_input=True, err=True)
    return token
