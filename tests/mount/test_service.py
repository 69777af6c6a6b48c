"""A mount as a service: notifications, and the units in ``invoicefs/share/systemd/user``."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from invoicefs.cli.fstab import arguments_of
from invoicefs.cli.mount import mount as mount_command
from invoicefs.cli.options import takes_value
from invoicefs.credentials.sources import OUR_VARIABLES, take_secrets
from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import (
    CHECKOUT,
    Mount,
    Mounts,
    is_mounted,
    permissions,
    processes_of,
)
from tests.mount.support.programs import LIMIT_S, Ended, Running, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant
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


# The units in invoicefs/share/systemd/user.

MOUNT_UNIT = "invoicefs@.service"
ARCHIVE_UNIT = "invoicefs-archive@.service"
PROFILE = "acme"
UNPAID = replace(invoice(2), pdf=None, status="STATUS_ISSUED")
TENANT = tenant(UNPAID, invoice(1, 100_000), invoice(0))


@pytest.fixture
def home(mounts: Mounts) -> Path:
    """A home with the program where pipx installs it."""
    home = mounts.folder / "home"
    program = home / ".local" / "bin" / "invoicefs"
    program.parent.mkdir(parents=True)
    program.symlink_to(Path(sys.executable).with_name("invoicefs"))
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


@dataclass(frozen=True)
class ArchiveService:
    """The service that archives a mount, and the folder of the archive."""

    mount: Mount
    folder: Path
    environment: Mapping[str, str]
    home: Path

    def run(self, **variables: str) -> Ended:
        """Run its commands, with these variables in the profile; return the last that ran."""
        merged = {**self.environment, "INVOICEFS_ARCHIVE": str(self.folder), **variables}
        return UserService(ARCHIVE_UNIT, self.home, PROFILE, merged).run()[-1]

    @property
    def archived(self) -> Mapping[str, bytes]:
        """The content of each file in the archive."""
        return {path.name: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def archive_service(mounts: Mounts, home: Path) -> ArchiveService:
    """The service for a mount at its default mount point, with an empty archive."""
    folder = mounts.folder / "my archive"
    folder.mkdir()
    mount = mounts.mount(path=mounts.new_path(f"home/{PROFILE}"))
    return ArchiveService(mount, folder, mounts.environment, home)


@pytest.mark.promise(
    "The nightly archive copies every invoice, and fails if one is missing or different in it, but"
    " not if an invoice is not paid yet."
)
@pytest.mark.tenant(TENANT)
def test_the_archive_unit_copies_and_verifies(archive_service: ArchiveService) -> None:
    ended = archive_service.run().good()

    assert "verify" in ended.argv
    assert archive_service.archived == contents(TENANT)


@pytest.mark.promise(
    "The nightly archive copies every invoice, and fails if one is missing or different in it, but"
    " not if an invoice is not paid yet."
)
@pytest.mark.tenant(TENANT)
def test_the_archive_unit_fails_if_a_copy_is_different(archive_service: ArchiveService) -> None:
    archive_service.run().good()
    copy = archive_service.folder / NAMESPACE / file_name(invoice(0))
    before = copy.stat()
    copy.chmod(0o644)
    copy.write_bytes(bytes(before.st_size))
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))  # rsync sees no difference

    ended = archive_service.run()

    assert ended.code == 1
    assert copy.name in ended.text


@pytest.mark.tenant(TENANT)
def test_the_archive_keeps_the_permissions_of_its_folder(archive_service: ArchiveService) -> None:
    archive_service.folder.chmod(0o700)

    archive_service.run().good()

    assert permissions(archive_service.folder)["."] == "drwx------"


@pytest.mark.promise(
    "The nightly archive changes nothing if its folder is missing or the tenant is not mounted."
)
@pytest.mark.parametrize("archive", ["", "/nowhere/archive"])
def test_the_archive_unit_fails_without_its_folder(
    archive_service: ArchiveService, archive: str
) -> None:
    before = os.listdir("/")

    ended = archive_service.run(INVOICEFS_ARCHIVE=archive)

    assert ended.code != 0
    assert (archive or "INVOICEFS_ARCHIVE: is not set in the profile") in ended.err
    assert "rsync" not in ended.argv
    assert os.listdir("/") == before


@pytest.mark.promise(
    "The nightly archive changes nothing if its folder is missing or the tenant is not mounted."
)
def test_the_archive_unit_fails_if_nothing_is_mounted(
    mounts: Mounts, archive_service: ArchiveService
) -> None:
    mounts.umount(archive_service.mount)
    before = archive_service.folder.stat()

    ended = archive_service.run()

    assert ended.code != 0
    assert "is not a mountpoint" in ended.text
    assert archive_service.folder.stat().st_mtime_ns == before.st_mtime_ns


def test_a_dead_mount_fails_the_archive_unit(archive_service: ArchiveService) -> None:
    archive_service.mount.kill()

    ended = archive_service.run()

    assert ended.code != 0
    assert "not connected" in ended.err
    assert archive_service.archived == {}


def test_the_archive_unit_unsets_all_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = set(OUR_VARIABLES.values())
    for variable in ours:
        monkeypatch.setenv(variable, "anything")

    assert take_secrets().keys() & ours == set(value(ARCHIVE_UNIT, "UnsetEnvironment").split())


def test_the_system_units_use_only_known_options() -> None:
    options = value("srv-invoices.mount", "Options")
    found = list(arguments_of(options, takes_value(mount_command)))

    assert "_netdev" in options.split(",")  # or it is mounted before the network is up
    assert value("srv-invoices.mount", "Type") == "invoicefs"
    assert "--allow-other" in found
    where = value("srv-invoices.mount", "Where")
    assert where == value("srv-invoices.automount", "Where")
    assert where == "/srv/invoices"  # the unit name must match
