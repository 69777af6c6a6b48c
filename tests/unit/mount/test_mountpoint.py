"""The mount point: reading mountinfo, checking that it can be mounted on, unmounting."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.errors import UserError
from invoicefs.mount import mountpoint
from invoicefs.mount.mountpoint import FILESYSTEM_TYPE, mount_at, mounts, reserve, unmount

TENANT = "https://acme.console.ves.volterra.io"
NOBODY = 65534

MOUNTINFO = (
    rb"""
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
60 28 0:50 / /mnt/plain rw,relatime shared:1 master:2 propagate_from:3 - tmpfs tmpfs rw
61 28 0:51 / /mnt/two\040words\011and\012more\134 ro - tmpfs some\040source rw
62 28 0:52 / /mnt/not\134040blank rw - tmpfs none rw
63 28 0:53 /sub\040dir /mnt/bind rw - ext4 /dev/sda1 rw
64 28 0:54 / /mnt/invoices ro,nosuid,nodev - fuse.invoicefs https://acme.example ro,user_id=0
65 28 0:55 / /mnt/empty-source rw - tmpfs  rw
66 28 0:56 / /mnt/dash\040-\040dash rw - tmpfs a\040-\040b rw
67 28 0:57 / /mnt/caf\351-\303\251 rw - tmpfs tmpfs rw
68 28 0:58 / /mnt/raw-%s rw - tmpfs tmpfs rw
""".strip()
    % "ü".encode()
)


@pytest.fixture
def mountinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty file that is read instead of the mountinfo of the kernel."""
    path = tmp_path / "mountinfo"
    path.write_bytes(b"")
    monkeypatch.setattr(mountpoint, "_MOUNTINFO", path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "two words"
    path.mkdir()
    return path


def line_of(path: Path, filesystem_type: str = FILESYSTEM_TYPE, source: str = TENANT) -> str:
    escaped = str(path).replace("\\", r"\134").replace(" ", r"\040")
    return f"99 28 0:99 / {escaped} ro,nosuid,nodev - {filesystem_type} {source} ro\n"


# Any bytes but NUL, often those with a special meaning.
names = st.one_of(
    st.binary(max_size=20).map(lambda name: name.replace(b"\0", b"?")),
    st.text(" \t\n\\#-/014é\x85", max_size=20).map(str.encode),
)
mount_paths = names.map(lambda name: b"/" + name)
sources = names


def kernel_line(path: bytes, source: bytes) -> bytes:
    """A line of mountinfo as the kernel writes it: see show_mountinfo() and mangle() of Linux."""
    where, what = escaped(path, b" \t\n\\"), escaped(source, b" \t\n\\#")
    return b"99 28 0:99 / %s ro shared:7 - tmpfs %s rw\n" % (where, what)


def escaped(text: bytes, special: bytes) -> bytes:
    return b"".join(b"\\%03o" % byte if byte in special else bytes([byte]) for byte in text)


# What is mounted


def test_mountinfo_is_parsed_with_its_escapes(mountinfo: Path) -> None:
    mountinfo.write_bytes(MOUNTINFO + b"\n")

    found = {mount.path: (mount.filesystem_type, mount.source) for mount in mounts()}

    assert list(found)[:3] == ["/sys", "/", "/mnt/plain"]
    assert len(found) == 11
    assert found["/mnt/two words\tand\nmore\\"] == ("tmpfs", "some source")
    assert found["/mnt/not\\040blank"] == ("tmpfs", "none")
    assert found["/mnt/bind"] == ("ext4", "/dev/sda1")
    assert found["/mnt/invoices"] == ("fuse.invoicefs", "https://acme.example")
    assert found["/mnt/empty-source"] == ("tmpfs", "")
    assert found["/mnt/dash - dash"] == ("tmpfs", "a - b")
    assert found["/mnt/raw-ü"] == ("tmpfs", "tmpfs")


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.tuples(mount_paths, sources), max_size=4))
@example([(b"/a\\040b", b"")])
@example([(b"/ - /\xff\xe9", b"#1 - x")])
def test_the_line_of_any_mount_is_parsed(
    mountinfo: Path, mounted: list[tuple[bytes, bytes]]
) -> None:
    mountinfo.write_bytes(b"".join(kernel_line(*mount) for mount in mounted))

    found = [(os.fsencode(mount.path), os.fsencode(mount.source)) for mount in mounts()]

    assert found == mounted


def test_the_topmost_of_stacked_mounts_counts(mountinfo: Path, folder: Path) -> None:
    mountinfo.write_text(line_of(folder, source="first") + line_of(folder, source="last"))

    mount = mount_at(str(folder))

    assert mount is not None
    assert mount.source == "last"


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/.", "{}/../{name}", "{parent}/link"])
def test_a_mount_is_found_by_every_spelling_of_its_path(
    mountinfo: Path, folder: Path, spelling: str
) -> None:
    mountinfo.write_text(line_of(folder))
    folder.with_name("link").symlink_to(folder)

    mount = mount_at(spelling.format(folder, name=folder.name, parent=folder.parent))

    assert mount is not None
    assert mount.path == str(folder)


def test_folders_above_and_below_a_mount_point_are_not_mounts(
    mountinfo: Path, folder: Path
) -> None:
    mountinfo.write_text(line_of(folder))

    assert mount_at(str(folder / "system")) is None
    assert mount_at(str(folder.parent)) is None
    assert mount_at(f"{folder}-too") is None


def test_the_mounts_of_this_machine_are_read() -> None:
    proc = mount_at("/proc")

    assert proc is not None
    assert proc.filesystem_type == "proc"


# Folders that can be mounted on


def test_an_empty_folder_can_be_reserved(folder: Path) -> None:
    reserve(str(folder))

    assert not list(folder.iterdir())


def test_a_link_to_an_empty_folder_can_be_reserved(folder: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to(folder)

    reserve(str(link))


def make_nothing(_: Path) -> None: ...


def make_file(path: Path) -> None:
    path.write_text("")


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_link_loop(path: Path) -> None:
    path.symlink_to(path.name)


def make_full_folder(path: Path) -> None:
    (path / "system").mkdir(parents=True)


def make_folder_with_a_hidden_file(path: Path) -> None:
    path.mkdir()
    (path / ".hidden").write_text("")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_nothing, "does not exist: mkdir"),
        (make_dangling_link, "does not exist"),
        (make_file, "is not a folder"),
        (make_link_loop, "cannot be used"),
        (make_full_folder, "is not empty"),
        (make_folder_with_a_hidden_file, "is not empty"),
    ],
)
def test_nothing_else_can_be_reserved_and_the_error_says_why(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "mnt"
    make(path)

    with pytest.raises(UserError, match=words) as raised:
        reserve(str(path))

    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as the user nobody if we are root, since root may write everywhere."""
    if os.getuid() != 0:
        yield
        return
    try:
        os.setresuid(NOBODY, NOBODY, 0)
    except OSError as error:  # a user namespace without that uid
        pytest.skip(f"root cannot become uid {NOBODY} here: {error.strerror}")
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize(
    ("mode", "words"), [(0o555, "cannot write to the mount point"), (0o333, "Permission denied")]
)
def test_a_folder_without_write_or_read_permission_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, words: str
) -> None:
    folder = tmp_path / "mnt"
    folder.mkdir()
    # The folders above the working folder are private and cannot be searched by nobody.
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    folder.chmod(mode)

    with unprivileged(), pytest.raises(UserError, match=words):
        reserve("mnt")

    folder.chmod(0o755)


def test_a_folder_with_a_mount_of_ours_is_refused(mountinfo: Path, folder: Path) -> None:
    mountinfo.write_text(line_of(folder))

    with pytest.raises(UserError, match="is already mounted") as raised:
        reserve(str(folder))

    assert TENANT in str(raised.value)
    assert f"invoicefs umount {folder}" in str(raised.value)


def test_waiting_for_a_locked_folder_has_a_deadline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountpoint, "_LOCK_TIMEOUT_S", 0.0)
    first = reserve(str(folder))
    with pytest.raises(UserError, match=r"has locked .*: try again"):
        reserve(str(folder))

    first.release()
    reserve(str(folder)).release()


def test_mounting_over_another_filesystem_is_allowed(mountinfo: Path, folder: Path) -> None:
    mountinfo.write_text(line_of(folder, "tmpfs"))

    reserve(str(folder))


# Unmounting


class Helper:
    """A fake unmount program that records its arguments."""

    def __init__(self, folder: Path, name: str, mountinfo: Path) -> None:
        self._program = folder / name
        self._calls = folder / f"{name}.calls"
        self.says(f': >"{mountinfo}"')

    def says(self, *commands: str) -> None:
        written = f'for argument; do echo "$argument"; done >>"{self._calls}"'
        self._program.write_text("\n".join(["#!/bin/sh", written, *commands, ""]))
        self._program.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the only folder in ``PATH``."""
    path = tmp_path / "programs"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


@pytest.mark.parametrize(
    ("name", "lazy", "options"),
    [
        ("fusermount3", False, ["-u"]),
        ("fusermount3", True, ["-u", "-z"]),
        ("fusermount", False, ["-u"]),
        ("fusermount", True, ["-u", "-z"]),
        ("umount", False, []),
        ("umount", True, ["-l"]),
    ],
)
def test_any_helper_program_unmounts(
    mountinfo: Path, folder: Path, programs: Path, name: str, lazy: bool, options: list[str]
) -> None:
    helper = Helper(programs, name, mountinfo)
    mountinfo.write_text(line_of(folder))

    unmount(str(folder), lazy=lazy)

    assert helper.arguments == [*options, str(folder)]
    assert mount_at(str(folder)) is None


def test_only_the_newest_helper_is_run(mountinfo: Path, folder: Path, programs: Path) -> None:
    newest, *others = (
        Helper(programs, name, mountinfo) for name in ("fusermount3", "fusermount", "umount")
    )
    mountinfo.write_text(line_of(folder))

    unmount(str(folder), lazy=False)

    assert newest.arguments
    assert not any(helper.arguments for helper in others)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_folder_without_a_mount_is_not_unmounted(
    mountinfo: Path, folder: Path, programs: Path, lazy: bool
) -> None:
    helper = Helper(programs, "fusermount3", mountinfo)

    for path in (folder, folder / "missing"):
        with pytest.raises(UserError, match="is not a mount of invoicefs"):
            unmount(str(path), lazy=lazy)

    assert not helper.arguments


@pytest.mark.parametrize("filesystem_type", ["ext4", "fuse", "fuse.sshfs", "fuse.invoicefs2"])
def test_another_filesystem_is_not_unmounted(
    mountinfo: Path, folder: Path, programs: Path, filesystem_type: str
) -> None:
    helper = Helper(programs, "fusermount3", mountinfo)
    mountinfo.write_text(line_of(folder, filesystem_type))

    with pytest.raises(UserError, match="is not a mount of invoicefs"):
        unmount(str(folder), lazy=True)

    assert not helper.arguments


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        (["echo 'fusermount3: not allowed' >&2", "exit 1"], "fusermount3: not allowed"),
        (["echo 'Device or resource busy' >&2", "exit 1"], "busy.*--lazy"),
        (["exit 32"], "cannot be unmounted: .*fusermount3 failed"),
    ],
)
def test_a_failed_unmount_reports_the_message_of_the_helper(
    mountinfo: Path, folder: Path, programs: Path, commands: list[str], words: str
) -> None:
    Helper(programs, "fusermount3", mountinfo).says(*commands)
    mountinfo.write_text(line_of(folder))

    with pytest.raises(UserError, match=words) as raised:
        unmount(str(folder), lazy=False)

    assert str(folder) in str(raised.value)


@pytest.mark.usefixtures("programs")
def test_without_any_helper_unmounting_is_a_user_error(mountinfo: Path, folder: Path) -> None:
    mountinfo.write_text(line_of(folder))

    with pytest.raises(UserError, match="needs the program fusermount3"):
        unmount(str(folder), lazy=False)


def test_a_hanging_helper_is_a_user_error(
    monkeypatch: pytest.MonkeyPatch, mountinfo: Path, folder: Path
) -> None:
    timeouts: list[float] = []

    def run(command: list[str], *_: object, timeout: float, **__: object) -> None:
        timeouts.append(timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    mountinfo.write_text(line_of(folder))

    with pytest.raises(UserError, match="--lazy"):
        unmount(str(folder), lazy=False)

    assert len(timeouts) == 1


# Dead mounts


@pytest.fixture
def dead_mount(monkeypatch: pytest.MonkeyPatch, mountinfo: Path, folder: Path) -> Path:
    """Return a folder that fails with ENOTCONN as long as mountinfo names it."""
    mountinfo.write_text(line_of(folder))

    def not_connected(function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
            if path == str(folder) and mountinfo.read_text():
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)
            return function(path, *arguments, **options)

        return guarded

    for name in ("stat", "lstat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, not_connected(getattr(os, name)))
    return folder


def test_our_own_dead_mount_is_unmounted_lazily_first(
    mountinfo: Path, dead_mount: Path, programs: Path
) -> None:
    helper = Helper(programs, "fusermount3", mountinfo)

    reserve(str(dead_mount))

    assert helper.arguments == ["-u", "-z", str(dead_mount)]


def test_a_dead_mount_of_another_filesystem_is_left_alone(
    mountinfo: Path, dead_mount: Path, programs: Path
) -> None:
    helper = Helper(programs, "fusermount3", mountinfo)
    mountinfo.write_text(line_of(dead_mount, "fuse.sshfs"))

    with pytest.raises(UserError, match="dead mount of another filesystem"):
        reserve(str(dead_mount))

    assert not helper.arguments


def test_a_dead_mount_that_cannot_be_unmounted_is_a_user_error(
    mountinfo: Path, dead_mount: Path, programs: Path
) -> None:
    Helper(programs, "fusermount3", mountinfo).says("echo 'not yours' >&2", "exit 1")

    with pytest.raises(UserError, match="not yours"):
        reserve(str(dead_mount))
