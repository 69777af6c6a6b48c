"""Servers in the foreground, which end with the test."""

import grp
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mount.support.programs import Argument, eventually, started

HOST = "127.0.0.1"
PASSWORD = "correct horse"


@dataclass(frozen=True)
class Account:
    """An account of this machine."""

    name: str

    @property
    def uid(self) -> int:
        return pwd.getpwnam(self.name).pw_uid

    @property
    def gid(self) -> int:
        return pwd.getpwnam(self.name).pw_gid

    @property
    def group(self) -> str:
        """The name of its primary group."""
        return grp.getgrgid(self.gid).gr_name

    @property
    def prefix(self) -> tuple[str, ...]:
        """The arguments that run a program as this account."""
        return ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--")


MEMBER = Account("nobody")
"""The account that may read the mounts, because it is in the group that owns them."""

STRANGER = Account("daemon")
"""An account that is not in that group."""


@contextmanager
def serving(
    *argv: Argument, port: int, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server in the foreground, from when it accepts connections; it logs to `log`."""
    with started(*argv, env=env) as server:
        eventually(lambda: server.has_ended or _accepts(port))
        if server.has_ended:
            pytest.fail(f"{server.end()}\n{log.read_text() if log.exists() else ''}")
        try:
            yield
        finally:
            server.process.terminate()  # not killed: its other processes would be left
            server.end()
            eventually(lambda: not _is_group(server.process.pid))


def _is_group(pid: int) -> bool:
    """Whether a server that leads a process group, as Samba does, has left processes in it."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0
