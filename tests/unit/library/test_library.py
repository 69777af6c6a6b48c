"""The library by its paths, on a real store: attributes, names, errors and requests."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invoicefs.clock import NS_PER_S
from invoicefs.errors import (
    Denied,
    InvoicefsError,
    NotFound,
    RateLimited,
    ServerFault,
    TimedOut,
    Unreachable,
    UnusableResponse,
)
from invoicefs.library.directories import DIRECTORY_BYTES
from invoicefs.library.library import Library
from invoicefs.library.results import Description, OpenInvoice
from invoicefs.model import ROOT_INODE, Invoice
from tests.support.fake_tenant import FakeTenant, pdf_of
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    ACTIVE_TTL_S,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    MAX_PDF_SIZE_BYTES,
    TIMEOUT_S,
    CrowdClock,
    crowd,
    running_library,
)
from tests.support.store_folder import OpenStore, database, opening

JANUARY = Invoice(
    "system",
    "2026-01",
    status="paid",
    amount="100",
    period_start="2026-01-01T00:00:00Z",
    period_end="2026-02-01T00:00:00Z",
)
FEBRUARY = replace(
    JANUARY,
    name="2026-02",
    period_start="2026-02-01T00:00:00Z",
    period_end="2026-03-01T00:00:00Z",
)
MARCH = replace(FEBRUARY, name="2026-03", active=True, period_start="2026-03-01T00:00:00Z")
JANUARY_PATH = "/system/2026-01.pdf"
MARCH_PATH = "/system/2026-03.pdf"
JANUARY_MTIME_NS = 1_769_904_000 * NS_PER_S
MARCH_MTIME_NS = 1_772_323_200 * NS_PER_S

Mount = Callable[..., Library]


@pytest.fixture
def tenant() -> FakeTenant:
    """Two namespaces; `system` has two final invoices and a draft, newest first."""
    tenant = FakeTenant()
    for invoice in (MARCH, FEBRUARY, JANUARY):
        tenant.bill(invoice, pdf_of(invoice.name, 1000))
    tenant.open_namespace("empty")
    return tenant


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def open_store(folder: Path) -> Iterator[OpenStore]:
    with opening(folder) as open_:
        yield open_


@pytest.fixture
def mount(tenant: FakeTenant, open_store: OpenStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant, as often as a test needs, each time with its own store."""
    with ExitStack() as stack:

        def mount(**changes: Any) -> Library:
            running = running_library(tenant, open_store(), clock, **changes)
            return stack.enter_context(running)

        yield mount


@pytest.fixture
def library(mount: Mount) -> Library:
    return mount()


def names(library: Library, path: str) -> list[str]:
    return [entry.file_name for entry in library.directory(path).entries]


@contextmanager
def opened(library: Library, path: str) -> Iterator[OpenInvoice]:
    opened = library.open(path)
    try:
        yield opened
    finally:
        library.release(opened)


def read(library: Library, path: str) -> bytes:
    """Open, read and close."""
    with opened(library, path) as invoice:
        return invoice.content.pdf[:]


def list_and_stat_everything(library: Library) -> None:
    """Do what ``ls -lR`` and ``find`` do."""
    for path in ["/", *(f"/{name}" for name in names(library, "/"))]:
        library.attributes(path)
        for name in names(library, path):
            library.attributes(f"{path.rstrip('/')}/{name}")
    library.usage()


# Requests.


def test_ls_l_of_the_mount_point_lists_no_namespace(library: Library, tenant: FakeTenant) -> None:
    for name in names(library, "/"):
        library.attributes(f"/{name}")
    library.attributes("/")
    assert tenant.take_requests() == ["namespaces"]


def test_list_and_stat_of_everything_lists_once_and_downloads_nothing(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    for _ in range(3):
        list_and_stat_everything(library)
        clock.advance(LIST_TTL_S / 4)
    assert sorted(tenant.take_requests()) == ["list empty", "list system", "namespaces"]
    clock.advance(LIST_TTL_S)
    list_and_stat_everything(library)
    assert sorted(tenant.take_requests()) == ["list empty", "list system", "namespaces"]


def test_every_operation_works_from_short_lived_threads(
    library: Library, tenant: FakeTenant
) -> None:
    """Each FUSE callback may run in a new thread."""

    def use() -> None:
        list_and_stat_everything(library)
        assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
        assert read(library, MARCH_PATH) == tenant.pdf(MARCH)

    for _ in range(3):
        crowd(use, threads=4)
    downloads = [call for call in tenant.take_requests() if call.startswith("pdf")]
    assert sorted(downloads) == ["pdf system/2026-01", "pdf system/2026-03"]


# Attributes.


def test_directories_have_the_attributes_of_directories(library: Library) -> None:
    names(library, "/")
    root, system = library.attributes("/"), library.attributes("/system")
    assert root.inode == ROOT_INODE
    assert root.links == 2 + 2
    assert system.links == 2
    for attributes in (root, system):
        assert attributes.is_directory
        assert attributes.size_bytes == DIRECTORY_BYTES
        assert attributes.blocks * 512 == DIRECTORY_BYTES


def test_files_have_the_attributes_of_files(library: Library) -> None:
    attributes = library.attributes(JANUARY_PATH)
    assert not attributes.is_directory
    assert attributes.links == 1
    assert (attributes.size_bytes, attributes.blocks) == (MAX_PDF_SIZE_BYTES, 0)
    read(library, JANUARY_PATH)
    attributes = library.attributes(JANUARY_PATH)
    assert (attributes.size_bytes, attributes.blocks) == (1000, 2)


def test_directory_entries_are_ordered_by_inode(library: Library, tenant: FakeTenant) -> None:
    for month in range(1, 13):
        start = f"2025-{month:02}-01T00:00:00Z"
        tenant.bill(replace(JANUARY, name=f"{13 - month}", period_start=start))
    for path in ("/", "/system"):
        entries, has_directories = library.directory(path)
        inodes = [entry.inode for entry in entries]
        assert inodes == sorted(inodes)
        assert len(set(inodes)) == len(inodes) > 1
        for entry in entries:
            attributes = library.attributes(f"{path.rstrip('/')}/{entry.file_name}")
            assert (entry.inode, has_directories) == (attributes.inode, attributes.is_directory)
    expected = [f"{13 - month}.pdf" for month in range(1, 13)]
    expected += ["2026-01.pdf", "2026-02.pdf", "2026-03.pdf"]
    assert names(library, "/system") == expected


def test_inodes_are_the_same_after_a_remount(mount: Mount) -> None:
    before, after = mount(), mount()
    for path in ("/", "/system"):
        assert before.directory(path) == after.directory(path)


def test_the_mtime_of_a_directory_is_that_of_its_newest_invoice(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    library = mount()
    names(library, "/")
    tenant.take_requests()
    assert library.attributes("/system").mtime_ns == 0
    assert tenant.take_requests() == []
    names(library, "/system")
    names(library, "/empty")
    assert library.attributes("/system").mtime_ns == MARCH_MTIME_NS
    assert library.attributes("/empty").mtime_ns == 0
    remounted = mount()
    assert remounted.attributes("/system").mtime_ns == MARCH_MTIME_NS
    read(library, MARCH_PATH)
    clock.advance(LIST_TTL_S)
    tenant.bill(replace(MARCH, amount="7"), pdf_of("changed"))
    read(library, MARCH_PATH)
    assert library.attributes("/system").mtime_ns == clock.wall_ns()


def test_usage_is_the_sum_of_known_sizes(mount: Mount, tenant: FakeTenant) -> None:
    library = mount()
    list_and_stat_everything(library)
    assert library.usage().files == 1 + 2 + 3
    assert library.usage().size_bytes == 0
    read(library, JANUARY_PATH)
    assert library.usage().size_bytes == 1000
    remounted = mount()
    tenant.take_requests()
    assert remounted.usage().files == 1 + 2
    assert tenant.take_requests() == []


ODD_NAMES = ["a/b", "100%", "bell\a", "Größe-🧾", "lone \udc80", "x" * 400, "é" * 200, "dot.pdf"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_an_odd_name_can_be_listed_and_opened(mount: Mount, tenant: FakeTenant, name: str) -> None:
    odd = tenant.bill(replace(JANUARY, namespace="odd", name=name))
    for library in (mount(), mount()):
        (entry,) = library.directory("/odd").entries
        assert "/" not in entry.file_name
        assert len(entry.file_name.encode()) <= 255
        path = f"/odd/{entry.file_name}"
        assert library.attributes(path).inode == entry.inode
        assert read(library, path) == tenant.pdf(odd)
    downloads = [call for call in tenant.take_requests() if call.startswith("pdf")]
    assert downloads == [f"pdf odd/{name}"]


# Missing names.


@pytest.mark.parametrize(
    "path",
    [
        "/.Trash",
        "/autorun.inf",
        "/2026-01.pdf",
        "/System",
        "/system/.hidden",
        "/system/.2026-01.pdf",
        "/system/2026-01",
        "/system/2026-01.PDF",
        "/system/a\udcff.pdf",
        "/system/2026-01.pdf/deeper",
        "/system/a/b/c",
    ],
    ids=ascii,
)
def test_impossible_paths_make_no_request(library: Library, tenant: FakeTenant, path: str) -> None:
    list_and_stat_everything(library)
    tenant.take_requests()
    for operation in (library.attributes, library.open, library.directory):
        with pytest.raises(NotFound):
            operation(path)
    assert tenant.take_requests() == []


@pytest.mark.parametrize("path", ["/", "/system", "/empty"])
def test_a_directory_cannot_be_opened_as_a_file(library: Library, path: str) -> None:
    with pytest.raises(NotFound):
        library.open(path)


def test_a_file_cannot_be_listed(library: Library) -> None:
    with pytest.raises(NotFound):
        library.directory(JANUARY_PATH)


# Where listing is forbidden.


@pytest.fixture
def _forbidden(tenant: FakeTenant) -> None:
    tenant.fail("namespaces", Denied("no"))
    tenant.fail("list", Denied("no"))


@pytest.mark.usefixtures("_forbidden")
def test_a_forbidden_listing_raises_denied(library: Library) -> None:
    with pytest.raises(Denied):
        library.list_namespaces()
    for path in ("/", "/system"):
        with pytest.raises(Denied):
            library.directory(path)
    assert library.attributes("/").is_directory
    assert library.attributes("/system").is_directory
    assert library.attributes("/anything-at-all").is_directory


@pytest.mark.usefixtures("_forbidden")
def test_an_invoice_can_be_opened_by_name_where_listing_is_forbidden(
    mount: Mount, tenant: FakeTenant
) -> None:
    library = mount()
    assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
    assert tenant.take_requests() == ["namespaces", "list system", "pdf system/2026-01"]
    assert library.attributes(JANUARY_PATH).size_bytes == 1000
    assert tenant.take_requests() == []
    remounted = mount()
    assert remounted.attributes(JANUARY_PATH).size_bytes == 1000
    assert read(remounted, JANUARY_PATH) == tenant.pdf(JANUARY)
    assert tenant.take_requests() == ["namespaces", "list system"]


@pytest.mark.usefixtures("_forbidden")
def test_the_first_stat_downloads_the_pdf_where_listing_is_forbidden(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    attributes = library.attributes(JANUARY_PATH)
    assert (attributes.size_bytes, attributes.blocks) == (1000, 2)
    assert tenant.take_requests()[-1] == "pdf system/2026-01"
    read(library, JANUARY_PATH)
    assert tenant.take_requests() == []
    clock.advance(ACTIVE_TTL_S)  # nothing says that it is final
    attributes = library.attributes(JANUARY_PATH)
    assert (attributes.size_bytes, attributes.blocks) == (MAX_PDF_SIZE_BYTES, 0)
    assert tenant.take_requests() == ["namespaces", "list system"]


@pytest.mark.usefixtures("_forbidden")
def test_a_missing_name_is_requested_once_where_listing_is_forbidden(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    for _ in range(3):
        for operation in (library.attributes, library.open):
            with pytest.raises(NotFound):
                operation("/system/none.pdf")
    assert tenant.take_requests() == ["namespaces", "list system", "pdf system/none"]
    clock.advance(FAILURE_MEMORY_S)
    with pytest.raises(NotFound):
        library.attributes("/system/none.pdf")
    assert tenant.take_requests() == ["pdf system/none"]


@pytest.mark.usefixtures("_forbidden")
@pytest.mark.parametrize("failure", [Unreachable, ServerFault, RateLimited, UnusableResponse])
def test_a_failure_is_not_absence_where_listing_is_forbidden(
    library: Library, tenant: FakeTenant, failure: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", failure("away"))
    with pytest.raises(failure):
        library.attributes(JANUARY_PATH)


@pytest.mark.parametrize("is_remount", [False, True])
def test_a_cached_final_invoice_is_served_after_listing_is_forbidden(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, is_remount: bool
) -> None:
    library = mount()
    list_and_stat_everything(library)
    pdf = read(library, JANUARY_PATH)
    as_listed = library.attributes(JANUARY_PATH)
    clock.advance(365 * 86_400)
    tenant.fail("list", Denied("no"))
    tenant.take_requests()
    library = mount() if is_remount else library
    assert library.attributes(JANUARY_PATH) == as_listed
    assert read(library, JANUARY_PATH) == pdf
    assert tenant.take_requests() == ["list system"]


# Failures.


def test_a_hanging_download_times_out_at_the_deadline(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    names(library, "/system")
    with ThreadPoolExecutor(1) as thread, tenant.blocking("pdf") as gate:
        hanging = thread.submit(library.open, JANUARY_PATH)
        gate.await_request()
        clock.advance(TIMEOUT_S)
        assert isinstance(hanging.exception(20), TimedOut)


def test_a_hanging_listing_falls_back_to_the_last_good_one(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    list_and_stat_everything(library)
    clock.advance(LIST_TTL_S)
    with ThreadPoolExecutor(1) as thread, tenant.blocking("list") as gate:
        hanging = thread.submit(names, library, "/system")
        gate.await_request()
        clock.advance(TIMEOUT_S)
        assert hanging.result(20) == ["2026-01.pdf", "2026-02.pdf", "2026-03.pdf"]


def test_an_operation_has_one_deadline_for_all_its_requests(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.during("namespaces", lambda: clock.advance(5))
    tenant.during("list", lambda: clock.advance(10))
    read(library, JANUARY_PATH)
    assert tenant.deadlines_left_s == {
        "namespaces": TIMEOUT_S,
        "list system": TIMEOUT_S - 5,
        "pdf system/2026-01": TIMEOUT_S - 15,
    }


# The store.


def overwrite(folder: Path, cache: str) -> None:
    path = database(folder, cache)
    for database_file in (path, *path.parent.glob("*-wal")):
        with database_file.open("r+b") as file:
            file.write(b"\xa5" * database_file.stat().st_size)


@pytest.mark.parametrize("cache", ["pdf", "meta"])
def test_a_store_that_breaks_in_use_only_causes_more_requests(
    library: Library, tenant: FakeTenant, folder: Path, cache: str
) -> None:
    list_and_stat_everything(library)
    read(library, JANUARY_PATH)
    overwrite(folder, cache)
    for _ in range(2):
        assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
        assert read(library, MARCH_PATH) == tenant.pdf(MARCH)
        assert library.attributes(JANUARY_PATH).size_bytes == 1000
    tenant.take_requests()
    read(library, JANUARY_PATH)
    assert tenant.take_requests() == []


def test_a_recreated_store_receives_what_is_in_memory(
    library: Library, mount: Mount, tenant: FakeTenant, folder: Path
) -> None:
    list_and_stat_everything(library)
    read(library, JANUARY_PATH)
    overwrite(folder, "meta")
    read(library, MARCH_PATH)  # detects the corruption
    tenant.fail("namespaces", ServerFault("down"))
    tenant.fail("list", ServerFault("down"))
    later = mount()
    assert set(names(later, "/")) == {"system", "empty"}
    assert names(later, "/system") == names(library, "/system")
    assert later.attributes(MARCH_PATH) == library.attributes(MARCH_PATH)


@pytest.mark.parametrize("is_downloaded", [False, True])
def test_a_recorded_mtime_counts_once_the_store_is_back(
    tenant: FakeTenant, clock: CrowdClock, is_downloaded: bool
) -> None:
    undated = tenant.bill(Invoice("system", "undated", status="paid"), pdf_of("undated"))
    path, store = "/system/undated.pdf", MemoryStore()
    with running_library(tenant, store, clock) as library:
        list_and_stat_everything(library)
        if is_downloaded:
            read(library, path)
        first = library.attributes(path).mtime_ns
    clock.advance(1000)
    store.finds = store.keeps = False
    with running_library(tenant, store, clock) as library:
        list_and_stat_everything(library)
        store.finds = store.keeps = True
        clock.advance(LIST_TTL_S)
        list_and_stat_everything(library)
        assert library.attributes(path).mtime_ns == first
        tenant.take_requests()
        assert read(library, path) == tenant.pdf(undated)
        assert library.attributes(path).mtime_ns == first
        assert (tenant.take_requests() == []) is is_downloaded


def test_stat_of_the_directory_of_an_open_file_makes_no_request(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """The kernel does one during an open, which would wait for the request."""
    tenant.fail("namespaces", Denied("no"))
    tenant.fail("list", Denied("no"))
    with opened(library, JANUARY_PATH):
        clock.advance(LIST_TTL_S)
        tenant.take_requests()
        assert library.attributes("/system").is_directory
        assert library.attributes(JANUARY_PATH).size_bytes == 1000
        assert tenant.take_requests() == []


def test_a_cache_smaller_than_the_invoices_only_costs_requests(
    tenant: FakeTenant, open_store: OpenStore, clock: CrowdClock
) -> None:
    paths = []
    for number in range(20):
        invoice = replace(JANUARY, name=f"large-{number}")
        tenant.bill(invoice, pdf_of(invoice.name, 200_000))
        paths.append(f"/system/large-{number}.pdf")
    with running_library(tenant, open_store(1024 * 1024), clock) as library:
        for _ in range(2):
            for path in paths:
                assert len(read(library, path)) == 200_000
                assert library.attributes(path).mtime_ns == JANUARY_MTIME_NS
        assert {library.attributes(path).size_bytes for path in paths} == {200_000}
        tenant.take_requests()
        read(library, paths[-1])
        assert tenant.take_requests() == []


def test_hidden_invoices_have_no_description(mount: Mount, tenant: FakeTenant) -> None:
    tenant.bill(replace(FEBRUARY, status="issued"))
    library = mount(statuses=frozenset({"paid"}))
    names(library, "/system")
    assert library.description(JANUARY_PATH).invoice
    assert library.description("/system/2026-02.pdf") == Description(None, None)
