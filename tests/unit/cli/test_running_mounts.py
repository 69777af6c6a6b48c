"""Which mounts are asked, and what is said of those that give no answer."""

import os
from pathlib import Path

import pytest

from invoicefs.cli import running_mounts as questions
from invoicefs.mount import mountpoint
from invoicefs.mount.mountpoint import FILESYSTEM_TYPE, Mount


@pytest.mark.parametrize(("uid_difference", "is_told"), [(0, True), (1, False)])
def test_a_mount_of_this_user_that_nobody_answers_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid_difference: int, is_told: bool
) -> None:
    """It was hidden where another user's program had taken the name of its socket."""
    uid = os.geteuid() + uid_difference
    mount = Mount("no:device", str(tmp_path), FILESYSTEM_TYPE, "source", uid)
    monkeypatch.setattr(mountpoint, "our_mounts", lambda: (mount,))
    statuses, failures = questions.all_statuses()

    assert not statuses
    assert [sentence.startswith(f"{tmp_path}: ") for sentence in failures] == [True] * is_told
