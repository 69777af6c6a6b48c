"""A mount from the command that makes it to the end of its last process."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
    processes_of,
)
from tests.mount.support.programs import LIMIT_S, eventually, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

TENANT = tenant(*(invoice(number, 20_000 + number) for number in range(12)))
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
NAMES = list(CONTENTS)


@pytest.fixture
def gate(sandbox: Sandbox) -> Iterator[Gate]:
    """Holds back the PDF of the first invoice."""
    gate = Gate()
    sandbox.inject(Fault(gate, Endpoint.PDF, name=NAMES[0].removesuffix(".pdf")))
    yield gate
    gate.open()


# The beginning.


def test_the_command_returns_when_ls_works_and_prints_nothing(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.latency_s = 0.3  # enough for a command that does not wait to return too early
    path = mounts.new_path()
    ended = mounts.command("mount", path).good()
    assert (ended.out, ended.err) == (b"", "")
    assert is_mounted(path)
    assert run("ls", path).good().lines == [NAMESPACE]


def test_the_process_holds_no_folder_and_no_session(mounts: Mounts) -> None:
    mount = mounts.mount()
    assert os.readlink(f"/proc/{mount.daemon}/cwd") == "/"
    assert os.getsid(mount.daemon) == mount.daemon


def test_the_token_is_in_no_argument(sandbox: Sandbox, mounts: Mounts) -> None:
    for pid in mounts.mount().pids:
        assert sandbox.token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_kernel_is_told_what_the_mount_is_and_may(sandbox: Sandbox, mounts: Mounts) -> None:
    path = mounts.mount().path
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    (fields,) = [line.split() for line in lines if line.split()[4] == str(path)]
    assert {"ro", "nosuid", "nodev"} <= set(fields[5].split(","))
    after = fields[fields.index("-") + 1 :]
    assert after[:2] == ["fuse.invoicefs", sandbox.url]
    assert "allow_other" not in after[2]
    assert "default_permissions" not in after[2]


def test_relative_paths_are_those_of_the_calling_folder(mounts: Mounts, tmp_path: Path) -> None:
    path = mounts.new_path(f"{tmp_path.name}-relative")
    options = ("--log-file", "daemon.log", "--cache-dir", "store")
    mounts.command(
        "mount", *options, path.name, cwd=tmp_path, env={"INVOICEFS_PARALLEL": "2"}
    ).good()
    mount = Mount(path, tmp_path / "daemon.log", processes_of(Path(path.name)))
    run("cat", path / NAMESPACE / NAMES[0]).good()
    assert mount.log.is_file()
    assert list((tmp_path / "store").iterdir())
    mounts.command("umount", path.name, cwd=tmp_path).good()
    mount.wait_until_ended()


@pytest.mark.parametrize(
    "name",
    [
        "with blank",
        "comma,and=equals",
        "back\\slash",
        "new\nline",
        "tab\t",
        "\u00e4\u20ac",
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


def test_the_mount_point_may_be_a_symlink(mounts: Mounts, tmp_path: Path) -> None:
    real = mounts.new_path("real")
    link = tmp_path / "link"
    link.symlink_to(real)
    mounts.command("mount", link).good()
    pids = processes_of(link)
    assert is_mounted(real)
    assert run("ls", f"{link}/").good().lines == [NAMESPACE]
    mounts.command("umount", link).good()
    Mount(real, tmp_path, pids).wait_until_ended()
    assert not is_mounted(real)


def test_options_can_come_from_the_environment(mounts: Mounts) -> None:
    path = mounts.new_path()
    mounts.command(
        "mount", path, env={"INVOICEFS_UMASK": "077", "INVOICEFS_NAMESPACE": NAMESPACE}
    ).good()
    assert run("stat", "--format=%a", path).good().text == "700\n"


@pytest.mark.promise(
    "When the API is unreachable, the last good listing and the cached invoices are served."
)
def test_the_store_serves_a_mount_while_the_api_is_away(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount()
    run("cat", mount / NAMESPACE / NAMES[0]).good()
    mounts.umount(mount)
    sandbox.close()
    again = mounts.mount("--max-wait", "0s", words="cannot be reached")
    assert run("ls", again / NAMESPACE).good().lines == NAMES
    assert run("cat", again / NAMESPACE / NAMES[0]).good().out == CONTENTS[NAMES[0]]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(mounts: Mounts, closed: str) -> None:
    path = mounts.new_path()
    command = (sys.executable, "-m", "invoicefs", "mount", path)
    run("sh", "-c", f'exec "$@" {closed}', "sh", *command, env=mounts.environment).good()
    assert run("cat", path / NAMESPACE / NAMES[0]).good().out == CONTENTS[NAMES[0]]
    mounts.umount(mounts.at(path))


# Several mounts.


def test_a_mounted_folder_is_not_mounted_on_again(mounts: Mounts) -> None:
    mount = mounts.mount()
    ended = mounts.command("mount", mount.path)
    assert ended.code == 1
    assert "is already mounted" in ended.err
    assert processes_of(mount.path) == mount.pids
    assert run("ls", mount.path).good().lines == [NAMESPACE]
    mounts.umount(mount)


def test_two_mounts_of_one_tenant_share_what_they_download(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    one, other = (mounts.mount("--read-ahead", "0") for _ in range(2))
    for name, pdf in CONTENTS.items():
        assert run("cat", one / NAMESPACE / name).good().out == pdf
        assert run("cat", other / NAMESPACE / name).good().out == pdf
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


def test_mounts_of_different_tenants_do_not_mix(sandbox: Sandbox, mounts: Mounts) -> None:
    with Sandbox(tenant(invoice(0, 7000)), token="other") as other:
        one, path = mounts.mount(), mounts.new_path()
        variables = {"INVOICEFS_URL": other.url, "INVOICEFS_TOKEN": "other"}
        mounts.command("mount", path, env=variables).good()
        name = file_name(invoice(0))
        assert len(run("cat", path / NAMESPACE / name).good().out) == 7000
        assert run("cat", one / NAMESPACE / name).good().out == CONTENTS[name]
        assert sandbox.count(Endpoint.PDF) == other.count(Endpoint.PDF) == 1
        mounts.umount(mounts.at(path))


# The end.


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
WAYS = pytest.mark.parametrize(
    "way", [by_sigterm, by_sigint, by_sighup, by_umount, by_lazy_umount, by_fusermount]
)


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
def test_a_mount_in_the_foreground_ends_with_exit_code_0(mounts: Mounts, way: Way) -> None:
    path = mounts.new_path()
    with mounts.started("mount", "--foreground", path) as command:
        eventually(lambda: is_mounted(path))
        run("cat", path / NAMESPACE / NAMES[0]).good()
        way(mounts, mounts.at(path))
        ended = command.end()
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    assert not is_mounted(path)


def test_the_log_goes_to_the_terminal_in_the_foreground(sandbox: Sandbox, mounts: Mounts) -> None:
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


READ_AT_LEISURE = """
import os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(os.pread(handle, 1 << 24, 0))
"""


def test_a_busy_mount_is_unmounted_lazily_and_serves_its_last_reader(mounts: Mounts) -> None:
    mount = mounts.mount()
    path = mount / NAMESPACE / NAMES[0]
    with started(sys.executable, "-I", "-c", READ_AT_LEISURE, path) as reader:
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


@pytest.mark.parametrize("way", [by_sigterm, by_lazy_umount])
def test_a_mount_ends_after_a_download_that_is_under_way(
    mounts: Mounts, gate: Gate, way: Way
) -> None:
    mount = mounts.mount()
    with started("cat", mount / NAMESPACE / NAMES[0]):
        assert gate.arrived.wait(LIMIT_S)
        way(mounts, mount)
        gate.open()
        mount.wait_until_ended()
        assert not mount.is_mounted


def test_sigterm_ends_a_mount_that_is_in_use(mounts: Mounts) -> None:
    mount = mounts.mount()
    path = mount / NAMESPACE / NAMES[0]
    with started(sys.executable, "-I", "-c", READ_AT_LEISURE, path) as reader:
        assert reader.line() == "open"
        os.kill(mount.daemon, signal.SIGTERM)
        mount.wait_until_ended()
        assert not mount.is_mounted
        reader.go_on()
        assert reader.end().code == 1


def test_use_takes_no_more_and_more_descriptors(mounts: Mounts, tmp_path: Path) -> None:
    mount = mounts.mount("--list-ttl", "0s")

    def use() -> int:
        run("cp", "-r", "--force", mount.path, tmp_path / "copy").good()
        run("ls", "-lR", mount.path).good()
        return len(os.listdir(f"/proc/{mount.daemon}/fd"))

    first = [use() for _ in range(3)]
    later = [use() for _ in range(20)]
    assert max(later) <= max(first) + 3  # a thread more may have a connection more to the store


def test_a_dead_mount_is_mended_by_the_next_one(anyones_mounts: Mounts) -> None:
    mounts = anyones_mounts
    mount = mounts.mount()
    mount.kill()
    assert mount.is_mounted
    assert "not connected" in mounts.run("ls", mount.path).err
    again = mounts.mount(path=mount.path)
    assert mounts.run("ls", again.path).good().lines == [NAMESPACE]
    mounts.umount(again)


def test_a_dead_mount_can_be_unmounted(anyones_mounts: Mounts) -> None:
    mounts = anyones_mounts
    mount = mounts.mount()
    mount.kill()
    mounts.umount(mount)


def goes_away_with_its_process(mounts: Mounts) -> bool:
    mount = mounts.mount()
    os.kill(mount.daemon, signal.SIGKILL)
    mount.wait_until_ended()
    return not mount.is_mounted


@NEEDS_ROOT
def test_the_mount_of_root_goes_away_with_its_process(mounts: Mounts) -> None:
    """The helper looks once, and now and then before the kernel knows that the mount is dead."""
    assert any(goes_away_with_its_process(mounts) for _ in range(5))


def test_a_killed_mount_loses_nothing_that_was_downloaded(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount()
    run("cat", *(mount / NAMESPACE / name for name in NAMES)).good()
    mount.kill()
    again = mounts.mount(path=mount.path)
    assert run("cat", again / NAMESPACE / NAMES[0]).good().out == CONTENTS[NAMES[0]]
    assert sandbox.count(Endpoint.PDF) == len(NAMES)


# One slow download.


def test_a_slow_download_holds_up_nobody_else(mounts: Mounts, gate: Gate) -> None:
    folder = mounts.mount("--parallel", "2", "--list-ttl", "0s") / NAMESPACE
    stored, other = NAMES[1], NAMES[2]
    run("cat", folder / stored).good()
    with started("cat", folder / NAMES[0]) as reader:
        assert gate.arrived.wait(LIMIT_S)
        assert run("ls", "-l", folder.parent, folder).good()
        assert run("cat", folder / stored).good().out == CONTENTS[stored]
        assert run("cat", folder / other).good().out == CONTENTS[other]
        assert run("stat", folder / NAMES[0]).good()
        assert run("df", folder).good()
        assert not reader.has_ended
        gate.open()
        assert reader.end().good().out == CONTENTS[NAMES[0]]


def test_stored_invoices_open_while_every_slot_waits(mounts: Mounts, gate: Gate) -> None:
    folder = mounts.mount("--parallel", "1") / NAMESPACE
    run("cat", folder / NAMES[1]).good()
    with started("cat", folder / NAMES[0]) as reader:
        assert gate.arrived.wait(LIMIT_S)
        assert run("cat", folder / NAMES[1]).good().out == CONTENTS[NAMES[1]]
        assert run("ls", folder).good().lines == NAMES
        assert not reader.has_ended
        gate.open()
        assert reader.end().good()


def test_twenty_readers_of_one_new_invoice_make_one_call(
    sandbox: Sandbox, mounts: Mounts, gate: Gate
) -> None:
    path = mounts.mount() / NAMESPACE / NAMES[0]
    with ExitStack() as stack:
        readers = [stack.enter_context(started("cat", path)) for _ in range(20)]
        assert gate.arrived.wait(LIMIT_S)
        assert run("stat", path).good()
        gate.open()
        assert {reader.end().good().out for reader in readers} == {CONTENTS[NAMES[0]]}
    assert sandbox.count(Endpoint.PDF) == 1


@pytest.mark.parametrize("parallel", [1, 3])
def test_many_readers_get_all_bytes_with_one_call_each_and_no_more_at_once_than_allowed(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, parallel: int
) -> None:
    sandbox.latency_s = 0.02
    mount = mounts.mount("--parallel", str(parallel))
    run("ls", mount / NAMESPACE).good()
    sandbox.forget_calls()
    copies = [tmp_path / f"copy-{number}" for number in range(6)]
    with ExitStack() as stack:
        programs = [
            stack.enter_context(started("cp", "-r", mount / NAMESPACE, copy)) for copy in copies
        ]
        for program in programs:
            program.end().good()
    for copy in copies:
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)
    assert sandbox.peak_concurrency <= parallel


# The store.


@pytest.mark.parametrize("options", [(), ("--foreground",)], ids=["background", "foreground"])
def test_the_store_is_closed_to_others(mounts: Mounts, options: tuple[str, ...]) -> None:
    path = mounts.new_path()
    with mounts.started("mount", *options, path) as command:
        eventually(lambda: is_mounted(path))
        run("cat", *(path / NAMESPACE / name for name in NAMES)).good()
        (store,) = (mounts.cache / "invoicefs").iterdir()
        found = permissions(store)
        mounts.umount(mounts.at(path))
        command.end().good()
    assert set(found.values()) == {"drwx------", "-rw-------"}
    assert len([name for name in found if name.endswith(".db")]) == 2


def test_a_damaged_store_costs_a_download_and_no_invoice(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount()
    run("cat", *(mount / NAMESPACE / name for name in NAMES)).good()
    mounts.umount(mount)
    for path in mounts.cache.rglob("*"):
        if path.is_file():
            path.write_bytes(b"garbage" * 5000)
    again = mounts.mount(path=mount.path)
    for name, pdf in CONTENTS.items():
        assert run("cat", again / NAMESPACE / name).good().out == pdf
    assert sandbox.count(Endpoint.PDF) == 2 * len(CONTENTS)


def test_a_store_that_disappears_under_a_mount_costs_no_invoice(mounts: Mounts) -> None:
    mount = mounts.mount()
    run("cat", mount / NAMESPACE / NAMES[0]).good()
    mounts.run("rm", "-rf", mounts.cache).good()
    for name, pdf in CONTENTS.items():
        assert run("cat", mount / NAMESPACE / name).good().out == pdf


@pytest.mark.promise(
    "After its first download a final invoice always shows its true size, even after a "
    "remount and after it was evicted from the cache."
)
def test_what_a_small_store_evicts_is_fetched_again_and_keeps_its_size(
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


# The token.


def write_token(path: Path, token: str) -> None:
    """Put a token file in place as tools that rotate them do: in one step."""
    new = path.with_suffix(".new")
    new.write_text(f"{token}\n", encoding="utf-8")
    new.replace(path)


def mount_with_token_file(mounts: Mounts, path: Path) -> Path:
    point = mounts.new_path()
    mounts.command("mount", "--token-file", path, point, env={"INVOICEFS_TOKEN": None}).good()
    return point / NAMESPACE


def test_a_token_that_is_rotated_under_a_mount_is_used_at_once(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    write_token(file, sandbox.token)
    folder = mount_with_token_file(mounts, file)
    run("cat", folder / NAMES[0]).good()
    sandbox.token = "second-token"
    write_token(file, sandbox.token)
    assert run("cat", folder / NAMES[1]).good().out == CONTENTS[NAMES[1]]
    assert {call.status for call in sandbox.calls} == {200}


def test_a_revoked_token_gives_eacces_until_there_is_a_new_one(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    write_token(file, sandbox.token)
    folder = mount_with_token_file(mounts, file)
    run("ls", folder).good()
    sandbox.token = "second-token"
    assert "Permission denied" in run("cat", folder / NAMES[0]).err
    write_token(file, sandbox.token)
    assert run("cat", folder / NAMES[1]).good().out == CONTENTS[NAMES[1]]


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


def test_sigterm_ends_the_mount_of_an_ordinary_user(unprivileged_mounts: Mounts) -> None:
    mount = unprivileged_mounts.mount()
    os.kill(mount.daemon, signal.SIGTERM)
    mount.wait_until_ended()
    assert not mount.is_mounted


@pytest.mark.promise(
    "Nobody else can access your mount, not even root, unless you give `--allow-other`."
)
@NEEDS_ROOT
def test_root_cannot_look_into_the_mount_of_another_user(unprivileged_mounts: Mounts) -> None:
    mount = unprivileged_mounts.mount()
    assert "Permission denied" in run("ls", mount.path).err


@pytest.mark.promise(
    "Nobody else can access your mount, not even root, unless you give `--allow-other`."
)
@NEEDS_ROOT
@pytest.mark.parametrize(("umask", "is_allowed"), [("022", True), ("077", False)])
def test_with_allow_other_others_can_read_as_far_as_modes_let_them(
    mounts: Mounts, unprivileged_mounts: Mounts, umask: str, is_allowed: bool
) -> None:
    others = unprivileged_mounts
    mount = mounts.mount("--allow-other", "--umask", umask, path=others.new_path())
    assert (others.run("cat", mount / NAMESPACE / NAMES[0]).code == 0) is is_allowed
