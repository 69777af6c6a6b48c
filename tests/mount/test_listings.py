"""A listing that fails shows the last good one, never fewer invoices."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Behaviour,
    Endpoint,
    Fault,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    Sent,
    faults,
)
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import Ended, run
from tests.mount.support.tenants import NAMESPACE, file_name, invoice, tenant

ALWAYS_REFRESH = ("--list-ttl", "0s", "--max-wait", "0s")

INVOICES = tuple(invoice(number) for number in range(3))
NAMES = [file_name(item) for item in INVOICES]


def listing(*invoices: SampleInvoice) -> Behaviour:
    return faults.json_body({"invoices": [item.listed() for item in invoices]})


# How a listing fails, and the errno if there is no earlier one.
FAILURES: dict[str, tuple[Behaviour, str]] = {
    "400": (faults.status(400), "EIO"),
    "404": (faults.status(404), "EIO"),
    "408": (faults.status(408), "ETIMEDOUT"),
    "409": (faults.status(409), "EBUSY"),
    "500": (faults.status(500), "EIO"),
    "502": (faults.html(502), "EIO"),
    "503": (faults.status(503), "EAGAIN"),
    "504": (faults.status(504), "ETIMEDOUT"),
    "redirect to another host": (faults.redirect("http://127.0.0.2:9/"), "EIO"),
    "redirect loop": (faults.redirect(), "EIO"),
    "nothing": (faults.reply(200, b""), "EIO"),
    "204": (faults.reply(204, b""), "EIO"),
    "not JSON": (faults.not_json(), "EIO"),
    "an HTML page": (faults.html(), "EIO"),
    "a bare list": (faults.json_body([]), "EIO"),
    "a string": (faults.json_body("none"), "EIO"),
    "null": (faults.json_body(None), "EIO"),
    "an error sent as 200": (faults.json_body({"code": 13, "message": "oops"}), "EIO"),
    "invoices that are an object": (faults.json_body({"invoices": {}}), "EIO"),
    "invoices that are text": (faults.json_body({"invoices": "none"}), "EIO"),
    "invoices that are a number": (faults.json_body({"invoices": 0}), "EIO"),
    "reset": (faults.reset(Sent.NOTHING), "EHOSTUNREACH"),
    "cut": (faults.cut(Sent.HALF_BODY), "EHOSTUNREACH"),
    "not gzip": (faults.reply(200, b"{}", {"Content-Encoding": "gzip"}), "EIO"),
}
# Successful responses that list fewer invoices than before.
SHORTER: dict[str, Behaviour] = {
    "empty response": faults.json_body({}),
    "empty list": listing(),
    "shorter list": listing(INVOICES[0]),
    "list of something else": faults.json_body({"invoices": [5, None, {"nome": "x"}]}),
    "null for a list": faults.json_body({"invoices": None}),
}
CASES = {case: behaviour for case, (behaviour, _) in FAILURES.items()} | SHORTER
REFUSALS = {"401": faults.status(401), "403": faults.status(403)}
NAMESPACE_OF = {case: f"case-{number}" for number, case in enumerate(CASES | REFUSALS)}
TENANT = SampleTenant(
    "acme", tuple(SampleNamespace(name, INVOICES) for name in (*NAMESPACE_OF.values(), "new"))
)


def break_listings(sandbox: Sandbox) -> None:
    for case, behaviour in (CASES | REFUSALS).items():
        sandbox.inject(Fault(behaviour, Endpoint.INVOICES, NAMESPACE_OF[case]))


def ls(folder: Path) -> Ended:
    return run("ls", folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    with (
        Sandbox(TENANT) as sandbox,
        closing(Mounts(sandbox, tmp_path_factory.mktemp("listings"))) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def live(made: Mounts) -> Mount:
    """A mount that listed every namespace before the listings began to fail."""
    mount = made.mount(*ALWAYS_REFRESH)
    for folder in NAMESPACE_OF.values():
        assert ls(mount / folder).good().lines == NAMES
    break_listings(made.sandbox)
    return mount


@pytest.fixture(scope="module")
def remounted(live: Mount, made: Mounts) -> Mount:
    """Another mount with the same cache, made after the listings began to fail."""
    assert live.is_mounted
    return made.mount(*ALWAYS_REFRESH)


@pytest.mark.promise(
    "A listing that fails never shows fewer files than before, so it never makes `rsync "
    "--delete` delete anything from your archive."
)
@pytest.mark.parametrize("case", CASES)
def test_a_failing_listing_shows_the_last_good_one(live: Mount, case: str) -> None:
    for _ in range(2):
        assert ls(live / NAMESPACE_OF[case]).good().lines == NAMES


@pytest.mark.promise("A final invoice that was listed once stays listed.")
@pytest.mark.parametrize("case", CASES)
def test_a_failing_listing_shows_the_last_good_one_after_a_remount(
    remounted: Mount, case: str
) -> None:
    assert ls(remounted / NAMESPACE_OF[case]).good().lines == NAMES
    assert run("cat", remounted / NAMESPACE_OF[case] / NAMES[0]).good()


# Growth and change.


@pytest.mark.promise(
    "New invoices appear within `--list-ttl` (1 minute), and can be opened by name before that."
)
def test_a_new_invoice_appears(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(*INVOICES)
    mount = mounts.mount(*ALWAYS_REFRESH)
    assert ls(mount / NAMESPACE).good().lines == NAMES
    sandbox.tenant = tenant(invoice(9), *INVOICES)
    assert ls(mount / NAMESPACE).good().lines == [*NAMES, file_name(invoice(9))]


@pytest.mark.promise(
    "New invoices appear within `--list-ttl` (1 minute), and can be opened by name before that."
)
def test_a_new_invoice_opens_by_name_before_the_next_listing(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = tenant(*INVOICES)
    mount = mounts.mount("--list-ttl", "1h")
    sandbox.tenant = tenant(invoice(9), *INVOICES)
    assert run("cat", mount / NAMESPACE / file_name(invoice(9))).good().out


STRANGE_NAMES = {
    "a/b": "a%2Fb.pdf",
    "100%": "100%25.pdf",
    "new\nline": "new%0Aline.pdf",
    "..": "...pdf",
    "blank and \u00e4": "blank and \u00e4.pdf",
    "\ud800": "%ED%A0%80.pdf",
    "-rf": "-rf.pdf",
    "$(id)`id`\"'\\": "$(id)`id`\"'\\.pdf",
    "in.pdf": "in.pdf.pdf",
    ".hidden": ".hidden.pdf",
}


@pytest.mark.promise(
    "A file has the name of the invoice with `.pdf` at the end; characters that file names "
    "cannot have are percent-encoded, and two invoices never share a file."
)
def test_every_invoice_name_has_a_readable_file(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    strange = [invoice(number, name=name) for number, name in enumerate(STRANGE_NAMES)]
    long = [invoice(99, name="x" * 400 + end) for end in "ab"]
    sandbox.tenant = tenant(*strange, *long)
    run("cp", "-r", mounts.mount() / NAMESPACE, tmp_path / "copy").good()
    found = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    for item in strange:
        assert found.pop(STRANGE_NAMES[item.name]) == item.content()
    assert sorted(found.values()) == [item.content() for item in long]
    assert all(len(name.encode()) <= 255 for name in found)


def test_names_are_readable_in_any_locale(sandbox: Sandbox, mounts: Mounts) -> None:
    """The kernel's paths are UTF-8, although Python assumes ASCII for file names."""
    sample = invoice(1, name="Rechnung-\u20ac")
    sandbox.tenant = tenant(sample)
    path = mounts.new_path()
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    mounts.command("mount", path, env=locale).good()
    assert run("cat", path / NAMESPACE / file_name(sample)).good().out == sample.content()


# The archive.

ARCHIVE_FAILURES: dict[str, Fault] = {
    "all requests 500": Fault(faults.status(500)),
    "all requests {}": Fault(faults.json_body({})),
    "lists 403": Fault(faults.status(403), Endpoint.INVOICES),
    "lists empty": Fault(listing(), Endpoint.INVOICES),
    "lists shorter": Fault(listing(INVOICES[1]), Endpoint.INVOICES),
    "namespaces empty": Fault(faults.json_body({"items": []}), Endpoint.NAMESPACES),
    "PDFs 404": Fault(faults.status(404), Endpoint.PDF),
}
TWO_NAMESPACES = SampleTenant(
    "acme", (SampleNamespace(NAMESPACE, INVOICES), SampleNamespace("other", INVOICES))
)


@pytest.mark.promise(
    "A listing that fails never shows fewer files than before, so it never makes `rsync "
    "--delete` delete anything from your archive."
)
@pytest.mark.parametrize("case", ARCHIVE_FAILURES)
def test_rsync_delete_deletes_nothing_while_the_api_fails(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, case: str
) -> None:
    sandbox.tenant = TWO_NAMESPACES
    mount, archive = mounts.mount(*ALWAYS_REFRESH), tmp_path / "archive"
    run("rsync", "-a", f"{mount.path}/", archive).good()
    before = archived(archive)
    assert set(before) == {f"{folder}/{name}" for folder in (NAMESPACE, "other") for name in NAMES}
    sandbox.inject(ARCHIVE_FAILURES[case])
    for _ in range(2):
        run("rsync", "-a", "--delete", f"{mount.path}/", archive)
        assert archived(archive) == before
    mounts.umount(mount)
    mounts.command("mount", *ALWAYS_REFRESH, mount.path).good()
    run("rsync", "-a", "--delete", f"{mounts.at(mount.path).path}/", archive)
    assert archived(archive) == before


def archived(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
