"""``--fetch on-stat``: the first stat shows the exact size, and no stat fails."""

from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Behaviour,
    Endpoint,
    Fault,
    Sandbox,
    faults,
)
from tests.mount.support.files import UPPER_BOUND_BYTES
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import LIMIT_S, run, started
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

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
def test_the_first_ls_shows_exact_sizes_for_one_request_per_invoice(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = TENANT
    mount = mounts.mount(*ON_STAT)
    for _ in range(2):
        assert sizes_by_ls(mount / NAMESPACE) == SIZES
    run("cat", *(mount / NAMESPACE / name for name in CONTENTS)).good()
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


def test_listing_names_downloads_no_pdf(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = TENANT
    mount = mounts.mount(*ON_STAT)
    run("find", mount.path, "-name", "*.pdf").good()
    run("ls", mount / NAMESPACE).good()
    run("stat", mount.path, mount / NAMESPACE).good()
    assert sandbox.count(Endpoint.PDF) == 0


def test_a_stat_that_waits_blocks_nothing_else(sandbox: Sandbox, mounts: Mounts) -> None:
    """The download must not wait inside LOOKUP, which would block other lookups in the folder."""
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


FAILURES: dict[str, Behaviour] = {
    "404": faults.status(404),
    "silent": faults.stall(),
}


@pytest.mark.promise(
    "A `stat` of a listed invoice never fails because its PDF cannot be downloaded: it shows "
    "the upper bound."
)
@pytest.mark.parametrize("case", FAILURES)
def test_ls_shows_the_upper_bound_if_a_pdf_cannot_be_downloaded(
    sandbox: Sandbox, mounts: Mounts, case: str
) -> None:
    sandbox.tenant = tenant(*(invoice(number) for number in range(5)))
    mount = mounts.mount(*ON_STAT, "--timeout", "2s", "--max-wait", "0s")
    sandbox.inject(Fault(FAILURES[case], Endpoint.PDF))
    assert set(sizes_by_ls(mount / NAMESPACE).values()) == {UPPER_BOUND_BYTES}
