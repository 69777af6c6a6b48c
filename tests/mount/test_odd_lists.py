"""Lists that nobody has seen yet: new words, strange values, many lines, in another order."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import OMITTED, Endpoint, SampleInvoice, Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, file_name, invoice, tenant

PDF = b"%PDF-1.4 odd %%EOF"
ALL_OMITTED = dict.fromkeys(
    ("active", "amount", "currency", "period_start", "period_end", "status"), OMITTED
)


def listed(folder: Path) -> list[str]:
    """The names in the order of the folder, with their inodes."""
    return run("ls", "-U", "-i", folder).good().lines


def log_lines(mount: Mount) -> list[str]:
    return mount.log.read_text(encoding="utf-8").splitlines()


@pytest.mark.promise(
    "An invalid field in a listing costs one line per field in the log, and no invoice."
)
@pytest.mark.parametrize(
    "fields",
    [
        {"status": "STATUS_WRITTEN_OFF"},
        {"amount": "12,50 EUR"},
        {"period_start": "soon"},
        {"period_end": "9999-99-99T99:99:99Z"},
        {"currency": {"code": "EUR"}},
        {"active": "perhaps"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_not_understood_is_shown_and_takes_one_log_line(
    sandbox: Sandbox, mounts: Mounts, fields: dict[str, object]
) -> None:
    odd = [replace(invoice(number), fields=fields) for number in range(50)]
    sandbox.tenant = tenant(*odd, invoice(99))
    mount = mounts.mount("--list-ttl", "0s")
    for _ in range(3):
        assert len(listed(mount / NAMESPACE)) == 51
    assert run("cat", mount / NAMESPACE / file_name(odd[7])).good().out == odd[7].content()
    (line,) = log_lines(mount)
    assert next(iter(fields)) in line


def test_ten_thousand_invoices_of_which_little_is_known_are_all_shown(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    """Names are all that every one of them has."""
    count = 10_007  # not a limit that may be asked for: as many as that could be a part
    sandbox.tenant = tenant(
        *(
            SampleInvoice(f"odd-{number:05}", PDF, fields=ALL_OMITTED if number % 2 else {})
            for number in range(count)
        )
    )
    mount = mounts.mount()
    found = run("ls", mount / NAMESPACE).good().lines
    assert found == [f"odd-{number:05}.pdf" for number in range(count)]
    assert log_lines(mount) == []
    for name in (found[0], found[1], found[-1]):
        assert run("cat", mount / NAMESPACE / name).good().out == PDF


def test_a_list_in_another_order_shows_the_same_folder_and_costs_no_pdf_call(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    """Two of the invoices come twice, with fields that contradict each other."""
    numbers = random.Random(1)  # noqa: S311 # the same on every run
    invoices = [invoice(number) for number in range(20)]
    twins = [replace(item, amount="1", status="STATUS_ISSUED") for item in invoices[3:5]]
    sandbox.tenant = tenant(*invoices, *twins)
    mount = mounts.mount("--list-ttl", "0s")
    before = listed(mount / NAMESPACE)
    assert len(before) == 20
    for _ in range(8):
        run("cat", *(mount / NAMESPACE / file_name(item) for item in invoices)).good()
        sandbox.tenant = tenant(*numbers.sample([*invoices, *twins], 22))
        assert listed(mount / NAMESPACE) == before
    assert sandbox.count(Endpoint.PDF) == 20
