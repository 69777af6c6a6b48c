"""A network that goes away and comes back, and a clock that jumps: none of it needs a remount."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Exchange, Fault, SampleNamespace, Sandbox, faults
from invoicefs.sandbox.answers import honest_answer
from tests.mount.support.files import in_folder, stat_of
from tests.mount.support.mounts import CHECKOUT, Mount, Mounts
from tests.mount.support.programs import eventually, python, run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

TENANT = tenant(*(invoice(number, 5000 + number) for number in range(8)))
CONTENTS = contents(TENANT)
NAMES = list(CONTENTS)
ONE_BY_ONE = ("--read-ahead", "0")
OTHER = SampleNamespace("other", TENANT.by_name[NAMESPACE].invoices)

WORDS = """
import os, sys
for path in sys.argv[1:]:
    try:
        os.close(os.open(path, os.O_RDONLY))
        print("opened")
    except OSError as error:
        print(os.strerror(error.errno))
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(replace(TENANT, namespaces=(*TENANT.namespaces, OTHER))) as sandbox:
        yield sandbox


def opened(*paths: Path) -> list[str]:
    """What comes of opening each path."""
    return python(WORDS, *paths).good().lines


# The network.


def stored_and_not(mount: Mount) -> tuple[list[Path], list[Path]]:
    """Download a half; what is stored then, and what is not or cannot be known."""
    folder = mount / NAMESPACE
    paths = [folder / name for name in NAMES]
    run("cat", *paths[:4]).good()
    never_had = [folder / "invoice-2031-01.pdf", mount / "other" / NAMES[0], mount / "nosuch"]
    return paths[:4], paths[4:] + never_had


@pytest.mark.promise(
    "When the API is unreachable, the last good listing and the cached invoices are served."
)
@pytest.mark.promise(
    "A network failure is `No route to host`, never `No such file or directory`, and files "
    "are available again within `--list-ttl` of its return."
)
def test_without_a_network_what_is_stored_is_served_and_nothing_looks_absent(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--list-ttl", "1s", "--max-wait", "0s", *ONE_BY_ONE)
    stored, others = stored_and_not(mount)
    sandbox.go_away()
    for _ in range(2):
        assert set(opened(*stored)) == {"opened"}
        eventually(lambda: set(opened(*others)) == {"No route to host"})  # the list is outdated
        assert run("ls", mount / NAMESPACE).good().lines == NAMES
    sandbox.tenant = tenant(*TENANT.by_name[NAMESPACE].invoices, invoice(8))
    sandbox.come_back()
    eventually(lambda: file_name(invoice(8)) in run("ls", mount / NAMESPACE).good().lines)
    eventually(lambda: set(opened(*(mount / NAMESPACE / name for name in NAMES))) == {"opened"})


@contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Swallow all connections to a port: its queue is full, so the kernel drops what comes."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield


def test_a_network_that_swallows_everything_costs_a_timeout(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--list-ttl", "0s", "--timeout", "2s", *ONE_BY_ONE)
    stored, others = stored_and_not(mount)
    port = int(sandbox.url.rpartition(":")[2])
    sandbox.go_away()
    with black_hole(port):
        assert opened(others[0]) == ["Connection timed out"]
        assert opened(stored[0]) == ["opened"]
        assert run("ls", mount / NAMESPACE).good().lines == NAMES
    sandbox.come_back()
    eventually(lambda: opened(others[0]) == ["opened"])


def test_a_copy_that_the_network_cut_short_is_completed_by_the_next(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    mount = mounts.mount("--max-wait", "0s", *ONE_BY_ONE)
    calls = iter(range(100))

    def vanish_after_three(exchange: Exchange) -> None:
        answer = faults.honest if next(calls) < 3 else faults.reset()
        answer(exchange)

    sandbox.inject(Fault(vanish_after_three, Endpoint.PDF))
    ended = run("rsync", "-a", f"{mount / NAMESPACE}/", tmp_path / "archive")
    assert ended.code == 23
    assert ended.err.count("No route to host") == len(NAMES) - 3
    assert in_folder(tmp_path / "archive") == {name: CONTENTS[name] for name in NAMES[:3]}
    sandbox.heal()
    sandbox.forget_calls()
    eventually(lambda: opened(mount / NAMESPACE / NAMES[3]) == ["opened"])
    eventually(lambda: run("rsync", "-a", f"{mount / NAMESPACE}/", tmp_path / "archive").code == 0)
    assert in_folder(tmp_path / "archive") == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(NAMES) - 3


# The token.


@pytest.mark.promise("A token can be renewed in its file during a copy, and the copy continues.")
def test_a_copy_goes_on_while_the_token_is_renewed_again_and_again(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(sandbox.token, encoding="utf-8")
    renewing = threading.Lock()
    refused: set[str | None] = set()

    def answer_with_any_token(exchange: Exchange) -> None:
        """Answer calls with an older token, too, as a server that gives it time."""
        used = exchange.call.headers["authorization"].removeprefix("APIToken ")
        exchange.answer(honest_answer(sandbox.tenant, used, exchange.call))

    def renew_sometimes(exchange: Exchange) -> None:
        """Refuse the first call for every other invoice: its token has just been replaced."""
        call = exchange.call
        number = sorted(CONTENTS).index(f"{call.name}.pdf")
        with renewing:
            if number % 2 or call.name in refused:
                answer_with_any_token(exchange)
                return
            refused.add(call.name)
            sandbox.token = f"token-{number}"
            new = tmp_path / "token.new"
            new.write_text(sandbox.token, encoding="utf-8")
            new.replace(file)
        faults.status(401)(exchange)

    path = mounts.new_path()
    mounts.command("mount", "--token-file", file, path, env={"INVOICEFS_TOKEN": None}).good()
    sandbox.inject(Fault(renew_sometimes, Endpoint.PDF))
    sandbox.inject(Fault(answer_with_any_token, Endpoint.INVOICES))
    run("cp", "-r", path / NAMESPACE, tmp_path / "copy").good()
    assert in_folder(tmp_path / "copy") == CONTENTS
    assert len(refused) == len(CONTENTS) // 2


# The clock.

SHIFTED_CLOCK = """
import os, time

_now_ns = time.clock_gettime_ns
_realtime = (time.CLOCK_REALTIME, 5)  # 5 is CLOCK_REALTIME_COARSE


def _shifted_ns(clock):
    with open(os.environ["CLOCK_SHIFT_FILE"], encoding="ascii") as file:
        shift_s = int(file.read())
    return _now_ns(clock) + (shift_s * 10**9 if clock in _realtime else 0)


time.clock_gettime_ns = _shifted_ns
time.time_ns = lambda: _shifted_ns(time.CLOCK_REALTIME)
time.time = lambda: _shifted_ns(time.CLOCK_REALTIME) / 10**9
"""
DAY_S = 86_400
YEARS_S = 10 * 365 * DAY_S


class Clock:
    """The wall clock of a mount, which a test can set: the mount reads how far it is off."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SHIFTED_CLOCK, encoding="ascii")
        self._shift = folder / "shift"
        self.set_to(0)
        self.variables = {
            "PYTHONPATH": f"{folder}:{CHECKOUT}",
            "CLOCK_SHIFT_FILE": str(self._shift),
        }

    def set_to(self, shift_s: int) -> None:
        new = self._shift.with_suffix(".new")
        new.write_text(str(shift_s), encoding="ascii")
        new.replace(self._shift)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def clocked_mounts(sandbox: Sandbox, tmp_path: Path, clock: Clock) -> Iterator[Mounts]:
    with closing(Mounts(sandbox, tmp_path, variables=clock.variables)) as mounts:
        yield mounts


jumps = pytest.mark.parametrize("shift_s", [YEARS_S, DAY_S, -DAY_S, -YEARS_S])


@pytest.mark.promise("A clock that jumps changes no invoice and no date.")
@jumps
def test_a_clock_that_jumps_costs_no_call_for_final_invoices(
    sandbox: Sandbox, clocked_mounts: Mounts, clock: Clock, tmp_path: Path, shift_s: int
) -> None:
    mount = clocked_mounts.mount("--list-ttl", "0s")
    for name, shift in {"before": 0, "after": shift_s, "back": 0}.items():
        clock.set_to(shift)
        run("rsync", "-a", "--stats", f"{mount / NAMESPACE}/", tmp_path / "archive").good()
        run("cp", "-r", mount / NAMESPACE, tmp_path / name).good()
        assert in_folder(tmp_path / name) == in_folder(tmp_path / "archive") == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(NAMES)


@pytest.mark.promise("A clock that jumps changes no invoice and no date.")
@jumps
def test_a_clock_that_jumps_makes_active_invoices_fresh_and_leaves_their_dates(
    sandbox: Sandbox, clocked_mounts: Mounts, clock: Clock, shift_s: int
) -> None:
    running = replace(invoice(9, 4000), active=True)
    sandbox.tenant = tenant(running)
    mount = clocked_mounts.mount("--active-ttl", "1h")
    path = mount / NAMESPACE / file_name(running)
    for shift in (0, shift_s):
        clock.set_to(shift)
        for _ in range(2):
            assert run("cat", path).good().out == running.content()
    assert sandbox.count(Endpoint.PDF) == 2
    (stat,) = stat_of(path)
    assert stat.mtime.startswith("2020-10-01 00:00:00")


@jumps
def test_a_change_is_seen_by_rsync_whatever_the_clock_says(
    sandbox: Sandbox, clocked_mounts: Mounts, clock: Clock, tmp_path: Path, shift_s: int
) -> None:
    mount = clocked_mounts.mount("--list-ttl", "0s")
    for number, shift in enumerate((0, shift_s, 0)):
        clock.set_to(shift)
        pdf = b"%PDF-1.4 " + bytes([number]) * 100 + b"%%EOF"
        changed = replace(invoice(0), pdf=pdf, amount=str(number))
        sandbox.tenant = tenant(changed)
        run("rsync", "-au", f"{mount / NAMESPACE}/", tmp_path / "archive").good()
        assert in_folder(tmp_path / "archive") == {file_name(changed): pdf}
    assert sandbox.count(Endpoint.PDF) == 3


@pytest.mark.promise("A clock that jumps changes no invoice and no date.")
@jumps
def test_a_remount_with_another_time_serves_what_is_stored(
    sandbox: Sandbox, clocked_mounts: Mounts, clock: Clock, tmp_path: Path, shift_s: int
) -> None:
    mount = clocked_mounts.mount()
    run("cp", "-r", mount / NAMESPACE, tmp_path / "before").good()
    before = stat_of(*(mount / NAMESPACE / name for name in NAMES))
    clocked_mounts.umount(mount)
    clock.set_to(shift_s)
    mount = clocked_mounts.mount(path=mount.path)
    run("cp", "-r", mount / NAMESPACE, tmp_path / "after").good()
    assert in_folder(tmp_path / "after") == CONTENTS
    assert stat_of(*(mount / NAMESPACE / name for name in NAMES)) == before
    assert sandbox.count(Endpoint.PDF) == len(NAMES)
