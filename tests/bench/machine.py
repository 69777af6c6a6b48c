"""The machine and the programs with which the numbers were measured."""

import os
import platform
import re
import shutil
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from tests.mount.support.programs import run

_VERSION = re.compile(r"\d+(\.\d+)+")
_PACKAGES = ("invoicefs", "fsspec", "f5xc-py-substrate", "fusepy")
_VERSION_COMMANDS = (
    ("curl", "--version"),
    ("jq", "--version"),
    ("rclone", "version"),
    ("httpdirfs", "--version"),
    ("bindfs", "--version"),
    ("rsync", "--version"),
)


def description() -> str:
    """Return one line: the UTC date, the machine, and the versions of all contestants."""
    python = f"Python {platform.python_version()}"
    packages = filter(None, map(_package, _PACKAGES))
    programs = [_version(command) for command in _VERSION_COMMANDS if shutil.which(command[0])]
    return ", ".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d}",
            f"{os.cpu_count()} CPUs",
            f"Linux {platform.release()}",
            *(*packages, python, *programs),
        )
    )


def _package(name: str) -> str | None:
    """Return a Python package and its version; None if it is not installed."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None


def _version(command: tuple[str, str]) -> str:
    """Return a program and the first version number on its stderr or else its stdout."""
    ended = run(*command, env={"HOME": "/"})  # httpdirfs crashes without HOME
    found = _VERSION.search(ended.err) or _VERSION.search(ended.text)
    return f"{command[0]} {found[0] if found else 'of unknown version'}"
