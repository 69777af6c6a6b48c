"""What a program gets where it cannot have what it asks for: the errno, and nothing else."""

import os
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
    RateLimit,
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
UNPAID = f"{NAMESPACE}/invoice-acme-2026-07.pdf"
MIB = 1024 * 1024


def outcome(operation: str, path: str | Path) -> str:
    """The errno that an operation on a path ends with, or ``no error``."""
    (errno,) = outcomes(path, operation)
    return errno


def outcomes(path: str | Path, *operations: str) -> set[str]:
    """The errnos that several operations on a path end with, of one program."""
    lines = python(ERRNOS, path, *operations).good().lines
    assert len(lines) == len(operations)
    return set(lines)


def repeated(operation: str) -> str:
    """Nine times the same, within the few seconds for which a failure is remembered."""
    attempt = f"try: {operation}\n  except OSError as error: last = error"
    return f"for _ in range(9):\n  {attempt}\nraise last"


# The errno of an open, for all that the PDF call can bring.


def not_http(exchange: Exchange) -> None:
    exchange.write(b"SSH-2.0-OpenSSH\r\n\r\n")
    exchange.hang_up()


ANSWERS: dict[str, tuple[Behaviour, str]] = {
    "400": (faults.status(400), "EIO"),
    "401": (faults.status(401), "EACCES"),
    "402": (faults.status(402), "EIO"),
    "403": (faults.status(403), "EACCES"),
    "404": (faults.status(404), "ENOENT"),
    "405": (faults.status(405), "EIO"),
    "408": (faults.status(408), "ETIMEDOUT"),
    "409": (faults.status(409), "EBUSY"),
    "410": (faults.status(410), "EIO"),
    "418": (faults.status(418), "EIO"),
    "500": (faults.status(500), "EIO"),
    "501": (faults.status(501), "EIO"),
    "502": (faults.status(502), "EIO"),
    "503": (faults.status(503), "EAGAIN"),
    "503 with Retry-After": (faults.status(503, retry_after="1"), "EAGAIN"),
    "503 with a bad Retry-After": (faults.status(503, retry_after="soon"), "EAGAIN"),
    "504": (faults.status(504), "ETIMEDOUT"),
    "599": (faults.status(599), "EIO"),
    "404 that is not JSON": (faults.html(404), "ENOENT"),
    "500 with a bare string": (faults.json_body("oops", 500), "EIO"),
    "500 with an error": (faults.json_body({"error": "oops"}, 500), "EIO"),
    "500 with a strange message": (faults.json_body({"message": ["oops"]}, 500), "EIO"),
    "204": (faults.reply(204, b""), "EIO"),
    "206": (faults.json_body({"pdf": "JVBERi0x"}, 206), "EIO"),
    "redirect to another host": (faults.redirect("http://127.0.0.2:9/"), "EIO"),
    "redirect to another port": (faults.redirect("http://127.0.0.1:9/"), "EIO"),
    "redirect in a circle": (faults.redirect(), "EIO"),
    "redirect to no URL": (faults.redirect("http://[bad/"), "EIO"),
    "nothing": (faults.reply(200, b""), "EIO"),
    "not JSON": (faults.not_json(), "EIO"),
    "a page for people": (faults.html(), "EIO"),
    "a list": (faults.json_body([]), "EIO"),
    "a string": (faults.json_body("JVBERi0xLjQK"), "EIO"),
    "null": (faults.json_body(None), "EIO"),
    "no pdf": (faults.json_body({}), "EIO"),
    "pdf that is null": (faults.json_body({"pdf": None}), "EIO"),
    "pdf that is a number": (faults.json_body({"pdf": 5}), "EIO"),
    "pdf that is a list": (faults.json_body({"pdf": ["JVBERi0xLjQK"]}), "EIO"),
    "empty pdf": (faults.json_body({"pdf": ""}), "EIO"),
    "an error sent as good": (faults.json_body({"code": 5, "message": "not found"}), "EIO"),
    "nested too deep": (faults.reply(200, b"[" * 100_000), "EIO"),
    "bad UTF-8": (faults.reply(200, b'{"pdf":"\xff\xfe"}'), "EIO"),
    "bad base64": (faults.bad_base64(), "EIO"),
    "base64 of bad length": (faults.json_body({"pdf": "JVBERi0xL"}), "EIO"),
    "not ASCII": (faults.json_body({"pdf": "JVBERi0x\u00e9"}), "EIO"),
    "not a PDF": (faults.not_a_pdf(), "EIO"),
    "an empty file": (faults.not_a_pdf(b""), "EIO"),
    "half a PDF": (faults.not_a_pdf(b"%PDF-1.4\n1 0 obj\n"), "EIO"),
    "not the gzip it is said to be": (
        faults.reply(200, b"{}", {"Content-Encoding": "gzip"}),
        "EIO",
    ),
    "larger than allowed": (lambda exchange: faults.large(3)(exchange), "EFBIG"),
    "much larger than allowed": (lambda exchange: faults.large(20)(exchange), "EFBIG"),
    "endless": (faults.endless(), "EFBIG"),
    "gzip bomb": (lambda exchange: faults.gzip_bomb(20)(exchange), "EFBIG"),
    "reset before the answer": (faults.reset(Sent.NOTHING), "EHOSTUNREACH"),
    "reset in the body": (faults.reset(Sent.HALF_BODY), "EHOSTUNREACH"),
    "hung up before the answer": (faults.cut(Sent.NOTHING), "EHOSTUNREACH"),
    "cut in the body": (faults.cut(Sent.HALF_BODY), "EHOSTUNREACH"),
    "longer announced than sent": (faults.wrong_length(1), "EHOSTUNREACH"),
    "shorter announced than sent": (faults.wrong_length(-1), "EIO"),
    "not HTTP": (not_http, "EIO"),
}
INVOICE_OF = {
    case: invoice(number, 5000, name=f"case-{number}") for number, case in enumerate(ANSWERS)
}
GOOD = invoice(200, 5000, name="good")
STRICT = ("--max-wait", "0s", "--max-pdf-size", "2MiB")


@pytest.fixture(scope="module")
def ailing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Mount]]:
    """A mount with one invoice per case of `ANSWERS`, each of which brings what its case says."""
    with Sandbox(tenant(*INVOICE_OF.values(), GOOD)) as sandbox:
        for case, (behaviour, _) in ANSWERS.items():
            sandbox.inject(Fault(behaviour, Endpoint.PDF, name=INVOICE_OF[case].name))
        with closing(Mounts(sandbox, tmp_path_factory.mktemp("ailing"))) as made:
            yield sandbox, made.mount(*STRICT)


@pytest.mark.promise(
    "A program that opens and reads an invoice gets all of it or an error, never wrong, short"
    " or empty content."
)
@pytest.mark.parametrize("case", ANSWERS)
def test_open_gives_the_errno_of_the_answer(ailing: tuple[Sandbox, Mount], case: str) -> None:
    _, mount = ailing
    path = mount / NAMESPACE / file_name(INVOICE_OF[case])
    assert outcome(OPEN, path) == ANSWERS[case][1]
    assert outcome(STAT, path) == "no error"
    assert outcome(OPEN, mount / NAMESPACE / file_name(GOOD)) == "no error"


def test_a_failed_call_is_not_made_again_at_once(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.inject(Fault(faults.status(500), Endpoint.PDF))
    path = mounts.mount() / PAID
    assert outcome(repeated(OPEN), path) == "EIO"
    assert sandbox.count(Endpoint.PDF) == 1


@pytest.mark.parametrize("retry_after", [None, "3600"])
def test_open_gives_eagain_during_a_rate_limit(
    sandbox: Sandbox, mounts: Mounts, retry_after: str | None
) -> None:
    sandbox.inject(Fault(faults.status(429, retry_after=retry_after), Endpoint.PDF))
    mount = mounts.mount("--max-wait", "0s")
    assert outcome(OPEN, mount / PAID) == "EAGAIN"
    assert outcome(LIST, mount / NAMESPACE) == "no error"  # limits are per kind of call


def test_nobody_hammers_during_a_rate_limit(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.throttle(RateLimit(per_second=0.001, burst=2))
    folder = mounts.mount("--read-ahead", "0") / NAMESPACE
    names = run("ls", folder).good().lines
    got = [outcome(OPEN, folder / name) for name in names[:8]]
    assert got == ["no error"] * 2 + ["EAGAIN"] * 6
    assert sandbox.count(Endpoint.PDF) == 3


@pytest.mark.parametrize(
    "behaviour",
    [
        faults.status(503),
        faults.status(503, retry_after="0"),
        faults.status(429),
        faults.status(429, retry_after="0"),
        faults.reset(Sent.NOTHING),
        faults.cut(Sent.HALF_BODY),
    ],
)
def test_what_a_moment_mends_is_no_error(
    sandbox: Sandbox, mount: Mount, behaviour: Behaviour
) -> None:
    sandbox.inject(Fault(behaviour, Endpoint.PDF, times=1))
    assert run("pdftotext", mount / PAID, "-").good().text
    assert sandbox.count(Endpoint.PDF) == 2


@pytest.mark.parametrize(
    "behaviour",
    [
        faults.stall(Sent.NOTHING),
        faults.stall(Sent.HALF_HEAD),
        faults.stall(Sent.HALF_BODY),
        faults.dribble(0.05),
        faults.dribble(0.05, after=Sent.HEAD),
    ],
    ids=["silent", "silent in headers", "silent in body", "dribbles", "dribbles body"],
)
def test_open_gives_etimedout_at_the_deadline_whatever_trickles_in(
    sandbox: Sandbox, mounts: Mounts, behaviour: Behaviour
) -> None:
    mount = mounts.mount("--timeout", "1s", "--max-wait", "0s")
    sandbox.inject(Fault(behaviour, Endpoint.PDF))
    assert outcome(OPEN, mount / PAID) == "ETIMEDOUT"


def test_open_gives_ehostunreach_without_a_server(tmp_path: Path) -> None:
    with (
        Sandbox() as sandbox,
        closing(Mounts(sandbox, tmp_path)) as mounts,
    ):
        mount = mounts.mount("--max-wait", "0s")
        run("cat", mount / PAID).good()
        sandbox.close()
        assert outcome(OPEN, mount / NAMESPACE / "invoice-acme-2026-06.pdf") == "EHOSTUNREACH"
        assert outcome(OPEN, mount / PAID) == "no error"


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
def test_a_read_never_fails_once_the_file_is_open(sandbox: Sandbox, mounts: Mounts) -> None:
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
    "open for both": "os.open(path, os.O_RDWR)",
    "append": "os.open(path, os.O_WRONLY | os.O_APPEND)",
    "open and truncate": "os.open(path, os.O_RDONLY | os.O_TRUNC)",
    "truncate": "os.truncate(path, 0)",
    "chmod": "os.chmod(path, 0o600)",
    "chown": "os.chown(path, 1, 1)",
    "touch": "os.utime(path)",
    "unlink": "os.unlink(path)",
    "rename": "os.rename(path, path + '.bak')",
    "link": "os.link(path, path + '.bak')",
    "set an attribute": "os.setxattr(path, 'user.note', b'1')",
    "create": "os.open(path + '.new', os.O_WRONLY | os.O_CREAT)",
    "mkdir": "os.mkdir(path + '.new')",
    "mknod": "os.mknod(path + '.new')",
    "symlink": "os.symlink('target', path + '.new')",
    "rmdir": "os.rmdir(os.path.dirname(path))",
    "rename a folder": "os.rename(os.path.dirname(path), os.path.dirname(path) + 'x')",
    "create in the root": "os.mkdir(os.path.dirname(os.path.dirname(path)) + '/new')",
    "chmod of a folder": "os.chmod(os.path.dirname(path), 0o700)",
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Mount]]:
    """The sample tenant, with all that the server ever refuses in it."""
    with Sandbox() as sandbox, closing(Mounts(sandbox, tmp_path_factory.mktemp("healthy"))) as made:
        yield sandbox, made.mount("--list-ttl", "1h")


@pytest.mark.promise("The folder is read-only: every change fails with `Read-only file system`.")
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_gives_erofs(healthy: tuple[Sandbox, Mount], change: str) -> None:
    assert outcome(CHANGES[change], healthy[1] / PAID) == "EROFS"


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount that root has made writable, as far as the kernel is concerned."""
    if os.geteuid() != 0:
        pytest.skip("only root can remount")
    with Sandbox() as sandbox, closing(Mounts(sandbox, tmp_path_factory.mktemp("rw"))) as made:
        mount = made.mount()
        # With fsconfig(2), which util-linux 2.41 uses, the kernel lets nobody change it.
        old_call = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}
        run("mount", "-i", "-o", "remount,rw", mount.path, env=old_call).good()
        yield mount


@pytest.mark.parametrize("change", [each for each in CHANGES if each != "set an attribute"])
def test_every_change_gives_erofs_even_where_the_kernel_lets_it_through(
    writable: Mount, change: str
) -> None:
    assert outcome(CHANGES[change], writable / PAID) == "EROFS"


# Names.

NEVER_AN_INVOICE = (
    ".hidden",
    ".Trash",
    ".Trash-1000",
    ".DS_Store",
    "._invoice.pdf",
    ".invoice.pdf",
    ".pdf",
    "autorun.inf",
    "desktop.ini",
    "Thumbs.db",
    "invoice-acme-2026-08",
    "invoice-acme-2026-08.PDF",
    "invoice-acme-2026-08.pdf.part",
    "invoice-acme-2026-08.pdf~",
    "100%.pdf",
    "a%2fb.pdf",
    "a%41.pdf",
    "new\nline.pdf",
    "\udcff\udcfe.pdf",
    "x" * 251 + ".PDF",
)
NEVER_A_NAMESPACE = (
    ".Trash",
    ".Trash-1000",
    ".hidden",
    "autorun.inf",
    "desktop.ini",
    "System",
    "two words",
    "-dash",
    "a_b",
    "lost+found",
    "\u00e4",
    "\udcff",
    "x" * 64,
)


@pytest.mark.promise(
    "Names that desktops look for in every folder, such as `.Trash` or `autorun.inf`, cost no"
    " request."
)
@pytest.mark.parametrize("name", NEVER_AN_INVOICE)
def test_a_name_that_no_invoice_can_have_does_not_exist_and_costs_no_call(
    healthy: tuple[Sandbox, Mount], name: str
) -> None:
    sandbox, mount = healthy
    run("ls", mount / NAMESPACE).good()
    before = sandbox.calls
    assert outcomes(mount / NAMESPACE / name, STAT, OPEN, LIST) == {"ENOENT"}
    assert sandbox.calls == before


@pytest.mark.parametrize("name", NEVER_A_NAMESPACE)
@pytest.mark.parametrize("below", ["", "/invoice.pdf"])
def test_a_name_that_no_namespace_can_have_does_not_exist_and_costs_no_call(
    healthy: tuple[Sandbox, Mount], name: str, below: str
) -> None:
    sandbox, mount = healthy
    run("ls", mount.path).good()
    before = sandbox.calls
    assert outcomes(f"{mount.path}/{name}{below}", STAT, OPEN, LIST) == {"ENOENT"}
    assert sandbox.calls == before


@pytest.mark.parametrize("folder", ["", f"{NAMESPACE}/"])
@pytest.mark.parametrize("name", ["x" * 252 + ".pdf", "\u00e4" * 126 + ".pdf", "x" * 256])
def test_a_name_over_255_bytes_is_too_long_and_costs_no_call(
    healthy: tuple[Sandbox, Mount], folder: str, name: str
) -> None:
    sandbox, mount = healthy
    run("ls", mount / NAMESPACE).good()
    before = sandbox.calls
    path = f"{mount.path}/{folder}{name}"
    assert outcomes(path, STAT, OPEN, LIST) == {"ENAMETOOLONG"}
    assert sandbox.calls == before


@pytest.mark.parametrize("path", [PAID + "/x", PAID + "/x.pdf", PAID + "/"])
def test_nothing_is_below_an_invoice(healthy: tuple[Sandbox, Mount], path: str) -> None:
    assert outcome(STAT, f"{healthy[1].path}/{path}") == "ENOTDIR"


def test_a_folder_below_a_namespace_does_not_exist(healthy: tuple[Sandbox, Mount]) -> None:
    assert outcome(LIST, healthy[1] / NAMESPACE / "2026") == "ENOENT"


def test_a_possible_name_is_looked_for_once_and_then_does_not_exist(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--list-ttl", "1h")
    run("ls", mount / NAMESPACE).good()
    sandbox.forget_calls()
    paths = [mount / NAMESPACE / f"invoice-{number}.pdf" for number in range(20)]
    ended = run("stat", *paths)
    assert ended.err.count("No such file") == 20
    assert sandbox.count(Endpoint.INVOICES) <= 1
    assert sandbox.count() == sandbox.count(Endpoint.INVOICES)


def test_an_unknown_namespace_does_not_exist(mount: Mount) -> None:
    assert outcome(STAT, mount / "nosuch") == "ENOENT"
    assert outcome(LIST, mount / "nosuch") == "ENOENT"
    assert outcome(OPEN, mount / "nosuch" / "invoice.pdf") == "ENOENT"


# What the server refuses.


def test_an_unpaid_invoice_is_shown_and_cannot_be_opened(healthy: tuple[Sandbox, Mount]) -> None:
    mount = healthy[1]
    assert outcome(STAT, mount / UNPAID) == "no error"
    assert outcome(OPEN, mount / UNPAID) == "ENOENT"


def test_a_forbidden_namespace_is_shown_and_cannot_be_listed(
    healthy: tuple[Sandbox, Mount],
) -> None:
    mount = healthy[1]
    assert outcome(STAT, mount / "legal") == "no error"
    assert outcome(LIST, mount / "legal") == "EACCES"
    assert outcome(OPEN, mount / "legal" / "invoice.pdf") == "EACCES"


def available(sandbox: Sandbox) -> dict[str, bytes]:
    """All files that can be had, by their paths below the mount."""
    return {
        f"{namespace.name}/{name}": content
        for namespace in sandbox.tenant.namespaces
        for name, content in contents(sandbox.tenant, namespace.name).items()
    }


def copied(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_cp_of_all_ends_with_1_and_copies_all_that_can_be_had(
    healthy: tuple[Sandbox, Mount], tmp_path: Path
) -> None:
    sandbox, mount = healthy
    ended = run("cp", "-r", mount.path, tmp_path / "copy")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 2
    assert copied(tmp_path / "copy") == available(sandbox)


def test_rsync_of_all_ends_with_23_or_24_and_copies_all_that_can_be_had(
    healthy: tuple[Sandbox, Mount], tmp_path: Path
) -> None:
    sandbox, mount = healthy
    ended = run("rsync", "-a", f"{mount.path}/", tmp_path / "copy")
    assert ended.code in (23, 24)
    assert copied(tmp_path / "copy") == available(sandbox)


def test_with_only_paid_invoices_of_one_namespace_all_can_be_copied(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    mount = mounts.mount("--namespace", NAMESPACE, "--status", "paid")
    run("cp", "-r", mount.path, tmp_path / "copy").good()
    paid = [each for each in sandbox.tenant.by_name[NAMESPACE].invoices if "PAID" in each.status]
    assert set(copied(tmp_path / "copy")) == {f"{NAMESPACE}/{file_name(each)}" for each in paid}


# Where only the PDF call is allowed.


@pytest.fixture
def by_name_only(sandbox: Sandbox, mounts: Mounts) -> Mount:
    """A mount for somebody who may list neither namespaces nor invoices."""
    forbidden = frozenset({Endpoint.INVOICES})
    sandbox.tenant = SampleTenant("acme", (SampleNamespace(NAMESPACE, (GOOD,), forbidden),))
    sandbox.inject(Fault(faults.status(403), Endpoint.NAMESPACES))
    return mounts.mount(words="cannot be listed")


@pytest.mark.promise(
    "If you may download invoices but not list them, `cat ~/invoices/system/invoice-42.pdf` "
    "works although `ls` fails with `Permission denied`."
)
def test_an_invoice_opens_by_name_where_listing_is_forbidden(
    sandbox: Sandbox, by_name_only: Mount
) -> None:
    assert outcome(LIST, by_name_only.path) == "EACCES"
    assert outcome(LIST, by_name_only / NAMESPACE) == "EACCES"
    path = by_name_only / NAMESPACE / file_name(GOOD)
    assert run("cat", path).good().out == GOOD.content()
    assert run("stat", "--format=%s", path).good().text == "5000\n"
    assert sandbox.count(Endpoint.PDF) == 1


def test_looking_for_a_name_makes_one_call_where_listing_is_forbidden(
    sandbox: Sandbox, by_name_only: Mount
) -> None:
    assert outcome(repeated(STAT), by_name_only / NAMESPACE / "nosuch.pdf") == "ENOENT"
    assert sandbox.count(Endpoint.PDF) == 1


@pytest.fixture(scope="module")
def unlistable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Mount]]:
    """A mount on which every possible name costs a call, because nothing may be listed."""
    with (
        Sandbox() as sandbox,
        closing(Mounts(sandbox, tmp_path_factory.mktemp("unlistable"))) as made,
    ):
        sandbox.inject(Fault(faults.status(403), Endpoint.NAMESPACES))
        sandbox.inject(Fault(faults.status(403), Endpoint.INVOICES))
        mount = made.mount("--list-ttl", "1h", words="cannot be listed")
        assert outcome(LIST, mount / NAMESPACE) == "EACCES"
        yield sandbox, mount


IMPOSSIBLE = (
    *(f"{NAMESPACE}/{name}" for name in NEVER_AN_INVOICE),
    *NEVER_A_NAMESPACE,
    *(f"{name}/invoice.pdf" for name in NEVER_A_NAMESPACE),
)


@pytest.mark.parametrize("path", IMPOSSIBLE)
def test_an_impossible_name_costs_no_call_even_where_others_do(
    unlistable: tuple[Sandbox, Mount], path: str
) -> None:
    sandbox, mount = unlistable
    before = sandbox.calls
    assert outcomes(f"{mount.path}/{path}", STAT, OPEN) == {"ENOENT"}
    assert sandbox.calls == before


@pytest.mark.parametrize("path", [f"{NAMESPACE}/possible.pdf", "possible/invoice.pdf"])
def test_a_possible_name_costs_a_call_where_nothing_may_be_listed(
    unlistable: tuple[Sandbox, Mount], path: str
) -> None:
    sandbox, mount = unlistable
    before = sandbox.count(Endpoint.PDF)
    assert outcome(STAT, f"{mount.path}/{path}") == "ENOENT"
    assert sandbox.count(Endpoint.PDF) == before + 1
