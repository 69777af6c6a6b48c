"""The units in ``invoicefs/share/systemd/user``, run by systemd for a user."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Fault, Sandbox, faults
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import eventually, run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant
from tests.systemd.account import Account
from tests.systemd.profile import Profile

NewProfile = Callable[..., Profile]

UNPAID = replace(invoice(3), pdf=None, status="STATUS_ISSUED")
PAID = (invoice(2), invoice(1, 100_000), invoice(0))
TENANT = tenant(UNPAID, *PAID)
LARGE = tenant(*(invoice(number, 2_000_000) for number in range(4)))

# The first test also installs invoicefs.
pytestmark = [pytest.mark.tenant(TENANT), pytest.mark.timeout(300)]


def test_systemd_accepts_the_system_units() -> None:
    """Those of users are verified in tests/packages: they need ``/usr/bin/invoicefs``."""
    units = sorted((CHECKOUT / "invoicefs/share/doc").rglob("srv-invoices.*"))

    verified = run("systemd-analyze", "verify", *units)

    assert (verified.code, verified.err) == (0, "")


# The mount.


@pytest.mark.promise(
    "`systemctl --user enable --now invoicefs@NAME` mounts the tenant of a profile, and mounts it"
    " again after a crash."
)
def test_the_mount_unit_mounts_a_profile(account: Account, new_profile: NewProfile) -> None:
    for profile in (new_profile(), new_profile(INVOICEFS_MOUNTPOINT=str(account.home / "a b"))):
        account.systemctl("enable", "--now", profile.mount_unit).good()

        listed = account.run("ls", profile.mount_point / NAMESPACE).good()
        assert listed.lines == [file_name(invoice) for invoice in (*reversed(PAID), UNPAID)]
        account.systemctl("stop", profile.mount_unit).good()
        assert not profile.is_mounted
        assert "WARNING" not in account.journal(f"--unit={profile.mount_unit}")


@pytest.mark.promise(
    "`systemctl --user enable --now invoicefs@NAME` mounts the tenant of a profile, and mounts it"
    " again after a crash."
)
def test_a_crashed_mount_is_mounted_again(account: Account, new_profile: NewProfile) -> None:
    profile = new_profile()
    account.override(profile.mount_unit, "[Service]\nRestartSec=0\n")
    account.systemctl("start", profile.mount_unit).good()

    os.kill(int(account.property_of(profile.mount_unit, "MainPID")), signal.SIGKILL)

    path = profile.mount_point / NAMESPACE
    eventually(lambda: account.property_of(profile.mount_unit, "NRestarts") != "0")
    eventually(lambda: account.run("ls", path).code == 0)


# The archive.


@pytest.mark.promise(
    "The nightly archive copies every invoice, and fails if one is missing or different in it, but"
    " not if an invoice is not paid yet."
)
def test_the_archive_unit_mounts_copies_and_verifies(
    new_profile: NewProfile, archive: Path
) -> None:
    profile = new_profile(INVOICEFS_ARCHIVE=str(archive))

    profile.start_archive().good()

    assert profile.archived == contents(TENANT)
    assert f"{len(PAID)} right, 1 not available" in profile.report


@pytest.mark.promise(
    "The nightly archive copies every invoice, and fails if one is missing or different in it, but"
    " not if an invoice is not paid yet."
)
def test_a_different_invoice_fails_the_archive(new_profile: NewProfile, archive: Path) -> None:
    profile = new_profile(INVOICEFS_ARCHIVE=str(archive))
    profile.start_archive().good()
    copy = archive / NAMESPACE / file_name(PAID[0])
    times = copy.stat()
    copy.write_bytes(bytes(times.st_size))
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))  # rsync sees no difference

    assert profile.start_archive().code != 0

    assert profile.archive_status == 1
    assert copy.name in profile.report


@pytest.mark.promise(
    "The nightly archive copies every invoice, and fails if one is missing or different in it, but"
    " not if an invoice is not paid yet."
)
def test_an_invoice_that_cannot_be_copied_fails_the_archive(
    sandbox: Sandbox, new_profile: NewProfile, archive: Path
) -> None:
    profile = new_profile(INVOICEFS_ARCHIVE=str(archive))
    sandbox.inject(Fault(faults.status(500), Endpoint.PDF, name=PAID[1].name))

    assert profile.start_archive().code != 0

    assert profile.archive_status == 1
    assert set(profile.archived) == {file_name(PAID[0]), file_name(PAID[2])}


@pytest.mark.parametrize("folder", [None, "", "/nowhere/archive"])
@pytest.mark.promise(
    "The nightly archive changes nothing if its folder is missing or the tenant is not mounted."
)
def test_without_its_folder_the_archive_fails_and_creates_nothing(
    new_profile: NewProfile, folder: str | None
) -> None:
    profile = new_profile(**({} if folder is None else {"INVOICEFS_ARCHIVE": folder}))
    before = os.listdir("/")

    assert profile.start_archive().code != 0

    assert (folder or "INVOICEFS_ARCHIVE: is not set") in profile.report
    assert "rsync" not in profile.report
    assert os.listdir("/") == before


@pytest.mark.promise(
    "The nightly archive changes nothing if its folder is missing or the tenant is not mounted."
)
def test_an_unmounted_source_fails_the_archive_and_changes_nothing_in_it(
    new_profile: NewProfile, archive: Path
) -> None:
    (archive / "kept.pdf").touch()
    before = archive.stat().st_mtime_ns
    profile = new_profile(INVOICEFS_ARCHIVE=str(archive), INVOICEFS_TOKEN="wrong")

    assert profile.start_archive().code != 0

    assert f"{profile.mount_point} is not a mountpoint" in profile.report
    assert os.listdir(archive) == ["kept.pdf"]
    assert archive.stat().st_mtime_ns == before


@pytest.mark.tenant(LARGE)
def test_a_full_disk_fails_the_archive(
    account: Account, new_profile: NewProfile, archive: Path
) -> None:
    profile = new_profile(INVOICEFS_ARCHIVE=str(archive))
    run("mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", archive).good()
    account.own(archive)

    assert profile.start_archive().code != 0

    assert profile.archive_status == 11  # that of rsync, which has the reason
    assert "No space left on device" in profile.report
    assert {name: contents(LARGE)[name] for name in profile.archived} == profile.archived


@pytest.mark.promise(
    "While the nightly archive runs, no environment, argument or log shows the credential."
)
def test_no_environment_argument_or_journal_has_the_token(
    account: Account, sandbox: Sandbox, new_profile: NewProfile, archive: Path
) -> None:
    profile = new_profile(INVOICEFS_ARCHIVE=str(archive))
    sandbox.inject(Fault(faults.stall(), Endpoint.PDF))
    account.systemctl("start", "--no-block", profile.archive_unit).good()
    eventually(lambda: sandbox.count(Endpoint.PDF))

    processes = account.processes()

    assert {"rsync", "python3"} <= {process.name for process in processes}
    assert any(str(archive) in process.environment for process in processes)
    shown = [process.environment + process.arguments for process in processes]
    assert not [text for text in (*shown, account.journal()) if sandbox.token in text]
    sandbox.go_away()


# The timer.


@pytest.mark.promise(
    "An archive that was missed because the machine was off is made at the next login."
)
def test_the_timer_catches_up_after_a_night_without_the_machine(
    account: Account, new_profile: NewProfile, archive: Path
) -> None:
    profile = new_profile(INVOICEFS_ARCHIVE=str(archive))
    account.override(profile.timer, "[Timer]\nRandomizedDelaySec=0\n")
    stamp = account.home / ".local" / "share" / "systemd" / "timers" / f"stamp-{profile.timer}"
    account.run("mkdir", "--parents", stamp.parent).good()
    account.run("touch", "--date=2 days ago", stamp).good()

    account.systemctl("enable", "--now", profile.timer).good()

    eventually(lambda: profile.archived == contents(TENANT))
    eventually(lambda: account.property_of(profile.archive_unit, "ActiveState") == "inactive")
    assert account.property_of(profile.archive_unit, "Result") == "success"
