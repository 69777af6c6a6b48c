"""A `Library` and its parts on a `FakeTenant`, with the threads and the store that they need."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from invoicefs.errors import (
    Busy,
    CredentialRenewed,
    Denied,
    InvoicefsError,
    NoAnswer,
    RateLimited,
    Unauthenticated,
)
from invoicefs.library.access import Access
from invoicefs.library.library import Library, LibraryStore, Policy
from invoicefs.library.listings import View
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Limits, Scheduler
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import AskedTenant, FakeTenant

T = TypeVar("T")

LIST_TTL_S = 60.0
ACTIVE_TTL_S = 300.0
FAILURE_MEMORY_S = 5.0
MAX_PDF_SIZE_BYTES = 16 * 1024 * 1024
TIMEOUT_S = 30.0

# Nothing may wait to be tried again: a clock that stands still would never let it.
_LIMITS = Limits(parallel=4, max_wait_s=0)
_HANG_S = 20.0


def _descendants(kind: type[InvoicefsError]) -> Iterator[type[InvoicefsError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _descendants(each)


NO_ANSWERS = tuple(_descendants(NoAnswer))
DENIALS = (Denied, Unauthenticated, CredentialRenewed)
OTHER_REFUSALS = (Busy, RateLimited)


class CrowdClock(FakeClock):
    """A `FakeClock` that knows how many threads wait for one thing.

    Threading: `_change` guards `_waiting_for`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._change = threading.Condition()
        self._waiting_for: Counter[int] = Counter()

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        self._count(condition, 1)
        try:
            super().wait(condition, timeout_s)
        finally:
            self._count(condition, -1)

    def await_crowd(self, threads: int) -> None:
        """Wait until so many threads wait for one thing."""
        with self._change:
            assert self._change.wait_for(
                lambda: max(self._waiting_for.values(), default=0) >= threads, _HANG_S
            ), "the crowd has not gathered"

    def _count(self, condition: threading.Condition, change: int) -> None:
        with self._change:
            self._waiting_for[id(condition)] += change
            self._change.notify_all()


@contextmanager
def call_threads(
    clock: FakeClock, limits: Limits = _LIMITS, store: object = None
) -> Iterator[tuple[Scheduler, DiskThreads]]:
    """The threads that a catalog, contents or a library run on, which may use a store."""
    on_end = getattr(store, "close", lambda: None)
    with (
        closing(DiskThreads(timeout_s=20.0, on_thread_end=on_end)) as disk,
        closing(Scheduler(limits, clock, on_worker_end=on_end)) as scheduler,
    ):
        yield scheduler, disk


def asked(tenant: FakeTenant, store: LibraryStore, disk: DiskThreads) -> tuple[AskedTenant, Access]:
    """The tenant as one mount asks it, and what it lets that see."""
    access = Access(store, disk, lambda: tenant.credential)
    return AskedTenant(tenant, access.note), access


@contextmanager
def running_library(
    tenant: FakeTenant,
    store: LibraryStore,
    clock: FakeClock,
    view: View | None = None,
    policy: Mapping[str, Any] | None = None,
    limits: Limits = _LIMITS,
) -> Iterator[Library]:
    """A library as a mount has it; `policy` holds what differs from the usual `Policy`."""
    usual = Policy(
        timeout_s=TIMEOUT_S,
        list_ttl_s=LIST_TTL_S,
        active_ttl_s=ACTIVE_TTL_S,
        max_pdf_size_bytes=MAX_PDF_SIZE_BYTES,
        fetches_on_stat=False,
        largest_window=_LIMITS.parallel,
        read_ahead=0,
    )
    with call_threads(clock, limits, store) as (scheduler, disk):
        api, access = asked(tenant, store, disk)
        yield Library(
            api,
            store,
            scheduler,
            clock,
            view=view or View(),
            policy=replace(usual, **policy or {}),
            disk=disk,
            access=access,
        )


def crowd(action: Callable[[], T], threads: int) -> list[T]:
    """What `action` returns in many threads that begin together."""
    barrier = threading.Barrier(threads, timeout=_HANG_S)

    def begin_together() -> T:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(threads) as executor:
        futures = [executor.submit(begin_together) for _ in range(threads)]
        return [future.result(_HANG_S) for future in futures]
