"""A disk in a bad state costs calls, never an invoice: each reads right, with one warning.

And as soon as the disk is well again, what is opened is kept again, without a remount.
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
from tests.support.store_folder import connection, database

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")

# Small ones lie in a database, large ones in files of their own; more than 2 MiB in sum.
TENANT = tenant(*(invoice(number, size) for number, size in enumerate([20_000, 200_000] * 12)))
CONTENTS = contents(TENANT)
ROOMY = "size=64M,nr_inodes=10k"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(TENANT) as sandbox:
        yield sandbox


@dataclass(frozen=True)
class Disk:
    """A file system in memory, on which the stores of these mounts lie."""

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
    """Copies everything of a mount, again and again."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._numbers = count()

    def calls(self, mount: Mount) -> int:
        """Copy everything, and make sure that it is right; the calls that it took."""
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
def test_a_disk_that_fills_up_costs_calls_and_one_warning(
    disk: Disk, mounts: Mounts, copier: Copier, options: str
) -> None:
    with disk.mounted(options):
        mount = mounts.mount()
        assert copier.calls(mount) == len(CONTENTS)
        assert 0 < copier.calls(mount) < len(CONTENTS)  # what was kept before is kept
        (warning,) = mount.warnings
        assert "the disk is full" in warning
        disk.change(ROOMY)
        copier.calls(mount)
        assert copier.calls(mount) == 0
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


def mend(disk: Disk) -> None:
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
def test_a_disk_that_is_unusable_from_the_first_costs_calls_and_one_warning(
    disk: Disk, mounts: Mounts, copier: Copier, break_: Callable[[Disk], None], words: str
) -> None:
    with disk.mounted(ROOMY):
        break_(disk)
        mount = mounts.mount(words=words)
        for _ in range(2):
            assert copier.calls(mount) == len(CONTENTS)
        assert len(mount.warnings) <= 1  # besides that of the command
        mend(disk)
        eventually(lambda: copier.calls(mount) == 0)
        assert len(mount.warnings) <= 1
        mounts.umount(mount)


def test_a_disk_that_becomes_read_only_costs_calls_and_one_warning(
    disk: Disk, mounts: Mounts, copier: Copier
) -> None:
    with disk.mounted(ROOMY):
        mounts.umount(mounts.mount())  # the databases are there; a used disk cannot be changed
        mount = mounts.mount()
        run("mount", "--bind", disk.path, disk.path).good()
        run("mount", "-o", "remount,ro,bind", disk.path).good()
        try:
            for _ in range(2):
                assert copier.calls(mount) == len(CONTENTS)
            (warning,) = mount.warnings
            assert "the disk is read-only" in warning
        finally:
            run("umount", "--lazy", disk.path).good()
        eventually(lambda: copier.calls(mount) == 0)
        assert len(mount.warnings) == 1
        mounts.umount(mount)


def test_a_read_only_disk_with_a_store_on_it_serves_by_calls(
    disk: Disk, mounts: Mounts, copier: Copier
) -> None:
    with disk.mounted(ROOMY):
        mount = mounts.mount()
        assert copier.calls(mount) == len(CONTENTS)
        mounts.umount(mount)
        read_only(disk)
        mount = mounts.mount(words="the disk is read-only", path=mount.path)
        assert copier.calls(mount) == len(CONTENTS)
        mend(disk)
        eventually(lambda: copier.calls(mount) == 0)
        mounts.umount(mount)


# Databases that another program has locked.

HOLD = """
import sqlite3, sys
connections = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[2:]]
for connection in connections:
    connection.execute(f"PRAGMA locking_mode={sys.argv[1]}")
    connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked(mounts: Mounts, *, is_for_readers_too: bool = False) -> Iterator[None]:
    """Have another process hold both databases of the store."""
    (store,) = (mounts.cache / "invoicefs").iterdir()
    databases = [database(store, cache) for cache in ("pdf", "meta")]
    mode = "EXCLUSIVE" if is_for_readers_too else "NORMAL"
    with started(sys.executable, "-I", "-c", HOLD, mode, *databases) as holder:
        assert holder.line() == "locked"
        yield
        holder.go_on()
        holder.end().good()


@pytest.mark.promise(
    "A disk that is full, read-only or locked costs downloads and one warning, never an "
    "invoice, and is used again when it has recovered."
)
def test_a_store_that_is_locked_in_use_costs_calls_and_one_warning(
    sandbox: Sandbox, mounts: Mounts, copier: Copier
) -> None:
    sandbox.tenant = tenant(*TENANT.by_name[NAMESPACE].invoices[:2])
    mount = mounts.mount("--list-ttl", "0s", "--read-ahead", "0")
    folder = mount / NAMESPACE
    first, *_ = names = list(CONTENTS)
    run("cat", folder / names[0], folder / names[1]).good()
    sandbox.tenant = TENANT
    with locked(mounts):
        run("cat", folder / names[2]).good()  # it appears in the list
        assert copier.calls(mount) == len(CONTENTS) - 3 + 1
        assert sandbox.count(Endpoint.PDF, name=first.removesuffix(".pdf")) == 1
        assert len(mount.warnings) == 1
    eventually(lambda: copier.calls(mount) == 0)
    assert len(mount.warnings) == 1


@pytest.mark.parametrize("is_for_readers_too", [False, True], ids=["writers", "everybody"])
def test_a_store_that_is_locked_from_the_first_costs_calls_and_one_warning(
    mounts: Mounts, copier: Copier, is_for_readers_too: bool
) -> None:
    mount = mounts.mount()
    kept = copier.calls(mount)
    mounts.umount(mount)
    with locked(mounts, is_for_readers_too=is_for_readers_too):
        mount = mounts.mount(path=mount.path, words="another program has locked it")
        assert copier.calls(mount) == kept
        assert len(mount.warnings) <= 1
    eventually(lambda: copier.calls(mount) == 0)
    assert len(mount.warnings) <= 1


# Databases that cannot be read.


def of_no_version(store: Path) -> None:
    """Say in the headers that a later version of SQLite has written them (its format, 1.3.3)."""
    for cache in ("pdf", "meta"):
        path = database(store, cache)
        header = bytearray(path.read_bytes())
        header[18:20] = b"\x09\x09"
        path.write_bytes(header)


def of_other_tables(store: Path) -> None:
    for cache in ("pdf", "meta"):
        with connection(store, cache) as database:
            database.execute("ALTER TABLE Cache RENAME TO Entries")
            database.execute("CREATE TABLE Cache (id INTEGER PRIMARY KEY, key, body, codec)")


def of_other_values(store: Path) -> None:
    with connection(store, "meta") as database:
        database.execute("UPDATE Cache SET value = 'v2:' || value")


@pytest.mark.parametrize(
    ("age", "most_warnings"), [(of_no_version, 2), (of_other_tables, 2), (of_other_values, 0)]
)
def test_a_store_of_a_later_version_costs_calls_only(
    mounts: Mounts, copier: Copier, age: Callable[[Path], None], most_warnings: int
) -> None:
    mount = mounts.mount()
    copier.calls(mount)
    mounts.umount(mount)
    (store,) = (mounts.cache / "invoicefs").iterdir()
    age(store)
    mount = mounts.mount(path=mount.path)
    copier.calls(mount)
    assert copier.calls(mount) == 0
    assert len(mount.warnings) <= most_warnings
