"""The library by its paths, on a real store: who asks whom, how often, and what is seen of it."""

import threading
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
    Unauthenticated,
    Unreachable,
    UnusableAnswer,
)
from invoicefs.library.directories import DIRECTORY_BYTES
from invoicefs.library.library import Description, Library, OpenInvoice
from invoicefs.library.namespaces import UNLISTED_RECHECK_S
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
from tests.support.store_folder import OpenStore, database, opening, put_values, stored_values

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
def clock() -> CrowdClock:
    return CrowdClock()


@pytest.fixture
def tenant() -> FakeTenant:
    """Two namespaces; `system` has two final invoices and an active one, newest first."""
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
    """Mount the tenant, as often as a test wants, each time with a store of its own."""
    with ExitStack() as stack:

        def mount(**changes: Any) -> Library:
            running = running_library(tenant, open_store(), clock, **changes)
            return stack.enter_context(running)

        yield mount


@pytest.fixture
def library(mount: Mount) -> Library:
    return mount()


def names(library: Library, path: str) -> list[str]:
    return [entry.name for entry in library.directory(path)]


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


def look_around(library: Library) -> None:
    """What ``ls -lR`` and ``find`` do."""
    for path in ["/", *(f"/{name}" for name in names(library, "/"))]:
        library.attributes(path)
        for name in names(library, path):
            library.attributes(f"{path.rstrip('/')}/{name}")
    library.usage()


# Who makes which calls.


def test_mounting_makes_one_call(library: Library, tenant: FakeTenant) -> None:
    assert set(library.first_contact()) == {"system", "empty"}
    assert tenant.take_calls() == ["namespaces"]
    names(library, "/")
    assert tenant.take_calls() == []


def test_ls_l_of_the_mount_point_lists_no_namespace(library: Library, tenant: FakeTenant) -> None:
    for name in names(library, "/"):
        library.attributes(f"/{name}")
    library.attributes("/")
    assert tenant.take_calls() == ["namespaces"]


def test_looking_around_lists_once_and_downloads_nothing(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    for _ in range(3):
        look_around(library)
        clock.advance(LIST_TTL_S / 4)
    assert sorted(tenant.take_calls()) == ["list empty", "list system", "namespaces"]
    clock.advance(LIST_TTL_S)
    look_around(library)
    assert sorted(tenant.take_calls()) == ["list empty", "list system", "namespaces"]


@pytest.mark.parametrize("look", ["directory", "attributes", "open"])
def test_one_look_at_a_namespace_costs_its_list_once(
    library: Library, tenant: FakeTenant, look: str
) -> None:
    names(library, "/")
    tenant.take_calls()
    if look == "directory":
        names(library, "/system")
    elif look == "attributes":
        library.attributes(JANUARY_PATH)
    else:
        read(library, JANUARY_PATH)
    made = tenant.take_calls()
    assert made == ["list system", "pdf system/2026-01"][: len(made)]
    assert len(made) == (2 if look == "open" else 1)
    look_around(library)
    assert tenant.take_calls() == ["list empty"]


def test_the_first_open_makes_one_call_and_later_ones_none(
    mount: Mount, tenant: FakeTenant
) -> None:
    library = mount()
    look_around(library)
    tenant.take_calls()
    for _ in range(3):
        assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
    assert tenant.take_calls() == ["pdf system/2026-01"]
    remounted = mount()
    look_around(remounted)
    tenant.take_calls()
    assert read(remounted, JANUARY_PATH) == tenant.pdf(JANUARY)
    assert tenant.take_calls() == []


def test_a_copy_of_everything_costs_one_call_per_invoice(mount: Mount, tenant: FakeTenant) -> None:
    for number in range(2):
        library = mount()
        for namespace in names(library, "/"):
            for name in names(library, f"/{namespace}"):
                read(library, f"/{namespace}/{name}")
        downloads = [call for call in tenant.take_calls() if call.startswith("pdf")]
        assert len(downloads) == (3 if number == 0 else 0)


def test_many_programs_at_once_cost_no_more_than_one(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    names(library, "/")
    names(library, "/system")
    tenant.take_calls()
    with ThreadPoolExecutor(8) as threads, tenant.holding("pdf") as gate:
        reads = [threads.submit(read, library, JANUARY_PATH) for _ in range(8)]
        clock.await_crowd(8)
        gate.open()
        assert {each.result(20) for each in reads} == {tenant.pdf(JANUARY)}
    assert tenant.take_calls() == ["pdf system/2026-01"]


def test_everything_may_be_done_from_threads_that_do_not_stay(
    library: Library, tenant: FakeTenant
) -> None:
    """As FUSE callbacks do: every one runs in a thread of its own."""

    def use() -> None:
        look_around(library)
        assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
        assert read(library, MARCH_PATH) == tenant.pdf(MARCH)

    for _ in range(3):
        crowd(use, threads=4)
    downloads = [call for call in tenant.take_calls() if call.startswith("pdf")]
    assert sorted(downloads) == ["pdf system/2026-01", "pdf system/2026-03"]


def test_two_mounts_on_one_store_do_not_download_twice(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    one, other = mount(), mount()
    look_around(one)
    look_around(other)
    tenant.take_calls()
    for first, second in ((one, other), (other, one)):
        for path in (JANUARY_PATH, MARCH_PATH):
            assert read(first, path) == read(second, path)
            assert first.attributes(path) == second.attributes(path)
        clock.advance(ACTIVE_TTL_S)
    downloads = [call for call in tenant.take_calls() if call.startswith("pdf")]
    assert downloads == ["pdf system/2026-01", "pdf system/2026-03", "pdf system/2026-03"]


# What it looks like.


def test_directories_look_like_directories(library: Library) -> None:
    names(library, "/")
    root, system = library.attributes("/"), library.attributes("/system")
    assert root.inode == ROOT_INODE
    assert root.links == 2 + 2
    assert system.links == 2
    for attributes in (root, system):
        assert attributes.is_directory
        assert attributes.size_bytes == DIRECTORY_BYTES
        assert attributes.blocks * 512 == DIRECTORY_BYTES


def test_files_look_like_files(library: Library) -> None:
    attributes = library.attributes(JANUARY_PATH)
    assert not attributes.is_directory
    assert attributes.links == 1
    assert (attributes.size_bytes, attributes.blocks) == (MAX_PDF_SIZE_BYTES, 0)
    read(library, JANUARY_PATH)
    attributes = library.attributes(JANUARY_PATH)
    assert (attributes.size_bytes, attributes.blocks) == (1000, 2)


def test_an_open_file_is_exact_at_once(library: Library) -> None:
    with opened(library, JANUARY_PATH) as january:
        attributes = library.open_attributes(january)
        assert attributes == library.attributes(JANUARY_PATH)
        assert (attributes.size_bytes, attributes.blocks) == (1000, 2)
        assert attributes.mtime_ns == JANUARY_MTIME_NS


def test_entries_are_in_the_order_of_their_inodes(library: Library, tenant: FakeTenant) -> None:
    for month in range(1, 13):
        start = f"2025-{month:02}-01T00:00:00Z"
        tenant.bill(replace(JANUARY, name=f"{13 - month}", period_start=start))
    for path in ("/", "/system"):
        entries = library.directory(path)
        inodes = [entry.inode for entry in entries]
        assert inodes == sorted(inodes)
        assert len(set(inodes)) == len(inodes) > 1
        for entry in entries:
            attributes = library.attributes(f"{path.rstrip('/')}/{entry.name}")
            assert (entry.inode, entry.is_directory) == (attributes.inode, attributes.is_directory)
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
    tenant.take_calls()
    assert library.attributes("/system").mtime_ns == 0
    assert tenant.take_calls() == []
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


def test_usage_adds_up_what_is_known(mount: Mount, tenant: FakeTenant) -> None:
    library = mount()
    look_around(library)
    assert library.usage().files == 1 + 2 + 3
    assert library.usage().size_bytes == 0
    read(library, JANUARY_PATH)
    assert library.usage().size_bytes == 1000
    remounted = mount()
    tenant.take_calls()
    assert remounted.usage().files == 1 + 2
    assert tenant.take_calls() == []


ODD_NAMES = ["a/b", "100%", "bell\a", "Größe-🧾", "lone \udc80", "x" * 400, "é" * 200, "dot.pdf"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_an_odd_name_is_listed_looked_at_and_opened(
    mount: Mount, tenant: FakeTenant, name: str
) -> None:
    odd = tenant.bill(replace(JANUARY, namespace="odd", name=name))
    for library in (mount(), mount()):
        (entry,) = library.directory("/odd")
        assert "/" not in entry.name
        assert len(entry.name.encode()) <= 255
        path = f"/odd/{entry.name}"
        assert library.attributes(path).inode == entry.inode
        assert read(library, path) == tenant.pdf(odd)
    downloads = [call for call in tenant.take_calls() if call.startswith("pdf")]
    assert downloads == [f"pdf odd/{name}"]


# Names that are not there.


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
def test_impossible_paths_cost_no_call(library: Library, tenant: FakeTenant, path: str) -> None:
    look_around(library)
    tenant.take_calls()
    for look in (library.attributes, library.open, library.directory):
        with pytest.raises(NotFound):
            look(path)
    assert tenant.take_calls() == []


@pytest.mark.parametrize("path", ["/", "/system", "/empty"])
def test_a_directory_cannot_be_opened_as_a_file(library: Library, path: str) -> None:
    with pytest.raises(NotFound):
        library.open(path)


def test_a_file_cannot_be_listed(library: Library) -> None:
    with pytest.raises(NotFound):
        library.directory(JANUARY_PATH)


@pytest.mark.parametrize(("path", "call"), [("/system/x.pdf", "list system"), ("/x", "namespaces")])
def test_unlisted_names_are_looked_for_once_per_moment(
    library: Library, tenant: FakeTenant, clock: CrowdClock, path: str, call: str
) -> None:
    look_around(library)
    clock.advance(UNLISTED_RECHECK_S)
    tenant.take_calls()
    for _ in range(3):
        with pytest.raises(NotFound):
            library.attributes(path)
    assert tenant.take_calls() == [call]
    clock.advance(UNLISTED_RECHECK_S)
    with pytest.raises(NotFound):
        library.attributes(path)
    assert tenant.take_calls() == [call]


def test_a_new_invoice_can_be_opened_before_the_list_is_old(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    look_around(library)
    clock.advance(UNLISTED_RECHECK_S)
    new = tenant.bill(replace(JANUARY, name="new"))
    assert read(library, "/system/new.pdf") == tenant.pdf(new)
    assert "new.pdf" in names(library, "/system")


# Where listing is forbidden.


@pytest.fixture
def _forbidden(tenant: FakeTenant) -> None:
    tenant.fail("namespaces", Denied("no"))
    tenant.fail("list", Denied("no"))


@pytest.mark.usefixtures("_forbidden")
def test_listing_is_reported_as_forbidden(library: Library) -> None:
    with pytest.raises(Denied):
        library.first_contact()
    for path in ("/", "/system"):
        with pytest.raises(Denied):
            library.directory(path)
    assert library.attributes("/").is_directory
    assert library.attributes("/system").is_directory
    assert library.attributes("/anything-at-all").is_directory


@pytest.mark.usefixtures("_forbidden")
def test_an_invoice_is_opened_by_its_name_where_listing_is_forbidden(
    mount: Mount, tenant: FakeTenant
) -> None:
    library = mount()
    assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
    assert tenant.take_calls() == ["namespaces", "list system", "pdf system/2026-01"]
    assert library.attributes(JANUARY_PATH).size_bytes == 1000
    assert tenant.take_calls() == []
    remounted = mount()
    assert remounted.attributes(JANUARY_PATH).size_bytes == 1000
    assert read(remounted, JANUARY_PATH) == tenant.pdf(JANUARY)
    assert tenant.take_calls() == ["namespaces", "list system"]


@pytest.mark.usefixtures("_forbidden")
def test_the_first_stat_makes_the_pdf_call_where_listing_is_forbidden(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    attributes = library.attributes(JANUARY_PATH)
    assert (attributes.size_bytes, attributes.blocks) == (1000, 2)
    assert tenant.take_calls()[-1] == "pdf system/2026-01"
    read(library, JANUARY_PATH)
    assert tenant.take_calls() == []
    clock.advance(ACTIVE_TTL_S)  # nothing says that it is final
    attributes = library.attributes(JANUARY_PATH)
    assert (attributes.size_bytes, attributes.blocks) == (MAX_PDF_SIZE_BYTES, 0)
    assert tenant.take_calls() == ["namespaces", "list system"]


@pytest.mark.usefixtures("_forbidden")
def test_a_miss_is_remembered_for_a_moment_where_listing_is_forbidden(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    for _ in range(3):
        for look in (library.attributes, library.open):
            with pytest.raises(NotFound):
                look("/system/none.pdf")
    assert tenant.take_calls() == ["namespaces", "list system", "pdf system/none"]
    clock.advance(FAILURE_MEMORY_S)
    with pytest.raises(NotFound):
        library.attributes("/system/none.pdf")
    assert tenant.take_calls() == ["pdf system/none"]


@pytest.mark.usefixtures("_forbidden")
@pytest.mark.parametrize("failure", [Unreachable, ServerFault, RateLimited, UnusableAnswer])
def test_a_failure_is_not_absence_where_listing_is_forbidden(
    library: Library, tenant: FakeTenant, failure: type[InvoicefsError]
) -> None:
    tenant.fail("pdf", failure("away"))
    with pytest.raises(failure):
        library.attributes(JANUARY_PATH)


@pytest.mark.usefixtures("_forbidden")
@pytest.mark.parametrize(
    "path", ["/system/.hidden.pdf", "/system/a.txt", "/.Trash", "/.Trash/a.pdf"]
)
def test_impossible_names_cost_no_pdf_call_where_listing_is_forbidden(
    library: Library, tenant: FakeTenant, path: str
) -> None:
    with pytest.raises(NotFound):
        library.attributes(path)
    assert not [call for call in tenant.take_calls() if call.startswith("pdf")]


@pytest.mark.parametrize("is_remount", [False, True])
def test_a_stored_final_invoice_needs_no_call_where_listing_is_forbidden_now(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, is_remount: bool
) -> None:
    library = mount()
    look_around(library)
    pdf = read(library, JANUARY_PATH)
    as_listed = library.attributes(JANUARY_PATH)
    clock.advance(365 * 86_400)
    tenant.fail("list", Denied("no"))
    tenant.take_calls()
    library = mount() if is_remount else library
    assert library.attributes(JANUARY_PATH) == as_listed
    assert read(library, JANUARY_PATH) == pdf
    assert tenant.take_calls() == ["list system"]


def test_401_is_not_forbidden_listing(library: Library, tenant: FakeTenant) -> None:
    tenant.fail("namespaces", Unauthenticated("no"))
    tenant.fail("list", Unauthenticated("no"))
    for look in (library.attributes, library.open):
        with pytest.raises(Unauthenticated):
            look(JANUARY_PATH)
    assert not [call for call in tenant.take_calls() if call.startswith("pdf")]


# Failures.


@pytest.mark.parametrize("is_remount", [False, True])
@pytest.mark.parametrize(
    "failure", [Unreachable, TimedOut, ServerFault, UnusableAnswer, RateLimited, NotFound]
)
def test_everything_stays_while_the_api_is_away(
    mount: Mount,
    tenant: FakeTenant,
    clock: CrowdClock,
    failure: type[InvoicefsError],
    is_remount: bool,
) -> None:
    library = mount()
    look_around(library)
    shown = {path: library.directory(path) for path in ("/", "/system", "/empty")}
    pdf = read(library, JANUARY_PATH)
    clock.advance(LIST_TTL_S)
    for kind in ("namespaces", "list", "pdf"):
        tenant.fail(kind, failure("away"))
    library = mount() if is_remount else library
    for _ in range(2):
        assert {path: library.directory(path) for path in shown} == shown
        assert read(library, JANUARY_PATH) == pdf
        assert library.attributes(JANUARY_PATH).size_bytes == 1000
        assert library.attributes("/system/2026-02.pdf").size_bytes == MAX_PDF_SIZE_BYTES
        clock.advance(LIST_TTL_S)


def test_a_rate_limit_of_downloads_holds_up_no_list(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    names(library, "/system")
    tenant.fail("pdf", RateLimited("slow down", retry_after_s=2 * LIST_TTL_S))
    with pytest.raises(RateLimited):
        library.open(JANUARY_PATH)
    clock.advance(LIST_TTL_S)
    tenant.take_calls()
    names(library, "/system")
    assert tenant.take_calls() == ["list system"]


def test_an_open_of_a_lost_invoice_fails_and_it_stays_listed(
    library: Library, tenant: FakeTenant
) -> None:
    """The API has PDFs of paid invoices only."""
    tenant.fail("pdf system/2026-03", NotFound("the server answered 404"))
    with pytest.raises(NotFound):
        library.open(MARCH_PATH)
    assert library.attributes(MARCH_PATH).size_bytes == MAX_PDF_SIZE_BYTES
    assert "2026-03.pdf" in names(library, "/system")


def test_a_rsync_of_a_tenant_that_answers_nothing_deletes_nothing(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """Every directory shows what it showed, or fails with something else than absence."""
    look_around(mount())
    clock.advance(LIST_TTL_S)
    tenant.bill(replace(FEBRUARY, namespace="other"))
    tenant.invoices_of.clear()
    library = mount()
    assert set(names(library, "/")) == {"system", "empty"}
    assert names(library, "/system") == ["2026-01.pdf", "2026-02.pdf", "2026-03.pdf"]


def test_a_hanging_call_ends_at_the_deadline(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    names(library, "/system")
    with ThreadPoolExecutor(1) as thread, tenant.holding("pdf") as gate:
        hanging = thread.submit(library.open, JANUARY_PATH)
        gate.await_call()
        clock.advance(TIMEOUT_S)
        assert isinstance(hanging.exception(20), TimedOut)


def test_a_hanging_list_ends_with_the_last_good_one(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    look_around(library)
    clock.advance(LIST_TTL_S)
    with ThreadPoolExecutor(1) as thread, tenant.holding("list") as gate:
        hanging = thread.submit(names, library, "/system")
        gate.await_call()
        clock.advance(TIMEOUT_S)
        assert hanging.result(20) == ["2026-01.pdf", "2026-02.pdf", "2026-03.pdf"]


def test_an_operation_has_one_deadline_for_all_of_its_calls(
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


# Open files.


def test_an_open_file_stays_what_it_is(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    with opened(library, MARCH_PATH) as march:
        before = library.open_attributes(march)
        clock.advance(ACTIVE_TTL_S)
        changed = tenant.bill(replace(MARCH, amount="7"), pdf_of("changed", 5000))
        names(library, "/system")
        tenant.take_calls()
        with opened(library, MARCH_PATH) as again:
            assert again.content is march.content
            assert library.open_attributes(again) == before
        assert library.attributes(MARCH_PATH) == before
        assert tenant.take_calls() == []
    after = library.attributes(MARCH_PATH)
    assert after.size_bytes == 5000
    assert after.mtime_ns >= before.mtime_ns + NS_PER_S
    assert read(library, MARCH_PATH) == tenant.pdf(changed)


def test_an_open_file_needs_no_list(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    with opened(library, JANUARY_PATH):
        clock.advance(LIST_TTL_S)
        tenant.take_calls()
        tenant.fail("list", Denied("no"))
        read(library, JANUARY_PATH)
        assert library.attributes(JANUARY_PATH).size_bytes == 1000
        assert tenant.take_calls() == []


def test_an_invoice_that_was_withdrawn_stays_readable_while_it_is_open(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    with opened(library, MARCH_PATH) as march:
        tenant.withdraw(MARCH)
        clock.advance(LIST_TTL_S)
        assert "2026-03.pdf" not in names(library, "/system")
        assert read(library, MARCH_PATH) == march.content.pdf
    with pytest.raises(NotFound):
        library.attributes(MARCH_PATH)


def test_nothing_that_happens_to_the_store_changes_an_open_file(
    library: Library, tenant: FakeTenant, folder: Path
) -> None:
    with opened(library, JANUARY_PATH) as january:
        for row, value in stored_values(folder, "pdf").items():
            put_values(folder, "pdf", {row: bytes(len(value))})
        assert january.content.pdf == tenant.pdf(JANUARY)
        assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)


# The store.


def test_a_damaged_copy_is_never_served(
    library: Library, tenant: FakeTenant, folder: Path, clock: CrowdClock
) -> None:
    pdf = read(library, JANUARY_PATH)
    for row, value in stored_values(folder, "pdf").items():
        put_values(folder, "pdf", {row: value[:-1] + b"x"})
    tenant.fail("pdf", Unreachable("away"))
    with pytest.raises(Unreachable):
        library.open(JANUARY_PATH)
    tenant.mend()
    clock.advance(FAILURE_MEMORY_S)
    tenant.take_calls()
    for _ in range(2):
        assert read(library, JANUARY_PATH) == pdf
    assert tenant.take_calls() == ["pdf system/2026-01"]
    assert library.attributes(JANUARY_PATH).mtime_ns == JANUARY_MTIME_NS


def keep_nothing(folder: Path) -> None:
    """Put folders where the databases are to be."""
    for cache in ("pdf-1", "meta-1"):
        (folder / cache / "cache.db").mkdir(parents=True)


def test_a_store_that_keeps_nothing_costs_calls_only(
    mount: Mount, tenant: FakeTenant, folder: Path, clock: CrowdClock
) -> None:
    keep_nothing(folder)
    library = mount()
    look_around(library)
    with opened(library, JANUARY_PATH) as january:
        assert read(library, JANUARY_PATH) == january.content.pdf == tenant.pdf(JANUARY)
    assert library.attributes(JANUARY_PATH).size_bytes == 1000
    tenant.take_calls()
    assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
    assert tenant.take_calls() == ["pdf system/2026-01"]
    clock.advance(LIST_TTL_S)
    tenant.fail("list", ServerFault("down"))
    assert names(library, "/system") == ["2026-01.pdf", "2026-02.pdf", "2026-03.pdf"]


def overwrite(folder: Path, cache: str) -> None:
    path = database(folder, cache)
    for each in (path, *path.parent.glob("*-wal")):
        with each.open("r+b") as file:
            file.write(b"\xa5" * each.stat().st_size)


@pytest.mark.parametrize("cache", ["pdf", "meta"])
def test_a_store_that_breaks_in_use_costs_calls_only(
    library: Library, tenant: FakeTenant, folder: Path, cache: str
) -> None:
    look_around(library)
    read(library, JANUARY_PATH)
    overwrite(folder, cache)
    for _ in range(2):
        assert read(library, JANUARY_PATH) == tenant.pdf(JANUARY)
        assert read(library, MARCH_PATH) == tenant.pdf(MARCH)
        assert library.attributes(JANUARY_PATH).size_bytes == 1000
    tenant.take_calls()
    read(library, JANUARY_PATH)
    assert tenant.take_calls() == []


def test_a_store_that_begins_anew_is_given_again_what_is_known(
    library: Library, mount: Mount, tenant: FakeTenant, folder: Path
) -> None:
    look_around(library)
    read(library, JANUARY_PATH)
    overwrite(folder, "meta")
    read(library, MARCH_PATH)  # meets the damage
    tenant.fail("namespaces", ServerFault("down"))
    tenant.fail("list", ServerFault("down"))
    later = mount()
    assert set(names(later, "/")) == {"system", "empty"}
    assert names(later, "/system") == names(library, "/system")
    assert later.attributes(MARCH_PATH) == library.attributes(MARCH_PATH)


@pytest.mark.parametrize("is_downloaded", [False, True])
def test_a_date_that_the_store_remembers_counts_as_soon_as_it_is_back(
    tenant: FakeTenant, clock: CrowdClock, is_downloaded: bool
) -> None:
    undated = tenant.bill(Invoice("system", "undated", status="paid"), pdf_of("undated"))
    path, store = "/system/undated.pdf", MemoryStore()
    with running_library(tenant, store, clock) as library:
        look_around(library)
        if is_downloaded:
            read(library, path)
        first = library.attributes(path).mtime_ns
    clock.advance(1000)
    store.finds = store.keeps = False
    with running_library(tenant, store, clock) as library:
        look_around(library)
        store.finds = store.keeps = True
        clock.advance(LIST_TTL_S)
        look_around(library)
        assert library.attributes(path).mtime_ns == first
        tenant.take_calls()
        assert read(library, path) == tenant.pdf(undated)
        assert library.attributes(path).mtime_ns == first
        assert (tenant.take_calls() == []) is is_downloaded


def test_a_look_at_the_folder_of_an_open_invoice_makes_no_call(
    library: Library, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """It would hold up the open, which has the kernel look."""
    tenant.fail("namespaces", Denied("no"))
    tenant.fail("list", Denied("no"))
    with opened(library, JANUARY_PATH):
        clock.advance(LIST_TTL_S)
        tenant.take_calls()
        assert library.attributes("/system").is_directory
        assert library.attributes(JANUARY_PATH).size_bytes == 1000
        assert tenant.take_calls() == []


def test_a_cache_smaller_than_the_invoices_costs_calls_only(
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
        tenant.take_calls()
        read(library, paths[-1])
        assert tenant.take_calls() == []


def test_a_view_limits_what_is_shown(mount: Mount, tenant: FakeTenant) -> None:
    tenant.bill(replace(FEBRUARY, status="issued"))
    library = mount(namespaces=("system",), statuses=frozenset({"paid"}))
    assert names(library, "/") == ["system"]
    assert names(library, "/system") == ["2026-01.pdf", "2026-03.pdf"]
    for path in ("/empty", "/system/2026-02.pdf"):
        with pytest.raises(NotFound):
            library.attributes(path)
    assert library.usage().files == 1 + 1 + 2
    assert tenant.take_calls() == ["list system"]


def test_what_a_view_does_not_show_has_no_attributes(mount: Mount, tenant: FakeTenant) -> None:
    tenant.bill(replace(FEBRUARY, status="issued"))
    library = mount(statuses=frozenset({"paid"}))
    names(library, "/system")
    assert library.description(JANUARY_PATH).invoice
    assert library.description("/system/2026-02.pdf") == Description(None, None)


def test_threads_that_look_while_invoices_are_issued_see_whole_ones(
    mount: Mount, tenant: FakeTenant
) -> None:
    library = mount(list_ttl_s=0)
    turns = iter(range(4))
    issued = threading.Event()

    def use() -> None:
        if next(turns) == 0:
            for number in range(20):
                tenant.invoices_of["system"] = {
                    **tenant.invoices_of["system"],
                    f"new-{number}": replace(JANUARY, name=f"new-{number}"),
                }
            issued.set()
            return
        while not issued.is_set():
            for name in names(library, "/system"):
                assert library.attributes(f"/system/{name}").size_bytes > 0

    crowd(use, threads=4)
    assert len(names(library, "/system")) == 23
