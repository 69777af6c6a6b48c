"""Read-ahead for programs that read a folder sequentially, and what it costs."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Call,
    Endpoint,
    Fault,
    RateLimit,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    Sandbox,
)
from tests.mount.support.files import in_folder
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import LIMIT_S, Argument, Ended, eventually, python, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant
from tests.support.store_folder import database

READ_AHEAD = 16
PARALLEL = 8
SHORT_LATENCY_S = 0.03
LONG_LATENCY_S = 0.2  # so long that all slots are in use, however busy the machine is

COUNT = 60


def invoices(count: int = COUNT, size_bytes: int = 1000) -> list[SampleInvoice]:
    """Invoices that are neighbours by period, but far apart by name."""
    names = [f"invoice-{number * 7 % 211:03}" for number in range(count)]
    return [invoice(number, size_bytes + number, name) for number, name in enumerate(names)]


INVOICES = invoices()
TENANT = tenant(*INVOICES)
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
ONCE = dict.fromkeys(CONTENTS, 1)

Command = Sequence[Argument]
Program = Callable[[Path, Path], Command]


def cp(folder: Path, target: Path) -> Command:
    return ("cp", "-r", folder, target)


def tar(folder: Path, target: Path) -> Command:
    return ("sh", "-c", 'mkdir "$2"; tar -c -C "$1" . | tar -x -C "$2"', "sh", folder, target)


def find(folder: Path, target: Path) -> Command:
    script = 'mkdir "$2"; cd "$1"; find . -type f -exec sh -c \'cat "$1" > "$2/$1"\' sh {} "$2" \\;'
    return ("sh", "-e", "-c", script, "sh", folder, target)


def rsync(folder: Path, target: Path) -> Command:
    return ("rsync", "-a", f"{folder}/", target)


def copytree(folder: Path, target: Path) -> Command:
    source = "import shutil, sys; shutil.copytree(*sys.argv[1:])"
    return (sys.executable, "-I", "-c", source, folder, target)


def rclone(folder: Path, target: Path) -> Command:
    """Copy one file at a time. rclone trusts the size before the open, and retries at the end."""
    return ("rclone", "copy", "--transfers=1", folder, target)


with_any_program = pytest.mark.parametrize("program", [cp, tar, find, rsync, copytree, rclone])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A path at which a test may make a copy."""
    return tmp_path / "copy"


def copy_namespace(mount: Mount, program: Program, copy: Path, namespace: str = NAMESPACE) -> Ended:
    """Run a program that copies a namespace to the path `copy`."""
    return run(*program(mount / namespace, copy))


def downloads(sandbox: Sandbox) -> Mapping[str, int]:
    """The number of times each PDF was sent; failed requests do not count."""
    return Counter(_file_of(call) for call in pdf_requests(sandbox) if call.status == 200)


def requests_by_file(sandbox: Sandbox) -> Mapping[str, int]:
    """The number of requests for the PDF of each file."""
    return Counter(map(_file_of, pdf_requests(sandbox)))


def pdf_requests(sandbox: Sandbox) -> list[Call]:
    return [call for call in sandbox.calls if call.endpoint is Endpoint.PDF]


def _file_of(call: Call) -> str:
    return f"{call.name}.pdf"


def refusals(sandbox: Sandbox) -> int:
    return sum(call.status == 429 for call in sandbox.calls)


def paths(mount: Mount, *places: int) -> list[Path]:
    """The files at these positions, ordered by period."""
    return [mount / NAMESPACE / file_name(INVOICES[place]) for place in places]


# Sequential access.


@pytest.mark.promise(
    "When a program opens one invoice after another, in the order of the folder or of the "
    "names, up to `--read-ahead` (16) of the next ones are downloaded in the background: `cp "
    "-r`, `tar`, `find`, `rsync`, `rclone`."
)
@with_any_program
def test_a_program_that_copies_a_folder_gets_read_ahead(
    sandbox: Sandbox, mounts: Mounts, copy: Path, program: Program
) -> None:
    """The program opens one file at a time, yet several requests are in flight at once."""
    sandbox.latency_s = SHORT_LATENCY_S
    mount = mounts.mount()
    sandbox.forget_calls()
    copy_namespace(mount, program, copy).good()
    assert in_folder(copy) == CONTENTS
    assert downloads(sandbox) == requests_by_file(sandbox) == ONCE
    assert 1 < sandbox.peak_concurrency <= PARALLEL


SMALL = SampleTenant(
    "acme",
    tuple(
        SampleNamespace(f"team-{number:02}", tuple(invoice(month) for month in range(3)))
        for number in range(30)
    ),
)


@pytest.mark.promise(
    "A copy makes `--parallel` requests at a time, also of many small namespaces, which are listed "
    "ahead, and so does a program that only lists them; each list and each invoice is requested "
    "once."
)
@pytest.mark.parametrize("program", [cp, rsync])
def test_a_copy_of_many_small_namespaces_uses_all_slots(
    sandbox: Sandbox, mounts: Mounts, copy: Path, program: Program
) -> None:
    sandbox.tenant = SMALL
    sandbox.latency_s = LONG_LATENCY_S
    mount = mounts.mount()
    sandbox.forget_calls()
    run(*program(mount.path, copy)).good()
    for name in SMALL.by_name:
        assert in_folder(copy / name) == contents(SMALL, name)
    requests = Counter(
        (call.endpoint, call.namespace, call.name)
        for call in sandbox.calls
        if call.endpoint is not Endpoint.NAMESPACES
    )
    assert set(requests.values()) == {1}
    assert len(requests) == 30 * (1 + 3)
    assert sandbox.peak_concurrency == PARALLEL


@pytest.mark.promise(
    "A copy makes `--parallel` requests at a time, also of many small namespaces, which are listed "
    "ahead, and so does a program that only lists them; each list and each invoice is requested "
    "once."
)
def test_a_program_that_lists_many_namespaces_gets_lists_ahead(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = SMALL
    sandbox.latency_s = LONG_LATENCY_S
    mount = mounts.mount()
    sandbox.forget_calls()
    run("ls", "-lR", mount.path).good()
    assert Counter(call.namespace for call in sandbox.calls) == dict.fromkeys(SMALL.by_name, 1)
    assert sandbox.count(Endpoint.PDF) == 0
    assert sandbox.peak_concurrency == PARALLEL


READ_IN_THIS_ORDER = """
import sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        file.read()
"""


@pytest.mark.promise(
    "Opening invoices in random order downloads no others, and a copy that is aborted has "
    "downloaded at most `--read-ahead` invoices for nothing."
)
def test_random_access_downloads_nothing_else(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount()
    order = [place * 13 % COUNT for place in range(COUNT)]
    for places in (order[:20], order[20:]):
        sandbox.forget_calls()
        python(READ_IN_THIS_ORDER, *paths(mount, *places)).good()
        opened = [file_name(INVOICES[place]) for place in places]
        assert [_file_of(call) for call in pdf_requests(sandbox)] == opened


@pytest.mark.promise(
    "No invoice is downloaded twice, for one reader, many readers or several copies at the "
    "same time, even if the disk can keep nothing."
)
def test_two_concurrent_copies_download_each_invoice_once(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    sandbox.latency_s = 0.01
    mount = mounts.mount()
    targets = {program: tmp_path / program.__name__ for program in (cp, rsync)}
    with (
        started(*cp(mount / NAMESPACE, targets[cp])) as one,
        started(*rsync(mount / NAMESPACE, targets[rsync])) as other,
    ):
        one.end().good()
        other.end().good()
    assert [in_folder(target) for target in targets.values()] == [CONTENTS] * 2
    assert requests_by_file(sandbox) == ONCE


READ_CONCURRENTLY = """
import concurrent.futures, hashlib, sys, threading
barrier = threading.Barrier(64, timeout=20)

def read(path):
    barrier.wait()
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()

with concurrent.futures.ThreadPoolExecutor(64) as threads:
    print(len(set(threads.map(read, sys.argv[1:] * 64))))
"""


@pytest.mark.promise(
    "No invoice is downloaded twice, for one reader, many readers or several copies at the "
    "same time, even if the disk can keep nothing."
)
def test_64_readers_of_one_new_invoice_make_one_request(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.latency_s = 0.2
    mount = mounts.mount()
    assert python(READ_CONCURRENTLY, *paths(mount, 7)).good().text == "1\n"
    assert sandbox.count(Endpoint.PDF) == 1


# Caches that can keep little or nothing.


@contextmanager
def small_cache(mounts: Mounts) -> Iterator[Mount]:
    yield mounts.mount("--cache-size", "1MiB")


LOCK = """
import sqlite3, sys
connections = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:]]
for connection in connections:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked_cache(mounts: Mounts) -> Iterator[Mount]:
    mounts.umount(mounts.mount())
    (store,) = (mounts.cache / "invoicefs").iterdir()
    databases = [database(store, cache) for cache in ("pdf", "meta")]
    with started(sys.executable, "-I", "-c", LOCK, *databases) as holder:
        assert holder.line() == "locked"
        yield mounts.mount(words="another program has locked it")
        holder.go_on()
        holder.end().good()


LARGE = invoices(size_bytes=100_000)  # a cache of 1 MiB has room for ten


@pytest.mark.promise(
    "No invoice is downloaded twice, for one reader, many readers or several copies at the "
    "same time, even if the disk can keep nothing."
)
@pytest.mark.parametrize(
    ("store", "program"), [(small_cache, cp), (small_cache, rsync), (locked_cache, cp)]
)
def test_a_small_or_locked_cache_costs_no_second_download(
    sandbox: Sandbox,
    mounts: Mounts,
    copy: Path,
    store: Callable[[Mounts], AbstractContextManager[Mount]],
    program: Program,
) -> None:
    sandbox.tenant = tenant(*LARGE)
    sandbox.latency_s = 0.01
    with store(mounts) as mount:
        copy_namespace(mount, program, copy).good()
    assert in_folder(copy) == contents(sandbox.tenant)
    assert requests_by_file(sandbox) == ONCE


# Failures.


@pytest.mark.promise(
    "Opening invoices in random order downloads no others, and a copy that is aborted has "
    "downloaded at most `--read-ahead` invoices for nothing."
)
def test_an_aborted_copy_wastes_at_most_one_read_ahead_window(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    gate = Gate()
    sandbox.inject(*(Fault(gate, Endpoint.PDF, name=item.name) for item in INVOICES[20:]))
    mount = mounts.mount()
    with started(*cp(mount / NAMESPACE, tmp_path / "aborted")) as program:
        eventually(lambda: len(list((tmp_path / "aborted").glob("*.pdf"))) >= 20)
        program.process.kill()
        gate.open()
        program.process.wait(LIMIT_S)
    opened = 20 + 1  # the one that it waited for
    assert len(requests_by_file(sandbox)) <= opened + READ_AHEAD
    copy_namespace(mount, cp, tmp_path / "copy").good()
    assert in_folder(tmp_path / "copy") == CONTENTS
    assert requests_by_file(sandbox) == ONCE


# Rate limits.


@pytest.mark.promise(
    "If the API has a rate limit, a copy slows down instead of failing: of 200 new invoices at"
    " 20 requests a second, at most one request in 10 is refused."
)
def test_a_copy_keeps_within_a_rate_limit(sandbox: Sandbox, mounts: Mounts, copy: Path) -> None:
    sandbox.tenant = tenant(*invoices(200))
    sandbox.latency_s = 0.05
    mount = mounts.mount()
    sandbox.throttle(RateLimit(per_second=20, burst=5))
    copy_namespace(mount, cp, copy).good()
    assert in_folder(copy) == contents(sandbox.tenant)
    assert set(downloads(sandbox).values()) == {1}
    assert refusals(sandbox) <= 0.1 * len(sandbox.calls)


@pytest.mark.promise(
    "If the next request would have to wait longer than `--max-wait`, files fail one by one "
    "with `Resource temporarily unavailable`; running the same command again downloads the "
    "rest, and nothing twice."
)
@pytest.mark.parametrize("retry_after", [True, False], ids=["with Retry-After", "without"])
def test_a_copy_beyond_a_rate_limit_fails_per_file_and_reruns_finish_it(
    sandbox: Sandbox, mounts: Mounts, copy: Path, retry_after: bool
) -> None:
    """The server allows one request a second, so the wait is longer than ``--max-wait``."""
    few = INVOICES[:7]
    sandbox.tenant = tenant(*few)
    mount = mounts.mount("--max-wait", "200ms")
    run("ls", mount / NAMESPACE).good()
    sandbox.throttle(RateLimit(per_second=1, burst=4, retry_after=retry_after))
    first = copy_namespace(mount, cp, copy)
    assert first.code == 1
    refused = [line for line in first.err.splitlines() if "Resource temporarily unavail" in line]
    assert len(refused) == len(first.err.splitlines()) == len(few) - len(in_folder(copy))

    def archived() -> bool:
        ended = copy_namespace(mount, rsync, copy)
        assert ended.code in (0, 23), ended.err
        return ended.code == 0

    eventually(archived)
    assert in_folder(copy) == contents(sandbox.tenant)
    assert downloads(sandbox) == dict.fromkeys(map(file_name, few), 1)
