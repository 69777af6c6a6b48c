"""Backup programs with their default change detection read an invoice only once."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import python, run
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant
from tests.mount.support.upcalls import counted

SIZES = (100, 4096, 131_073, 1_500_001)
TENANT = tenant(*(invoice(number, size) for number, size in enumerate(SIZES)))
CONTENTS = contents(TENANT)


class BackupProgram(Protocol):
    """A backup program with an empty repository; it writes to one folder only."""

    def __init__(self, folder: Path) -> None: ...

    def back_up(self, source: Path) -> Counter[str]:
        """Make a backup; return how many files are ``new``, ``changed`` and ``unmodified``."""


class Restic:
    """Regards a file as unmodified if its time, size and inode are the same."""

    def __init__(self, folder: Path) -> None:
        self._environment = {
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD": "secret",
            "TMPDIR": str(folder),
        }
        self._run("init")

    def back_up(self, source: Path) -> Counter[str]:
        messages = map(json.loads, self._run("backup", "--json", source))
        (summary,) = (message for message in messages if message["message_type"] == "summary")
        kinds = ("new", "changed", "unmodified")
        files = Counter({kind: n for kind in kinds if (n := summary[f"files_{kind}"])})
        assert not summary["data_blobs"] or set(files) - {"unmodified"}, summary
        return files

    def _run(self, *arguments: str | Path) -> list[str]:
        return run("restic", "--no-cache", *arguments, env=self._environment).good().lines


class Borg:
    """Works like `Restic`, but always reads the newest file again.

    That file could have changed again within one tick of the clock. So, as its manual advises for
    large files, there is a small file that is newer than the invoices.
    """

    _KINDS: Mapping[str, str] = {"A": "new", "M": "changed", "U": "unmodified"}

    def __init__(self, folder: Path) -> None:
        self._environment = {"BORG_BASE_DIR": str(folder), "BORG_REPO": str(folder / "repository")}
        self._environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        self._latest = folder / "latest"
        self._latest.touch()
        self._last = 0
        self._run("init", "--encryption=none")

    def back_up(self, source: Path) -> Counter[str]:
        self._last += 1
        options = ("--list", "--log-json")
        messages = self._run("create", *options, f"::{self._last}", source, self._latest)
        files = [
            message for message in map(json.loads, messages) if message["type"] == "file_status"
        ]
        return Counter(
            self._KINDS.get(file["status"], file["status"])
            for file in files
            if file["path"].endswith(".pdf")
        )

    def _run(self, *arguments: str | Path) -> list[str]:
        return run("borg", *arguments, env=self._environment).good().err.splitlines()


@pytest.fixture(params=[Restic, Borg], ids=["restic", "borg"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> BackupProgram:
    folder = tmp_path / "backup"
    folder.mkdir()
    made: BackupProgram = request.param(folder)
    return made


@pytest.fixture
def mount(sandbox: Sandbox, mounts: Mounts) -> Mount:
    """A mount on which nothing has been opened yet."""
    sandbox.tenant = TENANT
    return mounts.mount()


@pytest.mark.promise(
    "A second backup with restic reads no final invoice again, and one with borg only the "
    "newest file, even after a remount."
)
@pytest.mark.parametrize("is_remounted", [False, True], ids=["same mount", "remounted"])
def test_second_backup_reads_nothing(
    sandbox: Sandbox, mounts: Mounts, mount: Mount, program: BackupProgram, is_remounted: bool
) -> None:
    with counted(mount) as first:
        assert program.back_up(mount / NAMESPACE) == {"new": len(SIZES)}
    assert first["READ"] >= len(SIZES), first
    if is_remounted:
        mounts.umount(mount)
        mount = mounts.mount(path=mount.path)
    else:
        empty_page_cache(mount)
    with counted(mount) as second:
        assert program.back_up(mount / NAMESPACE) == {"unmodified": len(SIZES)}
    assert second["READ"] == 0, second
    assert second["GETATTR"] >= len(SIZES), second
    assert sandbox.count(Endpoint.PDF) == len(SIZES)


EMPTY_PAGE_CACHE = """
import os, sys
for path in sys.argv[1:]:
    os.posix_fadvise(os.open(path, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
"""


def empty_page_cache(mount: Mount) -> None:
    """Drop the content from the page cache, so that another read reaches the mount."""
    python(EMPTY_PAGE_CACHE, *(mount / NAMESPACE / name for name in CONTENTS)).good()
