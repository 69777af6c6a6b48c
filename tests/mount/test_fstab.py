"""``mount -t invoicefs``, lines of fstab and ``mount.invoicefs``, with the real mount(8).

Each test runs in its own mount namespace, in which /sbin and /etc/fstab can be changed without
affecting the machine, and nothing stays mounted after its last process has ended.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.mounts import CHECKOUT, processes_of
from tests.mount.support.programs import Ended, missing, run, wait_for_exit
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

INVOICE = invoice(1)
TENANT = tenant(INVOICE)
CONTENT = contents(TENANT)[file_name(INVOICE)]
HELPER = Path(sys.executable).with_name("mount.invoicefs")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has an fstab")


class Machine:
    """A machine with its own fstab, on which invoicefs is installed for mount(8)."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.path = folder / "invoices"
        self.token_file = folder / "token"
        self.fstab = folder / "fstab"
        self.url = sandbox.url
        for made in (self.path, folder / "upper", folder / "work"):
            made.mkdir()
        self.token_file.write_text(sandbox.token)
        self.token_file.chmod(0o600)
        self.write_fstab(f"{self.url} {self.path} invoicefs {self.options} 0 0")

    @property
    def options(self) -> str:
        """The options that every line of fstab needs."""
        return f"token_file={self.token_file},cache_dir={self.folder / 'cache'}"

    def write_fstab(self, *lines: str) -> None:
        """Write these lines to fstab."""
        self.fstab.write_text("".join(f"{line}\n" for line in lines))

    def run(self, script: str) -> Ended:
        """Run a shell script on the machine; $DIR is the mount point."""
        prepare = f"""
            sbin=$(readlink -f /sbin)
            mount -t overlay overlay \
                -o lowerdir=$sbin,upperdir={self.folder}/upper,workdir={self.folder}/work $sbin
            ln -s {HELPER} /sbin/mount.invoicefs
            mount --bind {self.fstab} /etc/fstab
            trap 'umount --quiet --lazy {self.path} || true' EXIT
            export DIR={self.path} LC_ALL=C.UTF-8 PYTHONPATH={CHECKOUT}
            set +e
        """
        shell = ("unshare", "--mount", "--propagation", "private", "bash", "-euc")
        return run(*shell, prepare + script, env={"HOME": str(self.folder)})


@pytest.fixture
def machine(tmp_path: Path, sandbox: Sandbox) -> Iterator[Machine]:
    if not HELPER.exists():
        missing(f"{HELPER} is missing: pip install --editable .")
    sandbox.tenant = TENANT
    machine = Machine(tmp_path, sandbox)
    yield machine
    assert all(map(wait_for_exit, processes_of(machine.path)))


@pytest.mark.promise("A second `mount -a` does nothing, however the URL is written in fstab.")
@pytest.mark.parametrize("form", ["{}", "{}/web/home"])
def test_a_second_mount_of_all_does_nothing(machine: Machine, sandbox: Sandbox, form: str) -> None:
    source = form.format(machine.url)
    machine.write_fstab(f"{source} {machine.path} invoicefs {machine.options} 0 0")

    ended = machine.run(
        "mount -a && mount -a && mount -a -v && findmnt --noheadings -o SOURCE $DIR"
    )

    assert ended.good().err == ""
    assert [line.split()[-1] for line in ended.lines] == ["mounted", source]
    assert "already mounted" in ended.lines[0]
    assert sandbox.count(Endpoint.NAMESPACES) == 1


@pytest.mark.promise(
    "A line of fstab is mounted without HOME and PATH, as at boot, and read-only in any case."
)
def test_generic_options_are_accepted_and_the_mount_is_read_only(
    machine: Machine,
) -> None:
    generic = (
        "rw,defaults,_netdev,noauto,nofail,users,exec,dev,suid,noatime,nodiratime,relatime,"
        "strictatime,lazytime,async,comment=x,x-systemd.automount,x-gvfs-name=Invoices,X-other"
    )
    machine.write_fstab(f"{machine.url} {machine.path} invoicefs {generic},{machine.options} 0 0")

    ended = machine.run("mount $DIR && findmnt --noheadings -o VFS-OPTIONS $DIR; touch $DIR/new")

    assert ended.text.strip().split(",")[:3] == ["ro", "nosuid", "nodev"]
    assert "Read-only file system" in ended.err


@pytest.mark.promise(
    "`x-gvfs-show` and `x-gvfs-name=NAME` in a line of fstab reach file managers, which "
    "respect them."
)
def test_fstab_options_for_file_managers_reach_the_mount_table(machine: Machine) -> None:
    """GIO reads these options from the mount table, through libmount."""
    options = f"x-gvfs-show,x-gvfs-name=Invoices,{machine.options}"
    machine.write_fstab(f"{machine.url} {machine.path} invoicefs {options} 0 0")

    shown = machine.run("mount $DIR && mount | grep --fixed-strings $DIR").good().text

    assert ",x-gvfs-show,x-gvfs-name=Invoices)" in shown


def test_a_line_of_fstab_takes_the_options_of_the_command(machine: Machine) -> None:
    options = f"{machine.options},allow_other,uid=12,gid=34,umask=027,xattr,namespace=system"
    machine.write_fstab(f"{machine.url} {machine.path} invoicefs {options} 0 0")

    ended = machine.run(
        f"mount $DIR && stat --format='%u %g %A' $DIR/{NAMESPACE}/*.pdf && findmnt -no OPTIONS $DIR"
        f" && getfattr -n user.invoicefs.status $DIR/{NAMESPACE}/*.pdf"
    )

    owner, kernel, *attributes = ended.good().lines
    assert owner == "12 34 -r--r-----"
    assert {"allow_other", "default_permissions"} <= set(kernel.split(","))
    assert 'user.invoicefs.status="paid"' in attributes


@pytest.mark.promise(
    "A line of fstab is mounted without HOME and PATH, as at boot, and read-only in any case."
)
def test_a_line_of_fstab_is_mounted_without_home_and_path(machine: Machine) -> None:
    ended = machine.run(
        f"env --ignore-environment /bin/mount $DIR && cat $DIR/{NAMESPACE}/*.pdf"
        " && env --ignore-environment /bin/umount $DIR"
    )

    assert ended.good().out == CONTENT


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("token_file=/missing", 32, "The token file /missing cannot be read"),
        ("no_such_option", 1, "'no_such_option'"),
    ],
)
def test_a_failed_mount_exits_with_the_status_of_mount(
    machine: Machine, options: str, code: int, words: str
) -> None:
    ended = machine.run(f"mount -t invoicefs -o {options} {machine.url} $DIR; exit $?")

    assert ended.code == code
    assert ended.err.startswith("mount.invoicefs: ")
    assert words in ended.err
    assert ended.err.count("\n") == 1


# This is what systemd does for x-systemd.automount; see "autofs" in the kernel documentation. Every
# process that accesses the folder waits until it is mounted, except those of the automounter.
AUTOMOUNTER = """if True:
    import ctypes, fcntl, os, struct, subprocess, sys
    READY, FAIL = 0x9360, 0x9361  # AUTOFS_IOC_*
    path, *command = sys.argv[1:]
    requests, kernels_end = os.pipe()
    options = f"fd={kernels_end},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"invoices", path.encode(), b"autofs", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "autofs cannot be mounted")
    os.close(kernels_end)
    folder = os.open(path, os.O_RDONLY)
    visitor = subprocess.Popen(["ls", path], start_new_session=True)
    _, _, token = struct.unpack_from("iiI", os.read(requests, 4096))
    try:
        outcome = READY if subprocess.run(command, timeout=20).returncode == 0 else FAIL
    except subprocess.TimeoutExpired:
        outcome = FAIL
    fcntl.ioctl(folder, outcome, token)
    sys.exit(visitor.wait())
"""


@pytest.mark.promise("With `x-systemd.automount`, the folder is mounted when it is first accessed.")
def test_an_automount_is_mounted_on_the_first_access(machine: Machine) -> None:
    """Access used to hang: the process left the automounter's process group before mounting."""
    if "autofs" not in Path("/proc/filesystems").read_text():
        # Also where CI is set: scripts/test can install a program, but not a kernel.
        pytest.skip("the kernel has no autofs")
    source = machine.folder / "automounter.py"
    source.write_text(AUTOMOUNTER)
    helper = f"/sbin/mount.invoicefs {machine.url} $DIR -o {machine.options}"

    ended = machine.run(
        f"{sys.executable} {source} $DIR {helper}; code=$?; umount -l $DIR; exit $code"
    )

    assert ended.good().lines == [NAMESPACE]
