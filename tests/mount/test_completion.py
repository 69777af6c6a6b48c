"""Completion in real shells, of files, folders and the mount points of real mounts."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mount.support.mounts import NEEDS_ROOT, Mounts
from tests.mount.support.shells import SHELLS, completed
from tests.mount.support.tenants import NAMESPACE, invoice, tenant

pytestmark = [NEEDS_ROOT, pytest.mark.tenant(tenant(invoice(1)))]

FILES = ("token", "my files/key.pem", "folder/only")


@pytest.fixture
def home(mounts: Mounts) -> Path:
    """A home with some files, which is also the current folder."""
    home = mounts.folder / "home"
    for name in FILES:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


def words(mounts: Mounts, home: Path, shell: str, *lines: str) -> list[list[str]]:
    """The words after ``invoicefs`` when Tab has completed each line."""
    program = home / "bin" / "invoicefs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m invoicefs "$@"\n')
    program.chmod(0o755)
    env = {**mounts.environment, "PATH": f"{program.parent}:/usr/bin:/bin"}
    typed = [f"invoicefs {line}" for line in lines]
    prefix: Sequence[str] = mounts.alone_prefix
    found = completed(shell, typed, env, home, prefix)
    # Zsh omits a final slash as soon as the line goes on.
    return [[word.rstrip("/") for word in line[1:]] for line in found]


@pytest.mark.promise(
    "It completes files and folders as the shell does, and the mount points of your mounts."
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_files_and_folders(mounts: Mounts, home: Path, shell: str) -> None:
    url = "--url https://acme.example"

    assert words(
        mounts,
        home,
        shell,
        "mount --token-file to",
        "mount --token-file=to",
        f"mount {url} --token-file ~/to",
        f"mount {url} --key my\\ files/k",
        f"mount {url} fol",
        "mount --cache-dir=fol",
        "mount --status=pai",
        "cache info --cache-dir ~/my\\ f",
    ) == [
        ["mount", "--token-file", "token"],
        ["mount", "--token-file=token"],
        ["mount", *url.split(), "--token-file", f"{home}/token"],
        ["mount", *url.split(), "--key", "my files/key.pem"],
        ["mount", *url.split(), "folder"],
        ["mount", "--cache-dir=folder"],
        ["mount", "--status=paid"],
        ["cache", "info", "--cache-dir", f"{home}/my files"],
    ]


@pytest.mark.promise(
    "It completes files and folders as the shell does, and the mount points of your mounts."
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_mount_points_and_paths_in_mounts(
    mounts: Mounts, home: Path, shell: str
) -> None:
    mount = mounts.mount(path=mounts.new_path("home/it's mine"))
    commands = ("status", "umount", "refresh", "fetch")

    assert words(
        mounts, home, shell, *(f"{command} " for command in commands), "fetch ~/it\\'s\\ mine/s"
    ) == [
        *([command, str(mount.path)] for command in commands),
        ["fetch", f"{mount.path}/{NAMESPACE}"],
    ]
