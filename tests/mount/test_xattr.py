"""``--xattr``: what is known of an invoice, as ``getfattr`` shows it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import python, run
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
def test_getfattr_shows_what_the_list_says_and_the_digest_once_it_is_read(
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


def test_folders_have_no_attributes(described: Mount) -> None:
    for folder in (described.path, described / NAMESPACE):
        assert run("getfattr", "-d", folder).good().out == b""


@pytest.mark.promise(
    "With `--xattr`, `getfattr -d FILE` shows status, period, amount and SHA-256 of an "
    "invoice, and `getfattr -n user.invoicefs.error FILE` shows why it could not be opened."
)
def test_why_an_open_failed_is_told_by_name_only(described: Mount) -> None:
    path = described / NAMESPACE / file_name(UNPAID)
    name = ("--only-values", "-n", "user.invoicefs.error")
    assert "No such attribute" in run("getfattr", *name, path).err
    assert run("cat", path).code == 1
    assert "404" in run("getfattr", *name, path).good().text
    assert "user.invoicefs.error" not in getfattr(path)


CHANGES = {
    "set": "os.setxattr(path, 'user.invoicefs.status', b'paid')",
    "new": "os.setxattr(path, 'user.mine', b'x')",
    "remove": "os.removexattr(path, 'user.invoicefs.status')",
}


@pytest.mark.parametrize("change", CHANGES)
def test_attributes_are_read_only(described: Mount, change: str) -> None:
    path = described / NAMESPACE / file_name(PAID)
    ended = python(f"import os, sys; path = sys.argv[1]; {CHANGES[change]}", path)
    assert "Errno 30" in ended.err


def test_a_copy_carries_what_is_listed(described: Mount, tmp_path: Path) -> None:
    path, copy = described / NAMESPACE / file_name(PAID), tmp_path / "copy.pdf"
    run("cp", "--preserve=xattr", path, copy).good()
    assert getfattr(copy) == getfattr(path)


def test_without_the_option_there_are_no_attributes(mount: Mount) -> None:
    path = mount / NAMESPACE / "invoice-acme-2026-08.pdf"
    assert "not supported" in run("getfattr", "-n", "user.invoicefs.status", path).err
    assert run("getfattr", "-d", path).out == b""
