"""``--fetch on-stat``: every size is exact at the first look, and a look never fails."""

from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Behaviour,
    Endpoint,
    Fault,
    RateLimit,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    faults,
)
from tests.mount.support.files import UPPER_BOUND_BYTES
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import LIMIT_S, eventually, python, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

ON_STAT = ("--fetch", "on-stat")

TENANT = tenant(*(invoice(number, 1000 + 1111 * number) for number in range(24)))
CONTENTS = contents(TENANT)
SIZES = {name: len(pdf) for name, pdf in CONTENTS.items()}


def sizes_by_ls(folder: Path) -> dict[str, int]:
    lines = [line.split() for line in run("ls", "-l", folder).good().lines[1:]]
    return {fields[-1]: int(fields[4]) for fields in lines}


@pytest.mark.promise(
    "With `--fetch on-stat`, a `stat` waits for the download, so the size is always true."
)
def test_ls_shows_exact_sizes_at_the_first_look_for_one_call_each(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = TENANT
    mount = mounts.mount(*ON_STAT)
    for _ in range(2):
        assert sizes_by_ls(mount / NAMESPACE) == SIZES
    run("cat", *(mount / NAMESPACE / name for name in CONTENTS)).good()
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


def test_ls_downloads_side_by_side_and_no_more_at_once_than_allowed(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = TENANT
    sandbox.latency_s = 0.1
    mount = mounts.mount(*ON_STAT, "--parallel", "5")
    sandbox.forget_calls()
    assert sizes_by_ls(mount / NAMESPACE) == SIZES
    assert 3 <= sandbox.peak_concurrency <= 5
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


def test_a_walk_that_ends_early_has_fetched_no_more_ahead_than_may_run_at_once(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = tenant(*(invoice(number) for number in range(60)))
    mount = mounts.mount(*ON_STAT, "--parallel", "4")
    paths = [mount / NAMESPACE / file_name(invoice(number)) for number in range(60)]
    run("stat", *paths[:8]).good()
    assert eventually(lambda: sandbox.count(Endpoint.PDF) >= 8 + 4)
    run("cat", paths[-1]).good()
    assert sandbox.count(Endpoint.PDF) == 8 + 4 + 1


def test_names_without_a_look_cost_no_pdf_call(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = TENANT
    mount = mounts.mount(*ON_STAT)
    run("find", mount.path, "-name", "*.pdf").good()
    run("ls", mount / NAMESPACE).good()
    run("stat", mount.path, mount / NAMESPACE).good()
    assert sandbox.count(Endpoint.PDF) == 0


def test_one_look_brings_one_invoice(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = TENANT
    mount = mounts.mount(*ON_STAT)
    names = list(CONTENTS)
    for name in (names[3], names[11], names[7]):
        stated = run("stat", "--format=%s", mount / NAMESPACE / name).good().text
        assert int(stated) == SIZES[name]
    assert sandbox.count(Endpoint.PDF) == 3


def test_a_look_that_waits_holds_up_nobody_else(sandbox: Sandbox, mounts: Mounts) -> None:
    """The kernel lets nobody look a name up in a folder where somebody else waits for that."""
    sandbox.tenant = TENANT
    gate, names = Gate(), list(CONTENTS)
    sandbox.inject(Fault(gate, Endpoint.PDF, name=names[0].removesuffix(".pdf")))
    folder = mounts.mount(*ON_STAT) / NAMESPACE
    with started("stat", "--format=%s", folder / names[0]) as waiting:
        assert gate.arrived.wait(LIMIT_S)
        assert run("ls", folder).good().lines == names
        sizes = run("stat", "--format=%s", folder / names[3], folder / names[9]).good().lines
        assert sizes == [str(SIZES[names[3]]), str(SIZES[names[9]])]
        assert not waiting.has_ended
        gate.open()
        assert waiting.end().good().text == f"{SIZES[names[0]]}\n"


STAT_IN_THREADS = """
import concurrent.futures, os, random, sys
paths = [entry.path for entry in os.scandir(sys.argv[1])]
random.Random(1).shuffle(paths)
with concurrent.futures.ThreadPoolExecutor(8) as executor:
    sizes = dict(zip(paths, executor.map(os.path.getsize, paths)))
print(*(f"{os.path.basename(path)} {size}" for path, size in sizes.items()), sep="\\n")
"""


def test_looks_here_and_there_at_one_time_are_exact_and_side_by_side(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = TENANT
    sandbox.latency_s = 0.1
    mount = mounts.mount(*ON_STAT)
    sandbox.forget_calls()
    lines = python(STAT_IN_THREADS, mount / NAMESPACE).good().lines
    assert {name: int(size) for name, size in map(str.split, lines)} == SIZES
    assert 3 <= sandbox.peak_concurrency <= 8
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


def test_hidden_invoices_are_not_fetched_ahead(sandbox: Sandbox, mounts: Mounts) -> None:
    overdue = [replace(invoice(number), status="OVERDUE") for number in range(0, 24, 2)]
    paid = [invoice(number) for number in range(1, 24, 2)]
    sandbox.tenant = tenant(*overdue, *paid)
    mount = mounts.mount(*ON_STAT, "--status", "paid")
    assert sizes_by_ls(mount / NAMESPACE) == {file_name(item): 1000 for item in paid}
    assert sandbox.count(Endpoint.PDF) == len(paid)


def test_an_unlisted_invoice_is_exact_at_the_first_look(sandbox: Sandbox, mounts: Mounts) -> None:
    forbidden = frozenset({Endpoint.INVOICES})
    sandbox.tenant = SampleTenant("t", (SampleNamespace(NAMESPACE, (invoice(1),), forbidden),))
    path = mounts.mount(*ON_STAT) / NAMESPACE / file_name(invoice(1))
    for _ in range(2):
        assert run("stat", "--format=%s", path).good().text == "1000\n"
    assert sandbox.count(Endpoint.PDF) == 1


TROUBLES: dict[str, Behaviour] = {
    "401": faults.status(401),
    "403": faults.status(403),
    "404": faults.status(404),
    "409": faults.status(409),
    "429": faults.status(429, retry_after="60"),
    "500": faults.status(500),
    "503": faults.status(503),
    "reset": faults.reset(),
    "not a PDF": faults.not_a_pdf(),
    "too large": faults.large(20),
    "silent": faults.stall(),
}


@pytest.mark.promise(
    "A `stat` of a listed invoice never fails because its PDF cannot be downloaded: it shows "
    "the upper bound."
)
@pytest.mark.parametrize("case", TROUBLES)
def test_ls_shows_the_upper_bound_where_a_pdf_cannot_be_had(
    sandbox: Sandbox, mounts: Mounts, case: str
) -> None:
    sandbox.tenant = tenant(*(invoice(number) for number in range(5)))
    mount = mounts.mount(*ON_STAT, "--timeout", "2s", "--max-wait", "0s")
    sandbox.inject(Fault(TROUBLES[case], Endpoint.PDF))
    assert set(sizes_by_ls(mount / NAMESPACE).values()) == {UPPER_BOUND_BYTES}


def test_ls_of_many_does_not_wait_for_each_while_the_api_is_away(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    """Each would take the whole of ``--timeout``."""
    sandbox.tenant = tenant(*(invoice(number) for number in range(200)))
    mount = mounts.mount(*ON_STAT, "--timeout", "2s", "--max-wait", "0s")
    sandbox.inject(Fault(faults.stall(), Endpoint.PDF))
    assert len(sizes_by_ls(mount / NAMESPACE)) == 200
    assert sandbox.count(Endpoint.PDF) < 20


@pytest.mark.parametrize("case", sorted(TROUBLES.keys() - {"429"}))
def test_trouble_with_one_invoice_costs_no_other_its_size(
    sandbox: Sandbox, mounts: Mounts, case: str
) -> None:
    sandbox.tenant = TENANT
    bad = invoice(5)
    sandbox.inject(Fault(TROUBLES[case], Endpoint.PDF, name=bad.name))
    mount = mounts.mount(*ON_STAT, "--timeout", "2s", "--max-wait", "0s")
    assert sizes_by_ls(mount / NAMESPACE) == {**SIZES, file_name(bad): UPPER_BOUND_BYTES}


def test_a_rate_limit_costs_sizes_and_no_listing(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = TENANT
    mount = mounts.mount(*ON_STAT, "--max-wait", "0s")
    sandbox.throttle(RateLimit(per_second=0.001, burst=6))
    sizes = sizes_by_ls(mount / NAMESPACE)
    assert sizes.keys() == SIZES.keys()
    known = {name: size for name, size in sizes.items() if size != UPPER_BOUND_BYTES}
    assert known.items() <= SIZES.items()
    assert len(known) >= 2
