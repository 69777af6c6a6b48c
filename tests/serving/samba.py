"""Samba, which serves a mount as the share ``invoices``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mount.support.mounts import Mount
from tests.mount.support.programs import Ended, run, started
from tests.serving.examples import install
from tests.serving.folder import ServedFolder
from tests.serving.running_server import HOST, MEMBER, PASSWORD, STRANGER, Account, serving

SHARE = "invoices"

# What the administrator's file has; `{folder}` is for everything that Samba keeps.
_GLOBAL = """
[global]
    server role = standalone server
    smb ports = {port}
    interfaces = {host}
    bind interfaces only = yes
    private dir = {folder}
    lock directory = {folder}
    state directory = {folder}
    cache directory = {folder}
    pid directory = {folder}
    ncalrpc dir = {folder}/ncalrpc
    log file = {folder}/log
    disable spoolss = yes
    load printers = no
    include = {example}
"""


@dataclass(frozen=True)
class Samba:
    """A running server."""

    port: int

    def client(self, commands: str, account: str = MEMBER.name, password: str = PASSWORD) -> Ended:
        """Run commands of smbclient."""
        login = f"{account}%{password}" if account else "%"
        share = f"//{HOST}/{SHARE}"
        return run(
            "smbclient",
            "--configfile=/dev/null",
            f"--port={self.port}",
            f"--user={login}",
            share,
            "-c",
            commands,
        )


@contextmanager
def samba(served: ServedFolder, mount: Mount, port: int) -> Iterator[Samba]:
    """Run Samba; both accounts have a password."""
    folder = served.new_folder("samba")
    changes = {"/srv/invoices": str(mount.path), "@invoices": f"@{MEMBER.group}"}
    example = install("samba.conf", folder, changes)
    config = folder / "smb.conf"
    config.write_text(_GLOBAL.format(port=port, host=HOST, folder=folder, example=example))
    for account in (MEMBER, STRANGER):
        _set_password(config, account)
    program = ("smbd", "--foreground", f"--configfile={config}")
    with serving(*program, port=port, log=folder / "log"):
        yield Samba(port)


def _set_password(config: Path, account: Account) -> None:
    with started("smbpasswd", "-c", config, "-s", "-a", account.name) as smbpasswd:
        smbpasswd.say(PASSWORD)
        smbpasswd.say(PASSWORD)
        smbpasswd.end().good()
