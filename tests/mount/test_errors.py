"""The errno of each operation that fails; programs see no other failure."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Behaviour,
    Endpoint,
    Exchange,
    Fault,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    Sent,
    faults,
    plain_pdf,
)
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import python, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

ERRNOS = """
import errno, os, sys
path = sys.argv[1]
for operation in sys.argv[2:]:
    try:
        exec(operation)
    except OSError as error:
        print(errno.errorcode.get(error.errno, error.errno))
    else:
        print("no error")
"""
OPEN = "os.close(os.open(path, os.O_RDONLY))"
LIST = "os.listdir(path)"
STAT = "os.stat(path)"
PAID = f"{NAMESPACE}/invoice-acme-2026-08.pdf"
MIB = 1024 * 1024


def outcome(operation: str, path: str | Path) -> str:
    """The errno of an operation on a path, or ``no error``."""
    (errno,) = outcomes(path, operation)
    return errno


def outcomes(path: str | Path, *operations: str) -> set[str]:
    """The errnos of several operations on a path, made by one program."""
    lines = python(ERRNOS, path, *operations).good().lines
    assert len(lines) == len(operations)
    return set(lines)


# The errno of an open, for every response to the PDF request.


def not_http(exchange: Exchange) -> None:
    exchange.write(b"SSH-2.0-OpenSSH\r\n\r\n")
    exchange.hang_up()


RESPONSES: dict[str, tuple[Behaviour, str]] = {
    "401": (faults.status(401), "EACCES"),
    "403": (faults.status(403), "EACCES"),
    "404": (faults.status(404), "ENOENT"),
    "408": (faults.status(408), "ETIMEDOUT"),
    "409": (faults.status(409), "EBUSY"),
    "500": (faults.status(500), "EIO"),
    "503": (faults.status(503), "EAGAIN"),
    "504": (faults.status(504), "ETIMEDOUT"),
    "redirect to another host": (faults.redirect("http://127.0.0.2:9/"), "EIO"),
    "not JSON": (faults.not_json(), "EIO"),
    "not a PDF": (faults.not_a_pdf(), "EIO"),
    "larger than allowed": (lambda exchange: faults.large(3)(exchange), "EFBIG"),
    "reset in the body": (faults.reset(Sent.HALF_BODY), "EHOSTUNREACH"),
    "body shorter than announced": (faults.wrong_length(1), "EHOSTUNREACH"),
    "not HTTP": (not_http, "EIO"),
}
INVOICE_OF = {
    case: invoice(number, 5000, name=f"case-{number}") for number, case in enumerate(RESPONSES)
}
GOOD = invoice(200, 5000, name="good")
STRICT = ("--max-wait", "0s", "--max-pdf-size", "2MiB")


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Mount]]:
    """A mount with one invoice per case of `RESPONSES`, whose download gets that response."""
    with Sandbox(tenant(*INVOICE_OF.values(), GOOD)) as sandbox:
        for case, (behaviour, _) in RESPONSES.items():
            sandbox.inject(Fault(behaviour, Endpoint.PDF, name=INVOICE_OF[case].name))
        with closing(Mounts(sandbox, tmp_path_factory.mktemp("failing"))) as made:
            yield sandbox, made.mount(*STRICT)


@pytest.mark.promise(
    "A program that opens and reads an invoice gets all of it or an error, never wrong, short"
    " or empty content."
)
@pytest.mark.parametrize("case", RESPONSES)
def test_open_fails_with_the_errno_of_the_response(
    failing: tuple[Sandbox, Mount], case: str
) -> None:
    _, mount = failing
    path = mount / NAMESPACE / file_name(INVOICE_OF[case])
    assert outcome(OPEN, path) == RESPONSES[case][1]
    assert outcome(STAT, path) == "no error"
    assert outcome(OPEN, mount / NAMESPACE / file_name(GOOD)) == "no error"


OPEN_THEN_READ = """
import os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(os.read(handle, 99_999_999))
"""


@pytest.mark.promise(
    "Every error is reported when a file or folder is opened, never while it is being read."
)
def test_a_read_never_fails_on_an_open_file(sandbox: Sandbox, mounts: Mounts) -> None:
    pdf = plain_pdf("large", 3 * MIB)
    sandbox.tenant = tenant(replace(GOOD, pdf=pdf))
    mount = mounts.mount()
    with started(
        sys.executable, "-I", "-c", OPEN_THEN_READ, mount / NAMESPACE / file_name(GOOD)
    ) as reader:
        assert reader.line() == "open"
        sandbox.close()
        shutil.rmtree(mounts.cache)
        reader.go_on()
        assert reader.end().good().out == pdf


# Changes.

CHANGES = {
    "open for writing": "os.open(path, os.O_WRONLY)",
    "unlink": "os.unlink(path)",
    "rename": "os.rename(path, path + '.bak')",
    "set an attribute": "os.setxattr(path, 'user.note', b'1')",
    "create": "os.open(path + '.new', os.O_WRONLY | os.O_CREAT)",
    "mkdir": "os.mkdir(path + '.new')",
    "chmod of a folder": "os.chmod(os.path.dirname(path), 0o700)",
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Mount]]:
    """The sample tenant, which includes everything that the server may refuse."""
    with Sandbox() as sandbox, closing(Mounts(sandbox, tmp_path_factory.mktemp("healthy"))) as made:
        yield sandbox, made.mount("--list-ttl", "1h")


@pytest.mark.promise("The folder is read-only: every change fails with `Read-only file system`.")
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_fails_with_erofs(healthy: tuple[Sandbox, Mount], change: str) -> None:
    assert outcome(CHANGES[change], healthy[1] / PAID) == "EROFS"


# Names.

IMPOSSIBLE_FILES = (
    ".Trash",
    "autorun.inf",
    ".invoice.pdf",
    "invoice-acme-2026-08.pdf.part",
    "\udcff\udcfe.pdf",
)


@pytest.fixture(scope="module")
def unlistable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Mount]]:
    """A mount on which every possible name costs a request, because nothing may be listed."""
    with (
        Sandbox() as sandbox,
        closing(Mounts(sandbox, tmp_path_factory.mktemp("unlistable"))) as made,
    ):
        sandbox.inject(Fault(faults.status(403), Endpoint.NAMESPACES))
        sandbox.inject(Fault(faults.status(403), Endpoint.INVOICES))
        mount = made.mount("--list-ttl", "1h", words="cannot be listed")
        assert outcome(LIST, mount / NAMESPACE) == "EACCES"
        yield sandbox, mount


@pytest.mark.promise(
    "Names that desktops look for in every folder, such as `.Trash` or `autorun.inf`, cost no"
    " request."
)
@pytest.mark.parametrize("name", IMPOSSIBLE_FILES)
def test_a_name_no_invoice_can_have_costs_no_request(
    unlistable: tuple[Sandbox, Mount], name: str
) -> None:
    sandbox, mount = unlistable
    before = sandbox.calls
    assert outcomes(mount / NAMESPACE / name, STAT, OPEN, LIST) == {"ENOENT"}
    assert sandbox.calls == before


# What the server refuses.


def available(sandbox: Sandbox) -> dict[str, bytes]:
    """All files that can be downloaded, by their paths below the mount."""
    return {
        f"{namespace.name}/{name}": content
        for namespace in sandbox.tenant.namespaces
        for name, content in contents(sandbox.tenant, namespace.name).items()
    }


def copied(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_cp_exits_with_1_and_copies_everything_available(
    healthy: tuple[Sandbox, Mount], tmp_path: Path
) -> None:
    sandbox, mount = healthy
    ended = run("cp", "-r", mount.path, tmp_path / "copy")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 2
    assert copied(tmp_path / "copy") == available(sandbox)


# If only the PDF request is allowed.


@pytest.fixture
def by_name_only(sandbox: Sandbox, mounts: Mounts) -> Mount:
    """A mount whose credential may list neither namespaces nor invoices."""
    forbidden = frozenset({Endpoint.INVOICES})
    sandbox.tenant = SampleTenant("acme", (SampleNamespace(NAMESPACE, (GOOD,), forbidden),))
    sandbox.inject(Fault(faults.status(403), Endpoint.NAMESPACES))
    return mounts.mount(words="cannot be listed")


@pytest.mark.promise(
    "If you may download invoices but not list them, `cat ~/invoices/system/invoice-42.pdf` "
    "works although `ls` fails with `Permission denied`."
)
def test_an_invoice_opens_by_name_if_listing_is_forbidden(
    sandbox: Sandbox, by_name_only: Mount
) -> None:
    assert outcome(LIST, by_name_only.path) == "EACCES"
    assert outcome(LIST, by_name_only / NAMESPACE) == "EACCES"
    path = by_name_only / NAMESPACE / file_name(GOOD)
    assert run("cat", path).good().out == GOOD.content()
    assert run("stat", "--format=%s", path).good().text == "5000\n"
    assert sandbox.count(Endpoint.PDF) == 1
