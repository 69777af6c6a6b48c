"""A crash, power loss or a bad disk costs requests at most, never an invoice.

A killed process loses nothing that a program has read. Whatever happens to the files of the cache,
an open returns the right bytes or, if the API is unreachable too, an error; and a listing never
becomes shorter.
"""

import hashlib
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from enum import Enum
from itertools import count, product
from pathlib import Path
from random import Random

import pytest

from invoicefs.sandbox import Endpoint, Exchange, Fault, SampleInvoice, Sandbox, Sent, faults
from invoicefs.store.store import store_folder
from tests.mount.support.damage import (
    DAMAGES,
    Choice,
    Damage,
    corrupt,
    damage,
    databases,
    everything,
    journals,
    missing,
    put_junk_next_to,
    rotated_within_kind,
    value_files_and_databases,
)
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mount, Mounts, is_mounted
from tests.mount.support.programs import LIMIT_S, Running
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

SMALL, LARGE = 20_000, 200_000  # bytes: in a row of a database, and in a file of its own


def invoices(how_many: int) -> Iterator[SampleInvoice]:
    """Invoices of both sizes, some of them drafts."""
    for number in range(how_many):
        size_bytes = (LARGE if number % 2 else SMALL) + number
        yield replace(invoice(number, size_bytes), active=number % 5 == 4)


def digests_of(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def downloads(sandbox: Sandbox) -> Counter[str]:
    """The number of PDF requests for each file."""
    calls = [call for call in sandbox.calls if call.endpoint is Endpoint.PDF]
    return Counter(f"{call.name}.pdf" for call in calls)


# Prints the result of opening each file: the digest of its bytes, or the name of the errno.
READ = """
import errno, hashlib, os, sys
folder, *names = sys.argv[1:]
has_failed = False
for name in names:
    try:
        with open(f"{folder}/{name}", "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # drop the page cache
            result = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        result, has_failed = errno.errorcode[error.errno], True
    print(name, result, flush=True)
sys.exit(has_failed)
"""

OpenResult = tuple[str, str]  # a name, and the result of opening it


def result(line: str) -> OpenResult:
    name, result = line.split()
    return name, result


def report_of(reader: Running) -> list[OpenResult]:
    """The results that a reader has yet to print; fails if it ends before its last file."""
    ended = reader.end()
    assert ended.err == ""
    return [result(line) for line in ended.lines]


def open_results(mounts: Mounts, mount: Mount, names: Sequence[str]) -> dict[str, str]:
    """The result of opening each file."""
    with mounts.started_python(READ, mount / NAMESPACE, *names) as reader:
        return dict(report_of(reader))


# Crashes.

ROUNDS = 8
READERS = 4
REQUESTS_PER_ROUND = 18  # at most, before the kill
PARALLEL = 8  # --parallel
CHAIN = tenant(*invoices(260))
CHAIN_CONTENTS = contents(CHAIN)
CHAIN_DIGESTS = digests_of(CHAIN_CONTENTS)
DEAD = {"ENOTCONN", "ECONNABORTED"}  # what the kernel returns for a mount whose process is gone


class Point(Enum):
    """The stage that a request has reached."""

    ARRIVED = "arrived"
    HALF_ANSWERED = "half answered"
    ANSWERED = "answered"


class Moment:
    """A fault that signals a random moment of a copy: a point within one request.

    That request waits there until the moment is over; all others are answered.
    """

    def __init__(self, random: Random) -> None:
        self._has_come = threading.Event()
        self._is_over = threading.Event()
        self._numbers = count(1)
        self._number = random.randint(1, REQUESTS_PER_ROUND)
        self._point = random.choice(list(Point))
        self._later_s = random.uniform(0, 0.02)

    def __call__(self, exchange: Exchange) -> None:
        if next(self._numbers) != self._number:
            faults.honest(exchange)
            return
        self._advance_to_the_point(exchange)
        self._has_come.set()
        self._is_over.wait(LIMIT_S)

    def wait(self) -> None:
        assert self._has_come.wait(LIMIT_S), "there were too few requests"

    def close(self) -> None:
        self._is_over.set()

    def _advance_to_the_point(self, exchange: Exchange) -> None:
        if self._point is Point.HALF_ANSWERED:
            exchange.begin(exchange.honest, Sent.HALF_BODY)
        elif self._point is Point.ANSWERED:
            exchange.answer(exchange.honest)
            exchange.wait(self._later_s)  # meanwhile the PDF is verified, cached and read


@contextmanager
def readers_of(
    mounts: Mounts, mount: Mount, shares: Sequence[Sequence[str]]
) -> Iterator[list[Running]]:
    """Concurrent readers, each with its own share of the files."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(mounts.started_python(READ, mount / NAMESPACE, *share))
            for share in shares
        ]


def shares_of(complete: set[str], random: Random) -> Iterator[list[str]]:
    """The complete files, divided among the readers; then all others, for every reader."""
    for number in range(READERS):
        first = sorted(complete)[number::READERS]
        rest = sorted(CHAIN_DIGESTS.keys() - complete)
        random.shuffle(first)
        random.shuffle(rest)
        yield first + rest


def copy_until_killed(
    sandbox: Sandbox, mounts: Mounts, mount: Mount, random: Random, complete: set[str]
) -> list[OpenResult]:
    """The results of the readers, before and after the process is killed."""
    moment = Moment(random)
    sandbox.inject(Fault(moment, Endpoint.PDF))
    shares = list(shares_of(complete, random))
    with closing(moment), readers_of(mounts, mount, shares) as readers:
        moment.wait()
        mount.kill()
        sandbox.heal()
        return [line for reader in readers for line in report_of(reader)]


def reset_counters_after_kill(sandbox: Sandbox) -> None:
    """Reset the counters; requests of the killed process may still be unread."""
    sandbox.go_away()
    sandbox.come_back()
    sandbox.forget_calls()


@pytest.mark.promise(
    "When the mount process is killed, nothing that a program has read is downloaded again, "
    "and mounting again repairs the folder."
)
@pytest.mark.parametrize("seed", [1])
def test_an_invoice_read_before_a_crash_is_never_downloaded_again(
    sandbox: Sandbox, anyones_mounts: Mounts, seed: int
) -> None:
    mounts, random = anyones_mounts, Random(seed)  # noqa: S311 # a failure can be repeated
    sandbox.tenant = CHAIN
    path, complete, spent = mounts.new_path(), set[str](), Counter[str]()
    for _ in range(ROUNDS):
        reset_counters_after_kill(sandbox)
        mount = mounts.mount(path=path)
        report = copy_until_killed(sandbox, mounts, mount, random, complete)
        assert mount.is_mounted  # and dead: the next command has to unmount it
        read = {name for name, result in report if result == CHAIN_DIGESTS[name]}
        assert {result for name, result in report if result != CHAIN_DIGESTS[name]} <= DEAD
        assert complete.isdisjoint(downloads(sandbox))
        twice = [name for name, calls in downloads(sandbox).items() if calls > 1]
        assert (twice, mount.warnings) == ([], [])
        spent += downloads(sandbox)
        complete |= read
    assert len(complete) > 2 * ROUNDS  # otherwise there was little to lose
    sandbox.forget_calls()
    mount = mounts.mount(path=path)
    mounts.run("cp", "-r", mount / NAMESPACE, mounts.folder / "copy").good()
    assert in_folder(mounts.folder / "copy") == CHAIN_CONTENTS
    assert open_results(mounts, mount, list(CHAIN_DIGESTS)) == CHAIN_DIGESTS
    assert complete.isdisjoint(downloads(sandbox))
    spent += downloads(sandbox)
    assert spent.total() <= len(CHAIN_CONTENTS) + ROUNDS * PARALLEL  # those in flight
    assert mount.warnings == []


# Reads one page, waits until the mount is killed, and reads on from that page.
READ_ACROSS = """
import errno, os, sys
handle, page = os.open(sys.argv[1], os.O_RDONLY), os.sysconf("SC_PAGE_SIZE")
os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead by the kernel
os.pread(handle, page, 0)
print("ready", flush=True)
input()
print(len(os.pread(handle, 4 * page, 0)) == page)
try:
    print(os.pread(handle, page, page))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_after_a_crash_a_short_read_is_followed_by_an_error_not_by_eof(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = CHAIN
    mount, name = mounts.mount(), next(iter(CHAIN_DIGESTS))
    with mounts.started_python(READ_ACROSS, mount / NAMESPACE / name) as reader:
        assert reader.line() == "ready"
        mount.kill()
        reader.go_on()
        is_short, error = reader.end().good().lines
    assert is_short == "True"
    assert error in DEAD


def kernel_wait_channels(pid: int) -> set[str]:
    """The kernel functions in which the threads of a process wait."""
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/wchan"):
        with suppress(OSError):  # it has just ended
            found.add(path.read_text(encoding="ascii"))
    return found


def stop_while_the_stat_helper_waits(mount: Mount, reader: Running) -> None:
    """Stop the mount process while the stat helper waits for its reply."""
    while reader.line():
        os.kill(mount.daemon, signal.SIGSTOP)
        if "request_wait_answer" in kernel_wait_channels(mount.stat_helper):
            return
        os.kill(mount.daemon, signal.SIGCONT)
    raise AssertionError("the stat helper was never seen to wait")


@pytest.mark.promise("No program keeps waiting for a mount whose process was killed.")
def test_a_crash_ends_every_waiting_call_and_that_of_the_helper(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    """A mount process with a thread that waits for its own FUSE reply could not be killed."""
    sandbox.tenant = CHAIN
    mount = mounts.mount()
    shares = [sorted(CHAIN_DIGESTS, key=lambda name: name[::-1]), list(CHAIN_DIGESTS)]
    with readers_of(mounts, mount, shares) as readers:
        stop_while_the_stat_helper_waits(mount, readers[0])
        os.kill(mount.daemon, signal.SIGKILL)
        mount.wait_until_ended()
        for reader in readers:
            result = {result for _, result in report_of(reader)}
            # The helper of root's mount unmounts it, and then the path does not exist.
            assert result <= {*CHAIN_DIGESTS.values(), *DEAD, "ENOENT"}


# Power loss. Each test damages its own copy of a complete cache.

LONG_TEXT = "USD" * 4000  # fills whole database pages with the listing, so that they can be found
TENANT = tenant(*(replace(item, currency=LONG_TEXT) for item in invoices(6)))
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
DIGESTS = digests_of(CONTENTS)
NAMES = list(DIGESTS)
API_IS_GONE = ("--max-wait", "0s")

unmounted, killed = "unmounted", "killed"


def leave_store(folder: Path, end: Callable[[Mounts, Mount], None]) -> Path:
    """Read one half, unmount (a checkpoint), read the other half, and call `end`."""
    with Sandbox(TENANT) as sandbox, closing(Mounts(sandbox, folder)) as mounts:
        for names, end_mount in (NAMES[:3], Mounts.umount), (NAMES[3:], end):
            mount = mounts.mount("--read-ahead", "0")
            open_results(mounts, mount, names)
            end_mount(mounts, mount)
        return store_folder(mounts.cache / "invoicefs", sandbox.url)


@pytest.fixture(scope="module")
def left_stores(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Caches left by mounts that ended in different ways."""
    make_folder = tmp_path_factory.mktemp
    return {
        unmounted: leave_store(make_folder(unmounted), Mounts.umount),
        killed: leave_store(make_folder(killed), lambda _, mount: mount.kill()),
    }


PlaceStore = Callable[[str], Path]


@pytest.fixture
def place_store(left_stores: Mapping[str, Path], mounts: Mounts) -> PlaceStore:
    """Put a copy of one of these caches where the next mount expects its cache."""

    def place(left: str) -> Path:
        store = store_folder(mounts.cache / "invoicefs", mounts.sandbox.url)
        shutil.copytree(left_stores[left], store)
        return store

    return place


def check_warnings(mount: Mount, store: Path) -> None:
    """Check that there is at most one warning for each database, and no other warning."""
    for cache in ("pdf", "meta"):
        announced = [line for line in mount.warnings if f"{store / cache}-" in line]
        assert len(announced) <= 1, announced
    assert all(str(store) in line for line in mount.warnings), mount.warnings


@pytest.mark.parametrize("left", [unmounted, killed])
def test_an_intact_cache_costs_no_request(
    sandbox: Sandbox, mounts: Mounts, place_store: PlaceStore, left: str
) -> None:
    place_store(left)
    mount = mounts.mount()
    assert open_results(mounts, mount, NAMES) == DIGESTS
    assert downloads(sandbox).total() == 0
    assert mount.warnings == []


def check_that_no_invoice_is_lost(sandbox: Sandbox, mounts: Mounts, store: Path) -> None:
    """Check that everything is read correctly, again without a request, and without the API."""
    mount = mounts.mount()
    assert open_results(mounts, mount, NAMES) == DIGESTS
    assert set(downloads(sandbox).values()) <= {1}
    sandbox.forget_calls()
    assert open_results(mounts, mount, NAMES) == DIGESTS
    assert downloads(sandbox).total() == 0
    check_warnings(mount, store)
    mount.kill()
    sandbox.close()
    mount = mounts.mount(*API_IS_GONE, words="cannot be used now")
    assert open_results(mounts, mount, NAMES) == DIGESTS


@pytest.mark.promise(
    "Whatever happens to the files of the cache, damage is detected and the invoice is "
    "downloaded again."
)
@pytest.mark.parametrize(
    ("left", "chosen"),
    [
        (killed, everything),
        (killed, journals),
        (unmounted, databases),
    ],
)
@pytest.mark.parametrize("what_happens", DAMAGES)
def test_damage_by_power_loss_costs_requests_but_no_invoice(
    sandbox: Sandbox,
    mounts: Mounts,
    place_store: PlaceStore,
    left: str,
    chosen: Choice,
    what_happens: Damage,
) -> None:
    store = place_store(left)
    damage(what_happens, chosen(store))
    check_that_no_invoice_is_lost(sandbox, mounts, store)


@pytest.mark.promise(
    "Whatever happens to the files of the cache, damage is detected and the invoice is "
    "downloaded again."
)
@pytest.mark.parametrize("left", [unmounted, killed])
def test_junk_in_the_cache_costs_no_invoice(
    sandbox: Sandbox, mounts: Mounts, place_store: PlaceStore, left: str
) -> None:
    store = place_store(left)
    put_junk_next_to(everything(store))
    check_that_no_invoice_is_lost(sandbox, mounts, store)


# Damage while the API is unreachable.

DAMAGES_WITHOUT_API = [
    *product([everything], DAMAGES),
    (journals, missing),
    (journals, rotated_within_kind),
]


def listed(mounts: Mounts, folder: Path) -> list[str] | None:
    """The names in a folder, or None if listing it fails because the API is unreachable."""
    ended = mounts.run("ls", "-A", folder)
    if ended.code == 0:
        return ended.lines
    assert "No route to host" in ended.err
    assert ended.lines == []
    return None


def check_that_nothing_is_lost(mounts: Mounts, mount: Mount) -> None:
    """Check that every result is right or says that the API is unreachable."""
    result = open_results(mounts, mount, NAMES)
    assert {name: result[name] for name in NAMES} == {
        name: result[name] if result[name] == "EHOSTUNREACH" else DIGESTS[name] for name in NAMES
    }
    assert listed(mounts, mount.path) in ([NAMESPACE], None)
    assert listed(mounts, mount / NAMESPACE) in (NAMES, None)


def check_that_an_archive_keeps_all(mounts: Mounts, mount: Mount) -> None:
    archive = mounts.folder / "archive"
    (archive / NAMESPACE).mkdir(parents=True)
    for name, content in CONTENTS.items():
        (archive / NAMESPACE / name).write_bytes(content)
    mounts.run("rsync", "-a", "--delete", "--ignore-times", f"{mount.path}/", archive)
    assert in_folder(archive / NAMESPACE) == CONTENTS


@pytest.mark.parametrize(("chosen", "what_happens"), DAMAGES_WITHOUT_API)
def test_damage_without_the_api_gives_right_bytes_or_errors(
    sandbox: Sandbox,
    mounts: Mounts,
    place_store: PlaceStore,
    chosen: Choice,
    what_happens: Damage,
) -> None:
    damage(what_happens, chosen(place_store(killed)))
    sandbox.close()
    path = mounts.new_path()
    ended = mounts.command("mount", *API_IS_GONE, "--log-file", mounts.folder / "mnt.log", path)
    if ended.code == 0:
        assert "cannot be used now" in ended.err
        check_that_nothing_is_lost(mounts, mounts.at(path))
        check_that_an_archive_keeps_all(mounts, mounts.at(path))
    else:
        assert ended.code == 1  # the tenant is unknown now
        assert "no connection" in ended.err
        assert not is_mounted(path)


def test_a_corrupt_listing_without_the_api_is_an_error_not_a_shorter_one(
    sandbox: Sandbox, mounts: Mounts, place_store: PlaceStore
) -> None:
    corrupt(LONG_TEXT[:600].encode(), databases(place_store(unmounted)))
    sandbox.close()
    mount = mounts.mount(*API_IS_GONE, words="cannot be used now")
    assert listed(mounts, mount / NAMESPACE) is None
    check_that_nothing_is_lost(mounts, mount)
    check_that_an_archive_keeps_all(mounts, mount)


in_use = pytest.mark.parametrize("chosen", [databases])


@in_use
@pytest.mark.parametrize("what_happens", DAMAGES)
def test_damage_while_mounted_without_the_api_gives_right_bytes_or_errors(
    sandbox: Sandbox,
    mounts: Mounts,
    place_store: PlaceStore,
    chosen: Choice,
    what_happens: Damage,
) -> None:
    store = place_store(killed)
    mount = mounts.mount(*API_IS_GONE, "--list-ttl", "0s")
    assert listed(mounts, mount / NAMESPACE) == NAMES
    assert open_results(mounts, mount, NAMES[:4]) == {name: DIGESTS[name] for name in NAMES[:4]}
    sandbox.close()
    damage(what_happens, chosen(store))
    check_that_nothing_is_lost(mounts, mount)
    check_that_an_archive_keeps_all(mounts, mount)


# Damage while mounted.


@pytest.mark.promise(
    "Whatever happens to the files of the cache, damage is detected and the invoice is "
    "downloaded again."
)
@in_use
@pytest.mark.parametrize("what_happens", DAMAGES)
def test_damage_while_mounted_costs_no_invoice(
    mounts: Mounts, place_store: PlaceStore, chosen: Choice, what_happens: Damage
) -> None:
    store = place_store(killed)
    mount = mounts.mount()
    assert open_results(mounts, mount, NAMES[:4]) == {name: DIGESTS[name] for name in NAMES[:4]}
    damage(what_happens, chosen(store))
    for _ in range(2):
        assert open_results(mounts, mount, NAMES) == DIGESTS


def damage_random_files(store: Path, random: Random) -> None:
    files = value_files_and_databases(store)
    what_happens = random.choice(DAMAGES)
    with suppress(FileNotFoundError):  # the mount has just removed one
        what_happens(random.sample(files, random.randint(0, len(files))))


@pytest.mark.parametrize("seed", [1])
def test_concurrent_readers_get_right_bytes_during_damage(
    mounts: Mounts, place_store: PlaceStore, seed: int
) -> None:
    store, random = place_store(killed), Random(seed)  # noqa: S311 # a failure can be repeated
    mount, results = mounts.mount(), list[OpenResult]()
    shares = [random.sample(NAMES * 20, 20 * len(NAMES)) for _ in range(READERS)]
    with readers_of(mounts, mount, shares) as readers:
        while line := readers[0].line():
            results.append(result(line))
            damage_random_files(store, random)
        for reader in readers:
            results += report_of(reader)
    assert len(results) == READERS * 20 * len(NAMES)
    assert set(results) == set(DIGESTS.items())
