"""Unusual listings: unknown statuses, odd values, many invoices."""

from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import OMITTED, SampleInvoice, Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, file_name, invoice, tenant

PDF = b"%PDF-1.4 odd %%EOF"
ALL_OMITTED = dict.fromkeys(
    ("active", "amount", "currency", "period_start", "period_end", "status"), OMITTED
)


def listed(folder: Path) -> list[str]:
    """The names with their inodes, in directory order."""
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
        {"active": "perhaps"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_an_invoice_with_an_odd_field_is_shown_and_logged_in_one_line(
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


def test_ten_thousand_invoices_with_few_fields_are_all_shown(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    """The name is the only field that all of them have."""
    count = 10_007  # not a round number, which could be a page limit
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
