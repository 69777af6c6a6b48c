"""Listings: requested rarely, and never shortened by a failure."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from invoicefs.clock import Deadline
from invoicefs.errors import (
    Denied,
    InvoicefsError,
    NotFound,
    ServerFault,
    Unauthenticated,
    Unreachable,
    UnusableResponse,
)
from invoicefs.library.listing_cache import ListingCache
from invoicefs.library.listings import Listings
from invoicefs.library.namespaces import UNLISTED_RECHECK_S, Namespaces
from invoicefs.model import Invoice, Listing, Order, Record
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from tests.support.fake_tenant import FakeTenant
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    DENIALS,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    NO_RESPONSES,
    OTHER_REFUSALS,
    CrowdClock,
    Parts,
    crowd,
    running_parts,
)

LONG_S = 10_000.0
CUT_NAME = "x" * 240 + "~0123456789.pdf"  # the form of a name that was cut to 255 bytes

failures = pytest.mark.parametrize("failure", [*NO_RESPONSES, *OTHER_REFUSALS])
denials = pytest.mark.parametrize("denial", DENIALS)
REQUEST = {"namespaces": "namespaces", "list": "list system"}
both_lists = pytest.mark.parametrize("call", ["namespaces", "list"])


class Lists:
    """The listings of one mount, requested with a distant deadline."""

    def __init__(self, parts: Parts, learn: Callable[[Listing], None] | None = None) -> None:
        self.learnt: list[Listing] = []
        settings, clock = parts.settings, parts.clock
        cache = ListingCache(
            parts.store, parts.disk, settings.statuses, learn or self.learnt.append
        )
        self.by_directory = Namespaces(
            parts.api, cache, parts.scheduler, clock, settings, parts.access
        )
        self.listings = Listings(
            parts.api, cache, self.by_directory, parts.scheduler, clock, settings, parts.access
        )
        self._clock = clock

    @property
    def deadline(self) -> Deadline:
        return Deadline.after(LONG_S, self._clock)

    def namespaces(self) -> tuple[str, ...]:
        return self.by_directory.all(self.deadline)

    def namespace(self, directory: str) -> str:
        return self.by_directory.of_directory(directory, self.deadline)

    def names(self, namespace: str = "system") -> list[str]:
        listing = self.listings.listing(namespace, self.deadline)
        return sorted(invoice.name for invoice in listing.invoices)

    def invoice(self, file_name: str, namespace: str = "system") -> Invoice:
        return self.listings.invoice(namespace, file_name, self.deadline)[0]

    def is_listed(self, file_name: str, namespace: str = "system") -> bool:
        return self.listings.invoice(namespace, file_name, self.deadline)[1]

    def use(self, call: str) -> object:
        """List namespaces or invoices, by the kind of request."""
        return self.namespaces() if call == "namespaces" else self.names()

    def refresh(self, call: str) -> None:
        """List namespaces or invoices now, by the kind of request."""
        if call == "namespaces":
            self.by_directory.refresh(self.deadline)
        else:
            self.listings.refresh("system", self.deadline)


Mount = Callable[..., Lists]


@pytest.fixture
def tenant() -> FakeTenant:
    """Two namespaces; `system` has a final invoice and a draft."""
    tenant = FakeTenant()
    tenant.open_namespace("empty")
    tenant.bill(final("old"))
    tenant.bill(draft("new"))
    return tenant


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant, as often as a test needs; all mounts share the store."""
    with ExitStack() as stack:

        def mount(learn: Callable[[Listing], None] | None = None, **changes: Any) -> Lists:
            return Lists(stack.enter_context(running_parts(tenant, store, clock, **changes)), learn)

        yield mount


def final(name: str, namespace: str = "system", status: str = "paid") -> Invoice:
    return Invoice(namespace, name, status=status, period_start="2026-01-01T00:00:00Z")


def draft(name: str, namespace: str = "system") -> Invoice:
    return Invoice(
        namespace, name, active=True, status="pending", period_start="2026-02-01T00:00:00Z"
    )


# How often listings are requested.


@both_lists
def test_a_listing_is_requested_once_per_ttl(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, call: str
) -> None:
    lists = mount()
    for _ in range(3):
        lists.use(call)
        clock.advance(LIST_TTL_S / 3 - 0.1)
    assert len(tenant.take_requests()) == 1
    clock.advance(0.3)
    lists.use(call)
    assert len(tenant.take_requests()) == 1


def test_first_contact_makes_a_request_although_the_listing_is_fresh(
    mount: Mount, tenant: FakeTenant
) -> None:
    lists = mount()
    assert lists.by_directory.list_namespaces(lists.deadline) == ("empty", "system")
    assert lists.by_directory.list_namespaces(lists.deadline) == ("empty", "system")
    assert tenant.take_requests() == ["namespaces", "namespaces"]
    lists.namespaces()
    assert tenant.take_requests() == []


@pytest.mark.parametrize("failure", [*NO_RESPONSES, *OTHER_REFUSALS, *DENIALS, NotFound])
def test_first_contact_raises_every_failure(
    mount: Mount, tenant: FakeTenant, failure: type[InvoicefsError]
) -> None:
    mount().namespaces()
    lists = mount()
    tenant.fail("namespaces", failure("away"))
    with pytest.raises(InvoicefsError, match="away"):
        lists.by_directory.list_namespaces(lists.deadline)
    assert lists.by_directory.is_known


def test_a_tenant_is_known_once_it_was_listed(mount: Mount, tenant: FakeTenant) -> None:
    lists = mount()
    assert not lists.by_directory.is_known
    assert tenant.take_requests() == []
    lists.namespaces()
    assert lists.by_directory.is_known
    assert mount().by_directory.is_known


def test_counting_makes_no_request(mount: Mount, tenant: FakeTenant) -> None:
    before = mount()
    assert before.by_directory.count == 0
    assert before.listings.invoice_count() == 0
    before.namespaces()
    before.names()
    after = mount()
    tenant.take_requests()
    assert after.by_directory.count == 2
    assert after.listings.last_listing("system").by_file_name.keys() == {"old.pdf", "new.pdf"}
    assert after.listings.last_listing("elsewhere") == Listing()
    assert after.listings.invoice_count() == 2
    assert tenant.take_requests() == []


@both_lists
def test_concurrent_listings_make_one_request(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, call: str
) -> None:
    lists = mount()
    with ThreadPoolExecutor(8) as threads, tenant.blocking(call) as gate:
        futures = [threads.submit(lists.use, call) for _ in range(8)]
        clock.await_crowd(8)
        gate.open()
        assert len({str(future.result(20)) for future in futures}) == 1
    assert len(tenant.take_requests()) == 1


def use_before_the_next_request_is_queued(
    lists: Lists, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """List the same as another thread could, just before the next request is queued."""
    fetch = Scheduler.fetch

    def late(scheduler: Scheduler, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(Scheduler, "fetch", fetch)
        lists.use(call)
        return scheduler.fetch(*arguments, **options)

    monkeypatch.setattr(Scheduler, "fetch", late)


@both_lists
def test_a_listing_that_arrives_before_the_request_is_queued_is_used(
    mount: Mount, tenant: FakeTenant, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    lists = mount()
    use_before_the_next_request_is_queued(lists, call, monkeypatch)
    lists.use(call)
    assert len(tenant.take_requests()) == 1


def test_the_order_of_namespaces_never_waits_for_the_disk(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-ahead looks for the next namespace while it has a lock."""
    before, listed = mount(), mount()
    listed.namespaces()

    def hang(*_: object) -> None:
        pytest.fail("the disk is used")

    monkeypatch.setattr(DiskThreads, "run", hang)
    assert before.by_directory.neighbour("empty", Order.NAME, 1) is None
    assert listed.by_directory.neighbour("empty", Order.NAME, 1) == "system"


def test_a_slow_listing_does_not_block_others(mount: Mount, tenant: FakeTenant) -> None:
    lists = mount()
    with ThreadPoolExecutor(1) as thread, tenant.blocking("list empty") as gate:
        slow = thread.submit(lists.names, "empty")
        gate.await_request()
        assert lists.names("system") == ["new", "old"]
        assert lists.namespaces() == ("empty", "system")
        gate.open()
        assert slow.result(20) == []


# HTTP caches on the way: see `http_caches`.


@both_lists
def test_a_list_may_come_from_an_http_cache_but_a_refreshed_one_does_not(
    mount: Mount, tenant: FakeTenant, call: str
) -> None:
    lists = mount()
    lists.use(call)
    assert not tenant.bypassed_caches[REQUEST[call]]
    lists.refresh(call)
    assert tenant.bypassed_caches[REQUEST[call]]


@both_lists
def test_a_refresh_during_a_request_that_a_cache_may_answer_makes_its_own(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, call: str
) -> None:
    lists = mount()
    with ThreadPoolExecutor(2) as threads, tenant.blocking(call) as gate:
        shown = threads.submit(lists.use, call)
        gate.await_request()
        refreshed = threads.submit(lists.refresh, call)
        clock.await_crowd(2)
        gate.open()
        for future in (shown, refreshed):
            future.result(20)

    assert len(tenant.take_requests()) == 2
    assert tenant.bypassed_caches[REQUEST[call]]


@both_lists
def test_a_list_that_a_cache_may_have_answered_just_before_a_refresh_does_not_replace_it(
    mount: Mount, tenant: FakeTenant, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    lists = mount()
    use_before_the_next_request_is_queued(lists, call, monkeypatch)
    lists.refresh(call)
    assert len(tenant.take_requests()) == 2
    assert tenant.bypassed_caches[REQUEST[call]]


def test_the_lookup_of_a_new_invoice_bypasses_http_caches(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """A program that was just told of it gets no ENOENT because of what another one listed."""

    def bypasses(lists: Lists, file_name: str) -> bool:
        with suppress(NotFound):
            lists.invoice(file_name)
        return tenant.bypassed_caches["list system"]

    running = mount()
    assert bypasses(running, "later.pdf")  # there is no list
    clock.advance(LIST_TTL_S)
    assert not bypasses(running, "old.pdf")
    clock.advance(UNLISTED_RECHECK_S)
    assert bypasses(running, "later.pdf")
    clock.advance(LIST_TTL_S)
    assert not bypasses(mount(), "old.pdf")
    clock.advance(LIST_TTL_S)
    assert not bypasses(running, ".Trash.pdf")  # no invoice
    clock.advance(LIST_TTL_S)
    assert bypasses(running, "later.pdf")


def test_the_lookup_of_a_new_namespace_bypasses_http_caches(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    lists = mount()
    lists.namespaces()
    clock.advance(UNLISTED_RECHECK_S)
    tenant.open_namespace("later")
    assert lists.namespace("later") == "later"
    assert tenant.bypassed_caches["namespaces"]


@both_lists
@pytest.mark.parametrize("failure", [*NO_RESPONSES, *OTHER_REFUSALS, *DENIALS])
def test_a_list_bypasses_http_caches_after_a_failure_that_they_could_contradict(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, call: str, failure: type[InvoicefsError]
) -> None:
    """They would repeat an unusable response, or have a list from before a denial."""
    lists = mount()
    tenant.fail(call, failure("no"))
    with pytest.raises(failure):
        lists.use(call)
    assert not tenant.bypassed_caches[REQUEST[call]]
    tenant.fix()
    for must_bypass in (issubclass(failure, UnusableResponse | Denied), False):
        clock.advance(LIST_TTL_S)
        lists.use(call)
        assert tenant.bypassed_caches[REQUEST[call]] == must_bypass


@both_lists
def test_without_a_ttl_every_list_bypasses_http_caches(
    mount: Mount, tenant: FakeTenant, call: str
) -> None:
    mount(list_ttl_s=0.0).use(call)
    assert tenant.bypassed_caches[REQUEST[call]]


# Failures.


@failures
def test_after_a_failure_the_last_good_listings_are_shown(
    mount: Mount,
    tenant: FakeTenant,
    clock: CrowdClock,
    failure: type[InvoicefsError],
) -> None:
    running = mount()
    running.namespaces()
    running.names()
    clock.advance(LIST_TTL_S)
    tenant.fail("namespaces", failure("away"))
    tenant.fail("list", failure("away"))
    for lists in (running, mount()):
        assert lists.namespaces() == ("empty", "system")
        assert lists.names() == ["new", "old"]
        assert lists.invoice("old.pdf").name == "old"
        assert lists.is_listed("new.pdf")
        assert lists.namespace("empty") == "empty"


def test_serving_an_old_listing_is_logged(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, caplog: pytest.LogCaptureFixture
) -> None:
    lists = mount()
    lists.namespaces()
    lists.names()
    clock.advance(LIST_TTL_S)
    tenant.fail("namespaces", Unreachable("no route"))
    tenant.fail("list", Unreachable("no route"))
    lists.namespaces()
    lists.names()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("no route" in line for line in lines)
    assert "system" in lines[1]


@denials
def test_a_denied_listing_raises_although_one_is_cached(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, denial: type[Denied]
) -> None:
    running = mount()
    running.namespaces()
    running.names()
    clock.advance(LIST_TTL_S)
    tenant.fail("namespaces", denial("no"))
    tenant.fail("list", denial("no"))
    for lists in (running, mount()):
        with pytest.raises(denial):
            lists.namespaces()
        with pytest.raises(denial):
            lists.names()


def test_404_for_the_list_of_namespaces_is_an_unusable_response(
    mount: Mount, tenant: FakeTenant
) -> None:
    """ENOENT for the mount point itself would let rsync --delete empty the archive."""
    lists = mount()
    tenant.fail("namespaces", NotFound("the server answered 404"))
    with pytest.raises(UnusableResponse):
        lists.namespaces()


# Incomplete responses.


def test_a_namespace_with_final_invoices_stays_when_no_longer_listed(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """Without its directory, rsync --delete would delete its invoices."""
    lists = mount()
    lists.namespaces()
    lists.names("system")
    tenant.open_namespace("other")
    del tenant.invoices_of["system"], tenant.invoices_of["empty"]
    clock.advance(LIST_TTL_S)

    assert sorted(lists.namespaces()) == ["other", "system"]
    assert sorted(mount().namespaces()) == ["other", "system"]


def test_a_new_tenant_may_have_no_namespaces(mount: Mount, tenant: FakeTenant) -> None:
    tenant.invoices_of.clear()
    lists = mount()
    assert lists.namespaces() == ()
    assert not lists.by_directory.is_known


def test_a_partial_list_of_namespaces_only_adds(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    running = mount()
    running.namespaces()
    clock.advance(LIST_TTL_S)
    tenant.invoices_of = {"later": {}, "system": {}}
    tenant.is_partial = True
    assert running.namespaces() == ("later", "system", "empty")
    tenant.fail("namespaces", ServerFault("down"))
    assert mount().namespaces() == ("later", "system", "empty")


def test_a_partial_list_of_namespaces_is_no_proof_of_absence(
    mount: Mount, tenant: FakeTenant
) -> None:
    """The response itself says that some are missing."""
    lists = mount()
    tenant.is_partial = True
    del tenant.invoices_of["empty"]
    try:
        assert lists.namespace("empty") == "empty"
    except NotFound:
        pytest.fail("a partial list was treated as proof that a namespace is missing")
    except InvoicefsError:
        pass


def test_final_invoices_of_an_earlier_mount_stay(mount: Mount, tenant: FakeTenant) -> None:
    mount().names()
    del tenant.invoices_of["system"]["old"]
    assert mount().names() == ["new", "old"]


def test_a_duplicate_is_one_invoice(
    mount: Mount, tenant: FakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = final("twice", status="paid"), final("twice", status="issued")
    monkeypatch.setattr(tenant, "invoices", lambda *_, **__: (first, second))
    lists = mount()
    assert lists.names() == ["twice"]
    assert lists.invoice("twice.pdf") == first


@pytest.mark.parametrize("namespaces", [(), ("system",)], ids=["all", "one"])
def test_404_for_a_listed_namespace_is_not_absence(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, namespaces: tuple[str, ...]
) -> None:
    lists = mount(namespaces=namespaces)
    lists.by_directory.list_namespaces(lists.deadline)
    tenant.fail("list", NotFound("the server answered 404"))
    with pytest.raises(UnusableResponse):
        lists.names()
    with pytest.raises(UnusableResponse):
        lists.invoice("old.pdf")
    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)
    assert lists.names() == ["new", "old"]
    clock.advance(LIST_TTL_S)
    tenant.fail("list", NotFound("the server answered 404"))
    assert lists.names() == ["new", "old"]
    assert mount(namespaces=namespaces).names() == ["new", "old"]


def test_404_for_an_unlisted_namespace_is_absence(mount: Mount, tenant: FakeTenant) -> None:
    tenant.fail("namespaces", Denied("no"))
    lists = mount()
    assert lists.namespace("elsewhere") == "elsewhere"
    with pytest.raises(NotFound):
        lists.names("elsewhere")
    with pytest.raises(NotFound):
        lists.invoice("a.pdf", "elsewhere")


# Names that are not listed.


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "a",
        ".pdf",
        ".Trash",
        ".hidden.pdf",
        "a.PDF",
        "a.pdf~",
        "autorun.inf",
        "a%2fb.pdf",  # no name is encoded with lower-case digits
        "a%zz.pdf",
        "a\udcff.pdf",  # a byte that is not UTF-8
        "a\n.pdf",
        "",
    ],
)
def test_names_that_no_invoice_can_have_make_no_request(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, name: str
) -> None:
    lists = mount()
    lists.names()
    clock.advance(LIST_TTL_S - 1)
    tenant.take_requests()
    with pytest.raises(NotFound):
        lists.invoice(name)
    assert tenant.take_requests() == []


@pytest.mark.parametrize(
    "name", [".Trash", ".hidden", "autorun.inf", "Desktop.ini", "a_b", "-a", "A", "x" * 64, "é"]
)
@pytest.mark.parametrize("is_forbidden", [False, True])
def test_names_that_no_namespace_can_have_make_no_request(
    mount: Mount, tenant: FakeTenant, name: str, is_forbidden: bool
) -> None:
    lists = mount()
    if is_forbidden:
        tenant.fail("namespaces", Denied("no"))
        assert lists.namespace("a-namespace") == "a-namespace"
        tenant.take_requests()
    with pytest.raises(NotFound):
        lists.namespace(name)
    assert tenant.take_requests() == []


@pytest.mark.parametrize("name", ["later.pdf", CUT_NAME], ids=["plain", "cut"])
def test_an_unlisted_invoice_is_looked_up_once_per_recheck_interval(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, name: str
) -> None:
    lists = mount()
    lists.names()
    tenant.take_requests()
    for _ in range(3):
        with pytest.raises(NotFound):
            lists.invoice(name)
    assert tenant.take_requests() == []  # the listing is younger than the recheck interval
    clock.advance(UNLISTED_RECHECK_S)
    for _ in range(3):
        with pytest.raises(NotFound):
            lists.invoice(name)
    assert tenant.take_requests() == ["list system"]


def test_an_unlisted_namespace_is_looked_up_once_per_recheck_interval(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    lists = mount()
    for _ in range(3):
        with pytest.raises(NotFound):
            lists.namespace("later")
    assert tenant.take_requests() == ["namespaces"]
    clock.advance(UNLISTED_RECHECK_S)
    tenant.open_namespace("later")
    assert lists.namespace("later") == "later"
    assert tenant.take_requests() == ["namespaces"]


@pytest.mark.parametrize("name", ["later", "x" * 400], ids=["plain", "cut"])
def test_a_new_invoice_is_found_by_name(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, name: str
) -> None:
    lists = mount()
    lists.names()
    clock.advance(UNLISTED_RECHECK_S)
    later = tenant.bill(final(name))
    (file_name,) = Listing((later,)).by_file_name
    assert lists.invoice(file_name) == later


@failures
def test_a_failure_is_not_reported_as_a_missing_invoice(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, failure: type[InvoicefsError]
) -> None:
    running = mount()
    running.names()
    clock.advance(LIST_TTL_S)
    tenant.fail("list", failure("away"))
    for lists in (running, mount()):
        for _ in range(2):
            with pytest.raises(failure):
                lists.invoice("later.pdf")


@failures
def test_a_failure_is_not_reported_as_a_missing_namespace(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, failure: type[InvoicefsError]
) -> None:
    running = mount()
    running.namespaces()
    clock.advance(UNLISTED_RECHECK_S)
    tenant.fail("namespaces", failure("away"))
    for lists in (running, mount()):
        for _ in range(2):
            with pytest.raises(failure):
                lists.namespace("later")


@pytest.mark.parametrize("namespace", ["a/b", "a%b", "Größe", "a\ud800"])
def test_an_odd_namespace_is_found_by_its_directory(
    mount: Mount, tenant: FakeTenant, namespace: str
) -> None:
    tenant.bill(final("a", namespace))
    lists = mount()
    assert namespace in lists.namespaces()
    directory = Listing((final("a", namespace),)).invoices[0].key.split("/")[0]
    assert lists.namespace(directory) == namespace
    assert lists.names(namespace) == ["a"]
    assert mount().namespace(directory) == namespace


# Where listing is forbidden.


def test_any_label_is_a_namespace_where_listing_is_forbidden(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.fail("namespaces", Denied("no"))
    lists = mount()
    for name in ("a", "b", "c"):
        assert lists.namespace(name) == name
    assert tenant.take_requests() == ["namespaces"]
    clock.advance(LIST_TTL_S)
    tenant.fix()
    with pytest.raises(NotFound):
        lists.namespace("a")
    assert tenant.take_requests() == ["namespaces"]


def test_any_name_may_be_an_invoice_where_listing_is_forbidden(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.fail("list", Denied("no"))
    lists = mount()
    for name in ("a", "b/c", "new"):
        (file_name,) = Listing((final(name),)).by_file_name
        found = lists.invoice(file_name)
        assert (found.namespace, found.name) == ("system", name)
        assert found.active  # it may still change
        assert not lists.is_listed(file_name)
    assert tenant.take_requests() == ["list system"]
    for name in ("a.txt", ".hidden.pdf", CUT_NAME):
        with pytest.raises(NotFound):
            lists.invoice(name)
    assert tenant.take_requests() == []
    clock.advance(LIST_TTL_S)
    tenant.fix()
    assert lists.is_listed("new.pdf")
    with pytest.raises(NotFound):
        lists.invoice("a.pdf")


def test_a_listing_that_is_allowed_again_is_used_at_once(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    lists = mount()
    tenant.fail("list", Denied("no"))
    assert not lists.is_listed("new.pdf")
    tenant.fix()
    clock.advance(FAILURE_MEMORY_S)
    lists.names()
    assert lists.is_listed("new.pdf")
    with pytest.raises(NotFound):
        lists.invoice("never-listed.pdf")


@pytest.mark.parametrize("is_remount", [False, True])
def test_invoices_stay_listed_after_listing_is_forbidden(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, is_remount: bool
) -> None:
    lists = mount()
    lists.names()
    clock.advance(LIST_TTL_S)
    tenant.fail("list", Denied("no"))
    lists = mount() if is_remount else lists
    assert lists.invoice("old.pdf") == final("old")
    assert lists.is_listed("old.pdf")
    assert lists.invoice("new.pdf") == draft("new")
    assert lists.is_listed("new.pdf")
    assert not lists.is_listed("never-listed.pdf")


@pytest.mark.parametrize("denial", [Unauthenticated, *Unauthenticated.__subclasses__()])
def test_no_name_is_accepted_without_a_valid_credential(
    mount: Mount, tenant: FakeTenant, denial: type[Denied]
) -> None:
    tenant.fail("namespaces", denial("no"))
    tenant.fail("list", denial("no"))
    lists = mount()
    with pytest.raises(denial):
        lists.namespace("system")
    with pytest.raises(denial):
        lists.invoice("old.pdf")


# Chosen namespaces and statuses.


def test_chosen_namespaces_are_shown_without_a_request(mount: Mount, tenant: FakeTenant) -> None:
    lists = mount(namespaces=("system", "other"))
    assert lists.namespaces() == ("system", "other")
    assert lists.namespace("system") == "system"
    assert lists.by_directory.count == 2
    with pytest.raises(NotFound):
        lists.namespace("empty")
    assert tenant.take_requests() == []


def test_only_invoices_with_a_chosen_status_are_listed(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.bill(final("unpaid", status="issued"))
    lists = mount(statuses=frozenset({"paid"}))
    assert lists.names() == ["old"]
    assert [invoice.name for invoice in lists.listings.last_listing("system").invoices] == ["old"]
    assert lists.listings.invoice_count() == 1
    clock.advance(LIST_TTL_S - 1)
    tenant.take_requests()
    with pytest.raises(NotFound):
        lists.invoice("unpaid.pdf")
    assert tenant.take_requests() == []  # it is listed, so no request is needed
    tenant.bill(final("unpaid", status="paid"))
    clock.advance(1)
    assert lists.names() == ["old", "unpaid"]


def test_a_listing_without_statuses_hides_nothing_that_was_shown(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    """Otherwise ``rsync --delete`` would empty an archive."""
    tenant.bill(final("unpaid", status="issued"))
    lists = mount(statuses=frozenset({"paid"}))
    lists.names()
    tenant.bill(final("old", status="unknown"))
    tenant.bill(final("unpaid", status="unknown"))
    clock.advance(LIST_TTL_S)
    assert lists.names() == ["old"]
    remounted = mount(statuses=frozenset({"paid"}))
    assert remounted.names() == ["old"]
    tenant.bill(final("old", status="refunded"))
    clock.advance(LIST_TTL_S)
    assert remounted.names() == []


def test_an_invoice_that_never_had_a_status_is_always_shown(
    mount: Mount, tenant: FakeTenant
) -> None:
    tenant.bill(final("new", status="unknown"))
    assert mount(statuses=frozenset({"paid"})).names() == ["new", "old"]


def test_hidden_invoices_stay_hidden_where_listing_is_forbidden(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    tenant.bill(final("unpaid", status="issued"))
    lists = mount(statuses=frozenset({"paid"}))
    lists.names()
    clock.advance(LIST_TTL_S)
    tenant.fail("list", Denied("no"))
    assert lists.is_listed("old.pdf")
    with pytest.raises(NotFound):
        lists.invoice("unpaid.pdf")


def test_chosen_statuses_do_not_affect_the_next_mount(mount: Mount) -> None:
    mount(statuses=frozenset({"paid"})).names()
    assert mount().names() == ["new", "old"]


# Snapshots.


@pytest.mark.parametrize("is_remount", [False, True])
def test_a_whole_listing_is_learnt_before_it_is_shown(
    mount: Mount, tenant: FakeTenant, is_remount: bool
) -> None:
    if is_remount:
        mount().names()
        tenant.fail("list", ServerFault("down"))
    lists = mount(statuses=frozenset({"paid"}))
    lists.names()
    assert lists.learnt == [Listing.of([final("old"), draft("new")])]


def test_a_slow_read_of_the_store_does_not_replace_a_fresh_listing(
    mount: Mount, tenant: FakeTenant
) -> None:
    """Two threads read the stored listing; one is slow, and the other has listed meanwhile."""
    mount().names()
    tenant.take_requests()
    first, slow_may_go_on = threading.Event(), threading.Event()

    def learn(_: Listing) -> None:
        if not first.is_set():
            first.set()
            assert slow_may_go_on.wait(20)

    lists = mount(learn=learn)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(lists.names)
        try:
            assert first.wait(20)
            assert lists.names() == ["new", "old"]
            assert tenant.take_requests() == ["list system"]
        finally:
            slow_may_go_on.set()
        assert slow.result(20) == ["new", "old"]
    tenant.fail("list", ServerFault("down"))
    assert lists.names() == ["new", "old"]
    assert tenant.take_requests() == []


def test_readers_see_whole_listings_while_they_change(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    lists = mount(list_ttl_s=0)
    generations = [
        {name: final(name) for name in (f"{number}-a", f"{number}-b")} for number in range(8)
    ]
    tenant.invoices_of["system"] = generations[0]
    turns = iter(range(4))

    def use() -> None:
        is_writer = next(turns) == 0
        for generation in generations:
            if is_writer:
                tenant.invoices_of["system"] = generation
            names = lists.names()
            assert [name for name in names if name.endswith("a")] == [
                name.replace("b", "a") for name in names if name.endswith("b")
            ]
            for name in names:
                assert lists.invoice(f"{name}.pdf").name == name

    crowd(use, threads=4)
    clock.advance(1)
    assert len(lists.names()) == 16


# A store that is temporarily unavailable.


@pytest.fixture
def locked(mount: Mount, store: MemoryStore) -> Lists:
    """A mount that cannot use the store, which has the listings of an earlier mount."""
    earlier = mount()
    earlier.namespaces()
    earlier.names()
    store.keeps = store.finds = False
    lists = mount()
    assert not lists.by_directory.is_known
    assert lists.listings.last_listing("system") == Listing()
    return lists


def unlock(store: MemoryStore) -> None:
    store.keeps = store.finds = True


@pytest.mark.parametrize("is_used_before", [False, True])
def test_stored_invoices_stay_listed_once_the_store_is_back(
    locked: Lists,
    mount: Mount,
    tenant: FakeTenant,
    store: MemoryStore,
    clock: CrowdClock,
    is_used_before: bool,
) -> None:
    tenant.withdraw(final("old"))
    tenant.bill(final("later"))
    if is_used_before:
        assert locked.names() == ["later", "new"]
        clock.advance(LIST_TTL_S)
    unlock(store)
    assert locked.names() == ["later", "new", "old"]
    tenant.fail("list", ServerFault("down"))
    assert mount().names() == ["later", "new", "old"]


def test_an_empty_listing_is_rejected_once_the_store_is_back(
    locked: Lists, tenant: FakeTenant, store: MemoryStore
) -> None:
    tenant.invoices_of["system"] = {}
    unlock(store)
    assert locked.names() == ["new", "old"]


def test_an_empty_list_of_namespaces_is_rejected_once_the_store_is_back(
    locked: Lists, tenant: FakeTenant, store: MemoryStore
) -> None:
    tenant.invoices_of.clear()
    unlock(store)
    assert set(locked.namespaces()) == {"empty", "system"}


def test_a_namespace_with_final_invoices_stays_once_the_store_is_back(
    locked: Lists, mount: Mount, tenant: FakeTenant, store: MemoryStore
) -> None:
    del tenant.invoices_of["system"]
    unlock(store)
    assert set(locked.namespaces()) == {"empty", "system"}
    tenant.fail("namespaces", ServerFault("down"))
    assert set(mount().namespaces()) == {"empty", "system"}


@both_lists
def test_a_store_that_is_back_serves_while_the_api_is_down(
    locked: Lists, tenant: FakeTenant, store: MemoryStore, call: str
) -> None:
    tenant.fail(call, Unreachable("away"))
    unlock(store)
    assert set(locked.namespaces()) == {"empty", "system"}
    assert locked.names() == ["new", "old"]


def test_a_store_that_comes_back_during_a_request_shortens_no_listing(
    locked: Lists, mount: Mount, tenant: FakeTenant, store: MemoryStore
) -> None:
    tenant.withdraw(final("old"))
    tenant.during("list", lambda: unlock(store))
    assert locked.names() == ["new", "old"]
    assert mount().names() == ["new", "old"]


def test_a_store_that_comes_back_during_a_request_loses_no_namespace(
    locked: Lists, mount: Mount, tenant: FakeTenant, store: MemoryStore
) -> None:
    del tenant.invoices_of["system"]
    tenant.during("namespaces", lambda: unlock(store))
    assert set(locked.namespaces()) == {"empty", "system"}
    assert set(mount().namespaces()) == {"empty", "system"}


def test_a_record_is_not_a_listing(mount: Mount, store: MemoryStore, tenant: FakeTenant) -> None:
    store.save_records({final("old"): Record(1)})
    tenant.fail("list", ServerFault("down"))
    with pytest.raises(ServerFault):
        mount().names()
