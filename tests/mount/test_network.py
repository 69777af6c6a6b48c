"""Outages, token renewals and clock jumps, none of which needs a remount."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Exchange, Fault, SampleNamespace, Sandbox, faults
from invoicefs.sandbox.answers import honest_response
from tests.mount.support.files import in_folder, stat_of
from tests.mount.support.mounts import CHECKOUT, Mount, Mounts
from tests.mount.support.programs import eventually, python, run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

TENANT = tenant(*(invoice(number, 5000 + number) for number in range(8)))
CONTENTS = contents(TENANT)
NAMES = list(CONTENTS)
WITHOUT_READ_AHEAD = ("--read-ahead", "0")
OTHER = SampleNamespace("other", TENANT.by_name[NAMESPACE].invoices)

TRY_TO_OPEN = """
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
    """Try to open the paths; return "opened" or the error message for each."""
    return python(TRY_TO_OPEN, *paths).good().lines


# The network.


def cached_and_uncached(mount: Mount) -> tuple[list[Path], list[Path]]:
    """Download one half; return the cached paths, and those that are not cached or unknown."""
    folder = mount / NAMESPACE
    paths = [folder / name for name in NAMES]
    run("cat", *paths[:4]).good()
    unknown = [folder / "invoice-2031-01.pdf", mount / "other" / NAMES[0], mount / "nosuch"]
    return paths[:4], paths[4:] + unknown


@pytest.mark.promise(
    "When the API is unreachable, the last good listing and the cached invoices are served."
)
@pytest.mark.promise(
    "A network failure is `No route to host`, never `No such file or directory`, and files "
    "are available again within `--list-ttl` of the network's return."
)
def test_without_a_network_the_cache_is_served_and_nothing_seems_absent(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--list-ttl", "1s", "--max-wait", "0s", *WITHOUT_READ_AHEAD)
    cached, others = cached_and_uncached(mount)
    sandbox.go_away()
    for _ in range(2):
        assert set(opened(*cached)) == {"opened"}
        eventually(lambda: set(opened(*others)) == {"No route to host"})  # the listing has expired
        assert run("ls", mount / NAMESPACE).good().lines == NAMES
    sandbox.tenant = tenant(*TENANT.by_name[NAMESPACE].invoices, invoice(8))
    sandbox.come_back()
    eventually(lambda: file_name(invoice(8)) in run("ls", mount / NAMESPACE).good().lines)
    eventually(lambda: set(opened(*(mount / NAMESPACE / name for name in NAMES))) == {"opened"})


# The token.


@pytest.mark.promise("A token can be renewed in its file during a copy, and the copy continues.")
def test_a_copy_continues_while_the_token_is_renewed_repeatedly(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(sandbox.token, encoding="utf-8")
    renewing = threading.Lock()
    refused: set[str | None] = set()

    def answer_with_any_token(exchange: Exchange) -> None:
        """Accept an older token, too, like a server with a grace period."""
        used = exchange.call.headers["authorization"].removeprefix("APIToken ")
        exchange.answer(honest_response(sandbox.tenant, used, exchange.call))

    def renew_sometimes(exchange: Exchange) -> None:
        """Refuse the first request for every other invoice: the token has just been replaced."""
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
    """A wall clock that a test can set: the mount reads its offset from a file."""

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


jumps = pytest.mark.parametrize("shift_s", [YEARS_S, -YEARS_S])


@pytest.mark.promise("A clock that jumps changes no invoice and no date.")
@jumps
def test_a_clock_jump_costs_no_request_for_final_invoices(
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
def test_a_clock_jump_refreshes_drafts_and_keeps_their_dates(
    sandbox: Sandbox, clocked_mounts: Mounts, clock: Clock, shift_s: int
) -> None:
    draft = replace(invoice(9, 4000), active=True)
    sandbox.tenant = tenant(draft)
    mount = clocked_mounts.mount("--active-ttl", "1h")
    path = mount / NAMESPACE / file_name(draft)
    for shift in (0, shift_s):
        clock.set_to(shift)
        for _ in range(2):
            assert run("cat", path).good().out == draft.content()
    assert sandbox.count(Endpoint.PDF) == 2
    (stat,) = stat_of(path)
    assert stat.mtime.startswith("2020-10-01 00:00:00")


@pytest.mark.promise("A clock that jumps changes no invoice and no date.")
@jumps
def test_a_remount_after_a_clock_jump_serves_the_cache(
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
