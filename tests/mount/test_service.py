"""A mount as a service: notifications, and the units in ``scripts/systemd``."""

import signal
import socket
import sys
from collections.abc import Callable, Iterator
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
from tests.mount.support.units import UserService, value


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

MOUNT_UNIT = "invoicefs@.service"
PROFILE = "acme"


@pytest.fixture
def home(mounts: Mounts) -> Path:
    """A home with the program where the units of users expect it."""
    home = mounts.folder / "home"
    (program,) = UserService(MOUNT_UNIT, home, PROFILE, {}).commands("ExecStart")
    Path(program[0]).parent.mkdir(parents=True)
    Path(program[0]).symlink_to(Path(sys.executable).with_name("invoicefs"))
    return home


@pytest.fixture
def service(
    sandbox: Sandbox, mounts: Mounts, home: Path, manager: Manager
) -> Iterator[Callable[[], Running]]:
    """Return a function that starts the mount of a profile as its unit does."""
    profile = home / ".config" / "invoicefs" / f"{PROFILE}.env"
    profile.parent.mkdir(mode=0o700, parents=True)
    profile.touch(mode=0o600)
    profile.write_text(f"INVOICEFS_URL={sandbox.url}\nINVOICEFS_TOKEN={sandbox.token}\n")
    (command,) = UserService(MOUNT_UNIT, home, PROFILE, {}).commands("ExecStart")
    variables = {
        "HOME": str(home),
        "NOTIFY_SOCKET": str(manager.address),
        "PYTHONPATH": str(CHECKOUT),
    }
    mounts.at(home / PROFILE)
    with ExitStack() as stack:
        yield lambda: stack.enter_context(started(*command, env=variables))


def test_the_mount_unit_mounts_and_notifies(
    home: Path, manager: Manager, service: Callable[[], Running]
) -> None:
    assert value(MOUNT_UNIT, "Type") == "notify"
    running = service()
    assert manager.next_message() == "READY=1"
    assert NAMESPACE in run("ls", home / PROFILE).good().lines
    running.process.send_signal(signal.SIGTERM)
    assert manager.next_message() == "STOPPING=1"
    running.end().good()


def test_the_mount_unit_mounts_again_after_a_crash(
    mounts: Mounts, home: Path, manager: Manager, service: Callable[[], Running]
) -> None:
    path = home / PROFILE
    running = service()
    assert manager.next_message() == "READY=1"
    pids = (running.process.pid, *processes_of(path))
    killed = Mount(path, mounts.folder / "no.log", pids)
    killed.kill()
    running.end()
    assert "not connected" in run("ls", path).err

    running = service()

    assert manager.next_message() == "READY=1"
    assert NAMESPACE in run("ls", path).good().lines
    running.process.send_signal(signal.SIGTERM)
    running.end().good()


def test_the_system_units_use_only_known_options() -> None:
    options = value("srv-invoices.mount", "Options")
    found = list(arguments_of(options, takes_value(mount_command)))

    assert "_netdev" in options.split(",")  # or it is mounted before the network is up
    assert value("srv-invoices.mount", "Type") == "invoicefs"
    assert "--allow-other" in found
    where = value("srv-invoices.mount", "Where")
    assert where == value("srv-invoices.automount", "Where")
    assert where == "/srv/invoices"  # the unit name must match
