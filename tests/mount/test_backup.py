"""Backup programs, with their default change detection, read an invoice once."""

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
    """A backup program with an empty repository, all that it writes being in one folder."""

    def __init__(self, folder: Path) -> None: ...

    def back_up(self, source: Path) -> Counter[str]:
        """Make a backup; says of how many files they are ``new``, ``changed``, ``unmodified``."""

    def restore(self, target: Path) -> None:
        """Write what is in the last backup below an empty folder."""


class Restic:
    """It takes the time, the size and the inode for the proof that a file is unmodified."""

    def __init__(self, folder: Path) -> None:
        self._environment = {
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD": "secret",
            "TMPDIR": str(folder),
        }
        self._run("init")

    def back_up(self, source: Path) -> Counter[str]:
        messages = map(json.loads, self._run("backup", "--json", source))
        (summary,) = (each for each in messages if each["message_type"] == "summary")
        kinds = ("new", "changed", "unmodified")
        files = Counter({kind: n for kind in kinds if (n := summary[f"files_{kind}"])})
        assert not summary["data_blobs"] or set(files) - {"unmodified"}, summary
        return files

    def restore(self, target: Path) -> None:
        self._run("restore", "latest", "--target", target)

    def _run(self, *arguments: str | Path) -> list[str]:
        return run("restic", "--no-cache", *arguments, env=self._environment).good().lines


class Borg:
    """It does the same, but reads the latest of all files each time.

    Another change could have come within the same tick of the clock. So, as its manual advises
    for large files, it is given a small file that is later than the invoices.
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
        files = [each for each in map(json.loads, messages) if each["type"] == "file_status"]
        return Counter(
            self._KINDS.get(each["status"], each["status"])
            for each in files
            if each["path"].endswith(".pdf")
        )

    def restore(self, target: Path) -> None:
        self._run("extract", f"::{self._last}", cwd=target)

    def _run(self, *arguments: str | Path, cwd: Path | None = None) -> list[str]:
        return run("borg", *arguments, env=self._environment, cwd=cwd).good().err.splitlines()


@pytest.fixture(params=[Restic, Borg], ids=["restic", "borg"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> BackupProgram:
    folder = tmp_path / "backup"
    folder.mkdir()
    made: BackupProgram = request.param(folder)
    return made


@pytest.fixture
def mount(sandbox: Sandbox, mounts: Mounts) -> Mount:
    """A mount on which nothing was opened yet."""
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


def test_restored_backup_is_what_the_server_has(
    mount: Mount, program: BackupProgram, tmp_path: Path
) -> None:
    program.back_up(mount / NAMESPACE)
    target = tmp_path / "restored"
    target.mkdir()
    program.restore(target)
    assert {path.name: path.read_bytes() for path in target.rglob("*.pdf")} == CONTENTS


EMPTY_PAGE_CACHE = """
import os, sys
for path in sys.argv[1:]:
    os.posix_fadvise(os.open(path, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
"""


def empty_page_cache(mount: Mount) -> None:
    """Have the kernel forget the contents, so that reading them again is seen."""
    python(EMPTY_PAGE_CACHE, *(mount / NAMESPACE / name for name in CONTENTS)).good()
