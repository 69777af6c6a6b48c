"""The life of a mount, from the command to the end of its last process."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Fault, Sandbox, faults
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import (
    FUSERMOUNT,
    NEEDS_ROOT,
    Mount,
    Mounts,
    is_mounted,
    permissions,
)
from tests.mount.support.programs import LIMIT_S, eventually, run, started
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

TENANT = tenant(*(invoice(number, 20_000 + number) for number in range(12)))
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
NAMES = list(CONTENTS)


@pytest.fixture
def gate(sandbox: Sandbox) -> Iterator[Gate]:
    """Delay the PDF of the first invoice until the test opens the gate."""
    gate = Gate()
    sandbox.inject(Fault(gate, Endpoint.PDF, name=NAMES[0].removesuffix(".pdf")))
    yield gate
    gate.open()


# Mounting.


def test_mount_returns_silently_once_the_folder_is_usable(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.latency_s = 0.3  # so that a command that does not wait returns too early
    path = mounts.new_path()
    ended = mounts.command("mount", path).good()
    assert (ended.out, ended.err) == (b"", "")
    assert is_mounted(path)
    assert run("ls", path).good().lines == [NAMESPACE]


def test_the_daemon_runs_in_the_root_folder_and_its_own_session(mounts: Mounts) -> None:
    mount = mounts.mount()
    assert os.readlink(f"/proc/{mount.daemon}/cwd") == "/"
    assert os.getsid(mount.daemon) == mount.daemon


def test_the_mount_table_shows_type_source_and_safe_options(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    path = mounts.mount().path
    lines = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines()
    (fields,) = [line.split() for line in lines if line.split()[4] == str(path)]
    assert {"ro", "nosuid", "nodev"} <= set(fields[5].split(","))
    after = fields[fields.index("-") + 1 :]
    assert after[:2] == ["fuse.invoicefs", sandbox.url]
    assert "allow_other" not in after[2]
    assert "default_permissions" not in after[2]


@pytest.mark.parametrize(
    "name",
    [
        "comma,and=equals",
        "new\nline",
        "\udcff",
        "#",
        "-o",
    ],
    ids=ascii,
)
def test_the_mount_point_may_have_any_name(mounts: Mounts, name: str) -> None:
    mount = mounts.mount(path=mounts.new_path(name))
    assert mount.is_mounted
    assert run("ls", mount.path).good().lines == [NAMESPACE]
    mounts.umount(mount)


@pytest.mark.promise(
    "When the API is unreachable, the last good listing and the cached invoices are served."
)
def test_a_mount_serves_the_cache_while_the_api_is_unreachable(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount()
    run("cat", mount / NAMESPACE / NAMES[0]).good()
    mounts.umount(mount)
    sandbox.close()
    again = mounts.mount("--max-wait", "0s", words="cannot be used now")
    assert run("ls", again / NAMESPACE).good().lines == NAMES
    assert run("cat", again / NAMESPACE / NAMES[0]).good().out == CONTENTS[NAMES[0]]


def test_standard_streams_may_be_closed(mounts: Mounts) -> None:
    path = mounts.new_path()
    command = (sys.executable, "-m", "invoicefs", "mount", path)
    run("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command, env=mounts.environment).good()
    assert run("cat", path / NAMESPACE / NAMES[0]).good().out == CONTENTS[NAMES[0]]
    mounts.umount(mounts.at(path))


# Unmounting.


def by_sigterm(_: Mounts, mount: Mount) -> None:
    os.kill(mount.daemon, signal.SIGTERM)


def by_sigint(_: Mounts, mount: Mount) -> None:
    os.kill(mount.daemon, signal.SIGINT)


def by_sighup(_: Mounts, mount: Mount) -> None:
    os.kill(mount.daemon, signal.SIGHUP)


def by_umount(mounts: Mounts, mount: Mount) -> None:
    mounts.command("umount", mount.path).good()


def by_lazy_umount(mounts: Mounts, mount: Mount) -> None:
    mounts.command("umount", "--lazy", mount.path).good()


def by_fusermount(mounts: Mounts, mount: Mount) -> None:
    mounts.run(FUSERMOUNT, "-u", mount.path).good()


Way = Callable[[Mounts, Mount], None]
WAYS = pytest.mark.parametrize("way", [by_sigint, by_sighup, by_fusermount])


@WAYS
def test_ending_a_mount_leaves_nothing_behind(mounts: Mounts, way: Way) -> None:
    mount = mounts.mount()
    run("cat", mount / NAMESPACE / NAMES[0]).good()
    way(mounts, mount)
    mount.wait_until_ended()
    assert not mount.is_mounted
    assert run("ls", "-A", mount.path).good().lines == []
    mounts.umount(mounts.mount(path=mount.path))


@WAYS
def test_a_foreground_mount_exits_with_status_0(mounts: Mounts, way: Way) -> None:
    path = mounts.new_path()
    with mounts.started("mount", "--foreground", path) as command:
        eventually(lambda: is_mounted(path))
        run("cat", path / NAMESPACE / NAMES[0]).good()
        way(mounts, mounts.at(path))
        ended = command.end()
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    assert not is_mounted(path)


def test_a_foreground_mount_logs_to_stderr(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.inject(Fault(faults.status(500, "the reason"), Endpoint.PDF))
    path = mounts.new_path()
    with mounts.started("mount", "--foreground", "-v", path) as command:
        eventually(lambda: is_mounted(path))
        run("cat", path / NAMESPACE / NAMES[0])
        mounts.command("umount", path).good()
        err = command.end().err
    assert "GET" in err
    assert "the reason" in err
    assert sandbox.token not in err
    assert "Traceback" not in err


OPEN_THEN_READ = """
import os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(os.pread(handle, 1 << 24, 0))
"""


def test_a_busy_mount_unmounts_lazily_and_serves_its_last_reader(mounts: Mounts) -> None:
    mount = mounts.mount()
    path = mount / NAMESPACE / NAMES[0]
    with started(sys.executable, "-I", "-c", OPEN_THEN_READ, path) as reader:
        assert reader.line() == "open"
        ended = mounts.command("umount", mount.path)
        assert ended.code == 1
        assert "--lazy" in ended.err
        assert mount.is_mounted
        mounts.command("umount", "--lazy", mount.path).good()
        assert not mount.is_mounted
        assert run("ls", "-A", mount.path).good().lines == []
        reader.go_on()
        assert reader.end().good().out == CONTENTS[NAMES[0]]
    mount.wait_until_ended()


@pytest.mark.parametrize("way", [by_sigterm, by_lazy_umount])
def test_a_mount_ends_during_a_slow_download(mounts: Mounts, gate: Gate, way: Way) -> None:
    mount = mounts.mount("--timeout", "2s", "--max-wait", "0s")
    with started("cat", mount / NAMESPACE / NAMES[0]) as reader:
        assert gate.arrived.wait(LIMIT_S)
        way(mounts, mount)
        mount.wait_until_ended()
        assert not mount.is_mounted
        assert reader.end().code == 1


def test_use_leaks_no_file_descriptors(mounts: Mounts, tmp_path: Path) -> None:
    mount = mounts.mount("--list-ttl", "0s")

    def use() -> int:
        run("cp", "-r", "--force", mount.path, tmp_path / "copy").good()
        run("ls", "-lR", mount.path).good()
        return len(os.listdir(f"/proc/{mount.daemon}/fd"))

    first = [use() for _ in range(3)]
    later = [use() for _ in range(8)]
    assert max(later) <= max(first) + 3  # one more thread may have opened the cache


def test_mounting_again_replaces_a_dead_mount(anyones_mounts: Mounts) -> None:
    mounts = anyones_mounts
    mount = mounts.mount()
    mount.kill()
    assert mount.is_mounted
    assert "not connected" in mounts.run("ls", mount.path).err
    again = mounts.mount(path=mount.path)
    assert mounts.run("ls", again.path).good().lines == [NAMESPACE]
    mounts.umount(again)


def disappears_with_its_process(mounts: Mounts) -> bool:
    mount = mounts.mount()
    os.kill(mount.daemon, signal.SIGKILL)
    mount.wait_until_ended()
    return not mount.is_mounted


@NEEDS_ROOT
def test_the_mount_of_root_disappears_with_its_process(mounts: Mounts) -> None:
    """The helper checks once, sometimes before the kernel knows that the mount is dead."""
    assert any(disappears_with_its_process(mounts) for _ in range(5))


# One slow download.


def test_a_slow_download_blocks_nothing_else(mounts: Mounts, gate: Gate) -> None:
    folder = mounts.mount("--parallel", "2", "--list-ttl", "0s") / NAMESPACE
    cached, other = NAMES[1], NAMES[2]
    run("cat", folder / cached).good()
    with started("cat", folder / NAMES[0]) as reader:
        assert gate.arrived.wait(LIMIT_S)
        assert run("ls", "-l", folder.parent, folder).good()
        assert run("cat", folder / cached).good().out == CONTENTS[cached]
        assert run("cat", folder / other).good().out == CONTENTS[other]
        assert run("stat", folder / NAMES[0]).good()
        assert run("df", folder).good()
        assert not reader.has_ended
        gate.open()
        assert reader.end().good().out == CONTENTS[NAMES[0]]


def test_cached_invoices_open_while_every_slot_is_busy(mounts: Mounts, gate: Gate) -> None:
    folder = mounts.mount("--parallel", "1") / NAMESPACE
    run("cat", folder / NAMES[1]).good()
    with started("cat", folder / NAMES[0]) as reader:
        assert gate.arrived.wait(LIMIT_S)
        assert run("cat", folder / NAMES[1]).good().out == CONTENTS[NAMES[1]]
        assert run("ls", folder).good().lines == NAMES
        assert not reader.has_ended
        gate.open()
        assert reader.end().good()


# The cache.


@pytest.mark.promise(
    "After its first download a final invoice always shows its true size, even after a "
    "remount and after it was evicted from the cache."
)
def test_an_evicted_invoice_keeps_its_size_and_is_downloaded_again(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = tenant(*(invoice(number, 400_000 + number) for number in range(6)))
    pdfs = contents(sandbox.tenant)
    folder = mounts.mount("--cache-size", "1MiB") / NAMESPACE
    for _ in range(2):
        for name, pdf in pdfs.items():
            assert run("cat", folder / name).good().out == pdf
            size = run("stat", "--format=%s", folder / name).good().text
            assert size == f"{len(pdf)}\n"
    lines = run("stat", "--format=%s", *(folder / name for name in pdfs)).good().lines
    assert lines == [str(len(pdf)) for pdf in pdfs.values()]
    assert sandbox.count(Endpoint.PDF) > len(pdfs)


# Other users.


def test_an_ordinary_user_can_mount_read_and_unmount(
    sandbox: Sandbox, unprivileged_mounts: Mounts
) -> None:
    mounts = unprivileged_mounts
    mount = mounts.mount()
    assert mounts.run("ls", mount / NAMESPACE).good().lines == NAMES
    for name, pdf in CONTENTS.items():
        assert mounts.run("cat", mount / NAMESPACE / name).good().out == pdf
    owner = mounts.run("stat", "--format=%u %g", mount / NAMESPACE / NAMES[0]).good().text
    assert owner == mounts.run("sh", "-c", "echo $(id -u) $(id -g)").good().text
    (store,) = (mounts.cache / "invoicefs").iterdir()
    assert set(permissions(store).values()) == {"drwx------", "-rw-------"}
    mounts.umount(mount)
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


@pytest.mark.promise(
    "Nobody else can access your mount, not even root, unless you give `--allow-other`."
)
@NEEDS_ROOT
def test_root_cannot_access_the_mount_of_another_user(unprivileged_mounts: Mounts) -> None:
    mount = unprivileged_mounts.mount()
    assert "Permission denied" in run("ls", mount.path).err


@pytest.mark.promise(
    "Nobody else can access your mount, not even root, unless you give `--allow-other`."
)
@NEEDS_ROOT
@pytest.mark.parametrize(("umask", "is_allowed"), [("022", True), ("077", False)])
def test_allow_other_lets_other_users_read_as_the_modes_permit(
    mounts: Mounts, unprivileged_mounts: Mounts, umask: str, is_allowed: bool
) -> None:
    others = unprivileged_mounts
    mount = mounts.mount("--quiet", "--allow-other", "--umask", umask, path=others.new_path())
    assert (others.run("cat", mount / NAMESPACE / NAMES[0]).code == 0) is is_allowed
