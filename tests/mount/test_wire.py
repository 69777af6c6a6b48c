"""What goes wrong on the wire costs no invoice, and gives none the bytes of another one."""

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
    """The honest answer with one more line in its head."""

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
        pytest.param(faults.early_hints(0.1), id="103"),
        pytest.param(faults.early_hints(0.02, count=3), id="103 three times"),
        pytest.param(odd_header("X-Büro: 1".encode()), id="UTF-8 in a name"),
        pytest.param(odd_header(b"X-Customer : a"), id="blank before a colon"),
        pytest.param(odd_header(b"X-A: a\rb"), id="bare CR"),
    ],
)
def test_an_archive_is_right_and_so_is_what_is_stored(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, behaviour: faults.Behaviour
) -> None:
    """With a 103 each invoice was stored under the name of the next one, for good."""
    sandbox.inject(Fault(behaviour))
    mount = mounts.mount("--list-ttl", "0s")
    for number in range(2):
        copy = tmp_path / str(number)
        run("cp", "-r", mount / NAMESPACE, copy).good()
        assert in_folder(copy) == CONTENTS
    mounts.umount(mount)
    sandbox.go_away()

    again = mounts.mount(words="cannot be reached now")
    run("cp", "-r", again / NAMESPACE, tmp_path / "stored").good()
    assert in_folder(tmp_path / "stored") == CONTENTS


@pytest.mark.promise(
    "Connections that a firewall or a suspended laptop has dropped cost seconds and no invoice."
)
def test_connections_that_were_forgotten_on_the_way_cost_no_invoice(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    """Of 200 invoices 3 were lost, and each dead connection took a whole ``--timeout``.

    `Exchange.vanish` has the kernel drop the packets of just these connections.
    """
    sandbox.inject(Fault(faults.vanish(), Endpoint.PDF, times=8))
    mount = mounts.mount("--max-wait", "0s")
    run("cp", "-r", mount / NAMESPACE, tmp_path / "copy").good()

    assert in_folder(tmp_path / "copy") == CONTENTS


@pytest.mark.promise("Half a PDF is an error and is not cached.")
def test_half_a_pdf_is_never_stored_and_a_whole_one_later_is(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    name, pdf = next(iter(CONTENTS.items()))
    sandbox.inject(Fault(faults.not_a_pdf(pdf[: len(pdf) // 2]), Endpoint.PDF, times=1))
    mount = mounts.mount("--read-ahead", "0")

    assert "Input/output error" in run("cat", mount / NAMESPACE / name).err
    mounts.umount(mount)
    assert run("cat", mounts.mount() / NAMESPACE / name).good().out == pdf
