"""``--xattr``: the extended attributes of an invoice."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, file_name, invoice, tenant

PAID = replace(invoice(1), amount="12345", currency="EUR")
UNPAID = replace(invoice(2), pdf=None, status="STATUS_ISSUED", active=True)


@pytest.fixture
def described(sandbox: Sandbox, mounts: Mounts) -> Mount:
    sandbox.tenant = tenant(PAID, UNPAID)
    return mounts.mount("--xattr")


def getfattr(path: Path) -> dict[str, str]:
    lines = run("getfattr", "-d", "--absolute-names", path).good().lines
    fields = (line.partition("=") for line in lines if line.startswith("user."))
    return {name: value.strip('"') for name, _, value in fields}


@pytest.mark.promise(
    "With `--xattr`, `getfattr -d FILE` shows status, period, amount and SHA-256 of an "
    "invoice, and `getfattr -n user.invoicefs.error FILE` shows why it could not be opened."
)
def test_getfattr_shows_the_listed_fields_and_the_digest_once_downloaded(
    sandbox: Sandbox, described: Mount
) -> None:
    path = described / NAMESPACE / file_name(PAID)
    listed = {
        "user.invoicefs.status": "paid",
        "user.invoicefs.amount": "12345",
        "user.invoicefs.currency": "EUR",
        "user.invoicefs.active": "false",
        "user.invoicefs.period_start": PAID.period_start,
        "user.invoicefs.period_end": PAID.period_end,
    }
    assert getfattr(path) == listed
    assert sandbox.count(Endpoint.PDF) == 0
    pdf = run("cat", path).good().out
    assert getfattr(path) == {**listed, "user.invoicefs.sha256": hashlib.sha256(pdf).hexdigest()}


@pytest.mark.promise(
    "With `--xattr`, `getfattr -d FILE` shows status, period, amount and SHA-256 of an "
    "invoice, and `getfattr -n user.invoicefs.error FILE` shows why it could not be opened."
)
def test_the_error_of_a_failed_open_is_readable_but_not_listed(described: Mount) -> None:
    path = described / NAMESPACE / file_name(UNPAID)
    name = ("--only-values", "-n", "user.invoicefs.error")
    assert "No such attribute" in run("getfattr", *name, path).err
    assert run("cat", path).code == 1
    assert "404" in run("getfattr", *name, path).good().text
    assert "user.invoicefs.error" not in getfattr(path)
