"""Programs read from a mount exactly what the server has."""

import hashlib
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.files import UPPER_BOUND_BYTES, in_folder, stat_of
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import Argument, python, run, started
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

# At the edges of blocks, pages and the kernel's reads of 128 KiB, and well beyond.
SIZES = (100, 511, 512, 4095, 4096, 4097, 131_071, 131_072, 131_073, 1_500_001)
TENANT = tenant(*(invoice(number, size) for number, size in enumerate(SIZES)))
CONTENTS = contents(TENANT)

Copies = Mapping[str, bytes]


def by_cat(source: Path, _: Path) -> Copies:
    return {name: run("cat", source / name).good().out for name in CONTENTS}


def by_cp(source: Path, target: Path) -> Copies:
    run("cp", "-r", source, target).good()
    return in_folder(target)


def by_rsync(source: Path, target: Path) -> Copies:
    run("rsync", "-a", f"{source}/", target).good()
    return in_folder(target)


def by_tar(source: Path, target: Path, *options: str) -> Copies:
    archive = target.with_suffix(".tar")
    run("tar", "-c", *options, "-f", archive, "-C", source, ".").good()
    target.mkdir()
    run("tar", "-x", "-f", archive, "-C", target).good()
    return in_folder(target)


def by_sparse_tar(source: Path, target: Path) -> Copies:
    return by_tar(source, target, "-S")


def by_dd(source: Path, target: Path) -> Copies:
    target.mkdir()
    for name in CONTENTS:
        run("dd", f"if={source / name}", f"of={target / name}", "bs=100000", "status=none").good()
    return in_folder(target)


def by_shutil(source: Path, target: Path) -> Copies:
    python("import shutil, sys; shutil.copytree(*sys.argv[1:])", source, target).good()
    return in_folder(target)


MMAP = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
    sys.stdout.buffer.write(view)
"""


def by_mmap(source: Path, _: Path) -> Copies:
    return {name: python(MMAP, source / name).good().out for name in CONTENTS}


BACKWARDS = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
step = size // 7 + 1
parts = [os.pread(fd, step, start) for start in reversed(range(0, size, step))]
sys.stdout.buffer.write(b"".join(reversed(parts)))
"""


def by_reading_backwards(source: Path, _: Path) -> Copies:
    return {name: python(BACKWARDS, source / name).good().out for name in CONTENTS}


WAYS = (
    by_cat,
    by_cp,
    by_rsync,
    by_tar,
    by_sparse_tar,
    by_dd,
    by_shutil,
    by_mmap,
    by_reading_backwards,
)


@pytest.mark.promise(
    "A final invoice is downloaded when it is first opened, and read from the disk cache from"
    " then on, even after a remount."
)
def test_an_invoice_is_downloaded_once_whatever_reads_it_and_remounts(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    sandbox.tenant = TENANT
    for round_ in ("first", "second"):
        mount = mounts.mount()
        for way in WAYS:
            assert way(mount / NAMESPACE, tmp_path / f"{round_}-{way.__name__}") == CONTENTS
        mounts.umount(mount)
    assert pdf_requests_by_file(sandbox) == dict.fromkeys(CONTENTS, 1)


def pdf_requests_by_file(sandbox: Sandbox) -> dict[str, int]:
    return {name: sandbox.count(Endpoint.PDF, name=name.removesuffix(".pdf")) for name in CONTENTS}


READ_WITHOUT_FSTAT = """
import hashlib, os, sys, threading

def read_on(fd):
    digest = hashlib.sha256()
    while part := os.read(fd, 100_000):
        digest.update(part)
    return digest.hexdigest()

def read_beyond(fd, both):
    both.wait()
    for offset in (2 << 20, 1 << 20, 5 << 20, 3 << 20):
        assert os.pread(fd, 4096, offset) == b""

os.chdir(sys.argv[2])
print("inside", flush=True)
sys.stdin.readline()
for path in sys.argv[3:]:
    fd, other = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    if sys.argv[1] == "disturbed":
        both = threading.Barrier(2)
        beyond = threading.Thread(target=read_beyond, args=(other, both))
        beyond.start()
        both.wait()
    print(read_on(fd))
    if sys.argv[1] == "disturbed":
        beyond.join()
    os.close(fd)
    os.close(other)
"""


@pytest.mark.parametrize("is_unmounted", [False, True], ids=["mounted", "unmounted lazily"])
def test_a_program_that_never_stats_reads_nothing_beyond_the_end(
    sandbox: Sandbox, mounts: Mounts, is_unmounted: bool
) -> None:
    """The kernel knew only the upper bound, and filled the rest with zeros.

    This happened to one file in a hundred, when the replies to two reads were reordered.
    """
    sandbox.tenant = tenant(*(invoice(number, 131_073 + number % 99) for number in range(300)))
    pdfs = contents(sandbox.tenant)
    mount = mounts.mount()
    arguments: tuple[Argument, ...] = ("disturbed", mount / NAMESPACE, *pdfs)
    program = (sys.executable, "-I", "-c", READ_WITHOUT_FSTAT)
    with started(*program, *arguments) as reader:
        assert reader.line() == "inside"
        if is_unmounted:
            mounts.command("umount", "--lazy", mount.path).good()
        reader.go_on()
        digests = reader.end().good().lines
    wrong = [
        name
        for (name, pdf), digest in zip(pdfs.items(), digests, strict=True)
        if digest != hashlib.sha256(pdf).hexdigest()
    ]
    assert wrong == []


READ_WITHOUT_LOOKUP = """
import errno, mmap, os, sys
how, path = sys.argv[1:]
if how == "mapped":
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = mmap.mmap(file.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)[:]
else:
    named = os.open(path, os.O_PATH)
    fd = os.open(f"/proc/self/fd/{named}", os.O_RDONLY)
    try:
        mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
    except OSError as error:
        assert error.errno == errno.ENODEV  # the page cache is bypassed
    else:
        raise AssertionError("it is in the page cache, whatever the kernel's size is")
    assert os.pread(fd, 4096, 1 << 22) == b""
    data = b"".join(iter(lambda: os.read(fd, 8192), b""))
sys.stdout.buffer.write(data)
"""


@pytest.mark.parametrize("how", ["mapped", "reopened"])
def test_new_files_are_read_exactly_without_the_helper_process(
    sandbox: Sandbox, mounts: Mounts, how: str
) -> None:
    sandbox.tenant = tenant(*(invoice(number, 20_001 + number) for number in range(3)))
    mount = mounts.mount()
    os.kill(mount.stat_helper, signal.SIGKILL)
    for name, pdf in contents(sandbox.tenant).items():
        program = (sys.executable, "-I", "-c", READ_WITHOUT_LOOKUP, how)
        assert run(*program, mount / NAMESPACE / name).good().out == pdf


@pytest.mark.promise(
    "A second `rsync -a` of final invoices transfers nothing, even after a remount."
)
@pytest.mark.parametrize("is_remounted", [False, True])
def test_a_second_rsync_transfers_nothing(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, is_remounted: bool
) -> None:
    sandbox.tenant = TENANT
    mount, archive = mounts.mount(), tmp_path / "archive"
    first = run("rsync", "-a", "--stats", f"{mount.path}/", archive).good()
    assert f"Number of regular files transferred: {len(CONTENTS)}" in first.lines
    if is_remounted:
        mounts.umount(mount)
        mount = mounts.mount()
    second = run("rsync", "-a", "--stats", "--itemize-changes", f"{mount.path}/", archive).good()
    assert "Number of regular files transferred: 0" in second.lines
    assert "Total transferred file size: 0 bytes" in second.lines
    assert not [line for line in second.lines if line.startswith((">f", ".f"))]


# Metadata only, on a mount of the sample tenant.


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Mount]]:
    """A mount of the sample tenant on which nothing is ever opened."""
    with Sandbox() as sandbox, closing(Mounts(sandbox, tmp_path_factory.mktemp("sample"))) as made:
        yield sandbox, made.mount("--list-ttl", "1h")


METADATA_COMMANDS = pytest.mark.parametrize(
    "argv",
    [
        ("ls", "-lR"),
        ("ls", "-laR", "--time-style=full-iso"),
        ("find",),
        ("find", "-type", "f", "-size", "+1k", "-newermt", "2020-01-01"),
        ("du", "-a"),
        ("du", "-a", "--apparent-size"),
        ("df", "."),
        ("stat", "system/invoice-acme-2026-08.pdf"),
        ("test", "-r", "system/invoice-acme-2026-08.pdf"),
        ("rsync", "-a", "--list-only", "--exclude=/legal", "./"),
    ],
    ids=" ".join,
)


@pytest.mark.promise(
    "With the default options, `ls`, `find`, `stat`, `du` and `df` download nothing."
)
@METADATA_COMMANDS
def test_ls_find_stat_du_and_df_download_no_pdf(
    sample: tuple[Sandbox, Mount], argv: tuple[str, ...]
) -> None:
    sandbox, mount = sample
    ended = run(*argv, cwd=mount.path)
    assert not ended.err or "legal" in ended.err  # that namespace is forbidden
    assert sandbox.count(Endpoint.PDF) == 0


DIRENTS = """
import ctypes, sys
class Dirent(ctypes.Structure):
    _fields_ = [("inode", ctypes.c_uint64), ("offset", ctypes.c_int64),
                ("length", ctypes.c_ushort), ("type", ctypes.c_ubyte),
                ("name", ctypes.c_char * 256)]
libc = ctypes.CDLL(None)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.readdir.argtypes = [ctypes.c_void_p]
folder = libc.opendir(sys.argv[1].encode())
while entry := libc.readdir(folder):
    print(entry.contents.type, entry.contents.inode, entry.contents.name.decode())
"""
DT_DIR, DT_REG = 4, 8


def dirents(path: Path) -> list[tuple[int, int, str]]:
    """Type, inode and name of the entries as readdir returns them, without the dots."""
    found = [line.split(maxsplit=2) for line in python(DIRENTS, path).good().lines]
    return [(int(kind), int(inode), name) for kind, inode, name in found if name.strip(".")]


@pytest.mark.promise(
    "A folder lists the oldest period first, and a file keeps its inode number across remounts."
)
def test_a_folder_is_listed_in_the_order_of_inodes_and_periods(
    sample: tuple[Sandbox, Mount],
) -> None:
    entries = dirents(sample[1] / NAMESPACE)
    names = [name for _, _, name in entries]
    inodes = [inode for _, inode, _ in entries]
    assert len(names) == 36
    assert names == sorted(names)  # they end in the month
    assert inodes == sorted(set(inodes))


def test_the_preferred_block_size_is_4096(sample: tuple[Sandbox, Mount]) -> None:
    paths = (
        sample[1].path,
        sample[1] / NAMESPACE,
        sample[1] / NAMESPACE / "invoice-acme-2026-08.pdf",
    )
    assert run("stat", "--format=%o", *paths).good().lines == ["4096"] * 3


# Sizes, times and inodes.


@pytest.mark.promise(
    "Before its first download a file shows the upper bound `--max-pdf-size` (16 MiB) as its "
    "size and no used blocks, because the API provides no sizes."
)
@pytest.mark.parametrize("options", [(), ("--max-pdf-size", "2MiB")])
def test_sizes_are_an_upper_bound_until_the_first_open_and_then_exact(
    sandbox: Sandbox, mounts: Mounts, options: tuple[str, ...]
) -> None:
    sandbox.tenant = TENANT
    mount = mounts.mount(*options)
    paths = [mount / NAMESPACE / name for name in CONTENTS]
    bound = 2 * 1024 * 1024 if options else UPPER_BOUND_BYTES
    before = stat_of(*paths)
    assert {(item.size, item.blocks) for item in before} == {(bound, 0)}
    run("cat", *paths).good()
    after = [(item.size, item.blocks) for item in stat_of(*paths)]
    assert after == [(len(pdf), math.ceil(len(pdf) / 512)) for pdf in CONTENTS.values()]


ATTRIBUTES = ("-printf", "%p %i %T@ %C@ %M %n %u %g %s %b %k\n")


@pytest.mark.promise(
    "A folder lists the oldest period first, and a file keeps its inode number across remounts."
)
@pytest.mark.promise(
    "After its first download a final invoice always shows its true size, even after a "
    "remount and after it was evicted from the cache."
)
@pytest.mark.parametrize("is_downloaded", [False, True])
def test_attributes_are_the_same_after_a_remount(
    mounts: Mounts, tmp_path: Path, is_downloaded: bool
) -> None:
    path = mounts.new_path()
    seen = []
    for _ in range(2):
        mount = mounts.mount(path=path)
        folders = (mount / NAMESPACE, mount / "shared")
        run("ls", *folders).good()  # the time of a folder comes from the last listing
        if is_downloaded:
            run("cp", "-r", "--force", *folders, tmp_path)  # all but one, which is unpaid
        seen.append(run("find", *folders, *ATTRIBUTES).good().text)
        mounts.umount(mount)
    assert seen[0] == seen[1]
    assert len(seen[0].splitlines()) == 41


@pytest.mark.promise(
    "The date of a file is the end of the invoice's period, or the beginning while the "
    "invoice is a draft."
)
def test_times_are_those_of_the_billing_period(mount: Mount) -> None:
    final, draft = stat_of(
        mount / NAMESPACE / "invoice-acme-2026-08.pdf",
        mount / NAMESPACE / "invoice-acme-2026-10.pdf",
    )
    assert final.mtime == final.ctime == "2026-08-31 23:59:59.999999999 +0000"
    assert draft.mtime == draft.ctime == "2026-10-01 00:00:00.000000000 +0000"
