"""A `Library` and its parts on a `FakeTenant`, with the threads and the store it needs."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from invoicefs.errors import (
    Busy,
    CacheHangs,
    CredentialRenewed,
    Denied,
    InvoicefsError,
    NoResponse,
    RateLimited,
    Unauthenticated,
)
from invoicefs.library.access import Access
from invoicefs.library.library import Library
from invoicefs.library.ports import Store
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import FakeTenant, TenantOfMount

T = TypeVar("T")

LIST_TTL_S = 60.0
ACTIVE_TTL_S = 300.0
FAILURE_MEMORY_S = 5.0
MAX_PDF_SIZE_BYTES = 16 * 1024 * 1024
TIMEOUT_S = 30.0

_HANG_S = 20.0


def _descendants(kind: type[InvoicefsError]) -> Iterator[type[InvoicefsError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _descendants(subclass)


NO_RESPONSES = tuple(kind for kind in _descendants(NoResponse) if kind is not CacheHangs)
DENIALS = (Denied, Unauthenticated, CredentialRenewed)
OTHER_REFUSALS = (Busy, RateLimited)


class CrowdClock(FakeClock):
    """A `FakeClock` that counts the threads that wait on each condition.

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
        """Wait until this many threads wait on one condition."""
        with self._change:
            assert self._change.wait_for(
                lambda: max(self._waiting_for.values(), default=0) >= threads, _HANG_S
            ), "too few threads wait"

    def _count(self, condition: threading.Condition, change: int) -> None:
        with self._change:
            self._waiting_for[id(condition)] += change
            self._change.notify_all()


@dataclass(frozen=True)
class Parts:
    """The parts of a library, on a `FakeTenant`."""

    api: TenantOfMount
    store: Store
    scheduler: Scheduler
    clock: FakeClock
    settings: Settings
    disk: DiskThreads
    access: Access


def usual_settings(**changes: Any) -> Settings:
    """Return settings without read-ahead, and without retries, which need a clock that moves."""
    usual = Settings(
        "https://acme.invalid",
        parallel=4,
        max_wait_s=0,
        read_ahead=0,
        timeout_s=TIMEOUT_S,
        list_ttl_s=LIST_TTL_S,
        active_ttl_s=ACTIVE_TTL_S,
        max_pdf_size_bytes=MAX_PDF_SIZE_BYTES,
    )
    return replace(usual, **changes)


@contextmanager
def running_parts(
    tenant: FakeTenant, store: Store, clock: FakeClock, **changes: Any
) -> Iterator[Parts]:
    """Yield the parts of a library, with `changes` to the usual settings."""
    settings = usual_settings(**changes)
    on_end = getattr(store, "close", lambda: None)
    with (
        closing(DiskThreads(timeout_s=20.0, on_thread_end=on_end)) as disk,
        closing(Scheduler(settings, clock, on_worker_end=on_end)) as scheduler,
    ):
        access = Access(store, disk, lambda: tenant.credential)
        api = TenantOfMount(tenant, access.note)
        yield Parts(api, store, scheduler, clock, settings, disk, access)


@contextmanager
def running_library(
    tenant: FakeTenant,
    store: Store,
    clock: FakeClock,
    caller: Callable[[], int] = lambda: 0,
    **changes: Any,
) -> Iterator[Library]:
    """Yield a library as a mount has it, with `changes` to the usual settings."""
    with running_parts(tenant, store, clock, **changes) as parts:
        yield Library(
            parts.api,
            parts.store,
            parts.scheduler,
            parts.clock,
            parts.settings,
            disk=parts.disk,
            access=parts.access,
            caller=caller,
        )


def crowd(action: Callable[[], T], threads: int) -> list[T]:
    """Return the results of `action` in many threads that begin together."""
    barrier = threading.Barrier(threads, timeout=_HANG_S)

    def begin_together() -> T:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(threads) as executor:
        futures = [executor.submit(begin_together) for _ in range(threads)]
        return [future.result(_HANG_S) for future in futures]
