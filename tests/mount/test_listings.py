"""A listing that fails shows what was there before, and never less."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    OMITTED,
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

ALWAYS_ASK = ("--list-ttl", "0s", "--max-wait", "0s")

INVOICES = tuple(invoice(number) for number in range(3))
NAMES = [file_name(item) for item in INVOICES]


def listing(*invoices: SampleInvoice) -> Behaviour:
    return faults.json_body({"invoices": [item.listed() for item in invoices]})


# Ways in which a list fails, and the errno where there is none from before.
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
    "redirect in a circle": (faults.redirect(), "EIO"),
    "nothing": (faults.reply(200, b""), "EIO"),
    "204": (faults.reply(204, b""), "EIO"),
    "not JSON": (faults.not_json(), "EIO"),
    "a page for people": (faults.html(), "EIO"),
    "a bare list": (faults.json_body([]), "EIO"),
    "a string": (faults.json_body("none"), "EIO"),
    "null": (faults.json_body(None), "EIO"),
    "an error sent as good": (faults.json_body({"code": 13, "message": "oops"}), "EIO"),
    "invoices that are an object": (faults.json_body({"invoices": {}}), "EIO"),
    "invoices that are text": (faults.json_body({"invoices": "none"}), "EIO"),
    "invoices that are a number": (faults.json_body({"invoices": 0}), "EIO"),
    "reset": (faults.reset(Sent.NOTHING), "EHOSTUNREACH"),
    "cut": (faults.cut(Sent.HALF_BODY), "EHOSTUNREACH"),
    "not gzip": (faults.reply(200, b"{}", {"Content-Encoding": "gzip"}), "EIO"),
}
# Answers that are no failure, but have less in them than there was before.
SHORTER: dict[str, Behaviour] = {
    "empty answer": faults.json_body({}),
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


def break_lists(sandbox: Sandbox) -> None:
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
    """A mount on which every namespace was listed before its list began to fail."""
    mount = made.mount(*ALWAYS_ASK)
    for folder in NAMESPACE_OF.values():
        assert ls(mount / folder).good().lines == NAMES
    break_lists(made.sandbox)
    return mount


@pytest.fixture(scope="module")
def remounted(live: Mount, made: Mounts) -> Mount:
    """Another mount on the same store, made while the lists fail already."""
    assert live.is_mounted
    return made.mount(*ALWAYS_ASK)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount whose lists have failed from the first."""
    with (
        Sandbox(TENANT) as sandbox,
        closing(Mounts(sandbox, tmp_path_factory.mktemp("fresh"))) as made,
    ):
        break_lists(sandbox)
        yield made.mount(*ALWAYS_ASK)


@pytest.mark.promise(
    "A listing that fails never shows fewer files than before, so it never makes `rsync "
    "--delete` delete anything from your archive."
)
@pytest.mark.parametrize("case", CASES)
def test_a_failing_list_shows_what_was_there_before(live: Mount, case: str) -> None:
    for _ in range(2):
        assert ls(live / NAMESPACE_OF[case]).good().lines == NAMES


@pytest.mark.promise("A final invoice that was listed once stays listed.")
@pytest.mark.parametrize("case", CASES)
def test_a_failing_list_shows_what_was_there_before_a_remount(remounted: Mount, case: str) -> None:
    assert ls(remounted / NAMESPACE_OF[case]).good().lines == NAMES
    assert run("cat", remounted / NAMESPACE_OF[case] / NAMES[0]).good()


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_list_is_reported_although_there_is_one_from_before(
    live: Mount, remounted: Mount, case: str
) -> None:
    for mount in (live, remounted):
        ended = ls(mount / NAMESPACE_OF[case])
        assert ended.code == 2
        assert "Permission denied" in ended.err
        assert ended.lines == []


WORDS = {
    "EIO": "Input/output error",
    "EBUSY": "Device or resource busy",
    "EAGAIN": "Resource temporarily unavailable",
    "ETIMEDOUT": "Connection timed out",
    "EHOSTUNREACH": "No route to host",
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_list_that_was_never_good_is_an_error_and_not_an_empty_folder(
    fresh: Mount, case: str
) -> None:
    ended = ls(fresh / NAMESPACE_OF[case])
    assert ended.code == 2
    assert WORDS[FAILURES[case][1]] in ended.err


@pytest.mark.parametrize("case", FAILURES)
def test_an_invoice_of_a_failing_list_is_not_said_to_be_missing(fresh: Mount, case: str) -> None:
    ended = run("cat", fresh / NAMESPACE_OF[case] / NAMES[0])
    assert ended.code == 1
    assert WORDS[FAILURES[case][1]] in ended.err


def test_what_was_good_meanwhile_is_good(live: Mount) -> None:
    assert ls(live / "new").good().lines == NAMES


# These affect all lists, so they have a mount of their own.


@pytest.mark.parametrize(
    ("behaviour", "options"),
    [
        (faults.status(429), ALWAYS_ASK),
        (faults.status(429, retry_after="3600"), ALWAYS_ASK),
        (faults.stall(), (*ALWAYS_ASK, "--timeout", "1s")),
        (faults.dribble(0.05), (*ALWAYS_ASK, "--timeout", "1s")),
    ],
    ids=["429", "429 for an hour", "silent", "dribbles"],
)
def test_a_list_that_is_held_back_shows_what_was_there_before(
    sandbox: Sandbox, mounts: Mounts, behaviour: Behaviour, options: tuple[str, ...]
) -> None:
    sandbox.tenant = tenant(*INVOICES)
    mount = mounts.mount(*options)
    assert ls(mount / NAMESPACE).good().lines == NAMES
    sandbox.inject(Fault(behaviour, Endpoint.INVOICES))
    assert ls(mount / NAMESPACE).good().lines == NAMES


NAMESPACE_FAILURES: dict[str, Behaviour] = {
    case: FAILURES[case][0]
    for case in ("404", "500", "503", "504", "nothing", "not JSON", "a bare list", "reset", "cut")
} | {
    "429": faults.status(429),
    "{}": faults.json_body({}),
    "an error sent as good": faults.json_body({"code": 13, "message": "oops"}),
    "empty": faults.json_body({"items": []}),
    "null": faults.json_body({"items": None}),
    "an object": faults.json_body({"items": {}}),
    "nameless": faults.json_body({"items": [{"name": ""}, {}, 5]}),
    "partly failed": faults.json_body({"items": [], "errors": [{"code": 13}]}),
}


@pytest.mark.parametrize("case", NAMESPACE_FAILURES)
def test_a_failing_list_of_namespaces_shows_what_was_there_before(
    sandbox: Sandbox, mounts: Mounts, case: str
) -> None:
    mount = mounts.mount(*ALWAYS_ASK)
    sandbox.inject(Fault(NAMESPACE_FAILURES[case], Endpoint.NAMESPACES))
    assert ls(mount.path).good().lines == ["legal", "retail-emea", "shared", "system"]
    assert len(ls(mount / "shared").good().lines) == 3


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_list_of_namespaces_is_reported(
    sandbox: Sandbox, mounts: Mounts, code: int
) -> None:
    mount = mounts.mount(*ALWAYS_ASK)
    sandbox.inject(Fault(faults.status(code), Endpoint.NAMESPACES))
    ended = ls(mount.path)
    assert (ended.code, ended.lines) == (2, [])
    assert "Permission denied" in ended.err


# Growth and change.


@pytest.mark.promise(
    "New invoices appear within `--list-ttl` (1 minute), and can be opened by name before that."
)
def test_a_new_invoice_appears(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(*INVOICES)
    mount = mounts.mount(*ALWAYS_ASK)
    assert ls(mount / NAMESPACE).good().lines == NAMES
    sandbox.tenant = tenant(invoice(9), *INVOICES)
    assert ls(mount / NAMESPACE).good().lines == [*NAMES, file_name(invoice(9))]


def test_a_new_namespace_appears(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount(*ALWAYS_ASK)
    more = SampleNamespace("zebra", INVOICES)
    sandbox.tenant = replace(sandbox.tenant, namespaces=(*sandbox.tenant.namespaces, more))
    assert "zebra" in ls(mount.path).good().lines
    assert ls(mount / "zebra").good().lines == NAMES


@pytest.mark.promise(
    "New invoices appear within `--list-ttl` (1 minute), and can be opened by name before that."
)
def test_a_new_invoice_opens_by_name_before_the_list_is_asked_for_again(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = tenant(*INVOICES)
    mount = mounts.mount("--list-ttl", "1h")
    sandbox.tenant = tenant(invoice(9), *INVOICES)
    assert run("cat", mount / NAMESPACE / file_name(invoice(9))).good().out


def test_a_list_longer_than_any_first_page_is_whole(sandbox: Sandbox, mounts: Mounts) -> None:
    pdf = b"%PDF-1.4 %%EOF"
    many = tuple(SampleInvoice(f"invoice-{number:05}", pdf) for number in range(2_500))
    sandbox.tenant = tenant(*many)
    found = ls(mounts.mount() / NAMESPACE).good().lines
    assert found == [file_name(item) for item in many]


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
def test_every_name_has_a_file_that_can_be_read(
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


def test_names_can_be_read_whatever_the_locale(sandbox: Sandbox, mounts: Mounts) -> None:
    """The kernel's paths are UTF-8 here, and Python takes those of the system for ASCII."""
    each = invoice(1, name="Rechnung-\u20ac")
    sandbox.tenant = tenant(each)
    path = mounts.new_path()
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    mounts.command("mount", path, env=locale).good()
    assert run("cat", path / NAMESPACE / file_name(each)).good().out == each.content()


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys(
            ("active", "amount", "currency", "period_start", "period_end", "status"), OMITTED
        ),
        {"active": "yes", "amount": 12.5, "status": 7, "period_start": [], "period_end": {}},
        {"period_start": "soon", "period_end": "9999-99-99T99:99:99Z"},
        {"period_start": "0001-01-01T00:00:00Z", "period_end": "9999-12-31T23:59:59Z"},
        {"surprise": {"nested": [1, 2, 3]}},
        {"amount": "-1" + "0" * 500, "currency": "\U0001f4b6"},
    ],
    ids=["absent", "of other types", "no times", "far times", "unknown", "absurd"],
)
def test_an_invoice_is_shown_and_read_whatever_its_fields_hold(
    sandbox: Sandbox, mounts: Mounts, fields: dict[str, object]
) -> None:
    odd = replace(invoice(1), fields=fields)
    sandbox.tenant = tenant(odd, INVOICES[0])
    mount = mounts.mount()
    assert len(ls(mount / NAMESPACE).good().lines) == 2
    assert run("stat", mount / NAMESPACE / file_name(odd)).good()
    assert run("cat", mount / NAMESPACE / file_name(odd)).good().out == odd.content()


def test_a_duplicate_in_a_list_is_one_file(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(*INVOICES, INVOICES[0])
    assert ls(mounts.mount() / NAMESPACE).good().lines == NAMES


# The archive.

ARCHIVE_FAILURES: dict[str, Fault] = {
    "all calls 500": Fault(faults.status(500)),
    "all calls 503": Fault(faults.status(503)),
    "all calls 404": Fault(faults.status(404)),
    "all calls 429": Fault(faults.status(429)),
    "all calls reset": Fault(faults.reset()),
    "all calls a page for people": Fault(faults.html()),
    "all calls {}": Fault(faults.json_body({})),
    "lists 401": Fault(faults.status(401), Endpoint.INVOICES),
    "lists 403": Fault(faults.status(403), Endpoint.INVOICES),
    "lists empty": Fault(listing(), Endpoint.INVOICES),
    "lists shorter": Fault(listing(INVOICES[1]), Endpoint.INVOICES),
    "namespaces 403": Fault(faults.status(403), Endpoint.NAMESPACES),
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
    mount, archive = mounts.mount(*ALWAYS_ASK), tmp_path / "archive"
    run("rsync", "-a", f"{mount.path}/", archive).good()
    before = archived(archive)
    assert set(before) == {f"{folder}/{name}" for folder in (NAMESPACE, "other") for name in NAMES}
    sandbox.inject(ARCHIVE_FAILURES[case])
    for _ in range(2):
        run("rsync", "-a", "--delete", f"{mount.path}/", archive)
        assert archived(archive) == before
    mounts.umount(mount)
    mounts.command("mount", *ALWAYS_ASK, mount.path).good()
    run("rsync", "-a", "--delete", f"{mounts.at(mount.path).path}/", archive)
    assert archived(archive) == before


def archived(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_thousand_namespaces_are_each_listed_once(tmp_path: Path) -> None:
    names = [f"team-{number:03}" for number in range(1000)]
    many = SampleTenant("acme", tuple(SampleNamespace(name, INVOICES[:1]) for name in names))
    files = sorted(f"{name}/{NAMES[0]}" for name in names)
    with Sandbox(many) as sandbox, closing(Mounts(sandbox, tmp_path)) as mounts:
        mount = mounts.mount("--list-ttl", "1h")
        assert run("ls", "-l", mount.path).good().out.count(b"\n") == 1 + len(names)
        assert sandbox.count(Endpoint.INVOICES) == 0
        for _ in range(2):
            found = run("find", mount.path, "-type", "f", "-printf", "%P\\n").good()
            assert sorted(found.lines) == files
        listed = [call.namespace for call in sandbox.calls if call.endpoint is Endpoint.INVOICES]
        assert Counter(listed) == Counter(names)
        assert sandbox.count(Endpoint.PDF) == 0
