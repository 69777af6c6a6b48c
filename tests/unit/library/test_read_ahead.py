"""What is downloaded ahead of opens that walk through a namespace, and what it never costs."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
    UnusableAnswer,
)
from invoicefs.library.library import Library
from invoicefs.model import Invoice
from invoicefs.settings import Fetch
from tests.support.fake_tenant import FakeTenant, Gate, pdf_of
from tests.support.memory_store import MemoryStore
from tests.support.rest import Rest
from tests.support.running_library import (
    ACTIVE_TTL_S,
    FAILURE_MEMORY_S,
    LIST_TTL_S,
    MAX_PDF_SIZE_BYTES,
    CrowdClock,
    crowd,
    running_library,
)

HANG_S = 20.0
SIZE_BYTES = 1000
READ_AHEAD = 16
PARALLEL = 8

COUNT = 47  # a prime, so every stride leads through all of them
# Neighbours in the one order are far from each other in the other.
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
OTHERS = [replace(invoice, namespace="other") for invoice in BY_PERIOD]

in_both_orders = pytest.mark.parametrize("walk", [BY_PERIOD, BY_NAME], ids=["by period", "by name"])
Mount = Callable[..., "Mounted"]
Calls = Counter[str]


@dataclass(frozen=True)
class Mounted:
    """A mount with its namespaces listed."""

    library: Library
    tenant: FakeTenant
    rest: Rest

    def read(self, *invoices: Invoice) -> None:
        """Open, read and close them one after the other; the bytes are right."""
        for invoice in invoices:
            opened = self.library.open(path(invoice))
            self.library.release(opened)
            assert opened.content.pdf == self.tenant.pdf(invoice)

    def walk(self, *invoices: Invoice) -> None:
        """The same, with all the time in the world after each."""
        for invoice in invoices:
            self.read(invoice)
            self.rest.await_()

    def downloads(self) -> Calls:
        """The PDF calls since the last time, once no more come by themselves."""
        self.rest.await_()
        return Counter(call for call in self.tenant.take_calls() if call.startswith("pdf"))


@pytest.fixture
def clock() -> CrowdClock:
    return CrowdClock()


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    for invoice in (*BY_PERIOD, *OTHERS):
        tenant.bill(invoice, pdf_of(invoice.key, SIZE_BYTES))
    return tenant


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    """A store that is well, or of the kind that a test names."""
    made = getattr(request, "param", MemoryStore)()
    assert isinstance(made, MemoryStore)
    return made


@pytest.fixture
def mount(tenant: FakeTenant, store: MemoryStore, clock: CrowdClock) -> Iterator[Mount]:
    """Mount the tenant, as often as a test wants."""
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
    rest = Rest(clock)
    changes = {"read_ahead": READ_AHEAD, "parallel": PARALLEL, **changes}
    with running_library(tenant, store, clock, **changes) as library:
        for namespace in tenant.invoices_of:
            library.directory(f"/{namespace}")
        tenant.take_calls()
        yield Mounted(library, tenant, rest)


def path(invoice: Invoice) -> str:
    return f"/{invoice.key}"


def once(invoices: Sequence[Invoice]) -> Calls:
    """One PDF call for each of these."""
    return Counter(pdf_call(invoice) for invoice in invoices)


def pdf_call(invoice: Invoice) -> str:
    return f"pdf {invoice.namespace}/{invoice.name}"


def reach(opens: int, read_ahead: int = READ_AHEAD) -> int:
    """How many invoices of a walk have been downloaded after so many opens."""
    window = min(2 ** (opens - 1), read_ahead) if opens > 1 else 0
    return opens + window


# The window.


@in_both_orders
def test_the_first_open_of_a_walk_downloads_nothing_ahead(
    mount: Mount, walk: Sequence[Invoice]
) -> None:
    mounted = mount()
    mounted.walk(walk[0])
    assert mounted.downloads() == once(walk[:1])


@in_both_orders
def test_the_second_open_of_a_walk_has_the_next_two_downloaded(
    mount: Mount, walk: Sequence[Invoice]
) -> None:
    mounted = mount()
    mounted.walk(*walk[:2])
    assert mounted.downloads() == once(walk[:4])


@in_both_orders
@pytest.mark.parametrize("read_ahead", [1, 2, 3, 8, 16, 32])
def test_the_window_doubles_with_each_open_up_to_read_ahead(
    mount: Mount, walk: Sequence[Invoice], read_ahead: int
) -> None:
    mounted, reached = mount(read_ahead), 0
    for opens, invoice in enumerate(walk, start=1):
        mounted.walk(invoice)
        assert mounted.downloads() == once(walk[reached : reach(opens, read_ahead)])
        reached = reach(opens, read_ahead)


@in_both_orders
def test_a_walk_may_begin_anywhere(mount: Mount, walk: Sequence[Invoice]) -> None:
    mounted = mount()
    mounted.walk(*walk[20:23])
    assert mounted.downloads() == once(walk[20:27])


@in_both_orders
def test_a_walk_ends_at_the_end_of_the_folder(mount: Mount, walk: Sequence[Invoice]) -> None:
    mounted = mount()
    mounted.walk(*walk[-3:])
    assert mounted.downloads() == once(walk[-3:])


@in_both_orders
def test_opening_one_more_time_is_no_step(mount: Mount, walk: Sequence[Invoice]) -> None:
    mounted = mount()
    mounted.walk(*[walk[0]] * 5)
    assert mounted.downloads() == once(walk[:1])
    mounted.walk(*[walk[1]] * 5)
    assert mounted.downloads() == once(walk[1:4])


@in_both_orders
def test_files_that_stay_open_are_walked_through_as_well(
    mount: Mount, walk: Sequence[Invoice]
) -> None:
    mounted = mount()
    opened = [mounted.library.open(path(invoice)) for invoice in walk[:3]]
    assert mounted.downloads() == once(walk[:7])
    for each in opened:
        mounted.library.release(each)


@in_both_orders
def test_every_invoice_of_a_walk_is_downloaded_once(mount: Mount, walk: Sequence[Invoice]) -> None:
    mounted = mount()
    mounted.read(*walk)
    assert mounted.downloads() == once(BY_PERIOD)


def test_what_was_downloaded_ahead_has_its_size(mount: Mount) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD[:2])
    looks = [mounted.library.attributes(path(invoice)) for invoice in BY_PERIOD[:5]]
    assert [look.size_bytes for look in looks] == [*[SIZE_BYTES] * 4, MAX_PDF_SIZE_BYTES]


def test_an_open_does_not_wait_for_what_is_downloaded_ahead(
    mount: Mount, tenant: FakeTenant
) -> None:
    mounted = mount()
    with held(tenant, BY_PERIOD[2:]) as gate:
        mounted.read(*BY_PERIOD[:2])
        gate.await_call()
        mounted.read(BY_PERIOD[1], OTHERS[5])


def test_an_open_waits_for_the_download_that_is_under_way_ahead_of_it(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    mounted = mount()
    with ThreadPoolExecutor(1) as thread, held(tenant, BY_PERIOD[2:3]) as gate:
        mounted.read(*BY_PERIOD[:2])
        gate.await_call()
        reading = thread.submit(mounted.read, BY_PERIOD[2])
        clock.await_crowd(1)
        gate.open()
        reading.result(HANG_S)
    assert mounted.downloads()[pdf_call(BY_PERIOD[2])] == 1


@contextmanager
def held(tenant: FakeTenant, invoices: Sequence[Invoice]) -> Iterator[Gate]:
    """Stop the calls for these invoices at one gate, which is open when the block is left."""
    gate = Gate()
    for invoice in invoices:
        tenant.during(pdf_call(invoice), gate.pass_through)
    try:
        yield gate
    finally:
        gate.open()


# What is no walk.


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
def test_opens_here_and_there_download_nothing_else(mount: Mount, places: list[int]) -> None:
    opened = [BY_PERIOD[place] for place in places]
    mounted = mount()
    mounted.walk(*opened)
    assert mounted.downloads() == once(list(dict.fromkeys(opened)))


def test_opening_all_in_an_order_of_its_own_downloads_nothing_ahead(mount: Mount) -> None:
    mounted = mount()
    for invoice in BY_STRIDE:
        mounted.walk(invoice)
        assert mounted.downloads() == once([invoice])


@pytest.mark.parametrize("policy", [{"read_ahead": 0}, {"parallel": 1}, {"parallel": 2}], ids=str)
@in_both_orders
def test_nothing_is_downloaded_ahead_where_it_is_off_or_no_slot_is_left_for_it(
    mount: Mount, walk: Sequence[Invoice], policy: dict[str, int]
) -> None:
    mounted = mount(**policy)
    for invoice in walk:
        mounted.walk(invoice)
        assert mounted.downloads() == once([invoice])


def test_looks_download_nothing(mount: Mount) -> None:
    mounted = mount()
    for invoice in BY_PERIOD:
        mounted.library.lookup(path(invoice))
        mounted.library.attributes(path(invoice))
    mounted.library.directory("/system")
    mounted.library.usage()
    assert mounted.downloads() == Counter()


def test_looks_at_what_a_walk_comes_to_next_are_no_steps(mount: Mount) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD[:2])
    for invoice in BY_PERIOD[2:12]:
        mounted.library.attributes(path(invoice))
    assert mounted.downloads() == once(BY_PERIOD[:4])


def test_a_look_before_each_open_changes_nothing(mount: Mount) -> None:
    mounted = mount()
    for invoice in BY_PERIOD[:3]:
        mounted.library.attributes(path(invoice))
        mounted.walk(invoice)
    assert mounted.downloads() == once(BY_PERIOD[: reach(3)])


def test_what_is_not_listed_is_no_step_of_a_walk(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    mounted = mount()
    unlisted = [tenant.bill(Invoice("system", f"unlisted-{number}")) for number in range(5)]
    tenant.fail("list", Denied("no"))
    clock.advance(LIST_TTL_S)
    mounted.walk(*unlisted)
    assert mounted.downloads() == once(unlisted)


def test_a_walk_asks_for_no_list(mount: Mount, tenant: FakeTenant) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD)
    assert Counter(tenant.take_calls()) == once(BY_PERIOD)


# Several walks.


def test_walks_through_one_namespace_do_not_disturb_each_other(mount: Mount) -> None:
    mounted = mount()
    for place in range(3):
        mounted.walk(BY_PERIOD[place], BY_PERIOD[30 + place])
    assert mounted.downloads() == once([*BY_PERIOD[:7], *BY_PERIOD[30:37]])


def test_walks_in_both_orders_do_not_disturb_each_other(mount: Mount) -> None:
    mounted = mount()
    for place in range(3):
        mounted.walk(BY_PERIOD[place], BY_NAME[10 + place])
    assert mounted.downloads() == once(list({*BY_PERIOD[:7], *BY_NAME[10:17]}))


def test_walks_through_two_namespaces_do_not_disturb_each_other(mount: Mount) -> None:
    mounted = mount()
    for place in range(3):
        mounted.walk(BY_PERIOD[place], OTHERS[place])
    assert mounted.downloads() == once([*BY_PERIOD[:7], *OTHERS[:7]])


def test_the_same_place_of_another_namespace_is_no_step(mount: Mount) -> None:
    mounted = mount()
    mounted.walk(BY_PERIOD[0], OTHERS[1])
    assert mounted.downloads() == once([BY_PERIOD[0], OTHERS[1]])


def test_a_walk_through_one_namespace_after_the_other_downloads_each_once(mount: Mount) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD)
    assert mounted.downloads() == once(BY_PERIOD)
    mounted.walk(OTHERS[0])
    assert mounted.downloads() == once(OTHERS[:1])
    mounted.walk(*OTHERS[1:])
    assert mounted.downloads() == once(OTHERS[1:])


def test_an_open_elsewhere_does_not_end_a_walk(mount: Mount) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD[:2], BY_PERIOD[30], BY_PERIOD[2])
    assert mounted.downloads() == once([*BY_PERIOD[:7], BY_PERIOD[30]])


@in_both_orders
def test_programs_that_copy_at_one_time_download_each_once(
    mount: Mount, walk: Sequence[Invoice]
) -> None:
    mounted = mount()
    crowd(lambda: mounted.read(*walk), threads=4)
    assert mounted.downloads() == once(BY_PERIOD)


def test_programs_that_copy_at_one_time_in_different_orders_download_each_once(
    mount: Mount,
) -> None:
    mounted = mount()
    walks = itertools.cycle([BY_PERIOD, BY_NAME, BY_STRIDE, OTHERS])
    crowd(lambda: mounted.read(*next(walks)), threads=8)
    assert mounted.downloads() == once([*BY_PERIOD, *OTHERS])


@pytest.mark.parametrize("is_ahead", [False, True])
def test_64_readers_of_one_new_invoice_make_one_call(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, is_ahead: bool
) -> None:
    mounted = mount()
    with ThreadPoolExecutor(64) as threads, held(tenant, BY_PERIOD[2:3]) as gate:
        if is_ahead:
            mounted.read(*BY_PERIOD[:2])
            gate.await_call()
        readers = [threads.submit(mounted.read, BY_PERIOD[2]) for _ in range(64)]
        clock.await_crowd(64)
        gate.open()
        for each in readers:
            each.result(HANG_S)
    assert mounted.downloads()[pdf_call(BY_PERIOD[2])] == 1


# Walks that end early.


@in_both_orders
@pytest.mark.parametrize("opens", [1, 2, 3, 4, 5, 6, 20])
@pytest.mark.parametrize("read_ahead", [1, 5, 16])
def test_a_walk_that_stops_has_downloaded_no_more_than_the_window_in_vain(
    mount: Mount, clock: CrowdClock, walk: Sequence[Invoice], opens: int, read_ahead: int
) -> None:
    mounted = mount(read_ahead)
    mounted.read(*walk[:opens])
    mounted.rest.await_()
    clock.advance(2 * LIST_TTL_S)
    assert len(mounted.downloads()) <= opens + read_ahead


@pytest.mark.parametrize("opens", [2, 5])
def test_a_walk_that_stops_while_calls_take_long_has_downloaded_no_more_than_the_window_in_vain(
    mount: Mount, tenant: FakeTenant, opens: int
) -> None:
    mounted = mount()
    with held(tenant, BY_PERIOD[opens:]) as gate:
        mounted.read(*BY_PERIOD[:opens])
        gate.await_call()
    assert mounted.downloads() == once(BY_PERIOD[: reach(opens)])


def test_after_a_jump_the_window_is_small_again(mount: Mount) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD[:4])
    mounted.downloads()
    mounted.walk(BY_PERIOD[25])
    assert mounted.downloads() == once([BY_PERIOD[25]])
    mounted.walk(BY_PERIOD[26])
    assert mounted.downloads() == once(BY_PERIOD[26:29])


def test_a_slow_walk_is_downloaded_ahead_as_well(mount: Mount, clock: CrowdClock) -> None:
    mounted = mount(list_ttl_s=1000)
    for invoice in BY_PERIOD[:3]:
        mounted.walk(invoice)
        clock.advance(30)
    assert mounted.downloads() == once(BY_PERIOD[: reach(3)])


# What is shown, and what is there already.


def test_what_a_view_hides_is_not_downloaded(mount: Mount, tenant: FakeTenant) -> None:
    for place, invoice in enumerate(BY_PERIOD):
        if place % 3:
            tenant.bill(replace(invoice, status="issued"))
    shown = BY_PERIOD[::3]
    mounted = mount(statuses=frozenset({"paid"}))
    mounted.walk(*shown[:2])
    assert mounted.downloads() == once(shown[:4])
    mounted.walk(*shown[2:])
    assert mounted.downloads() == once(shown[4:])


def test_what_is_stored_is_not_downloaded_again(mount: Mount) -> None:
    mounted = mount()
    stored = [BY_PERIOD[3], BY_PERIOD[2]]
    mounted.walk(*stored)
    mounted.downloads()
    mounted.walk(*BY_PERIOD[:2])
    assert mounted.downloads() == once(BY_PERIOD[:2])
    mounted.walk(BY_PERIOD[2])
    assert mounted.downloads() == once(BY_PERIOD[4:7])


@in_both_orders
@pytest.mark.parametrize("is_remounted", [False, True])
def test_a_walk_through_what_is_stored_makes_no_call(
    mount: Mount, walk: Sequence[Invoice], is_remounted: bool
) -> None:
    mounted = mount()
    mounted.read(*BY_PERIOD)
    mounted.downloads()
    mounted = mount() if is_remounted else mounted
    mounted.walk(*walk)
    assert mounted.downloads() == Counter()


def test_what_another_mount_has_stored_meanwhile_is_not_downloaded(mount: Mount) -> None:
    mounted, other = mount(), mount()
    other.read(*BY_STRIDE)
    other.downloads()
    mounted.walk(*BY_PERIOD)
    assert mounted.downloads() == Counter()


@in_both_orders
@pytest.mark.parametrize("is_eager", [False, True])
def test_what_was_evicted_is_downloaded_ahead_again(
    mount: Mount, store: MemoryStore, walk: Sequence[Invoice], is_eager: bool
) -> None:
    mounted = mount(fetch=Fetch.ON_STAT if is_eager else Fetch.ON_OPEN)
    mounted.walk(*walk)
    mounted.downloads()
    store.pdfs.clear()
    mounted.walk(*walk[:3])
    assert mounted.downloads() == once(walk[: reach(3)])
    mounted.walk(*walk[3:])
    assert mounted.downloads() == once(walk[reach(3) :])


def test_what_was_evicted_before_a_remount_is_downloaded_ahead_again(
    mount: Mount, store: MemoryStore
) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD)
    mounted.downloads()
    store.pdfs.clear()
    mounted = mount()
    mounted.walk(*BY_PERIOD[:3])
    assert mounted.downloads() == once(BY_PERIOD[: reach(3)])


def test_only_what_was_evicted_is_downloaded_again(mount: Mount, store: MemoryStore) -> None:
    mounted = mount()
    mounted.walk(*BY_PERIOD)
    mounted.downloads()
    kept = {pdf for digest, pdf in store.pdfs.items() if int(digest[0], 16) % 2}
    store.pdfs = {digest: pdf for digest, pdf in store.pdfs.items() if pdf in kept}
    evicted = [each for each in BY_PERIOD if mounted.tenant.pdf(each) not in kept]
    mounted.walk(*BY_PERIOD)
    assert mounted.downloads() == once(evicted)


def test_what_is_active_and_fresh_is_not_downloaded_again(mount: Mount, tenant: FakeTenant) -> None:
    active = [tenant.bill(replace(each, active=True)) for each in BY_PERIOD]
    mounted = mount()
    mounted.read(*active)
    mounted.downloads()
    mounted.walk(*active)
    assert mounted.downloads() == Counter()


def test_what_is_active_and_outdated_is_downloaded_ahead(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    active = [tenant.bill(replace(each, active=True)) for each in BY_PERIOD]
    mounted = mount(list_ttl_s=2 * ACTIVE_TTL_S)
    mounted.read(*active)
    mounted.downloads()
    clock.advance(ACTIVE_TTL_S)
    for invoice in active:
        tenant.bill(invoice, pdf_of(f"later {invoice.key}"))
    mounted.walk(*active[:3])
    assert mounted.downloads() == once(active[: reach(3)])


def test_what_is_outdated_at_once_is_downloaded_once(mount: Mount, tenant: FakeTenant) -> None:
    active = [tenant.bill(replace(each, active=True)) for each in BY_PERIOD]
    mounted = mount(active_ttl_s=0)
    mounted.walk(*active)
    assert mounted.downloads() == once(active)


def test_what_has_changed_is_downloaded_ahead(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    mounted = mount()
    mounted.read(*BY_PERIOD)
    changed = [
        tenant.bill(replace(each, amount="7"), pdf_of(f"new {each.key}")) for each in BY_PERIOD
    ]
    clock.advance(LIST_TTL_S)
    mounted.library.directory("/system")
    mounted.downloads()
    mounted.walk(*changed[:3])
    assert mounted.downloads() == once(changed[: reach(3)])


# What must not become wrong.


class Forgetful(MemoryStore):
    """A store that is in a bad way: full, locked, or of room for so many PDFs only."""

    def __init__(self, *, keeps: bool = True, finds: bool = True, room: int = COUNT) -> None:
        super().__init__()
        self.keeps, self.finds, self._room = keeps, finds, room

    def save(self, invoice: Invoice, content: Any) -> None:
        super().save(invoice, content)
        while len(self.pdfs) > self._room:
            del self.pdfs[next(iter(self.pdfs))]


with_any_bad_store = pytest.mark.parametrize(
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
@with_any_bad_store
@pytest.mark.parametrize("way", [Mounted.read, Mounted.walk], ids=["in a hurry", "at leisure"])
def test_a_bad_store_costs_no_second_call_in_a_walk(
    mount: Mount,
    walk: Sequence[Invoice],
    way: Callable[..., None],
) -> None:
    mounted = mount()
    way(mounted, *walk)
    assert mounted.downloads() == once(BY_PERIOD)
    way(mounted, *walk)
    assert mounted.downloads() <= once(BY_PERIOD)


@with_any_bad_store
def test_a_bad_store_costs_no_second_call_in_two_walks_at_one_time(mount: Mount) -> None:
    mounted = mount()
    for pair in zip(BY_PERIOD, OTHERS, strict=True):
        mounted.walk(*pair)
    assert mounted.downloads() == once([*BY_PERIOD, *OTHERS])


@with_any_bad_store
def test_a_bad_store_costs_no_second_call_after_a_refusal(mount: Mount, tenant: FakeTenant) -> None:
    mounted = mount()
    tenant.fail(pdf_call(BY_PERIOD[5]), RateLimited("429", retry_after_s=1))
    mounted.walk(*BY_PERIOD[:4])
    tenant.mend()
    mounted.walk(*BY_PERIOD[4:])
    calls = mounted.downloads()
    assert calls.pop(pdf_call(BY_PERIOD[5])) == 2
    assert calls == once([*BY_PERIOD[:5], *BY_PERIOD[6:]])


def test_what_waits_to_be_opened_is_not_served_when_the_list_tells_news(
    tenant: FakeTenant, clock: CrowdClock, mount: Mount, store: MemoryStore
) -> None:
    store.keeps = False
    mounted = mount()
    mounted.walk(*BY_PERIOD[:2])
    changed = tenant.bill(replace(BY_PERIOD[2], amount="7"), pdf_of("changed"))
    clock.advance(LIST_TTL_S)
    mounted.library.directory("/system")
    mounted.downloads()
    mounted.walk(changed)
    assert mounted.downloads()[pdf_call(changed)] == 1


def test_what_waits_to_be_opened_is_not_served_past_its_time(
    tenant: FakeTenant, clock: CrowdClock, mount: Mount, store: MemoryStore
) -> None:
    active = [tenant.bill(replace(each, active=True)) for each in BY_PERIOD]
    store.keeps = False
    mounted = mount(list_ttl_s=2 * ACTIVE_TTL_S)
    mounted.walk(*active[:2])
    clock.advance(ACTIVE_TTL_S)
    tenant.bill(active[2], pdf_of("of a later day"))
    mounted.downloads()
    mounted.walk(active[2])
    assert mounted.downloads()[pdf_call(active[2])] == 1


def test_an_open_file_is_not_changed_by_what_is_downloaded_ahead(
    tenant: FakeTenant, clock: CrowdClock, mount: Mount
) -> None:
    active = [tenant.bill(replace(each, active=True)) for each in BY_PERIOD]
    mounted = mount(list_ttl_s=2 * ACTIVE_TTL_S)
    opened = mounted.library.open(path(active[2]))
    before = mounted.library.attributes(path(active[2]))
    tenant.bill(active[2], pdf_of("of a later day", 5 * SIZE_BYTES))
    clock.advance(ACTIVE_TTL_S)

    mounted.walk(*active[:2])

    assert mounted.library.attributes(path(active[2])) == before
    again = mounted.library.open(path(active[2]))
    assert again.content == opened.content
    for each in (opened, again):
        mounted.library.release(each)
    mounted.walk(active[2])


# Failures.


@pytest.mark.parametrize(
    "kind", [RateLimited, Unavailable, Unreachable, TimedOut, ServerFault, UnusableAnswer]
)
def test_a_failing_read_ahead_fails_no_open_that_would_succeed(
    mount: Mount, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    mounted = mount()
    tenant.fail(pdf_call(BY_PERIOD[2]), kind("at this moment"))
    mounted.walk(*BY_PERIOD[:2])
    assert mounted.downloads()[pdf_call(BY_PERIOD[2])] == 1
    tenant.mend()
    mounted.walk(*BY_PERIOD[2:])


def test_an_unexpected_failure_of_read_ahead_fails_no_open(
    mount: Mount, tenant: FakeTenant, caplog: pytest.LogCaptureFixture
) -> None:
    mounted = mount()
    tenant.fail(pdf_call(BY_PERIOD[2]), ValueError("of our own"))
    mounted.walk(*BY_PERIOD[:2])
    assert "of our own" in caplog.text
    tenant.mend()
    mounted.walk(*BY_PERIOD[2:])


@pytest.mark.parametrize("kind", [NotFound, Denied, TooLarge])
def test_an_open_does_not_ask_again_for_what_read_ahead_was_just_refused(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock, kind: type[InvoicefsError]
) -> None:
    mounted = mount()
    tenant.fail(pdf_call(BY_PERIOD[2]), kind("the server said so"))
    mounted.walk(*BY_PERIOD[:2])
    mounted.downloads()
    tenant.mend()
    clock.advance(FAILURE_MEMORY_S - 0.125)
    with pytest.raises(kind, match="the server said so"):
        mounted.read(BY_PERIOD[2])
    assert pdf_call(BY_PERIOD[2]) not in mounted.downloads()

    clock.advance(0.125)
    mounted.read(BY_PERIOD[2])
    assert mounted.downloads()[pdf_call(BY_PERIOD[2])] == 1


@pytest.mark.parametrize("kind", [NotFound, Denied, TooLarge])
def test_where_nothing_can_be_had_each_is_asked_for_once(
    mount: Mount, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    mounted = mount()
    tenant.fail("pdf", kind("the server said so"))
    for invoice in BY_PERIOD:
        with pytest.raises(kind):
            mounted.read(invoice)
    assert mounted.downloads() == once(BY_PERIOD)


@pytest.mark.parametrize("kind", [Unavailable, Unreachable, ServerFault])
def test_where_nothing_can_be_had_each_is_asked_for_twice_at_most(
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
def test_trouble_with_some_invoices_costs_no_other_a_call(
    mount: Mount, tenant: FakeTenant, kind: type[InvoicefsError]
) -> None:
    mounted, bad = mount(), BY_PERIOD[::5]
    for invoice in bad:
        tenant.fail(pdf_call(invoice), kind("this one"))
    for invoice in BY_PERIOD:
        if invoice in bad:
            with pytest.raises(kind, match="this one"):
                mounted.read(invoice)
        else:
            mounted.read(invoice)
    assert mounted.downloads() == once(BY_PERIOD)


def test_a_rate_limit_holds_back_read_ahead_and_no_open(
    mount: Mount, tenant: FakeTenant, clock: CrowdClock
) -> None:
    mounted, refused = mount(list_ttl_s=1000), BY_PERIOD[2]
    tenant.fail(pdf_call(refused), RateLimited("429", retry_after_s=60))
    mounted.walk(*BY_PERIOD[:2])
    tenant.mend()
    before = mounted.downloads() - once([refused])
    mounted.walk(*BY_PERIOD[2:10])
    assert mounted.downloads() + before == once(BY_PERIOD[:10])

    clock.advance(61)
    mounted.downloads()
    mounted.walk(*BY_PERIOD[10:13])
    clock.advance(1)  # after a 429, calls begin no further apart
    assert mounted.downloads() - once(BY_PERIOD[10:13])


# Slots.


@pytest.mark.parametrize("parallel", [3, 5, 8])
def test_read_ahead_leaves_two_slots_free(mount: Mount, tenant: FakeTenant, parallel: int) -> None:
    mounted = mount(parallel=parallel, list_ttl_s=0)
    with held(tenant, BY_PERIOD[6:]):
        mounted.walk(*BY_PERIOD[:6])
        ahead = mounted.downloads() - once(BY_PERIOD[:6])
        assert 1 <= len(ahead) <= parallel - 2
        with ThreadPoolExecutor(2) as threads, held(tenant, OTHERS) as gate:
            readers = [threads.submit(mounted.read, OTHERS[place]) for place in (10, 20)]
            for _ in readers:
                gate.await_call()
            gate.open()
            for each in readers:
                each.result(HANG_S)
        mounted.library.directory("/system")


@pytest.mark.parametrize("parallel", [3, 4, 8])
def test_never_more_calls_than_parallel_run_at_once(
    mount: Mount, tenant: FakeTenant, parallel: int
) -> None:
    mounted = mount(parallel=parallel)
    with ThreadPoolExecutor(12) as threads, held(tenant, [*BY_PERIOD[6:], *OTHERS]) as gate:
        mounted.walk(*BY_PERIOD[:6])
        readers = [threads.submit(mounted.read, OTHERS[3 * number]) for number in range(12)]
        under_way = mounted.downloads() - once(BY_PERIOD[:6])
        assert under_way.total() == parallel
        gate.open()
        for each in readers:
            each.result(HANG_S)


def test_an_open_goes_before_what_read_ahead_has_queued(mount: Mount, tenant: FakeTenant) -> None:
    mounted = mount(parallel=3)
    with held(tenant, BY_PERIOD[4:5]) as gate:
        mounted.read(*BY_PERIOD[:4])
        gate.await_call()
        mounted.read(*BY_PERIOD[5:20])
    assert mounted.downloads()[pdf_call(BY_PERIOD[4])] == 1


# With --fetch on-stat.


@in_both_orders
@pytest.mark.parametrize("read_ahead", [0, READ_AHEAD])
def test_where_looks_wait_for_downloads_a_walk_downloads_each_once(
    mount: Mount, walk: Sequence[Invoice], read_ahead: int
) -> None:
    mounted = mount(read_ahead, fetch=Fetch.ON_STAT)
    for invoice in walk:
        assert mounted.library.attributes(path(invoice)).size_bytes == SIZE_BYTES
        mounted.read(invoice)
    assert mounted.downloads() == once(BY_PERIOD)


@in_both_orders
def test_looks_that_wait_have_their_own_window(mount: Mount, walk: Sequence[Invoice]) -> None:
    mounted = mount(read_ahead=0, fetch=Fetch.ON_STAT, parallel=4)
    for invoice in walk[:2]:
        mounted.library.attributes(path(invoice))
    assert mounted.downloads() == once(walk[:4])


# Whatever is opened.

_RUNS = st.lists(
    st.tuples(st.sampled_from([BY_PERIOD, BY_NAME]), st.integers(0, COUNT - 1), st.integers(1, 6)),
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(_RUNS, st.sampled_from([1, 3, 16]))
def test_only_what_lies_ahead_of_two_neighbours_is_downloaded_and_nothing_twice(
    runs: list[tuple[list[Invoice], int, int]], read_ahead: int
) -> None:
    opened = [each for walk, start, length in runs for each in walk[start : start + length]]
    tenant = FakeTenant()
    for invoice in BY_PERIOD:
        tenant.bill(invoice)
    with mounted(tenant, MemoryStore(), CrowdClock(), read_ahead=read_ahead) as mount:
        mount.read(*opened)
        downloads = mount.downloads()
    may_be_ahead = {
        each
        for walk in (BY_PERIOD, BY_NAME)
        for place, (before, after) in enumerate(itertools.pairwise(walk), start=2)
        if before in opened and after in opened
        for each in walk[place : place + read_ahead]
    }
    assert set(downloads.values()) <= {1}
    assert once(opened).keys() <= downloads.keys() <= once([*opened, *may_be_ahead]).keys()
