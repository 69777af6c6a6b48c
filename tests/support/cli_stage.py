"""Runs a command to completion, with the mount replaced by a record of its arguments."""

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import click
import pytest

from invoicefs import errors
from invoicefs.cli.mount import mount
from invoicefs.credentials.load import Credentials
from invoicefs.errors import InvoicefsError
from invoicefs.settings import Settings

TENANT = "https://acme.console.ves.volterra.io"

DOMAIN_ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, InvoicefsError)
]

OPTIONS_OF_MOUNT = [
    (name.removeprefix("--").replace("-", "_"), option)
    for option in mount.params
    if isinstance(option, click.Option)
    for name in option.opts
    if name.startswith("--")
]
"""Every long option of ``invoicefs mount`` but --help, by its key in an ``-o`` list."""

FLAGS = [key for key, option in OPTIONS_OF_MOUNT if option.is_flag or option.count]
KEYS_WITH_VALUE = [key for key, _ in OPTIONS_OF_MOUNT if key not in FLAGS]

GENERIC_OPTIONS = [
    *("rw", "ro", "defaults", "_netdev", "auto", "noauto", "nofail"),
    *("user", "nouser", "users", "owner", "group", "user=ann"),
    *("x-gvfs-show", "x-systemd.idle-timeout=1min", "X-mount.mkdir", "X-mount.mkdir=0755"),
    *("comment=of mine", "exec", "noexec", "dev", "nodev", "suid", "nosuid"),
    *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime"),
    *("strictatime", "nostrictatime", "lazytime", "nolazytime", "sync", "async", "dirsync"),
]
"""Options that mount(8) and fstab(5) accept for all file systems."""


@dataclass
class Mounted:
    """The arguments that the mount would have been called with."""

    settings: Settings
    credentials: Credentials
    path: str
    source: str
    is_foreground: bool
    warn: Callable[[str], None]


@dataclass
class Ended:
    """The exit status and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line of stderr, which has the error."""
        return self.err.splitlines()[-1]

    @property
    def is_quiet(self) -> bool:
        """Whether it printed nothing that is not about `-v` or `--allow-other`."""
        expected = ("The URL is from", "--fetch on-stat")
        return not self.out and all(
            any(words in line for words in expected) for line in self.err.splitlines()
        )


Run = Callable[..., Ended]


def runner(
    name: str,
    main: Callable[[], NoReturn],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs a program under its name, with any arguments and no input."""

    def run(*arguments: str) -> Ended:
        with open(os.devnull, encoding="utf-8") as no_input, monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [name, *arguments])
            patch.setattr(sys, "stdin", no_input)
            assert isinstance(sys.stderr, io.TextIOWrapper)
            sys.stderr.reconfigure(errors="backslashreplace")  # as outside tests
            with pytest.raises(SystemExit) as ended:
                main()
        output = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else int(bool(code)), output.out, output.err)

    return run


def raising(error: BaseException) -> Callable[..., None]:
    """Return a mount that raises this error."""

    def mount(*_: Any, **__: Any) -> None:
        raise error

    return mount


def token_of(call: Mounted) -> str:
    assert call.credentials.token is not None
    return call.credentials.token.token()
