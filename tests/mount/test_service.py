"""A mount as a service: notifications, and the units in ``scripts/systemd``."""

import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from contextlib import ExitStack
from pathlib import Path

import pytest

from invoicefs.cli.fstab import arguments_of
from invoicefs.cli.mount import mount as mount_command
from invoicefs.cli.options import takes_value
from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import CHECKOUT, Mount, Mounts, is_mounted, processes_of
from tests.mount.support.programs import LIMIT_S, Running, run, started
from tests.mount.support.tenants import NAMESPACE

UNITS = CHECKOUT / "scripts" / "systemd"


class Manager:
    """A service manager that receives notifications."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.settimeout(LIMIT_S)
        self._channel.bind(str(address))

    def close(self) -> None:
        self._channel.close()

    def next_message(self) -> str:
        """Wait for the next message."""
        return self._channel.recv(4096).decode()

    def has_another_message(self) -> bool:
        """Whether there is another message by now."""
        self._channel.setblocking(False)
        try:
            return bool(self._channel.recv(4096))
        except BlockingIOError:
            return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def by_sigterm(mounts: Mounts, running: Running, path: Path) -> None:
    del mounts, path
    running.process.send_signal(signal.SIGTERM)


def by_umount(mounts: Mounts, running: Running, path: Path) -> None:
    del running
    mounts.command("umount", path).good()


@pytest.mark.promise("A service manager is notified when the mount is usable and when it ends.")
@pytest.mark.parametrize("end", [by_sigterm, by_umount])
def test_a_service_manager_is_notified_of_ready_and_stopping(
    mounts: Mounts, manager: Manager, end: Callable[[Mounts, Running, Path], None]
) -> None:
    path = mounts.new_path()
    variables = {"NOTIFY_SOCKET": str(manager.address)}
    with mounts.started("mount", "--foreground", path, env=variables) as running:
        assert manager.next_message() == "READY=1"
        assert NAMESPACE in run("ls", path).good().lines
        end(mounts, running, path)
        assert manager.next_message() == "STOPPING=1"
        ended = running.end().good()

    assert ended.err == ""
    assert not manager.has_another_message()
    assert not is_mounted(path)


def test_a_failed_mount_never_notifies_ready(mounts: Mounts, manager: Manager) -> None:
    variables = {"NOTIFY_SOCKET": str(manager.address), "INVOICEFS_TOKEN": "wrong"}

    ended = mounts.command("mount", "--foreground", mounts.new_path(), env=variables)

    assert ended.code == 1
    assert not manager.has_another_message()


# The units in scripts/systemd.


def unit(name: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys keep their case
    parser.read(UNITS / name)
    return parser


@pytest.fixture
def service(sandbox: Sandbox, mounts: Mounts, manager: Manager) -> Iterator[Callable[[], Running]]:
    """Return a function that starts what the user unit starts, in a home as README.md describes."""
    home = mounts.folder / "home"
    unit_of_user = unit("invoicefs.service")["Service"]
    assert unit_of_user["Type"] == "notify"
    before, main = (
        unit_of_user[key].replace("%h", str(home)) for key in ("ExecStartPre", "ExecStart")
    )
    program = Path(shlex.split(main)[0])
    program.parent.mkdir(parents=True)
    program.symlink_to(Path(sys.executable).with_name("invoicefs"))
    token_file = home / "token"
    token_file.write_text(sandbox.token)
    token_file.chmod(0o600)
    variables = {
        "HOME": str(home),
        "INVOICEFS_URL": sandbox.url,
        "INVOICEFS_TOKEN_FILE": str(token_file),
        "NOTIFY_SOCKET": str(manager.address),
        "PYTHONPATH": str(CHECKOUT),
    }
    mounts.at(home / "invoices")
    with ExitStack() as stack:

        def start() -> Running:
            ended = run(*shlex.split(before.removeprefix("-")))
            assert ended.code == 0 or before.startswith("-"), ended.err
            return stack.enter_context(started(*shlex.split(main), env=variables))

        yield start


def test_the_user_unit_mounts_and_notifies(
    mounts: Mounts, manager: Manager, service: Callable[[], Running]
) -> None:
    running = service()
    assert manager.next_message() == "READY=1"
    assert NAMESPACE in run("ls", mounts.folder / "home" / "invoices").good().lines
    running.process.send_signal(signal.SIGTERM)
    assert manager.next_message() == "STOPPING=1"
    running.end().good()


def test_the_user_unit_mounts_again_after_a_crash(
    mounts: Mounts, manager: Manager, service: Callable[[], Running]
) -> None:
    path = mounts.folder / "home" / "invoices"
    running = service()
    assert manager.next_message() == "READY=1"
    killed = Mount(path, mounts.folder / "no.log", processes_of(path))
    killed.kill()
    running.end()
    assert "not connected" in run("ls", path).err

    running = service()

    assert manager.next_message() == "READY=1"
    assert NAMESPACE in run("ls", path).good().lines
    running.process.send_signal(signal.SIGTERM)
    running.end().good()


def test_the_system_units_use_only_known_options() -> None:
    mount = unit("srv-invoices.mount")["Mount"]
    found = list(arguments_of(mount["Options"], takes_value(mount_command)))

    assert "_netdev" in mount["Options"].split(",")  # or it is mounted before the network is up
    assert mount["Type"] == "invoicefs"
    assert "--allow-other" in found
    assert mount["Where"] == unit("srv-invoices.automount")["Automount"]["Where"]
    assert mount["Where"] == "/srv/invoices"  # the unit name must match
