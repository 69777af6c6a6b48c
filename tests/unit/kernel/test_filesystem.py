"""The adapter without FUSE: paths, handles, extended attributes and errors."""

import errno
import hashlib
import inspect
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from invoicefs import errors
from invoicefs.errors import Denied, InvoicefsError, NotFound, Refusal, UserError
from invoicefs.kernel.errnos import ERRNO, errno_of
from invoicefs.kernel.filesystem import InvoiceFilesystem, XattrFilesystem
from invoicefs.kernel.recent_requests import ON_STAT_ENTRY_TIMEOUT_S
from invoicefs.library.library import Library
from invoicefs.model import Invoice
from invoicefs.settings import Fetch
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import FakeTenant
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
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
CALLER = 4711  # a thread ID


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


@pytest.fixture
def mounted(library: Library, clock: FakeClock) -> InvoiceFilesystem:
    """Return an adapter whose mount point leads back to it, as in a real mount."""
    return connected_adapter(InvoiceFilesystem, library, clock)


def connected_adapter(
    kind: type[InvoiceFilesystem], library: Library, clock: FakeClock, **changes: Any
) -> InvoiceFilesystem:
    settings = usual_settings(**changes)

    def stat(path: str) -> bool:
        adapter("getattr", path)
        return True

    adapter = kind(library, settings, clock, stat, lambda: CALLER, on_ready=lambda: None)
    return adapter


@pytest.fixture
def detached(library: Library, clock: FakeClock) -> InvoiceFilesystem:
    """Return an adapter whose mount point leads nowhere, as after a lazy unmount."""
    return InvoiceFilesystem(
        library, usual_settings(), clock, lambda _: False, lambda: CALLER, on_ready=lambda: None
    )


def opened(adapter: InvoiceFilesystem, path: str) -> int:
    """Open a path for reading, and return the handle."""
    handle: int = adapter("open", path, os.O_RDONLY).handle
    return handle


def errno_when(adapter: InvoiceFilesystem, operation: str, *arguments: object) -> int | None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 # the errno is what the tests compare
        adapter(operation, *arguments)
    return raised.value.errno


# Errors


def domain_exceptions() -> list[type[InvoicefsError]]:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    return [
        kind
        for kind in classes
        if issubclass(kind, InvoicefsError) and not issubclass(kind, UserError)
    ]


@pytest.mark.parametrize("kind", domain_exceptions())
def test_every_domain_error_has_an_errno(kind: type[InvoicefsError]) -> None:
    groups = {InvoicefsError, errors.NoResponse, Refusal}
    assert kind in groups or any(parent in ERRNO for parent in kind.__mro__)


def test_the_errno_is_that_of_the_nearest_class() -> None:
    assert errno_of(errors.Unauthenticated("401")) == errno.EACCES
    assert errno_of(errors.ServerTimedOut("504")) == errno.ETIMEDOUT
    assert errno_of(InvoicefsError("of no kind")) == errno.EIO


@pytest.mark.parametrize("error", [ValueError("of our own"), OSError(), OSError(None, "no errno")])
def test_an_unexpected_error_is_eio_with_one_traceback(
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


def test_the_end_of_an_operation_for_a_killed_program_is_not_logged(
    mounted: InvoiceFilesystem, tenant: FakeTenant, caplog: pytest.LogCaptureFixture
) -> None:
    tenant.fail("pdf", errors.CallerKilled())

    assert errno_when(mounted, "open", PATH, os.O_RDONLY) == errno.EINTR
    assert caplog.records == []


def test_a_lookup_of_a_missing_name_is_not_logged(
    mounted: InvoiceFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    assert errno_when(mounted, "getattr", "/.Trash") == errno.ENOENT
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/{}", "/system/{}", "/{}/a.pdf"])
def test_a_name_that_is_too_long_is_not_logged(
    mounted: InvoiceFilesystem, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    assert errno_when(mounted, "getattr", path.format("x" * 256)) == errno.ENAMETOOLONG
    assert caplog.records == []


def test_a_failed_open_is_logged_with_its_path(
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
def test_every_change_is_refused(mounted: InvoiceFilesystem, operation: str) -> None:
    assert errno_when(mounted, operation, PATH) == errno.EROFS


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC])
def test_opening_for_writing_is_refused(mounted: InvoiceFilesystem, flags: int) -> None:
    assert errno_when(mounted, "open", PATH, flags) == errno.EROFS


@pytest.mark.parametrize("operation", ["flush", "getxattr", "listxattr", "lock", "ioctl"])
def test_operations_that_only_cost_upcalls_are_not_implemented(
    mounted: InvoiceFilesystem, operation: str
) -> None:
    assert getattr(mounted, operation, None) is None


def test_every_operation_is_logged_at_debug_level(
    mounted: InvoiceFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    handle = opened(mounted, PATH)
    mounted("read", None, 5, 0, handle)

    lines = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.DEBUG]
    assert lines == [f"open of {PATH}", f"getattr of {PATH}", "read of an open file"]


# Files and directories


def test_a_read_returns_a_slice_of_the_content(mounted: InvoiceFilesystem) -> None:
    handle = opened(mounted, PATH)

    assert mounted("read", None, 5, 0, handle) == PDF[:5]
    assert mounted("read", None, 100, 5, handle) == PDF[5:]
    assert mounted("read", None, 100, len(PDF), handle) == b""
    mounted("release", None, handle)


@pytest.mark.parametrize("operation", ["read", "getattr"])
def test_a_released_handle_is_invalid(mounted: InvoiceFilesystem, operation: str) -> None:
    handle = opened(mounted, PATH)
    mounted("release", None, handle)

    arguments = (None, 5, 0, handle) if operation == "read" else (None, handle)
    assert errno_when(mounted, operation, *arguments) == errno.EBADF


def test_directory_and_file_handles_are_not_interchangeable(mounted: InvoiceFilesystem) -> None:
    directory = mounted("opendir", "/system")
    file = opened(mounted, PATH)

    assert errno_when(mounted, "read", None, 5, 0, directory) == errno.EBADF
    assert errno_when(mounted, "readdir", None, file) == errno.EBADF


def test_a_directory_is_listed_with_inodes_and_types(mounted: InvoiceFilesystem) -> None:
    handle = mounted("opendir", "/system")

    entries = list(mounted("readdir", None, handle))

    assert [name for name, _, _ in entries] == [b".", b"..", b"a.pdf"]
    assert entries[2] == (b"a.pdf", INVOICE.inode, stat.S_IFREG)
    assert all(inode for _, inode, _ in entries)


@pytest.mark.parametrize("mode", [os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.X_OK])
def test_only_directories_may_be_executed(mounted: InvoiceFilesystem, mode: int) -> None:
    for directory in ("/", "/system"):
        mounted("access", directory, mode)
    if mode & os.X_OK:
        assert errno_when(mounted, "access", PATH, mode) == errno.EACCES
    else:
        mounted("access", PATH, mode)


# Extended attributes


@pytest.fixture
def with_xattrs(library: Library, clock: FakeClock) -> InvoiceFilesystem:
    return connected_adapter(XattrFilesystem, library, clock)


def attributes_of(adapter: InvoiceFilesystem, path: str) -> dict[str, bytes]:
    return {name: adapter("getxattr", path, name) for name in adapter("listxattr", path)}


def test_extended_attributes_show_the_listing_without_a_request(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(
        replace(INVOICE, status="paid", amount="12345", currency="EUR", active=True), b"%PDF-1.4"
    )
    with_xattrs("getattr", PATH)
    tenant.take_requests()

    assert attributes_of(with_xattrs, PATH) == {
        "user.invoicefs.status": b"paid",
        "user.invoicefs.amount": b"12345",
        "user.invoicefs.currency": b"EUR",
        "user.invoicefs.active": b"true",
        "user.invoicefs.period_start": b"2026-01-01T00:00:00Z",
        "user.invoicefs.period_end": b"2026-02-01T00:00:00Z",
    }
    assert tenant.take_requests() == []


def test_the_error_attribute_is_readable_until_an_open_succeeds(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant, clock: FakeClock
) -> None:
    name = "user.invoicefs.error"
    assert errno_when(with_xattrs, "getxattr", PATH, name) == errno.ENODATA

    tenant.fail("pdf", NotFound("the server answered 404"))
    assert errno_when(with_xattrs, "open", PATH, os.O_RDONLY) == errno.ENOENT
    assert with_xattrs("getxattr", PATH, name) == b"the server answered 404"
    assert name not in with_xattrs("listxattr", PATH)

    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)
    with_xattrs("open", PATH, os.O_RDONLY)
    assert errno_when(with_xattrs, "getxattr", PATH, name) == errno.ENODATA


@pytest.mark.parametrize("kind", [errors.Denied, errors.Busy, errors.Unreachable])
def test_opening_another_invoice_keeps_the_error_attribute(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    tenant.bill(replace(INVOICE, name="other"))
    tenant.fail("pdf system/a", kind("not now: \ud800"))
    assert errno_when(with_xattrs, "open", PATH, os.O_RDONLY) == errno_of(kind(""))
    with_xattrs("open", "/system/other.pdf", os.O_RDONLY)

    assert with_xattrs("getxattr", PATH, "user.invoicefs.error") == b"not now: \\ud800"


def test_a_failed_open_changes_no_other_attribute(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.fail("pdf", NotFound("the server answered 404"))
    assert errno_when(with_xattrs, "open", PATH, os.O_RDONLY) == errno.ENOENT

    assert errno_when(with_xattrs, "getxattr", PATH, "security.selinux") == errno.ENODATA
    assert with_xattrs("getxattr", PATH, "user.invoicefs.active") == b"false"


def test_an_unexpected_error_is_not_shown_in_the_error_attribute(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.fail("pdf", ValueError("of our own"))
    assert errno_when(with_xattrs, "open", PATH, os.O_RDONLY) == errno.EIO

    assert errno_when(with_xattrs, "getxattr", PATH, "user.invoicefs.error") == errno.ENODATA


def test_an_open_invoice_keeps_its_attributes_when_the_listing_changes(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant, clock: FakeClock
) -> None:
    active = tenant.bill(replace(INVOICE, active=True, amount="1"))
    with_xattrs("open", PATH, os.O_RDONLY)
    as_opened = attributes_of(with_xattrs, PATH)
    assert as_opened["user.invoicefs.amount"] == b"1"

    changed = tenant.bill(replace(active, amount="2"))
    clock.advance(LIST_TTL_S)
    with_xattrs("opendir", "/system")
    assert attributes_of(with_xattrs, PATH) == as_opened

    tenant.bill(replace(INVOICE, name="other"))
    tenant.withdraw(changed)
    clock.advance(LIST_TTL_S)
    with_xattrs("opendir", "/system")
    assert attributes_of(with_xattrs, PATH) == as_opened


def test_attributes_are_shown_where_namespaces_cannot_be_listed(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.fail("namespaces", errors.Denied("no"))
    with_xattrs("getattr", PATH)

    assert with_xattrs("getxattr", PATH, "user.invoicefs.active") == b"false"


def test_attributes_are_shown_in_a_namespace_with_an_encoded_name(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(replace(INVOICE, namespace="a/b"))
    with_xattrs("opendir", "/")
    with_xattrs("getattr", "/a%2Fb/a.pdf")

    assert with_xattrs("getxattr", "/a%2Fb/a.pdf", "user.invoicefs.active") == b"false"


def test_a_field_missing_in_the_api_has_no_attribute(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(Invoice("system", "bare"))
    with_xattrs("getattr", "/system/bare.pdf")

    assert with_xattrs("listxattr", "/system/bare.pdf") == [
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
def test_an_unknown_attribute_is_enodata_and_not_logged(
    with_xattrs: InvoiceFilesystem, caplog: pytest.LogCaptureFixture, path: str, name: str
) -> None:
    with_xattrs("getattr", PATH)
    assert errno_when(with_xattrs, "getxattr", path, name) == errno.ENODATA
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/", "/system", "/none", "/none/a.pdf", "/system/none.pdf"])
def test_only_invoices_have_attributes(with_xattrs: InvoiceFilesystem, path: str) -> None:
    assert with_xattrs("listxattr", path) == []


@pytest.mark.parametrize("operation", ["flush", "lock", "ioctl"])
def test_xattr_support_adds_no_other_operations(
    with_xattrs: InvoiceFilesystem, operation: str
) -> None:
    assert getattr(with_xattrs, operation, None) is None


@pytest.mark.parametrize("operation", ["setxattr", "removexattr"])
def test_attributes_cannot_be_changed(with_xattrs: InvoiceFilesystem, operation: str) -> None:
    name = "user.invoicefs.status"
    assert errno_when(with_xattrs, operation, PATH, name, b"", 0) == errno.EROFS


def test_the_digest_of_an_unlisted_invoice_is_shown(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.fail("namespaces", Denied("403"))
    tenant.fail("list", Denied("403"))
    with_xattrs("getattr", PATH)

    digest = hashlib.sha256(PDF).hexdigest().encode()
    assert attributes_of(with_xattrs, PATH) == {"user.invoicefs.sha256": digest}
    assert attributes_of(with_xattrs, "/system/b.pdf") == {}


def test_a_value_is_cut_to_the_maximum_size(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(replace(INVOICE, amount="1" * 70_000))
    with_xattrs("getattr", PATH)

    assert with_xattrs("getxattr", PATH, "user.invoicefs.amount") == b"1" * 65_536


def test_a_value_can_have_any_characters(
    with_xattrs: InvoiceFilesystem, tenant: FakeTenant
) -> None:
    tenant.bill(replace(INVOICE, amount="\ud800", currency="\u20ac"))
    with_xattrs("getattr", PATH)

    assert with_xattrs("getxattr", PATH, "user.invoicefs.amount") == b"\\ud800"
    assert with_xattrs("getxattr", PATH, "user.invoicefs.currency") == "\u20ac".encode()


# The size that the kernel knows


def test_a_stat_waits_for_the_download_but_a_lookup_does_not(
    tenant: FakeTenant, clock: FakeClock
) -> None:
    with running_library(tenant, MemoryStore(), clock, fetch=Fetch.ON_STAT) as library:
        eager = connected_adapter(InvoiceFilesystem, library, clock, fetch=Fetch.ON_STAT)
        assert eager("getattr", PATH).size_bytes == MAX_PDF_SIZE_BYTES
        assert eager("getattr", PATH).size_bytes == len(PDF)

        tenant.bill(replace(INVOICE, amount="7"), PDF + PDF)
        clock.advance(LIST_TTL_S)
        assert eager("getattr", PATH).size_bytes == MAX_PDF_SIZE_BYTES
        assert eager("getattr", PATH).size_bytes == 2 * len(PDF)


def test_a_stat_without_a_lookup_waits_however_long_ago_the_first_lookup_was(
    tenant: FakeTenant, clock: FakeClock
) -> None:
    """Each LOOKUP lets the kernel use the name for a second, also one that verifies it."""
    with running_library(tenant, MemoryStore(), clock, fetch=Fetch.ON_STAT) as library:
        eager = connected_adapter(InvoiceFilesystem, library, clock, fetch=Fetch.ON_STAT)
        for _ in range(2):
            eager("getattr", PATH)
            clock.advance(ON_STAT_ENTRY_TIMEOUT_S)
        tenant.bill(replace(INVOICE, amount="7"), PDF + PDF)
        library.refresh("/")
        assert eager("getattr", PATH).size_bytes == 2 * len(PDF)


def test_a_stat_of_a_changed_invoice_waits_whatever_was_asked_before(
    mounted: InvoiceFilesystem, tenant: FakeTenant, clock: FakeClock
) -> None:
    """The kernel may know the name, and then sends no LOOKUP before the GETATTR."""
    mounted("release", None, opened(mounted, PATH))
    tenant.bill(replace(INVOICE, amount="7"), PDF + PDF)
    clock.advance(LIST_TTL_S)
    assert mounted("getattr", PATH).size_bytes == 2 * len(PDF)


def test_an_open_is_repeated_where_no_stat_reaches_the_mount(detached: InvoiceFilesystem) -> None:
    assert errno_when(detached, "open", PATH, os.O_RDONLY) == errno.ESTALE

    assert detached("getattr", PATH).size_bytes == len(PDF)
    opened = detached("open", PATH, os.O_RDONLY)
    assert opened.is_applied
    assert detached("read", None, 100, 0, opened.handle) == PDF
    assert detached("open", PATH, os.O_RDONLY).is_applied


def test_a_handle_bypasses_the_page_cache_if_the_kernel_looks_no_name_up(
    detached: InvoiceFilesystem,
) -> None:
    assert errno_when(detached, "open", PATH, os.O_RDONLY) == errno.ESTALE
    assert not detached("open", PATH, os.O_RDONLY).is_applied


def test_an_open_with_estale_is_not_logged(
    detached: InvoiceFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    assert errno_when(detached, "open", PATH, os.O_RDONLY) == errno.ESTALE
    assert caplog.records == []


def test_an_open_that_fails_after_the_download_pins_nothing(
    library: Library, clock: FakeClock, tenant: FakeTenant
) -> None:
    def stat(_: str) -> bool:
        raise RuntimeError("a defect")

    broken = InvoiceFilesystem(
        library, usual_settings(), clock, stat, lambda: CALLER, on_ready=lambda: None
    )
    assert errno_when(broken, "open", PATH, os.O_RDONLY) == errno.EIO
    changed = tenant.bill(replace(INVOICE, amount="7"), PDF + b" more")
    clock.advance(LIST_TTL_S)
    fixed = connected_adapter(InvoiceFilesystem, library, clock)
    handle = opened(fixed, PATH)
    assert fixed("read", PATH, 1000, 0, handle) == tenant.pdf(changed)
