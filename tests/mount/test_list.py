"""``invoicefs list``: mounts, namespaces and invoices, and a tenant without a mount."""

import csv
import hashlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invoicefs.sandbox import Endpoint, Fault, SampleNamespace, SampleTenant, Sandbox, faults
from invoicefs.sandbox.tenant import OMITTED
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import Ended, run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

INVOICES = tuple(replace(invoice(number), amount=str(1000 + number)) for number in range(3))
UNPAID = replace(invoice(3), pdf=None, active=True, status="STATUS_ISSUED", currency="JPY")
ODD = replace(
    invoice(4, name='odd, "name"'),
    currency="BHD",
    amount="-1234567",
    fields={"status": OMITTED, "period_start": "soon"},
)
SYSTEM = (*INVOICES, UNPAID, ODD)
TENANT = SampleTenant(
    "acme", (SampleNamespace(NAMESPACE, SYSTEM), SampleNamespace("other", (invoice(5),)))
)
pytestmark = pytest.mark.tenant(TENANT)
FIRST = file_name(INVOICES[0])


def rows(ended: Ended) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ended.good().out.decode(), newline="")))


def objects(ended: Ended) -> list[dict[str, Any]]:
    found = json.loads(ended.good().out)
    assert isinstance(found, list)
    return found


def names(ended: Ended) -> list[str]:
    return [found["invoice"] for found in objects(ended)]


@pytest.mark.promise(
    "`invoicefs list` shows period, status and amount of each invoice, and size and SHA-256 of "
    "those that were downloaded, without a PDF request."
)
def test_list_shows_what_is_known_without_a_pdf_request(
    sandbox: Sandbox, mounts: Mounts, mount: Mount
) -> None:
    path = mount / NAMESPACE / FIRST
    run("cat", path).good()
    pdf = contents(TENANT)[FIRST]
    requests = sandbox.count(Endpoint.PDF)

    first, *others = objects(mounts.command("list", "--json", mount / NAMESPACE))

    assert first == {
        "namespace": NAMESPACE,
        "invoice": INVOICES[0].name,
        "period_start": INVOICES[0].period_start,
        "period_end": INVOICES[0].period_end,
        "status": "paid",
        "state": "final",
        "amount": "10.00",
        "amount_minor": 1000,
        "currency": "USD",
        "downloaded": True,
        "size_bytes": len(pdf),
        "sha256": hashlib.sha256(pdf).hexdigest(),
        "path": str(path),
    }
    assert len(others) == len(SYSTEM) - 1
    assert sandbox.count(Endpoint.PDF) == requests
    assert sandbox.count(Endpoint.INVOICES, namespace="other") == 0


def test_csv_has_decimal_amounts_and_no_guess(mounts: Mounts, mount: Mount) -> None:
    found = {row["invoice"]: row for row in rows(mounts.command("list", "--csv", mount.path))}

    assert len(found) == len(SYSTEM) + 1
    unpaid, odd = found[UNPAID.name], found[ODD.name]
    assert (unpaid["amount"], unpaid["currency"]) == ("123450", "JPY")
    assert (unpaid["status"], unpaid["state"], unpaid["downloaded"]) == ("issued", "draft", "no")
    assert (odd["amount"], odd["currency"], odd["status"]) == ("-1234.567", "BHD", "")
    assert (odd["period_start"], odd["period_end"]) == ("", "2020-05-31")
    assert odd["size_bytes"] == odd["sha256"] == ""
    assert Path(odd["path"]) == mount / NAMESPACE / f"{ODD.name}.pdf"


def test_a_table_ends_with_the_sums(mounts: Mounts, mount: Mount) -> None:
    lines = mounts.command("list", mount / NAMESPACE).good().lines

    assert lines[0].split()[:2] == ["NAMESPACE", "INVOICE"]
    assert lines[-1] == ("5 invoices, 0 downloaded; total -1234.567 BHD, 123450 JPY, 30.03 USD")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--since", "2020-02", "--until", "2020-03"), [*INVOICES[1:3]]),
        (("--since", "2020-03-01", "--status", "PAID"), [INVOICES[2], ODD]),
        (("--status", "issued"), [UNPAID, ODD]),
        (("--namespace", "other"), []),
        (("--sort", "amount"), [ODD, UNPAID, *INVOICES]),
        (("--sort", "name"), [*INVOICES, UNPAID, ODD]),
    ],
)
def test_invoices_are_chosen_and_sorted(
    mounts: Mounts, mount: Mount, options: tuple[str, ...], expected: list[Any]
) -> None:
    found = names(mounts.command("list", "--json", *options, mount / NAMESPACE))

    assert (
        found == [item.name for item in expected]
        if "--sort" in options
        else sorted(found) == (sorted(item.name for item in expected))
    )


def test_a_path_is_a_mount_a_namespace_or_an_invoice(mounts: Mounts, mount: Mount) -> None:
    everything = names(mounts.command("list", "--json", mount.path))
    assert len(everything) == len(SYSTEM) + 1
    assert names(mounts.command("list", "--json", ".", cwd=mount / "other")) == [invoice(5).name]
    paths = mount / NAMESPACE / FIRST, mount / NAMESPACE
    assert len(names(mounts.command("list", "--json", *paths))) == len(SYSTEM)
    assert names(mounts.command("list", "--json", paths[0])) == [INVOICES[0].name]


def test_without_a_path_all_mounts_are_listed_and_each_invoice_once(mounts: Mounts) -> None:
    for namespace in ("other", NAMESPACE, "other"):
        mounts.mount("--namespace", namespace)

    found = [found["path"] for found in objects(mounts.alone("list", "--json"))]

    assert len(found) == len(SYSTEM) + 1
    assert len({Path(path).parents[1] for path in found}) == 2


@pytest.mark.promise("It can also list a tenant without a mount.")
def test_a_tenant_is_listed_without_a_mount(sandbox: Sandbox, mounts: Mounts) -> None:
    options = ("--url", sandbox.url, "--namespace", NAMESPACE)
    mounted = mounts.mount(*options)
    run("cat", mounted / NAMESPACE / FIRST).good()
    expected = objects(mounts.command("list", "--json", mounted.path))
    mounts.umount(mounted)
    requests = sandbox.count(Endpoint.PDF)

    found = objects(mounts.command("list", "--json", *options))

    assert found == [{**row, "path": None} for row in expected]
    assert sandbox.count(Endpoint.PDF) == requests
    assert names(mounts.alone("list", "--json", "--status", "issued"))[0] == UNPAID.name


def test_the_tenant_of_a_profile_is_listed(sandbox: Sandbox, mounts: Mounts) -> None:
    nothing_else: dict[str, str | None] = {"INVOICEFS_URL": None, "INVOICEFS_TOKEN": None}
    folder = mounts.folder / "home" / ".config" / "invoicefs"
    folder.mkdir(parents=True, mode=0o700)
    lines = f"INVOICEFS_URL={sandbox.url}\nINVOICEFS_TOKEN={sandbox.token}\n"
    for name in ("default", "work"):
        (folder / f"{name}.env").write_text(f"{lines}INVOICEFS_STATUS=issued\n")
        (folder / f"{name}.env").chmod(0o600)

    unnamed = mounts.alone("list", "--json", "--namespace", NAMESPACE, env=nothing_else)
    named = mounts.command("list", "--json", "--profile", "work", env=nothing_else)

    assert names(unnamed) == names(named) == [UNPAID.name, ODD.name]


@pytest.mark.promise(
    "If a listing fails, it prints the last good one and the error, and exits with status 1."
)
def test_a_list_that_fails_is_the_last_good_one_and_a_failure(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--list-ttl", "0s", "--max-wait", "0s")
    before = mounts.command("list", "--csv", mount.path).good()
    sandbox.inject(Fault(faults.status(500, "broken"), Endpoint.INVOICES))

    ended = mounts.command("list", "--csv", mount.path)

    assert (ended.code, ended.out) == (1, before.out)
    failures = ended.err.splitlines()
    assert [line.partition(":")[0] for line in failures] == ["invoicefs"] * 2
    assert all("the last good listing is shown" in line for line in failures)


def test_a_namespace_that_fails_hides_no_other(mounts: Mounts, sandbox: Sandbox) -> None:
    forbidden = replace(TENANT.by_name[NAMESPACE], forbidden=frozenset({Endpoint.INVOICES}))
    sandbox.tenant = SampleTenant("acme", (forbidden, TENANT.by_name["other"]))
    mount = mounts.mount()

    ended = mounts.command("list", "--json", mount.path)

    assert [found["namespace"] for found in json.loads(ended.out)] == ["other"]
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    assert f"{mount.path}/{NAMESPACE}: " in ended.err
    assert "403" in ended.err


# Bad input.


def test_bad_options_are_usage_errors(sandbox: Sandbox, mounts: Mounts, mount: Mount) -> None:
    for options in (
        ("--since", "2025-13"),
        ("--until", "yesterday"),
        ("--status", "lost"),
        ("--sort", "size"),
        ("--csv", "--json"),
        ("--since", "2026", "--until", "2025"),
        ("--url", sandbox.url),
    ):
        ended = mounts.command("list", *options, mount.path)
        assert (ended.code, ended.out) == (2, b""), options


def test_a_path_outside_a_dead_mount_and_no_mount_are_one_sentence(
    mounts: Mounts, mount: Mount, tmp_path: Path
) -> None:
    mount.kill()
    for arguments, words in (
        ((tmp_path,), "is not in a mount of invoicefs"),
        ((mount.path,), "its process may have ended"),
    ):
        ended = mounts.command("list", *arguments)
        assert (ended.code, ended.out.decode()) == (1, ""), ended
        assert len(ended.err.splitlines()) == 1
        assert words in ended.err
    run("umount", "--lazy", mount.path)
    ended = mounts.alone("list", "--namespace", NAMESPACE, env={"INVOICEFS_URL": None})
    assert (ended.code, ended.err.startswith("invoicefs: You have no mounts to list.")) == (1, True)


def test_names_that_do_not_exist_are_failures(mounts: Mounts, mount: Mount) -> None:
    for name, words in (
        (f"{NAMESPACE}/missing.pdf", "is not an invoice"),
        ("missing", "there is no namespace missing"),
    ):
        ended = mounts.command("list", mount / name)
        assert (ended.code, words in ended.err) == (1, True), ended.err


def test_a_full_disk_is_a_failure(mounts: Mounts, mount: Mount) -> None:
    program = (sys.executable, "-m", "invoicefs")
    to_full = ("sh", "-c", 'exec "$@" > /dev/full', "sh")

    ended = run(*to_full, *program, "list", "--csv", mount.path, env=mounts.environment)

    assert (ended.code, "No space left" in ended.err) == (1, True)


def test_a_currency_that_iso_4217_does_not_have_is_named(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(replace(invoice(0), currency="XBT", amount="55"))
    mount = mounts.mount()

    ended = mounts.command("list", "--json", mount.path).good()

    (found,) = json.loads(ended.out)
    assert (found["amount"], found["amount_minor"]) == (None, 55)
    assert ended.err.startswith("invoicefs: The amounts in 'XBT' (1) are unknown")
