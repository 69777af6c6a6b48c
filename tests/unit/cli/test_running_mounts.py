"""The mounts that commands address, and how those that do not respond are reported."""

import os
from pathlib import Path

import pytest

from invoicefs.cli import running_mounts
from invoicefs.mount import mountpoint
from invoicefs.mount.mountpoint import FILESYSTEM_TYPE, Mount


@pytest.mark.parametrize(("uid_difference", "is_reported"), [(0, True), (1, False)])
def test_a_mount_of_this_user_that_does_not_respond_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid_difference: int, is_reported: bool
) -> None:
    """Such a mount was not shown when another user's program had taken its socket name."""
    uid = os.geteuid() + uid_difference
    mount = Mount("no:device", str(tmp_path), FILESYSTEM_TYPE, "source", uid)
    monkeypatch.setattr(mountpoint, "invoicefs_mounts", lambda: (mount,))
    statuses, failures = running_mounts.all_statuses()

    assert not statuses
    assert [sentence.startswith(f"{tmp_path}: ") for sentence in failures] == [True] * is_reported
