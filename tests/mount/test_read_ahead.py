"""What programs that walk through a folder have downloaded ahead of them, and what it costs."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
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
    faults,
)
from tests.mount.support.files import in_folder
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import LIMIT_S, Argument, Ended, eventually, python, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant
from tests.support.store_folder import database

READ_AHEAD = 16
PARALLEL = 8
A_LITTLE_S = 0.03

COUNT = 60


def invoices(count: int = COUNT, size_bytes: int = 1000) -> list[SampleInvoice]:
    """Invoices whose neighbours by period are far from each other by name."""
    names = [f"invoice-{number * 7 % 61:02}" for number in range(count)]
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
    """One file after the other. It goes by the size from before, and tries again at the end."""
    return ("rclone", "copy", "--transfers=1", folder, target)


with_any_program = pytest.mark.parametrize("program", [cp, tar, find, rsync, copytree, rclone])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where a copy may be made."""
    return tmp_path / "copy"


def copied(mount: Mount, program: Program, copy: Path, namespace: str = NAMESPACE) -> Ended:
    """Copy a namespace to a new folder."""
    return run(*program(mount / namespace, copy))


def downloads(sandbox: Sandbox) -> Mapping[str, int]:
    """How often the PDF of each file was given; calls that failed do not count."""
    return Counter(_file_of(call) for call in pdf_calls(sandbox) if call.status == 200)


def asked_for(sandbox: Sandbox) -> Mapping[str, int]:
    """How often the PDF of each file was asked for."""
    return Counter(map(_file_of, pdf_calls(sandbox)))


def pdf_calls(sandbox: Sandbox) -> list[Call]:
    return [call for call in sandbox.calls if call.endpoint is Endpoint.PDF]


def _file_of(call: Call) -> str:
    return f"{call.name}.pdf"


def refusals(sandbox: Sandbox) -> int:
    return sum(call.status == 429 for call in sandbox.calls)


def paths(mount: Mount, *places: int) -> list[Path]:
    """The files at these places by period."""
    return [mount / NAMESPACE / file_name(INVOICES[place]) for place in places]


# Walks.


@pytest.mark.promise(
    "When a program opens one invoice after another, in the order of the folder or of the "
    "names, up to `--read-ahead` (16) of the next ones are downloaded in the background: `cp "
    "-r`, `tar`, `find`, `rsync`, `rclone`."
)
@with_any_program
def test_a_program_that_copies_a_folder_has_it_downloaded_ahead(
    sandbox: Sandbox, mounts: Mounts, copy: Path, program: Program
) -> None:
    """It opens one file after the other, and yet several calls are under way at one time."""
    sandbox.latency_s = A_LITTLE_S
    mount = mounts.mount()
    sandbox.forget_calls()
    copied(mount, program, copy).good()
    assert in_folder(copy) == CONTENTS
    assert downloads(sandbox) == asked_for(sandbox) == ONCE
    assert 1 < sandbox.peak_concurrency <= PARALLEL


@pytest.mark.parametrize("opens", [1, 2, 3, 6])
def test_a_walk_that_stops_has_downloaded_no_more_than_its_window_ahead(
    sandbox: Sandbox, mounts: Mounts, opens: int
) -> None:
    mount = mounts.mount()
    ahead = min(2 ** (opens - 1), READ_AHEAD) if opens > 1 else 0
    run("cat", *paths(mount, *range(opens))).good()
    eventually(lambda: sandbox.count(Endpoint.PDF) >= opens + ahead)
    far_away = [45, 55, 50]
    run("cat", *paths(mount, *far_away)).good()
    expected = [*INVOICES[: opens + ahead], *(INVOICES[place] for place in far_away)]
    assert asked_for(sandbox) == dict.fromkeys(map(file_name, expected), 1)


def test_the_window_is_as_large_as_the_option_says(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--read-ahead", "3")
    run("cat", *paths(mount, *range(6))).good()
    eventually(lambda: sandbox.count(Endpoint.PDF) >= 6 + 3)
    run("cat", *paths(mount, 45, 55)).good()
    assert sandbox.count(Endpoint.PDF) == 6 + 3 + 2


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
def test_opens_here_and_there_download_nothing_else(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount()
    order = [place * 13 % COUNT for place in range(COUNT)]
    for places in (order[:20], order[20:]):
        sandbox.forget_calls()
        python(READ_IN_THIS_ORDER, *paths(mount, *places)).good()
        opened = [file_name(INVOICES[place]) for place in places]
        assert [_file_of(call) for call in pdf_calls(sandbox)] == opened


@pytest.mark.parametrize(
    "options",
    [("--read-ahead", "0"), ("--parallel", "1"), ("--parallel", "2")],
    ids=" ".join,
)
@pytest.mark.parametrize("program", [cp, rsync])
def test_nothing_is_downloaded_ahead_where_it_is_off_or_no_slot_is_left_for_it(
    sandbox: Sandbox, mounts: Mounts, copy: Path, options: Sequence[str], program: Program
) -> None:
    sandbox.latency_s = 0.005
    mount = mounts.mount(*options)
    sandbox.forget_calls()
    copied(mount, program, copy).good()
    assert asked_for(sandbox) == ONCE
    assert sandbox.peak_concurrency == 1


def test_the_environment_turns_it_off(sandbox: Sandbox, tmp_path: Path, copy: Path) -> None:
    sandbox.latency_s = 0.005
    with closing(Mounts(sandbox, tmp_path, variables={"INVOICEFS_READ_AHEAD": "0"})) as mounts:
        mount = mounts.mount()
        sandbox.forget_calls()
        copied(mount, cp, copy).good()
    assert sandbox.peak_concurrency == 1


@pytest.mark.parametrize("size", ["-1", "many", "1.5"])
def test_a_window_that_is_no_number_is_bad_usage(mounts: Mounts, size: str) -> None:
    ended = mounts.command("mount", "--read-ahead", size, mounts.new_path())
    assert ended.code == 2
    assert "read-ahead" in ended.err


def test_looking_around_downloads_nothing(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount()
    run("ls", "-l", mount / NAMESPACE).good()
    run("find", mount.path, "-type", "f", "-size", "+1k").good()
    run("du", "-a", mount.path).good()
    run("stat", *paths(mount, *range(COUNT))).good()
    run("cat", *paths(mount, 30)).good()
    assert sandbox.count(Endpoint.PDF) == 1


@pytest.mark.parametrize("program", [cp, rsync, rclone])
def test_where_looks_wait_for_downloads_each_is_downloaded_once(
    sandbox: Sandbox, mounts: Mounts, copy: Path, program: Program
) -> None:
    mount = mounts.mount("--fetch", "on-stat")
    copied(mount, program, copy).good()
    assert in_folder(copy) == CONTENTS
    assert asked_for(sandbox) == ONCE


def test_invoices_that_are_not_shown_are_not_downloaded(
    sandbox: Sandbox, mounts: Mounts, copy: Path
) -> None:
    mixed = [
        each if number % 3 else replace(each, status="STATUS_PENDING")
        for number, each in enumerate(INVOICES)
    ]
    sandbox.tenant = tenant(*mixed)
    paid = {file_name(item) for item in mixed if item.status == "STATUS_PAID"}
    copied(mounts.mount("--status", "paid"), cp, copy).good()
    assert asked_for(sandbox) == dict.fromkeys(paid, 1)


@pytest.mark.parametrize("program", [cp, rsync])
def test_a_second_copy_makes_no_call(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, program: Program
) -> None:
    mount = mounts.mount("--list-ttl", "1h")
    copied(mount, cp, tmp_path / "first").good()
    sandbox.forget_calls()
    copied(mount, program, tmp_path / "second").good()
    assert in_folder(tmp_path / "second") == CONTENTS
    assert sandbox.calls == ()
    mounts.umount(mount)
    copied(mounts.mount(), program, tmp_path / "third").good()
    assert asked_for(sandbox) == {}


def test_a_copy_of_several_namespaces_downloads_each_once(
    sandbox: Sandbox, mounts: Mounts, copy: Path
) -> None:
    namespaces = {name: invoices(12) for name in ("a", "b", "c")}
    sandbox.tenant = SampleTenant(
        "acme", tuple(SampleNamespace(name, tuple(held)) for name, held in namespaces.items())
    )
    run("cp", "-r", mounts.mount().path, copy).good()
    asked = Counter((call.namespace, call.name) for call in pdf_calls(sandbox))
    assert asked == {(name, item.name): 1 for name, held in namespaces.items() for item in held}


@pytest.mark.promise(
    "No invoice is downloaded twice, for one reader, many readers or several copies at the "
    "same time, even if the disk can keep nothing."
)
def test_two_programs_that_copy_at_one_time_download_each_once(
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
    assert asked_for(sandbox) == ONCE


READ_AT_ONCE = """
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
def test_64_readers_of_one_new_invoice_make_one_call(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.latency_s = 0.2
    mount = mounts.mount()
    assert python(READ_AT_ONCE, *paths(mount, 7)).good().text == "1\n"
    assert sandbox.count(Endpoint.PDF) == 1


# How many calls at once.


def test_never_more_than_parallel_calls_run_while_folders_are_listed(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    sandbox.tenant = SampleTenant(
        "acme",
        (
            SampleNamespace("a", tuple(invoices(15))),
            SampleNamespace("b", tuple(invoices(15))),
            SampleNamespace("c"),
        ),
    )
    sandbox.latency_s = 0.02
    mount = mounts.mount("--parallel", "4", "--list-ttl", "0s")
    sandbox.forget_calls()
    look = 'while [ ! -e "$2" ]; do ls "$1" "$1/c" > "$3"; done'
    with (
        started("sh", "-c", look, "sh", mount.path, tmp_path / "done", tmp_path / "list") as looker,
        started(*cp(mount / "a", tmp_path / "a")) as one,
        started(*rsync(mount / "b", tmp_path / "b")) as other,
    ):
        one.end().good()
        other.end().good()
        (tmp_path / "done").touch()
        looker.end().good()
    assert sandbox.count(Endpoint.INVOICES, namespace="c") > 1
    assert set(Counter((call.namespace, call.name) for call in pdf_calls(sandbox)).values()) == {1}
    assert 1 < sandbox.peak_concurrency <= 4


def test_what_is_downloaded_ahead_holds_up_nobody(sandbox: Sandbox, mounts: Mounts) -> None:
    """All the calls that a walk has begun hang, and an open and a list elsewhere do not."""
    sandbox.tenant = SampleTenant(
        "acme", (SampleNamespace(NAMESPACE, tuple(INVOICES)), SampleNamespace("other"))
    )
    gate = Gate()
    sandbox.inject(*(Fault(gate, Endpoint.PDF, name=item.name) for item in INVOICES[5:30]))
    mount = mounts.mount()
    run("cat", *paths(mount, *range(5))).good()
    assert gate.arrived.wait(LIMIT_S)
    run("cat", *paths(mount, 45, 55, 50)).good()
    run("ls", mount / "other").good()
    assert sandbox.count(Endpoint.PDF) <= 5 + 3 + PARALLEL - 2
    gate.open()


# Stores in a bad way.


@contextmanager
def small_store(mounts: Mounts) -> Iterator[Mount]:
    yield mounts.mount("--cache-size", "1MiB")


HOLD = """
import sqlite3, sys
connections = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:]]
for connection in connections:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked_store(mounts: Mounts) -> Iterator[Mount]:
    mounts.umount(mounts.mount())
    (store,) = (mounts.cache / "invoicefs").iterdir()
    databases = [database(store, cache) for cache in ("pdf", "meta")]
    with started(sys.executable, "-I", "-c", HOLD, *databases) as holder:
        assert holder.line() == "locked"
        yield mounts.mount(words="another program has locked it")
        holder.go_on()
        holder.end().good()


LARGE = invoices(size_bytes=100_000)  # ten are all that a store of 1 MiB has room for


@pytest.mark.promise(
    "No invoice is downloaded twice, for one reader, many readers or several copies at the "
    "same time, even if the disk can keep nothing."
)
@pytest.mark.parametrize(
    ("store", "program"), [(small_store, cp), (small_store, rsync), (locked_store, cp)]
)
def test_a_store_in_a_bad_way_costs_no_second_download(
    sandbox: Sandbox,
    mounts: Mounts,
    copy: Path,
    store: Callable[[Mounts], AbstractContextManager[Mount]],
    program: Program,
) -> None:
    sandbox.tenant = tenant(*LARGE)
    sandbox.latency_s = 0.01
    with store(mounts) as mount:
        copied(mount, program, copy).good()
    assert in_folder(copy) == contents(sandbox.tenant)
    assert asked_for(sandbox) == ONCE


def test_a_small_store_costs_no_second_download_beside_a_rate_limit(
    sandbox: Sandbox, mounts: Mounts, copy: Path
) -> None:
    sandbox.tenant = tenant(*LARGE)
    mount = mounts.mount("--cache-size", "1MiB")
    sandbox.throttle(RateLimit(per_second=30, burst=10, retry_after=False))
    copied(mount, cp, copy).good()
    assert in_folder(copy) == contents(sandbox.tenant)
    assert downloads(sandbox) == ONCE


# Failures.


@pytest.mark.parametrize("program", [cp, rsync])
@pytest.mark.parametrize("answer", [faults.status(404), faults.status(403)], ids=["404", "403"])
def test_what_cannot_be_had_is_asked_for_once_and_costs_no_other_invoice(
    sandbox: Sandbox, mounts: Mounts, copy: Path, program: Program, answer: faults.Behaviour
) -> None:
    bad = INVOICES[::7]
    sandbox.inject(*(Fault(answer, Endpoint.PDF, name=item.name) for item in bad))
    assert copied(mounts.mount(), program, copy).code != 0
    good = CONTENTS.keys() - set(map(file_name, bad))
    assert in_folder(copy) == {name: CONTENTS[name] for name in good}
    assert asked_for(sandbox) == ONCE


FOR_A_MOMENT = {
    "429": faults.status(429),
    "503": faults.status(503),
    "500": faults.status(500),
    "reset": faults.reset(),
    "not a PDF": faults.not_a_pdf(),
}


@pytest.mark.parametrize("case", FOR_A_MOMENT)
def test_trouble_that_only_read_ahead_has_is_not_noticed(
    sandbox: Sandbox, mounts: Mounts, case: str
) -> None:
    mount = mounts.mount()
    ahead = INVOICES[2:4]
    sandbox.inject(*(Fault(FOR_A_MOMENT[case], Endpoint.PDF, name=item.name) for item in ahead))
    run("cat", *paths(mount, 0, 1)).good()
    eventually(lambda: any(asked_for(sandbox).get(file_name(item)) for item in ahead))
    sandbox.heal()
    sandbox.forget_calls()
    read = run("cat", *paths(mount, *range(2, 12))).good().out
    assert read == b"".join(CONTENTS[file_name(item)] for item in INVOICES[2:12])
    assert set(asked_for(sandbox).values()) == {1}


@pytest.mark.promise(
    "Opening invoices in random order downloads no others, and a copy that is aborted has "
    "downloaded at most `--read-ahead` invoices for nothing."
)
def test_a_copy_that_is_broken_off_has_downloaded_no_more_than_its_window_in_vain(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    gate = Gate()
    sandbox.inject(*(Fault(gate, Endpoint.PDF, name=item.name) for item in INVOICES[20:]))
    mount = mounts.mount()
    with started(*cp(mount / NAMESPACE, tmp_path / "broken off")) as program:
        eventually(lambda: len(list((tmp_path / "broken off").glob("*.pdf"))) >= 20)
        program.process.kill()
        gate.open()
        program.process.wait(LIMIT_S)
    opened = 20 + 1  # that of which it had to wait
    assert len(asked_for(sandbox)) <= opened + READ_AHEAD
    copied(mount, cp, tmp_path / "copy").good()
    assert in_folder(tmp_path / "copy") == CONTENTS
    assert asked_for(sandbox) == ONCE


# Rate limits.


@pytest.mark.promise(
    "If the API has a rate limit, a copy slows down instead of failing: of 60 new invoices at"
    " 20 requests a second, at most one request in 20 is refused."
)
@pytest.mark.parametrize("retry_after", [True, False], ids=["with Retry-After", "without"])
@pytest.mark.parametrize("latency_s", [0.0, 0.05])
def test_a_copy_of_many_keeps_to_a_rate_limit(
    sandbox: Sandbox, mounts: Mounts, copy: Path, retry_after: bool, latency_s: float
) -> None:
    sandbox.latency_s = latency_s
    mount = mounts.mount()
    sandbox.throttle(RateLimit(per_second=20, burst=5, retry_after=retry_after))
    copied(mount, cp, copy).good()
    assert in_folder(copy) == CONTENTS
    assert downloads(sandbox) == ONCE
    assert refusals(sandbox) <= 0.05 * len(sandbox.calls)


@pytest.mark.promise(
    "If the next request would have to wait longer than `--max-wait`, files fail one by one "
    "with `Resource temporarily unavailable`; running the same command again downloads the "
    "rest, and nothing twice."
)
@pytest.mark.parametrize("retry_after", [True, False], ids=["with Retry-After", "without"])
def test_a_copy_beyond_a_rate_limit_fails_file_by_file_and_later_runs_finish_it(
    sandbox: Sandbox, mounts: Mounts, copy: Path, retry_after: bool
) -> None:
    """The server allows 60 calls a minute, and nobody waits a second for one."""
    few = INVOICES[:7]
    sandbox.tenant = tenant(*few)
    mount = mounts.mount("--max-wait", "200ms")
    run("ls", mount / NAMESPACE).good()
    sandbox.throttle(RateLimit(per_second=1, burst=4, retry_after=retry_after))
    first = copied(mount, cp, copy)
    assert first.code == 1
    refused = [line for line in first.err.splitlines() if "Resource temporarily unavail" in line]
    assert len(refused) == len(first.err.splitlines()) == len(few) - len(in_folder(copy))

    def archived() -> bool:
        ended = copied(mount, rsync, copy)
        assert ended.code in (0, 23), ended.err
        return ended.code == 0

    eventually(archived)
    assert in_folder(copy) == contents(sandbox.tenant)
    assert downloads(sandbox) == dict.fromkeys(map(file_name, few), 1)


def test_a_copy_of_many_that_has_to_wait_too_long_does_not_hammer(
    sandbox: Sandbox, mounts: Mounts, copy: Path
) -> None:
    mount = mounts.mount()
    sandbox.throttle(RateLimit(per_second=0.01, burst=5))
    ended = copied(mount, cp, copy)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == COUNT - len(in_folder(copy))
    assert in_folder(copy).keys() == downloads(sandbox).keys()
    assert refusals(sandbox) <= PARALLEL
