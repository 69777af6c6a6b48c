"""From a login in a terminal to the first invoice, and logging in again under a running mount."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.planted_secrets import Trace, check, traces_of_files, traces_of_processes
from tests.mount.support.programs import Ended, run
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant
from tests.support.terminal import typed

TENANT = tenant(*(invoice(number) for number in range(3)))
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
FIRST, SECOND, THIRD = CONTENTS
WITHOUT_CREDENTIALS = {"INVOICEFS_TOKEN": None, "INVOICEFS_URL": None}
TOKEN, NEW_TOKEN = "Tok3n+planted/Tok3n=planted", "N3w+planted/N3w=planted"


@pytest.fixture
def home(sandbox: Sandbox, mounts: Mounts) -> Path:
    """An empty home; the API accepts a token that can be searched for."""
    sandbox.token = TOKEN
    home = mounts.folder / "home"
    home.mkdir()
    return home


@pytest.fixture
def variables(mounts: Mounts) -> Mapping[str, str]:
    return {
        name: value for name, value in mounts.environment.items() if name not in WITHOUT_CREDENTIALS
    }


def log_in(mounts: Mounts, variables: Mapping[str, str], token: str) -> str:
    """Type URL and token in a terminal; return what it shows."""
    answers = [("URL of the tenant", f"{mounts.sandbox.url}\n"), ("API token: ", f"{token}\n")]
    command = (sys.executable, "-m", "invoicefs", "login")
    ended = typed(*command, env=variables, answers=answers)
    assert ended.code == 0, ended.screen
    return ended.screen


def mounted(mounts: Mounts, path: Path, *options: str) -> Mount:
    mounts.command("mount", *options, path, env=WITHOUT_CREDENTIALS).good()
    return mounts.at(path)


def read(mount: Mount, name: str) -> Ended:
    return run("cat", mount / NAMESPACE / name)


@pytest.mark.promise(
    "`invoicefs login` and `invoicefs mount ~/invoices` are all that the first invoice needs."
)
@pytest.mark.promise(
    "Neither token nor key, password or invoice is in an argument, the environment of a "
    "process, the log, the status, an attribute or a temporary file."
)
def test_two_commands_lead_from_an_empty_home_to_an_invoice(
    mounts: Mounts, home: Path, variables: Mapping[str, str]
) -> None:
    screen = log_in(mounts, variables, TOKEN)
    log = mounts.folder / "invoices.log"
    mount = mounted(mounts, home / "invoices", "-vv", "--log-file", str(log))

    assert read(mount, FIRST).good().out == CONTENTS[FIRST]
    profile = home / ".config" / "invoicefs" / "default.env"
    assert profile.stat().st_mode & 0o777 == 0o600
    shown = mounts.command("status", mount.path).good().out
    assert str(profile).encode() in shown
    traces = [*traces_of_processes(mount), Trace("the terminal", screen.encode())]
    traces.append(Trace("status", shown))
    mounts.umount(mount)
    profile.unlink()
    check([*traces, *traces_of_files(mounts.folder)], TOKEN.encode())


@pytest.mark.promise(
    "After another `invoicefs login` a running mount continues with the new token."
)
def test_a_running_mount_uses_the_token_of_the_next_login(
    sandbox: Sandbox, mounts: Mounts, home: Path, variables: Mapping[str, str]
) -> None:
    log_in(mounts, variables, TOKEN)
    mount = mounted(mounts, home / "invoices", "--list-ttl", "1h")
    read(mount, FIRST).good()
    sandbox.token = NEW_TOKEN
    assert "Permission denied" in read(mount, SECOND).err
    refused = mounts.command("mount", home / "another", env=WITHOUT_CREDENTIALS)
    assert refused.err.endswith("and run invoicefs login.\n")

    log_in(mounts, variables, NEW_TOKEN)

    assert read(mount, THIRD).good().out == CONTENTS[THIRD]


@pytest.mark.promise("`invoicefs logout` removes a profile, and leaves running mounts alone.")
def test_a_running_mount_survives_a_logout(
    mounts: Mounts, home: Path, variables: Mapping[str, str]
) -> None:
    log_in(mounts, variables, TOKEN)
    mount = mounted(mounts, home / "invoices")

    mounts.command("logout").good()

    assert read(mount, FIRST).good().out == CONTENTS[FIRST]
    mounts.umount(mount)
    ended = mounts.command("mount", mount.path, env=WITHOUT_CREDENTIALS)
    assert ended.code == 2
    assert "invoicefs login" in ended.err


def test_a_named_profile_is_mounted_below_the_home_even_after_a_crash(
    sandbox: Sandbox, mounts: Mounts, home: Path
) -> None:
    (home / "token").write_text(TOKEN)
    (home / "token").chmod(0o600)
    options = ("--profile", "work", "--url", sandbox.url, "--token-file", home / "token")
    mounts.command("login", *options).good()

    mounts.command("mount", "--profile", "work", home / "work").good()
    mounts.at(home / "work").kill()
    mounts.command("mount", "--profile", "work").good()
    mount = mounts.at(home / "work")

    assert read(mount, FIRST).good().out == CONTENTS[FIRST]
    mounts.command("umount", mount.path).good()


def test_the_doctor_checks_a_profile(
    sandbox: Sandbox, mounts: Mounts, home: Path, variables: Mapping[str, str]
) -> None:
    log_in(mounts, variables, TOKEN)
    sandbox.forget_calls()
    profile = home / ".config" / "invoicefs" / "default.env"
    with profile.open("a") as file:
        file.write("INVOICEFS_NAMSPACE=system\n")

    shown = mounts.command("doctor", env=WITHOUT_CREDENTIALS).lines

    assert f"✓ the API accepts the token from the profile default ({profile})" in shown
    assert any(f"✗ INVOICEFS_NAMSPACE in {profile} is ignored" in line for line in shown)
    assert sandbox.count(Endpoint.NAMESPACES) == 1
    ended = mounts.command("doctor", "--profile", "none")
    assert any("✗ There is no profile none" in line for line in ended.lines)
    assert ended.code == 1


@pytest.mark.promise("A failed `invoicefs login` leaves the old profile as it was.")
@pytest.mark.parametrize("place", ["full", "read-only"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs")
def test_a_disk_that_takes_nothing_keeps_the_old_profile(
    sandbox: Sandbox, mounts: Mounts, home: Path, variables: Mapping[str, str], place: str
) -> None:
    disk = mounts.folder / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", disk).good()
    try:
        with_disk = {**variables, "XDG_CONFIG_HOME": str(disk)}
        log_in(mounts, with_disk, TOKEN)
        profile = disk / "invoicefs" / "default.env"
        before = profile.read_bytes()
        if place == "full":
            run("dd", "if=/dev/zero", f"of={disk}/filler")
        else:
            run("mount", "-o", "remount,ro", disk).good()
        (home / "token").write_text(TOKEN)

        ended = mounts.command(
            "login",
            *("--url", sandbox.url, "--token-file", home / "token"),
            env={"XDG_CONFIG_HOME": str(disk)},
        )

        assert ended.code == 1
        assert str(disk / "invoicefs") in ended.err.splitlines()[-1]
        assert profile.read_bytes() == before
        assert os.listdir(profile.parent) == ["default.env"]
    finally:
        run("umount", "--lazy", disk).good()
