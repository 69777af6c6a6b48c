"""A disk in a bad state costs requests and one warning, never an invoice.

As soon as the disk works again, opened invoices are cached again, without a remount.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import eventually, run, started
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant
from tests.support.store_folder import database

# Small invoices are in a database, large ones in their own files; more than 2 MiB in total.
TENANT = tenant(*(invoice(number, size) for number, size in enumerate([20_000, 200_000] * 12)))
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
    pytest.mark.tenant(TENANT),
]
CONTENTS = contents(TENANT)
ROOMY = "size=64M,nr_inodes=10k"


@dataclass(frozen=True)
class Disk:
    """A filesystem in memory for the caches of these mounts."""

    path: Path

    @contextmanager
    def mounted(self, options: str) -> Iterator[None]:
        self.path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "none", self.path).good()
        try:
            yield
        finally:
            run("umount", "--lazy", self.path).good()

    def change(self, options: str) -> None:
        run("mount", "-o", f"remount,{options}", self.path).good()

    @property
    def junk(self) -> Path:
        return self.path / "junk"

    def fill_up(self) -> None:
        run("dd", "if=/dev/zero", f"of={self.junk}", "bs=1k")
        assert os.statvfs(self.path).f_bfree == 0


class Copier:
    """Copies everything from a mount, repeatedly."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._numbers = count()

    def requests(self, mount: Mount) -> int:
        """Copy everything and check it; return the number of PDF requests."""
        before = self._sandbox.count(Endpoint.PDF)
        copy = self._folder / f"copy-{next(self._numbers)}"
        run("cp", "-r", mount / NAMESPACE, copy).good()
        assert in_folder(copy) == CONTENTS
        return self._sandbox.count(Endpoint.PDF) - before


@pytest.fixture
def disk(mounts: Mounts) -> Disk:
    return Disk(mounts.cache)


@pytest.fixture
def copier(sandbox: Sandbox, tmp_path: Path) -> Copier:
    return Copier(sandbox, tmp_path)


@pytest.mark.promise(
    "A disk that is full, read-only or locked costs downloads and one warning, never an "
    "invoice, and is used again when it has recovered."
)
@pytest.mark.parametrize("options", ["size=2M", "size=64M,nr_inodes=15"], ids=["space", "inodes"])
def test_a_disk_that_fills_up_costs_requests_and_one_warning(
    disk: Disk, mounts: Mounts, copier: Copier, options: str
) -> None:
    with disk.mounted(options):
        mount = mounts.mount()
        assert copier.requests(mount) == len(CONTENTS)
        assert 0 < copier.requests(mount) < len(CONTENTS)  # what was cached before stays cached
        (warning,) = mount.warnings
        assert "the disk is full" in warning
        disk.change(ROOMY)
        copier.requests(mount)
        assert copier.requests(mount) == 0
        assert mount.warnings == [warning]
        mounts.umount(mount)


def full(disk: Disk) -> None:
    disk.change("size=2M")
    disk.fill_up()


def without_inodes(disk: Disk) -> None:
    disk.change("nr_inodes=2")
    disk.junk.touch()


def read_only(disk: Disk) -> None:
    disk.change("ro")


def repair(disk: Disk) -> None:
    disk.change(f"rw,{ROOMY}")
    disk.junk.unlink(missing_ok=True)


@pytest.mark.promise(
    "A disk that is full, read-only or locked costs downloads and one warning, never an "
    "invoice, and is used again when it has recovered."
)
@pytest.mark.parametrize(
    ("break_", "words"),
    [
        (full, "the disk is full"),
        (without_inodes, "the disk is full"),
        (read_only, "the disk is read-only"),
    ],
)
def test_a_disk_unusable_at_mount_costs_requests_and_one_warning(
    disk: Disk, mounts: Mounts, copier: Copier, break_: Callable[[Disk], None], words: str
) -> None:
    with disk.mounted(ROOMY):
        break_(disk)
        mount = mounts.mount(words=words)
        for _ in range(2):
            assert copier.requests(mount) == len(CONTENTS)
        assert len(mount.warnings) <= 1  # besides the one on stderr
        repair(disk)
        eventually(lambda: copier.requests(mount) == 0)
        assert len(mount.warnings) <= 1
        mounts.umount(mount)


def test_a_disk_that_becomes_read_only_costs_requests_and_one_warning(
    disk: Disk, mounts: Mounts, copier: Copier
) -> None:
    with disk.mounted(ROOMY):
        mounts.umount(mounts.mount())  # creates the databases; a disk in use cannot be remounted
        mount = mounts.mount()
        run("mount", "--bind", disk.path, disk.path).good()
        run("mount", "-o", "remount,ro,bind", disk.path).good()
        try:
            for _ in range(2):
                assert copier.requests(mount) == len(CONTENTS)
            (warning,) = mount.warnings
            assert "the disk is read-only" in warning
        finally:
            run("umount", "--lazy", disk.path).good()
        eventually(lambda: copier.requests(mount) == 0)
        assert len(mount.warnings) == 1
        mounts.umount(mount)


# Databases that another program has locked.

LOCK_DATABASES = """
import sqlite3, sys
connections = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:]]
for connection in connections:
    connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked(mounts: Mounts) -> Iterator[None]:
    """Have another process lock both databases of the cache."""
    (store,) = (mounts.cache / "invoicefs").iterdir()
    databases = [database(store, cache) for cache in ("pdf", "meta")]
    with started(sys.executable, "-I", "-c", LOCK_DATABASES, *databases) as holder:
        assert holder.line() == "locked"
        yield
        holder.go_on()
        holder.end().good()


@pytest.mark.promise(
    "A disk that is full, read-only or locked costs downloads and one warning, never an "
    "invoice, and is used again when it has recovered."
)
def test_a_cache_locked_while_mounted_costs_requests_and_one_warning(
    sandbox: Sandbox, mounts: Mounts, copier: Copier
) -> None:
    sandbox.tenant = tenant(*TENANT.by_name[NAMESPACE].invoices[:2])
    mount = mounts.mount("--list-ttl", "0s", "--read-ahead", "0")
    folder = mount / NAMESPACE
    first, *_ = names = list(CONTENTS)
    run("cat", folder / names[0], folder / names[1]).good()
    sandbox.tenant = TENANT
    with locked(mounts):
        run("cat", folder / names[2]).good()  # it appears in the listing
        assert copier.requests(mount) == len(CONTENTS) - 3 + 1
        assert sandbox.count(Endpoint.PDF, name=first.removesuffix(".pdf")) == 1
        assert len(mount.warnings) == 1
    eventually(lambda: copier.requests(mount) == 0)
    assert len(mount.warnings) == 1
