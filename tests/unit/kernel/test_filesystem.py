"""The adapter without FUSE: what it makes of paths, handles and exceptions."""

import errno
import hashlib
import inspect
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import replace

import pytest

from invoicefs import errors
from invoicefs.errors import Denied, InvoicefsError, NotFound, Refusal, UserError
from invoicefs.kernel.errnos import ERRNO, errno_of
from invoicefs.kernel.filesystem import InvoiceFilesystem, XattrFilesystem
from invoicefs.library.library import Library
from invoicefs.model import Invoice
from invoicefs.settings import Fetch
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import FakeTenant
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    ACTIVE_TTL_S,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    MAX_PDF_SIZE_BYTES,
    running_library,
    usual_settings,
)

INVOICE = Invoice(
    "system", "a", period_start="2026-01-01T00:00:00Z", period_end="2026-02-01T00:00:00Z"
)
PATH = "/system/a.pdf"
PDF = b"%PDF-1.4 the one invoice"


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    tenant.bill(INVOICE, PDF)
    return tenant


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def library(tenant: FakeTenant, clock: FakeClock) -> Iterator[Library]:
    with running_library(tenant, MemoryStore(), clock) as library:
        yield library


SETTINGS = usual_settings(uid=1000, gid=100)


@pytest.fixture
def mounted(library: Library, clock: FakeClock) -> InvoiceFilesystem:
    """An adapter whose mount point leads back to it, as that of a real mount does."""
    return adapter_that_is_looked_at(InvoiceFilesystem, library, clock)


def adapter_that_is_looked_at(
    kind: type[InvoiceFilesystem], library: Library, clock: FakeClock
) -> InvoiceFilesystem:
    def stat(path: str) -> None:
        adapter("getattr", path)

    adapter = kind(library, SETTINGS, clock, stat, on_ready=lambda: None)
    return adapter


@pytest.fixture
def detached(library: Library, clock: FakeClock) -> InvoiceFilesystem:
    """An adapter whose mount point leads nowhere, as after a lazy unmount."""
    return InvoiceFilesystem(library, SETTINGS, clock, lambda _: None, on_ready=lambda: None)


def errno_when(adapter: InvoiceFilesystem, operation: str, *arguments: object) -> int | None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 # the errno is what the tests compare
        adapter(operation, *arguments)
    return raised.value.errno


# Errors.


def domain_exceptions() -> list[type[InvoicefsError]]:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass)]
    return [
        each
        for each in classes
        if issubclass(each, InvoicefsError) and not issubclass(each, UserError)
    ]


@pytest.mark.parametrize("kind", domain_exceptions())
def test_every_exception_of_the_domain_has_an_errno(kind: type[InvoicefsError]) -> None:
    groups = {InvoicefsError, errors.NoAnswer, Refusal}
    assert kind in groups or any(each in ERRNO for each in kind.__mro__)


def test_the_nearest_class_decides_the_errno() -> None:
    assert errno_of(errors.Unauthenticated("401")) == errno.EACCES
    assert errno_of(errors.ServerTimedOut("504")) == errno.ETIMEDOUT
    assert errno_of(InvoicefsError("of no kind")) == errno.EIO


@pytest.mark.parametrize("error", [ValueError("of our own"), OSError(), OSError(None, "no errno")])
def test_anything_unexpected_is_an_io_error_with_one_traceback(
    mounted: InvoiceFilesystem,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(library, "lookup", fail)

    assert errno_when(mounted, "getattr", PATH) == errno.EIO
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_probing_for_a_name_leaves_no_line_in_the_log(
    mounted: InvoiceFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    assert errno_when(mounted, "getattr", "/.Trash") == errno.ENOENT
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/{}", "/system/{}", "/{}/a.pdf"])
def test_a_name_that_is_too_long_leaves_no_line_in_the_log(
    mounted: InvoiceFilesystem, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    assert errno_when(mounted, "getattr", path.format("x" * 256)) == errno.ENAMETOOLONG
    assert caplog.records == []


def test_an_invoice_that_cannot_be_opened_is_named_in_the_log(
    mounted: InvoiceFilesystem, tenant: FakeTenant, caplog: pytest.LogCaptureFixture
) -> None:
    tenant.fail("pdf", NotFound("the server answered 404"))

    assert errno_when(mounted, "open", PATH, os.O_RDONLY) == errno.ENOENT
    assert [record.getMessage() for record in caplog.records] == [
        f"{PATH}: the server answered 404 (ENOENT)"
    ]


@pytest.mark.parametrize(
    "operation",
    [
        "chmod",
        "chown",
        "create",
        "link",
        "mkdir",
        "mknod",
        "rename",
        "rmdir",
        "symlink",
        "truncate",
        "unlink",
        "utimens",
        "write",
    ],
)
def test_whatever_would_change_something_is_refused(
    mounted: InvoiceFilesystem, operation: str
) -> None:
    assert errno_when(mounted, operation, PATH) == errno.EROFS


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC])
def test_opening_for_writing_is_refused(mounted: InvoiceFilesystem, flags: int) -> None:
    assert errno_when(mounted, "open", PATH, flags) == errno.EROFS


@pytest.mark.parametrize("operation", ["access", "flush", "getxattr", "listxattr", "lock", "ioctl"])
def test_what_costs_upcalls_for_nothing_is_not_there(
    mounted: InvoiceFilesystem, operation: str
) -> None:
    assert getattr(mounted, operation, None) is None


def test_each_operation_is_a_line_of_the_most_talkative_log(
    mounted: InvoiceFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    handle = mounted("open", PATH, os.O_RDONLY)
    mounted("read", None, 5, 0, handle)

    lines = [each.getMessage() for each in caplog.records if each.levelno == logging.DEBUG]
    assert lines == [f"open of {PATH}", f"getattr of {PATH}", "read of an open file"]


# Files and directories.


def test_a_file_is_read_by_slices_of_its_content(mounted: InvoiceFilesystem) -> None:
    handle = mounted("open", PATH, os.O_RDONLY)

    assert mounted("read", None, 5, 0, handle) == PDF[:5]
    assert mounted("read", None, 100, 5, handle) == PDF[5:]
    assert mounted("read", None, 100, len(PDF), handle) == b""
    mounted("release", None, handle)


@pytest.mark.parametrize("operation", ["read", "getattr"])
def test_a_handle_is_gone_when_it_is_released(mounted: InvoiceFilesystem, operation: str) -> None:
    handle = mounted("open", PATH, os.O_RDONLY)
    mounted("release", None, handle)

    arguments = (None, 5, 0, handle) if operation == "read" else (None, handle)
    assert errno_when(mounted, operation, *arguments) == errno.EBADF


def test_a_handle_of_a_directory_is_none_of_a_file(mounted: InvoiceFilesystem) -> None:
    directory = mounted("opendir", "/system")
    file = mounted("open", PATH, os.O_RDONLY)

    assert errno_when(mounted, "read", None, 5, 0, directory) == errno.EBADF
    assert errno_when(mounted, "readdir", None, file) == errno.EBADF


def test_a_directory_is_listed_with_inodes_and_types(mounted: InvoiceFilesystem) -> None:
    handle = mounted("opendir", "/system")

    entries = {name: attributes for name, attributes, _ in mounted("readdir", None, handle)}

    assert list(entries) == [".", "..", "a.pdf"]
    assert entries["a.pdf"] == {"st_ino": INVOICE.inode, "st_mode": stat.S_IFREG}
    assert all(attributes["st_ino"] for attributes in entries.values())


def test_owner_group_and_mode_are_those_of_the_mount(mounted: InvoiceFilesystem) -> None:
    file, directory = mounted("getattr", PATH), mounted("getattr", "/system")

    assert (file["st_uid"], file["st_gid"]) == (1000, 100)
    assert file["st_mode"] == stat.S_IFREG | 0o444
    assert directory["st_mode"] == stat.S_IFDIR | 0o755


# Extended attributes.


@pytest.fixture
def describing(library: Library, clock: FakeClock) -> InvoiceFilesystem:
    return adapter_that_is_looked_at(XattrFilesystem, library, clock)


def attributes_of(adapter: InvoiceFilesystem, path: str) -> dict[str, bytes]:
    return {name: adapter("getxattr", path, name) for name in adapter("listxattr", path)}


def test_extended_attributes_tell_what_is_known_and_make_no_call(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(
        replace(INVOICE, status="paid", amount="12345", currency="EUR", active=True), b"%PDF-1.4"
    )
    describing("getattr", PATH)
    tenant.take_calls()

    assert attributes_of(describing, PATH) == {
        "user.invoicefs.status": b"paid",
        "user.invoicefs.amount": b"12345",
        "user.invoicefs.currency": b"EUR",
        "user.invoicefs.active": b"true",
        "user.invoicefs.period_start": b"2026-01-01T00:00:00Z",
        "user.invoicefs.period_end": b"2026-02-01T00:00:00Z",
    }
    assert tenant.take_calls() == []


def test_the_digest_is_known_while_the_content_is(
    describing: InvoiceFilesystem, tenant: FakeTenant, clock: FakeClock
) -> None:
    tenant.bill(replace(INVOICE, active=True))
    name = "user.invoicefs.sha256"
    assert errno_when(describing, "getxattr", PATH, name) == errno.ENODATA

    handle = describing("open", PATH, os.O_RDONLY)
    digest = hashlib.sha256(PDF).hexdigest().encode()
    assert attributes_of(describing, PATH)[name] == digest
    clock.advance(ACTIVE_TTL_S)
    assert describing("getxattr", PATH, name) == digest
    describing("release", None, handle)
    assert errno_when(describing, "getxattr", PATH, name) == errno.ENODATA


def test_the_reason_of_a_failed_open_answers_by_name_until_an_open_succeeds(
    describing: InvoiceFilesystem, tenant: FakeTenant, clock: FakeClock
) -> None:
    name = "user.invoicefs.error"
    assert errno_when(describing, "getxattr", PATH, name) == errno.ENODATA

    tenant.fail("pdf", NotFound("the server answered 404"))
    assert errno_when(describing, "open", PATH, os.O_RDONLY) == errno.ENOENT
    assert describing("getxattr", PATH, name) == b"the server answered 404"
    assert name not in describing("listxattr", PATH)

    tenant.mend()
    clock.advance(FAILURE_MEMORY_S)
    describing("open", PATH, os.O_RDONLY)
    assert errno_when(describing, "getxattr", PATH, name) == errno.ENODATA


@pytest.mark.parametrize("kind", [errors.Denied, errors.Busy, errors.Unreachable])
def test_the_reason_of_any_failed_open_outlasts_the_opens_of_others(
    describing: InvoiceFilesystem, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    tenant.bill(replace(INVOICE, name="other"))
    tenant.fail("pdf system/a", kind("not now: \ud800"))
    assert errno_when(describing, "open", PATH, os.O_RDONLY) == errno_of(kind(""))
    describing("open", "/system/other.pdf", os.O_RDONLY)

    assert describing("getxattr", PATH, "user.invoicefs.error") == b"not now: \\ud800"


def test_the_reason_of_a_failed_open_is_the_value_of_no_other_attribute(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.fail("pdf", NotFound("the server answered 404"))
    assert errno_when(describing, "open", PATH, os.O_RDONLY) == errno.ENOENT

    assert errno_when(describing, "getxattr", PATH, "security.selinux") == errno.ENODATA
    assert describing("getxattr", PATH, "user.invoicefs.active") == b"false"


def test_a_bug_is_no_reason_that_is_told(describing: InvoiceFilesystem, tenant: FakeTenant) -> None:
    tenant.fail("pdf", ValueError("of our own"))
    assert errno_when(describing, "open", PATH, os.O_RDONLY) == errno.EIO

    assert errno_when(describing, "getxattr", PATH, "user.invoicefs.error") == errno.ENODATA


def test_an_open_invoice_keeps_its_attributes_whatever_the_listing_says(
    describing: InvoiceFilesystem, tenant: FakeTenant, clock: FakeClock
) -> None:
    active = tenant.bill(replace(INVOICE, active=True, amount="1"))
    describing("open", PATH, os.O_RDONLY)
    as_opened = attributes_of(describing, PATH)
    assert as_opened["user.invoicefs.amount"] == b"1"

    changed = tenant.bill(replace(active, amount="2"))
    clock.advance(LIST_TTL_S)
    describing("opendir", "/system")
    assert attributes_of(describing, PATH) == as_opened

    tenant.bill(replace(INVOICE, name="other"))
    tenant.withdraw(changed)
    clock.advance(LIST_TTL_S)
    describing("opendir", "/system")
    assert attributes_of(describing, PATH) == as_opened


def test_attributes_are_told_where_the_namespaces_cannot_be_listed(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.fail("namespaces", errors.Denied("no"))
    describing("getattr", PATH)

    assert describing("getxattr", PATH, "user.invoicefs.active") == b"false"


def test_attributes_are_told_in_a_namespace_with_an_odd_name(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(replace(INVOICE, namespace="a/b"))
    describing("opendir", "/")
    describing("getattr", "/a%2Fb/a.pdf")

    assert describing("getxattr", "/a%2Fb/a.pdf", "user.invoicefs.active") == b"false"


def test_what_the_api_leaves_out_is_no_attribute(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(Invoice("system", "bare"))
    describing("getattr", "/system/bare.pdf")

    assert describing("listxattr", "/system/bare.pdf") == [
        "user.invoicefs.status",
        "user.invoicefs.active",
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (PATH, "security.selinux"),
        (PATH, "system.posix_acl_access"),
        (PATH, "user.invoicefs.surprise"),
        (PATH, "user.invoicefs."),
        ("/system", "user.invoicefs.status"),
        ("/", "user.invoicefs.status"),
        ("/system/none.pdf", "user.invoicefs.status"),
        ("/none/a.pdf", "user.invoicefs.error"),
    ],
)
def test_any_other_attribute_is_not_there_and_leaves_no_line_in_the_log(
    describing: InvoiceFilesystem, caplog: pytest.LogCaptureFixture, path: str, name: str
) -> None:
    describing("getattr", PATH)
    assert errno_when(describing, "getxattr", path, name) == errno.ENODATA
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/", "/system", "/none", "/none/a.pdf", "/system/none.pdf"])
def test_what_is_no_invoice_has_no_attributes(describing: InvoiceFilesystem, path: str) -> None:
    assert describing("listxattr", path) == []


@pytest.mark.parametrize("operation", ["access", "flush", "lock", "ioctl"])
def test_attributes_bring_no_other_upcalls(describing: InvoiceFilesystem, operation: str) -> None:
    assert getattr(describing, operation, None) is None


@pytest.mark.parametrize("operation", ["setxattr", "removexattr"])
def test_attributes_cannot_be_changed(describing: InvoiceFilesystem, operation: str) -> None:
    name = "user.invoicefs.status"
    assert errno_when(describing, operation, PATH, name, b"", 0) == errno.EROFS


def test_of_an_unlisted_invoice_the_digest_is_known(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.fail("namespaces", Denied("403"))
    tenant.fail("list", Denied("403"))
    describing("getattr", PATH)

    digest = hashlib.sha256(PDF).hexdigest().encode()
    assert attributes_of(describing, PATH) == {"user.invoicefs.sha256": digest}
    assert attributes_of(describing, "/system/b.pdf") == {}


def test_a_value_is_cut_to_what_a_value_can_be(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(replace(INVOICE, amount="1" * 70_000))
    describing("getattr", PATH)

    assert describing("getxattr", PATH, "user.invoicefs.amount") == b"1" * 65_536


def test_a_value_holds_whatever_the_server_sent(
    describing: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(replace(INVOICE, amount="\ud800", currency="\u20ac"))
    describing("getattr", PATH)

    assert describing("getxattr", PATH, "user.invoicefs.amount") == b"\\ud800"
    assert describing("getxattr", PATH, "user.invoicefs.currency") == "\u20ac".encode()


# The size that the kernel knows.


def test_the_kernel_is_told_the_true_size_before_an_open_ends(mounted: InvoiceFilesystem) -> None:
    assert mounted("getattr", PATH)["st_size"] == MAX_PDF_SIZE_BYTES

    mounted("open", PATH, os.O_RDONLY)

    assert mounted._sizes._was_told(PATH, len(PDF))


def test_a_lookup_waits_for_no_download_and_the_stat_after_it_does(
    tenant: FakeTenant, clock: FakeClock
) -> None:
    with running_library(tenant, MemoryStore(), clock, fetch=Fetch.ON_STAT) as library:
        eager = adapter_that_is_looked_at(InvoiceFilesystem, library, clock)
        assert eager("getattr", PATH)["st_size"] == MAX_PDF_SIZE_BYTES
        assert eager("getattr", PATH)["st_size"] == len(PDF)

        tenant.bill(replace(INVOICE, amount="7"), PDF + PDF)
        clock.advance(LIST_TTL_S)
        assert eager("getattr", PATH)["st_size"] == MAX_PDF_SIZE_BYTES
        assert eager("getattr", PATH)["st_size"] == 2 * len(PDF)


def test_a_kernel_that_cannot_be_told_has_to_ask_again(detached: InvoiceFilesystem) -> None:
    detached("getattr", PATH)

    assert errno_when(detached, "open", PATH, os.O_RDONLY) == errno.ESTALE

    assert detached("getattr", PATH)["st_size"] == len(PDF)
    handle = detached("open", PATH, os.O_RDONLY)
    assert detached("read", None, 100, 0, handle) == PDF


def test_an_open_that_is_put_off_leaves_no_line_in_the_log(
    detached: InvoiceFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    detached("getattr", PATH)
    assert errno_when(detached, "open", PATH, os.O_RDONLY) == errno.ESTALE
    assert caplog.records == []


def test_an_open_that_is_put_off_pins_nothing(
    detached: InvoiceFilesystem, library: Library
) -> None:
    detached("getattr", PATH)
    assert errno_when(detached, "open", PATH, os.O_RDONLY) == errno.ESTALE

    opened = library.open(PATH)
    library.release(opened)

    with pytest.raises(KeyError):
        library.release(opened)


def test_an_open_that_fails_after_the_download_holds_on_to_nothing(
    library: Library, clock: FakeClock, tenant: FakeTenant
) -> None:
    def stat(_: str) -> None:
        raise RuntimeError("a defect")

    broken = InvoiceFilesystem(library, SETTINGS, clock, stat, on_ready=lambda: None)
    assert errno_when(broken, "open", PATH, os.O_RDONLY) == errno.EIO
    changed = tenant.bill(replace(INVOICE, amount="7"), PDF + b" more")
    clock.advance(LIST_TTL_S)
    mended = adapter_that_is_looked_at(InvoiceFilesystem, library, clock)
    handle = mended("open", PATH, os.O_RDONLY)
    assert mended("read", PATH, 1000, 0, handle) == tenant.pdf(changed)
