"""What the numbers were measured on and with."""

import os
import platform
import re
import shutil
from datetime import UTC, datetime
from importlib.metadata import version

from tests.mount.support.programs import run

_VERSION = re.compile(r"\d+(\.\d+)+")
_VERSION_COMMANDS = (
    ("curl", "--version"),
    ("jq", "--version"),
    ("rclone", "version"),
    ("httpdirfs", "--version"),
    ("bindfs", "--version"),
    ("rsync", "--version"),
)


def description() -> str:
    """One line: the date in UTC, the machine, and the versions of all contestants."""
    python = f"Python {platform.python_version()}"
    packages = [f"{name} {version(name)}" for name in ("invoicefs", "fsspec", "fusepy")]
    programs = [_version(command) for command in _VERSION_COMMANDS if shutil.which(command[0])]
    return ", ".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d}",
            f"{os.cpu_count()} CPUs",
            f"Linux {platform.release()}",
            *(*packages, python, *programs),
        )
    )


def _version(command: tuple[str, str]) -> str:
    """The program and the first version that it names, on stderr or else on stdout."""
    ended = run(*command, env={"HOME": "/"})  # without a home, httpdirfs crashes
    found = _VERSION.search(ended.err) or _VERSION.search(ended.text)
    return f"{command[0]} {found[0] if found else 'of unknown version'}"
