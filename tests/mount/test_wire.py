"""Faults on the wire lose no invoice and never mix up the bytes of two invoices."""

from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Exchange, Fault, Sandbox, faults
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

TENANT = tenant(*(invoice(number, 5000 + number) for number in range(24)))
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)


def odd_header(line: bytes) -> faults.Behaviour:
    """The normal response with an additional header line."""

    def behave(exchange: Exchange) -> None:
        head = exchange.honest.head()
        exchange.write(head.replace(b"\r\n", b"\r\n" + line + b"\r\n", 1) + exchange.honest.body)

    return behave


@pytest.mark.promise(
    "An invoice never gets the bytes of another one, whatever a server sends before, between "
    "and after its responses."
)
@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(faults.early_hints(0.02), id="103"),
        pytest.param(odd_header("X-Büro: 1".encode()), id="UTF-8 in a name"),
    ],
)
def test_odd_responses_corrupt_neither_an_archive_nor_the_cache(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, behaviour: faults.Behaviour
) -> None:
    """After a 103 every invoice used to be cached for ever under the name of the next one."""
    sandbox.inject(Fault(behaviour))
    mount = mounts.mount("--list-ttl", "0s")
    for number in range(2):
        copy = tmp_path / str(number)
        run("cp", "-r", mount / NAMESPACE, copy).good()
        assert in_folder(copy) == CONTENTS
    mounts.umount(mount)
    sandbox.go_away()

    again = mounts.mount(words="cannot be used now")
    run("cp", "-r", again / NAMESPACE, tmp_path / "stored").good()
    assert in_folder(tmp_path / "stored") == CONTENTS


@pytest.mark.promise(
    "Connections that a firewall or a suspended laptop has dropped cost seconds and no invoice."
)
def test_connections_dropped_by_a_firewall_cost_no_invoice(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    """Three of 200 invoices were lost, and every dead connection took a whole ``--timeout``.

    `Exchange.vanish` makes the kernel drop the packets of these connections only.
    """
    sandbox.inject(Fault(faults.vanish(), Endpoint.PDF, times=8))
    mount = mounts.mount("--max-wait", "0s")
    run("cp", "-r", mount / NAMESPACE, tmp_path / "copy").good()

    assert in_folder(tmp_path / "copy") == CONTENTS


@pytest.mark.promise("Half a PDF is an error and is not cached.")
def test_a_truncated_pdf_is_not_cached_but_a_later_complete_one_is(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    name, pdf = next(iter(CONTENTS.items()))
    sandbox.inject(Fault(faults.not_a_pdf(pdf[: len(pdf) // 2]), Endpoint.PDF, times=1))
    mount = mounts.mount("--read-ahead", "0")

    assert "Input/output error" in run("cat", mount / NAMESPACE / name).err
    mounts.umount(mount)
    assert run("cat", mounts.mount() / NAMESPACE / name).good().out == pdf
