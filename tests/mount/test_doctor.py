"""``invoicefs doctor`` checks every part of a mount, and each cross says how to fix it."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Endpoint,
    Fault,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    faults,
)
from tests.mount.support.missing_prerequisites import (
    CLOSED_DEVICE,
    NO_DEVICE,
    NO_FUSERMOUNT,
    NO_LIBFUSE,
    NO_USER_ALLOW_OTHER,
    ONLY_LIBFUSE3,
    OTHER_FUSE,
    python_path_with,
)
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import Ended

TICK = "\u2713 "
CROSS = "\u2717 "


def crosses(mounts: Mounts, ended: Ended) -> list[str]:
    """The failed checks, without the dead mounts of concurrent tests."""
    assert ended.err == ""
    assert all(line.startswith((TICK, CROSS)) for line in ended.lines)
    found = [line.removeprefix(CROSS) for line in ended.lines if line.startswith(CROSS)]
    assert ended.code == (1 if found else 0)
    return [match for match in found if "process" not in match or str(mounts.folder) in match]


def test_control_characters_from_the_server_are_escaped(sandbox: Sandbox, mounts: Mounts) -> None:
    odd = SampleInvoice("a", fields={"status": "XYZ"})
    sandbox.tenant = SampleTenant(
        "acme", (SampleNamespace("ns\x1b[31m\nFORGED\x9b\u202e", (odd,)),)
    )
    ended = mounts.command("doctor")

    assert r"ns\x1b[31m\nFORGED\x9b\u202e" in ended.err
    assert ended.err.removesuffix("\n").isprintable()


@pytest.mark.promise(
    "`invoicefs doctor` checks the machine, the credential, the API and the cache, and says "
    "how to fix each problem."
)
def test_every_line_has_a_tick_if_all_is_well(sandbox: Sandbox, mounts: Mounts) -> None:
    ended = mounts.command("doctor")

    assert crosses(mounts, ended) == []
    for part in ("libfuse 2", "fusermount", "/dev/fuse", "INVOICEFS_TOKEN", str(mounts.cache)):
        assert part in ended.text
    assert sandbox.count(Endpoint.NAMESPACES) == sandbox.count(Endpoint.INVOICES) == 1
    assert sandbox.count() == 2
    # They are about the API, not about an HTTP cache that responds in its place.
    assert all(call.headers["cache-control"] == "no-cache" for call in sandbox.calls)
    assert sandbox.token not in ended.text


@pytest.mark.promise(
    "`invoicefs doctor` checks the machine, the credential, the API and the cache, and says "
    "how to fix each problem."
)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (NO_LIBFUSE, "apt install libfuse2"),
        (ONLY_LIBFUSE3, "apt install libfuse2"),
        (OTHER_FUSE, "apt install python3-fusepy"),
        (NO_FUSERMOUNT, "apt install fuse3"),
        (NO_DEVICE, "modprobe fuse"),
        (CLOSED_DEVICE, "chmod 666 /dev/fuse"),
    ],
)
def test_a_missing_requirement_is_one_cross_with_the_command_that_fixes_it(
    mounts: Mounts, tmp_path: Path, changes: Sequence[str], words: str
) -> None:
    path = python_path_with(tmp_path, *changes)

    (cross,) = crosses(mounts, mounts.command("doctor", env={"PYTHONPATH": path}))

    assert words in cross


@pytest.mark.promise(
    "With `--json`, `doctor`, `fetch`, `cache info` and `cache verify` print the same as JSON, and "
    "nothing else on stdout."
)
def test_findings_are_printed_as_json(mounts: Mounts, tmp_path: Path) -> None:
    path = python_path_with(tmp_path, *NO_DEVICE)

    ended = mounts.command("doctor", "--json", env={"PYTHONPATH": path})

    assert (ended.code, ended.err) == (1, "")
    found = {finding["words"]: finding["ok"] for finding in json.loads(ended.out)}
    assert found["fusermount is installed"] is True
    (device,) = [words for words in found if "modprobe fuse" in words]
    assert found[device] is False


def test_a_dead_mount_is_a_cross_and_its_command_fixes_it(mounts: Mounts) -> None:
    mount = mounts.mount()
    for pid in reversed(mount.pids):  # the helper first, as it would clean up
        os.kill(pid, signal.SIGKILL)
    mount.wait_until_ended()

    (cross,) = crosses(mounts, mounts.command("doctor"))

    assert cross.endswith(f": invoicefs umount --lazy {mount.path}")
    mounts.command("umount", "--lazy", mount.path).good()
    assert crosses(mounts, mounts.command("doctor")) == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"INVOICEFS_TOKEN": "wrong"}, "make a new one in the console"),
        ({"INVOICEFS_URL": "http://127.0.0.1:1"}, "Connection refused"),
        ({"INVOICEFS_CACHE_DIR": "/proc/nowhere"}, "cache-dir"),
    ],
)
def test_a_problem_with_the_tenant_is_one_cross_that_says_what_to_do(
    mounts: Mounts, variables: dict[str, str | None], words: str
) -> None:
    (cross,) = crosses(mounts, mounts.command("doctor", env=variables))

    assert words in cross


def test_allow_other_is_a_cross_unless_fuse_conf_allows_it(
    unprivileged_mounts: Mounts, tmp_path: Path
) -> None:
    mounts = unprivileged_mounts
    env = {"PYTHONPATH": python_path_with(tmp_path, *NO_USER_ALLOW_OTHER)}

    (cross,) = crosses(mounts, mounts.command("doctor", "--allow-other", env=env))

    assert "user_allow_other in /etc/fuse.conf" in cross
    assert crosses(mounts, mounts.command("doctor", env=env)) == []


def test_a_credential_that_may_not_list_is_no_cross(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.inject(Fault(faults.status(403), Endpoint.NAMESPACES))

    assert crosses(mounts, mounts.command("doctor")) == []
