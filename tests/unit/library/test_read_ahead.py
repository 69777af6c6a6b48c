"""Which invoices sequential opens download ahead, and that this delays and repeats nothing."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicefs.errors import (
    Denied,
    InvoicefsError,
    NotFound,
    RateLimited,
    ServerFault,
    TimedOut,
    TooLarge,
    Unavailable,
    Unreachable,
    UnusableResponse,
)
from invoicefs.library.library import Library
from invoicefs.library.read_ahead import InvoicesAhead
from invoicefs.model import Invoice, Listing, namespace_inode
from invoicefs.settings import Fetch
from tests.support.fake_tenant import FakeTenant, Gate, pdf_of
from tests.support.idle import Idle
from tests.support.memory_store import MemoryStore
from tests.support.running_library import (
    ACTIVE_TTL_S,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    CrowdClock,
    crowd,
    running_library,
)

HANG_S = 20.0
SIZE_BYTES = 1000
READ_AHEAD = 16
PARALLEL = 8

COUNT = 47  # a prime, so every stride visits all of them
# Neighbours in one order are far apart in the other.
BY_PERIOD = [
    Invoice(
        "system",
        f"invoice-{place * 7 % COUNT:02}",
        status="paid",
        period_start=f"{2020 + place // 12}-{place % 12 + 1:02}-01T00:00:00Z",
        period_end=f"{2020 + place // 12}-{place % 12 + 1:02}-28T00:00:00Z",
    )
    for place in range(COUNT)
]
BY_NAME = sorted(BY_PERIOD, key=lambda invoice: invoice.name)
BY_STRIDE = [BY_PERIOD[place * 5 % COUNT] for place in range(COUNT)]
# In both orders, "acme" is before "system", so nothing is read ahead at the end of "system".
OTHERS = [replace(invoice, namespace="acme") for invoice in BY_PERIOD]

in_both_orders = pytest.mark.parametrize(
    "order", [BY_PERIOD, BY_NAME], ids=["by period", "by name"]
)
Mount = Callable[..., "Mounted"]
Calls = Counter[str]


@dataclass(frozen=True)
class Mounted:
    """A mount with its namespaces listed."""

    library: Library
    tenant: FakeTenant
    idle: Idle

    def read(self, *invoices: Invoice) -> None:
        """Open, read and close the invoices one after the other, and check their bytes."""
        for invoice in invoices:
            opened = self.library.open(path(invoice))
            self.library.release(opened)
            assert opened.content.pdf == self.tenant.pdf(invoice)

    def read_in_turn(self, *invoices: Invoice) -> None:
        """Do the same, and let read-ahead finish after each."""
        for invoice in invoices:
            self.read(invoice)
            self.idle.await_()

    def downloads(self) -> Calls:
        """Return the PDF requests since the last call, once no more are in flight."""
        self.idle.await_()
        return Counter(call for call in self.tenant.take_requests() if call.startswith("pdf"))


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (*BY_PERIOD, *OTHERS):
        tenant.bill(invoice, pdf_of(invoice.key, SIZE_BYTES))
    return tenant


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    """A working store, or one of the kind that a test names."""
    made = getattr(request, "param", MemoryStore)()
    assert isinstance(made, MemoryStore)
    return made


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant, as often as a test needs."""
    with ExitStack() as stack:

        def mount(read_ahead: int = READ_AHEAD, **changes: Any) -> Mounted:
            return stack.enter_context(
                mounted(tenant, store, clock, read_ahead=read_ahead, **changes)
            )

        yield mount


@contextmanager
def mounted(
    tenant: FakeTenant,
    store: MemoryStore,
    clock: CrowdClock,
    **changes: Any,
) -> Iterator[Mounted]:
    idle = Idle(clock)
    changes = {"read_ahead": READ_AHEAD, "parallel": PARALLEL, **changes}
    with running_library(tenant, store, clock, **changes) as library:
        for namespace in tenant.invoices_of:
            library.directory(f"/{namespace}")
        tenant.take_requests()
        yield Mounted(library, tenant, idle)


def path(invoice: Invoice) -> str:
    return f"/{invoice.key}"


def once(invoices: Sequence[Invoice]) -> Calls:
    """Return one PDF request for each of these."""
    return Counter(pdf_request(invoice) for invoice in invoices)


def pdf_request(invoice: Invoice) -> str:
    return f"pdf {invoice.namespace}/{invoice.name}"


def reach(opens: int, read_ahead: int = READ_AHEAD) -> int:
    """Return how many invoices are downloaded after this number of sequential opens."""
    window = min(2 ** (opens - 1), read_ahead) if opens > 1 else 0
    return opens + window


# The window.


@in_both_orders
@pytest.mark.parametrize("read_ahead", [1, 2, 3, 8, 16, 32])
def test_the_window_doubles_with_each_open_up_to_read_ahead(
    mount: Mount, order: Sequence[Invoice], read_ahead: int
) -> None:
    mounted, reached = mount(read_ahead), 0
    for opens, invoice in enumerate(order, start=1):
        mounted.read_in_turn(invoice)
        assert mounted.downloads() == once(order[reached : reach(opens, read_ahead)])
        reached = reach(opens, read_ahead)


def test_connections_are_opened_for_the_next_step(mount: Mount, tenant: FakeTenant) -> None:
    mounted, wanted = mount(), []
    for invoice in BY_PERIOD[:4]:
        mounted.read_in_turn(invoice)
        wanted.append(tenant.connections)
    assert wanted == [3, 5, PARALLEL, PARALLEL]


def test_no_connections_are_opened_for_cached_invoices(mount: Mount, tenant: FakeTenant) -> None:
    mounted = mount()
    mounted.read_in_turn(*BY_PERIOD)
    tenant.connections = 0
    mount().read_in_turn(*BY_PERIOD)
    assert tenant.connections == 0


@in_both_orders
def test_read_ahead_stops_at_the_end_of_the_folder(mount: Mount, order: Sequence[Invoice]) -> None:
    mounted = mount()
    mounted.read_in_turn(*order[-3:])
    assert mounted.downloads() == once(order[-3:])


@in_both_orders
def test_files_may_stay_open_during_sequential_access(
    mount: Mount, order: Sequence[Invoice]
) -> None:
    mounted = mount()
    opened = [mounted.library.open(path(invoice)) for invoice in order[:3]]
    assert mounted.downloads() == once(order[:7])
    for invoice in opened:
        mounted.library.release(invoice)


def test_an_open_does_not_wait_for_read_ahead(mount: Mount, tenant: FakeTenant) -> None:
    mounted = mount()
    with blocked(tenant, BY_PERIOD[2:]) as gate:
        mounted.read(*BY_PERIOD[:2])
        gate.await_request()
        mounted.read(BY_PERIOD[1], OTHERS[5])


@contextmanager
def blocked(tenant: FakeTenant, invoices: Sequence[Invoice]) -> Iterator[Gate]:
    """Block the requests for these invoices at one gate, which opens at the end of the block."""
    gate = Gate()
    for invoice in invoices:
        tenant.during(pdf_request(invoice), gate.pass_through)
    try:
        yield gate
    finally:
        gate.open()


# What is not sequential.


@pytest.mark.parametrize(
    "places",
    [
        [5],
        [0, 9, 4, 30],
        [0, 2, 4, 6, 8],
        [8, 7, 6, 5, 4],
        [3, 3, 1, 1],
        [46, 0],
    ],
    ids=str,
)
def test_non_sequential_opens_download_nothing_ahead(mount: Mount, places: list[int]) -> None:
    opened = [BY_PERIOD[place] for place in places]
    mounted = mount()
    mounted.read_in_turn(*opened)
    assert mounted.downloads() == once(list(dict.fromkeys(opened)))


@pytest.mark.parametrize("policy", [{"read_ahead": 0}, {"parallel": 1}], ids=str)
@in_both_orders
def test_there_is_no_read_ahead_if_it_is_off_or_has_no_slot(
    mount: Mount, order: Sequence[Invoice], policy: dict[str, int]
) -> None:
    mounted = mount(**policy)
    for invoice in order:
        mounted.read_in_turn(invoice)
        assert mounted.downloads() == once([invoice])


def test_stat_of_the_next_files_does_not_advance_read_ahead(mount: Mount) -> None:
    mounted = mount()
    mounted.read_in_turn(*BY_PERIOD[:2])
    for invoice in BY_PERIOD[2:12]:
        mounted.library.attributes(path(invoice))
    assert mounted.downloads() == once(BY_PERIOD[:4])


def test_a_stat_before_each_open_does_not_disturb_read_ahead(mount: Mount) -> None:
    mounted = mount()
    for invoice in BY_PERIOD[:3]:
        mounted.library.attributes(path(invoice))
        mounted.read_in_turn(invoice)
    assert mounted.downloads() == once(BY_PERIOD[: reach(3)])


# Several namespaces.


def test_a_jump_to_another_namespace_is_not_sequential(mount: Mount) -> None:
    mounted = mount()
    mounted.read_in_turn(BY_PERIOD[0], OTHERS[1])
    assert mounted.downloads() == once([BY_PERIOD[0], OTHERS[1]])


@in_both_orders
def test_read_ahead_goes_on_in_the_next_namespace(mount: Mount, order: Sequence[Invoice]) -> None:
    mounted, first = mount(), [replace(invoice, namespace="acme") for invoice in order]
    mounted.library.directory("/")
    mounted.library.directory("/acme")
    mounted.read_in_turn(*first[-2:])
    assert mounted.downloads() == once([*first[-2:], *order[:2]])
    mounted.read_in_turn(order[0])
    assert mounted.downloads() == once(order[2:5])


@pytest.mark.parametrize("visited", [[], ["/", "/system", "/acme"], ["/acme", "/acme"]], ids=str)
def test_a_program_that_was_given_a_namespace_gets_nothing_of_the_next(
    mount: Mount, visited: list[str]
) -> None:
    mounted = mount()
    for directory in visited:
        mounted.library.directory(directory)
    mounted.read_in_turn(*OTHERS)
    assert mounted.downloads() == once(OTHERS)


MONTH = BY_PERIOD[0]
IN_ORDER = sorted((f"team-{number:02}" for number in range(40)), key=namespace_inode)


@pytest.fixture
def many(tenant: FakeTenant) -> list[Invoice]:
    """The only invoices of many namespaces, in the order of the namespaces' inodes."""
    tenant.invoices_of.clear()
    return [tenant.bill(replace(MONTH, namespace=name)) for name in IN_ORDER]


def lists(tenant: FakeTenant) -> Calls:
    """Return the requests for listings since the last call of this or of `downloads`."""
    return Counter(call for call in tenant.take_requests() if call.startswith("list "))


def test_the_next_namespace_is_listed_ahead(
    many: list[Invoice], tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    idle = Idle(clock)
    tenant.bill(replace(BY_PERIOD[1], namespace=IN_ORDER[0]))
    with running_library(tenant, store, clock, read_ahead=READ_AHEAD, parallel=PARALLEL) as library:
        library.directory("/")
        library.directory(f"/{IN_ORDER[0]}")
        for name in (many[0].file_name, BY_PERIOD[1].file_name):
            library.release(library.open(f"/{IN_ORDER[0]}/{name}"))
        idle.await_()
        assert lists(tenant) == Counter(f"list {name}" for name in IN_ORDER[:2])


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("by_name", [False, True])
def test_a_program_that_lists_one_directory_after_another_gets_the_next_ones_ahead(
    tenant: FakeTenant,
    store: MemoryStore,
    clock: CrowdClock,
    by_name: bool,
) -> None:
    idle, order = Idle(clock), sorted(IN_ORDER) if by_name else IN_ORDER
    with running_library(tenant, store, clock, read_ahead=4, parallel=PARALLEL) as library:
        library.directory("/")
        for visited, listed in ((order[0], order[:1]), (order[1], order[1:4])):
            library.directory(f"/{visited}")
            idle.await_()
            assert lists(tenant) == Counter(f"list {name}" for name in listed)
        for name in order:
            library.directory(f"/{name}")
        idle.await_()
        assert lists(tenant) == Counter(f"list {name}" for name in order[4:])


@pytest.mark.parametrize("by_name", [False, True])
def test_an_aborted_walk_through_namespaces_has_wasted_at_most_a_window(
    many: list[Invoice], tenant: FakeTenant, store: MemoryStore, clock: CrowdClock, by_name: bool
) -> None:
    idle, opened = Idle(clock), sorted(many, key=lambda one: one.namespace) if by_name else many
    with running_library(tenant, store, clock, read_ahead=4, parallel=PARALLEL) as library:
        library.directory("/")
        for invoice in opened[:20]:
            library.directory(f"/{invoice.namespace}")
            library.release(library.open(path(invoice)))
        idle.await_()
        calls = Counter(tenant.take_requests())
    assert set(calls.values()) == {1}
    downloaded = calls & once(many)
    assert once(opened[:20]) <= downloaded
    assert downloaded.total() <= 20 + 4


def test_each_of_many_small_namespaces_is_listed_and_downloaded_once(
    many: list[Invoice], tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    idle = Idle(clock)
    with running_library(tenant, store, clock, read_ahead=READ_AHEAD, parallel=PARALLEL) as library:
        library.directory("/")
        tenant.take_requests()
        for invoice in many:
            library.directory(f"/{invoice.namespace}")
            library.release(library.open(path(invoice)))
        idle.await_()
        calls = Counter(tenant.take_requests())
    assert calls == Counter(f"list {name}" for name in IN_ORDER) + once(many)


def test_a_namespace_that_cannot_be_listed_is_passed_over(
    many: list[Invoice], tenant: FakeTenant, store: MemoryStore, clock: CrowdClock
) -> None:
    idle = Idle(clock)
    tenant.fail(f"list {IN_ORDER[2]}", Denied("not this one"))
    with running_library(tenant, store, clock, read_ahead=4, parallel=PARALLEL) as library:
        library.directory("/")
        for name in IN_ORDER[:4]:
            with suppress(Denied):
                library.directory(f"/{name}")
        for invoice in many[:2]:
            library.release(library.open(path(invoice)))
        idle.await_()
        assert pdf_request(many[3]) in tenant.take_requests()


# Concurrent accesses.


def test_concurrent_copies_in_different_orders_download_each_once(
    mount: Mount,
) -> None:
    mounted = mount()
    orders = itertools.cycle([BY_PERIOD, BY_NAME, BY_STRIDE, OTHERS])
    crowd(lambda: mounted.read(*next(orders)), threads=8)
    assert mounted.downloads() == once([*BY_PERIOD, *OTHERS])


@pytest.mark.parametrize("is_ahead", [False, True])
def test_64_readers_of_one_new_invoice_make_one_request(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, is_ahead: bool
) -> None:
    mounted = mount()
    with ThreadPoolExecutor(64) as threads, blocked(tenant, BY_PERIOD[2:3]) as gate:
        if is_ahead:
            mounted.read(*BY_PERIOD[:2])
            gate.await_request()
        readers = [threads.submit(mounted.read, BY_PERIOD[2]) for _ in range(64)]
        clock.await_crowd(64)
        gate.open()
        for reader in readers:
            reader.result(HANG_S)
    assert mounted.downloads()[pdf_request(BY_PERIOD[2])] == 1


# Slow access.


def test_slow_sequential_access_is_read_ahead_too(mount: Mount, clock: CrowdClock) -> None:
    mounted = mount(list_ttl_s=1000)
    for invoice in BY_PERIOD[:3]:
        mounted.read_in_turn(invoice)
        clock.advance(30)
    assert mounted.downloads() == once(BY_PERIOD[: reach(3)])


# Hidden, cached and evicted invoices.


def test_hidden_invoices_are_not_downloaded_ahead(mount: Mount, tenant: FakeTenant) -> None:
    for place, invoice in enumerate(BY_PERIOD):
        if place % 3:
            tenant.bill(replace(invoice, status="issued"))
    shown = BY_PERIOD[::3]
    mounted = mount(statuses=frozenset({"paid"}))
    mounted.read_in_turn(*shown[:2])
    assert mounted.downloads() == once(shown[:4])
    mounted.read_in_turn(*shown[2:])
    assert mounted.downloads() == once(shown[4:])


@in_both_orders
@pytest.mark.parametrize("is_remounted", [False, True])
def test_sequential_access_to_cached_invoices_makes_no_request(
    mount: Mount, order: Sequence[Invoice], is_remounted: bool
) -> None:
    mounted = mount()
    mounted.read(*BY_PERIOD)
    mounted.downloads()
    mounted = mount() if is_remounted else mounted
    mounted.read_in_turn(*order)
    assert mounted.downloads() == Counter()


def test_invoices_cached_by_another_mount_are_not_downloaded_ahead(mount: Mount) -> None:
    mounted, other = mount(), mount()
    other.read(*BY_STRIDE)
    other.downloads()
    mounted.read_in_turn(*BY_PERIOD)
    assert mounted.downloads() == Counter()


@in_both_orders
@pytest.mark.parametrize("is_eager", [False, True])
def test_evicted_invoices_are_downloaded_ahead_again(
    mount: Mount, store: MemoryStore, order: Sequence[Invoice], is_eager: bool
) -> None:
    mounted = mount(fetch=Fetch.ON_STAT if is_eager else Fetch.ON_OPEN)
    mounted.read_in_turn(*order)
    mounted.downloads()
    store.pdfs.clear()
    mounted.read_in_turn(*order[:3])
    assert mounted.downloads() == once(order[: reach(3)])
    mounted.read_in_turn(*order[3:])
    assert mounted.downloads() == once(order[reach(3) :])


def test_expired_drafts_are_downloaded_ahead(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    active = [tenant.bill(replace(invoice, active=True)) for invoice in BY_PERIOD]
    mounted = mount(list_ttl_s=2 * ACTIVE_TTL_S)
    mounted.read(*active)
    mounted.downloads()
    clock.advance(ACTIVE_TTL_S)
    for invoice in active:
        tenant.bill(invoice, pdf_of(f"later {invoice.key}"))
    mounted.read_in_turn(*active[:3])
    assert mounted.downloads() == once(active[: reach(3)])


def test_drafts_with_a_ttl_of_0_are_downloaded_once(mount: Mount, tenant: FakeTenant) -> None:
    active = [tenant.bill(replace(invoice, active=True)) for invoice in BY_PERIOD]
    mounted = mount(active_ttl_s=0)
    mounted.read_in_turn(*active)
    assert mounted.downloads() == once(active)


def test_changed_invoices_are_downloaded_ahead(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    mounted = mount()
    mounted.read(*BY_PERIOD)
    # A request that is still in flight when the clock advances would count as a slow one.
    mounted.downloads()
    changed = [
        tenant.bill(replace(invoice, amount="7"), pdf_of(f"new {invoice.key}"))
        for invoice in BY_PERIOD
    ]
    clock.advance(LIST_TTL_S)
    mounted.library.directory("/system")
    mounted.downloads()
    mounted.read_in_turn(*changed[:3])
    assert mounted.downloads() == once(changed[: reach(3)])


# Stores that fail.


class Forgetful(MemoryStore):
    """A store that is full or locked, or has room for only a few PDFs."""

    def __init__(self, *, keeps: bool = True, finds: bool = True, room: int = COUNT) -> None:
        super().__init__()
        self.keeps, self.finds, self._room = keeps, finds, room

    def save(self, invoice: Invoice, content: Any) -> None:
        super().save(invoice, content)
        while len(self.pdfs) > self._room:
            del self.pdfs[next(iter(self.pdfs))]


with_any_failing_store = pytest.mark.parametrize(
    "store",
    [
        pytest.param(partial(Forgetful, keeps=False), id="keeps nothing"),
        pytest.param(partial(Forgetful, keeps=False, finds=False), id="neither keeps nor finds"),
        pytest.param(partial(Forgetful, room=0), id="keeps records only"),
        pytest.param(partial(Forgetful, room=1), id="keeps the last"),
        pytest.param(partial(Forgetful, room=5), id="keeps the last five"),
    ],
    indirect=True,
)


@in_both_orders
@with_any_failing_store
@pytest.mark.parametrize(
    "way", [Mounted.read, Mounted.read_in_turn], ids=["without waiting", "waiting for read-ahead"]
)
def test_a_failing_store_causes_no_second_download(
    mount: Mount,
    order: Sequence[Invoice],
    way: Callable[..., None],
) -> None:
    mounted = mount()
    way(mounted, *order)
    assert mounted.downloads() == once(BY_PERIOD)
    way(mounted, *order)
    assert mounted.downloads() <= once(BY_PERIOD)


# Failures.


@pytest.mark.parametrize(
    "kind", [RateLimited, Unavailable, Unreachable, TimedOut, ServerFault, UnusableResponse]
)
def test_a_failed_read_ahead_fails_no_open(
    mount: Mount, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    mounted = mount()
    tenant.fail(pdf_request(BY_PERIOD[2]), kind("at this moment"))
    mounted.read_in_turn(*BY_PERIOD[:2])
    assert mounted.downloads()[pdf_request(BY_PERIOD[2])] == 1
    tenant.fix()
    mounted.read_in_turn(*BY_PERIOD[2:])


@pytest.mark.parametrize("kind", [NotFound, Denied, TooLarge])
def test_an_open_does_not_repeat_a_request_just_refused_to_read_ahead(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    mounted = mount()
    tenant.fail(pdf_request(BY_PERIOD[2]), kind("the server said so"))
    mounted.read_in_turn(*BY_PERIOD[:2])
    mounted.downloads()
    tenant.fix()
    clock.advance(FAILURE_MEMORY_S - 0.125)
    with pytest.raises(kind, match="the server said so"):
        mounted.read(BY_PERIOD[2])
    assert pdf_request(BY_PERIOD[2]) not in mounted.downloads()

    clock.advance(0.125)
    mounted.read(BY_PERIOD[2])
    assert mounted.downloads()[pdf_request(BY_PERIOD[2])] == 1


@pytest.mark.parametrize("kind", [Unavailable, Unreachable, ServerFault])
def test_each_pdf_is_requested_twice_at_most_while_all_downloads_fail(
    mount: Mount, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    mounted = mount()
    tenant.fail("pdf", kind("not now"))
    for invoice in BY_PERIOD:
        with pytest.raises(kind):
            mounted.read(invoice)
    calls = mounted.downloads()
    assert calls.keys() == once(BY_PERIOD).keys()
    assert max(calls.values()) <= 2


@pytest.mark.parametrize("kind", [NotFound, Denied])
def test_failures_of_some_invoices_cause_no_extra_requests(
    mount: Mount, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    mounted, bad = mount(), BY_PERIOD[::5]
    for invoice in bad:
        tenant.fail(pdf_request(invoice), kind("this one"))
    for invoice in BY_PERIOD:
        if invoice in bad:
            with pytest.raises(kind, match="this one"):
                mounted.read(invoice)
        else:
            mounted.read(invoice)
    assert mounted.downloads() == once(BY_PERIOD)


def test_a_rate_limit_delays_read_ahead_but_no_open(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    mounted, refused = mount(list_ttl_s=1000), BY_PERIOD[2]
    tenant.fail(pdf_request(refused), RateLimited("429", retry_after_s=60))
    mounted.read_in_turn(*BY_PERIOD[:2])
    tenant.fix()
    before = mounted.downloads() - once([refused])
    mounted.read_in_turn(*BY_PERIOD[2:10])
    assert mounted.downloads() + before == once(BY_PERIOD[:10])

    clock.advance(61)
    mounted.downloads()
    mounted.read_in_turn(*BY_PERIOD[10:13])
    clock.advance(1)  # longer than the interval between requests after this 429
    assert mounted.downloads() - once(BY_PERIOD[10:13])


# With --fetch on-stat.


@in_both_orders
@pytest.mark.parametrize("read_ahead", [0, READ_AHEAD])
def test_sequential_access_with_on_stat_downloads_each_once(
    mount: Mount, order: Sequence[Invoice], read_ahead: int
) -> None:
    mounted = mount(read_ahead, fetch=Fetch.ON_STAT)
    for invoice in order:
        assert mounted.library.attributes(path(invoice)).size_bytes == SIZE_BYTES
        mounted.read(invoice)
    assert mounted.downloads() == once(BY_PERIOD)


# Any sequence of opens.

_RUNS = st.lists(
    st.tuples(st.sampled_from([BY_PERIOD, BY_NAME]), st.integers(0, COUNT - 1), st.integers(1, 6)),
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(_RUNS, st.sampled_from([1, 3, 16]))
def test_at_most_a_window_after_two_neighbours_is_downloaded_and_once(
    runs: list[tuple[list[Invoice], int, int]], read_ahead: int
) -> None:
    opened = [invoice for order, start, length in runs for invoice in order[start : start + length]]
    tenant = FakeTenant()
    for invoice in BY_PERIOD:
        tenant.bill(invoice)
    with mounted(tenant, MemoryStore(), CrowdClock(), read_ahead=read_ahead) as mount:
        mount.read(*opened)
        downloads = mount.downloads()
    neighbours = sum(
        before in opened and after in opened
        for order in (BY_PERIOD, BY_NAME)
        for before, after in itertools.pairwise(order)
    )
    assert set(downloads.values()) <= {1}
    assert once(opened).keys() <= downloads.keys()
    assert len(downloads.keys() - once(opened).keys()) <= neighbours * read_ahead


# A listing that becomes shorter.


class ShrinkingTree:
    """A tree whose only listing loses its last invoice each time it is used."""

    def __init__(self, invoices: Sequence[Invoice]) -> None:
        self._invoices = list(invoices)

    def listing(self, _namespace: str) -> Listing:
        listing = Listing(tuple(self._invoices))
        self._invoices = self._invoices[:-1]
        return listing

    def is_in_sequence(self, *_: object) -> bool:
        return False

    def neighbour(self, *_: object) -> None:
        return None

    def deadline(self) -> None:
        return None


@pytest.mark.parametrize("count", range(3, 20))
def test_a_listing_may_become_shorter_at_any_time(count: int) -> None:
    tree: Any = ShrinkingTree(BY_PERIOD[:count])
    ahead = InvoicesAhead(
        tree, lambda *_: True, lambda _: True, lambda _: None, largest_window=READ_AHEAD
    )
    for invoice in BY_PERIOD[:4]:
        ahead.visit(invoice)
