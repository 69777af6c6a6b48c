"""Looking around and copying ask the mount no more than they must."""

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

N = 20  # more than the slack, so that one request more for each file is noticed
TENANT = tenant(*(invoice(number) for number in range(N)))

# A name is looked up again after a second, and somebody's `df` may ask for the mount point.
SLACK = 10

# libfuse answers the first that the mount does not have it, and the kernel asks no more.
ONCE = ("FLUSH", "GETXATTR", "LISTXATTR", "LSEEK", "STATX")
MISSING_FEATURES = (*ONCE, "ACCESS")

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


def rsync(folder: Path, target: Path) -> Command:
    return ("rsync", "-a", folder, target)


ASK_FOR_MORE = """
import contextlib, os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        os.access(path, os.R_OK)
        with contextlib.suppress(OSError):
            os.listxattr(path)
        with contextlib.suppress(OSError):
            os.getxattr(path, "user.invoicefs.status")
        open(path).close()
"""


def ask_for_more(folder: Path, _: Path) -> Command:
    return (sys.executable, "-I", "-c", ASK_FOR_MORE, folder)


@pytest.fixture
def never_opened(sandbox: Sandbox, mounts: Mounts) -> Mount:
    """A mount on which nothing has been looked at or opened yet."""
    sandbox.tenant = TENANT
    return mounts.mount()


def upcalls(mount: Mount, program: Program, target: Path) -> Counter[str]:
    with counted(mount) as counts:
        run(*program(mount / NAMESPACE, target)).good()
    return counts


@pytest.mark.parametrize(
    ("program", "looks"),
    [
        pytest.param(ls, 1 + 2, id="ls"),
        pytest.param(ls_l, (N + 1) + (N + 2), id="ls -l"),
        pytest.param(find, 1 + 3, id="find"),
        pytest.param(find_type_f, 1 + 3, id="find -type f"),
        pytest.param(du, (N + 1) + (N + 3), id="du -a"),
    ],
)
def test_looking_around_asks_no_more_than_it_must(
    never_opened: Mount, tmp_path: Path, program: Program, looks: int
) -> None:
    assert_at_most(upcalls(never_opened, program, tmp_path / "copy"), looks)


def test_copying_asks_no_more_than_it_must(never_opened: Mount, tmp_path: Path) -> None:
    counts = upcalls(never_opened, cp_r, tmp_path / "copy")
    assert_at_most(counts, (N + 1) + (5 * N + 2), opens=N)


def assert_at_most(counts: Counter[str], looks: int, opens: int = 0) -> None:
    """Fails also for what is not named here, such as ACCESS.

    `looks` is written as lookups + attributes, for programs that run within a second.
    """
    assert counts["LOOKUP"] + counts["GETATTR"] <= looks + SLACK, counts
    others = Counter({name: n for name, n in counts.items() if name not in ("LOOKUP", "GETATTR")})
    allowed = Counter(OPENDIR=1, READDIR=2, OPEN=opens, READ=opens, STATFS=SLACK)
    assert others <= allowed + Counter(ONCE), counts


def test_each_missing_feature_is_asked_for_once(never_opened: Mount, tmp_path: Path) -> None:
    counts = upcalls(never_opened, ask_for_more, tmp_path)
    asked = {name: counts[name] for name in ("ACCESS", "FLUSH", "GETXATTR", "LISTXATTR")}
    assert asked == dict.fromkeys(asked, 1), counts


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(ls_l, id="ls -l"),
        pytest.param(cp_r, id="cp -r"),
        pytest.param(rsync, id="rsync -a"),
    ],
)
def test_second_run_asks_for_no_missing_feature(
    never_opened: Mount, tmp_path: Path, program: Program
) -> None:
    first = upcalls(never_opened, program, tmp_path / "first")
    second = upcalls(never_opened, program, tmp_path / "second")
    assert first & Counter(MISSING_FEATURES), first
    assert not second & Counter(MISSING_FEATURES), second


def header(opcode: int, length: int) -> str:
    """The header of a request, as strace shows it."""
    shown = struct.pack("=IIQQIIII", length, opcode, 7, 1, 0, 0, 99, 0)
    return "".join(f"\\x{byte:02x}" for byte in shown)


def test_requests_are_found_in_every_form_of_a_trace() -> None:
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
