"""Listing and copying cost no more upcalls than necessary."""

import struct
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import Argument, run
from tests.mount.support.tenants import NAMESPACE, invoice, tenant
from tests.mount.support.upcalls import Opcode, Request, counted, requests

N = 20  # more than the slack, so that one more upcall per file is noticed
TENANT = tenant(*(invoice(number) for number in range(N)))

# A `df` elsewhere may stat the mount point.
SLACK = 10

# libfuse answers the first with ENOSYS, and the kernel sends no more.
ONCE = ("FLUSH", "GETXATTR", "LISTXATTR", "LSEEK", "STATX")

Command = Sequence[Argument]
Program = Callable[[Path, Path], Command]


def ls(folder: Path, _: Path) -> Command:
    return ("ls", folder)


def ls_l(folder: Path, _: Path) -> Command:
    return ("ls", "-l", folder)


def find(folder: Path, _: Path) -> Command:
    return ("find", folder)


def find_type_f(folder: Path, _: Path) -> Command:
    return ("find", folder, "-type", "f")


def du(folder: Path, _: Path) -> Command:
    return ("du", "-a", folder)


def cp_r(folder: Path, target: Path) -> Command:
    return ("cp", "-r", folder, target)


USE_MISSING_FEATURES = """
import contextlib, os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            os.listxattr(path)
        with contextlib.suppress(OSError):
            os.getxattr(path, "user.invoicefs.status")
        open(path).close()
"""


def use_missing_features(folder: Path, _: Path) -> Command:
    return (sys.executable, "-I", "-c", USE_MISSING_FEATURES, folder)


@pytest.fixture
def never_opened(sandbox: Sandbox, mounts: Mounts) -> Mount:
    """A mount on which nothing has been looked up or opened yet."""
    sandbox.tenant = TENANT
    return mounts.mount()


def upcalls(mount: Mount, program: Program, target: Path) -> Counter[str]:
    with counted(mount) as counts:
        run(*program(mount / NAMESPACE, target)).good()
    return counts


@pytest.mark.parametrize(
    ("program", "stats"),
    [
        pytest.param(ls, 1 + 2, id="ls"),
        pytest.param(ls_l, (N + 1) + (N + 2), id="ls -l"),
        pytest.param(find, 1 + 3, id="find"),
        pytest.param(find_type_f, 1 + 3, id="find -type f"),
        pytest.param(du, (N + 1) + (N + 3), id="du -a"),
    ],
)
def test_listing_a_folder_costs_no_needless_upcalls(
    never_opened: Mount, tmp_path: Path, program: Program, stats: int
) -> None:
    assert_at_most(upcalls(never_opened, program, tmp_path / "copy"), stats)


def test_copying_costs_no_needless_upcalls(never_opened: Mount, tmp_path: Path) -> None:
    counts = upcalls(never_opened, cp_r, tmp_path / "copy")
    # Two are for the sync of a new file, see `kernel.applied_sizes`.
    assert_at_most(counts, (N + 1) + ((4 + 2) * N + 2), opens=N)


def assert_at_most(counts: Counter[str], stats: int, opens: int = 0) -> None:
    """Check the number of upcalls; others are not allowed.

    `stats` is the sum of LOOKUP and GETATTR, for programs that run within the entry timeout.
    """
    assert counts["LOOKUP"] + counts["GETATTR"] <= stats + SLACK, counts
    others = Counter({name: n for name, n in counts.items() if name not in ("LOOKUP", "GETATTR")})
    allowed = Counter(OPENDIR=1, READDIR=2, OPEN=opens, READ=opens, STATFS=SLACK)
    assert others <= allowed + Counter(ONCE), counts


def test_each_missing_feature_is_requested_once(never_opened: Mount, tmp_path: Path) -> None:
    counts = upcalls(never_opened, use_missing_features, tmp_path)
    requested = {name: counts[name] for name in ("FLUSH", "GETXATTR", "LISTXATTR")}
    assert requested == dict.fromkeys(requested, 1), counts


def header(opcode: int, length: int) -> str:
    """The header of a request, as strace shows it."""
    shown = struct.pack("=IIQQIIII", length, opcode, 7, 1, 0, 0, 99, 0)
    return "".join(f"\\x{byte:02x}" for byte in shown)


def test_upcalls_are_found_in_every_form_of_a_trace() -> None:
    open_, statfs, access = (
        header(opcode, 40 + extra)
        for opcode, extra in ((Opcode.OPEN, 8), (Opcode.STATFS, 0), (Opcode.ACCESS, 8))
    )
    name = r"\x61\x00"
    trace = f"""\
41 read(5, "{header(Opcode.LOOKUP, 42)}{name}", 135168) = 42
42 read(5,  <unfinished ...>
41 futex(0x55, FUTEX_WAIT_PRIVATE, 0, NULL <unfinished ...>
42 <... read resumed>"{statfs}", 135168) = 40
42 splice(5, NULL, 9, NULL, 135168, 0) = 48
42 read(8, "{open_}"..., 48)       = 48
42 read(5, "{access}"..., 135168) = 49
42 read(5, "{access}"..., 135168) = -1 EINTR (Interrupted system call)
42 read(5, 0x7f, 135168) = -1 ENODEV (No such device)
42 pread64(5, "{access}"..., 48, 0) = 48
42 read(3, "\\x48\\x54\\x54\\x50", 8192) = 4
42 read(5, "{header(4096, 40)}", 135168) = 40
"""
    found = requests(trace.encode())
    assert [request.name for request in found] == ["LOOKUP", "STATFS", "OPEN", "OPCODE_4096"]
    assert found[0] == Request(Opcode.LOOKUP, b"a\0")
